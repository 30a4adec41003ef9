"""``infersim bench`` and calibrating from its files: arguments in, files and a table out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.errors import SpecError

if TYPE_CHECKING:
    from infersim.microbench.results import Results

app = typer.Typer()


class Device(StrEnum):
    """Where to measure."""

    auto = "auto"
    cuda = "cuda"
    cpu = "cpu"
    mps = "mps"
    xpu = "xpu"


class Library(StrEnum):
    """What to measure with."""

    auto = "auto"
    torch = "torch"
    numpy = "numpy"
    faiss = "faiss"


class CaseSet(StrEnum):
    """How much to measure."""

    tiny = "tiny"
    quick = "quick"
    full = "full"


@app.command()
def bench(
    device: Annotated[Device, typer.Option(help="Default: the best one PyTorch finds.")] = Device.auto,
    quick: Annotated[
        bool, typer.Option("--quick", help="The same as --set quick: within two minutes on 2 cores.")
    ] = False,
    which: Annotated[CaseSet, typer.Option("--set", help="tiny tries it out in seconds.")] = CaseSet.full,
    backend: Annotated[
        Library, typer.Option(help="Default: torch where it is installed. faiss measures vector search instead.")
    ] = Library.auto,
    out: Annotated[Path, typer.Option(help="Result file; one that is there is taken up where it stopped.")] = Path(
        "bench.jsonl"
    ),
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of PyTorch.")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="Ranks of collectives. Default: the GPUs there are.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Measure this machine: products, attention, streaming, elementwise passes, launches, copies, collectives; or vector search.

    Ctrl-C keeps what was measured; the same command goes on from there. `infersim calibrate --from bench.jsonl` makes specs
    and a calibration of the result.
    """
    from infersim.microbench.suite import open_backend, run_suite

    chosen = CaseSet.quick if quick else which
    opened = open_backend(backend.value, device.value, threads)
    with progress_bar(f"bench {opened.name} on {opened.device}") as tell:
        outcome = run_suite(
            opened, out, which=chosen.value, ranks=ranks or _gpus(opened.device), threads=threads, progress=tell
        )
    results = outcome.results
    if as_json:
        import json

        typer.echo(json.dumps(_summary(results), indent=2, allow_nan=False))
    else:
        from infersim.cli import render

        render.console().print(_table(results))
    kept = len({row.case for row in results.rows})
    typer.echo(
        f"{kept} cases in {out}, {outcome.taken} timings taken now, {len(results.failed)} cases could not run", err=True
    )
    for key, reason in list(results.failed.items())[:5]:
        typer.echo(f"could not run: {key}: {reason}", err=True)
    if outcome.left and not outcome.interrupted:
        typer.echo(f"time was up: {outcome.left} repeats are left; the same command takes them", err=True)
    if outcome.interrupted:
        typer.echo("interrupted: what was measured is kept; the same command goes on from there", err=True)
        raise typer.Exit(130)


def calibrate_from(source: Path, out: Path, devices: list[str], engines: list[str]) -> None:
    """``infersim calibrate --from FILE``: write specs and calibration of a result file into a folder for ``--specs``."""
    from infersim.calibrate.own_suite import calibrate_own, write_own
    from infersim.microbench.results import read_results

    if len(devices) > 1 or len(engines) > 1:
        raise SpecError(
            "one result file is of one device and one engine", field="--device" if len(devices) > 1 else "--engine"
        )
    results = read_results(source)
    if results.backend == "faiss":
        _calibrate_search(results, out, devices, engines)
        return
    own = calibrate_own(results, device=next(iter(devices), None), engine=next(iter(engines), None))
    for path in write_own(out, own):
        typer.echo(f"wrote {path}")
    for section in own.sections:
        typer.echo(
            f"{section.kind:<12}{section.key:<34}{section.rows:>4} rows   off {section.final.p50:.1%} in the median (cross-validated)"
        )
    for reason, count in sorted(own.left_out.items()):
        typer.echo(f"left out: {count} x {reason}")
    typer.echo(f"use it: infersim --specs {out} estimate MODEL --gpu {own.accelerator.name} --engine {own.engine.name}")


def _calibrate_search(results: Results, out: Path, devices: list[str], engines: list[str]) -> None:
    """Write the search rates of a result file of vector search."""
    from infersim.calibrate.own_search import calibrate_search, write_rates

    if engines:
        raise SpecError(f"vector search is of {results.backend}, not of an inference engine", field="--engine")
    rates = calibrate_search(results, name=next(iter(devices), None))
    typer.echo(f"wrote {write_rates(out, rates)}")
    for kind, errors in rates.errors.items():
        typer.echo(f"{kind:<12}{errors['rows']:>4} rows   off {errors['p50']:.1%} in the median (cross-validated)")
    typer.echo(f"use it: a retrieval spec with index: {{rates: {rates.name}}}, and --specs {out}")


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on standard error, and what to tell it: done, total, what."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[what]}"),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task(title, total=None, what="")
        yield lambda done, total, what: bar.update(task, completed=done, total=total, what=what[:60])


def _gpus(device: str) -> int:
    if device != "cuda":
        return 1
    import torch

    return int(torch.cuda.device_count())


def _best(results: Results) -> list[tuple[str, str, float, str]]:
    """(what, detail, figure, unit) of the figures that sum a result file up."""
    from infersim.microbench.cases import Collective, Gemm, HostCopy, Launch, Stream, VectorSearch

    found: dict[tuple[str, str, str], float] = {}

    def keep(what: str, detail: str, unit: str, value: float, better: Callable[[float, float], float] = max) -> None:
        key = (what, detail, unit)
        found[key] = better(found[key], value) if key in found else value

    for entry in results.measured():
        case, seconds = entry.case, entry.seconds
        if isinstance(case, Gemm):
            keep("matrix products", case.format, "FLOP/s", case.flops / seconds)
        elif isinstance(case, Stream):
            keep("streaming", f"{case.pattern} of {case.bytes / 2**20:g} MiB", "B/s", case.moved / seconds)
        elif isinstance(case, Launch):
            keep("launch", case.way, "s", seconds, min)
        elif isinstance(case, HostCopy):
            keep("host copy", case.direction.replace("_", " "), "B/s", case.bytes / seconds)
        elif isinstance(case, Collective):
            keep("collective", f"{case.name} among {case.devices}", "B/s", case.payload / seconds)
        elif isinstance(case, VectorSearch):
            knob = f", {case.structure}/{case.knob}" if case.structure else ""
            keep("vector search", f"{case.index} {case.vectors:,} x {case.dimension}{knob}", "s", seconds, min)
    return [(what, detail, value, unit) for (what, detail, unit), value in found.items()]


def _noise(results: Results) -> float:
    import statistics

    return statistics.median([entry.spread for entry in results.measured()] or [0.0])


def _summary(results: Results) -> dict[str, Any]:
    best = [
        {"what": what, "detail": detail, "value": value, "unit": unit} for what, detail, value, unit in _best(results)
    ]
    return results.header() | {
        "cases": len({row.case for row in results.rows}),
        "failed": results.failed,
        "median_spread_between_rounds": _noise(results),
        "best": best,
    }


def _table(results: Results) -> Any:
    from infersim.cli import render
    from infersim.units import show

    table = render.plain_table("measured", "what", "best", right=(2,))
    for what, detail, value, unit in _best(results):
        table.add_row(what, detail, show(value, unit))
    table.add_row("noise", "median spread between rounds", f"{_noise(results):.0%}")
    return table
