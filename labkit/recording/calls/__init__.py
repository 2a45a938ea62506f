"""CRI calls as they are made: noted by a client, passed on by a daemon, read from a log."""
