"""A node elsewhere: a kind node behind a container engine, or a CRI socket of the learner's own."""
