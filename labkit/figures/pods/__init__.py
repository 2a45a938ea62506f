"""Figures of Pods and nodes: processes, events, requests, cgroups; the plain data that they draw."""
