"""The stages of a run: load, call, save."""
