"""Power and energy: what a device draws at a load, and what a token takes of it. Formulas broadcast."""

from __future__ import annotations

import numpy as np

from infersim.ops.base import Numbers


def device_power(idle: Numbers, tdp: Numbers, mfu: Numbers, mbu: Numbers, compute: Numbers, memory: Numbers) -> Numbers:
    """Power of a device at work [W]: idle + (TDP - idle) min(1, a_c MFU + a_m MBU).

    ``mfu`` and ``mbu`` are shares of the time in which perfect units would have done the arithmetic and moved the bytes; how well
    a_c and a_m fit measured powers is told beside them (``hardware_specs/economics/power.yaml``).

    >>> round(float(device_power(70.0, 700.0, 0.0, 0.68, 1.33, 0.82)))
    421
    """
    load = np.minimum(np.asarray(compute) * mfu + np.asarray(memory) * mbu, 1.0)
    return np.asarray(idle) + (np.asarray(tdp) - idle) * load


def mean_power(idle: Numbers, busy: Numbers, share: Numbers) -> Numbers:
    """Power of a device that is at work for a ``share`` of the time and idle for the rest [W].

    >>> float(mean_power(70.0, 470.0, 0.5))
    270.0
    """
    return np.asarray(idle) + (np.asarray(busy) - idle) * np.asarray(share)


def energy_per_token(power: Numbers, tokens_per_second: Numbers) -> Numbers:
    """Energy of a token [J] where ``power`` [W] serves so many tokens a second.

    >>> round(float(energy_per_token(600.0, 64 / 0.0075)), 4)  # one H100, Llama-3.1-8B in 16 bits, batch 64 at 7.5 ms
    0.0703
    """
    return np.asarray(power) / np.asarray(tokens_per_second)


def kwh(joules: Numbers) -> Numbers:
    """Energy in kWh.

    >>> round(float(kwh(864.0) * 1000), 3)  # Wh of the median prompt of arXiv:2508.15734
    0.24
    """
    return np.asarray(joules) / 3.6e6


def carbon(joules: Numbers, grid_intensity: Numbers) -> Numbers:
    """CO2 equivalent of an energy [g] at ``grid_intensity`` [g/kWh].

    >>> round(float(carbon(864.0, 125.0)), 3)  # 0.03 g of the median prompt of arXiv:2508.15734
    0.03
    """
    return kwh(joules) * np.asarray(grid_intensity)


def embodied_per_second(kilograms: Numbers, years: Numbers) -> Numbers:
    """CO2 equivalent of making hardware, spread over its life [g/s].

    >>> round(float(embodied_per_second(164.0, 4.0) * 3600), 3)  # an H100 over four years, an hour of it
    4.68
    """
    return np.asarray(kilograms) * 1000.0 / (np.asarray(years) * 8760.0 * 3600.0)
