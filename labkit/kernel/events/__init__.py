"""Forks, execs and exits as they happen: the proc connector, tracefs, or a poll of /proc."""
