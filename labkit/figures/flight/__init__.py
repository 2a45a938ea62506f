"""Figures of a recording: the timeline, the chain of calls, a Pod's life."""
