"""The control plane beside the API server: scheduler, claims, node lifecycle, taints."""
