"""What happened on a node: calls and processes, recorded and joined."""
