"""Calibrate from a result file of ``infersim bench``: measured rates of the device, kernel parameters, an engine.

Few points and all of them this machine's own: every row is fitted, and the errors reported are those of cross-validation,
whole shapes left out in turn. The physical forms are those of every other calibration; a surface lies on top.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from infersim.calibrate.fit import Spread, fit_parameters, spread
from infersim.calibrate.measurements import KernelTable, Kind, shape_hash
from infersim.calibrate.own_device import accelerator_of, engine_of
from infersim.calibrate.sections import Section, section_key
from infersim.calibrate.surface import fit_surface, knots_for
from infersim.calibrate.write import write_calibration
from infersim.files import safe_file_name, write_text
from infersim.machine.calibration import LIBRARIES
from infersim.machine.kernels.attention import (
    ATTENTION_AXES,
    CHOICES,
    AttentionParameters,
    attention_axes,
    attention_time,
)
from infersim.machine.kernels.collective import COLLECTIVE_AXES, PCIE, collective_time
from infersim.machine.kernels.elementwise import ElementwiseParameters, elementwise_time
from infersim.machine.kernels.gemm import GemmParameters, gemm_time
from infersim.machine.machine import rates_of
from infersim.machine.network import Path as LinkPath
from infersim.machine.surface import AnySurface
from infersim.microbench.cases import Attention, Collective, Gemm, Pass, Stream
from infersim.microbench.results import Measured, Results
from infersim.specs.engine import EngineSpec
from infersim.specs.hardware import Accelerator, MatrixUnit
from infersim.specs.precision import FORMATS

Array = npt.NDArray[np.float64]
Shape = Mapping[str, Array]

FOLDS = 5
"""Parts that the shapes of a table are dealt into for cross-validation."""

LEAST_ROWS = 4
"""A table with fewer rows is left out."""

LEAST_SPREAD = 0.05
"""Log spread of a section at least: what a quiet repeat of a measurement moves by."""

RIDGES = (0.01, 0.05, 0.3)
"""Strengths of a surface's ridge and smoothness that cross-validation chooses among."""


@dataclass(frozen=True)
class Own:
    """What a result file says about a device: its spec, an engine that runs as the suite did, kernel sections."""

    accelerator: Accelerator
    engine: EngineSpec
    sections: tuple[Section, ...]
    left_out: Mapping[str, int]
    known: bool
    """The device has a data sheet on file; its spec is not written again."""
    date: str


@dataclass(frozen=True)
class _Form:
    time: Callable[[Shape, Any], Array]
    start: Any
    hold: tuple[str, ...]
    axes: tuple[str, ...]
    place: Callable[[Shape], Sequence[Array]]
    knots: tuple[int, ...]
    fold_by: tuple[str, ...]
    """Columns that make up a shape; rows of one shape are left out together."""


def calibrate_own(results: Results, *, device: str | None = None, engine: str | None = None) -> Own:
    """Fit everything a result file holds. ``device`` names the accelerator spec it was taken on, where there is one;
    ``engine`` the engine whose predictions should use it, else the library's own name.

    Raises SpecError where the file holds no product that was timed.
    """
    measured = results.measured()
    accelerator, known = accelerator_of(results, device)
    spec = engine_of(results, engine or results.backend)
    left: Counter[str] = Counter({f"could not run: {reason}": 1 for reason in results.failed.values()})
    sections = []
    for table in tables_of(results, accelerator.name, spec.name):
        form = _form(table, accelerator)
        if form is None or len(table) < LEAST_ROWS:
            left[f"{table.kind} {table.kernel}: " + ("too few rows" if form else "no link stated")] += len(table)
            continue
        sections.append(fit_own(table, form))
    for entry in measured:
        if isinstance(entry.case, Gemm) and not entry.case.cold:
            left["gemm: weights left in the cache, shown for comparison"] += 1
    sections.sort(key=lambda section: (section.kind, section.key))
    return Own(accelerator, spec, tuple(sections), +left, known, str(results.environment.get("date", ""))[:10])


