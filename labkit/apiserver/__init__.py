"""The stand-in for kube-apiserver on nodes that have no cluster: enough for kubectl and the Python client.

It is a process of its own (`python -m labkit.apiserver`); `server` is HTTP, `rest` the verbs, `store` what lasts.
"""
