"""The flight recorder: CRI calls and the kernel's events of the same time, joined to one Flight.

    with FlightRecorder(node.cri, watch(), node.kernel) as flight:
        node.start_pod(pod)
    flight.plot()

`processes` says how roles are decided, `causes` how a process is tied to its call. Knows kernel and cri.
"""

from labkit.recording.recorder.follow import follow
from labkit.recording.recorder.recording import FlightRecorder, Recording

__all__ = ["FlightRecorder", "Recording", "follow"]
