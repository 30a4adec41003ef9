"""Read measured matrix products and attention from the aiconfigurator-core package; the other kinds: ``silicon_more``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.calibrate.measurements import KernelTable
from infersim.calibrate.silicon_more import FOLDERS, FORMATS, column, data_folder, files_by_version, kernel_table

Array = npt.NDArray[np.float64]

PHASES = {
    "decode": "attention/{engine}/*/generation_attention_perf.parquet",
    "prefill": "attention/{engine}/*/context_attention_perf.parquet",
    "encoder": "encoder_attention/{engine}/*/encoder_attention_perf.parquet",
}
"""Files of each kind of attention kernel."""

CACHES = {"bfloat16": "bf16", "fp8": "fp8"}
"""Formats of keys and values by the package's name."""


def dense_tables(device: str, engine: str, folder: Path | None, left: Counter[str]) -> Iterator[KernelTable]:
    """Tables by format (GEMM) and by cache format and phase (attention), newest version of the engine only."""
    base = (folder or data_folder()) / FOLDERS[device]
    for version, frame in newest(base, f"gemm/{engine}/*/gemm_perf.parquet", "gemm", left):
        for name, rows in frame.groupby("gemm_dtype"):
            if name not in FORMATS:
                left[f"gemm: format {name}"] += len(rows)
                continue
            weights, activations = FORMATS[name]
            shape, seconds = {c: column(rows, c) for c in ("m", "n", "k")}, column(rows, "latency") * 1e-3
            formats = {"weights": weights, "activations": activations}
            yield kernel_table("gemm", device, engine, version, "", shape, seconds, formats)
    for phase, pattern in PHASES.items():
        for version, frame in newest(base, pattern.format(engine=engine), f"attention {phase}", left):
            if phase == "prefill":  # engines run their decode kernels on single tokens
                left["attention prefill: prompts of one token"] += int((frame["isl"] <= 1).sum())
                frame = frame[frame["isl"] > 1]
            for name, rows in frame.groupby("attn_dtype" if phase == "encoder" else "kv_cache_dtype"):
                if name not in CACHES:
                    left[f"attention: cache format {name}"] += len(rows)
                    continue
                shape, seconds = _attention_shape(rows, decode=phase == "decode"), column(rows, "latency") * 1e-3
                yield kernel_table(
                    "attention", device, engine, version, phase, shape, seconds, {"kv_cache": CACHES[name]}
                )


def _attention_shape(frame: Any, *, decode: bool) -> dict[str, Array]:
    """The package's columns in our words; those a file lacks say nothing (0)."""
    given = {name: column(frame, name) if name in frame else np.zeros(len(frame))
             for name in ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim", "window_size")}  # fmt: skip
    heads, kv_heads, length = given["num_heads"], given["num_key_value_heads"], given["isl"]
    return {
        "count": given["batch_size"],
        "new": np.ones(len(frame)) if decode else length,
        "cached": length + given["step"] - 1.0 if decode else given["step"],
        "heads": heads, "kv_heads": np.where(kv_heads > 0, kv_heads, heads), "head_dim": given["head_dim"],
        "window": given["window_size"],
    }  # fmt: skip


def newest(folder: Path, pattern: str, kind: str, left: Counter[str]) -> Iterator[tuple[str, Any]]:
    """The newest version's file of a kind, where there is one; rows of older versions are counted."""
    import pandas

    paths = files_by_version(folder, pattern)
    for path in paths[:-1]:
        left[f"{kind}: older version"] += len(pandas.read_parquet(path, columns=["latency"]))
    for path in paths[-1:]:
        yield path.parent.name, pandas.read_parquet(path)
