"""A flight recording: CRI calls and the kernel's own events of the processes that they caused, on one clock.

Plain data, made by `labkit.recorder`, drawn by `labkit.views.flight_timeline`. Knows nobody but the roles of labkit.pods.
"""

from labkit.flight.model import PRECISION, Call, Exec, Flight, FlightProcess, described
from labkit.flight.programs import Stage, label, runc_verb, stage_at
from labkit.flight.steps import Step, Steps, Tree
from labkit.flight.text import FlightError

__all__ = [
    "PRECISION",
    "Call",
    "Exec",
    "Flight",
    "FlightError",
    "FlightProcess",
    "Stage",
    "Step",
    "Steps",
    "Tree",
    "described",
    "label",
    "runc_verb",
    "stage_at",
]
