"""The lab kubelet: Pods bound to this node become CRI calls, statuses and events, in the kubelet's own rules and words.

Where to start reading: `kubelet.Kubelet` (what runs, and the loop), then `sync.PodSync.sync` (one Pod, top to bottom), then
`actions.compute_actions` (what must be started and killed). It is no Kubernetes: `python -m labkit.kubelet --help`.
"""
