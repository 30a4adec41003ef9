"""``infersim run``: answer a scenario file, case by case."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infersim.errors import DoesNotFitError, InferSimError, NoPlanError

if TYPE_CHECKING:
    from infersim.scenario.result import ScenarioResult
    from infersim.scenario.scenario import Scenario


def run(
    scenario: Annotated[Path, typer.Argument(help="Scenario file; infersim init writes one to start from.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the results: results.json, figures.csv, the scenario."),
    ] = None,
    case: Annotated[str | None, typer.Option(help="Answer this case alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Every figure of every case as CSV.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No text but what is not as expected.")] = False,
) -> None:
    """Answer a scenario: a base case, its what-ifs and grids, and what is expected of them.

    Exit code 0: as expected; 1: an expectation is not met, or without any the base case misses its target or does not fit; 2: bad input.

    Examples:

        infersim run chat.yaml -o results/

        infersim run chat.yaml --case "two H200" --json
    """
    from infersim.scenario.result import check_folder
    from infersim.scenario.scenario import load_scenario

    asked = load_scenario(scenario)
    if case is not None:
        asked = asked.only(case)
    if output is not None:
        check_folder(output)
    found = _with_progress(asked, quiet or as_json or as_csv, output is not None)
    if output is not None:
        found.save(output)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    elif as_csv:
        typer.echo(found.to_csv(), nl=False)
    elif quiet:
        for checked in found.checked:
            if not checked.met:
                typer.echo(str(checked), err=True)
    else:
        typer.echo(str(found))
        if output is not None:
            typer.echo(f"\nwritten to {output}; infersim report {output} makes a page of it")
    first: InferSimError | None = found.cases[0].error
    if first is not None and not found.checked:
        raise first
    for one in found.cases[1:]:
        if (
            one.error is not None
            and not isinstance(one.error, DoesNotFitError | NoPlanError)
            and not (as_json or as_csv)
        ):
            typer.echo(f"case {one.name!r}: {one.error}", err=True)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _with_progress(scenario: Scenario, quiet: bool, doubts: bool) -> ScenarioResult:
    """Run, with a bar on standard error where a person watches several cases."""
    if quiet or not sys.stderr.isatty() or len(scenario.cases) < 2:
        return scenario.run(doubts=doubts)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(scenario.cases))
        return scenario.run(
            doubts=doubts,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
