"""Which deployments of a model on a kind of GPU a search looks at: number formats, parallelism, engine knobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from infersim import units
from infersim.errors import InferSimError
from infersim.predict.estimate import DEFAULT_KNOBS, Estimate, estimate
from infersim.predict.memory import memory_report
from infersim.specs.deployment import EngineKnobs, Parallelism
from infersim.specs.hardware import Accelerator, System
from infersim.specs.library import default_system
from infersim.specs.model import ModelSpec
from infersim.specs.precision import FORMATS

WIDEST_DENSE = 16
"""Tensor-parallel ranks at most of a model without experts; wider all-reduces cost more than they save."""
TOKEN_BUDGETS = (2048, 4096, 16384)
SLOTS = (128, 256, 512)
"""Values of ``max_num_batched_tokens`` and ``max_num_seqs`` tried beside the engine's defaults."""


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4 ... up to ``most``.

    >>> powers_of_two(12)
    [1, 2, 4, 8]
    """
    return [1 << exponent for exponent in range(max(most, 1).bit_length()) if 1 << exponent <= most]


def layouts(model: ModelSpec, node: int, most: int, *, slow_links: bool = False) -> list[Parallelism]:
    """Ways to spread one replica over at most ``most`` devices, ``node`` of which share the fast links.

    Tensor parallelism in powers of two inside a node; pipeline stages across nodes, and inside one where links are slow. With
    experts also: experts whole on their ranks, and attention data parallelism over 1 .. all of the tensor ranks, across nodes as
    far as it goes. Context parallelism is not searched.

    >>> from infersim import load_model
    >>> [str(layout) for layout in layouts(load_model("meta-llama/Llama-3.1-8B"), 4, 8)]
    ['TP1', 'TP2', 'TP4', 'TP4 PP2']
    >>> [str(layout) for layout in layouts(load_model("mistralai/Mixtral-8x7B-v0.1"), 8, 2)]
    ['TP1', 'TP2', 'TP2 EP2', 'ADP2 EP2']
    """
    inside = powers_of_two(min(node, most))
    found = []
    for tensor in inside:
        if not model.is_moe and tensor > WIDEST_DENSE:
            continue
        widest = tensor in (inside[-1], WIDEST_DENSE)
        deepest = min(8, model.num_layers) if widest or slow_links else 1
        found += [Parallelism(tensor=tensor, pipeline=stages) for stages in powers_of_two(min(most // tensor, deepest))]
    if model.is_moe:
        experts = max(ff.num_experts for ff in model.feed_forwards.values() if ff.kind == "moe")
        for ranks in powers_of_two(min(most, experts))[1:]:
            widths = [tensor for tensor in powers_of_two(min(ranks, node)) if tensor in (1, 2, 4, 8, ranks)]
            found += [Parallelism(tensor=tensor, attention_data=ranks // tensor, expert=ranks) for tensor in widths]
    return sorted(found, key=lambda p: (p.devices, p.attention_data, p.pipeline, p.expert))


def schemes(model: ModelSpec, accelerator: Accelerator) -> list[str | None]:
    """Number formats tried where the user names none: the checkpoint's own, and fp8 where it has 16 bits and the device multiplies
    fp8. Fewer bits change what the model says, so they are for the user to ask for."""
    own = FORMATS[model.precision.weights]
    return [None, *(["fp8"] if own.bits == 16 and "fp8" in accelerator.peak_flops else [])]


@dataclass(frozen=True)
class Setting:
    """What all candidates of a search have in common, in the words of ``estimate``."""

    input_tokens: float
    output_tokens: float
    prefix_hit: float
    kv_cache: str | None
    mode: Any
    speculation: Any
    price_per_hour: float | None = None


@dataclass
class Tried:
    """What a search looked at and why it put some of it aside."""

    candidates: int = 0
    too_large: int = 0
    refused: int = 0
    reasons: dict[str, str] = None  # type: ignore[assignment]
    nearest: tuple[float, str] | None = None
    """Of those that do not fit, the one that is shortest of memory: bytes missing per device, and what would help."""

    def __post_init__(self) -> None:
        self.reasons = self.reasons or {}


def candidates(
    model: ModelSpec,
    accelerator: Accelerator,
    *,
    setting: Setting,
    precisions: Iterable[str | None],
    engines: Iterable[str],
    most: int,
    tried: Tried,
    system: System | None = None,
) -> Iterator[Estimate]:
    """Every deployment of one replica that the model and the device can do and that fits into memory."""
    system = system or default_system(accelerator.name)
    link = system.scale_up if system and system.scale_up else accelerator.scale_up
    node = system.devices_per_node if system else (link.devices if link else 1)
    joined = most if system and system.scale_out else min(most, node)
    slow = link is None or link.topology == "pcie"
    engines = tuple(engines)
    for scheme in precisions:
        for layout in layouts(model, node, joined, slow_links=slow):
            for engine in engines:
                tried.candidates += 1
                found = _try(model, accelerator, layout, scheme, engine, setting, DEFAULT_KNOBS, system, tried)
                if found is not None:
                    yield found


def _try(
    model: ModelSpec, accelerator: Accelerator, layout: Parallelism, scheme: Any, engine: str, setting: Setting,
    knobs: EngineKnobs, system: System | None, tried: Tried,
) -> Estimate | None:  # fmt: skip
    try:
        found = estimate(
            model, accelerator, tensor_parallel=layout.tensor, pipeline_parallel=layout.pipeline,
            attention_data_parallel=layout.attention_data, expert_parallel=layout.expert, precision=scheme,
            kv_cache=setting.kv_cache, engine=engine, system=system, mode=setting.mode, input_tokens=setting.input_tokens,
            output_tokens=setting.output_tokens, prefix_hit=setting.prefix_hit, price_per_hour=setting.price_per_hour,
            knobs=knobs, speculation=setting.speculation,
        )  # fmt: skip
    except InferSimError as error:
        tried.refused += 1
        tried.reasons.setdefault(accelerator.name, str(error))
        return None
    if found.fits:
        return found
    tried.too_large += 1
    missing = found.memory.shortfall
    if tried.nearest is None or missing < tried.nearest[0]:
        told = f"{found.describe()} is short by {units.show(missing, 'B', binary=True)} per device; {found.remedies}"
        tried.nearest = (missing, told)
    return None


def knob_variants(deployment: Estimate) -> list[Estimate]:
    """The deployment first, then the same with other token budgets and slots than the engine's defaults, as far as they fit."""
    machine, workload = deployment.machine, deployment.workload
    budgets = [b for b in TOKEN_BUDGETS if b != machine.max_num_batched_tokens]
    changes: list[dict[str, int]] = [{"max_num_batched_tokens": b} for b in budgets if b >= machine.max_num_seqs]
    changes += [{"max_num_batched_tokens": b, "max_num_seqs": b} for b in budgets if b < machine.max_num_seqs]
    changes += [{"max_num_seqs": slots} for slots in SLOTS if slots < machine.max_num_seqs]
    found = [deployment]
    for change in changes:
        knobs = EngineKnobs(**change)
        memory = memory_report(
            deployment.model, deployment.parallelism, deployment.precision, machine, knobs,
            longest_wanted=workload.longest_sequence(deployment.model.task == "generate"), drafter=deployment.drafter,
        )  # fmt: skip
        if memory.fits:
            found.append(replace(deployment, knobs=knobs, memory=memory))
    return found
