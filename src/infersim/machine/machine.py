"""A device in its system under an engine, with the kernel parameters that hold there: all that turns work into time."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Literal

from infersim.machine.calibration import Calibration, load_calibration
from infersim.machine.kernels.base import Rates
from infersim.machine.network import Fabric, placement
from infersim.specs.engine import EngineSpec
from infersim.specs.hardware import Accelerator, MatrixUnit, System

Mode = Literal["bound", "calibrated"]
"""bound: the physical limit, a perfect roofline with communication hidden; calibrated: kernel models and overheads."""

HOST_COPY_SHARE = 0.88
"""Share of a host link that large pinned copies reach: 55.4 of 63 GB/s measured over PCIe 5 x16."""


@dataclass(frozen=True)
class Machine:
    """``accelerator`` in ``system`` under ``engine``."""

    accelerator: Accelerator
    system: System | None
    engine: EngineSpec
    mode: Mode
    fabric: Fabric
    calibration: Calibration | None = field(repr=False, default=None)

    def __hash__(self) -> int:
        """By the names alone: cheap enough to be a cache key on every call."""
        return hash((self.accelerator.name, self.engine.name, self.mode, self.fabric.name))

    def rates(self, unit: MatrixUnit) -> Rates:
        """Data-sheet rates for a matrix unit the device has."""
        return rates_of(self.accelerator, unit)

    @property
    def vector_flops(self) -> float:
        """Rate of elementwise arithmetic: the fp32 peak, or a sixteenth of the 16-bit one where none is stated [FLOP/s]."""
        peaks = self.accelerator.peak_flops
        return peaks.get("fp32") or max(peaks.values()) / 16

    @property
    def host_bandwidth(self) -> float:
        """Data-sheet rate between host and device: that of the link, or of memory where the two are one [B/s]."""
        link = self.fabric.host_link
        return link.bandwidth if link else self.accelerator.memory.bandwidth

    @property
    def host_copy_bandwidth(self) -> float:
        """Rate that large copies between host and device reach: HOST_COPY_SHARE of a link [B/s]."""
        return (HOST_COPY_SHARE if self.fabric.host_link else 1.0) * self.host_bandwidth

    @property
    def max_num_seqs(self) -> int:
        """The engine's default for this device."""
        return self.engine.default("max_num_seqs", self.accelerator.name, self.accelerator.memory.capacity)

    @property
    def max_num_batched_tokens(self) -> int:
        """The engine's default for this device."""
        return self.engine.default("max_num_batched_tokens", self.accelerator.name, self.accelerator.memory.capacity)


@functools.lru_cache(maxsize=4096)
def rates_of(accelerator: Accelerator, unit: MatrixUnit) -> Rates:
    """Data-sheet rates of a device for one of its matrix units."""
    return Rates(
        flops=accelerator.peak_flops[unit],
        bandwidth=accelerator.memory.bandwidth,
        compute_units=float(accelerator.compute_units or 100),
        l2_bytes=accelerator.l2_cache or 0.0,
        clock=accelerator.clock or 0.0,
    )


@functools.lru_cache(maxsize=1024)
def build_machine(
    accelerator: Accelerator, system: System | None, engine: EngineSpec, mode: Mode = "calibrated", devices: int = 1
) -> Machine:
    """The machine for ``devices`` devices; raises where the system cannot hold or join them."""
    fabric = placement(accelerator, system, devices)
    calibration = (
        load_calibration(
            accelerator.name, accelerator.architecture, engine.name, fabric.scale_up, accelerator.memory.kind or ""
        )
        if mode == "calibrated"
        else None
    )
    return Machine(accelerator, system, engine, mode, fabric, calibration)
