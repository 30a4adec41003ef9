"""How many tokens a verified draft yields: expectation, distribution, and the steps that an output takes.

A step of speculative decoding verifies a draft of k tokens (or a tree of depth k) in one pass of the target model and yields
1 + j tokens, j being how many drafts were accepted before the first rejection. All follows from ``reached``: the probability,
by position, that the draft was accepted at least that far. Sources: Leviathan et al., arXiv:2211.17192; Chen et al.,
arXiv:2302.01318. Accepting by rejection sampling leaves the output's distribution as it was.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
EXACT_TOKENS = 256
"""Outputs to this length get the exact distribution of their steps; longer ones its normal limit."""


def reached_by(rates: Sequence[float]) -> tuple[float, ...]:
    """Probability that at least the first 1, 2, ... drafts are accepted: products of each one's rate given those before it.

    >>> reached_by([0.5, 0.5])
    (0.5, 0.25)
    """
    return tuple(accumulate(rates, lambda before, rate: before * rate))


def expected_tokens(reached: Sequence[float]) -> float:
    """Tokens that a step yields on average: 1 + sum of ``reached``; (1 - a^(k+1)) / (1 - a) where every rate is a.

    >>> round(expected_tokens(reached_by([0.8] * 4)), 4), round(expected_tokens(reached_by([0.75] * 7)), 4)
    (3.3616, 3.5995)
    >>> expected_tokens([0.0] * 4), expected_tokens([1.0] * 4)
    (1.0, 5.0)
    """
    return 1.0 + sum(reached)


def tree_reached(paths: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """``reached`` of a draft tree, from the probability of each node that it and all before it are accepted, level by level.

    At most one node of a level is accepted, so their probabilities add: E = 1 + sum over all nodes.

    >>> tree_reached([[0.6, 0.25], [0.5, 0.125]])
    (0.85, 0.625)
    """
    return tuple(float(sum(level)) for level in paths)


def tokens_distribution(reached: Sequence[float]) -> tuple[float, ...]:
    """Probability that a step yields 1, 2, ... k + 1 tokens.

    >>> tokens_distribution((0.5, 0.25))
    (0.5, 0.25, 0.25)
    """
    ends = (1.0, *reached, 0.0)
    return tuple(ends[place] - ends[place + 1] for place in range(len(reached) + 1))


def rate_of_length(length: float, drafts: int) -> float:
    """The one rate at which ``drafts`` tokens yield ``length`` tokens a step on average: what a mean alone says.

    >>> round(rate_of_length(3.3616, 4), 6)
    0.8
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_tokens(reached_by([middle] * drafts)) < length else (low, middle)
    return (low + high) / 2


def _overshoot(reached: Sequence[float]) -> float:
    """Tokens of the last step beyond the output's end, for long outputs: (E[X^2] / E[X] - 1) / 2 of a renewal process."""
    squares = sum(probability * tokens**2 for tokens, probability in enumerate(tokens_distribution(reached), 1))
    return (squares / expected_tokens(reached) - 1) / 2


@functools.lru_cache(maxsize=64)
def _short_steps(reached: tuple[float, ...]) -> Array:
    """Mean steps of outputs of 0 .. EXACT_TOKENS tokens: m(n) = 1 + sum_x p(x) m(n - x)."""
    means, chances = np.zeros(EXACT_TOKENS + 1), tokens_distribution(reached)
    for tokens in range(1, EXACT_TOKENS + 1):
        means[tokens] = 1 + sum(p * means[max(tokens - x, 0)] for x, p in enumerate(chances, 1))
    return means


def mean_steps(tokens: Any, reached: tuple[float, ...]) -> Any:
    """Steps that ``tokens`` tokens take on average; what the last step yields beyond them is lost.

    Exact to EXACT_TOKENS, beyond it the limit (tokens + overshoot) / E. Broadcasts over ``tokens``; fractions lie between.

    >>> float(mean_steps(10, ())), float(mean_steps(10, (1.0,))), round(float(mean_steps(1000, (0.8,))), 2)
    (10.0, 5.0, 555.8)
    """
    n = np.asarray(tokens, dtype=float)
    limit = (n + _overshoot(reached)) / expected_tokens(reached)
    return np.where(n <= EXACT_TOKENS, np.interp(n, np.arange(EXACT_TOKENS + 1), _short_steps(reached)), limit)


_NORMAL = NormalDist()


class StepsOf:
    """How many steps an output takes, as a quantile: equal luck gives more steps to less acceptance.

    >>> steps = StepsOf((0.8, 0.64))
    >>> [steps(100, luck) for luck in (0.05, 0.5, 0.95)], steps(0, 0.5)
    ([38, 41, 45], 0)
    """

    def __init__(self, reached: tuple[float, ...]) -> None:
        self.most = len(reached) + 1
        self.mean = expected_tokens(reached)
        self._overshoot = _overshoot(reached)
        chances = tokens_distribution(reached)
        variance = sum(p * (x - self.mean) ** 2 for x, p in enumerate(chances, 1))
        self._spread = math.sqrt(variance / self.mean**3)
        """Standard deviation of the steps per root of the tokens, by the central limit of renewal processes."""
        probabilities = np.zeros((EXACT_TOKENS + 1, EXACT_TOKENS + 1))
        probabilities[0, 0] = 1.0
        for tokens in range(1, EXACT_TOKENS + 1):
            for x, p in enumerate(chances, 1):
                probabilities[tokens, 1:] += p * probabilities[max(tokens - x, 0), :-1]
        self._chances: list[list[float]] = np.cumsum(probabilities, axis=1).tolist()

    def __call__(self, tokens: int, luck: float) -> int:
        """The ``luck`` quantile (between 0 and 1) of the steps that ``tokens`` tokens take."""
        if tokens <= EXACT_TOKENS:
            found = bisect_left(self._chances[tokens], luck)
        else:
            centre = (tokens + self._overshoot) / self.mean
            found = round(centre + self._spread * math.sqrt(tokens) * _NORMAL.inv_cdf(luck))
        return min(max(found, -(-tokens // self.most)), tokens)


def speedup(tokens: Any, plain: Any, drafted: Any) -> Any:
    """How much faster decoding gets: E x (time of a plain step) / (time of a step that drafts and verifies).

    With one sequence and a drafter of c times the target's time this is E / (k c + 1), as published.

    >>> float(speedup(3.3616, 1.0, 4 * 0.05 + 1.0))
    2.80133
    """
    return np.asarray(tokens) * plain / np.asarray(drafted)


def break_even_batch(gain: Callable[[Array], Any], most: int = 4096) -> int | None:
    """The smallest batch from which on drafting is slower than plain decoding; None where it pays at all up to ``most``.

    ``gain`` gives the speed-up at an array of batches. Check: on a roofline whose ridge is 295 tokens, four drafts accepted at
    0.8 by a free drafter pay up to 295 x 3.3616 / 5 = 198.

    >>> step = lambda tokens: np.maximum(tokens / 295, 1.0)
    >>> break_even_batch(lambda batch: speedup(3.3616, step(batch), step(5 * batch)))
    199
    """
    batches = np.arange(1, most + 1, dtype=float)
    pays = np.flatnonzero(np.broadcast_to(np.asarray(gain(batches)), batches.shape) >= 1.0)
    last = int(pays[-1]) + 1 if len(pays) else 0
    return last + 1 if last < most else None
