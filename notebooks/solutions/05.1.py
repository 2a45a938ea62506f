node.cluster.kubectl("create", "secret", "generic", "api-key-05", "--from-literal=key=1234")
node.cluster.kubectl("label", "secret", "api-key-05", f"labkit.lesson={node.lesson}")
node.cluster.wait_status("api", "Running", timeout=150)
