node.cluster.kubectl("label", "node", node.cluster.node, "labkit.disk=fast")
node.cluster.wait_status("cache", "Running", timeout=150)
node.cluster.kubectl("label", "node", node.cluster.node, "labkit.disk-")
