"""``infersim bench``: this machine measured."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.cli import options as o
from infersim.cli.exits import ExitCode
from infersim.cli.output import emit, progress, tell

if TYPE_CHECKING:
    from infersim.microbench.results import Results


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


def bench(
    device: Annotated[Device, o.option("Default: the best one PyTorch finds.", None)] = Device.auto,
    quick: Annotated[
        bool, o.option("The same as --set quick: within two minutes on 2 cores.", None, "--quick")
    ] = False,
    which: Annotated[CaseSet, o.option("tiny tries it out in seconds.", None, "--set")] = CaseSet.full,
    backend: Annotated[
        Library, o.option("Default: torch where it is installed. faiss measures vector search instead.", None)
    ] = Library.auto,
    threads: Annotated[int | None, o.option("CPU threads of PyTorch.", None, minimum=1)] = None,
    ranks: Annotated[
        int | None, o.option("Ranks of collectives. Default: the GPUs there are.", None, minimum=1)
    ] = None,
    out: Annotated[Path, o.option("Result file; one that is there is taken up where it stopped.", o.OUTPUT)] = Path(
        "bench.jsonl"
    ),
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Measure this machine: products, attention, streaming, elementwise passes, launches, copies, collectives; or vector search.

    Ctrl-C keeps what was measured; the same command goes on from there. `infersim calibrate --from bench.jsonl` makes specs
    and a calibration of the result.

    Examples:

        infersim bench --set tiny

        infersim bench --quick --out this_machine.jsonl
    """
    from infersim.microbench.suite import open_backend, run_suite

    chosen = CaseSet.quick if quick else which
    opened = open_backend(backend.value, device.value, threads)
    with progress(f"bench {opened.name} on {opened.device}") as advance:
        outcome = run_suite(
            opened, out, which=chosen.value, ranks=ranks or _gpus(opened.device), threads=threads, progress=advance
        )
    results = outcome.results
    answer = _summary(results)
    emit(answer, lambda: _table(results), as_json=as_json, as_csv=as_csv, rows=answer["best"])
    kept = len({row.case for row in results.rows})
    tell(f"{kept} cases in {out}, {outcome.taken} timings taken now, {len(results.failed)} cases could not run")
    for key, reason in list(results.failed.items())[:5]:
        tell(f"could not run: {key}: {reason}")
    if outcome.left and not outcome.interrupted:
        tell(f"time was up: {outcome.left} repeats are left; the same command takes them")
    if outcome.interrupted:
        tell("interrupted: what was measured is kept; the same command goes on from there")
        raise typer.Exit(ExitCode.INTERRUPTED)


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