def tables_of(results: Results, device: str, engine: str) -> list[KernelTable]:
    """The rows as kernel tables: one per kind, number format and kernel. Seconds are per kernel of an op."""
    groups: dict[tuple[Kind, str, str], list[tuple[dict[str, float], float]]] = defaultdict(list)
    for entry in results.measured():
        kind, name, kernel, shape, seconds = _entry(entry)
        if kind is not None:
            groups[kind, name, kernel].append((shape, seconds))
    source = f"infersim bench, {results.backend} {results.version}, {str(results.environment.get('date', ''))[:10]}"
    tables = []
    for (kind, name, kernel), rows in groups.items():
        columns = {column: np.array([shape[column] for shape, _ in rows], dtype=float) for column in rows[0][0]}
        roles = ("weights", "activations", "kv_cache")
        tables.append(
            KernelTable(
                kind, device, engine, results.version, dict.fromkeys(roles, name), kernel, columns,
                np.array([seconds for _, seconds in rows]), source,
            )
        )  # fmt: skip
    return tables


def _entry(entry: Measured) -> tuple[Kind | None, str, str, dict[str, float], float]:
    """(kind or None where no table takes it, format, kernel, shape, seconds of one kernel)."""
    case, seconds = entry.case, entry.seconds
    if isinstance(case, Gemm):
        return ("gemm" if case.cold else None), case.format, "", {"m": case.m, "n": case.n, "k": case.k}, seconds
    if isinstance(case, Attention):
        shape = {"count": case.count, "new": case.new, "cached": case.cached, "heads": case.heads,
                 "kv_heads": case.kv_heads, "head_dim": case.head_dim}  # fmt: skip
        return "attention", case.format, case.phase, cast("dict[str, float]", shape), seconds
    if isinstance(case, Pass):
        return "elementwise", case.format, case.op, {"bytes": case.moved / case.kernels}, seconds / case.kernels
    if isinstance(case, Stream):
        large = {"bytes": float(case.bytes)}
        return "elementwise", "fp32", "copy" if case.pattern == "copy" else "read", large, seconds
    if isinstance(case, Collective):
        return "collective", "", case.name, {"payload": case.payload, "devices": case.devices}, seconds
    return None, "", "", {}, seconds


def _form(table: KernelTable, accelerator: Accelerator) -> _Form | None:
    """How a table is fitted; None for collectives of a device that states no link."""
    name = table.formats["weights"]
    if table.kind == "gemm":
        element, rates = FORMATS[name].bytes, rates_of(accelerator, _unit(name, accelerator))

        def product(s: Shape, p: Any) -> Array:
            found: Array = gemm_time(
                s["m"], s["n"], s["k"], weight_bytes=element, activation_bytes=element, output_bytes=element, rates=rates,
                parameters=p,
            )  # fmt: skip
            return found

        cpu = accelerator.kind == "cpu"
        hold = ("input_pass", "cache_gain", "copies", "padding", *(("waves",) if cpu else ()))
        start = GemmParameters(padding=0.0, waves=0.0) if cpu else GemmParameters()
        return _Form(product, start, hold, ("m", "n", "k"), lambda s: (s["m"], s["n"], s["k"]), (10, 5, 4), ("n", "k"))
    if table.kind == "attention":
        element, rates = FORMATS[name].bytes, rates_of(accelerator, _unit(name, accelerator))

        def attention(s: Shape, p: Any) -> Array:
            found: Array = attention_time(
                s["count"], s["new"], s["cached"], heads=s["heads"], kv_heads=s["kv_heads"], key_dim=s["head_dim"],
                value_dim=s["head_dim"], q_bytes=element, kv_bytes=element, rates=rates, parameters=p,
                decode=table.kernel == "decode",
            )  # fmt: skip
            return found

        def where(s: Shape) -> Sequence[Array]:
            return attention_axes(
                s["count"],
                s["new"],
                s["cached"],
                s["heads"],
                s["kv_heads"],
                s["head_dim"],
                decode=table.kernel == "decode",
            )

        start_at = AttentionParameters(rows=1.0 if accelerator.kind == "cpu" else 16.0)
        return _Form(
            attention, start_at, ("cache_gain", *CHOICES), ATTENTION_AXES, where, (6, 4, 2, 2), tuple(table.shape)
        )
    if table.kind == "elementwise":
        rates = rates_of(accelerator, next(iter(accelerator.peak_flops)))

        def moving(s: Shape, p: Any) -> Array:
            found: Array = elementwise_time(s["bytes"], rates=rates, parameters=p)
            return found

        return _Form(moving, ElementwiseParameters(), (), ("bytes",), lambda s: (s["bytes"],), (8,), ("bytes",))
    link = accelerator.scale_up or accelerator.host_link
    if link is None:
        return None

    def communication(s: Shape, p: Any) -> Array:
        found: Array = np.asarray(
            collective_time(cast("Any", table.kernel), s["payload"], LinkPath(int(s["devices"][0]), 1, link, None), p)
        )
        return found

    keep = ("limit", "own_devices", "node_hop", "node_efficiency")
    return _Form(
        communication,
        replace(PCIE, limit=1.0, own_devices=1.0),
        keep,
        COLLECTIVE_AXES,
        lambda s: (s["payload"], s["devices"]),
        (6, 2),
        ("payload",),
    )


