"""Taking labkit off a runtime of the learner's own on this machine: `labkit down` and `labkit clean` for `cri:unix://…`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from labkit.cri import CriError
from labkit.node.host.access import run_local
from labkit.node.packages.programs import find_programs
from labkit.node.registry import node_registry
from labkit.node.remote import endpoint, kind_clean, undo
from labkit.node.remote.undo import Part, Place
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Cleaned, KindOfNode
from labkit.node.state.ledger import Ledger
from labkit.node.state.node_selector import IN_A_CONTAINER, Choice
from labkit.node.state.turns import only_one
from labkit.util.errors import NodeError
from labkit.util.progress import Progress

WITHIN_S = 60.0


def down(home: Home, choice: Choice, progress: Progress) -> int:
    """Remove the Pods that this lab made by hand, and end its registry. How many Pods there were. Raises NodeError where the
    runtime could not be asked, or something stayed."""
    if is_in_container(choice):
        return kind_clean.down(home, choice, progress)
    with only_one(home, progress):
        with reached(home, choice) as place:
            found, left = undo.undo(place, (undo.NETWORK, undo.PODS))
        endpoint.Loopback(home).stop()
        if left:
            raise NodeError(f"Not all is down: {left[0]}.", "Then run this again.")
        return sum(what.startswith("Pod ") for what in found)


def clean(home: Home, choice: Choice, progress: Progress) -> Cleaned:
    """As `kind_clean.clean`."""
    if is_in_container(choice):
        return kind_clean.clean(home, choice, progress)
    with only_one(home, progress), reached(home, choice) as place:
        progress(f"removing labkit's Pods and images from {place.name}")
        found, left = undo.undo(place, PARTS)
        endpoint.Loopback(home).stop()
    return found, left, place.alone


def is_in_container(choice: Choice) -> bool:
    return choice.endpoint.startswith(IN_A_CONTAINER)


@contextlib.contextmanager
def reached(home: Home, choice: Choice) -> Iterator[Place]:
    place = Place(choice.endpoint, Ledger(home, choice), lambda argv: run_local(argv, WITHIN_S), endpoint.places(home))
    try:
        place.node = endpoint.open_node(home, choice.endpoint)
    except (NodeError, CriError) as error:
        place.why = undo.first_line(error)
    try:
        yield place
    finally:
        if place.node:
            place.node.close()


def is_own(place: Place, name: str) -> bool:
    """Whether an image's name is of this home's registry: another one on loopback may serve the same images."""
    host = name.partition("/")[0]
    return host.startswith("localhost:") and host in place.ledger.values("registry", "host")


def find_images(place: Place) -> list[str]:
    images = place.running().cri.list_images().images
    return [f"image {name}" for image in images for name in node_registry.names_of(image) if is_own(place, name)]


def remove_images(place: Place, found: list[str]) -> None:
    node = place.running()

    def run(argv: Sequence[str]) -> bytes:
        """`ctr` with the lab's own program, at this runtime."""
        if not node.runtime.startswith("containerd"):
            raise NodeError(f"{argv[-1]} has other names, and {node.runtime} removes them all with it")
        ctr = str(find_programs(place.ledger.home.cache).ctr)
        return place.shell([ctr, "--address", node.socket_path, *argv[1:]]).encode()

    node_registry.forget(node.cri, run, lambda name: is_own(place, name))


PARTS = (undo.NETWORK, undo.PODS, undo.SHIMS, undo.LEAVINGS, Part("images", find_images, remove_images))

KIND = KindOfNode(
    endpoint.probe, endpoint.up, endpoint.connect, endpoint.report, endpoint.unanswered, down, clean
)  # fmt: skip
