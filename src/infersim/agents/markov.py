"""Absorbing Markov chains: visits, ends, and the first two moments of what a walk adds up, a context that grows along the way included.

A walk pays X = a + b k at each state, k being the context it has so far [tokens], and adds D to the context on the edges that grow.
What is left to pay from state n with context k, V_n(k), then has a mean that is a straight line in k and a mean square that is a
parabola, whose coefficients solve linear systems with the one matrix I - Q.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import SpecError

Array = Any


def expected_visits(transient: Array) -> Array:
    """Fundamental matrix N = (I - Q)^-1: mean visits to state j (columns) of a walk from i (rows), the first included.

    Source: Kemeny and Snell, Finite Markov Chains, 1960, theorem 3.2.4.

    >>> expected_visits([[0.8]])
    array([[5.]])
    """
    Q = np.asarray(transient, dtype=float)
    return np.linalg.inv(np.eye(len(Q)) - Q)


def reward_moments(transient: Array, reward: Array) -> tuple[Array, Array]:
    """Mean and variance of what a walk from each state adds up, at ``reward`` c per visit: m = N c, E2 = N (c c + 2 c (Q m)).

    Constant rewards; ``Chain.moments`` takes random ones and a growing context. Source: Kemeny and Snell, 1960, section 3.3.

    >>> mean, variance = reward_moments([[0.8]], [1.0])
    >>> float(mean[0]), round(float(variance[0]), 9)
    (5.0, 20.0)
    """
    Q, c = np.asarray(transient, dtype=float), np.asarray(reward, dtype=float)
    N = expected_visits(Q)
    m = N @ c
    return m, N @ (c * c + 2 * c * (Q @ m)) - m * m


@dataclass(frozen=True)
class Charges:
    """Moments of what a visit to each state pays, X = a + b k, and of how they go with the growth D of the context; arrays over states."""

    a: Array
    b: Array
    aa: Array
    ab: Array
    bb: Array
    aD: Array  # noqa: N815 - the letters of the formula
    bD: Array  # noqa: N815


@dataclass(frozen=True)
class Chain:
    """States 0 .. n-1 that a walk passes and ends that keep it. ``grow`` and ``keep`` are the chances of edges that add D to the context
    and that do not; ``ends`` those of ending, a column per end; sparse or dense."""

    grow: Any
    keep: Any
    ends: Any
    start: Array
    """Chance of each state to be the first."""
    context: float
    """Context at the start [tokens]."""
    growth: Array
    """Mean of D by state."""
    growth_square: Array

    @functools.cached_property
    def _matrix(self) -> Any:
        from scipy.sparse import csc_matrix, identity
        from scipy.sparse.linalg import splu

        Q = csc_matrix(self.grow) + csc_matrix(self.keep)
        return splu(csc_matrix(identity(Q.shape[0]) - Q))

    def _left(self, right: Array) -> Array:
        """x with (I - Q) x = right."""
        return self._matrix.solve(np.asarray(right, dtype=float))

    def _flow(self, right: Array) -> Array:
        """x with x (I - Q) = right."""
        return self._matrix.solve(np.asarray(right, dtype=float), trans="T")

    @functools.cached_property
    def visits(self) -> Array:
        """Mean visits by state."""
        found = self._flow(self.start)
        if not np.isfinite(found).all() or (found < -1e-9).any():
            raise SpecError("the chain does not come to an end", field="states")
        return np.maximum(found, 0.0)

    @functools.cached_property
    def ending(self) -> Array:
        """Chance of each end."""
        return np.asarray(self.visits @ self.ends).ravel()

    @functools.cached_property
    def contexts(self) -> tuple[Array, Array]:
        """Mean and standard deviation of the context at a visit, by state [tokens]."""
        visits, grown = self.visits, self.grow.T
        first = self._flow(self.context * self.start + grown @ (visits * self.growth))
        second = self._flow(
            self.context**2 * self.start + grown @ (2 * first * self.growth + visits * self.growth_square)
        )
        often = np.maximum(visits, 1e-300)
        mean = first / often
        return mean, np.sqrt(np.maximum(second / often - mean**2, 0.0))

    def moments(self, pay: Charges) -> tuple[float, float]:
        """Mean and variance of what a walk from the start pays."""
        grow, both, D, DD = self.grow, self.grow + self.keep, self.growth, self.growth_square
        beta = self._left(pay.b)
        alpha = self._left(pay.a + D * (grow @ beta))
        epsilon = self._left(pay.bb + 2 * pay.b * (both @ beta))
        delta = self._left(
            2
            * (pay.ab + pay.a * (both @ beta) + pay.b * (both @ alpha) + pay.bD * (grow @ beta) + D * (grow @ epsilon))
        )
        gamma = self._left(
            pay.aa + 2 * (pay.a * (both @ alpha) + pay.aD * (grow @ beta)) + D * (grow @ delta) + DD * (grow @ epsilon)
        )
        k = self.context
        mean = float(self.start @ (alpha + beta * k))
        square = float(self.start @ (gamma + delta * k + epsilon * k * k))
        return mean, max(square - mean**2, 0.0)


def constant_charges(mean: Array, square: Array) -> Charges:
    """Charges that do not depend on the context."""
    zero = np.zeros_like(np.asarray(mean, dtype=float))
    return Charges(np.asarray(mean, dtype=float), zero, np.asarray(square, dtype=float), zero, zero, zero, zero)
