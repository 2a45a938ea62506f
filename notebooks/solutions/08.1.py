incident = labkit.open_incident(node, seed=3)
print(node.cluster.kubectl("describe", "pod", "orders"))  # Last State: Terminated, Reason: OOMKilled, Exit Code: 137
incident.check(cause="memory-limit", evidence="OOMKilled, exit code 137")
manifest = incident.manifest()
manifest["spec"]["containers"][0]["resources"]["limits"]["memory"] = "96Mi"
node.cluster.recreate(manifest)
node.cluster.wait_status("orders", "Running")
ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
labkit.wait_until("orders is ready", lambda: node.cluster.kubectl("get", "pod", "orders", "-o", ready) == "True", 60)
