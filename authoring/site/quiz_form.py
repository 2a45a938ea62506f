"""A question of a quiz as an HTML form. `static/site.js` shows the verdict on what the reader chose; it computes no text of it.

Each verdict is written here, by the code that writes it in a notebook, and waits in a `<template>`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from markdown_it import MarkdownIt

from labkit.course.answer import Paragraphs, verdict
from labkit.course.order import Order
from labkit.course.quiz import Question, shuffled

_MARKDOWN = MarkdownIt("commonmark")


def form(asked: Question) -> str:
    """The form of a question: radio buttons for options, buttons to click one after the other for the steps of an order."""
    body = _order(asked) if asked.steps else _options(asked)
    return f"""\
<form class="quiz" id="{anchor(asked.id)}" data-quiz="{asked.id}">
<fieldset><legend>{html.escape(asked.text)}</legend>
{body}
<div class="quiz-verdict" role="status"></div>
<noscript>Your browser runs no scripts. What the node showed is folded below the experiment.</noscript>
</form>"""


def anchor(identifier: str) -> str:
    """The fragment of a question's form in its page: "quiz-02-pause" for "02.pause"."""
    return "quiz-" + identifier.replace(".", "-")


def _options(asked: Question) -> str:
    answers = shuffled(asked.id, tuple(option.answer for option in asked.options))
    seen = next(option.answer for option in asked.options if option.right)
    buttons, verdicts = [], []
    for number, answer in enumerate(answers):
        buttons.append(
            f'<label><input type="radio" name="{asked.id}" value="{number}" required> <span>{html.escape(answer)}</span></label>'
        )
        given = verdict(asked, seen, answer)
        text = f"<p><strong>{html.escape(given.line)}</strong></p>{_paragraphs(given.paragraphs)}"
        verdicts.append(f'<template data-answer="{number}">{text}</template>')
    return _joined(buttons, verdicts, '<button type="submit" hidden>Check</button>')


def _order(asked: Question) -> str:
    steps = asked.steps
    buttons = [f'<button type="button" data-step="{steps.index(step)}">{html.escape(step)}</button>'
               for step in shuffled(asked.id, steps)]
    seen = "".join(f"<li>{html.escape(step)}</li>" for step in steps)
    explained = Order(asked).seen(steps).paragraphs
    right = f"<p><strong>You had put <span data-right></span> of {len(steps)} in this place.</strong></p>"
    whole = f"<p><strong>Seen, in this order:</strong></p><ol>{seen}</ol>{right}<div data-swaps></div>{_paragraphs(explained)}"
    verdicts = [f"<template data-order>{whole}</template>"]
    for swap in asked.swaps:
        mistaken = Order(asked)
        mistaken.choose(swap.first, swap.then)
        of_the_swap = mistaken.seen(steps).paragraphs[: -len(explained)]
        places = f'data-first="{steps.index(swap.first)}" data-then="{steps.index(swap.then)}"'
        verdicts.append(f"<template {places}>{_paragraphs(of_the_swap)}</template>")
    again = '<button type="reset" hidden>Start again</button>'
    return _joined(buttons, verdicts, f'<button type="submit" hidden>Check</button> {again}')


def _joined(buttons: Iterable[str], verdicts: Iterable[str], check: str) -> str:
    return "\n".join([*buttons, f"</fieldset>\n<p>{check}</p>", *verdicts])


def _paragraphs(paragraphs: Paragraphs) -> str:
    return "".join(f"<p><em>{html.escape(label)}:</em> {_MARKDOWN.renderInline(text)}</p>" for label, text in paragraphs)
