"""``infersim diff``: two scenarios, results or cases, and what lies between them."""

from __future__ import annotations

from typing import Annotated

import typer

from infersim.cli import options as o
from infersim.cli.output import emit


def diff(
    a: Annotated[
        str, typer.Argument(help="Scenario file or results folder; FILE#CASE is another case than the base one.")
    ],
    b: Annotated[str, typer.Argument(help="The other one, likewise.")],
    figure: Annotated[str | None, o.option("Explain this figure, by its name in --json.", o.OUTPUT)] = None,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Set two cases side by side: figure by figure, and why they differ, setting by setting and op by op.

    Examples:

        infersim diff base.yaml cheaper.yaml

        infersim diff results/ "results/#two H200" --figure ttft_p95_s
    """
    from infersim.scenario.diff import between

    found = between(a, b, figure)
    emit(found.to_dict(), lambda: str(found), as_json=as_json, as_csv=as_csv, rows=found.rows)
