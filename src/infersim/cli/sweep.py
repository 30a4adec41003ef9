"""``infersim sweep``: the points of a scenario's sweep, on the cores of this machine or of a cluster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.output import emit, progress, tell

if TYPE_CHECKING:
    from infersim.scenario.scenario import Scenario
    from infersim.scenario.sweeps.result import SweepResult

WHERE = "Where it runs"
FOLDER = "sweep"
"""Where a sweep is in a results folder."""


def sweep(
    scenario: Annotated[Path, typer.Argument(help="Scenario file with a section sweep.")],
    output: Annotated[
        Path, o.option("Folder for the results; the points go into its folder sweep.", o.OUTPUT, "--output", "-o")
    ],
    backend: Annotated[
        str,
        o.option(
            "processes (one per core), serial, dask or ray.",
            WHERE,
            values=complete.one_of("processes", "serial", "dask", "ray"),
        ),
    ] = "processes",
    address: Annotated[
        str | None,
        o.option(
            "Of the Dask scheduler (tcp://HOST:8786) or Ray cluster (HOST:6379). Default: a cluster of this machine.",
            WHERE,
            "--address",
            "--scheduler",
        ),
    ] = None,
    workers: Annotated[int | None, o.option("Processes on this machine. Default: one per core.", WHERE)] = None,
    resume: Annotated[
        bool, o.option("Go on with what the folder holds of this sweep, or begin it anew.", WHERE, "--resume/--fresh")
    ] = True,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Answer a scenario at every point of its sweep: a grid, a list, random points, a Latin hypercube or a Sobol sequence.

    Points go into Parquet files as they are done; a sweep that was stopped goes on where it was. A point without an answer says why.

    Examples:

        infersim sweep sweep.yaml -o swept/

        infersim sweep sweep.yaml -o swept/ --backend dask --scheduler tcp://head:8786
    """  # fmt: skip
    from infersim.scenario.result import check_folder
    from infersim.scenario.scenario import load_scenario

    asked = load_scenario(scenario)
    check_folder(output)
    found = swept(asked, output, backend=backend, address=address, workers=workers, resume=resume)
    told = found.to_dict()
    rows = [{"figure": name, **ends} for name, ends in told["figures"].items()]
    emit(told, lambda: str(found), as_json=as_json, as_csv=as_csv, rows=rows)


def swept(
    asked: Scenario, results: Path, *, backend: str = "processes", address: str | None = None, workers: int | None = None,
    resume: bool = True,
) -> SweepResult:  # fmt: skip
    """The sweep of a scenario, run into its results folder with a bar where a person watches."""
    from infersim.scenario.sweeps.run import run_sweep

    started, before = time.perf_counter(), -1

    with progress("sweep") as advance:

        def told(done: int, total: int) -> None:
            nonlocal before
            before = done if before < 0 else before
            rate = (done - before) / max(time.perf_counter() - started, 1e-9)
            advance(done, total, f"{rate:,.0f} points/s" if done > before else "")

        found = run_sweep(asked, None, results / FOLDER, backend=backend, address=address, workers=workers, resume=resume,
                          progress=told)  # fmt: skip
    tell(f"points are in {found.folder}; infersim report {results} makes a page of them")
    return found
