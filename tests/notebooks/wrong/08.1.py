# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
incident = labkit.open_incident(node, seed=3)
ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"


def wait_ready():
    labkit.wait_until("orders is ready", lambda: node.cluster.kubectl("get", "pod", "orders", "-o", ready) == "True", 60)


# %% another cause
incident.check(cause="probe")
node.cluster.delete("orders")
# %% cause and evidence, and the Pod is still broken
incident.check(cause="memory-limit", evidence="OOMKilled")
node.cluster.delete("orders")
# %% the repair, without its cause
manifest = incident.manifest()
manifest["spec"]["containers"][0]["resources"]["limits"]["memory"] = "96Mi"
node.cluster.recreate(manifest)
wait_ready()
# %% the evidence is of another fault
incident.check(cause="memory-limit", evidence="the image has the tag 2")
node.cluster.delete("orders")
# %% cheat: another program, which needs no memory
incident.check(cause="memory-limit", evidence="OOMKilled")
manifest = incident.manifest()
manifest["spec"]["containers"][0]["command"] = ["httpd", "-f", "-h", "/var/www"]
node.cluster.recreate(manifest)
wait_ready()
# %% cheat: the incident was ended before the repair
incident.check(cause="memory-limit", evidence="OOMKilled")
incident.end()
