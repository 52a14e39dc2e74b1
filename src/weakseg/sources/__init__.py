"""What people bring: readers of every format, faults, splits, class names; one catalog."""
