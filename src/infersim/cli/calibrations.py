"""``infersim calibrations``: the kernel models on file, and how far each is off."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.output import emit
from infersim.errors import SpecError


def calibrations(
    device: Annotated[
        str | None, typer.Argument(help="Only this accelerator.", autocompletion=complete.names_of("accelerators"))
    ] = None,
    kind: Annotated[
        str | None,
        o.option("gemm, attention, mla, moe, scan, collective.", None,
                 values=complete.one_of("gemm", "attention", "mla", "moe", "scan", "collective")),
    ] = None,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:  # fmt: skip
    """List the kernel calibrations and how far each is off on measured rows its fit did not see, worst first.

    Examples:

        infersim calibrations H100-SXM --kind attention
    """
    from infersim.machine.calibration import PARAMETERS, every_section
    from infersim.specs.library import load_accelerator

    def screen() -> Any:
        from infersim.cli.render import calibrations_table

        return calibrations_table(rows)

    if kind is not None and kind not in PARAMETERS:
        raise SpecError(f"no kind of kernel is called {kind!r}; known: {', '.join(sorted(PARAMETERS))}", field="--kind")
    name = load_accelerator(device).name if device is not None else None
    rows = [row for row in every_section() if name in (None, row["accelerator"]) and kind in (None, row["kind"])]
    emit(rows, screen, as_json=as_json, as_csv=as_csv)
