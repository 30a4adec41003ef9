"""What a prefix cache makes of a prompt's order: which prefixes recur, how often they are found, and which order is best.

All prompts together form a tree: a node is a prefix up to some segment, one for each combination of the variants before it. A node
is used when any prompt through it is, so it stays at least as long as those behind it, and a hit on it is a hit on all before it.
Segments choose their variants independently, unless one lies within another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.prompts.cache import Array, Items, zipf
from infersim.prompts.spec import PromptLayout, Segment

CLASSES = 2000
"""Classes of like popularity in which the variants of a prefix are counted, about."""


@dataclass(frozen=True)
class Prefix:
    """A stretch of the prompt's start as the cache sees it: ``shares`` of all requests, of ``counts`` prefixes each."""

    names: tuple[str, ...]
    shares: Array
    counts: Array
    changes: float
    """Replacements per second of one; infinite where every request has its own."""

    def hit(self, chance: Callable[[Any, float], Any], rate: float) -> float:
        """Chance that a request finds it, where ``chance`` tells that of one prefix from its rate of use and of change."""
        found = np.asarray(chance(rate * self.shares, self.changes))
        return float((self.shares * self.counts * found).sum())

    @property
    def number(self) -> float:
        """How many different ones there are; infinite where every request has its own."""
        return np.inf if np.isinf(self.changes) else float(self.counts.sum())


def prefix(layout: PromptLayout, names: tuple[str, ...]) -> Prefix:
    """The prefixes made of the segments ``names``, in whichever order.

    >>> layout = PromptLayout.model_validate({"segments": [
    ...     {"name": "tenant", "tokens": 500, "variants": 20}, {"name": "user", "tokens": 100, "variants": 1000, "within": "tenant"},
    ...     {"name": "tools", "tokens": 300, "variants": 3}]})
    >>> prefix(layout, ("tenant", "tools")).number, prefix(layout, ("tenant", "user")).number
    (60.0, 1000.0)
    """
    parts = [layout[name] for name in names]
    if any(part.unique for part in parts):
        return Prefix(names, np.ones(1), np.ones(1), np.inf)
    implied = {outer for name in names for outer in layout.within(name)}
    shares, counts = np.ones(1), np.ones(1)
    for part in parts:
        if part.name not in implied and part.variants != 1:
            each, many = zipf(int(part.variants), part.skew, CLASSES)
            shares, counts = gathered(np.outer(shares, each).ravel(), np.outer(counts, many).ravel())
    return Prefix(names, shares, counts, sum(part.changes for part in parts))


def gathered(shares: Array, counts: Array, classes: int = CLASSES) -> tuple[Array, Array]:
    """The same popularity in fewer classes: like shares together, their sum and their number kept.

    >>> shares, counts = gathered(np.array([0.3, 0.1, 0.1]), np.array([1.0, 3.0, 4.0]))
    >>> shares.tolist(), counts.tolist()
    ([0.3, 0.1], [1.0, 7.0])
    """
    levels, place = np.unique(shares, return_inverse=True)
    if len(levels) > classes:
        edges = np.geomspace(levels[0], levels[-1], classes)
        place = np.searchsorted(edges, shares)
    number = np.bincount(place, weights=counts)
    total = np.bincount(place, weights=shares * counts)
    there = number > 0
    return np.asarray((total[there] / number[there])[::-1]), np.asarray(number[there][::-1])


def prefixes(layout: PromptLayout) -> list[Prefix]:
    """The prefix that ends with each segment, in order."""
    return [prefix(layout, layout.names[: place + 1]) for place in range(len(layout.segments))]


def block_sizes(layout: PromptLayout, block_size: int) -> Array:
    """Full blocks whose last token lies in each segment."""
    ends = np.cumsum([segment.tokens for segment in layout.segments]) // block_size
    return np.diff(ends, prepend=0).astype(float)


def tree_items(layout: PromptLayout, rate: float, block_size: int, output_tokens: float) -> Items:
    """Everything that ``rate`` prompts a second leave in a cache, in blocks: prefixes of each depth, and what no one shares.

    The last stretch, unfinished block and output included, is each request's own.
    """
    found = prefixes(layout)
    sizes = block_sizes(layout, block_size)
    own = np.ceil((layout.tokens + output_tokens) / block_size) - sizes.sum()
    rates = [rate * one.shares for one in found] + [np.array([rate])]
    return Items(
        np.concatenate(rates),
        np.concatenate([np.full(len(one.shares), size) for one, size in zip(found, sizes, strict=True)] + [[own]]),
        np.concatenate([one.counts for one in found] + [np.ones(1)]),
        np.concatenate([np.full(len(one.shares), one.changes) for one in found] + [[np.inf]]),
    )


def best_order(layout: PromptLayout, hit: Callable[[Prefix], float]) -> tuple[str, ...]:
    """The order of segments with the most tokens found on average, those that are not movable left in their place.

    The chance to find a prefix depends on what is in it, not on its order: the best order of a set of segments is the best of the
    set without its last one, and that. Exact, over the 2^n sets (Held and Karp's way), for the chances that ``hit`` gives. Of
    orders as good the one nearest to the given is kept.
    """
    segments = layout.segments
    n = len(segments)
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    chances: dict[int, float] = {}
    for size in range(n):
        level: dict[int, tuple[float, tuple[int, ...]]] = {}
        for taken, (value, order) in best.items():
            for place in _next(segments, taken, size):
                both = taken | 1 << place
                if both not in chances:
                    chances[both] = hit(prefix(layout, tuple(segments[i].name for i in (*order, place))))
                worth = value + segments[place].tokens * chances[both]
                if both not in level or worth > level[both][0] * (1 + 1e-12) + 1e-9:
                    level[both] = (worth, (*order, place))
        best = level
    ((_, order),) = best.values()
    return tuple(segments[i].name for i in order)


def _next(segments: tuple[Segment, ...], taken: int, place: int) -> list[int]:
    """Segments that may stand at a place, in the given order."""
    if not segments[place].movable:
        return [place]
    return [i for i, segment in enumerate(segments) if segment.movable and not taken >> i & 1]
