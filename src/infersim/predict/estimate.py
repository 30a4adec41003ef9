"""One deployment, end to end: does it fit, how fast is it, what does it cost, and how sure is that."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim import units
from infersim.errors import DoesNotFitError, InferSimError, SpecError
from infersim.machine.machine import Machine, Mode, build_machine
from infersim.ops.drafts import Drafter
from infersim.ops.sampling import Sampler, sampling_passes
from infersim.ops.transformer import Batch, Group
from infersim.predict.figures import Figures
from infersim.predict.formats import resolve_precision
from infersim.predict.interval import LEVELS, Interval, regime
from infersim.predict.latency import SteadyState, steady_state
from infersim.predict.memory import MemoryReport, memory_report
from infersim.predict.speculation import last_paying_batch, predict_drafted_step, resolve_drafter, speculative_gain
from infersim.predict.step import StepTime, predict_step
from infersim.specs.deployment import EngineKnobs, Parallelism, check_parallelism
from infersim.specs.engine import EngineSpec
from infersim.specs.hardware import Accelerator, System
from infersim.specs.huggingface import load_model
from infersim.specs.library import default_system, derived_caches, load_accelerator, load_engine, load_system, validate
from infersim.specs.model import ModelSpec
from infersim.specs.precision import FORMATS, Precision, matrix_unit, precision
from infersim.specs.speculation import Speculation
from infersim.specs.workload import Target, Workload


@dataclass(frozen=True)
class Estimate:
    """What one deployment does under one workload. Times in seconds, rates per second, money in USD.

    Where the deployment does not fit, ``state`` is None and asking for a latency raises DoesNotFitError. Figures are for all
    replicas together unless they say per GPU or per user.

    >>> answer = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=8, mode="bound")
    >>> print(answer)
    meta-llama/Llama-3.1-8B bf16 on 1 x H100-SXM (TP1, vllm)
    TTFT 18.7 ms   TPOT 5.14 ms   E2E 1.33 s
    1,540 output tokens/s per GPU   6.02 requests/s
    0.54 USD per million output tokens
    """

    model: ModelSpec
    machine: Machine
    parallelism: Parallelism
    precision: Precision
    knobs: EngineKnobs
    workload: Workload
    memory: MemoryReport
    price_per_hour: float | None
    """USD per device and hour."""
    price_source: str
    target: Target | None
    remedies: str
    """What would fit, where this does not."""
    sampler: Sampler
    drafter: Drafter | None = None
    """What drafts tokens ahead, under speculative decoding."""

    @property
    def fits(self) -> bool:
        return self.memory.fits

    @property
    def devices(self) -> int:
        return self.parallelism.devices

    @functools.cached_property
    def state(self) -> SteadyState | None:
        """What one replica does under the workload; None where the deployment does not fit. Priced when it is first asked for."""
        if not self.memory.fits:
            return None
        workload = self.workload
        in_step = workload.fixed_lengths and not self.machine.engine.mixed_batches
        return steady_state(
            self.model, self.parallelism, self.precision, self.machine, self.memory, self.knobs,
            input_tokens=workload.input_tokens, output_tokens=workload.output_tokens,
            users=workload.concurrency / self.parallelism.replicas, cached_tokens=workload.cached_tokens,
            burst_share=1.0 if in_step else workload.burst_share, sampler=self.sampler, drafter=self.drafter,
        )  # fmt: skip

    def _steady(self) -> SteadyState:
        if self.state is None:
            shortfall = self.memory.shortfall
            raise DoesNotFitError(self.misfit(shortfall, self.remedies), shortfall=shortfall)
        return self.state

    def misfit(self, shortfall: float, remedies: str) -> str:
        """What is said of a deployment that does not fit."""
        missing = units.show(shortfall, "B", binary=True)
        return f"{self.describe()} does not fit: short by {missing} per device; {remedies}"

    @functools.cached_property
    def figures(self) -> Figures:
        """All of the latencies, rates and costs below. DoesNotFitError where the deployment does not fit."""
        workload = self.workload
        return Figures(self._steady(), self.devices, self.parallelism.replicas, self.model.task == "generate",
                       workload.input_tokens, workload.output_tokens, self.price_per_hour)  # fmt: skip

    @property
    def ttft(self) -> float:
        """Time to first token [s]: arrival to first token, queueing included."""
        return float(self._steady().ttft)

    @property
    def tpot(self) -> float:
        """Time per output token after the first [s]."""
        return float(self._steady().tpot)

    @property
    def e2e(self) -> float:
        """End-to-end latency of a request [s]."""
        return float(self._steady().e2e)

    @property
    def requests_per_second(self) -> float:
        return float(self.figures.requests_per_second)

    @property
    def output_tokens_per_second(self) -> float:
        return float(self.figures.output_tokens_per_second)

    @property
    def total_tokens_per_second(self) -> float:
        """Prompt and output tokens per second."""
        return float(self.figures.total_tokens_per_second)

    @property
    def output_tokens_per_second_per_gpu(self) -> float:
        return float(self.figures.output_tokens_per_second_per_gpu)

    @property
    def tokens_per_second_per_user(self) -> float:
        """1 / TPOT: the speed one user sees while tokens stream."""
        return float(self.figures.tokens_per_second_per_user)

    @functools.cached_property
    def decode_step(self) -> StepTime:
        """The pure decode step at the steady number of running sequences."""
        (decodes,) = self._steady().decode_batch
        return self._step((), decodes)

    @functools.cached_property
    def prefill_step(self) -> StepTime:
        """The step that carries one prompt (or chunk of one)."""
        return self._step(self._steady().prefill_batch, None)

    def _step(self, prompts: Batch, decodes: Group | None) -> StepTime:
        deployed, eager = (self.model, self.parallelism, self.precision), self.knobs.enforce_eager
        if self.drafter is not None and self.drafting:
            return predict_drafted_step(*deployed, decodes, self.machine, self.drafter, prompts=prompts,
                                        sampler=self.sampler, eager=eager)  # fmt: skip
        batch = (*prompts, *(() if decodes is None else (decodes,)))
        return predict_step(*deployed, batch, self.machine, sampler=self.sampler, eager=eager)

    @property
    def tokens_per_step(self) -> float:
        """Output tokens that a sequence gets in a decode step: more than one under speculative decoding."""
        return float(self._steady().tokens_per_step)

    @property
    def drafting(self) -> bool:
        """Whether tokens are drafted at the steady number of running sequences."""
        return bool(self._steady().drafting)

    @functools.cached_property
    def speculative_speedup(self) -> float:
        """Decode speed with drafts over that without, at the steady number of running sequences; 1 where none are made."""
        if self.drafter is None or not self.drafting:
            return 1.0
        (decodes,) = self._steady().decode_batch
        return float(speculative_gain(
            self.model, self.parallelism, self.precision, self.machine, self.drafter, decodes.count, decodes.cached,
            sampler=self.sampler, eager=self.knobs.enforce_eager,
        ))  # fmt: skip

    @functools.cached_property
    def break_even_batch(self) -> int | None:
        """Running sequences of one replica from which on drafts slow decoding down; None where they pay up to 1,024, or where
        there are none."""
        if self.drafter is None:
            return None
        return last_paying_batch(
            self.model, self.parallelism, self.precision, self.machine, self.drafter,
            float(self._steady().decode_batch[0].cached), sampler=self.sampler, eager=self.knobs.enforce_eager,
        )  # fmt: skip

    @property
    def steps(self) -> dict[str, StepTime]:
        """The steps that the figures are made of, by name; none where the deployment does not fit."""
        if self.state is None:
            return {}
        return {"prefill": self.prefill_step} | ({"decode": self.decode_step} if self.tpot > 0 else {})

    @property
    def cost_per_second(self) -> float | None:
        return None if self.price_per_hour is None else self.price_per_hour * self.devices / 3600

    @property
    def cost_per_million_tokens(self) -> float | None:
        """USD per million prompt and output tokens together."""
        return None if self.price_per_hour is None else float(self.figures.cost_per_million_tokens)  # type: ignore[arg-type]

    @property
    def cost_per_million_input_tokens(self) -> float | None:
        """USD per million prompt tokens; money is split by the share of device time that prefill takes."""
        return None if self.price_per_hour is None else float(self.figures.cost_per_million_input_tokens)  # type: ignore[arg-type]

    @property
    def cost_per_million_output_tokens(self) -> float | None:
        """USD per million output tokens; money is split by the share of device time that prefill takes."""
        if self.price_per_hour is None or self.model.task != "generate":
            return None
        return float(self.figures.cost_per_million_output_tokens)  # type: ignore[arg-type]

    def log_spread(self, metric: str) -> float:
        """Log spread of the kernel models in the step that ``ttft`` or ``tpot`` rests on."""
        return float((self.prefill_step if metric == "ttft" else self.decode_step).log_spread)

    def interval(self, metric: str, percent: int = 90) -> Interval | None:
        """The 50% or 90% interval of ``ttft``, ``tpot`` or ``e2e``; None in bound mode, which predicts a limit.

        Kernel spreads, widened by how measured serving points of the engine scatter (``predict.interval``). Bounds of E2E are
        the sums of the others', whose errors go together.
        """
        if metric not in ("ttft", "tpot", "e2e"):
            raise SpecError(f"no interval is kept for {metric!r}; ask for ttft, tpot or e2e")
        if percent not in LEVELS:
            raise SpecError(f"intervals are kept for {' and '.join(map(str, LEVELS))} percent, not {percent!r}")
        if self.machine.mode == "bound":
            return None
        if metric == "e2e":
            first, each = self.interval("ttft", percent), self.interval("tpot", percent)
            assert first is not None
            assert each is not None
            steps = self.workload.output_tokens - 1 if self.tpot > 0 else 0.0
            return Interval(first.low + steps * each.low, first.high + steps * each.high, percent)
        if metric == "tpot" and self.tpot == 0:
            return Interval(0.0, 0.0, percent)
        scatter = regime(self.machine.engine.name, "MoE" if self.model.is_moe else "dense", metric)
        return scatter.interval(float(getattr(self, metric)), self.log_spread(metric), percent)

    @property
    def missed_targets(self) -> list[str]:
        """Names of the targets that are missed; empty where none is set."""
        if self.target is None or self.state is None:
            return []
        return self.target.missed(ttft=self.ttft, tpot=self.tpot, e2e=self.e2e)

    @property
    def sources(self) -> list[str]:
        """Everything the figures rest on: data sheet, system, kernel calibrations, engine, price, assumptions of the import."""
        accelerator = self.machine.accelerator
        found = [f"{accelerator.name}: " + "; ".join(dict.fromkeys(source.ref for source in accelerator.sources))]
        if self.machine.system:
            found.append(
                f"{self.machine.system.name}: " + "; ".join(source.ref for source in self.machine.system.sources)
            )
        if self.state is not None and self.machine.mode == "calibrated":
            kernels = [*self.decode_step.sources, *self.prefill_step.sources]
            found += [f"kernels: {source}" for source in dict.fromkeys(kernels)]
            engine = self.machine.engine
            found.append(
                f"engine {engine.name} {engine.version}: "
                + "; ".join(
                    f"{', '.join(source.of)} {source.status} ({source.ref})"
                    for source in engine.sources
                    if source.status in ("fitted", "assumed")
                )
            )
        if self.price_per_hour is not None:
            found.append(f"price: {self.price_source}")
        if self.drafter is not None:
            found += [f"drafts: {source}" for source in self.drafter.sources]
            found.append("drafts: intervals are of the step times; acceptance is taken as given")
        return found + list(self.model.warnings)

    @property
    def extrapolations(self) -> list[str]:
        """Which ops lie outside the sizes that their kernel models were fitted on, by step; empty where all lie inside."""
        return [f"{name} {line}" for name, step in self.steps.items() for line in step.extrapolations()]

    def describe(self) -> str:
        """The deployment in a line."""
        drafts = f", {self.drafter.speculation.method}" if self.drafter else ""
        return (f"{self.model.name} {self.precision.name or self.precision.weights} on {self.devices} x "
                f"{self.machine.accelerator.name} ({self.parallelism}, {self.machine.engine.name}{drafts})")  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units."""
        memory = self.memory
        result: dict[str, Any] = {
            "model": self.model.name,
            "total_parameters": self.model.total_parameters,
            "active_parameters": self.model.active_parameters,
            "accelerator": self.machine.accelerator.name,
            "system": self.machine.system.name if self.machine.system else None,
            "devices": self.devices,
            "parallelism": self.parallelism.model_dump(),
            "precision": {"weights": self.precision.weights, "activations": self.precision.activations,
                          "kv_cache": self.precision.kv_cache},
            "engine": self.machine.engine.name,
            "mode": self.machine.mode,
            "peak_flop_per_s": dict(self.machine.accelerator.peak_flops),
            "memory_bandwidth_bytes_per_s": self.machine.accelerator.memory.bandwidth,
            "workload": self.workload.model_dump(),
            "target": {f"{name}_s": limit for name, limit in self.target if limit is not None} if self.target else {},
            "fits": self.fits,
            "memory": {
                "capacity_bytes": memory.capacity, "weights_bytes": memory.weights, "activations_bytes": memory.activations,
                "runtime_bytes": memory.runtime, "cuda_graphs_bytes": memory.cuda_graphs, "kv_pool_bytes": memory.kv_pool,
                "shortfall_bytes": max(memory.shortfall, 0.0), "kv_bytes_per_token": memory.rates.per_token,
                "kv_bytes_per_sequence": memory.rates.per_sequence,
                "kv_windows": [{"bytes_per_token": rate, "tokens": tokens} for rate, tokens in memory.rates.windows],
                "kv_block_tokens": memory.block_size, "kv_pools": memory.attention_ranks,
                "kv_tokens": _finite(memory.kv_tokens), "longest_context_tokens": _finite(memory.longest_context()),
                "max_sequences": float(memory.max_sequences(self.workload.input_tokens + self.workload.output_tokens))
                if memory.rates.any else None,
            },
        }  # fmt: skip
        if self.drafter is not None:
            result["speculation"] = self.drafter.speculation.model_dump(exclude_none=True)
            result["memory"]["draft_weights_bytes"] = memory.draft
        if self.state is None:
            return result | {"remedies": self.remedies}
        if self.drafter is not None:
            result["speculation"] |= {
                "tokens_per_step": self.tokens_per_step, "drafting": self.drafting,
                "acceptance_by_position": list(self.drafter.reached), "decode_speedup": self.speculative_speedup,
                "break_even_batch": self.break_even_batch,
            }  # fmt: skip
        figures = self.figures.to_dict()
        result |= {name: None if value is None else _finite(float(value)) for name, value in figures.items()}
        result["missed_targets"] = self.missed_targets
        for metric in ("ttft", "tpot", "e2e"):
            for percent in LEVELS:
                interval = self.interval(metric, percent)
                if interval:
                    result[f"{metric}_interval_{percent}_s"] = [interval.low, interval.high]
        for name, step in self.steps.items():
            result[f"{name}_step"] = step_dict(step)
        return result | {"extrapolations": self.extrapolations, "sources": self.sources}

    def __str__(self) -> str:
        if self.state is None:
            missing = units.show(self.memory.shortfall, "B", binary=True)
            return f"{self.describe()}: does not fit, short by {missing} per device; {self.remedies}"
        cost = self.cost_per_million_output_tokens
        lines = [
            self.describe(),
            f"TTFT {units.show(self.ttft, 's')}   TPOT {units.show(self.tpot, 's')}   E2E {units.show(self.e2e, 's')}",
            f"{self.output_tokens_per_second_per_gpu:,.0f} output tokens/s per GPU   {self.requests_per_second:,.2f} requests/s",
        ]
        if self.drafter is not None:
            lines.append(f"drafts: {self.drafter.speculation}; decoding {self.speculative_speedup:.2f} times as fast")
        return "\n".join(lines + ([f"{cost:,.2f} USD per million output tokens"] if cost is not None else []))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def step_dict(step: StepTime) -> dict[str, Any]:
    """A step with its breakdown as plain numbers."""
    return {
        "seconds": float(step.seconds), "mfu": float(step.mfu), "mbu": float(step.mbu),
        "ops": [
            {"name": part.name, "count": part.count, "seconds": float(part.seconds), "flop": float(part.flops),
             "bytes": float(part.bytes), "link_bytes": float(part.link_bytes), "intensity_flop_per_byte": float(part.intensity),
             "compute_floor_s": float(part.compute_floor), "memory_floor_s": float(part.memory_floor), "bound": part.bound,
             "source": part.source}
            for part in step.parts()
        ],
    }  # fmt: skip


