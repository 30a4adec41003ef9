"""``infersim report``: a results folder as one page to read, print and pass on."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from infersim.errors import SpecError


class Format(StrEnum):
    """What figures are written as."""

    svg = "svg"
    png = "png"


def report(
    results: Annotated[Path, typer.Argument(help="Folder that infersim run SCENARIO.yaml -o FOLDER wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page, FILE.html. Default: report.html in the folder.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Write every figure as a file of its own into this folder.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Of the figures.")] = Format.svg,
    as_json: Annotated[bool, typer.Option("--json", help="The files written, as JSON.")] = False,
) -> None:
    """Make one self-contained page of a results folder: the answer first, then figures, inputs and sources.

    The page needs no network, prints, and follows light and dark.

    Examples:

        infersim report results/ -o report.html

        infersim report results/ --figures figures/ --format png
    """
    from infersim.report.html import write_page
    from infersim.report.svg import write_figures

    page = output or results / "report.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise SpecError(f"a report is a .html file, got {page.name!r}", field="--output")
    drawn = write_page(results, page)
    written = write_figures(drawn, figures, form.value) if figures is not None else []
    if as_json:
        typer.echo(json.dumps({"report": str(page), "figures": [str(path) for path in written]}, indent=2))
    else:
        typer.echo(f"wrote {page}" + (f" and {len(written)} figures in {figures}" if figures is not None else ""))
