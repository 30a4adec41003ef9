"""What lies between two options: the settings in which they differ, what each change does on the way, and the ops of their steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infersim.errors import InferSimError
from infersim.ops.base import Numbers
from infersim.planning.outcome import Choice
from infersim.predict.estimate import Estimate, estimate
from infersim.predict.step import StepTime


@dataclass(frozen=True)
class Difference:
    """A setting that differs, in words."""

    what: str
    a: str
    b: str


@dataclass(frozen=True)
class Change:
    """One step on the way from A to B: what was changed, and the figure after it. Figures of all steps end at B's."""

    what: str
    figure: float
    ratio: float
    """Figure over that of the step before."""


@dataclass(frozen=True)
class OpDifference:
    """One op in the steps of both options [s]; 0 where an option does not have it."""

    step: str
    op: str
    a: float
    b: float
    bound_a: str
    bound_b: str

    @property
    def difference(self) -> float:
        return self.b - self.a


def settings_of(choice: Choice, values: Mapping[str, Numbers]) -> dict[str, str]:
    """The settings of a choice that a comparison names."""
    deployment, hour = choice.deployment, float(choice.device_hour(values))
    system = deployment.machine.system
    knobs = deployment.knobs.model_dump(exclude_defaults=True)
    return {
        "pools": "one" if choice.prefill is None else "prefill and decode",
        "model": deployment.model.name,
        "GPU": deployment.machine.accelerator.name,
        "system": system.name if system else "none",
        "parallelism": " + ".join(str(one.parallelism) for one in choice.pools[::-1]),
        "precision": deployment.precision.name or deployment.precision.weights,
        "KV cache": deployment.precision.kv_cache,
        "engine": f"{deployment.machine.engine.name} {deployment.machine.engine.version}",
        "knobs": ", ".join(f"{name} {value}" for name, value in knobs.items()) or "defaults",
        "mode": deployment.machine.mode,
        "drafts": str(deployment.drafter.speculation) if deployment.drafter is not None else "none",
        "price": f"{hour:.4g} USD/h{' owned' if choice.hourly else ''}" if math.isfinite(hour) else "none",
    }


def differences(a: Choice, b: Choice, values: Mapping[str, Numbers]) -> tuple[Difference, ...]:
    """The settings in which two choices differ."""
    one, two = settings_of(a, values), settings_of(b, values)
    if one["GPU"] != two["GPU"]:
        two["system"] = one["system"]  # goes with the GPU
    return tuple(Difference(what, one[what], two[what]) for what in one if one[what] != two[what])


def op_differences(a: Mapping[str, StepTime], b: Mapping[str, StepTime]) -> tuple[OpDifference, ...]:
    """Every op of the steps that both options have, the largest difference of a step first."""
    found = []
    for step in (name for name in a if name in b):
        parts = [{part.name: part for part in steps[step].parts()} for steps in (a, b)]
        rows = []
        for op in dict.fromkeys([*parts[0], *parts[1]]):
            pair = [side.get(op) for side in parts]
            seconds = [0.0 if part is None else float(np.mean(part.seconds)) for part in pair]
            bounds = ["" if part is None else part.bound for part in pair]
            rows.append(OpDifference(step, op, seconds[0], seconds[1], bounds[0], bounds[1]))
        found += sorted(rows, key=lambda row: -abs(row.difference))
    return tuple(found)


def _arguments(deployment: Estimate) -> dict[str, dict[str, Any]]:
    """What ``estimate`` was told, in the groups that are changed together."""
    ways = deployment.parallelism
    return {
        "model": {"model": deployment.model},
        "GPU": {"gpu": deployment.machine.accelerator, "system": deployment.machine.system},
        "parallelism": {
            "tensor_parallel": ways.tensor, "pipeline_parallel": ways.pipeline, "attention_data_parallel": ways.attention_data,
            "expert_parallel": ways.expert, "context_parallel": ways.context,
        },
        "precision": {"precision": deployment.precision},
        "engine": {"engine": deployment.machine.engine, "knobs": deployment.knobs},
        "mode": {"mode": deployment.machine.mode},
        "drafts": {"speculation": deployment.drafter.speculation if deployment.drafter is not None else None},
    }  # fmt: skip


def way(a: Choice, b: Choice, values: Mapping[str, Numbers], figure: str) -> tuple[Change, ...]:
    """The figure of A, changed setting by setting into B: GPU, parallelism, precision, engine with its knobs, drafts, price or terms
    with B's other assumptions.

    The order is fixed and what a change does depends on it; the product of the ratios does not. A change that the model or the memory
    does not allow by itself is joined to the next one. Where one of the two has pools of its own for prompts there is one step.
    """
    if a.prefill is not None or b.prefill is not None:
        one, two = (float(choice.outcome(values).figure(figure)) for choice in (a, b))
        settings = ", ".join(difference.what for difference in differences(a, b, values)) or "assumptions"
        return (Change(settings, two, _ratio(two, one)),)
    start, end = _arguments(a.deployment), _arguments(b.deployment)
    workload = a.deployment.workload
    told: dict[str, Any] = {
        "input_tokens": workload.input_tokens, "output_tokens": workload.output_tokens, "prefix_hit": workload.prefix_hit,
        "sampler": a.deployment.sampler,
    }  # fmt: skip
    found: list[Change] = []
    before, joined, current = float(a.outcome(values).figure(figure)), list[str](), dict(start)

    def reach(after: float) -> None:
        nonlocal before, joined
        found.append(Change(" and ".join(joined), after, _ratio(after, before)))
        before, joined = after, []

    for group in start:
        if start[group] == end[group]:
            continue
        joined.append(group)
        current[group] = end[group]
        try:
            changed = estimate(**told, **{name: value for part in current.values() for name, value in part.items()})
            reach(float(replace(a, deployment=changed).outcome(values).figure(figure)))
        except InferSimError:
            continue
    last = float(b.outcome(values).figure(figure))
    if joined or last != before:
        joined.append("price" if figure != "gpus" else "assumptions")
        reach(last)
    return tuple(found)


def _ratio(after: float, before: float) -> float:
    return after / before if before and math.isfinite(before) else math.nan
