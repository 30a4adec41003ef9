"""Service curves of thousands of workloads at once: computed on a small lattice of lengths and interpolated between its points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from infersim.planning.distributions import Array
from infersim.planning.service import ServiceCurve, service_curve
from infersim.predict.estimate import Estimate

NODES = {"input_tokens": 5, "output_tokens": 5, "prefix_hit": 3, "acceptance": 5}
"""Points of the lattice along each axis that varies."""
FIELDS = tuple(ServiceCurve.__dataclass_fields__)
Cases = Mapping[str, Array]
"""The axes of NODES, arrays of one shape; ``acceptance`` is the rate of the first draft, without effect where none is made."""
Tables = dict[str, Array]
"""Figures by name: the shape of the cases and, behind it, the points of a curve."""


def curve_tables(deployment: Estimate, cases: Cases) -> Tables:
    """The service curve of every case, computed.

    >>> from infersim import estimate
    >>> one = np.ones(2)
    >>> cases = {"input_tokens": 500 * one, "output_tokens": 200 * one, "prefix_hit": 0 * one, "acceptance": 0 * one}
    >>> curve_tables(estimate("meta-llama/Llama-3.1-8B", "H100-SXM"), cases)["rate"].shape
    (2, 20)
    """
    shape = cases["input_tokens"].shape
    prompt, output, hit, rate = (cases[name].ravel() for name in NODES)
    rates, place = np.unique(rate if deployment.drafter is not None else np.zeros_like(rate), return_inverse=True)
    found: Tables = {}
    for index, one in enumerate(rates):
        rows = np.flatnonzero(place == index)
        curve = service_curve(
            with_acceptance(deployment, float(one)), input_tokens=prompt[rows], output_tokens=output[rows],
            cached_tokens=np.minimum(prompt[rows] * hit[rows], prompt[rows] - 1),
        )  # fmt: skip
        for name in FIELDS:
            values = np.broadcast_to(getattr(curve, name), curve.ttft.shape)
            found.setdefault(name, np.empty((len(prompt), values.shape[-1])))[rows] = values
    return {name: values.reshape(*shape, -1) for name, values in found.items()}


def with_acceptance(deployment: Estimate, rate: float) -> Estimate:
    """The deployment with its first draft accepted at ``rate``: later positions are scaled by the same factor for every draft before
    them. Unchanged where nothing is drafted."""
    drafter = deployment.drafter
    if drafter is None or not drafter.reached or drafter.reached[0] == 0 or rate == drafter.reached[0]:
        return deployment
    factor = rate / drafter.reached[0]
    reached = tuple(min(chance * factor ** (depth + 1), 1.0) for depth, chance in enumerate(drafter.reached))
    return replace(deployment, drafter=replace(drafter, reached=reached))


def interpolated(compute: Callable[[Cases], Tables], cases: Cases) -> Tables:
    """What ``compute`` gives, from a lattice over the range of the cases: linear in the logarithms of lengths and of all figures that are
    above zero everywhere.

    The last axis of a curve holds equal shares of the logarithm of its slots, which differ from case to case.

    >>> cases = {name: np.linspace(1.0, 2.0, 9) if name == "input_tokens" else np.ones(9) for name in NODES}
    >>> square = lambda cases: {"square": (cases["input_tokens"] ** 2)[..., None]}
    >>> bool(np.allclose(interpolated(square, cases)["square"], square(cases)["square"]))
    True
    """
    from scipy.interpolate import RegularGridInterpolator

    axes, at, grids = [], [], []
    for name in NODES:
        logarithmic = name.endswith("tokens")
        scaled = np.log(cases[name]) if logarithmic else cases[name]
        least, most = float(scaled.min()), float(scaled.max())
        nodes = np.linspace(least, most, NODES[name]) if most > least else np.array([least])
        grids.append(np.exp(nodes) if logarithmic else nodes)
        if len(nodes) > 1:
            axes.append(nodes)
            at.append(scaled)
    tables = compute(dict(zip(NODES, np.meshgrid(*grids, indexing="ij"), strict=True)))
    stacked = np.stack(list(tables.values()), axis=-1)
    positive = (stacked > 0).all(axis=tuple(range(stacked.ndim - 1)))
    values = np.where(positive, np.log(np.where(positive, stacked, 1.0)), stacked)
    values = values.reshape(*(len(nodes) for nodes in axes), *values.shape[len(NODES) :])
    found: Any = RegularGridInterpolator(axes, values)(np.stack(at, axis=-1))
    found = np.where(positive, np.exp(found), found)
    return {name: found[..., place] for place, name in enumerate(tables)}
