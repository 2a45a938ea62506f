"""What the kubelet reports: the Node object, events, the status of Pods, health."""
