"""Which links a group of devices talks over, and the least time a collective can take on them.

Measured behaviour (protocols, latencies, algorithm switches) is the business of ``kernels.collective``; here is only what
a data sheet and the arithmetic of the algorithm say.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from infersim.errors import SpecError, UnsupportedError
from infersim.specs.hardware import Accelerator, Link, System

Numbers = Any


@dataclass(frozen=True)
class Path:
    """The links of one group: ``inside`` ranks per node over ``inner``, ``nodes`` of them over ``outer``."""

    inside: int
    nodes: int
    inner: Link | None
    outer: Link | None


@dataclass(frozen=True)
class Fabric:
    """The links of a system as a group of devices meets them."""

    name: str
    devices_per_node: int
    scale_up: Link | None
    scale_out: Link | None
    host_link: Link | None

    def __hash__(self) -> int:
        """By name alone: cheap enough to be a cache key on every call."""
        return hash(self.name)

    @classmethod
    def of(cls, accelerator: Accelerator, system: System | None) -> Fabric:
        """The system's links, the accelerator's own where the system does not say."""
        up = system.scale_up if system and system.scale_up else accelerator.scale_up
        per_node = system.devices_per_node if system else (up.devices if up else 1)
        host = system.host_link if system and system.host_link else accelerator.host_link
        return cls(
            system.name if system else accelerator.name,
            per_node,
            up or host,
            system.scale_out if system else None,
            host,
        )

    def path(self, devices: int, stride: int = 1) -> Path:
        """How ``devices`` ranks, ``stride`` apart, spread over nodes. Raises where a link is missing."""
        return _path(self, devices, stride)


@functools.lru_cache(maxsize=4096)
def _path(fabric: Fabric, devices: int, stride: int) -> Path:
    if devices == 1:
        return Path(1, 1, None, None)
    up = fabric.scale_up
    per_node = min(fabric.devices_per_node, up.devices if up else 1)
    inside = max(1, min(devices, per_node // min(stride, per_node))) if devices * stride > per_node else devices
    nodes = -(-devices // inside)
    if inside > 1 and up is None:
        raise UnsupportedError(f"{fabric.name} states no link between its devices; name a system with --system")
    if nodes > 1 and fabric.scale_out is None:
        raise UnsupportedError(
            f"{fabric.name} holds {per_node} devices per node and states no network between nodes, "
            f"so a group of {devices} does not fit; use at most {per_node}, or name a system with a network"
        )
    return Path(inside, nodes, up.among(inside) if up and inside > 1 else None, fabric.scale_out if nodes > 1 else None)


def ring_all_reduce_time(payload: Numbers, devices: int, bandwidth: float, latency: float = 0.0) -> Numbers:
    """Ring all-reduce: 2 (n - 1) alpha + 2 (n - 1)/n P / W.

    Source: Thakur, Rabenseifner, Gropp 2005, Optimization of collective communication operations in MPICH.

    >>> round(ring_all_reduce_time(512 * 2**20, 8, 450e9) * 1e3, 3)  # 512 MiB on eight GPUs with NVLink4
    2.088
    """
    n = devices
    return 2 * (n - 1) * latency + 2 * (n - 1) / n * payload / bandwidth


def least_time(kind: str, payload: Numbers, path: Path) -> Numbers:
    """Time the busiest link needs for the bytes alone [s]: no latency, no protocol; both levels overlap.

    ``payload`` as in ``ops.memory.Collective``. Inside a node a device sends 2 (g - 1)/g P for an all-reduce, (g - 1)/g P
    for gather and scatter; across k nodes each of g devices carries its 1/g share.

    >>> up = Link(name="NVLink4", bandwidth="450 GB/s", devices=8)
    >>> round(float(least_time("all_reduce", 512 * 2**20, Path(8, 1, up, None))) * 1e3, 3)
    2.088
    """
    g, k = path.inside, path.nodes
    factor, alike = 2.0 if kind == "all_reduce" else 1.0, kind not in ("all_to_all", "send_recv")
    inner = outer = 0.0
    if path.inner:
        inner = factor * (g - 1) / g if alike else (1.0 if k == 1 else (g - 1) / (g * k - 1))
        inner /= path.inner.bandwidth
    if path.outer:
        outer = factor * (k - 1) / (k * g) if alike else 1.0 if kind == "send_recv" else g * (k - 1) / (g * k - 1)
        outer /= path.outer.bandwidth
    return payload * max(inner, outer)


def placement(accelerator: Accelerator, system: System | None, devices: int) -> Fabric:
    """The fabric for ``devices`` devices; SpecError where the system is one of another accelerator."""
    if system is not None and system.accelerator.lower() != accelerator.name.lower():
        raise SpecError(f"{system.name} is built of {system.accelerator}, not of {accelerator.name}", field="system")
    fabric = Fabric.of(accelerator, system)
    fabric.path(devices)
    return fabric
