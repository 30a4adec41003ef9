"""Measured kernels and measured serving points, in one typed form whatever file they came from.

Kernel timings come in hundreds of thousands, so they are kept by column: one ``KernelTable`` holds the shapes and
seconds of one kind of kernel on one device under one engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["gemm", "attention", "mla", "moe", "scan", "elementwise", "collective", "all_to_all", "copy", "stream"]

FIT_SHARE = 30
"""Percent of shapes that a fit may see; the others only ever judge it."""


@dataclass(frozen=True)
class KernelTable:
    """Timings of one kind of kernel. ``shape`` holds one array per dimension, all as long as ``seconds``."""

    kind: Kind
    device: str
    """Name of an accelerator spec."""
    engine: str
    """The stack that ran the kernel: vllm, sglang, trtllm, nccl, torch, numpy."""
    version: str
    formats: Mapping[str, str]
    """Number formats by operand: weights, activations, kv_cache."""
    kernel: str
    """Which implementation, where the source tells."""
    shape: Mapping[str, npt.NDArray[np.float64]]
    seconds: npt.NDArray[np.float64]
    source: str

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, mask: npt.NDArray[np.bool_]) -> KernelTable:
        """The rows where ``mask`` is true."""
        return replace(self, shape={k: v[mask] for k, v in self.shape.items()}, seconds=self.seconds[mask])


def shape_hash(columns: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.uint64]:
    """A fixed 64-bit hash of each row (splitmix64 over the named columns in alphabetical order).

    >>> a = shape_hash({"n": np.array([4096.0, 8192.0]), "k": np.array([4096.0, 4096.0])})
    >>> int(a[0] % 100), int(a[1] % 100)
    (47, 4)
    """
    total = np.zeros(len(next(iter(columns.values()))), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for name in sorted(columns):
            x = np.asarray(columns[name], dtype=np.float64).view(np.uint64) + total + np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            total = x ^ (x >> np.uint64(31))
    return total


SPLIT_COLUMNS: Mapping[Kind, tuple[str, ...]] = {"gemm": ("n", "k")}
"""Columns whose hash decides fit or test; every column where a kind is not named. For GEMM whole weight shapes are kept
out of the fit, which is the harder test: a new model is a new (n, k)."""


def fit_rows(table: KernelTable) -> npt.NDArray[np.bool_]:
    """Which rows a fit may see. Stated here once and never changed to please a number."""
    names = SPLIT_COLUMNS.get(table.kind, tuple(table.shape))
    return shape_hash({name: table.shape[name] for name in names}) % np.uint64(100) < np.uint64(FIT_SHARE)
