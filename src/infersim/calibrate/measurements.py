"""Measured kernels and measured serving points, in one typed form whatever file they came from.

Kernel timings come in hundreds of thousands, so they are kept by column: one ``KernelTable`` holds the shapes and
seconds of one kind of kernel on one device under one engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from infersim.specs.deployment import EngineKnobs, Parallelism

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


@dataclass(frozen=True)
class ServingPoint:
    """One measured operating point of a serving engine: what ran, under which load, and what users saw.

    What a source does not tell stays None (or unset in ``knobs``) and is never guessed here. Times in seconds.
    """

    name: str
    """Unique within its source."""
    source: str
    model: str
    """Hugging Face id, or a bundled name."""
    device: str
    """Name of an accelerator spec."""
    engine: str
    version: str | None
    parallelism: Parallelism
    """Of the one pool of an aggregated deployment, or of the decode pool of a disaggregated one."""
    precision: str | None
    """A scheme that ``infersim.precision`` knows; None where the source does not tell and the checkpoint's own holds."""
    kv_cache: str | None
    input_tokens: float
    """Mean prompt length as measured (not nominal)."""
    output_tokens: float
    concurrency: float | None
    """Users of a closed loop; None where requests arrive at ``request_rate``."""
    request_rate: float | None
    """Arrivals per second; None for a closed loop."""
    num_requests: int | None
    """Requests measured, warm-up excluded."""
    range_ratio: float | None
    """Lengths are uniform in [ratio x nominal, nominal]; 1 where fixed, None where not told."""
    prefix_hit: float | None
    """Share of prompt tokens found in the prefix cache; 0 where caching was off, None where not told."""
    knobs: EngineKnobs
    speculative: str | None
    """none, or how tokens were drafted (mtp, eagle, draft, ngram); None where the source does not tell."""
    metrics: Mapping[str, float]
    """Measured figures by name: ``ttft``, ``tpot``, ``itl``, ``e2e`` (means, s), with a statistic behind them where it is not
    the mean (``ttft_p50``, ``tpot_p99``), ``request_throughput``, ``output_throughput``, ``total_throughput`` (per second)."""
    disaggregated: bool = False
    prefill_parallelism: Parallelism | None = None
    """Of the prefill pool of a disaggregated deployment."""
    prefill_workers: int | None = None
    decode_workers: int | None = None
    stream_interval: int | None = None
    """Tokens between two answers of the server to the client; None where not told."""
    measured_on: str | None = None
    """ISO date."""

    @property
    def configuration(self) -> str:
        """What was run under which load, whoever measured it and when: runs of the same configuration share it."""
        load = self.concurrency if self.request_rate is None else f"{self.request_rate}/s"
        parts = (self.model.lower(), self.device, self.engine, self.parallelism, self.prefill_parallelism, self.precision,
                 round(self.input_tokens), round(self.output_tokens), load)  # fmt: skip
        return "|".join(map(str, parts))


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


def judges(point: ServingPoint) -> bool:
    """Whether a serving point only ever judges predictions: the hash (SHA-256) of its configuration is odd.

    Engine overheads and intervals may be fitted on the even ones. Repeated runs of a configuration fall on the same side.
    Stated here once and never changed to please a number.
    """
    return bool(hashlib.sha256(point.configuration.encode()).digest()[-1] & 1)


@dataclass(frozen=True)
class Reading:
    """What was read from a file of measurements, and what could not be used, by reason."""

    tables: tuple[KernelTable, ...] = ()
    points: tuple[ServingPoint, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
