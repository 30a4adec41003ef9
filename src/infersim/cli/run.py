"""``infersim run``: answer a scenario file, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infersim.cli import options as o
from infersim.cli.exits import ExitCode
from infersim.cli.output import emit, manner, note_sources, progress, say, tell
from infersim.errors import DoesNotFitError, NoPlanError


def run(
    scenario: Annotated[Path, typer.Argument(help="Scenario file; infersim init writes one to start from.")],
    output: Annotated[
        Path | None,
        o.option("Folder for the results: results.json, figures.csv, the scenario.", o.OUTPUT, "--output", "-o"),
    ] = None,
    case: Annotated[str | None, o.option("Answer this case alone.", None, "--case")] = None,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Answer a scenario: a base case, its what-ifs and grids, what is expected of them, and with -o its sweep.

    Exit code 0: as expected; 1: an expectation is not met, or without any the base case misses its target or does not fit; 2: bad input,
    a base case that cannot be asked among it.

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
    sweeps = asked.sweep is not None and case is None
    if sweeps:
        from infersim.scenario.sweeps.run import check_store, read_design

        read_design(asked)  # what is wrong with it is told at once
        if output is not None:
            check_store()
    with progress(asked.name) as advance:
        found = asked.run(progress=lambda what, done, total: advance(done, total, what), doubts=output is not None)
    first = found.cases[0].error
    alike = first is not None and {str(one.error) for one in found.cases} == {str(first)}
    if first is not None and alike and (found.exit_code == 2 or (len(found.cases) == 1 and not found.checked)):
        raise first  # nothing to keep, and one sentence says it
    if output is not None:
        found.save(output)
    emit(found.to_dict(), lambda: str(found), as_json=as_json, as_csv=as_csv, rows=found.rows)
    if output is not None:
        tell(f"written to {output}; infersim report {output} makes a page of it")
    if sweeps and output is not None:
        from infersim.cli.sweep import swept

        say("", str(swept(asked, output)))
    elif sweeps:
        tell(f"its sweep runs with -o FOLDER, or alone: infersim sweep {scenario} -o FOLDER")
    for checked in found.checked:
        if not checked.met and (manner.quiet or as_json or as_csv):
            typer.echo(str(checked), err=True)
    note_sources(dict.fromkeys(line for one in found.cases for line in (one.told or {}).get("sources", [])))
    if first is not None and not found.checked:
        raise first
    for one in found.cases[0 if as_json or as_csv else 1 :]:  # the text has the base case's
        if one.error is not None and not isinstance(one.error, DoesNotFitError | NoPlanError):
            tell(f"case {one.name!r}: {one.error}")
    if found.exit_code:
        raise typer.Exit(ExitCode.MISSED if found.exit_code == 1 else ExitCode.BAD_INPUT)
