"""What runs the cases: a small protocol, and numpy, which is always there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from infersim.errors import UnsupportedError
from infersim.microbench.cases import Attention, Case, Gemm, Launch, Pass, Stream


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case ready to run. ``call(i)`` runs it on the operands whose turn it is in call ``i``."""

    call: Callable[[int], Any]
    turns: int = 1
    """Calls until the first operands come again."""
    eager: bool = False
    """Timed as it is submitted, never inside a captured graph."""
    counts: Mapping[str, float] | None = None
    """What was counted beside the time: distance evaluations, recall."""


COLD_FACTOR = 3
"""Operands that should come from memory rotate through this many times the last-level cache."""


class Backend(Protocol):
    """A library on a device."""

    name: str
    device: str
    """cpu, cuda, mps or xpu."""
    version: str
    formats: tuple[str, ...]
    """Number formats it multiplies, the first one being the usual one."""

    def prepare(self, case: Case) -> Prepared:
        """Operands made and everything compiled; UnsupportedError where this backend cannot run the case."""

    def time(self, prepared: Prepared, calls: int) -> float:
        """Seconds of ``calls`` calls, the device waited for. Rotation goes on where the last sample ended."""

    def least_calls(self, prepared: Prepared) -> int:
        """Calls that a sample must hold at least, so that rotating operands are cold."""


RANDOM = 2**22
"""Random numbers that are drawn; drawing more would take most of the time of a short run."""


def _random(size: int) -> Any:
    """Small random numbers, the same few million over and over: constants would draw less power than weights do."""
    some = np.random.default_rng(0).random(min(size, RANDOM), dtype=np.float32) - np.float32(0.5)
    whole = np.empty(size, dtype=np.float32)
    for start in range(0, size, RANDOM):
        whole[start : start + RANDOM] = some[: size - start]
    return whole


class NumpyBackend:
    """numpy on the CPU: products by its BLAS, everything else on one core, in 32 bits."""

    name = "numpy"
    device = "cpu"
    formats: tuple[str, ...] = ("fp32",)

    def __init__(self, cache_bytes: float) -> None:
        self.version = np.__version__
        self._pool = _random(int(COLD_FACTOR * cache_bytes / 4))
        self._next = 0

    def time(self, prepared: Prepared, calls: int) -> float:
        call, first = prepared.call, self._next
        self._next += calls
        begun = time.perf_counter()
        for number in range(first, first + calls):
            call(number)
        return time.perf_counter() - begun

    def least_calls(self, prepared: Prepared) -> int:
        return 1

    def _rotating(self, *shape: int) -> list[Any]:
        size = int(np.prod(shape))
        if size > len(self._pool):
            self._pool = _random(size)
        return [self._pool[at : at + size].reshape(shape) for at in range(0, len(self._pool) - size + 1, size)]

    def prepare(self, case: Case) -> Prepared:
        if isinstance(case, Gemm) and case.format == "fp32":
            x, weights = np.full((case.m, case.k), 0.01, dtype=np.float32), self._rotating(case.n, case.k)
            copies = len(weights) if case.cold else 1
            return Prepared(lambda number: x @ weights[number % copies].T, copies)
        if isinstance(case, Stream):
            return self._stream(case)
        if isinstance(case, Attention) and case.format == "fp32":
            return self._attention(case)
        if isinstance(case, Pass):
            return self._pass(case)
        if isinstance(case, Launch) and case.way == "eager":
            one = np.zeros(1, dtype=np.float32)
            return Prepared(lambda number: one + 1)
        raise UnsupportedError(f"numpy does not run {case.key}")

    def _stream(self, case: Stream) -> Prepared:
        array = np.zeros(case.bytes // 4, dtype=np.float32)
        if case.pattern == "read":
            return Prepared(lambda number: array.sum())
        half = len(array) // 2
        return Prepared(lambda number: np.copyto(array[:half], array[half:]))

    def _attention(self, case: Attention) -> Prepared:
        length, group = case.cached + case.new, case.heads // case.kv_heads
        q = np.full((case.count, case.kv_heads, group * case.new, case.head_dim), 0.01, dtype=np.float32)
        keys = self._rotating(case.count, case.kv_heads, length, case.head_dim)
        mask = np.triu(np.full((case.new, length), -1e9, dtype=np.float32), case.cached + 1)
        mask = np.tile(mask, (group, 1))

        def run(number: int) -> Any:
            k, v = keys[(2 * number) % len(keys)], keys[(2 * number + 1) % len(keys)]
            scores = q @ k.swapaxes(2, 3) + mask
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            return (scores / scores.sum(axis=-1, keepdims=True)) @ v

        return Prepared(run, len(keys))

    def _pass(self, case: Pass) -> Prepared:
        tokens = case.sequences * case.new
        x = np.full((tokens, case.width), 0.01, dtype=np.float32)
        y = np.full_like(x, 0.5)
        if case.name == "norm":
            if case.variant == "rms":
                return Prepared(lambda number: (s := x + y) / np.sqrt((s * s).mean(axis=-1, keepdims=True) + 1e-6))
            return Prepared(
                lambda number: ((s := x + y) - s.mean(axis=-1, keepdims=True)) / s.std(axis=-1, keepdims=True)
            )
        if case.name == "activation":
            if case.variant == "gated":
                return Prepared(lambda number: x / (1 + np.exp(-x)) * y)
            return Prepared(lambda number: 0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x * x * x))))
        if case.name == "rotary and cache write":
            return self._rotary(case)
        if case.name == "embedding":
            table = np.full((32768, case.width), 0.01, dtype=np.float32)
            rows = np.arange(tokens) * 31 % 32768
            return Prepared(lambda number: table[rows])
        if case.name == "sampling":
            logits = np.full((case.sequences, case.width), 0.01, dtype=np.float32)
            return Prepared(lambda number: logits.argmax(axis=-1))
        raise UnsupportedError(f"numpy does not run {case.key}")

    def _rotary(self, case: Pass) -> Prepared:
        """Split, rotate (or not) and append to the cache, as ``blocks.position_and_append`` does."""
        B, T, H, K, d = case.sequences, case.new, case.heads, case.kv_heads, case.width
        qkv = np.full((B, T, H + 2 * K, d), 0.01, dtype=np.float32)
        keys, values = (np.zeros((B, K, T, d), dtype=np.float32) for _ in range(2))
        cosine, sine = (np.full((T, 1, d), 0.7, dtype=np.float32) for _ in range(2))

        def rotate(x: Any) -> Any:
            return x * cosine + np.concatenate((-x[..., d // 2 :], x[..., : d // 2]), axis=-1) * sine

        def run(number: int) -> Any:
            q, k = qkv[:, :, :H], qkv[:, :, H : H + K]
            if case.variant == "rotary":
                q, k = rotate(q), rotate(k)
            keys[:], values[:] = k.swapaxes(1, 2), qkv[:, :, H + K :].swapaxes(1, 2)
            return q

        return Prepared(run)
