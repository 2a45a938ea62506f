"""Every kind of node: which can run here, how it is brought up, and how its traces are removed."""
