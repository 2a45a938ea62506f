"""What the course remembers of a learner, in one file on this machine: answers, checks, hints and the cells that she reached."""
