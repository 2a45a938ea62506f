"""The commands of `labkit`, one room for each subject; each room's `add` puts its commands into the parser."""
