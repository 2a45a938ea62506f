"""What is known of a node without asking its runtime, and where a recording gets its processes and calls."""
