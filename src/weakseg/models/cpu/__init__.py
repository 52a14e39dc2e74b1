"""What only makes CPUs faster; nothing of it enters a state file."""
