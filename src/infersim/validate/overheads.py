"""Fit an engine's overheads to measured serving points: host time per step, sequence and request, and gaps between kernels.

Only points whose hash lets a fit see them are used; the kernel models stay as they are. TPOT fixes what a step costs, TTFT what a
request costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.calibrate.fit import Fit, fit_parameters
from infersim.calibrate.measurements import ServingPoint, judges
from infersim.errors import InferSimError
from infersim.files import write_text
from infersim.machine.kernels.base import parameter
from infersim.specs.engine import EngineSpec
from infersim.specs.library import load_engine
from infersim.validate.serving import predict_point

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Overheads:
    """What an engine adds to the kernels, beyond what a step hides."""

    step: float = parameter(5e-4, 1e-5, 2e-2, "host work of a step, hidden behind the device", unit="s", log=True)
    sequence: float = parameter(3e-6, 1e-7, 3e-4, "host work of a sequence in it, hidden too", unit="s", log=True)
    sync: float = parameter(2e-4, 1e-5, 1e-2, "host work of a step that always shows", unit="s", log=True)
    sync_sequence: float = parameter(
        1e-6, 1e-8, 3e-4, "host work of a sequence in it that always shows", unit="s", log=True
    )
    request: float = parameter(4e-3, 1e-4, 3e-1, "host work of a request before its first token", unit="s", log=True)
    token: float = parameter(2.2e-6, 1e-7, 3e-5, "host work of a prompt token", unit="s", log=True)
    prompt_layer: float = parameter(
        2e-4, 1e-6, 2e-2, "submitting a layer of a step that carries prompts", unit="s", log=True
    )
    prompt_expert_layer: float = parameter(1e-4, 1e-6, 2e-2, "what a layer of experts takes on top", unit="s", log=True)
    launch_gap: float = parameter(
        6e-7, 1e-8, 5e-6, "idle device time between two kernels of a graph", unit="s", log=True
    )


def with_overheads(engine: EngineSpec, overheads: Overheads) -> EngineSpec:
    """The engine with these overheads in place of its own."""
    host = {f.name: getattr(overheads, f.name) for f in fields(overheads) if f.name != "launch_gap"}
    return engine.model_copy(update={"host": engine.host.model_copy(update=host), "launch_gap": overheads.launch_gap})


def fit_overheads(engine: EngineSpec, points: Iterable[ServingPoint]) -> Fit[Overheads]:
    """Overheads that best explain TTFT and TPOT of the engine's points on the fitting side of the split."""
    seen: list[ServingPoint] = []
    for point in points:
        if point.engine != engine.name or judges(point) or not {"ttft", "tpot"} <= set(point.metrics):
            continue
        try:
            predict_point(point, engine=engine)
        except InferSimError:
            continue
        seen.append(point)

    def time(shape: Mapping[str, Array], overheads: Overheads) -> Array:
        """Predicted TPOT where ``metric`` is 0, TTFT where it is 1."""
        changed = with_overheads(engine, overheads)
        rows = shape["row"].astype(int)
        answers = {row: predict_point(seen[row], engine=changed) for row in set(rows.tolist())}
        both = [
            (answers[row].tpot, answers[row].ttft)[int(metric)]
            for row, metric in zip(rows, shape["metric"], strict=True)
        ]
        return np.array(both)

    count = len(seen)
    shape = {"row": np.tile(np.arange(count, dtype=float), 2), "metric": np.repeat([0.0, 1.0], count)}
    seconds = np.array([point.metrics["tpot"] for point in seen] + [point.metrics["ttft"] for point in seen])
    host = engine.host
    start = Overheads(
        step=host.step, sequence=host.sequence, sync=host.sync, sync_sequence=max(host.sync_sequence, 1e-6), request=host.request,
        token=host.token, launch_gap=engine.launch_gap,
    )  # fmt: skip
    busy = replace(start, step=3e-3, sequence=4e-5, sync_sequence=1e-6)  # a host that short steps wait for
    fits = [
        fit_parameters(time, begin, shape, seconds, rows=2 * count, scale=0.1, prior=0.3, evaluations=16)
        for begin in (start, busy)
    ]
    return min(fits, key=lambda one: one.cost)


def write_overheads(path: Path, engine: str, fit: Fit[Overheads], *, date: str, source: str) -> None:
    """Write fitted overheads as a file that ``load_engine`` lays over the engine's own."""
    values: Any = fit.parameters
    host = [f"  {f.name}: {getattr(values, f.name):.3g} s" for f in fields(values) if f.name != "launch_gap"]
    names = ", ".join(f"host.{f.name}" for f in fields(values) if f.name != "launch_gap")
    text = "\n".join(
        [f"# Overheads of {engine}, fitted to measured serving points. Made by benchmarks/fit_overheads.py; do not edit.",
         "host:", *host, f"launch_gap: {values.launch_gap:.3g} s", "sources:", f"  - of: [{names}, launch_gap]",
         f"    ref: {source}", "    status: fitted",
         f"    note: {fit.rows // 2} points on the fitting side of the split, {date}", ""]
    )  # fmt: skip
    write_text(path, text)


def fit_all(points: Sequence[ServingPoint], folder: Path, *, date: str, source: str) -> dict[str, Fit[Overheads]]:
    """Fit and write the overheads of every engine that has points."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in sorted({point.engine for point in points}):
        found[name] = fit_overheads(load_engine(name), points)
        write_overheads(folder / f"{name}.yaml", name, found[name], date=date, source=source)
    return found
