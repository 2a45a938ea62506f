"""Holding a node's kubelet still while a learner makes Pods by hand.

A kubelet kills within a second every sandbox that it does not know. On a node without a kubelet there is nothing to hold.
"""

from __future__ import annotations


class Hold:
    """Nothing to hold: this node has no kubelet. `start` and `release` say so, so that a notebook's cells are the same
    everywhere.

    Also a context manager: `with node.kubelet_held(): …`.
    """

    def start(self) -> Said:
        return Said("No kubelet runs on this node, so none has to be held.")

    def release(self) -> Said:
        return Said("No kubelet was held.")

    def __enter__(self) -> Hold:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


class Said(str):
    """A sentence that a notebook shows without quotation marks."""

    def __repr__(self) -> str:
        return str(self)
