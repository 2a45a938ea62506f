"""A flight recording: CRI calls and the kernel's own events of the processes that they caused, on one clock.

Plain data, made by `labkit.recording.recorder`, drawn by `labkit.figures.flight.timeline`. Knows nobody but the roles of
labkit.cri.pods.
"""

from labkit.recording.flight.data import PRECISION, Call, Exec, FlightProcess, described
from labkit.recording.flight.flight import Flight
from labkit.recording.flight.json_format import FlightError
from labkit.recording.flight.stages import Stage, label, runc_verb, stage_at
from labkit.recording.flight.steps import Step, Steps, Tree

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
