"""Helpers that know nothing of nodes and Pods. They import the standard library and one another."""
