"""The Pareto front of a search: speed for a user, throughput of a GPU and cost of a token, over all loads of all candidates."""

from __future__ import annotations

import numpy as np

from infersim.planning.market import Market, Question
from infersim.planning.options import FrontPoint
from infersim.planning.pareto import pareto_front

MOST_POINTS = 200


def operating_front(market: Market, question: Question) -> tuple[FrontPoint, ...]:
    """The points of all aggregated candidates' curves that keep the limits on TTFT and that no other point dominates.

    Without any price it is the front of the other two. The slowest for a user first. A front of more than MOST_POINTS is thinned
    evenly.
    """
    curves, allowed = market.curves, np.ones(market.curves.rate.shape, dtype=bool)
    for limit in question.limits:
        if limit.metric == "ttft":
            allowed &= curves.ttft * question.scatter.factor(limit) <= limit.seconds
    workload, generates = market.deployments[0].workload, market.deployments[0].model.task == "generate"
    tokens = workload.output_tokens if generates else workload.input_tokens
    with np.errstate(divide="ignore"):
        speed = 1.0 / curves.tpot if generates else tokens / curves.ttft
    per_gpu = curves.rate * tokens / market.devices[:, None]
    money = market.prices[:, None] / 3600 / per_gpu * 1e6
    columns = [speed, per_gpu] + ([-money] if not np.isnan(money).all() else [])
    points = np.stack([np.where(allowed, column, np.nan).ravel() for column in columns], axis=-1)
    front = pareto_front(points)
    front = front[np.argsort(points[front, 0], kind="stable")]
    if len(front) > MOST_POINTS:
        front = front[np.unique(np.linspace(0, len(front) - 1, MOST_POINTS).round().astype(int))]
    found = []
    for index in front.tolist():
        row, column = divmod(index, curves.rate.shape[1])
        one = market.deployments[row]
        price = float(money[row, column])
        found.append(FrontPoint(
            one.machine.accelerator.name, one.describe(), float(curves.users[row, column]), float(speed[row, column]),
            float(per_gpu[row, column]), None if np.isnan(price) else price, float(curves.ttft[row, column]),
        ))  # fmt: skip
    return tuple(found)
