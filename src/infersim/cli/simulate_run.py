"""What ``infersim simulate`` does with its options read: runs, files, the screen, the search for a capacity."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from infersim.cli.exits import ExitCode
from infersim.cli.output import emit, progress, sources_text
from infersim.errors import SpecError

if TYPE_CHECKING:
    from infersim.serving.compare import Comparison
    from infersim.serving.result import ServingResult
    from infersim.serving.traces import Trace
    from infersim.serving.traffic import Traffic

TABLES, PICTURES, JSON = (".csv", ".parquet"), (".png", ".svg", ".pdf"), (".json",)


@dataclass(frozen=True)
class Files:
    """Files to write, None where they are not wanted."""

    records: Path | None
    series: Path | None
    benchmark: Path | None
    detailed: bool
    plot: Path | None

    def check(self, rates: list[float]) -> None:
        """Raise SpecError before anything is simulated for what could not be written after it."""
        single = [("--save", self.records, TABLES), ("--save-series", self.series, TABLES),
                  ("--benchmark", self.benchmark, JSON)]  # fmt: skip
        for flag, path, endings in [*single, ("--plot", self.plot, PICTURES)]:
            if path is None:
                continue
            if path.suffix.lower() not in endings:
                raise SpecError(f"ends in {', '.join(endings)}, got {str(path)!r}", field=flag)
            if not path.parent.is_dir():
                raise SpecError(f"no such folder: {str(path.parent)!r}", field=flag)
        for flag, path, _ in single:
            if path is not None and len(rates) > 1:
                raise SpecError("is of one run: give one --request-rate", field=flag)
        if self.plot is not None and len(rates) > 1 and not all(map(math.isfinite, rates)):
            raise SpecError("latency against load needs finite rates: leave inf out", field="--plot")
        if self.detailed and self.benchmark is None:
            raise SpecError("adds lists to --benchmark: name that file", field="--save-detailed")

    def write(self, results: list[ServingResult], rates: list[float]) -> None:
        """Write what was asked for; of several runs the picture holds those that came to their end."""
        result = results[0]
        if self.records is not None:
            (result.write_parquet if self.records.suffix.lower() == ".parquet" else result.write_csv)(self.records)
        if self.series is not None:
            result.write_series(self.series)
        if self.benchmark is not None:
            result.write_benchmark(self.benchmark, detailed=self.detailed)
        if self.plot is None:
            return
        from infersim.report.serving import plot_load, plot_run

        if len(results) == 1:
            plot_run(result, self.plot)
        else:
            plot_load([pair for pair in zip(rates, results, strict=False) if not pair[1].interrupted], self.plot)


def run_each(
    run: Callable[[Traffic | Trace], ServingResult], traffics: Iterable[Traffic | Trace]
) -> tuple[list[ServingResult], bool]:
    """Results one after the other until the end or the first Ctrl-C, and whether there was one."""
    results: list[ServingResult] = []
    for traffic in traffics:
        try:
            results.append(run(traffic))
        except KeyboardInterrupt:
            if not results:
                raise _nothing_done() from None
            return results, True
        if results[-1].interrupted:
            return results, True
    return results, False


def _nothing_done() -> typer.Exit:
    typer.echo("interrupted before anything could be shown", err=True)
    return typer.Exit(ExitCode.INTERRUPTED)


def with_progress(model: str, gpu: str, traffic: Traffic | Trace, **options: Any) -> ServingResult:
    """Simulate, with a bar on standard error where it takes a while."""
    from infersim.serving.simulate import simulate as run

    if traffic.num_requests < 200_000:
        return run(model, gpu, traffic, **options)
    with progress("requests") as advance:
        return run(model, gpu, traffic, progress=lambda drawn, total: advance(drawn, traffic.num_requests), **options)


def rate_name(rate: float) -> float | str:
    """A rate as JSON can hold it."""
    return "inf" if math.isinf(rate) else rate


def summary(
    results: list[ServingResult], left: list[float], comparison: Comparison | None
) -> tuple[dict[str, Any] | list[dict[str, Any]], list[dict[str, Any]]]:
    """One object, or a list of them for several rates, which ends with those that an interruption left out; and the runs alone."""
    runs: list[dict[str, Any]] = [result.to_dict() for result in results]
    if comparison is not None:
        runs[0]["measured"] = comparison.to_dict()
    found = [
        *runs,
        *([{"interrupted": True, "request_rates_left_out": [rate_name(rate) for rate in left]}] if left else []),
    ]
    return found[0] if len(found) == 1 else found, runs


def summary_text(results: list[ServingResult], comparison: Comparison | None, sources: bool) -> str:
    """The summaries as text."""
    from infersim.serving.result import WIDTH

    shown = []
    for result in results:
        if len(results) > 1:
            shown.append(f"-- {rate_name(getattr(result.traffic.arrivals, 'rate', math.inf))} requests/s --")
        shown.append(str(result))
        lines = result.bottlenecks
        if result.goodput is not None:
            missed = ", ".join(result.missed_targets) or "none"
            lines.append(f"goodput {result.goodput:.2f} requests/s; missed: {missed}")
        shown += [textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="    ") for line in lines]
    if comparison is not None:
        shown.append(str(comparison))
    if sources:
        shown += ["", sources_text(results[0].deployment.sources)]
    return "\n".join(shown)


def say_interrupted(results: list[ServingResult], left: list[float]) -> None:
    """On standard error, whatever form the figures take: they are not of what was asked for."""
    last = results[-1]
    if last.interrupted:
        typer.echo(f"interrupted: figures and files are of {last.completed:,} requests simulated to their end,\n"
                   f"  not of {last.traffic.num_requests:,}", err=True)  # fmt: skip
    if left:
        typer.echo(f"interrupted: not simulated: {', '.join(f'{rate:g}' for rate in left)} requests/s", err=True)


def search_capacity(
    model: str, gpu: str, traffic: Traffic, limits: Any, as_json: bool, as_csv: bool, seed: int, routing: str, deployment: dict[str, Any]
) -> ExitCode:  # fmt: skip
    """Search and print the highest rate that meets the target; returns the exit code."""
    from infersim.predict.estimate import estimate
    from infersim.serving.capacity import capacity

    resolved = estimate(model, gpu, input_tokens=traffic.mean_input, output_tokens=traffic.mean_output, **deployment)
    try:
        found = capacity(resolved, traffic, limits, seed=seed, routing=routing)
    except KeyboardInterrupt:
        raise _nothing_done() from None
    emit(found.to_dict(), lambda: str(found), as_json=as_json, as_csv=as_csv)
    if found.interrupted:
        typer.echo(f"interrupted after {found.trials} trials: the search was not finished", err=True)
        return ExitCode.INTERRUPTED
    return ExitCode.ANSWERED if found.rate else ExitCode.MISSED
