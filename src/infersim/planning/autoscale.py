"""A fleet that follows its load against one that stands for the peak: replicas by the minute over a day that comes again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.planning.demand import Array


@dataclass(frozen=True)
class Autoscaled:
    """A day of an autoscaled fleet, in steps of ``step`` seconds; replicas are paid from their start to their end."""

    needed: Array
    """Replicas that the load of each step takes."""
    paid: Array
    """Replicas that run or start: ordered a start delay before they are needed, kept for the scale-down delay after."""
    late: int
    """Replicas that a scaler without foresight must hold above the load, so that none is missing while others start."""
    static: int
    """Replicas of the static fleet: the most ever needed."""
    step: float

    @property
    def paid_hours(self) -> float:
        """Replica-hours a day."""
        return float(self.paid.sum() * self.step / 3600)

    @property
    def static_hours(self) -> float:
        return self.static * len(self.needed) * self.step / 3600

    @property
    def saving(self) -> float:
        """Share of the static fleet's hours that is saved."""
        return 1 - self.paid_hours / self.static_hours

    @property
    def over_provision(self) -> float:
        """Paid replica-hours over those that the load takes at each moment, less one."""
        return float(self.paid.sum() / self.needed.sum() - 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; keys carry units."""
        return {
            "replica_hours_per_day": self.paid_hours, "static_replica_hours_per_day": self.static_hours, "saving": self.saving,
            "over_provision": self.over_provision, "least_replicas": int(self.paid.min()), "most_replicas": int(self.paid.max()),
            "reactive_headroom_replicas": self.late,
        }  # fmt: skip


def autoscale(
    rates: Array,
    replica_capacity: float,
    *,
    start_delay: float,
    scale_down_delay: float = 0.0,
    min_replicas: int = 1,
    target_utilisation: float = 1.0,
    step: float = 60.0,
) -> Autoscaled:
    """Replicas for ``rates`` [requests/s], one per ``step`` seconds of a period that comes again.

    The scaler knows the profile: it orders a replica ``start_delay`` before the load needs it, and stops one that was not needed for
    ``scale_down_delay``. Delays count in whole steps, rounded up, and are at most the period. ``late`` says what one that only sees
    the present load would need on top.

    >>> day = np.array([1.0, 1.0, 4.0, 4.0])
    >>> found = autoscale(day, 1.0, start_delay=60, step=60)
    >>> found.paid.tolist(), found.late, found.static
    ([1.0, 4.0, 4.0, 4.0], 3, 4)
    """
    if not (0 < replica_capacity < math.inf and 0 < target_utilisation <= 1):
        raise SpecError("needs a capacity above 0 and a target utilisation from above 0 to 1", field="autoscale")
    if min(start_delay, scale_down_delay) < 0 or min_replicas < 0 or step <= 0:
        raise SpecError(
            "delays and the least number of replicas are zero or more, steps last longer", field="autoscale"
        )
    from scipy.ndimage import maximum_filter1d

    each = replica_capacity * target_utilisation
    needed = np.maximum(np.ceil(np.asarray(rates, dtype=float) / each - 1e-9), max(min_replicas, 0))
    most = len(needed) - 1
    ahead, behind = (min(math.ceil(delay / step), most) for delay in (start_delay, scale_down_delay))
    return Autoscaled(
        needed, _highest(needed, ahead, behind, maximum_filter1d), _late(needed, ahead, maximum_filter1d), int(needed.max()), step
    )  # fmt: skip


def _highest(values: Array, ahead: int, behind: int, filter_: Any) -> Array:
    """The highest value from ``behind`` steps before to ``ahead`` steps after, round and round."""
    size = min(ahead + behind + 1, len(values))
    if size == 1:
        return values
    padded = np.concatenate([values, values, values])
    # the filter looks from size // 2 steps before the place on; an origin above zero moves it back
    found = filter_(padded, size, origin=behind - size // 2, mode="nearest")
    return np.asarray(found[len(values) : 2 * len(values)])


def _late(needed: Array, delay: int, filter_: Any) -> int:
    """The most by which the need rises within a start delay."""
    return int((_highest(needed, delay, 0, filter_) - needed).max())
