"""How well masks and maps fit the truth: tensors in, numbers out, no files."""
