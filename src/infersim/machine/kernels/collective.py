"""Time of communication among devices: latency and bytes over links, by the algorithm that is fastest at each size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, parameter
from infersim.machine.network import Path


@dataclass(frozen=True)
class CollectiveParameters:
    """What a data sheet does not say about a system's communication library."""

    launch: float = parameter(4e-6, 1e-6, 1e-4, "time of the smallest call", unit="s", log=True)
    hop: float = parameter(0.4e-6, 1e-8, 2e-5, "added by every further device in a node", unit="s", log=True)
    node_hop: float = parameter(5e-6, 1e-6, 1e-4, "added by every step across nodes", unit="s", log=True)
    bandwidth_efficiency: float = parameter(0.75, 0.05, 1.0, "share of the link that large messages reach")
    half_size: float = parameter(2e6, 1e4, 1e9, "bytes at which half of that share is reached", unit="B", log=True)


def collective_time(kind: str, payload: Numbers, path: Path, parameters: CollectiveParameters) -> Numbers:
    """Seconds of a collective over ``path``; ``payload`` bytes as in ``ops.memory.Collective``.

    Inside a node the faster of one-shot (every rank reads all peers: one latency, (n - 1) P) and ring or two-shot
    (2 (n - 1)/n P) all-reduce; across nodes a hierarchical one, each device carrying its share. Large messages reach a
    share of the link that grows with their size.

    >>> from infersim.specs.hardware import Link
    >>> nvlink = Link(name="NVLink4", bandwidth="450 GB/s", devices=8)
    >>> small, large = (float(collective_time("all_reduce", b, Path(8, 1, nvlink, None), CollectiveParameters())) for b in (16384, 2**29))
    >>> 4e-6 < small < 1.2e-5, 2.0e-3 < large < 4e-3  # measured on 8 x H100: 5 us and 2.1 ms
    (True, True)
    """
    p, P = parameters, np.asarray(payload, dtype=float)
    g, k = path.inside, path.nodes
    seconds: Numbers = p.launch + p.hop * (g - 1) + p.node_hop * 2 * (k - 1)
    if path.inner is not None:
        share = _share(kind, g) if k == 1 or kind not in ("all_to_all", "send_recv") else (g - 1) / (g * k - 1)
        rate = path.inner.bandwidth * p.bandwidth_efficiency
        through = (share * P + p.half_size * P / (P + p.half_size)) / rate
        if kind == "all_reduce":
            through = np.minimum(through, (g - 1) * P / rate + p.hop)
        seconds = seconds + through
    if path.outer is not None:
        if kind == "send_recv":
            crossing = P
        elif kind == "all_to_all":
            crossing = P * g * (k - 1) / (g * k - 1)
        else:
            crossing = _share(kind, k) * P / g
        seconds = seconds + crossing / (path.outer.bandwidth * p.bandwidth_efficiency)
    return np.where(P > 0, seconds, 0.0)


def _share(kind: str, ranks: int) -> float:
    """Bytes one rank sends over the payload."""
    if kind == "all_reduce":
        return 2 * (ranks - 1) / ranks
    return 1.0 if kind in ("all_to_all", "send_recv") else (ranks - 1) / ranks
