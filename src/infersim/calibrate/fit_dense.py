"""Read and fit measured matrix products and attention; the twin of ``fit_more``, with the same sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.calibrate.fit_more import LEAST_FIT_ROWS, Problem, Section, fit_section
from infersim.calibrate.measurements import KernelTable, fit_rows
from infersim.calibrate.silicon_more import FOLDERS, data_folder, version_order
from infersim.calibrate.silicon_more import FORMATS as PACKAGE_FORMATS
from infersim.errors import UnsupportedError
from infersim.machine.kernels.attention import ATTENTION_AXES, AttentionParameters, attention_axes, attention_time
from infersim.machine.kernels.base import Rates
from infersim.machine.kernels.gemm import GemmParameters, gemm_time
from infersim.specs.hardware import Accelerator
from infersim.specs.library import load_accelerator
from infersim.specs.precision import FORMATS, matrix_unit

Array = npt.NDArray[np.float64]
Shape = Mapping[str, Array]

EAGER_LAUNCH = 25e-6
"""A smallest product that takes longer than this was timed with its launch on the host, not in a graph: of no use for
predicting an engine that captures graphs."""


def dense_sections(device: str, engine: str, folder: Path | None = None) -> tuple[list[Section], Counter[str]]:
    """Sections of matrix products and attention of a device under an engine, and the rows left out by reason."""
    left: Counter[str] = Counter()
    accelerator = load_accelerator(device)
    sections = []
    for table in dense_tables(device, engine, folder, left):
        if fit_rows(table).sum() < LEAST_FIT_ROWS:
            left[f"{table.kind}: too few rows"] += len(table)
            continue
        try:
            section = fit_section(table, dense_problem(table, accelerator))
        except UnsupportedError as error:
            left[f"{table.kind}: {str(error).split(';')[0]}"] += len(table)
            continue
        if section.kind == "gemm" and section.parameters.launch > EAGER_LAUNCH:
            left[f"gemm {section.key}: timed without graphs"] += len(table)
            continue
        sections.append(section)
    return sections, left


def dense_tables(device: str, engine: str, folder: Path | None, left: Counter[str]) -> Iterator[KernelTable]:
    """Tables by format (GEMM) and by cache format and phase (attention), newest version of the engine only."""
    base = (folder or data_folder()) / FOLDERS[device]
    for version, frame in _newest(base / "gemm" / engine, "gemm_perf.parquet"):
        for name, rows in frame.groupby("gemm_dtype"):
            if name not in PACKAGE_FORMATS:
                left[f"gemm: format {name}"] += len(rows)
                continue
            weights, activations = PACKAGE_FORMATS[name]
            best = rows.groupby(["m", "n", "k"], as_index=False)["latency"].min()
            yield _table("gemm", device, engine, version, {"weights": weights, "activations": activations}, "",
                         {c: _floats(best, c) for c in ("m", "n", "k")}, _floats(best, "latency"))  # fmt: skip
    for phase in ("generation", "context"):
        for version, frame in _newest(base / "attention" / engine, f"{phase}_attention_perf.parquet"):
            for missing in {"window_size", "step"} - set(frame.columns):
                frame[missing] = 0
            by = ["batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "window_size", "step"]
            for name, rows in frame.groupby("kv_cache_dtype"):
                if name not in ("bfloat16", "fp8"):
                    left[f"attention: cache format {name}"] += len(rows)
                    continue
                best = rows.groupby(by, as_index=False)["latency"].min()
                yield _attention_table(device, engine, version, phase, "bf16" if name == "bfloat16" else "fp8", best)


def _attention_table(device: str, engine: str, version: str, phase: str, cache: str, frame: Any) -> KernelTable:
    heads, kv_heads = _floats(frame, "num_heads"), _floats(frame, "num_key_value_heads")
    decode = phase == "generation"
    shape = {
        "count": _floats(frame, "batch_size"),
        "new": np.ones(len(frame)) if decode else _floats(frame, "isl"),
        "cached": _floats(frame, "isl") + _floats(frame, "step") - 1.0 if decode else _floats(frame, "step"),
        "heads": heads, "kv_heads": np.where(kv_heads > 0, kv_heads, heads), "head_dim": _floats(frame, "head_dim"),
        "window": _floats(frame, "window_size"),
    }  # fmt: skip
    formats = {"kv_cache": cache}
    return _table(
        "attention",
        device,
        engine,
        version,
        formats,
        "decode" if decode else "prefill",
        shape,
        _floats(frame, "latency"),
    )


def _newest(folder: Path, name: str) -> Iterator[tuple[str, Any]]:
    """The newest version's file of a kind, where there is one."""
    import pandas as pd

    found = sorted(folder.glob(f"*/{name}"), key=lambda path: version_order(path.parent.name))
    if found:
        yield found[-1].parent.name, pd.read_parquet(found[-1])


