"""The API server's refusals of a Pod, in Kubernetes' own words; what other kinds share with Pods, too."""
