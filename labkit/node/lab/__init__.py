"""The private containerd: brought up and down, owned by a process of its own, killed, upgraded, cleaned."""
