"""Close the loop on the machine at hand: time its kernels, calibrate, then run small transformers and compare.

Nothing measured of the transformers enters the calibration. Suite and transformers take turns, so that both meet the
same machine: the least of the rounds' medians stands for either.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from infersim.calibrate.fit import Spread, spread
from infersim.calibrate.own_suite import Own, calibrate_own, write_own
from infersim.errors import SpecError
from infersim.machine.calibration import Calibration
from infersim.machine.machine import Machine
from infersim.machine.network import placement
from infersim.microbench.backends import Prepared
from infersim.microbench.cases import SetName
from infersim.microbench.environment import last_level_cache
from infersim.microbench.results import read_results
from infersim.microbench.suite import ROUNDS, open_backend, run_suite
from infersim.microbench.timing import measure
from infersim.ops.transformer import decode, prefill
from infersim.predict.step import StepTime, predict_step
from infersim.specs.deployment import Parallelism
from infersim.specs.huggingface import load_model
from infersim.specs.model import ModelSpec
from infersim.specs.precision import FORMATS, precision
from infersim.units import show
from infersim.validate.decoder import SHAPES, Decoder, DecoderShape, write_config

Phase = Literal["prefill", "decode"]

STEPS: tuple[tuple[Phase, int, int], ...] = (
    ("prefill", 1, 48), ("prefill", 1, 160), ("prefill", 1, 512), ("prefill", 4, 96),
    ("decode", 1, 100), ("decode", 1, 1000), ("decode", 4, 300), ("decode", 12, 500),
)  # fmt: skip
"""(phase, sequences, tokens): prompts of that many tokens, or one more token behind as many. Most are sizes that the suite
does not measure."""

TARGET = 0.2
"""Seconds of samples of one step in one round."""


@dataclass(frozen=True)
class LiveRow:
    """One step of one transformer: measured, predicted, and what the prediction says it is made of."""

    model: str
    parameters: int
    phase: Phase
    sequences: int
    tokens: int
    measured: float
    """Least of the rounds' medians [s]."""
    noise: float
    """Largest of the rounds' medians over the least, less one."""
    predicted: float
    log_spread: float
    """Standard deviation of the log error that the calibration claims."""
    parts: tuple[tuple[str, float], ...]
    """Predicted seconds by op, the longest first."""

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class LiveReport:
    """A live validation: the device, the calibration it used, and every row."""

    own: Own
    suite_cases: int
    format: str
    rows: tuple[LiveRow, ...]

    def errors(self, phase: Phase | None = None) -> Spread:
        """Median, mean and 90th percentile of |error|, and bias, over all rows or those of a phase."""
        chosen = [row for row in self.rows if phase in (None, row.phase)]
        return spread(np.array([row.predicted for row in chosen]), np.array([row.measured for row in chosen]))

    @property
    def covered(self) -> float:
        """Share of rows whose measured time lies in the claimed 90% interval."""
        inside = [abs(np.log(row.predicted / row.measured)) <= 1.645 * row.log_spread for row in self.rows]
        return float(np.mean(inside))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; times in seconds."""
        rows = []
        for row in self.rows:
            record = asdict(row)
            record |= {f"{name}_s": record.pop(name) for name in ("measured", "predicted")} | {"error": row.error}
            rows.append(record | {"parts": {f"{name}_s": seconds for name, seconds in row.parts}})
        return {
            "device": self.own.accelerator.name,
            "engine": f"{self.own.engine.name} {self.own.engine.version}",
            "format": self.format,
            "suite_cases": self.suite_cases,
            "errors": asdict(self.errors()),
            "errors_by_phase": {
                phase: asdict(self.errors(phase)) for phase in sorted({row.phase for row in self.rows})
            },
            "covered_90": self.covered,
            "rows": rows,
        }

    def __str__(self) -> str:
        head = f"{self.own.accelerator.name}, {self.own.engine.name} {self.own.engine.version}, {self.format}"
        lines = [f"{head}: calibrated from {self.suite_cases} microbenchmarks, none of the steps below among them", ""]
        lines.append(
            f"{'model':<24}{'phase':<9}{'batch':>5}{'tokens':>7}{'predicted':>11}{'measured':>11}{'error':>8}{'noise':>7}"
        )
        lines += [
            f"{row.model:<24}{row.phase:<9}{row.sequences:>5}{row.tokens:>7}{show(row.predicted, 's'):>11}"
            f"{show(row.measured, 's'):>11}{row.error:>+8.1%}{row.noise:>7.0%}"
            for row in self.rows
        ]
        lines.append("")
        for phase in (*sorted({row.phase for row in self.rows}), None):
            found = self.errors(phase)
            lines.append(
                f"{phase or 'all':<9}{found.rows:>3} steps   median {found.p50:.1%}   mean {found.mean:.1%}   "
                f"90th percentile {found.p90:.1%}   bias {found.bias:+.1%}"
            )
        lines.append(f"{self.covered:.0%} of the steps lie in the 90% interval that the calibration claims")
        return "\n".join(lines)


def run_live(
    *,
    device: str = "auto",
    which: SetName = "quick",
    threads: int | None = None,
    results: Path | None = None,
    specs: Path | None = None,
    shapes: Sequence[DecoderShape] = SHAPES,
    steps: Sequence[tuple[Phase, int, int]] = STEPS,
    rounds: int | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> LiveReport:
    """Suite, calibration, transformers, comparison. ``results`` keeps the suite's file (one that is complete is not run
    again), ``specs`` the calibration's folder; both are thrown away otherwise.

    Raises UnsupportedError naming the extra where PyTorch is not installed, SpecError without a shape or a step.
    """
    if not shapes or not steps:
        raise SpecError("at least one model shape and one step are needed", field="shapes" if not shapes else "steps")
    backend = open_backend("torch", device, threads)
    turns, number_format = rounds or ROUNDS[which], backend.formats[0]
    with tempfile.TemporaryDirectory() as scratch:
        file, folder = results or Path(scratch) / "bench.jsonl", specs or Path(scratch) / "specs"
        models = _models(Path(scratch), shapes, steps, backend.device, number_format)
        times: dict[tuple[str, Phase, int, int], list[float]] = defaultdict(list)
        for turn in range(turns):
            run = run_suite(backend, file, which=which, rounds=turn + 1, threads=threads, progress=progress)
            if run.interrupted:
                raise KeyboardInterrupt
            for place, (shape, layers, _) in enumerate(models):
                for key, seconds in _measured(backend, shape, layers, steps, number_format):
                    times[key].append(seconds)
                progress(turn * len(models) + place + 1, turns * len(models), shape.name)
        own = calibrate_own(read_results(file))
        write_own(folder, own)
        machine = machine_of(own, folder)
        rows = tuple(
            _row(shape, spec, phase, count, tokens, times[shape.name, phase, count, tokens], machine, number_format)
            for shape, _, spec in models
            for phase, count, tokens in steps
        )
    return LiveReport(own, sum(section.rows for section in own.sections), number_format, rows)


def machine_of(own: Own, folder: Path) -> Machine:
    """The measured device under the measured engine, with the calibration in ``folder``."""
    calibration = Calibration(
        own.accelerator.name, own.accelerator.architecture, own.engine.name, folders=(folder / "calibrations",)
    )
    return Machine(own.accelerator, None, own.engine, "calibrated", placement(own.accelerator, None, 1), calibration)


def _length(steps: Sequence[tuple[Phase, int, int]]) -> int:
    return max(tokens for _, _, tokens in steps) + 1


def _models(
    scratch: Path,
    shapes: Sequence[DecoderShape],
    steps: Sequence[tuple[Phase, int, int]],
    device: str,
    number_format: str,
) -> list[tuple[DecoderShape, int, ModelSpec]]:
    """Every shape with its depth here, and its spec as the reader makes it from a ``config.json``."""
    found = []
    for shape in shapes:
        layers = shape.layers(last_level_cache(device), FORMATS[number_format].bytes)
        found.append((shape, layers, load_model(write_config(scratch, shape, layers, _length(steps)))))
    return found


def _measured(
    backend: Any, shape: DecoderShape, layers: int, steps: Sequence[tuple[Phase, int, int]], number_format: str
) -> list[tuple[tuple[str, Phase, int, int], float]]:
    """Median seconds of every step of one decoder, in one round."""
    torch = backend.torch
    found = []
    with torch.inference_mode():
        batch = max(count for _, count, _ in steps)
        decoder = Decoder(
            shape, layers, batch, _length(steps), dtype=backend.dtypes[number_format], device=backend.device
        )
        for phase, count, tokens in steps:
            new, start = (tokens, 0) if phase == "prefill" else (1, tokens)
            ids = torch.randint(shape.vocabulary, (count, new), device=backend.device)
            view = decoder.of(count)
            prepared = Prepared(lambda number, view=view, ids=ids, start=start: view.step(ids, start))  # type: ignore[misc]
            timing = measure(lambda calls, p=prepared: backend.time(p, calls), target=TARGET, samples=(3, 20))  # type: ignore[misc]
            found.append(((shape.name, phase, count, tokens), timing.seconds))
    return found


def predicted_step(
    spec: ModelSpec, phase: Phase, sequences: int, tokens: int, machine: Machine, number_format: str
) -> StepTime:
    """What infersim says of one step."""
    count = float(sequences)
    batch = prefill(float(tokens), count=count) if phase == "prefill" else decode(count, float(tokens))
    return predict_step(spec, Parallelism(), precision(number_format), batch, machine)


def _row(
    shape: DecoderShape, spec: ModelSpec, phase: Phase, count: int, tokens: int, seconds: Sequence[float], machine: Machine,
    number_format: str,
) -> LiveRow:  # fmt: skip
    step = predicted_step(spec, phase, count, tokens, machine, number_format)
    parts = tuple((part.name, float(part.seconds)) for part in step.parts())
    return LiveRow(
        shape.name, spec.total_parameters, phase, count, tokens, min(seconds), max(seconds) / min(seconds) - 1,
        float(step.seconds), float(step.log_spread), parts,
    )  # fmt: skip
