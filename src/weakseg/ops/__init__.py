"""Tensors in, tensors out: losses, maps, refinement, scores."""
