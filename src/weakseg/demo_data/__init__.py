"""Generated pictures with exact masks, for the demo and the tests."""
