node.cluster.kubectl("set", "image", "pod/worker", f"main={node.images['busybox']}")
node.cluster.wait_status("worker", "Running", timeout=150)
