"""HTTP: connections, requests and answers, the way to the kubelet."""
