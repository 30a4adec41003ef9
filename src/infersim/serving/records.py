"""What a simulation writes down while it runs: a few numbers per request, in flat arrays, and statistics of the stream."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

GAP_BINS_PER_E = 50
"""Bins of the histogram of inter-token latencies per factor e: each is 2% wide."""
GAP_LEAST = 1e-6
_GAP_BINS = 1400


class GapHistogram:
    """Inter-token latencies of all tokens: counts in bins 2% wide from a microsecond on; sum and count are exact."""

    def __init__(self) -> None:
        self.bins = [0.0] * _GAP_BINS
        self.total = 0.0
        self.count = 0

    def add(self, seconds: float, weight: float) -> None:
        place = int(math.log(seconds / GAP_LEAST) * GAP_BINS_PER_E) if seconds > GAP_LEAST else 0
        self.bins[place if place < _GAP_BINS else _GAP_BINS - 1] += weight

    def add_run(self, first: float, last: float, steps: int, weight: int) -> None:
        """``steps`` gaps rising evenly from ``first`` to ``last``, each of ``weight`` tokens."""
        parts = min(steps, 1 + int(abs(math.log(last / first)) * GAP_BINS_PER_E))
        for part in range(parts):
            self.add(first + (last - first) * (part + 0.5) / parts, steps * weight / parts)

    def percentile(self, percent: float) -> float:
        """The latency below which ``percent`` of the gaps lie, within 1%."""
        wanted, seen = percent / 100 * sum(self.bins), 0.0
        for place, weight in enumerate(self.bins):
            seen += weight
            if weight and seen >= wanted - 1e-9:
                return GAP_LEAST * math.exp((place + 0.5) / GAP_BINS_PER_E)
        return 0.0

    def variance(self) -> float:
        """Variance of the gaps, from the middles of the bins [s^2]."""
        if not self.count:
            return 0.0
        squares = sum(
            weight * (GAP_LEAST * math.exp((place + 0.5) / GAP_BINS_PER_E)) ** 2
            for place, weight in enumerate(self.bins)
            if weight
        )
        return max(squares / self.count - (self.total / self.count) ** 2, 0.0)


@dataclass
class Records:
    """Per request, by number: arrival, lengths, first token, finish (zero where it never came), preemptions, cached tokens."""

    arrival: array[float] = field(default_factory=lambda: array("d"))
    prompt: array[int] = field(default_factory=lambda: array("i"))
    output: array[int] = field(default_factory=lambda: array("i"))
    first_token: array[float] = field(default_factory=lambda: array("d"))
    finish: array[float] = field(default_factory=lambda: array("d"))
    preemptions: array[int] = field(default_factory=lambda: array("I"))
    cached: array[int] = field(default_factory=lambda: array("i"))
    replica: array[int] = field(default_factory=lambda: array("H"))
    session: array[int] = field(default_factory=lambda: array("i"))
    """Number of the session a request is a turn of; empty where the traffic has no sessions."""
    gaps: GapHistogram = field(default_factory=GapHistogram)
    rejected: int = 0
    """Requests that no pool of this size can ever hold."""

    def __len__(self) -> int:
        return len(self.arrival)

    def new(self, arrival: float, prompt: int, output: int) -> int:
        """Room for one more request; returns its number."""
        self.arrival.append(arrival)
        self.prompt.append(prompt)
        self.output.append(output)
        self.first_token.append(0.0)
        self.finish.append(0.0)
        self.preemptions.append(0)
        self.cached.append(0)
        self.replica.append(0)
        return len(self.arrival) - 1

    def extend(self, arrival: npt.ArrayLike, prompt: npt.ArrayLike, output: npt.ArrayLike) -> None:
        """Room for more requests at once."""
        given = ((self.arrival, arrival, "f8"), (self.prompt, prompt, "i4"), (self.output, output, "i4"))
        for store, values, kind in given:
            store.frombytes(np.asarray(values, dtype=kind).tobytes())
        for empty in (self.first_token, self.finish, self.preemptions, self.cached, self.replica):
            empty.frombytes(bytes((len(self) - len(empty)) * empty.itemsize))


@dataclass
class Totals:
    """What one replica did, summed over its steps. Times in seconds."""

    steps: int = 0
    busy: float = 0.0
    prefill_steps: int = 0
    prefill_time: float = 0.0
    """Time of the steps that carried prompts, alone or beside decodes."""
    prefill_tokens: int = 0
    """Prompt tokens computed, those recomputed after a preemption included."""
    cached_tokens: int = 0
    """Prompt tokens found in the prefix cache, again after every preemption."""
    decode_tokens: int = 0
    decode_area: float = 0.0
    """Decoding sequences x time [s]: divided by the span it is the mean number of them."""
    blocked: dict[str, float] = field(default_factory=lambda: {"slots": 0.0, "blocks": 0.0, "tokens": 0.0, "turn": 0.0})
    """Time during which requests waited while the engine ran, by what the first of them lacked: a slot (max_num_seqs), KV
    blocks, tokens in the step's budget, or its turn (a batch or waiting ratio that must come round first)."""
    preemptions: int = 0
    swapped_tokens: int = 0
    """Tokens whose cache came back from host memory after a preemption, or along from a prefill pool."""
    swap_time: float = 0.0
    """Copies between device and host, for which the engine stood still."""
    peak_blocks: int = 0
    peak_host_blocks: int = 0


SERIES_POINTS = 2048


@dataclass
class Series:
    """The state at growing intervals: at most SERIES_POINTS points, every second one dropped where they run out."""

    points: list[tuple[float, int, int, int, int]] = field(default_factory=list)
    """(time, decoding, prefilling, waiting, blocks in use)."""
    interval: float = 0.0
    due: float = 0.0

    def add(self, time: float, decoding: int, prefilling: int, waiting: int, blocks: int) -> None:
        self.points.append((time, decoding, prefilling, waiting, blocks))
        if len(self.points) >= SERIES_POINTS:
            self.points = self.points[::2]
            self.interval = max(2 * self.interval, (self.points[-1][0] - self.points[0][0]) / (SERIES_POINTS / 2))
        self.due = time + self.interval
