"""What is said of an object that is valid, or forbids it all the same: warnings, Pod Security."""
