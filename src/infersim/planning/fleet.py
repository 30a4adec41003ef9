"""How large a fleet must be: from demand and targets to replicas, spares, GPUs, nodes and racks, month by month.

A month's peak takes ceil(rate / (capacity x headroom)) replicas. Others stand by for failures and for maintenance. A fleet that
follows its load is told how many more it must hold against the rise while a replica starts; one that stands for the peak needs none.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import NoPlanError, SpecError
from infersim.planning.autoscale import Autoscaled, autoscale
from infersim.planning.availability import Placement, chance_up, standing_for, standing_with_maintenance, unavailability
from infersim.planning.cold_start import ColdStart, cold_start
from infersim.planning.demand import Demand, by_minute
from infersim.planning.options import Option, frame
from infersim.planning.service import capacity_of, service_curve
from infersim.predict.estimate import Estimate
from infersim.serving.target import Limit, read_limits
from infersim.specs.economics import Operations, operations
from infersim.specs.hardware import System
from infersim.specs.library import default_system

AVAILABILITY = 0.999
"""Chance that as many replicas are up as the peak needs, where the user states none."""


@dataclass(frozen=True)
class FleetMonth:
    """One month of a fleet. ``needed`` replicas serve its peak; ``spares`` stand by for failures, ``extra`` for maintenance."""

    month: int
    peak_rate: float
    needed: int
    spares: int
    extra: int
    devices: int
    nodes: int
    racks: int
    kilowatts: float
    available: float
    """Chance that ``needed`` replicas are up at a moment."""

    @property
    def replicas(self) -> int:
        """All that stand."""
        return self.needed + self.spares + self.extra

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; keys carry units."""
        return {
            "month": self.month, "peak_requests_per_s": self.peak_rate, "replicas_needed": self.needed, "spare_replicas": self.spares,
            "maintenance_replicas": self.extra, "replicas": self.replicas, "devices": self.devices, "nodes": self.nodes,
            "racks": self.racks, "power_kw": self.kilowatts, "availability": self.available,
        }  # fmt: skip


