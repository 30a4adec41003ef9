"""How a prompt's cache gets from the prefill pool to the decode pool, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass

from infersim.errors import SpecError
from infersim.predict.estimate import Estimate
from infersim.specs.hardware import Link

CACHE_MESSAGE = 20e-6
"""Time before the first byte of a transfer arrives [s]: assumed, of the order of a few messages over RDMA."""
INSIDE_SHARE, BETWEEN_SHARE = 0.88, 0.73
"""Share of a link's bandwidth that large messages reach: 396 of 450 GB/s between two H200 over NVLink; 73 to 74% of a network card
(published point-to-point measurements)."""


@dataclass(frozen=True)
class Transfer:
    """The way of a prompt's cache from one prefill replica to one decode replica.

    Bytes are what the devices of the decode replica get in all, shared heads once for each; ``bandwidth`` [B/s] is that of all links
    of the slower side.
    """

    token_bytes: float
    sequence_bytes: float
    bandwidth: float
    latency: float
    overlap: float = 0.0
    """Share of a prompt's last chunk behind which its cache may be sent, layer by layer. 0: sending starts when the prompt is done, as
    where decode replicas pull it (vLLM's NixlConnector, Dynamo); 1: Splitwise's layer-wise transfer."""
    last_layer: float = 0.0
    """Share of the bytes that is there to be sent only when the prompt is done."""
    windows: tuple[tuple[float, float], ...] = ()
    """(bytes per token, tokens at most) of layers that keep a window only."""

    def bytes(self, tokens: float) -> float:
        """What a prompt's cache takes."""
        windows = sum(rate * min(tokens, most) for rate, most in self.windows)
        return self.token_bytes * tokens + self.sequence_bytes + windows

    def seconds(self, tokens: float) -> float:
        """How long the links are busy with a prompt's cache.

        >>> round(Transfer(token_bytes=327680.0, sequence_bytes=0.0, bandwidth=50e9, latency=0.0).seconds(8192), 4)  # Llama-3.1-70B
        0.0537
        """
        return self.bytes(tokens) / self.bandwidth


class Port:
    """The links of one replica: caches go one after the other, in the order in which they are announced."""

    __slots__ = ("busy", "free", "last")

    def __init__(self) -> None:
        self.free = self.last = self.busy = 0.0

    def send(self, ready: float, window: float, seconds: float, last_layer: float) -> float:
        """When the links are through with a cache whose prompt is done at ``ready``; all but its ``last_layer`` may go up to
        ``window`` seconds before.

        >>> port = Port()
        >>> port.send(1.0, 0.0, 0.25, 0.125), port.send(1.0, 0.0, 0.25, 0.125)
        (1.25, 1.5)
        >>> Port().send(1.0, 0.5, 0.25, 0.125)
        1.03125
        """
        self.free = max(self.free, ready - window) + seconds
        self.last = max(self.free, max(self.last, ready) + last_layer * seconds)
        self.busy += seconds
        return self.last


def transfer_between(prefill: Estimate, decode: Estimate, overlap: float = 0.0) -> Transfer:
    """The transfer that the memory and the links of two deployments make.

    A sequence lies on tensor x pipeline x context devices of a replica: those of the decode replica each get their part, those of the
    prefill replica send equal parts, and the slower side counts. Over the links inside a node where both pools together fit in one,
    else over the network between nodes. Raises SpecError where there is neither. Source: Splitwise, arXiv:2311.18677.
    """
    if not 0 <= overlap <= 1:
        raise SpecError(f"is a share from 0 to 1, got {overlap!r}", field="transfer_overlap")
    inside = _one_node(prefill, decode)
    bound = decode.machine.mode == "bound"
    share = 1.0 if bound else INSIDE_SHARE if inside else BETWEEN_SHARE
    links = [_link(one, inside) for one in (prefill, decode)]
    sides = [one.parallelism.tensor * one.parallelism.pipeline * one.parallelism.context for one in (prefill, decode)]
    rates, getting = decode.memory.rates, sides[1]
    return Transfer(
        token_bytes=rates.per_token * getting, sequence_bytes=rates.per_sequence * getting,
        bandwidth=share * min(side * link.bandwidth for side, link in zip(sides, links, strict=True)),
        latency=max(link.latency or 0.0 for link in links) + (0.0 if bound else CACHE_MESSAGE), overlap=overlap,
        last_layer=1.0 / decode.model.num_layers, windows=tuple((rate * getting, most) for rate, most in rates.windows),
    )  # fmt: skip


def _one_node(prefill: Estimate, decode: Estimate) -> bool:
    """Whether both pools together fit one node of the same devices."""
    p, d = prefill.machine, decode.machine
    room = d.fabric.devices_per_node if d.fabric.scale_up else 1
    return p.accelerator == d.accelerator and p.system == d.system and prefill.devices + decode.devices <= room


def _link(one: Estimate, inside: bool) -> Link:
    """What a device of a pool sends or receives caches over."""
    fabric = one.machine.fabric
    link = fabric.scale_up if inside else fabric.scale_out
    if link is None:
        raise SpecError(
            f"{fabric.name} states no network between nodes for the cache to travel on; name a system that has one",
            field="system",
        )
    return link.among(2) if inside else link
