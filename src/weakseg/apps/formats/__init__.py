"""The formats of other tools, each a module with a function `write`."""
