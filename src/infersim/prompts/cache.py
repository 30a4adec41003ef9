"""Hit rates of a prefix cache from popularity and size, in closed form: Che's approximation, its tiers, and caches that forget.

An item (the blocks of a shared stretch of prompts) is asked for at a Poisson rate and may change, after which its old copy is
never asked for again. In a cache of least recent use it stays for the same time T since its last use as every other item does;
T follows from the room there is. Sources: Che, Tung and Wang, Hierarchical web caching systems, IEEE JSAC 20(7), 2002; Fricker,
Robert and Roberts, arXiv:1202.3974, for why one T does. Everything broadcasts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.errors import SpecError

Array = npt.NDArray[np.float64]
Numbers = Any


def hit_tokens(cached: Numbers, prompt: Numbers, block_size: int = 1) -> Numbers:
    """Tokens of a prompt that a cache with its first ``cached`` tokens saves: whole blocks only, and never the last token.

    The last token is always computed, for the next one's probabilities come from it. Source: vLLM, design of automatic prefix
    caching.

    >>> hit_tokens([1000, 1024], [1200, 1024], 16).tolist(), float(hit_tokens(1024, 1024))
    ([992.0, 1008.0], 1023.0)
    """
    usable = np.minimum(np.asarray(cached, dtype=float), np.asarray(prompt) - 1)
    return np.maximum(np.floor(usable / block_size) * block_size, 0.0)[()]


def saved_share(prompt: Numbers, cached: Numbers, flops_per_token: float, attention_flops: float) -> Numbers:
    """Share of a prompt's prefill FLOP that ``cached`` tokens save: those of the linears, and of causal attention in pairs.

    ``flops_per_token`` is 2 P of the linears, ``attention_flops`` 4 L H h: what a pair of query and key takes over all layers.

    >>> round(float(saved_share(2000, 1500, 14e9, 524288)), 3)  # far below the length at which attention weighs as much
    0.743
    """
    S, C = np.asarray(prompt, dtype=float), np.asarray(cached, dtype=float)
    fresh = S - C
    done = flops_per_token * fresh + attention_flops * (fresh * C + fresh**2 / 2)
    return 1.0 - done / (flops_per_token * S + attention_flops * S**2 / 2)


def hit_rate(rate: Numbers, seconds: Numbers, changes: Numbers = 0.0) -> Numbers:
    """Chance that an item asked for ``rate`` times a second is still there where each use keeps it for ``seconds`` more.

    h = rate / (rate + changes) (1 - exp(-(rate + changes) seconds)): the last use was less than ``seconds`` ago, and the item
    has not changed since (``changes`` per second). This is a TTL cache that refreshes on use, and an LRU cache at its
    characteristic time.

    >>> round(float(hit_rate(1 / 60, 300)), 4), round(float(hit_rate(1 / 600, 300)), 4)
    (0.9933, 0.3935)
    >>> round(float(hit_rate(1.0, np.inf, changes=0.25)), 3)  # kept for ever: one use in five comes after a change
    0.8
    """
    a, m, t = np.asarray(rate, dtype=float), np.asarray(changes, dtype=float), np.asarray(seconds, dtype=float)
    with np.errstate(over="ignore", invalid="ignore"):
        total = a + m
        there = -np.expm1(-np.where(total > 0, total * t, 0.0))
        return np.where(
            np.isinf(m) | (total == 0), 0.0, np.where(np.isinf(m), 0.0, a / np.maximum(total, 1e-300)) * there
        )[()]


def hit_rate_from_write(rate: Numbers, ttl: Numbers, changes: Numbers = 0.0) -> Numbers:
    """Chance of a hit where an item lives ``ttl`` from its writing on, however often it is used.

    After a miss it lives L = (1 - exp(-changes ttl)) / changes on average, in which rate L uses hit: h = rate L / (1 + rate L).

    >>> round(float(hit_rate_from_write(1 / 60, 300)), 4), round(float(hit_rate_from_write(1 / 600, 300)), 4)
    (0.8333, 0.3333)
    """
    a, m, t = np.asarray(rate, dtype=float), np.asarray(changes, dtype=float), np.asarray(ttl, dtype=float)
    lives = np.where(m > 0, -np.expm1(-m * t) / np.maximum(m, 1e-300), t)
    hits = a * lives
    return (hits / (1.0 + hits))[()]


def kept_copies(rate: Numbers, seconds: Numbers, changes: Numbers = 0.0) -> Numbers:
    """Copies of an item that lie in a cache on average, outdated ones included, each for ``seconds`` after its last use.

    The integral of the miss rate over ``seconds``: rate T - rate^2 / (rate + changes) (T - (1 - exp(-(rate + changes) T)) /
    (rate + changes)). Without changes the chance of being there; where every use is of something new (``changes`` infinite)
    rate T, by Little's law.

    >>> round(float(kept_copies(0.5, 2.0)), 4), float(kept_copies(0.5, 2.0, np.inf))
    (0.6321, 1.0)
    """
    a, m, t = np.asarray(rate, dtype=float), np.asarray(changes, dtype=float), np.asarray(seconds, dtype=float)
    lasting = np.isfinite(m)
    total = np.where(lasting, a + np.where(lasting, m, 0.0), 1.0)
    safe = np.maximum(total, 1e-300)
    again = np.where(lasting, a / safe, 0.0)
    return (a * t * (1 - again) + again * again * -np.expm1(-safe * t))[()]


@dataclass(frozen=True)
class Items:
    """What requests ask a prefix cache for; arrays of one shape, one entry for every class of like items.

    ``rates`` are uses per second of one item, ``sizes`` what it takes of the cache (blocks, tokens, bytes), ``counts`` how many
    such items there are, ``changes`` how often a second one is replaced by another: infinite for what is used once.
    """

    rates: Array
    sizes: Array
    counts: Array
    changes: Array

    @property
    def asked(self) -> float:
        """Size asked for per second."""
        return float((self.rates * self.sizes * self.counts).sum())

    def occupied(self, seconds: float, busy: float = 0.0) -> float:
        """Room taken where items stay for ``seconds`` after their last user, who has it for ``busy`` seconds, has left."""
        stay = kept_copies(self.rates, seconds + busy, self.changes)
        return float((self.sizes * self.counts * stay).sum())

    def hits(self, seconds: float, busy: float = 0.0) -> Array:
        """Chance of a hit by class."""
        return np.asarray(hit_rate(self.rates, seconds + busy, self.changes))

    def hit_share(self, seconds: float, busy: float = 0.0) -> float:
        """Share of what is asked for that is found, by size."""
        found = (self.rates * self.sizes * self.counts * self.hits(seconds, busy)).sum()
        return float(found / self.asked) if self.asked else 0.0


def items(rates: Any, sizes: Any, counts: Any = 1.0, changes: Any = 0.0) -> Items:
    """Items from numbers or arrays that broadcast; SpecError where one is negative.

    >>> items([1.0, 0.5], 100.0).asked
    150.0
    """
    columns = [np.asarray(column, dtype=float) for column in (rates, sizes, counts, changes)]
    for name, column in zip(("rates", "sizes", "counts", "changes"), columns, strict=True):
        if np.isnan(column).any() or (column < 0).any():
            raise SpecError("must be zero or more", field=name)
    return Items(*(np.array(column) for column in np.broadcast_arrays(*columns)))


def characteristic_time(wanted: Items, capacity: float, busy: float = 0.0) -> float:
    """Che's time T [s]: how long an unused item stays in a cache of least recent use with room for ``capacity``.

    Solves occupied(T) = capacity, by bisection. Infinite where everything fits; zero where what is in use (``busy`` seconds by
    each user) already fills the room.

    >>> pages = items(1 / np.arange(1, 101), 1.0)
    >>> time = characteristic_time(pages, 20)
    >>> round(time, 2), round(pages.occupied(time), 6)
    (6.39, 20.0)
    """
    if not capacity >= 0:
        raise SpecError(f"must be zero or more, got {capacity!r}", field="capacity")
    if wanted.occupied(0.0, busy) >= capacity:
        return 0.0
    moving = np.any((wanted.changes > 0) & (wanted.rates * wanted.sizes * wanted.counts > 0))
    if not moving and float((wanted.sizes * wanted.counts)[wanted.rates > 0].sum()) <= capacity:
        return math.inf
    high = 1.0
    while wanted.occupied(high, busy) < capacity:
        high *= 2.0
        if high > 1e18:
            return math.inf
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if wanted.occupied(middle, busy) < capacity else (low, middle)
    return (low + high) / 2


def tier_times(wanted: Items, capacities: Sequence[float], busy: float = 0.0) -> list[float]:
    """Characteristic time of each tier of a cache whose tiers hand down what they evict, the fastest first.

    What lies in the first n tiers together is what one cache of their joint capacity would hold, so T_n is Che's time of the
    stacked capacity; tier n is hit where the last use was between T_(n-1) and T_n ago.

    >>> tier_times(items(1 / np.arange(1, 101), 1.0), [20, 30]) == [
    ...     characteristic_time(items(1 / np.arange(1, 101), 1.0), size) for size in (20, 50)]
    True
    """
    return [
        characteristic_time(wanted, total, busy) for total in np.cumsum(np.asarray(capacities, dtype=float)).tolist()
    ]


@functools.lru_cache(maxsize=128)
def zipf(number: int, skew: float, classes: int = 2000) -> tuple[Array, Array]:
    """(share of each, how many) of ``number`` items of which the k-th most popular is used in proportion to 1 / k^``skew``.

    The first half of ``classes`` stand for themselves, the others are gathered in classes of like popularity, sums kept.

    >>> shares, counts = zipf(3, 1.0)
    >>> shares.round(4).tolist(), counts.tolist()
    ([0.5455, 0.2727, 0.1818], [1.0, 1.0, 1.0])
    >>> shares, counts = zipf(10**6, 0.8)
    >>> len(shares) <= 2000, round(float((shares * counts).sum()), 9), round(float(counts.sum()))
    (True, 1.0, 1000000)
    """
    if number < 1:
        raise SpecError(f"must be one or more, got {number!r}", field="number")
    popularity = np.arange(1, number + 1, dtype=np.float64) ** -float(skew)
    shares = np.asarray(popularity / popularity.sum(), dtype=np.float64)
    if number <= classes:
        return shares, np.ones(number)
    edges = np.unique(
        np.concatenate((np.arange(classes // 2), np.geomspace(classes // 2, number, classes // 2 + 1).astype(np.int64)))
    )[:-1]
    edges = edges[edges < number]
    counts = np.diff(np.append(edges, number)).astype(float)
    return np.asarray(np.add.reduceat(shares, edges) / counts, dtype=np.float64), counts
