"""How many tasks a system takes at once: bounds of a closed loop, and mean value analysis. Formulas broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.ops.base import Numbers


def throughput_bound(sessions: Numbers, response: Numbers, think: Numbers, most: Numbers) -> Numbers:
    """Most tasks per second that M sessions can make: min(M / (R + Z), X_max), R the response time of an empty system.

    Source: Denning and Buzen, The operational analysis of queueing network models, 1978.

    >>> throughput_bound(np.array([10, 50, 100]), 5.0, 20.0, 2.0).tolist()
    [0.4, 2.0, 2.0]
    """
    return np.minimum(np.asarray(sessions) / (np.asarray(response) + think), most)


def response_bound(sessions: Numbers, response: Numbers, think: Numbers, most: Numbers) -> Numbers:
    """Least response time with M sessions [s]: max(R, M / X_max - Z).

    >>> response_bound(np.array([10, 100]), 5.0, 20.0, 2.0).tolist()
    [5.0, 30.0]
    """
    return np.maximum(response, np.asarray(sessions) / most - think)


def knee(response: Numbers, think: Numbers, most: Numbers) -> Numbers:
    """Sessions from which on the system must queue: M* = X_max (R + Z).

    >>> knee(5.0, 20.0, 2.0)
    50.0
    """
    return most * (response + think)


def mean_value_analysis(demands: Sequence[float], sessions: int, think: float = 0.0) -> tuple[Any, Any]:
    """(throughput [1/s], response time [s]) for 1 .. M sessions of a closed network of queues with a delay: exact mean value analysis.

    ``demands`` [s]: what a task takes of each queue (visits x service), one server each, product form. An arrival sees the queues
    with one session less: R_k = D_k (1 + Q_k(m - 1)), X = m / (Z + sum R_k), Q_k = X R_k.
    Source: Reiser and Lavenberg, Mean-value analysis of closed multichain queuing networks, JACM 27, 1980.

    >>> rate, response = mean_value_analysis([0.5], 100, think=24.5)
    >>> bool(rate[-1] > 1.999), round(float(response[0]), 3)
    (True, 0.5)
    """
    if sessions < 1 or think < 0 or not demands or min(demands) < 0:
        raise SpecError("needs at least one session, one demand, and none below zero", field="sessions")
    need = np.asarray(demands, dtype=float)
    queue = np.zeros_like(need)
    rates, responses = np.empty(sessions), np.empty(sessions)
    for count in range(1, sessions + 1):
        each = need * (1 + queue)
        rate = count / (think + each.sum())
        queue = rate * each
        rates[count - 1], responses[count - 1] = rate, each.sum()
    return rates, responses
