"""One Pod: what CRI shows of it, what is to be done, and its status."""
