"""Ops that only move bytes: elementwise passes, table look-ups, sampling, collectives, host copies."""

from __future__ import annotations

from dataclasses import dataclass

from infersim.mechanisms import sent_share
from infersim.ops.base import CollectiveKind, Numbers, Op


@dataclass(frozen=True)
class Elementwise(Op):
    """A pass over tensors, norms and activations included: ``read`` + ``written`` bytes, in ``kernels`` launches.

    ``fusible`` passes could ride along in the kernels beside them, so the physical limit does not count their bytes.
    ``variant`` tells apart passes of one name that a device was measured on separately: ``rms`` or ``layer`` norms; ``latency``
    [s] is what a measured pass takes beside its bytes, however few they are.
    """

    read: Numbers
    written: Numbers
    arithmetic: Numbers = 0.0
    kernels: int = 1
    fusible: bool = True
    variant: str = ""
    latency: float = 0.0

    @property
    def flops(self) -> Numbers:
        return self.arithmetic

    @property
    def bytes(self) -> Numbers:
        return self.read + self.written

    @property
    def key(self) -> str:
        """The key of its calibration.

        >>> Elementwise("norm", 1, read=1.0, written=1.0, variant="rms").key
        'norm.rms'
        """
        return f"{self.name}.{self.variant}" if self.variant else self.name


@dataclass(frozen=True)
class Collective(Op):
    """Communication among ``devices`` ranks.

    ``payload`` [B]: all_reduce and send_recv: the tensor each rank holds; all_gather: the gathered result;
    reduce_scatter: the tensor each rank brings; all_to_all: what each rank sends to all others together.
    ``stride`` is the distance between neighbouring ranks in the node's order, which decides whether the group crosses nodes.
    """

    kind: CollectiveKind
    payload: Numbers
    devices: int
    stride: int = 1
    experts_per_token: float = 0.0
    """Dispatch and combine of experts: how many a token visits, of which kernels make different numbers of messages."""
    message_bytes: float = float("inf")
    """Dispatch and combine: bytes of one token on its way to one expert."""

    @property
    def bytes(self) -> Numbers:
        """Device memory traffic is the kernel's business; the op's work is what crosses the links."""
        return 0.0

    @property
    def link_bytes(self) -> Numbers:
        """Bytes that one device must at least send.

        >>> Collective("x", 1, kind="all_reduce", payload=8.0, devices=8).link_bytes
        14.0
        """
        return sent_share(self.kind, self.devices) * self.payload


@dataclass(frozen=True)
class HostCopy(Op):
    """A copy over the host link: offloaded weights, swapped KV blocks, token ids."""

    payload: Numbers

    @property
    def link_bytes(self) -> Numbers:
        return self.payload
