"""``infersim report``: a results folder as one page to read, print and pass on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from infersim.cli import options as o
from infersim.cli.output import emit
from infersim.errors import SpecError


class Format(StrEnum):
    """What figures are written as."""

    svg = "svg"
    png = "png"


def report(
    results: Annotated[Path, typer.Argument(help="Folder that infersim run SCENARIO.yaml -o FOLDER wrote.")],
    output: Annotated[
        Path | None,
        o.option(
            "The page. Default: report.html in the folder.", o.OUTPUT, "--out", "--output", "-o", shown="FILE.html"
        ),
    ] = None,
    figures: Annotated[
        Path | None, o.option("Write every figure as a file of its own into this folder.", o.OUTPUT, shown="FOLDER")
    ] = None,
    form: Annotated[Format, o.option("Of the figures.", o.OUTPUT, "--format")] = Format.svg,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
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
        raise SpecError(f"a report is a .html file, got {page.name!r}", field="--out")
    drawn = write_page(results, page)
    written = write_figures(drawn, figures, form.value) if figures is not None else []
    files = [{"kind": "report", "file": str(page)}, *({"kind": "figure", "file": str(path)} for path in written)]
    answer = {"report": str(page), "figures": [str(path) for path in written]}
    said = f"wrote {page}" + (f" and {len(written)} figures in {figures}" if figures is not None else "")
    emit(answer, lambda: said, as_json=as_json, as_csv=as_csv, rows=files)