DEFAULT_KNOBS = EngineKnobs()
"""Everything as the engine's defaults have it."""


@functools.lru_cache(maxsize=1024)
def _machine(
    gpu: str | Accelerator, system: str | System | None, engine: str | EngineSpec, mode: Mode, devices: int
) -> Machine:
    accelerator = load_accelerator(gpu) if isinstance(gpu, str) else gpu
    if system is None:
        placed = default_system(accelerator.name)
    else:
        placed = load_system(system) if isinstance(system, str) else system
    runs = load_engine(engine) if isinstance(engine, str) else engine
    return build_machine(accelerator, placed, runs, mode, devices)


derived_caches.append(_machine.cache_clear)


@functools.lru_cache(maxsize=1024)
def _checked(model: ModelSpec, parallelism: Parallelism, precision: Precision, machine: Machine) -> None:
    """Refuse what the model or the device cannot do, once per deployment."""
    check_parallelism(model, parallelism)
    for role in ("attention", "mlp", "experts", "lm_head"):
        matrix_unit(*precision.of(role), machine.accelerator)
    if parallelism.devices_per_replica > 1:
        machine.fabric.path(parallelism.devices_per_replica)


def estimate(
    model: str | ModelSpec,
    gpu: str | Accelerator,
    *,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    attention_data_parallel: int = 1,
    expert_parallel: int = 1,
    context_parallel: int = 1,
    replicas: int = 1,
    precision: str | Precision | None = None,
    kv_cache: str | None = None,
    engine: str | EngineSpec = "vllm",
    system: str | System | None = None,
    mode: Mode = "calibrated",
    input_tokens: float = 1024,
    output_tokens: float = 256,
    concurrency: float = 1,
    prefix_hit: float = 0.0,
    num_requests: float | None = None,
    fixed_lengths: bool = False,
    price_per_hour: float | None = None,
    target: str | Target | None = None,
    sampler: Sampler = "greedy",
    knobs: EngineKnobs | None = None,
    speculation: str | Speculation | dict[str, Any] | None = None,
) -> Estimate:
    """Predict one deployment under a closed loop of ``concurrency`` users: a steady one, or with ``num_requests`` the means of a
    benchmark run of that many requests, which starts with a burst of one request of every user. ``fixed_lengths``: all requests
    are alike.

    ``model`` is a bundled name, a Hugging Face id in the local cache, a folder or a ``config.json``; ``gpu`` a bundled name
    or a YAML file. ``precision`` defaults to the checkpoint's own formats; ``price_per_hour`` [USD per device] to the cheapest
    on-demand price on file. ``speculation`` drafts tokens ahead, in the words of vLLM's ``speculative_config``. A deployment
    that does not fit comes back with ``fits`` false and says what would.

    Raises SpecError for bad input, UnsupportedError for what the device cannot do.

    >>> e = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=2048, output_tokens=256, mode="bound")
    >>> e.fits, round(e.tpot * 1e3, 2)
    (True, 4.57)
    """
    spec = load_model(model) if isinstance(model, str) else model
    parallelism = _parallelism(
        tensor_parallel, pipeline_parallel, attention_data_parallel, expert_parallel, context_parallel, replicas
    )
    workload = validate(Workload, {
        "input_tokens": input_tokens, "output_tokens": output_tokens, "concurrency": concurrency, "prefix_hit": prefix_hit,
        "num_requests": num_requests, "fixed_lengths": fixed_lengths,
    })  # fmt: skip
    if mode not in ("bound", "calibrated"):
        raise SpecError(f"mode is 'bound' or 'calibrated', got {mode!r}", field="mode")
    sampling_passes(sampler)
    machine = _machine(gpu, system, engine, mode, parallelism.devices_per_replica)
    formats = resolve_precision(spec, precision, kv_cache, machine.accelerator)
    _checked(spec, parallelism, formats, machine)
    knobs = knobs or DEFAULT_KNOBS
    drafter = None
    if speculation is not None:
        try:
            config = speculation if isinstance(speculation, Speculation) else validate(Speculation, speculation)
            drafter = resolve_drafter(spec, config, formats, machine.accelerator, parallelism)
        except SpecError as error:
            raise SpecError(str(error), field="speculative_config") from error
    longest = workload.longest_sequence(spec.task == "generate")
    if longest > model_length(spec, knobs):
        raise SpecError(too_long(spec, knobs, workload.input_tokens, workload.output_tokens), field="input_tokens")
    memory = memory_report(spec, parallelism, formats, machine, knobs, longest_wanted=longest, drafter=drafter)
    price, price_source = _price(machine.accelerator, price_per_hour)
    goal = validate(Target, target) if isinstance(target, str) else target
    remedies = "" if memory.fits else suggest_remedies(spec, parallelism, formats, machine, knobs, longest, drafter)
    return Estimate(
        spec,
        machine,
        parallelism,
        formats,
        knobs,
        workload,
        memory,
        price,
        price_source,
        goal,
        remedies,
        sampler,
        drafter,
    )