def _floats(frame: Any, name: str) -> Array:
    return np.asarray(frame[name].to_numpy(), dtype=np.float64)


def _table(
    kind: Any,
    device: str,
    engine: str,
    version: str,
    formats: dict[str, str],
    kernel: str,
    shape: dict[str, Array],
    milliseconds: Array,
) -> KernelTable:
    source = f"aiconfigurator-core (Apache-2.0), {FOLDERS[device]}, {engine} {version}"
    return KernelTable(kind, device, engine, version, formats, kernel, shape, milliseconds * 1e-3, source)


def dense_problem(table: KernelTable, accelerator: Accelerator) -> Problem:
    """How to fit a table of matrix products or attention."""
    return _gemm(table, accelerator) if table.kind == "gemm" else _attention(table, accelerator)


def _rates(accelerator: Accelerator, weights: str, activations: str) -> Rates:
    unit = matrix_unit(FORMATS[weights], FORMATS[activations], accelerator)
    return Rates(
        accelerator.peak_flops[unit], accelerator.memory.bandwidth, float(accelerator.compute_units or 100),
        accelerator.l2_cache or 0.0, accelerator.clock or 0.0,
    )  # fmt: skip


def _gemm(table: KernelTable, accelerator: Accelerator) -> Problem:
    weights, activations = table.formats["weights"], table.formats["activations"]
    rates = _rates(accelerator, weights, activations)

    def time(s: Shape, p: GemmParameters) -> Array:
        seconds: Array = gemm_time(
            s["m"], s["n"], s["k"], weight_bytes=FORMATS[weights].bytes, activation_bytes=FORMATS[activations].bytes,
            output_bytes=2.0, rates=rates, parameters=p, weights_in_l2=True,
        )  # fmt: skip
        return seconds

    def place(s: Shape) -> Sequence[Array]:
        return s["m"], s["n"], s["k"]

    hold = ("input_pass",) if FORMATS[activations].bits >= 16 else ()
    return Problem(time, [GemmParameters()], hold, ("m", "n", "k"), place, (10, 6, 5), rows=4000)


def _attention(table: KernelTable, accelerator: Accelerator) -> Problem:
    rates = _rates(accelerator, "bf16", "bf16")
    cache_bytes = FORMATS[table.formats["kv_cache"]].bytes

    def time(s: Shape, p: AttentionParameters) -> Array:
        seconds: Array = attention_time(
            s["count"], s["new"], s["cached"], heads=s["heads"], kv_heads=s["kv_heads"], key_dim=s["head_dim"],
            value_dim=s["head_dim"], window=s["window"], kv_bytes=cache_bytes, rates=rates, parameters=p, cache_in_l2=True,
        )  # fmt: skip
        return seconds

    def place(s: Shape) -> Sequence[Array]:
        return attention_axes(s["count"], s["new"], s["cached"], s["heads"], s["kv_heads"], s["window"])

    return Problem(time, [AttentionParameters()], (), ATTENTION_AXES, place, (6, 7, 3, 2), rows=4000)
