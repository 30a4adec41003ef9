"""Answers of any kind in a report: what they say themselves, their figures, and the pictures that their layer registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infersim.report.figures.sweep import shown
from infersim.report.markup import NONE, Markup, table, tag
from infersim.report.results import Case
from infersim.report.svg import Picture
from infersim.report.words import memory, number, seconds
from infersim.scenario import questions
from infersim.tables import flatten

FIGURES_SHOWN = 60
COMPARED = 5
"""Figures of a comparison of cases."""
_OWN = ("sources", "assumptions", "warnings", "notes")


def headline(case: Case) -> str:
    """The sentence that the layer of a question makes of its answer, or the first line of what the answer says of itself."""
    layer = questions.LAYERS.get(case.question)
    if layer is not None and layer.headline and case.answer is not None:
        told: str = questions.load(layer.headline)(case.answer)
        return told
    lines = [line.strip() for line in case.text.splitlines() if line.strip()]
    return lines[0] if lines else f"{case.name} is answered."


def text_block(case: Case) -> Markup | None:
    """What an answer says of itself, as it is printed."""
    return tag("pre", case.text, class_="told") if case.text else None


def figures_table(case: Case) -> Markup | None:
    """The figures of an answer, one a line."""
    rows = [[name, value(name, figure)] for name, figure in list(figures(case).items())[:FIGURES_SHOWN]]
    if not rows:
        return None
    return tag("details", tag("summary", "Figures"), table(["Figure", "Value"], rows, numeric=[1]))


def figures(case: Case) -> dict[str, float]:
    """The numbers of an answer by their dotted names."""
    told = {key: inner for key, inner in (case.answer or {}).items() if key not in _OWN}
    flat = flatten(told)
    return {
        key: float(inner)
        for key, inner in flat.items()
        if isinstance(inner, int | float) and not isinstance(inner, bool)
    }


def columns(cases: list[Case]) -> list[str]:
    """The figures in which cases are compared: the first ones in which they differ."""
    every = [figures(case) for case in cases if case.answer is not None]
    names = dict.fromkeys(name for found in every for name in found)
    return [name for name in names if len({found.get(name) for found in every}) > 1][:COMPARED]


def value(name: str, figure: float | None) -> str:
    """A figure as a person reads it, by the unit that its name ends in."""
    if figure is None:
        return NONE
    ends = name.split(".")[-2:]
    if any(end.endswith("_s") and not end.endswith("_per_s") for end in ends):
        return seconds(figure)
    return memory(figure) if ends[-1].endswith("_bytes") else number(figure)


def compared(question: str) -> tuple[tuple[str, str], ...]:
    """Heading and dotted name of the figures in which cases of a layer are compared."""
    layer = questions.LAYERS.get(question)
    return layer.compared if layer is not None else ()


def shown_at(name: str, case: Case) -> str:
    """The figure of an answer under a dotted name, as a person reads it."""
    found: Any = case.answer
    try:
        for key in name.split("."):
            found = found[int(key)] if key.isdigit() else found[key]
    except (KeyError, IndexError, TypeError):
        return NONE
    return str(found) if isinstance(found, str) else value(name, found)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def word(name: str) -> str:
    """The name of a figure as a heading."""
    return capital(shown(name.rsplit(".", 1)[-1]))


def pictures(case: Case, prefix: str) -> list[Picture]:
    """The pictures that the layer of a question makes of its answer."""
    layer = questions.LAYERS.get(case.question)
    if layer is None or not layer.figures or case.answer is None:
        return []
    draw: Any = questions.load(layer.figures)
    found: list[Picture] = list(draw(case.answer, prefix))
    return found


def inputs(setup: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a case was asked, field by field."""
    return [
        (name, str(told)) for name, told in flatten(setup).items() if name not in ("infersim", "name", "description")
    ]