@functools.lru_cache(maxsize=1024)
def _parallelism(
    tensor: int, pipeline: int, attention_data: int, expert: int, context: int, replicas: int
) -> Parallelism:
    return validate(Parallelism, {
        "tensor": tensor, "pipeline": pipeline, "attention_data": attention_data, "expert": expert, "context": context,
        "replicas": replicas,
    })  # fmt: skip


def model_length(model: ModelSpec, knobs: EngineKnobs) -> float:
    """Tokens of the longest sequence that a model and its engine take; infinite where neither says."""
    return min(model.max_position_embeddings or math.inf, knobs.max_model_len or math.inf)


def too_long(model: ModelSpec, knobs: EngineKnobs, input_tokens: float, output_tokens: float) -> str:
    """What is said of lengths that are too long."""
    return (f"input {input_tokens:g} + output {output_tokens:g} tokens is more than the {model_length(model, knobs):,.0f} "
            f"that {model.name} takes")  # fmt: skip


def _price(accelerator: Accelerator, given: float | None) -> tuple[float | None, str]:
    if given is not None:
        if not (isinstance(given, (int, float)) and math.isfinite(given) and given >= 0):
            raise SpecError(f"must be zero or more USD per device and hour, got {given!r}", field="price_per_hour")
        return float(given), "given by the user"
    found = accelerator.price_per_hour
    if found is None:
        return None, ""
    return found.per_hour, found.origin()


