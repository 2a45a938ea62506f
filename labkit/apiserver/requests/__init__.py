"""What a request says: path, selectors, body."""
