"""Questions to commit to before an experiment, and checks of exercises."""

from labkit.course.checks import check
from labkit.course.incident import break_pods, end_incident, fails_at_first, open_incident
from labkit.course.measures import container_root, order_of_steps, shared_namespaces, who_started
from labkit.course.memory.opening import review
from labkit.course.memory.overview import progress
from labkit.course.notes import note
from labkit.course.order import Order, predict_order
from labkit.course.predict import Prediction, predict
from labkit.course.verdict import Check
from labkit.course.wait import wait_until, within

__all__ = [
    "Check", "Order", "Prediction", "break_pods", "check", "container_root", "end_incident", "fails_at_first", "note",
    "open_incident", "order_of_steps", "predict", "predict_order", "progress", "review", "shared_namespaces", "wait_until",
    "who_started", "within",
]
