"""``infersim doctor``: is this installation sound, and what does it know of this machine?"""

from __future__ import annotations

import typer

from infersim.cli import options as o
from infersim.cli.exits import ExitCode
from infersim.cli.output import emit


def doctor(as_json: o.AsJson = False, as_csv: o.AsCsv = False) -> None:
    """Check the installation: versions, extras, specs that do not load, calibrations, and this machine's accelerator.

    Reads every spec file there is, your own first. Exit 1 where something is broken. CSV has a line per kind and folder of specs.

    Examples:

        infersim doctor

        infersim --specs my_specs doctor --json
    """
    from infersim.doctor import examine

    found = examine()
    answer = found.to_dict()
    emit(answer, lambda: str(found), as_json=as_json, as_csv=as_csv, rows=answer["specs"])
    if not found.healthy:
        raise typer.Exit(ExitCode.MISSED)
