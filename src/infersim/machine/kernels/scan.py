"""Time of recurrent cores: short convolution and state update, for prompts and single tokens alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, parameter, soft_max

MULTIPLY_ADDS = {"gated_delta_net": 3.5, "kda": 3.5, "short_conv": 0.0, "rg_lru": 1.5}
"""Multiply-adds per state element and token where they are not 2.5 (decay, write, read)."""


@dataclass(frozen=True)
class ScanParameters:
    """What a data sheet does not say about a device's scan kernels under one engine."""

    launch: float = parameter(12e-6, 2e-6, 2e-4, "time of the smallest call: convolution and scan", unit="s", log=True)
    compute_efficiency: float = parameter(0.15, 0.01, 1.0, "share of the peak that the chunked recurrence reaches")
    memory_efficiency: float = parameter(0.6, 0.05, 1.0, "share of the bandwidth that states and tokens reach")


def scan_time(
    sequences: Numbers,
    new: Numbers,
    *,
    kind: str,
    heads: float,
    key_dim: float,
    value_dim: float,
    conv_channels: float,
    conv_kernel: int,
    chunk: int,
    state_bytes: float = 4.0,
    rates: Rates,
    parameters: ScanParameters,
) -> Numbers:
    """Seconds of the core for ``sequences`` sequences of ``new`` tokens each.

    Chunked kernels pay, beside the recurrence, the products within a chunk: c (d_k + d_v) multiply-adds a head and token.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132)
    >>> t = scan_time(32, 1, kind="mamba2", heads=128, key_dim=128, value_dim=64, conv_channels=10240, conv_kernel=4, chunk=256,
    ...     rates=h100, parameters=ScanParameters())
    >>> bool(1e-5 < t < 2e-4)
    True
    """
    p, tokens = parameters, np.asarray(new, dtype=float)
    state = heads * key_dim * value_dim
    inside = np.minimum(tokens, chunk) * heads * (key_dim + value_dim) * (tokens > 1)
    work = MULTIPLY_ADDS.get(kind, 2.5) * state + inside + conv_kernel * conv_channels
    compute = 2 * sequences * tokens * work / (rates.flops * p.compute_efficiency)
    moved: Numbers = 2 * state * state_bytes + 4.0 * conv_channels * max(conv_kernel - 1, 0)
    moved = moved + tokens * (2 * conv_channels + heads * value_dim) * 2.0
    return p.launch + soft_max(compute, sequences * moved / (rates.bandwidth * p.memory_efficiency))
