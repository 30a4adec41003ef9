"""Service curves of thousands of workloads at once: computed on a small lattice of lengths and interpolated between its points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from infersim.ops.base import Numbers
from infersim.planning.distributions import Array
from infersim.planning.service import ServiceCurve, service_curve
from infersim.predict.estimate import Estimate

NODES = {"input_tokens": 5, "output_tokens": 5, "prefix_hit": 3, "acceptance": 5}
"""Points of the lattice along each axis that varies."""
FIELDS = tuple(ServiceCurve.__dataclass_fields__)


def exact_curves(
    deployment: Estimate, input_tokens: Numbers, output_tokens: Numbers, prefix_hit: Numbers, acceptance: Numbers
) -> ServiceCurve:
    """The service curve of every case, computed; ``acceptance`` is the rate of the first draft and without effect where none is
    made.

    >>> from infersim import estimate
    >>> exact_curves(estimate("meta-llama/Llama-3.1-8B", "H100-SXM"), np.array([500.0, 900.0]), 200.0, 0.0, 0.0).rate.shape
    (2, 20)
    """
    cases = [
        np.asarray(a, dtype=float) for a in np.broadcast_arrays(input_tokens, output_tokens, prefix_hit, acceptance)
    ]
    shape = cases[0].shape
    prompt, output, hit, rate = (case.ravel() for case in cases)
    rates, place = np.unique(rate if deployment.drafter is not None else np.zeros_like(rate), return_inverse=True)
    found: dict[str, Any] = {}
    for index, one in enumerate(rates):
        rows = np.flatnonzero(place == index)
        curve = service_curve(
            with_acceptance(deployment, float(one)), input_tokens=prompt[rows], output_tokens=output[rows],
            cached_tokens=np.minimum(prompt[rows] * hit[rows], prompt[rows] - 1),
        )  # fmt: skip
        for name in FIELDS:
            values = np.broadcast_to(getattr(curve, name), curve.ttft.shape)
            found.setdefault(name, np.empty((len(prompt), values.shape[-1])))[rows] = values
    return ServiceCurve(**{name: values.reshape(*shape, -1) for name, values in found.items()})


def with_acceptance(deployment: Estimate, rate: float) -> Estimate:
    """The deployment with its first draft accepted at ``rate``: later positions are scaled by the same factor for every draft before
    them. Unchanged where nothing is drafted."""
    drafter = deployment.drafter
    if drafter is None or not drafter.reached or drafter.reached[0] == 0 or rate == drafter.reached[0]:
        return deployment
    factor = rate / drafter.reached[0]
    reached = tuple(min(chance * factor ** (depth + 1), 1.0) for depth, chance in enumerate(drafter.reached))
    return replace(deployment, drafter=replace(drafter, reached=reached))


def interpolated_curves(
    deployment: Estimate, input_tokens: Numbers, output_tokens: Numbers, prefix_hit: Numbers, acceptance: Numbers
) -> ServiceCurve:
    """``exact_curves``, from a lattice over the range of the cases: linear in the logarithms of lengths, times and rates.

    The last axis holds equal shares of the logarithm of the slots, which differ from case to case.
    """
    from scipy.interpolate import RegularGridInterpolator

    given = dict(zip(NODES, np.broadcast_arrays(input_tokens, output_tokens, prefix_hit, acceptance), strict=True))
    if deployment.drafter is None:
        given["acceptance"] = np.zeros_like(given["acceptance"])
    axes, at = [], []
    grids: list[Array] = []
    for name, values in given.items():
        logarithmic = name.endswith("tokens")
        scaled = np.log(values) if logarithmic else np.asarray(values, dtype=float)
        least, most = float(scaled.min()), float(scaled.max())
        nodes = np.linspace(least, most, NODES[name]) if most > least else np.array([least])
        grids.append(np.exp(nodes) if logarithmic else nodes)
        if len(nodes) > 1:
            axes.append(nodes)
            at.append(scaled)
    curve = exact_curves(deployment, *np.meshgrid(*grids, indexing="ij"))
    if not axes:
        return ServiceCurve(**{name: getattr(curve, name).reshape(-1) for name in FIELDS})
    stacked = np.stack([getattr(curve, name) for name in FIELDS], axis=-1)
    positive = (stacked > 0).all(axis=tuple(range(stacked.ndim - 1)))
    values = np.where(positive, np.log(np.where(positive, stacked, 1.0)), stacked)
    values = values.reshape(*(len(nodes) for nodes in axes), *values.shape[-2:])
    found = RegularGridInterpolator(axes, values)(np.stack(at, axis=-1))
    found = np.where(positive, np.exp(found), found)
    return ServiceCurve(**{name: found[..., place] for place, name in enumerate(FIELDS)})
