"""``infersim validate``: how far predictions are off on measurements that no fit saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from infersim.calibrate.measurements import ServingPoint
    from infersim.validate.comparison import Comparison, ErrorLine


class What(StrEnum):
    """Which measurements are compared."""

    all = "all"
    kernels = "kernels"
    serving = "serving"


KERNEL_KINDS = ("gemm", "attention", "mla", "moe", "scan", "collective", "elementwise")
MODEL_KINDS = ("dense", "moe")
KERNEL_LABELS = ("kind", "device", "engine", "format", "regime")
SERVING_LABELS = ("metric", "kind", "model", "device", "engine", "format", "parallelism", "load", "protocol")
REASONS = 8
"""Reasons for refusals that are printed one by one."""
LABEL_ALIASES = {"gpu": "device"}
MEANING = {
    "kernels": "Kernels on shapes that no fit saw, beside the naive roofline (larger of FLOP / peak and bytes / bandwidth)",
    "serving": "Serving points on the judging side of the split: closed form against measured",
}


def validate(
    what: Annotated[What, typer.Argument(help="kernels, serving or both.")] = What.all,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Group by this; repeat for several: {', '.join(dict.fromkeys((*KERNEL_LABELS, *SERVING_LABELS)))}."
        ),
    ] = None,
    worst: Annotated[int, typer.Option(help="Lines of each table, the worst first.", min=1)] = 20,
    every_row: Annotated[
        bool,
        typer.Option("--all", help="Kernels: all rows of the installed package, not the sample (infersim[silicon])."),
    ] = False,
    measured: Annotated[
        Path | None,
        typer.Option(
            help="Your own measurements in place of those that ship: serving points (.csv), or the result (.json, .jsonl) of vllm bench "
            "serve, SGLang, guidellm or aiperf with --device, --engine and what else ran."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With a result: the model, where the file does not name it.")
    ] = None,
    tp: Annotated[int, typer.Option("--tp", help="With a result: tensor parallel degree.")] = 1,
    precision: Annotated[str | None, typer.Option(help="With a result: formats. Default: the checkpoint's.")] = None,
    kind: Annotated[str | None, typer.Option(help=f"Only one of {', '.join((*KERNEL_KINDS, 'dense'))}.")] = None,
    device: Annotated[str | None, typer.Option(help="Only this accelerator.")] = None,
    engine: Annotated[str | None, typer.Option(help="Only this engine.")] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="On this machine: quick suite, calibration, then small transformers really run (infersim[bench]).",
        ),
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write a report with plots: FILE.html or FILE.md.")] = None,
    rows: Annotated[Path | None, typer.Option("--csv", help="Write every row compared: FILE.csv.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> None:
    """Compare predictions with measurements: kernels by shape, and whole deployments.

    Errors are |predicted / measured - 1| on measurements that no fit has seen.

    Examples:

        infersim validate

        infersim validate serving --by model --by engine --report accuracy.html

        infersim validate --live
    """
    if live:
        for option, given in (("--by", by), ("--all", every_row), ("--measured", measured), ("--report", report), ("--csv", rows),
                              ("--kind", kind), ("--device", device), ("--engine", engine)):  # fmt: skip
            if given:
                raise SpecError("does not go with --live, which compares this machine's own steps", field=option)
        _live(as_json)
        return
    from infersim.specs.library import load_accelerator, load_engine
    from infersim.validate.comparison import error_table, refusals, write_rows

    if report is not None and report.suffix.lower() not in (".html", ".md"):
        raise SpecError(f"a report is .html or .md, got {report.name!r}", field="--report")
    if measured is not None and what == What.kernels:
        raise SpecError("holds serving points, not kernels; leave out 'kernels'", field="--measured")
    if every_row and (measured is not None or what == What.serving):
        raise SpecError("takes all rows of kernels, and no kernels were asked for", field="--all")
    by = [LABEL_ALIASES.get(name.lower(), name) for name in by or ()]
    wanted = {
        "kind": _kind(kind) if kind else None,
        "device": load_accelerator(device).name if device else None,
        "engine": load_engine(engine).name if engine else None,
    }
    kernels = what != What.serving and measured is None and wanted["kind"] in (None, *KERNEL_KINDS)
    serving = what != What.kernels and wanted["kind"] in (None, *MODEL_KINDS)
    groups = {"kernels": _groups(by, KERNEL_LABELS), "serving": _groups(by, SERVING_LABELS)}
    sections: dict[str, list[Comparison]] = {}
    if kernels:
        sections["kernels"] = _kernels(every_row)
    if serving:
        ran = {name: wanted[name] for name in ("device", "engine")}
        points = None if measured is None else _own_points(measured, ran, model, tp, precision)
        sections["serving"] = _serving(points)
    for name, found in sections.items():
        sections[name] = [
            one
            for one in found
            if all(
                value is None or one.labels.get(label, "").lower() == value.lower() for label, value in wanted.items()
            )
        ]
    if not any(sections.values()):
        asked = " ".join(f"--{name} {value}" for name, value in wanted.items() if value)
        raise SpecError(f"no measurement of {' or '.join(sections) or what} matches {asked}; `infersim calibrations` lists what was "
                        "measured")  # fmt: skip
    if as_json:
        result = {
            name: {"by": list(groups[name]), "lines": [line.to_dict() for line in error_table(found, groups[name])],
                   "refused": dict(refusals(found))}
            for name, found in sections.items()
        }  # fmt: skip
        typer.echo(json.dumps(result, indent=2))
    else:
        _print({name: found for name, found in sections.items() if found}, groups, worst)
    if rows is not None:
        write_rows(rows, (one for found in sections.values() for one in found))
        typer.echo(f"rows written to {rows}", err=True)
    if report is not None:
        from infersim.validate.report import write_report

        write_report(report, {name: found for name, found in sections.items() if found})
        typer.echo(f"report written to {report}", err=True)


def _kind(given: str) -> str:
    """The kind of kernel or model that was meant; experts are both."""
    known = tuple(dict.fromkeys((*KERNEL_KINDS, *MODEL_KINDS)))
    if given.lower() not in known:
        raise SpecError(f"no kind is called {given!r}; {did_you_mean(given, known)}", field="--kind")
    return given.lower()


def _live(as_json: bool) -> None:
    from infersim.cli.output import progress
    from infersim.validate.live import run_live

    with progress("live validation") as tell:
        found = run_live(progress=tell)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))


def _groups(by: Sequence[str] | None, labels: tuple[str, ...]) -> tuple[str, ...]:
    known = dict.fromkeys((*KERNEL_LABELS, *SERVING_LABELS))
    for name in by or ():
        if name not in known:
            raise SpecError(f"nothing is grouped by {name!r}; {did_you_mean(name, known)}", field="--by")
    default = ("kind",) if labels is KERNEL_LABELS else ("metric", "kind")
    chosen = tuple(name for name in by or () if name in labels)
    return (
        (("metric", *(name for name in chosen if name != "metric")) if labels is SERVING_LABELS else chosen)
        if chosen
        else default
    )


def _kernels(every_row: bool) -> list[Comparison]:
    from infersim.validate.kernels import compare_kernels, compare_table
    from infersim.validate.sample import read_sample

    if not every_row:
        return [one for table in read_sample() for one in compare_table(table)]
    from infersim.calibrate.silicon_more import FOLDERS
    from infersim.calibrate.write import device_tables
    from infersim.machine.calibration import ENGINES

    found: list[Comparison] = []
    with _progress("kernels", len(FOLDERS) * len(ENGINES)) as advance:
        for name in FOLDERS:
            for engine in ENGINES:
                found += compare_kernels(device_tables(name, engine)[0])
                advance()
    return found


def _own_points(
    path: Path, ran: dict[str, str | None], model: str | None, tp: int, precision: str | None
) -> Sequence[ServingPoint]:
    """The points of a user's file: CSV says what ran, a load generator's result must be told."""
    from infersim.calibrate.load_tests import read_load_test
    from infersim.calibrate.serving_csv import read_serving_points
    from infersim.specs.deployment import Parallelism
    from infersim.specs.library import validate as checked

    if path.suffix.lower() not in (".json", ".jsonl"):
        return read_serving_points(path)
    for name, value in ran.items():
        if value is None:
            raise SpecError(f"says what users saw, not what ran; add --{name}", file=path)
    ways = checked(Parallelism, {"tensor": tp})
    reading = read_load_test(
        path, device=str(ran["device"]), engine=str(ran["engine"]), model=model, parallelism=ways, precision=precision
    )
    for reason, count in reading.left_out.items():
        typer.echo(f"left out: {count} x {reason}", err=True)
    return reading.points


def _serving(own: Sequence[ServingPoint] | None) -> list[Comparison]:
    from infersim.calibrate.measurements import judges
    from infersim.validate.serving import compare_serving, shipped_serving_points

    points = own if own is not None else [point for point in shipped_serving_points() if judges(point)]
    with _progress("serving points", len(points)) as advance:
        return compare_serving(points, progress=advance)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error where a person watches; nothing where it is piped."""
    from rich.console import Console
    from rich.progress import Progress

    screen = Console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _print(sections: dict[str, list[Comparison]], groups: dict[str, tuple[str, ...]], worst: int) -> None:
    from infersim.cli import render
    from infersim.validate.comparison import error_line, error_table, refusals

    screen = render.console()
    for name, found in sections.items():
        lines = error_table(found, groups[name])
        screen.print(f"{MEANING[name]}", style="bold")
        table = error_screen(lines[:worst], groups[name], name)
        if len(lines) > 1 and name == "kernels":
            table.add_row("all", *_cells(error_line(("all",), found), name), style="bold")
        screen.print(table)
        if len(lines) > worst:
            screen.print(f"{len(lines) - worst} more lines (--worst {len(lines)})", style="dim")
        refused = refusals(found).most_common()
        for reason, count in refused[:REASONS]:
            screen.print(f"  not answered: {count:,} - {reason}", style="dim")
        if len(refused) > REASONS:
            rest = sum(count for _, count in refused[REASONS:])
            screen.print(f"  not answered: {rest:,} - {len(refused) - REASONS} more reasons (--json)", style="dim")
        screen.print()