def _unit(name: str, accelerator: Accelerator) -> MatrixUnit:
    unit = FORMATS[name].unit
    return unit if unit in accelerator.peak_flops else next(iter(accelerator.peak_flops))


def fit_own(table: KernelTable, form: _Form) -> Section:
    """The section of a table: physical form and surface fitted to every row, errors cross-validated."""
    folds = shape_hash({column: table.shape[column] for column in form.fold_by}) % np.uint64(FOLDS)
    knots = [
        knots_for(size, max(2, min(count, len(np.unique(size)))))
        for size, count in zip(form.place(table.shape), form.knots, strict=True)
    ]
    plain, corrected = np.zeros(len(table)), {ridge: np.zeros(len(table)) for ridge in RIDGES}
    for fold in sorted(set(folds.tolist())):
        out = folds == fold
        if out.all():
            continue
        seen, unseen = table.take(~out), table.take(out)
        parameters = _physical(seen, form)
        plain[out] = form.time(unseen.shape, parameters)
        for ridge in RIDGES:
            factor = np.exp(_surface(seen, form, parameters, knots, ridge).at(*form.place(unseen.shape)))
            corrected[ridge][out] = plain[out] * factor
    judged = plain > 0
    errors = {
        ridge: spread(found[judged], table.seconds[judged]) if judged.any() else _unjudged()
        for ridge, found in corrected.items()
    }
    best = min(RIDGES, key=lambda ridge: errors[ridge].mean)
    physical = spread(plain[judged], table.seconds[judged]) if judged.any() else _unjudged()
    parameters = _physical(table, form)
    surface = _surface(table, form, parameters, knots, best)
    final = replace(errors[best], log_sd=max(errors[best].log_sd, LEAST_SPREAD))
    return Section(
        table.device, table.engine, table.kind, section_key(table), parameters, surface, len(table), physical, final,
        table.source,
    )  # fmt: skip


def _unjudged() -> Spread:
    """Errors where all rows are of one shape, so that none can be left out: taken as large."""
    return Spread(0, 0.5, 0.5, 0.5, 0.0, 0.5)


def _physical(table: KernelTable, form: _Form) -> Any:
    return fit_parameters(
        form.time, form.start, table.shape, table.seconds, hold=form.hold, prior=0.05, evaluations=40
    ).parameters


def _surface(table: KernelTable, form: _Form, parameters: Any, knots: Sequence[Array], ridge: float) -> AnySurface:
    log_error = np.log(table.seconds / form.time(table.shape, parameters))
    return fit_surface(form.axes, knots, tuple(form.place(table.shape)), log_error, ridge=ridge, smooth=ridge)


def write_own(folder: Path, own: Own) -> list[Path]:
    """Write specs and calibration into a folder that ``--specs`` takes; returns the files."""
    import yaml

    specs: list[tuple[str, EngineSpec | Accelerator]] = []
    if own.engine.name in LIBRARIES:  # other engines have a spec of their own
        specs.append(("engines", own.engine))
    if not own.known:
        specs.append(("accelerators", own.accelerator))
    written = []
    for kind, spec in specs:
        path = folder / kind / safe_file_name(f"{spec.name}.yaml")
        plain = spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        write_text(path, yaml.safe_dump(plain, sort_keys=False, width=120))
        written.append(path)
    target = folder / "calibrations"
    target.mkdir(parents=True, exist_ok=True)
    written.append(
        write_calibration(
            target, own.accelerator.name, own.engine.name, own.sections, Counter(own.left_out), date=own.date,
            data="infersim bench on this device",
            split=f"every row was fitted; the errors are of {FOLDS}-fold cross-validation, whole shapes left out",
        )
    )  # fmt: skip
    return written
