"""How many replicas must stand by so that enough are up: failures of devices and nodes, repair, maintenance.

Devices and nodes fail independently at constant rates and are repaired one by one, each in the same mean time. A failed node
takes all replicas on it along; a failed device only its own. A spare takes over at once (it is loaded and waits).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import NoPlanError, SpecError
from infersim.ops.base import Numbers
from infersim.planning.demand import Array

HOURS_PER_MONTH = 730.0
DAYS_PER_MONTH = HOURS_PER_MONTH / 24


def unavailability(mtbf: Numbers, repair: Numbers) -> Any:
    """Share of the time that one part is down: repair / (MTBF + repair), both in one unit; broadcasts.

    >>> unavailability(990.0, 10.0)
    0.01
    """
    return repair / (mtbf + repair)


@dataclass(frozen=True)
class Placement:
    """How replicas stand in nodes: they straddle nodes only where they are larger than one."""

    devices_per_replica: int
    devices_per_node: int

    @property
    def per_node(self) -> int:
        """Replicas that share a node; 1 where a replica takes one or more."""
        return max(self.devices_per_node // self.devices_per_replica, 1)

    @property
    def nodes_per_replica(self) -> int:
        """Nodes that a replica needs to be up."""
        return math.ceil(self.devices_per_replica / self.devices_per_node)

    def nodes(self, replicas: int) -> int:
        """Nodes for so many replicas.

        >>> Placement(2, 8).nodes(5), Placement(16, 8).nodes(3), Placement(3, 8).nodes(3)
        (2, 6, 2)
        """
        return math.ceil(replicas / self.per_node) * self.nodes_per_replica


def chance_up(needed: int, standing: int, placement: Placement, device_down: float, node_down: float) -> float:
    """Chance that at least ``needed`` of ``standing`` replicas are up at a moment.

    Exact for independent parts: nodes that are up are binomial, and so are the replicas up on them whose devices all work.

    >>> round(chance_up(2, 2, Placement(8, 8), 0.0, 0.1), 4), round(chance_up(2, 3, Placement(8, 8), 0.0, 0.1), 4)
    (0.81, 0.972)
    """
    from scipy.stats import binom

    works = (1 - device_down) ** placement.devices_per_replica
    group_up = (1 - node_down) ** placement.nodes_per_replica
    full, rest = divmod(standing, placement.per_node)
    up = np.arange(full + 1)
    weight = binom.pmf(up, full, group_up)
    enough = binom.sf(needed - 1, up * placement.per_node, works)
    if rest:
        with_rest = binom.sf(needed - 1, up * placement.per_node + rest, works)
        enough = (1 - group_up) * enough + group_up * with_rest
    return float(min(weight @ enough, 1.0))


def standing_for(needed: int, goal: float, placement: Placement, device_down: float, node_down: float) -> int:
    """The fewest replicas of which at least ``needed`` are up with a chance of ``goal``.

    Raises NoPlanError where half of all replicas would be down: spares are no answer then.

    >>> standing_for(10, 0.999, Placement(1, 1), 0.01, 0.0)
    12
    """
    if not 0 <= goal < 1:
        raise SpecError(f"is a chance from 0 up to and without 1 (0.999), got {goal!r}", field="availability")
    if needed < 1:
        raise SpecError(f"is a whole number from 1 on, got {needed!r}", field="replicas")
    up = (1 - device_down) ** placement.devices_per_replica * (1 - node_down) ** placement.nodes_per_replica
    if up < 0.5:
        raise NoPlanError(
            f"a replica of {placement.devices_per_replica} devices is up {up:.0%} of the time: use smaller replicas, or repair faster"
        )
    reached: Callable[[int], bool] = lambda n: chance_up(needed, n, placement, device_down, node_down) >= goal  # noqa: E731
    low, step = needed - 1, 1
    while not reached(low + step):
        low, step = low + step, step * 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def maintenance_fits(standing: int, needed_by_hour: Array, placement: Placement, hours_per_node_month: float) -> bool:
    """Whether all nodes can be drained in turn every month in hours that leave enough replicas for the demand.

    In every hour of the day as many nodes are drained at once as its demand leaves over.

    >>> day = np.array([4.0] * 12 + [8.0] * 12)
    >>> maintenance_fits(8, day, Placement(8, 8), 2.0), maintenance_fits(8, day + 4, Placement(8, 8), 2.0)
    (True, False)
    """
    nodes = placement.nodes(standing)
    spare = np.maximum(standing - np.asarray(needed_by_hour), 0.0)
    drained = np.minimum(np.floor(spare / min(placement.per_node, standing)) * placement.nodes_per_replica, nodes)
    return bool(drained.sum() * DAYS_PER_MONTH >= nodes * hours_per_node_month)


def standing_with_maintenance(
    standing: int, needed_by_hour: Array, placement: Placement, hours_per_node_month: float
) -> int:
    """The fewest replicas, ``standing`` or more, with which maintenance fits (``maintenance_fits``).

    >>> standing_with_maintenance(4, np.full(24, 4.0), Placement(8, 8), 2.0)
    5
    """
    most_hours = HOURS_PER_MONTH / 2
    if not 0 <= hours_per_node_month <= most_hours:
        raise SpecError(
            f"lies between 0 and {most_hours:g}, got {hours_per_node_month!r}", field="maintenance_hours_per_node_month"
        )
    found = standing
    while not maintenance_fits(found, needed_by_hour, placement, hours_per_node_month):
        found += 1
    return found
