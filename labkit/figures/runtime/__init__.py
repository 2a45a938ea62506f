"""Figures of a runtime: bundles, layers, shims, upgrades, availability."""
