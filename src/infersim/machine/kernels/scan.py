"""Time of recurrent cores: short convolution and state update, for prompts and single tokens alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, cache_speed_up, parameter, soft_max
from infersim.mechanisms import scan_multiply_adds

RECURRENT_NEW_TOKENS = 8
"""Up to this many new tokens a sequence (decode, verification of drafts), engines update the state token by token."""


@dataclass(frozen=True)
class ScanParameters:
    """What a data sheet does not say about a device's scan kernels under one engine."""

    launch: float = parameter(
        30e-6, 2e-6, 1e-3, "prefill: time of the smallest call, convolution and scan", unit="s", log=True
    )
    compute_efficiency: float = parameter(
        0.1, 0.005, 1.0, "prefill: share of the peak that the chunked recurrence reaches", log=True
    )
    memory_efficiency: float = parameter(0.6, 0.05, 1.0, "prefill: share of the bandwidth that tokens reach")
    state_efficiency: float = parameter(
        0.35, 0.01, 1.0, "prefill: share of the bandwidth that whole states reach", log=True
    )
    chain: float = parameter(
        2e-6, 1e-8, 1e-4, "prefill: time from one chunk of a sequence to the next", unit="s", log=True
    )
    rows: float = parameter(4.0, 1.0, 1024.0, "prefill: tokens that the convolution pads a sequence to", log=True)
    step_launch: float = parameter(
        7e-6, 1e-6, 2e-4, "decode: time of the smallest call, convolution and update", unit="s", log=True
    )
    step_efficiency: float = parameter(0.75, 0.05, 1.0, "decode: share of the bandwidth that states reach")
    step_overlap: float = parameter(0.9, 0.0, 1.0, "decode: share of the floor that large states hide")
    cache_gain: float = parameter(0.2, 0.0, 8.0, "speed-up, less one, of what a benchmark left in the cache")


def scan_time(
    sequences: Numbers,
    new: Numbers,
    *,
    kind: str,
    heads: Numbers,
    key_dim: Numbers,
    value_dim: Numbers,
    conv_channels: Numbers,
    conv_kernel: int,
    chunk: Numbers,
    state_bytes: float = 4.0,
    rates: Rates,
    parameters: ScanParameters,
    convolution_only: bool = False,
    state_in_l2: bool = False,
) -> Numbers:
    """Seconds of the core for ``sequences`` sequences of ``new`` tokens each.

    Up to ``RECURRENT_NEW_TOKENS`` tokens: every state is read once and written after each token. Beyond: the chunked
    form pays, beside the recurrence, the products within a chunk, c (d_k + d_v) multiply-adds a head and token; chunks of
    one sequence follow each other; loading and storing the state is what short prompts pay instead (p-norm, p = 2).
    ``convolution_only`` leaves the scan out; ``state_in_l2`` prices a benchmark that finds the same states in the cache.
    Source of the chunked form: Yang et al. 2024, arXiv:2412.06464.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132)
    >>> shape = dict(kind="gated_delta_net", heads=64, key_dim=128, value_dim=128, conv_channels=12288, conv_kernel=4, chunk=64)
    >>> step, prompt = (float(scan_time(b, t, **shape, rates=h100, parameters=ScanParameters())) * 1e6
    ...     for b, t in ((64, 1), (1, 4096)))
    >>> 170 < step < 250, 400 < prompt < 800  # measured: 190 us, 290 (vLLM) to 780 us (SGLang)
    (True, True)
    """
    B, T = np.asarray(sequences, dtype=float), np.asarray(new, dtype=float)
    state = heads * key_dim * value_dim
    held = state * state_bytes
    tail = 2.0 * conv_channels * max(conv_kernel - 1, 0) * 2.0
    multiply_adds = scan_multiply_adds(kind)
    core = 0.0 if convolution_only else 1.0
    least = np.maximum(
        2.0 * B * T * (core * multiply_adds * state + conv_kernel * conv_channels) / rates.flops,
        B * (core * 2.0 * held + tail + T * (2.0 * conv_channels + core * heads * value_dim) * 2.0) / rates.bandwidth,
    )

    def rate(moved: Numbers) -> Numbers:
        return rates.bandwidth * (cache_speed_up(moved, parameters.cache_gain, rates) if state_in_l2 else 1.0)

    def recurrent() -> Numbers:
        p = parameters
        tokens = T * (2.0 * conv_channels + core * heads * value_dim) * 2.0
        moved = B * (core * held * (1.0 + T) + tail + tokens)
        memory = moved / (rate(B * (core * held * T + tail + tokens)) * p.step_efficiency)
        return (1.0 - p.step_overlap) * p.step_launch + np.hypot(p.step_overlap * p.step_launch, memory)

    def chunked() -> Numbers:
        p = parameters
        inside = chunk * heads * (key_dim + value_dim)
        work = 2.0 * core * (multiply_adds * state + inside)
        compute = B * T * work / (rates.flops * p.compute_efficiency)
        moved = B * T * core * heads * (2.0 * key_dim + 2.0 * value_dim) * 2.0
        memory = moved / (rate(moved + B * held) * p.memory_efficiency)
        states = core * B * 2.0 * held / (rate(moved + B * held) * p.state_efficiency)
        chains = core * p.chain * np.ceil(T / chunk) * np.maximum(B * heads / rates.compute_units, 1.0)
        convolved = B * (np.maximum(T, p.rows) * 2.0 * conv_channels * 2.0 + tail)
        convolution = convolved / (rate(convolved) * p.memory_efficiency)
        return p.launch + convolution + np.hypot(states, soft_max(compute, soft_max(memory, chains)))

    short = T <= RECURRENT_NEW_TOKENS
    if short.all():
        seconds = recurrent()
    else:
        seconds = np.where(short, recurrent(), chunked()) if short.any() else chunked()
    return seconds if state_in_l2 else np.maximum(seconds, least)


def scan_axes(sequences: Numbers, new: Numbers, heads: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Where a residual surface is read: sequences, new tokens of each, heads."""
    return sequences, new, heads


SCAN_AXES = ("sequences", "new", "heads")
"""Names of what ``scan_axes`` gives."""
