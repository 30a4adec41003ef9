"""Figures as files, and as SVG inside a page that follows its light or dark theme."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from infersim.errors import SpecError
from infersim.report.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    MUTED,
    NARROW,
    ORANGE,
    PINK,
    RC,
    SKY,
    WIDE,
)
from infersim.report.markup import Markup, tag

VARIABLES = {INK: "--ink", MUTED: "--muted", FAINT: "--faint", BLUE: "--blue", ORANGE: "--orange", GREEN: "--green", PINK: "--pink",
             SKY: "--sky", GREY: "--grey"}  # fmt: skip
"""The page's names for the colours of the house style."""
FORMATS = ("png", "svg")
Draw = Callable[..., Any]


@dataclass(frozen=True)
class Picture:
    """A figure of a report: ``draw`` puts it on the axes it is given as ``ax``."""

    name: str
    """For its link and its file."""
    title: str
    told: str
    """What kind of figure it is: with the caption its text alternative."""
    caption: str
    draw: Draw
    height: float = 1.0
    """Of the usual height."""


@contextmanager
def _drawing() -> Iterator[None]:
    """The house style, and no word about letters that matplotlib's own font lacks: a page's font has them."""
    from matplotlib import rc_context

    with rc_context(RC), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def figure_of(picture: Picture, *, narrow: bool = False) -> Any:
    """The matplotlib figure of a picture, in the size for a file or for a page."""
    from matplotlib.figure import Figure

    width, height = NARROW if narrow else WIDE
    with _drawing():
        figure = Figure(figsize=(width, height * picture.height), layout="constrained")
        picture.draw(ax=figure.subplots())
    return figure


def inline(picture: Picture) -> Markup:
    """The picture as an element of a page, with its title and caption."""
    text = io.StringIO()
    with _drawing():
        figure_of(picture, narrow=True).savefig(text, format="svg", metadata={"Date": None})
    drawing = Markup(themed(text.getvalue(), f"{picture.name}-", f"{picture.told} {picture.caption}"))
    return tag("figure", tag("h4", picture.title), drawing, tag("figcaption", picture.caption), id=picture.name)


def themed(svg: str, prefix: str, told: str) -> str:
    """An SVG file of matplotlib's as an element of a page: ids of its own, the page's font and colours, no links to anywhere."""
    import html

    body = svg[svg.index("<svg") :]
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>|<title>.*?</title>", "", body, flags=re.S)
    size = re.search(r'viewBox="([^"]+)"', body)
    assert size is not None
    opening = f'<svg role="img" aria-label="{html.escape(told)}" viewBox="{size[1]}">'
    body = opening + body[body.index(">") + 1 :]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', body)
    body = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{prefix}\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", body)
    body = re.sub(r"font-family: [^;\"]*;?", "", body)
    for colour, name in VARIABLES.items():
        body = body.replace(colour, f"var({name})")
    return re.sub(r"\n\s*", "\n", body).strip()


def write_figures(pictures: list[Picture], folder: Path, kind: str = "svg") -> list[Path]:
    """Each picture as a file in ``folder``, which is made where it is missing; dark on white. Returns the files."""
    from infersim.files import replace_file, safe_file_name

    if kind not in FORMATS:
        raise SpecError(f"figures are png or svg, not {kind!r}", field="--format")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"cannot be made: {error.strerror}", file=folder) from error
    written = []
    for picture in pictures:
        target, figure = folder / safe_file_name(f"{picture.name}.{kind}"), figure_of(picture)
        with _drawing():
            replace_file(target, partial(figure.savefig, format=kind, dpi=200, facecolor="white"))
        written.append(target)
    return written
