"""Time of communication among devices: latency and bytes over links, by the algorithm an engine takes at each size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, parameter
from infersim.machine.network import Path, least_time
from infersim.mechanisms import sent_share
from infersim.specs.hardware import Link


@dataclass(frozen=True)
class CollectiveParameters:
    """What a data sheet does not say about a system's communication kernels under one engine."""

    launch: float = parameter(4.5e-6, 1e-6, 2e-4, "engine's own kernel: time of the smallest call", unit="s", log=True)
    hop: float = parameter(2e-7, 1e-8, 2e-5, "engine's own kernel: added by every further device", unit="s", log=True)
    direct_efficiency: float = parameter(0.6, 0.002, 1.0, "engine's own kernel: share of the link it reaches", log=True)
    limit: float = parameter(8e6, 1.0, 1e12, "largest payload for the engine's own kernel", unit="B", log=True)
    own_devices: float = parameter(8.0, 1.0, 1024.0, "most devices the engine's own kernel serves")
    library_launch: float = parameter(8e-6, 1e-6, 5e-4, "library: time of the smallest call", unit="s", log=True)
    library_hop: float = parameter(1.5e-6, 1e-8, 1e-4, "library: added by every further device", unit="s", log=True)
    bandwidth_efficiency: float = parameter(
        0.8, 0.01, 1.0, "library: share of the link that large messages reach", log=True
    )
    half_size: float = parameter(
        1.5e6, 1e3, 1e9, "library: bytes at which half of that share is reached", unit="B", log=True
    )
    decay: float = parameter(0.0, -0.5, 3.0, "share lost as devices grow: efficiency x (2 / devices)^decay")
    direct_decay: float = parameter(0.0, -0.5, 3.0, "the same of the engine's own kernel")
    node_hop: float = parameter(5e-6, 1e-6, 1e-4, "added by every step across nodes", unit="s", log=True)
    node_efficiency: float = parameter(0.74, 0.05, 1.0, "share of the network that large messages reach")
    message: float = parameter(
        1e-12, 1e-12, 1e-6, "expert exchange: added by every token sent to another rank", unit="s", log=True
    )


PCIE = CollectiveParameters(
    launch=5e-6, hop=2e-7, direct_efficiency=0.6, limit=8.3e6, own_devices=2.0, library_launch=6e-6, library_hop=2.2e-6,
    bandwidth_efficiency=0.6, half_size=2e5, decay=0.9,
)  # fmt: skip
"""Family default where devices talk through PCIe switches and the host: between an L40S and an RTX PRO 6000 server."""


def family_default(link: Link | None) -> CollectiveParameters:
    """Parameters where nothing was measured: PCIe is no slow NVLink, what it reaches falls as devices grow."""
    return PCIE if link is not None and link.topology == "pcie" else CollectiveParameters()


def collective_time(
    kind: str,
    payload: Numbers,
    path: Path,
    parameters: CollectiveParameters | None = None,
    *,
    message_bytes: Numbers = np.inf,
) -> Numbers:
    """Seconds of a collective over ``path``.

    ``payload`` [B], as in ``ops.memory.Collective``: all_reduce and send_recv the tensor each rank holds, all_gather the
    gathered result, reduce_scatter the tensor each rank brings, all_to_all what each rank sends to the others together, in
    messages of ``message_bytes`` where tokens go to experts.

    Inside a node a small all-reduce among few devices takes the engine's own kernel, the faster of one-shot (each rank
    reads all peers, one latency, (n - 1) P) and two-shot (two latencies, 2 (n - 1)/n P); beyond ``limit``, among more
    devices, and for every other kind, the library: latency by devices, then bytes at a rate that grows with the message.
    Across k nodes of g devices the transfer is hierarchical, each device carrying its 1/g share over the network: 2 (k -
    1)/k P/g for an all-reduce.
    Never below ``network.least_time`` of the links. ``parameters`` None takes the family's default for the link.

    >>> from infersim.specs.hardware import Link
    >>> nvlink, pcie = (Link(name=n, bandwidth=b, devices=8, topology=t) for n, b, t in (
    ...     ("NVLink4", "450 GB/s", "switch"), ("PCIe4 x16", "31.5 GB/s", "pcie")))
    >>> small, large = (float(collective_time("all_reduce", b, Path(8, 1, nvlink, None))) for b in (16384, 2**29))
    >>> 4e-6 < small < 8e-6, 2.0e-3 < large < 3.2e-3  # measured on 8 x H100: 5 us and 2.1 ms
    (True, True)
    >>> 5e-3 < float(collective_time("all_reduce", 2**24, Path(4, 1, pcie, None))) * 2 < 2e-2  # 4 x L40S: 6.7 ms
    True
    """
    p = parameters if parameters is not None else family_default(path.inner)
    P = np.asarray(payload, dtype=float)
    g, k = path.inside, path.nodes
    seconds: Numbers = 0.0
    if path.inner is not None and g > 1:
        inside = P
        if k > 1 and kind in ("all_to_all", "send_recv"):
            inside = P * (g - 1) / (g * k - 1)
        seconds = _library(kind, inside, g, path.inner.bandwidth, p)
        if kind == "all_reduce" and g <= p.own_devices:
            own = _own(np.minimum(inside, p.limit), g, path.inner.bandwidth, p)
            seconds = np.where(inside <= p.limit, own, np.maximum(seconds, own))
    if path.outer is not None and k > 1:
        steps = 2 if kind == "all_reduce" else 1
        crossing = sent_share(kind, k) * P / g
        if kind == "all_to_all":
            crossing = P * g * (k - 1) / (g * k - 1)
        elif kind == "send_recv":
            crossing = P
        ways = np.log2(k) if kind == "all_reduce" else 1.0
        start = 0.0 if path.inner is not None and g > 1 else p.library_launch
        seconds = seconds + start + p.node_hop * steps * ways + crossing / (path.outer.bandwidth * p.node_efficiency)
    seconds = seconds + P * (p.message / message_bytes)
    return np.where(P > 0, np.maximum(seconds, least_time(kind, P, path)), 0.0)


def _own(P: Numbers, n: int, bandwidth: float, p: CollectiveParameters) -> Numbers:
    """An engine's own all-reduce kernel: one-shot or two-shot."""
    rate = bandwidth * min(p.direct_efficiency * (2.0 / n) ** p.direct_decay, 1.0)
    latency = p.launch + p.hop * (n - 1)
    return latency + np.minimum(P * ((n - 1) / rate), 2 * p.hop + P * (2 * (n - 1) / n / rate))


def _library(kind: str, P: Numbers, n: int, bandwidth: float, p: CollectiveParameters) -> Numbers:
    """A library's kernel: latency by devices, a rate that grows with the message."""
    rate = bandwidth * min(p.bandwidth_efficiency * (2.0 / n) ** p.decay, 1.0)
    sent = sent_share(kind, n) * P
    return (p.library_launch + p.library_hop * (n - 1)) + (sent + p.half_size * sent / (sent + p.half_size)) / rate


COLLECTIVE_AXES = ("payload", "devices")
"""Where a residual surface is read."""
