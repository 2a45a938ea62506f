"""What a lab knows of itself: its directories, the node it uses, the changes it made on nodes that are not its own."""
