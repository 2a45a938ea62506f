"""Figures of namespaces: who shares what."""
