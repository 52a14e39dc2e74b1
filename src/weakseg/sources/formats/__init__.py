"""One file a format: how a source of this kind is recognised and read."""
