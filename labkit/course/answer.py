"""What a learner reads when a question has its answer: what was seen, what she predicted, and why."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.course.quiz import Option, Question

Paragraphs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Verdict:
    """What was seen and what was predicted, in one line; below it paragraphs, each a label and a text.

    The explanation is folded for a learner who did not commit to an answer, and for everybody who reads without a kernel.
    """

    line: str
    paragraphs: Paragraphs
    committed: bool

    def __repr__(self) -> str:
        return "\n".join([self.line, *(f"{label}: {text}" for label, text in self.paragraphs if self.committed)])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        text = "\n\n".join(f"*{label}:* {text}" for label, text in self.paragraphs)
        opened = " open" if self.committed else ""
        head = "<br>".join(f"**{_literal(line)}**" for line in self.line.splitlines())
        folded = f"\n\n<details{opened}><summary>Explanation</summary>\n\n{text}\n\n</details>\n" if text else ""
        return {"text/plain": repr(self), "text/markdown": head + folded}


def _literal(text: str) -> str:
    """Text in which Markdown finds nothing to interpret."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(text, quote=False))


NOT_COMMITTED = "You did not commit to an answer before it ran."


def verdict(asked: Question, seen: str, choice: str | None) -> Verdict:
    """What `seen` says about the learner's choice. A node can show what no option says."""
    options: Mapping[str, Option] = {option.answer: option for option in asked.options}
    there, expected = options.get(seen), next(option for option in asked.options if option.right)
    if choice is None:
        message = f"Seen: {seen}. {NOT_COMMITTED}"
    else:
        message = f"Seen: {seen}. You predicted {'the same' if choice == seen else f'{choice}'}."
    if there is None:
        message += " None of the options says what your node showed."
    paragraphs: list[tuple[str, str]] = []
    if choice and choice != seen and options[choice].tempts:
        wrong = options[choice]
        paragraphs += [(f"Why “{choice}” is tempting", wrong.tempts), ("What shows that it is wrong", wrong.shows)]
        paragraphs.append(("Source", wrong.source))
    if there and (there.right or there.elsewhere):
        paragraphs += [(f"Why “{seen}”", there.right or there.elsewhere), ("Source", there.source)]
    else:
        paragraphs.append(("Your node differs", f"The node on which this notebook was written showed: {expected.answer}."))
        paragraphs += [("Why it was so there", expected.right), ("Source", expected.source)]
    return Verdict(message, tuple(paragraphs), choice is not None)


def unseen(asked: Question, why: str, choice: str | None) -> Verdict:
    """The verdict where the node cannot show the answer."""
    expected = next(option for option in asked.options if option.right)
    paragraphs = (("Where it can be seen", f"{expected.answer}. {expected.right}"), ("Source", expected.source))
    return Verdict(why, paragraphs, choice is not None)
