"""Read measured matrix products and attention from the aiconfigurator-core package; the other kinds: ``silicon_more``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.calibrate.measurements import KernelTable, Kind
from infersim.calibrate.silicon_more import FOLDERS, FORMATS, column, data_folder, files_by_version

Array = npt.NDArray[np.float64]


def dense_tables(device: str, engine: str, folder: Path | None, left: Counter[str]) -> Iterator[KernelTable]:
    """Tables by format (GEMM) and by cache format and phase (attention), newest version of the engine only."""
    base = (folder or data_folder()) / FOLDERS[device]
    for version, frame in _newest(base, f"gemm/{engine}/*/gemm_perf.parquet"):
        for name, rows in frame.groupby("gemm_dtype"):
            if name not in FORMATS:
                left[f"gemm: format {name}"] += len(rows)
                continue
            weights, activations = FORMATS[name]
            best = rows.groupby(["m", "n", "k"], as_index=False)["latency"].min()
            yield _table("gemm", device, engine, version, {"weights": weights, "activations": activations}, "",
                         {c: column(best, c) for c in ("m", "n", "k")}, column(best, "latency"))  # fmt: skip
    for phase in ("generation", "context"):
        for version, frame in _newest(base, f"attention/{engine}/*/{phase}_attention_perf.parquet"):
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
    heads, kv_heads = column(frame, "num_heads"), column(frame, "num_key_value_heads")
    decode = phase == "generation"
    shape = {
        "count": column(frame, "batch_size"),
        "new": np.ones(len(frame)) if decode else column(frame, "isl"),
        "cached": column(frame, "isl") + column(frame, "step") - 1.0 if decode else column(frame, "step"),
        "heads": heads, "kv_heads": np.where(kv_heads > 0, kv_heads, heads), "head_dim": column(frame, "head_dim"),
        "window": column(frame, "window_size"),
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
        column(frame, "latency"),
    )


def _newest(folder: Path, pattern: str) -> Iterator[tuple[str, Any]]:
    """The newest version's file of a kind, where there is one."""
    import pandas

    for path in files_by_version(folder, pattern)[-1:]:
        yield path.parent.name, pandas.read_parquet(path)


def _table(
    kind: Kind,
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
