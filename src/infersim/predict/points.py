"""Many points of one deployment at once: arrays of lengths, loads and prices in, arrays of figures out, in a few array passes.

A point gets the very answer that ``estimate`` gives for it, and where it has none the very sentence that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.errors import SpecError
from infersim.predict.estimate import Estimate, changes, model_length, remedy, too_long
from infersim.predict.figures import Figures
from infersim.predict.latency import SteadyState, steady_state
from infersim.specs.workload import Workload

Array = npt.NDArray[np.float64]

BLOCK = 1024
"""Points priced at once, so that they stay in cache."""
STATE = ("ttft", "tpot", "e2e", "requests_per_second", "running", "waiting", "prefill_share")
"""What figures are made of."""
COLUMNS = ("input_tokens", "output_tokens", "concurrency", "prefix_hit", "num_requests")
"""Fields of a workload that may be arrays."""


@dataclass(frozen=True)
class Points:
    """Figures of many points under names with units; not a number where a point has no answer, and ``errors`` says why."""

    figures: dict[str, Array]
    errors: npt.NDArray[Any]
    """A sentence for each point, None where it was answered."""


def price_points(
    deployment: Estimate,
    columns: Mapping[str, Any],
    price_per_hour: Any = None,
    *,
    tell: Callable[[SpecError], str] = str,
) -> Points:
    """``deployment`` under other workloads: ``columns`` are valid values of fields of ``Workload`` (``COLUMNS``), arrays of one
    length; what is left out is as in the deployment. ``price_per_hour`` [USD per device] likewise. ``tell`` puts an error into words.

    >>> from infersim import estimate
    >>> points = price_points(estimate("gpt2", "L4", input_tokens=64), {"input_tokens": [100, 700, 1000], "concurrency": [1, 2, 4]})
    >>> points.errors[2]
    'input_tokens: input 1000 + output 256 tokens is more than the 1,024 that openai-community/gpt2 takes'
    >>> round(float(points.figures["ttft_s"][1]) / estimate("gpt2", "L4", input_tokens=700, concurrency=2).ttft, 12)
    1.0
    """
    model, knobs = deployment.model, deployment.knobs
    load = _loads(deployment.workload, columns, price_per_hour)
    prompt, output = load["input_tokens"], load["output_tokens"]
    longest = prompt + (output if model.task == "generate" else 0)
    errors = np.full(longest.shape, None, dtype=object)
    long = longest > model_length(model, knobs)
    for row in np.flatnonzero(long):
        errors[row] = tell(
            SpecError(too_long(model, knobs, float(prompt[row]), float(output[row])), field="input_tokens")
        )
    short = ~long & (np.asarray(deployment.memory.shortfall_at(longest)) > 0)
    _say_what_is_short(deployment, longest, np.flatnonzero(short), errors)
    kept = np.flatnonzero(~long & ~short)
    figures: dict[str, Array] = {}
    if len(kept):
        some = {name: values[kept] for name, values in load.items()}
        prices = deployment.price_per_hour if price_per_hour is None else some["price_per_hour"]
        found = Figures(_states(deployment, some), deployment.devices, deployment.parallelism.replicas,
                        model.task == "generate", some["input_tokens"], some["output_tokens"], prices)  # fmt: skip
        for name, values in found.to_dict().items():
            figures[name] = np.full(longest.shape, np.nan)
            if values is not None:
                figures[name][kept] = values
    return Points(figures, errors)


def _loads(workload: Workload, columns: Mapping[str, Any], price_per_hour: Any) -> dict[str, Array]:
    """Every column at full length."""
    fields = {name: columns.get(name, getattr(workload, name)) for name in COLUMNS}
    if fields["num_requests"] is None:
        fields["num_requests"] = np.inf
    fields["price_per_hour"] = np.nan if price_per_hour is None else price_per_hour
    return dict(
        zip(
            fields,
            np.broadcast_arrays(*[np.atleast_1d(np.asarray(v, dtype=float)) for v in fields.values()]),
            strict=True,
        )
    )


def _states(deployment: Estimate, load: dict[str, Array]) -> SteadyState:
    """The steady state of points that fit, a block at a time."""
    prompt, users = load["input_tokens"], load["concurrency"]
    cached = np.minimum(prompt * load["prefix_hit"], prompt - 1)
    bursts = np.minimum(users / load["num_requests"], 1.0)
    if deployment.workload.fixed_lengths and not deployment.machine.engine.mixed_batches:
        bursts = np.ones_like(users)
    columns = np.empty((len(STATE), len(prompt)))
    for start in range(0, len(prompt), BLOCK):
        rows = slice(start, start + BLOCK)
        state = steady_state(
            deployment.model, deployment.parallelism, deployment.precision, deployment.machine, deployment.memory, deployment.knobs,
            input_tokens=prompt[rows], output_tokens=load["output_tokens"][rows],
            users=users[rows] / deployment.parallelism.replicas, cached_tokens=cached[rows], burst_share=bursts[rows],
            sampler=deployment.sampler, drafter=deployment.drafter,
        )  # fmt: skip
        for column, name in zip(columns, STATE, strict=True):
            column[rows] = getattr(state, name)
    return SteadyState(**dict(zip(STATE, columns, strict=True)), prefill_batch=(), decode_batch=())


def _say_what_is_short(deployment: Estimate, longest: Array, rows: Any, errors: npt.NDArray[Any]) -> None:
    """Write into ``errors`` what points that do not fit lack, and what would fit."""
    if not len(rows):
        return
    tokens, place = np.unique(longest[rows], return_inverse=True)
    kinds = []
    for kind in changes(deployment.model, deployment.parallelism, deployment.precision, deployment.machine, deployment.knobs,
                        deployment.drafter):  # fmt: skip
        names = np.full(tokens.shape, None, dtype=object)
        for name, memory in kind:
            open_ = np.array([one is None for one in names], dtype=bool)
            names[open_ & (np.asarray(memory.shortfall_at(tokens)) <= 0)] = name
        kinds.append(names)
    missing = np.asarray(deployment.memory.shortfall_at(tokens))
    said = [deployment.misfit(short, remedy(found)) for short, *found in zip(missing, *kinds, strict=True)]
    errors[rows] = np.array(said, dtype=object)[place]
