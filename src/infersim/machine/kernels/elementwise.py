"""Time of kernels that only move data: norms, rotary embedding, activations, quantise passes, copies."""

from __future__ import annotations

from dataclasses import dataclass

from infersim.machine.kernels.base import Numbers, Rates, parameter, soft_max


@dataclass(frozen=True)
class ElementwiseParameters:
    """What a data sheet does not say about a device's bandwidth-bound kernels."""

    launch: float = parameter(1.5e-6, 2e-7, 4e-5, "time of the smallest kernel", unit="s", log=True)
    memory_efficiency: float = parameter(
        0.8, 0.02, 20.0, "share of the memory bandwidth that large kernels reach; above 1 from a cache", log=True
    )


def elementwise_time(moved: Numbers, *, rates: Rates, parameters: ElementwiseParameters) -> Numbers:
    """Seconds of a kernel that moves ``moved`` bytes through device memory: a floor, then bandwidth.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132)
    >>> t = elementwise_time(3.35e9, rates=h100, parameters=ElementwiseParameters())
    >>> round(float(t) * 1e3, 2)
    1.25
    """
    p = parameters
    return soft_max(p.launch, moved / (rates.bandwidth * p.memory_efficiency))
