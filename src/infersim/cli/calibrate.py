"""``infersim calibrate``: kernel models fitted to measurements."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.output import PIPED_WIDTH, emit, tell
from infersim.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from infersim.calibrate.sections import Section
    from infersim.microbench.results import Results


def calibrate(
    source: Annotated[
        Path | None, o.option("Result file of `infersim bench`: calibrate this machine from it.", None, "--from")
    ] = None,
    out: Annotated[
        Path | None, o.option("Folder written to. Default: calibrations, or own_specs with --from.", o.OUTPUT)
    ] = None,
    device: Annotated[
        list[str] | None,
        o.option("Only these accelerators; repeat or separate by commas.", None, "--gpu", "-g", "--device",
                 values=complete.names_of("accelerators")),
    ] = None,
    engine: Annotated[
        list[str] | None,
        o.option("Only these engines; repeat or separate by commas.", None, "--engine", values=complete.names_of("engines")),
    ] = None,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:  # fmt: skip
    """Fit the kernel models to measurements and write calibration files.

    With --from: to the result file of `infersim bench`, into a folder that --specs takes as it is. Without: to the measurements
    of the aiconfigurator-core package (extra ``infersim[silicon]``); put that folder as ``calibrations/`` into one given by --specs.

    Examples:

        infersim calibrate --from bench.jsonl --out own_specs

        infersim calibrate --gpu H100-SXM --engine vllm --out calibrations
    """
    devices = o.by_commas(device) if device else []
    engines = o.by_commas(engine, "--engine", "engine") if engine else []
    if source is not None:
        _own(source, out or Path("own_specs"), devices, engines, as_json, as_csv)
    else:
        _silicon(out or Path("calibrations"), devices, engines, as_json, as_csv)


def _own(source: Path, out: Path, devices: list[str], engines: list[str], as_json: bool, as_csv: bool) -> None:
    """Specs and calibration of a result file, in a folder for --specs."""
    from infersim.calibrate.own_suite import calibrate_own, write_own
    from infersim.cli.listing import Listing
    from infersim.microbench.results import read_results

    if len(devices) > 1 or len(engines) > 1:
        raise SpecError(
            "one result file is of one device and one engine", field="--gpu" if len(devices) > 1 else "--engine"
        )
    results = read_results(source)
    if results.backend == "faiss":
        _own_search(results, out, devices, engines, as_json, as_csv)
        return
    own = calibrate_own(results, device=next(iter(devices), None), engine=next(iter(engines), None))
    written = write_own(out, own)
    sections = [_figures(section) for section in own.sections]
    answer = {
        "accelerator": own.accelerator.name, "engine": own.engine.name, "files": [str(path) for path in written],
        "sections": sections, "left_out": dict(own.left_out),
    }  # fmt: skip

    def text() -> str:
        lines = [f"wrote {path}" for path in written]
        listing = Listing(
            "kernel, key", "rows", "median", right=(1, 2), caption="median: error of the median row, cross-validated"
        )
        for section in own.sections:
            median = "-" if math.isnan(section.final.p50) else f"{section.final.p50:.1%}"
            listing.add(f"{section.kind} {section.key}", f"{section.rows:,}", median)
        lines += [line.plain for line in listing.lines(PIPED_WIDTH)]
        for reason, count in sorted(own.left_out.items()):
            lines += textwrap.wrap(f"left out: {count} x {reason}", PIPED_WIDTH, subsequent_indent="  ")
        said = f"--gpu {own.accelerator.name} --engine {own.engine.name}"
        return "\n".join([*lines, f"use it: infersim --specs {out} estimate MODEL {said}"])

    emit(answer, text, as_json=as_json, as_csv=as_csv, rows=sections)


def _own_search(
    results: Results, out: Path, devices: list[str], engines: list[str], as_json: bool, as_csv: bool
) -> None:
    """Search rates of a result file of vector search, in a folder for --specs."""
    from infersim.calibrate.own_search import calibrate_search, write_rates

    if engines:
        raise SpecError(f"vector search is of {results.backend}, not of an inference engine", field="--engine")
    rates = calibrate_search(results, name=next(iter(devices), None))
    path = write_rates(out, rates)
    kinds = [{"index": kind, "rows": found["rows"], "mean_error": found["mean"], "median_error": found["p50"]}
             for kind, found in rates.errors.items()]  # fmt: skip

    def text() -> str:
        lines = [
            f"{row['index']:<12}{row['rows']:>4} rows, {row['median_error']:6.1%} off in the median" for row in kinds
        ]
        said = f"use it: index: {{rates: {rates.name}}} in a retrieval spec, and --specs {out}"
        return "\n".join([f"wrote {path}", *lines, said])

    answer = {"search_rates": rates.name, "files": [str(path)], "indexes": kinds}
    emit(answer, text, as_json=as_json, as_csv=as_csv, rows=kinds)


def _silicon(out: Path, chosen: list[str], engines: list[str], as_json: bool, as_csv: bool) -> None:
    """Calibrations of the measurements of aiconfigurator-core."""
    from datetime import UTC, datetime

    from infersim.calibrate.silicon_more import FOLDERS
    from infersim.calibrate.write import calibrate as fit
    from infersim.machine.calibration import ENGINES
    from infersim.specs.library import load_accelerator

    devices = [load_accelerator(name).name for name in chosen or FOLDERS]
    for found in devices:
        if found not in FOLDERS:
            raise SpecError(f"{found} has not been measured; {did_you_mean(found, FOLDERS)}", field="--gpu")
    for found in engines:
        if found not in ENGINES:
            raise SpecError(f"no measurements under {found!r}; {did_you_mean(found, ENGINES)}", field="--engine")
    today = datetime.now(UTC).date().isoformat()
    whole = devices if chosen else None  # all of them: then also what stands in for the devices that were not measured
    sections = fit(out, whole, engines or ENGINES, date=today, progress=tell)
    rows = [{"accelerator": section.device, "engine": section.engine} | _figures(section) for section in sections]
    answer = {"folder": str(out), "sections": rows}
    emit(answer, lambda: f"{len(sections)} sections written to {out}", as_json=as_json, as_csv=as_csv, rows=rows)


def _figures(section: Section) -> dict[str, Any]:
    """What was fitted, to how much, and how far it is off on rows that the fit did not see."""
    error = section.final
    return {"kind": section.kind, "key": section.key, "rows": section.rows, "test_rows": error.rows, "mean_error": error.mean,
            "median_error": error.p50}  # fmt: skip