def suggest_remedies(
    model: ModelSpec,
    parallelism: Parallelism,
    formats: Precision,
    machine: Machine,
    knobs: EngineKnobs,
    longest: float,
    drafter: Drafter | None = None,
) -> str:
    """The nearest changes that make a deployment fit: more tensor parallelism, or fewer bits the device can multiply."""
    kinds = changes(model, parallelism, formats, machine, knobs, drafter)
    return remedy(next((name for name, memory in kind if memory.shortfall_at(longest) <= 0), None) for kind in kinds)


def remedy(found: Iterable[str | None]) -> str:
    """What is said of the changes that make a deployment fit; None stands for a kind of change that does not.

    >>> remedy(["TP 4", None])
    'fits with TP 4'
    """
    return "fits with " + " or ".join(kept) if (kept := [name for name in found if name]) else NO_REMEDY


NO_REMEDY = "no tensor parallelism up to 64 and no format down to 4 bits alone makes it fit"


def changes(
    model: ModelSpec,
    parallelism: Parallelism,
    formats: Precision,
    machine: Machine,
    knobs: EngineKnobs,
    drafter: Drafter | None,
) -> tuple[Iterator[tuple[str, MemoryReport]], ...]:
    """Changes that may make a deployment fit, by kind and nearest first, each with the memory it leaves."""

    def tried(parallelism: Parallelism, formats: Precision, name: str) -> Iterator[tuple[str, MemoryReport]]:
        with contextlib.suppress(InferSimError):
            _checked(model, parallelism, formats, machine)
            yield name, memory_report(model, parallelism, formats, machine, knobs, drafter=drafter)

    wider = [tensor for tensor in (2, 4, 8, 16, 32, 64) if tensor > parallelism.tensor]
    schemes = {name: precision(name) for name in ("fp8", "int8", "nvfp4", "w4a16")}
    bits = FORMATS[formats.weights].bits
    fewer = {name: scheme for name, scheme in schemes.items() if FORMATS[scheme.weights].bits < bits}
    return (
        (found for tensor in wider for found in tried(_with_tensor(parallelism, tensor), formats, f"TP {tensor}")),
        (found for name, scheme in fewer.items() for found in tried(parallelism, scheme, name)),
    )


