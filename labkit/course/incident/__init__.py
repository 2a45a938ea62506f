"""The incident: one fault on a node, drawn by a seed; the user's complaint, hints at a price, a check of cause, evidence and
repair."""

from labkit.course.incident import image_faults, node_faults, pod_faults  # noqa: F401  # they register their faults
from labkit.course.incident.broken import break_pods, fails_at_first
from labkit.course.incident.session import Incident, end_incident, open_incident

__all__ = ["Incident", "break_pods", "end_incident", "fails_at_first", "open_incident"]
