"""Pods on a node: by CRI calls, through the API, their files, and the pause of a kubelet."""
