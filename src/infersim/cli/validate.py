"""``infersim validate``: how far predictions are off on measurements that no fit saw."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.output import emit, progress, tell
from infersim.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Group

    from infersim.calibrate.measurements import ServingPoint
    from infersim.cli.listing import Listing
    from infersim.validate.comparison import Comparison, ErrorLine


class What(StrEnum):
    """Which measurements are compared."""

    all = "all"
    kernels = "kernels"
    serving = "serving"
    retrieval = "retrieval"


KERNEL_KINDS = ("gemm", "attention", "mla", "moe", "scan", "collective", "elementwise")
MODEL_KINDS = ("dense", "moe")
OWN = "Your own measurements"
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
    what: Annotated[What, typer.Argument(help="kernels, serving, both (all) or retrieval.")] = What.all,
    by: Annotated[
        list[str] | None,
        o.option(
            f"Group by this; repeat for several: {', '.join(dict.fromkeys((*KERNEL_LABELS, *SERVING_LABELS)))}.", None,
            values=complete.one_of(*dict.fromkeys((*KERNEL_LABELS, *SERVING_LABELS))),
        ),
    ] = None,
    kind: Annotated[
        str | None,
        o.option(f"Only one of {', '.join((*KERNEL_KINDS, 'dense'))}.", None, values=complete.one_of(*KERNEL_KINDS, "dense")),
    ] = None,
    device: Annotated[
        str | None,
        o.option("Only this accelerator.", None, "--gpu", "-g", "--device", values=complete.names_of("accelerators")),
    ] = None,
    engine: Annotated[str | None, o.option("Only this engine.", None, values=complete.names_of("engines"))] = None,
    every_row: Annotated[
        bool, o.option("Kernels: all rows of the installed package, not the sample (infersim[silicon]).", None, "--all")
    ] = False,
    live: Annotated[
        bool,
        o.option(
            "On this machine: quick suite, calibration, then small transformers really run (infersim[bench]); with retrieval, vector "
            "search and an embedding model (infersim[retrieval,embedding]).", None, "--live",
        ),
    ] = False,
    measured: Annotated[
        Path | None,
        o.option(
            "Your own measurements in place of those that ship: serving points (.csv), or the result (.json, .jsonl) of vllm bench "
            "serve, SGLang, guidellm or aiperf with --gpu, --engine and what else ran.", OWN, shown="FILE",
        ),
    ] = None,
    model: Annotated[
        str | None, o.option("With a result: the model, where the file does not name it.", OWN, values=complete.names_of("models"))
    ] = None,
    tp: Annotated[int, o.option("With a result: tensor parallel degree.", OWN, "--tp")] = 1,
    precision: Annotated[
        str | None, o.option("With a result: formats. Default: the checkpoint's.", OWN, values=complete.precisions)
    ] = None,
    worst: Annotated[int, o.option("Lines of each table, the worst first.", o.OUTPUT, minimum=1)] = 20,
    report: Annotated[
        Path | None, o.option("Write a report with plots: .html or .md.", o.OUTPUT, shown="FILE")
    ] = None,
    rows: Annotated[Path | None, o.option("Write every row compared as CSV.", o.OUTPUT, "--rows", shown="FILE")] = None,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:  # fmt: skip
    """Compare predictions with measurements: kernels by shape, and whole deployments.

    Errors are |predicted / measured - 1| on measurements that no fit has seen.

    Examples:

        infersim validate

        infersim validate serving --by model --by engine --report accuracy.html

        infersim validate --live

        infersim validate retrieval --live
    """
    if live:
        for option, given in (("--by", by), ("--all", every_row), ("--measured", measured), ("--report", report), ("--rows", rows),
                              ("--kind", kind), ("--gpu", device), ("--engine", engine)):  # fmt: skip
            if given:
                raise SpecError("does not go with --live, which compares this machine's own steps", field=option)
        (_retrieval if what == What.retrieval else _live)(as_json, as_csv, live=True)
        return
    if what == What.retrieval:
        for option, given in (("--by", by), ("--all", every_row), ("--measured", measured), ("--report", report), ("--rows", rows),
                              ("--kind", kind), ("--gpu", device), ("--engine", engine)):  # fmt: skip
            if given:
                raise SpecError("does not go with retrieval, which has one table", field=option)
        _retrieval(as_json, as_csv, live=False)
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
    answer = {
        name: {"by": list(groups[name]), "lines": [line.to_dict() for line in error_table(found, groups[name])],
               "refused": dict(refusals(found))}
        for name, found in sections.items()
    }  # fmt: skip
    lines = [{"what": name} | line for name, section in answer.items() for line in section["lines"]]  # type: ignore[attr-defined]
    some = {name: found for name, found in sections.items() if found}
    emit(answer, lambda: _screen(some, groups, worst), as_json=as_json, as_csv=as_csv, rows=lines)
    if rows is not None:
        write_rows(rows, (one for found in sections.values() for one in found))
        tell(f"rows written to {rows}")
    if report is not None:
        from infersim.validate.report import write_report

        write_report(report, some)
        tell(f"report written to {report}")


def _kind(given: str) -> str:
    """The kind of kernel or model that was meant; experts are both."""
    known = tuple(dict.fromkeys((*KERNEL_KINDS, *MODEL_KINDS)))
    if given.lower() not in known:
        raise SpecError(f"no kind is called {given!r}; {did_you_mean(given, known)}", field="--kind")
    return given.lower()


def _retrieval(as_json: bool, as_csv: bool, *, live: bool) -> None:
    """Vector search and an embedding model: on this machine, or on the measurements that ship."""
    from infersim.errors import UnsupportedError
    from infersim.validate import embedding, search

    if live:
        with progress("vector search") as advance:
            found = search.run_search(progress=advance)
    else:
        found = search.shipped_report()
    answer, text, model = found.to_dict(), str(found), None
    try:
        if live:
            with progress("embedding model") as advance:
                model = embedding.run_embedding(progress=advance)
        else:
            model = embedding.shipped_report()
    except UnsupportedError as error:
        tell(f"left out: embedding model: {error}")
    if model is not None:
        answer |= {"embedding": model.to_dict()}
        text = f"{text}\n\n{model}"
    emit(answer, lambda: text, as_json=as_json, as_csv=as_csv, rows=answer["rows"])


def _live(as_json: bool, as_csv: bool, *, live: bool = True) -> None:
    from infersim.validate.live import run_live

    with progress("live validation") as advance:
        found = run_live(progress=advance)
    answer = found.to_dict()
    emit(answer, lambda: str(found), as_json=as_json, as_csv=as_csv, rows=answer["rows"])


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
    both = [(name, engine) for name in FOLDERS for engine in ENGINES]
    with progress("kernels") as advance:
        for done, (name, engine) in enumerate(both):
            advance(done, len(both), f"{name} {engine}")
            found += compare_kernels(device_tables(name, engine)[0])
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
            raise SpecError(
                f"says what users saw, not what ran; add --{'gpu' if name == 'device' else name}", file=path
            )
    ways = checked(Parallelism, {"tensor": tp})
    reading = read_load_test(
        path, device=str(ran["device"]), engine=str(ran["engine"]), model=model, parallelism=ways, precision=precision
    )
    for reason, count in reading.left_out.items():
        tell(f"left out: {count} x {reason}")
    return reading.points


def _serving(own: Sequence[ServingPoint] | None) -> list[Comparison]:
    from infersim.calibrate.measurements import judges
    from infersim.validate.serving import compare_serving, shipped_serving_points

    points = own if own is not None else [point for point in shipped_serving_points() if judges(point)]
    done = itertools.count(1)
    with progress("serving points") as advance:
        return compare_serving(points, progress=lambda: advance(next(done), len(points)))


def _screen(sections: dict[str, list[Comparison]], groups: dict[str, tuple[str, ...]], worst: int) -> Group:
    from rich.console import Group
    from rich.text import Text

    from infersim.validate.comparison import error_line, error_table, refusals

    parts: list[Any] = []
    for name, found in sections.items():
        lines = error_table(found, groups[name])
        table = error_screen(lines[:worst], groups[name], name)
        if len(lines) > 1 and name == "kernels":
            table.add("all", *_cells(error_line(("all",), found), name), style="bold")
        parts += [Text(MEANING[name], style="bold"), table]
        if len(lines) > worst:
            parts.append(Text(f"{len(lines) - worst} more lines (--worst {len(lines)})", style="dim"))
        refused = refusals(found).most_common()
        parts += [Text(f"  not answered: {count:,} - {reason}", style="dim") for reason, count in refused[:REASONS]]
        if len(refused) > REASONS:
            rest = sum(count for _, count in refused[REASONS:])
            parts.append(
                Text(f"  not answered: {rest:,} - {len(refused) - REASONS} more reasons (--json)", style="dim")
            )
        parts.append(Text())
    return Group(*parts)


def error_screen(lines: Sequence[ErrorLine], by: Sequence[str], name: str) -> Listing:
    """Lines of a section, under each other whatever their labels' lengths."""
    from infersim.cli.listing import Listing

    extra = ("form", "naive") if name == "kernels" else ("naive", "50%", "90%")
    figures = ("rows", "answered", "median", "mean", "p90", "bias", *extra)
    table = Listing(
        " / ".join(by), *figures, right=range(1, len(figures) + 1),
        caption="form: mean without the residual surface; naive: mean of the roofline" if name == "kernels"
        else "naive: mean of the physical limit; 50%, 90%: share inside that interval",
    )  # fmt: skip
    for line in lines:
        table.add(" / ".join(line.group), *_cells(line, name))
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
