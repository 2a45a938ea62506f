"""Stand-ins for a kind cluster's node: containerd in a container of a real Docker engine, with kind's names and labels. The older
has containerd 1.7 (node.py), the one of today systemd and containerd 2.1 (systemd.py). Both can be a cluster (cluster.py).

Not every test machine can have a kindest/node image, so tests make nodes of their own. labkit does not know of them.
"""