@dataclass(frozen=True)
class FleetPlan:
    """A fleet month by month; the last month is what to build for.

    >>> from infersim.planning.demand import Demand
    >>> plan = size_fleet(Demand(peak_rate=20.0), replica_capacity=3.0, devices_per_replica=2)
    >>> plan.last.needed, plan.last.replicas >= 7, plan.last.nodes
    (7, True, 3)
    """

    demand: Demand
    replica_capacity: float
    placement: Placement
    months: tuple[FleetMonth, ...]
    start: ColdStart | None
    scaled: Autoscaled | None
    """The busiest month's day with a fleet that follows its load, where that was asked for."""
    goal: float
    what: str
    bound: str
    """What takes most of the fleet beyond its mean load: the peak, spares, maintenance or whole nodes."""
    known: Operations
    notes: tuple[str, ...] = ()

    @property
    def last(self) -> FleetMonth:
        """The month with the highest need."""
        return max(self.months, key=lambda month: month.replicas)

    @property
    def utilisation(self) -> float:
        """Mean load of the last month over what all replicas that stand serve."""
        mean = self.last.peak_rate * sum(self.demand.profile) / len(self.demand.profile)
        return mean / (self.last.replicas * self.replica_capacity)

    @property
    def sources(self) -> list[str]:
        """What the figures rest on."""
        found = [
            f"{name} {figure.value:g} ({figure.status}): {figure.source}"
            for name, figure in self.known.figures().items()
        ]
        return [
            self.demand.source,
            f"capacity of a replica {self.replica_capacity:.4g} requests/s: {self.what}",
            *found,
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units."""
        return {
            "deployment": self.what, "replica_capacity_requests_per_s": self.replica_capacity,
            "devices_per_replica": self.placement.devices_per_replica, "devices_per_node": self.placement.devices_per_node,
            "availability_goal": self.goal, "months": [month.to_dict() for month in self.months], "utilisation": self.utilisation,
            "bound": self.bound, "cold_start": self.start.to_dict() if self.start else None,
            "autoscaled": self.scaled.to_dict() if self.scaled else None, "notes": list(self.notes), "sources": self.sources,
        }  # fmt: skip

    def to_frame(self) -> Any:
        """The months as a pandas frame."""
        return frame([month.to_dict() for month in self.months])

    def __str__(self) -> str:
        last = self.last
        lines = [
            *textwrap.wrap(self.what, 80),
            f"{self.replica_capacity:.3g} requests/s a replica of {_count(self.placement.devices_per_replica, 'GPU')}",
            "",
        ]
        lines.append(
            f"{'month':>5}{'peak/s':>9}{'needed':>8}{'spares':>8}{'upkeep':>8}{'GPUs':>7}{'nodes':>7}{'racks':>7}{'kW':>9}"
        )
        shown = self.months if len(self.months) <= 12 else self.months[:: math.ceil(len(self.months) / 12)]
        lines += [
            f"{month.month:>5}{month.peak_rate:>9.3g}{month.needed:>8,}{month.spares:>8,}{month.extra:>8,}{month.devices:>7,}"
            f"{month.nodes:>7,}{month.racks:>7,}{month.kilowatts:>9,.1f}"
            for month in [*shown, *([last] if last not in shown else [])]
        ]
        needed = f"{_count(last.needed, 'replica')} {'is' if last.needed == 1 else 'are'}"
        lines += ["", f"{needed} up {last.available:.4%} of the time (goal {self.goal:.4%})",
                  f"mean load takes {self.utilisation:.0%} of what stands; most of the rest is for {self.bound}"]  # fmt: skip
        told = list(self.notes)
        if self.scaled is not None:
            a = self.scaled
            told.insert(0, f"autoscaled: {a.paid_hours:,.0f} replica-hours a day, not {a.static_hours:,.0f}, {a.saving:.0%} saved; a "
                           f"scaler that does not foresee the day holds {a.late} more against the rise while others start")  # fmt: skip
        if self.start is not None:
            s = self.start
            told.insert(0, f"a replica starts in {s.seconds:.0f} s: machine {s.provision:.0f}, image {s.image:.0f}, weights "
                           f"{s.weights:.0f}, engine {s.engine:.0f}")  # fmt: skip
        lines += [piece for line in told for piece in textwrap.wrap(line, 80, subsequent_indent="  ")]
        return "\n".join(lines)


def size_fleet(
    demand: Demand,
    deployment: Estimate | Option | None = None,
    *,
    target: str | tuple[Limit, ...] = (),
    replica_capacity: float | None = None,
    devices_per_replica: int = 1,
    system: System | None = None,
    availability: float = AVAILABILITY,
    headroom: float = 1.0,
    autoscaled: bool = False,
    rack_kilowatts: float | None = None,
    known: Operations | None = None,
) -> FleetPlan:
    """The fleet that serves ``demand``: replicas, spares, devices, nodes and racks by month.

    ``deployment`` is one replica, or a plan's option; its capacity within ``target`` is the closed form's (an option's own where it is
    one), or ``replica_capacity`` [requests/s] where that is given, measured or simulated. Without a deployment ``devices_per_replica``
    and ``replica_capacity`` say what a replica is. ``headroom``: share of the capacity that is planned with. ``availability``: chance
    that as many replicas are up as the peak needs. ``rack_kilowatts`` limits a rack; a node is taken at its largest power.

    Raises NoPlanError where a replica cannot meet the target or a node exceeds a rack, SpecError for bad input.

    >>> from infersim import estimate
    >>> from infersim.planning.demand import sinusoid
    >>> one = estimate("meta-llama/Llama-3.1-70B-Instruct", "H200-SXM", tensor_parallel=2, precision="fp8", input_tokens=1200)
    >>> plan = size_fleet(Demand(20.0, profile=sinusoid(1.5), growth=0.08, months=12), one, target="tpot=40ms")
    >>> plan.months[0].devices < plan.months[-1].devices == plan.last.devices
    True
    """
    terms = known or operations()
    if not 0 < headroom <= 1:
        raise SpecError(f"is a share from above 0 to 1, got {headroom!r}", field="headroom")
    limits = (read_limits(target) if target else ()) if isinstance(target, str) else tuple(target)
    one = deployment.deployment if isinstance(deployment, Option) else deployment
    size, what = _replica(deployment, devices_per_replica)
    capacity = _capacity(deployment, limits, replica_capacity)
    placed = system or (one.machine.system if one is not None else None) or (
        default_system(one.machine.accelerator.name) if one is not None else None
    )  # fmt: skip
    placement = Placement(size, placed.devices_per_node if placed is not None else max(size, 8))
    watts = _node_watts(one, placed, placement)
    rack = (rack_kilowatts if rack_kilowatts is not None else terms.rack_power_kw.value) * 1e3
    notes = [] if watts is not None else ["no power of the node is on file: racks and kilowatts are not counted"]
    if watts is not None and watts > rack:
        if rack_kilowatts is not None:
            raise NoPlanError(
                f"a node draws {watts / 1e3:.1f} kW, more than a rack of {rack / 1e3:g} kW gives: ask for racks of that"
            )
        notes.append(
            f"a node draws {watts / 1e3:.1f} kW, more than the {rack / 1e3:g} kW of a usual rack: one rack each is counted"
        )
    device_down, node_down = (
        unavailability(mtbf.value, terms.repair_hours.value)
        for mtbf in (terms.device_mtbf_hours, terms.node_mtbf_hours)
    )
    each, months = capacity * headroom, []
    for number, hours in enumerate(demand.by_hour()):
        by_hour = np.maximum(np.ceil(hours / each - 1e-9), 1.0)
        needed = int(by_hour.max())
        standing = standing_for(needed, availability, placement, device_down, node_down)
        whole = standing_with_maintenance(standing, by_hour, placement, terms.maintenance_hours_per_node_month.value)
        nodes = placement.nodes(whole)
        per_rack = max(int(rack // watts), 1) if watts else 0
        months.append(FleetMonth(
            number + 1, float(hours.max()), needed, standing - needed, whole - standing, nodes * placement.devices_per_node, nodes,
            math.ceil(nodes / per_rack) if per_rack else 0, nodes * (watts or 0.0) / 1e3,
            chance_up(needed, whole, placement, device_down, node_down),
        ))  # fmt: skip
    start = cold_start(one, terms) if one is not None else None
    scaled = None
    if autoscaled:
        delay = start.seconds if start is not None else terms.provision_seconds.value + terms.engine_start_seconds.value
        day = by_minute(demand.by_hour()[int(np.argmax(demand.by_month()))])
        scaled = autoscale(day, each, start_delay=delay, scale_down_delay=terms.scale_down_seconds.value)
    plan = FleetPlan(
        demand, capacity, placement, tuple(months), start, scaled, availability, what, "", terms, tuple(notes)
    )
    return _bounded(plan)


def _bounded(plan: FleetPlan) -> FleetPlan:
    """With what most of the fleet beyond its mean load is for."""
    from dataclasses import replace

    last, placement = plan.last, plan.placement
    mean = last.needed * sum(plan.demand.profile) / len(plan.demand.profile)
    room = last.nodes * placement.devices_per_node / placement.devices_per_replica - last.replicas
    parts = {
        "the peak": last.needed - mean,
        "spares": float(last.spares),
        "maintenance": float(last.extra),
        "whole nodes": room,
    }
    return replace(plan, bound=max(parts, key=parts.__getitem__))


def _replica(deployment: Estimate | Option | None, devices: int) -> tuple[int, str]:
    """(devices of what is multiplied, what it is): two pools are multiplied together."""
    if deployment is None:
        if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
            raise SpecError(f"is a whole number from 1 on, got {devices!r}", field="devices_per_replica")
        return devices, "a replica as given"
    if isinstance(deployment, Option):
        if deployment.prefill is not None:
            return deployment.devices, deployment.describe()
        return deployment.deployment.parallelism.devices_per_replica, deployment.describe()
    return deployment.parallelism.devices_per_replica, deployment.describe()


def _capacity(deployment: Estimate | Option | None, limits: tuple[Limit, ...], given: float | None) -> float:
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given < math.inf:
            raise SpecError(f"must be above 0, got {given!r}", field="replica_capacity")
        return float(given)
    if deployment is None:
        raise SpecError("is needed where no deployment is given", field="replica_capacity")
    if isinstance(deployment, Option):
        return deployment.capacity / (deployment.replicas if deployment.prefill is None else 1)
    found = capacity_of(service_curve(deployment), limits)
    if float(found.rate) <= 0:
        limit = limits[int(found.bound)]
        raise NoPlanError(
            f"{deployment.describe()} misses {limit.name} even for one user: use more GPUs a replica or a looser target"
        )
    return float(found.rate)


def _node_watts(one: Estimate | None, system: System | None, placement: Placement) -> float | None:
    """Largest power of a node [W]: as stated, else its devices' with what stands beside them; None where neither is known."""
    if system is None or one is None or one.machine.accelerator.tdp is None:
        return system.max_power if system is not None else None
    if system.max_power is not None:
        return system.max_power
    beside = system.power_beside(one.machine.accelerator.tdp)
    from infersim.specs.economics import power_terms

    host = power_terms().host_share.value * one.machine.accelerator.tdp * placement.devices_per_node
    return one.machine.accelerator.tdp * placement.devices_per_node + (host if beside is None else beside)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
