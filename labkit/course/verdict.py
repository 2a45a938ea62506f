"""What a check of an exercise says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """The verdict on an exercise. Its repr is one line; `done` is for programs."""

    done: bool
    says: str

    def __repr__(self) -> str:
        return f"{'Done' if self.done else 'Not yet'}: {self.says}"
