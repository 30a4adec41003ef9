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

CLASSES = 128
"""Classes of like popularity in which combinations of variants are counted; their hit rates differ by less than 0.01 points."""


@dataclass(frozen=True)
class Prefix:
    """A stretch of the prompt's start as the cache sees it: ``shares`` of all requests, of ``counts`` prefixes each.

    Within a conversation it is asked for again by the next turn alone: ``turns`` per second are how fast one follows, ``again`` the
    share of turns that one follows. ``found`` is the share of requests whose last segment a hit can find: history is in later turns
    only, and counts in full.
    """

    names: tuple[str, ...]
    shares: Array
    counts: Array
    changes: float
    """Replacements per second of one; infinite where every request has its own."""
    turns: float = 0.0
    again: float = 0.0
    found: float = 1.0

    def hit(self, chance: Callable[[Any, float], Any], rate: float) -> float:
        """Chance that a request finds it, where ``chance`` tells that of one prefix from its rate of use and of change."""
        if self.turns:
            return self.found * float(chance(self.turns, self.changes))
        found = np.asarray(chance(rate * self.shares, self.changes))
        return float((self.shares * self.counts * found).sum())

    def used(self, rate: float) -> tuple[Array, Array, Array, Array]:
        """(uses per second of one, how many, changes per second, size over the mean) under ``rate`` requests a second.

        A conversation's last turn is not asked for again, and is the longest: its history is twice the mean.
        """
        if not self.turns:
            return rate * self.shares, self.counts, np.full(len(self.shares), self.changes), np.ones(len(self.shares))
        changes = self.changes if np.isfinite(self.changes) else 0.0
        ends = 1.0 - self.again
        sizes = np.array([(1.0 - 2.0 * ends) / self.again, 2.0]) if self.found == 1.0 else np.ones(2)
        return (
            np.array([self.turns, rate]),
            np.array([rate * self.again / self.turns, ends]),
            np.array([changes, np.inf]),
            sizes,
        )

    @property
    def number(self) -> float:
        """How many different ones there are; infinite where every request or conversation has its own."""
        return np.inf if self.turns or np.isinf(self.changes) else float(self.counts.sum())


def prefix(layout: PromptLayout, names: tuple[str, ...]) -> Prefix:
    """The prefixes made of the segments ``names``, in that order.

    >>> layout = PromptLayout.model_validate({"segments": [
    ...     {"name": "tenant", "tokens": 500, "variants": 20}, {"name": "user", "tokens": 100, "variants": 1000, "within": "tenant"},
    ...     {"name": "tools", "tokens": 300, "variants": 3}]})
    >>> prefix(layout, ("tenant", "tools")).number, prefix(layout, ("tenant", "user")).number
    (60.0, 1000.0)
    """
    parts = [layout[name] for name in names]
    said = next((place for place, part in enumerate(parts) if part.variants == "conversation"), None)
    first = next((place for place, part in enumerate(parts) if part.unique), len(parts))
    changes = np.inf if first < len(parts) else sum(part.changes for part in parts)
    if said is not None and said < first:
        talk = parts[said]
        assert talk.turns is not None
        assert talk.think is not None
        again = 1.0 - 1.0 / talk.turns
        found = 1.0 if said == len(parts) - 1 else again
        return Prefix(names, np.ones(1), np.ones(1), changes, 1.0 / talk.think, again, found)
    if first < len(parts):
        return Prefix(names, np.ones(1), np.ones(1), np.inf)
    implied = {outer for name in names for outer in layout.within(name)}
    shares, counts = np.ones(1), np.ones(1)
    for part in parts:
        if part.name not in implied and isinstance(part.variants, int) and part.variants > 1:
            each, many = zipf(part.variants, part.skew)
            if len(shares) > 1:
                (shares, counts), (each, many) = gathered(shares, counts), gathered(each, many)
            shares, counts = np.outer(shares, each).ravel(), np.outer(counts, many).ravel()
    return Prefix(names, *(gathered(shares, counts) if len(shares) > 4000 else (shares, counts)), changes)


def gathered(shares: Array, counts: Array, classes: int = CLASSES) -> tuple[Array, Array]:
    """The same popularity in at most so many classes, even on a logarithmic scale: their sum and their number are kept.

    >>> shares, counts = gathered(np.array([0.3, 0.1, 0.1]), np.array([1.0, 3.0, 4.0]), classes=2)
    >>> shares.tolist(), counts.tolist()
    ([0.3, 0.1], [1.0, 7.0])
    """
    if len(shares) <= classes:
        return shares, counts
    levels = np.log(shares)
    low, high = float(levels.min()), float(levels.max())
    place = np.minimum(((levels - low) / max(high - low, 1e-12) * classes).astype(np.int64), classes - 1)
    number = np.bincount(place, weights=counts, minlength=classes)
    total = np.bincount(place, weights=shares * counts, minlength=classes)
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
    # what follows the last segment stays as long as one prompt of its own would, or until the next turn has it as its history
    last = found[-1] if found[-1].turns else Prefix((), np.ones(1), np.ones(1), np.inf)
    used = [one.used(rate) for one in (*found, last)]
    rates, counts, changes, parts = (np.concatenate(column) for column in zip(*used, strict=True))
    blocks = np.repeat([*sizes, own], [len(one[0]) for one in used])
    return Items(rates, blocks * parts, counts, changes)


def best_order(layout: PromptLayout, hit: Callable[[Prefix], float]) -> tuple[str, ...]:
    """The order of segments with the most tokens found on average, those that are not movable left in their place.

    The chance to find a prefix depends on what is in it and on its last segment, not on the order before: the best order of a set
    is the best of the set without its last one, and that. Exact, over the 2^n sets (Held and Karp's way), for the chances that
    ``hit`` gives. Of orders as good the one nearest to the given is kept.
    """
    segments = layout.segments
    n = len(segments)
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    chances: dict[tuple[int, int], float] = {}
    last_counts = any(segment.variants == "conversation" for segment in segments)
    for size in range(n):
        level: dict[int, tuple[float, tuple[int, ...]]] = {}
        for taken, (value, order) in best.items():
            for place in _next(segments, taken, size):
                both = taken | 1 << place
                known = (taken, place) if last_counts else (both, 0)
                if known not in chances:
                    chances[known] = hit(prefix(layout, tuple(segments[i].name for i in (*order, place))))
                worth = value + segments[place].tokens * chances[known]
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
