"""The virtual machine as a node: its owner, its containerd, its cluster, commands and streams into it."""