def error_screen(lines: Sequence[ErrorLine], by: Sequence[str], name: str) -> Table:
    """Lines of a section as a table that 80 columns hold: long labels fold, figures never do."""
    from infersim.cli import render

    extra = ("form", "naive") if name == "kernels" else ("naive", "50%", "90%")
    figures = ("rows", "answered", "median", "mean", "p90", "bias", *extra)
    table = render.plain_table(" / ".join(by), *figures, right=range(1, len(figures) + 1))
    table.padding = (0, 1, 0, 0)
    for column in table.columns[1:]:
        column.no_wrap = True
    for line in lines:
        table.add_row(" / ".join(line.group), *_cells(line, name))
    if name == "kernels":
        table.caption, table.caption_justify = (
            "form: mean without the residual surface; naive: mean of the roofline",
            "left",
        )
    else:
        table.caption, table.caption_justify = (
            "naive: mean of the physical limit; 50%, 90%: share inside that interval",
            "left",
        )
    return table


def _cells(line: ErrorLine, name: str) -> Iterable[str]:
    yield f"{line.rows:,}"
    shares: tuple[Any, ...] = (line.answered, line.median, line.mean, line.p90)
    for value in shares:
        yield "-" if value != value else f"{value:.1%}" if value < 10 else f"{value:,.0%}"
    yield "-" if line.bias != line.bias else f"{line.bias:+.1%}" if abs(line.bias) < 10 else f"{line.bias:+,.0%}"
    rest = (
        (line.physical_mean, line.naive_mean)
        if name == "kernels"
        else (line.naive_mean, line.covered.get(50), line.covered.get(90))
    )
    for share in rest:
        yield "-" if share is None or share != share else f"{share:.0%}"
