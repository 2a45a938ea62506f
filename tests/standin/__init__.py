"""A stand-in for a kind cluster's node: Debian's containerd in a container of a real Docker engine, with kind's names and labels.

Not every test machine can have a kindest/node image, so tests make a node of their own. labkit does not know of it.
"""
