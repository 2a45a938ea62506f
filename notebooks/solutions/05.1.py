node.cluster.kubectl("create", "secret", "generic", "api-key", "--from-literal=key=1234")
node.cluster.kubectl("label", "secret", "api-key", "labkit.lesson=05")
node.cluster.wait_status("api", "Running", timeout=150)
