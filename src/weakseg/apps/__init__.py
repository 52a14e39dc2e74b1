"""What is built on finished runs."""