def _with_tensor(parallelism: Parallelism, tensor: int) -> Parallelism:
    expert = parallelism.expert if (tensor * parallelism.attention_data) % parallelism.expert == 0 else 1
    return parallelism.model_copy(update={"tensor": tensor, "expert": expert})


def sweep_steps(
    model: str | ModelSpec, gpu: str | Accelerator, batch: Any, *, tensor_parallel: int = 1, precision: str | Precision | None = None,
    engine: str = "vllm", mode: Mode = "calibrated", block: int = 4096, **parallel: int,
) -> np.ndarray[Any, np.dtype[np.float64]]:  # fmt: skip
    """Step times [s] of one deployment over long arrays of batches, priced ``block`` points at a time to stay in cache.

    >>> import numpy as np
    >>> from infersim import decode
    >>> times = sweep_steps("meta-llama/Llama-3.1-8B", "H100-SXM", decode(np.arange(1.0, 65.0), 2048.0), mode="bound")
    >>> times.shape, bool((np.diff(times) >= 0).all())
    ((64,), True)
    """
    spec = load_model(model) if isinstance(model, str) else model
    parallelism = validate(Parallelism, {"tensor": tensor_parallel, **parallel})
    machine = _machine(gpu, None, engine, mode, parallelism.devices_per_replica)
    formats = resolve_precision(spec, precision, None, machine.accelerator)
    _checked(spec, parallelism, formats, machine)
    fields = ("count", "new", "cached", "sampled", "encode", "source")
    shape = np.broadcast_shapes(*[np.shape(getattr(group, field)) for group in batch for field in fields])
    flat = [
        [
            np.broadcast_to(getattr(group, f), shape).ravel() if np.ndim(getattr(group, f)) else getattr(group, f)
            for f in fields
        ]
        for group in batch
    ]
    size = int(np.prod(shape)) if shape else 1
    times = np.empty(size)
    for start in range(0, size, block):
        part = tuple(Group(*[v[start : start + block] if np.ndim(v) else v for v in group]) for group in flat)
        times[start : start + block] = predict_step(spec, parallelism, formats, part, machine).seconds
    return times.reshape(shape)
