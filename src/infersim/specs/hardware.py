"""What a data sheet says: accelerators, and the systems they are built into. No efficiency enters here.

Peaks are dense, with fp32 accumulation; link bandwidth is per device and direction. Fields a vendor does not publish
stay empty, and whatever needs them says so.
"""

from __future__ import annotations

import functools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from infersim.specs.quantity import (
    Bandwidth,
    Bytes,
    FlopRate,
    Hertz,
    Money,
    MoneyRate,
    Seconds,
    Source,
    Spec,
    Watts,
)  # fmt: skip

MatrixUnit = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp6", "fp4", "int4"]
"""What a device multiplies natively: the key of ``Accelerator.peak_flops``."""


class Memory(Spec):
    """Device memory. ``capacity`` is the nominal one; ``usable`` what a driver reports, where it is known."""

    kind: str | None = None
    capacity: Bytes
    bandwidth: Bandwidth
    usable: Bytes | None = None


class Link(Spec):
    """A connection as one device sees it: bandwidth per direction, one hop's latency, devices it joins."""

    name: str
    bandwidth: Bandwidth
    latency: Seconds | None = None
    devices: Annotated[int, Field(ge=1)] = 1
    topology: Literal["switch", "mesh", "ring", "torus", "pcie", "none"] = "switch"
    pair_bandwidth: Bandwidth | None = None
    """Of a mesh: what one device can send to one other, per direction. ``bandwidth`` is that of all its links together."""

    def among(self, ranks: int) -> Link:
        """The link as ``ranks`` devices see it that talk to each other alone.

        >>> mesh = Link(name="xGMI", bandwidth="448 GB/s", pair_bandwidth="64 GB/s", devices=8, topology="mesh")
        >>> mesh.among(2).bandwidth, mesh.among(8).bandwidth
        (64000000000.0, 448000000000.0)
        """
        if self.pair_bandwidth is None or (ranks - 1) * self.pair_bandwidth >= self.bandwidth:
            return self
        return _narrowed(self, (ranks - 1) * self.pair_bandwidth)


@functools.lru_cache(maxsize=256)
def _narrowed(link: Link, bandwidth: float) -> Link:
    return link.model_copy(update={"bandwidth": bandwidth})


class Price(Spec):
    """One price with its origin. ``per_hour`` is rent of one device, ``purchase`` buys one device."""

    kind: Literal["on_demand", "reserved_1y", "reserved_3y", "spot", "purchase"]
    per_hour: MoneyRate | None = None
    purchase: Money | None = None
    provider: str
    region: str | None = None
    date: str | None = None
    source: str

    @model_validator(mode="after")
    def _one_amount(self) -> Price:
        given = self.purchase if self.kind == "purchase" else self.per_hour
        if given is None:
            raise ValueError(f"a {self.kind} price needs {'purchase' if self.kind == 'purchase' else 'per_hour'}")
        return self


class Accelerator(Spec):
    """One device as its data sheet describes it.

    ``architecture`` is the family whose kernel parameters stand in where this device has not been measured.
    ``compute_units`` are SMs (NVIDIA), CUs (AMD), TensorCores (TPU), NeuronCores (AWS), TPCs (Gaudi), GPU cores
    (Apple), Xe cores (Intel), AI cores (Ascend), cores (CPU).
    """

    name: str
    aliases: tuple[str, ...] = ()
    vendor: str
    architecture: str
    kind: Literal["gpu", "tpu", "accelerator", "soc", "cpu"] = "gpu"
    released: str | None = None
    peak_flops: dict[MatrixUnit, FlopRate]
    memory: Memory
    l2_cache: Bytes | None = None
    compute_units: Annotated[int, Field(ge=1)] | None = None
    clock: Hertz | None = None
    tdp: Watts | None = None
    scale_up: Link | None = None
    host_link: Link | None = None
    prices: tuple[Price, ...] = ()
    notes: str = ""
    sources: tuple[Source, ...]

    @model_validator(mode="after")
    def _a_rate_for_every_model(self) -> Accelerator:
        if not {"bf16", "fp16", "fp32"} & set(self.peak_flops):
            raise ValueError("peak_flops needs at least one of bf16, fp16, fp32")
        return self

    @property
    def price_per_hour(self) -> Price | None:
        """The cheapest on-demand price on file, or None."""
        on_demand = [price for price in self.prices if price.kind == "on_demand" and price.per_hour is not None]
        return min(on_demand, key=lambda price: price.per_hour or 0.0, default=None)

    def unsourced(self) -> set[str]:
        """Figures that no source claims; every shipped spec has none."""
        claimed = {field for source in self.sources for field in source.of}
        return {
            field
            for field in figures(self)
            if not any(field == claim or field.startswith(claim + ".") for claim in claimed)
        }


def figures(spec: Spec, prefix: str = "") -> list[str]:
    """Dotted names of every figure a hardware spec states, except prices, which carry their own source."""
    names: list[str] = []
    for field, value in spec:
        if value is None or field in ("sources", "prices", "notes", "aliases", "name", "vendor", "architecture", "kind",
                                      "topology", "accelerator", "devices_per_node", "default_for"):  # fmt: skip
            continue
        if isinstance(value, Spec):
            names += figures(value, f"{prefix}{field}.")
        elif isinstance(value, dict):
            names += [f"{prefix}{field}.{key}" for key in value]
        else:
            names.append(prefix + field)
    return names


class System(Spec):
    """A node or rack of one accelerator: how many share the scale-up fabric, and how nodes are joined.

    ``scale_up`` defaults to the accelerator's own link. ``host_power`` is a node's power beside its accelerators.
    ``default_for`` lists accelerators that are placed in this system where the user names none.
    """

    name: str
    aliases: tuple[str, ...] = ()
    accelerator: str
    devices_per_node: Annotated[int, Field(ge=1)]
    scale_up: Link | None = None
    scale_out: Link | None = None
    host_link: Link | None = None
    host_memory: Bytes | None = None
    host_power: Watts | None = None
    default_for: tuple[str, ...] = ()
    prices: tuple[Price, ...] = ()
    notes: str = ""
    sources: tuple[Source, ...]
