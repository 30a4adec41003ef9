"""What a search answers with: deployments that serve the load within the targets, ranked, and why."""

from __future__ import annotations

import csv
import functools
import io
import math
import textwrap
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from infersim import units
from infersim.planning.space import Tried
from infersim.predict.estimate import Estimate
from infersim.serving.result import ServingResult
from infersim.serving.target import Limit

RESOURCES = {"memory": "memory bandwidth", "compute": "compute", "network": "network", "launch": "kernel launches",
             "host": "the host"}  # fmt: skip


@dataclass(frozen=True)
class Option:
    """One way to serve the load: so many replicas of a deployment, or of two pools. Rates in requests/s, money in USD.

    ``deployment`` is one aggregated replica, or one of the decode pool, at its share of the load; ``prefill`` one of the prefill pool.
    """

    deployment: Estimate
    prefill: Estimate | None
    replicas: int
    prefill_replicas: int
    request_rate: float
    """The load it is planned for."""
    capacity: float
    """The most it serves within the targets: the closed form's, or where ``verified`` says so at least what was simulated."""
    ttft: float
    """Mean at ``request_rate`` [s], as the following ones."""
    tpot: float
    e2e: float
    bound: str
    """What ends the capacity: the name of a limit, ``KV capacity``, ``slots`` or ``throughput``."""
    running: float
    """Sequences that decode at once on one replica, at ``request_rate``."""
    verified: ServingResult | None = field(default=None, repr=False)
    """The simulated run at ``request_rate``, where one was made."""
    limits: tuple[Limit, ...] = ()

    @property
    def devices(self) -> int:
        own = self.replicas * self.deployment.parallelism.devices_per_replica
        return own + (self.prefill_replicas * self.prefill.parallelism.devices_per_replica if self.prefill else 0)

    @property
    def gpu(self) -> str:
        return self.deployment.machine.accelerator.name

    @property
    def price_per_hour(self) -> float | None:
        """USD per device and hour."""
        return self.deployment.price_per_hour

    @property
    def cost_per_hour(self) -> float | None:
        """USD per hour, all devices."""
        return None if self.price_per_hour is None else self.price_per_hour * self.devices

    @property
    def tokens_per_second(self) -> float:
        """Output tokens per second at ``request_rate``; prompt tokens for a model that generates none."""
        workload = self.deployment.workload
        generates = self.deployment.model.task == "generate"
        return self.request_rate * (workload.output_tokens if generates else workload.input_tokens)

    @property
    def tokens_per_second_per_gpu(self) -> float:
        return self.tokens_per_second / self.devices

    @property
    def tokens_per_second_per_user(self) -> float:
        """1 / TPOT; infinite for a model that generates no tokens."""
        return 1.0 / self.tpot if self.tpot > 0 else math.inf

    @property
    def cost_per_million_tokens(self) -> float | None:
        """USD per million output tokens (prompt tokens of an embedding model) at the planned load, idle capacity included: all of the
        money over one kind of token."""
        return None if self.cost_per_hour is None else self.cost_per_hour / 3600 / self.tokens_per_second * 1e6

    @property
    def token_word(self) -> str:
        """Which tokens throughput and cost are counted in."""
        return "output tokens" if self.deployment.model.task == "generate" else "tokens"

    def interval(self, metric: str, percent: int = 90) -> tuple[float, float] | None:
        """Bounds of the mean ``ttft`` or ``tpot`` at the planned load [s]: those of the step's kernels and of measured serving points,
        about the mean that this option states. None in bound mode."""
        bounds = self.deployment.interval(metric, percent)
        middle = getattr(self.deployment, metric)
        if bounds is None or not middle:
            return None
        mean = getattr(self, metric)
        return mean * bounds.low / middle, mean * bounds.high / middle

    @property
    def utilisation(self) -> float:
        """Share of the capacity that the load takes."""
        return self.request_rate / self.capacity

    @property
    def memory_margin(self) -> float:
        """Share of the KV pool that is free on average at the planned load, of the fuller pool of two; 1 for a model that keeps none."""
        return min(1.0 - used for used, _ in self._pools_taken)

    @property
    def memory_spare(self) -> float:
        """Bytes of a device that neither weights, activations and runtime nor the cache of the planned load take, of the fuller pool."""
        return min(spare for _, spare in self._pools_taken)

    @functools.cached_property
    def _pools_taken(self) -> list[tuple[float, float]]:
        """For each kind of replica the share of its KV pool that is taken, and the bytes of a device that are left."""
        workload, found = self.deployment.workload, []
        prompts = self.request_rate / self.prefill_replicas * self.ttft if self.prefill_replicas else 0.0
        context = workload.input_tokens + workload.output_tokens / 2
        kinds = ((self.deployment, self.running, context), (self.prefill, prompts, workload.input_tokens))
        for one, held, tokens in kinds:
            if one is None:
                continue
            memory = one.memory
            room = float(memory.max_sequences(tokens))
            used = 0.0 if one.model.task != "generate" else min(held / room, 1.0) if room else 1.0
            fixed = memory.weights + memory.draft + memory.activations + memory.runtime + memory.cuda_graphs
            found.append((used, memory.capacity - fixed - used * memory.kv_pool))
        return found

    @functools.cached_property
    def bottleneck(self) -> str:
        """What to have more of: the TTFT queue, KV capacity, slots, or the resource that most of the step's time goes to."""
        if self.bound.startswith("ttft"):
            return "TTFT queue"
        if self.bound in ("KV capacity", "slots"):
            return self.bound
        return RESOURCES[self.resource]

    @functools.cached_property
    def resource(self) -> str:
        """What most of the time of the steps goes to: memory, compute, network, launch or host."""
        state = self.deployment._steady()
        share = float(state.prefill_share) if self.prefill is None else 0.0
        steps = [(self.deployment.prefill_step, share)]
        if self.deployment.model.task == "generate":
            steps.append((self.deployment.decode_step, 1 - share))
        spent: dict[str, float] = defaultdict(float)
        for step, weight in steps:
            for part in step.parts():
                spent[part.bound] += weight * float(part.seconds) / float(step.seconds)
        return max(spent, key=spent.__getitem__)

    def describe(self) -> str:
        """The option in a line.

        >>> from infersim import plan
        >>> plan("meta-llama/Llama-3.1-8B", "H100-SXM", request_rate=10, verify=0, pools="aggregated").best.describe()
        '1 x (TP1, fp8, vllm) on 1 x H100-SXM'
        """
        one = self.deployment
        kind = f"{one.precision.name or one.precision.weights}, {one.machine.engine.name}"
        layout = f"{self.replicas} x ({one.parallelism}, {kind})"
        if self.prefill is not None:
            pools = f"{self.prefill_replicas} x {self.prefill.parallelism} prefill + {self.replicas} x {one.parallelism} decode"
            layout = f"{pools} ({kind})"
        knobs = one.knobs.model_dump(exclude_defaults=True)
        told = "".join(f", {name} {value}" for name, value in knobs.items())
        if one.drafter is not None:
            told += f", drafts: {one.drafter.speculation.method}"
        return f"{layout} on {self.devices} x {self.gpu}{told}"

    @property
    def why(self) -> str:
        """What bounds the option, in a sentence."""
        resource = RESOURCES[self.resource]
        used = f"{self.utilisation:.0%} of its capacity taken"
        free = f"{self.memory_margin:.0%} of the KV pool and {units.show(self.memory_spare, 'B', binary=True)} of every GPU free"
        if self.bound in ("throughput", "slots", "KV capacity"):
            first = {
                "throughput": "throughput ends it",
                "slots": "max_num_seqs ends it",
                "KV capacity": "the KV pool ends it",
            }[self.bound]
        else:
            first = f"{self.bound} is met first"
        one, own = self.deployment, self.deployment.model.precision
        changed = (
            f"; {one.precision.weights} in place of the checkpoint's {own.weights}"
            if one.precision.weights != own.weights
            else ""
        )
        return f"{first}; steps wait most for {resource}; {used}, {free}{changed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units."""
        one, simulated = self.deployment, self.verified
        found: dict[str, Any] = {
            "option": self.describe(), "gpu": self.gpu,
            "system": one.machine.system.name if one.machine.system else None, "devices": self.devices,
            "replicas": self.replicas, "parallelism": one.parallelism.model_dump(),
            "prefill_replicas": self.prefill_replicas,
            "prefill_parallelism": self.prefill.parallelism.model_dump() if self.prefill else None,
            "precision": one.precision.name or one.precision.weights, "kv_cache": one.precision.kv_cache,
            "engine": one.machine.engine.name, "knobs": one.knobs.model_dump(exclude_defaults=True),
            "requests_per_s": self.request_rate, "capacity_requests_per_s": self.capacity, "utilisation": self.utilisation,
            "ttft_s": self.ttft, "tpot_s": self.tpot, "e2e_s": self.e2e,
            "ttft_interval_90_s": self.interval("ttft"), "tpot_interval_90_s": self.interval("tpot"),
            "tokens_per_s_per_user": self.tokens_per_second_per_user if self.tpot > 0 else None,
            "tokens_per_s_per_gpu": self.tokens_per_second_per_gpu, "price_per_gpu_hour_usd": self.price_per_hour,
            "price_source": one.price_source, "cost_per_hour_usd": self.cost_per_hour,
            "cost_per_million_tokens_usd": self.cost_per_million_tokens, "kv_pool_free": self.memory_margin,
            "memory_free_bytes": self.memory_spare,
            "bound": self.bound, "bottleneck": self.bottleneck, "why": self.why, "simulated": None,
        }  # fmt: skip
        if simulated is not None:
            settled = simulated.settled()
            found["simulated"] = {
                "requests": simulated.completed,
                **{f"{limit.name}_s": settled.statistic(limit) for limit in self.limits},
                **{f"{metric}_mean_s": settled.mean(metric) for metric in ("ttft", "tpot", "e2e")},
            }
        return found


@dataclass(frozen=True)
class FrontPoint:
    """An operating point that no other beats in speed for a user, throughput of a GPU and cost together."""

    gpu: str
    label: str
    concurrency: float
    tokens_per_second_per_user: float
    tokens_per_second_per_gpu: float
    cost_per_million_tokens: float | None
    ttft: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; keys carry units."""
        return {
            "gpu": self.gpu, "deployment": self.label, "concurrency_per_replica": self.concurrency,
            "tokens_per_s_per_user": self.tokens_per_second_per_user, "tokens_per_s_per_gpu": self.tokens_per_second_per_gpu,
            "cost_per_million_tokens_usd": self.cost_per_million_tokens, "ttft_s": self.ttft,
        }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The options for a load, best first, with the reasons.

    >>> from infersim import plan
    >>> answer = plan("meta-llama/Llama-3.1-8B", ["H100-SXM", "L40S"], request_rate=10, target="tpot=40ms", verify=0)
    >>> answer.best.devices >= 1, answer.options[0] is answer.best, len(answer.front) > 1
    (True, True, True)
    """

    question: dict[str, Any]
    """What was asked, as plain values."""
    options: tuple[Option, ...]
    front: tuple[FrontPoint, ...]
    flips: tuple[str, ...]
    """What would make another option the best one, sentence by sentence."""
    tried: Tried
    seconds: float
    """That the search took."""

    @property
    def best(self) -> Option:
        return self.options[0]

    def best_by(self, key: str) -> list[Option]:
        """The best option of each kind: ``gpu``, ``precision``, ``engine`` or ``pools``."""
        found: dict[Any, Option] = {}
        for option in self.options:
            kind = {
                "gpu": option.gpu, "precision": option.deployment.precision.name, "engine": option.deployment.machine.engine.name,
                "pools": option.prefill is not None,
            }[key]  # fmt: skip
            found.setdefault(kind, option)
        return list(found.values())

    @property
    def alternatives(self) -> list[Option]:
        """The next-best options that differ in something a buyer sees: GPU, precision, engine, pools."""
        others: list[Option] = []
        for key in ("gpu", "precision", "engine", "pools"):
            others += [o for o in self.best_by(key) if o is not self.best and o not in others]
        return sorted(others, key=self.options.index)

    @property
    def sources(self) -> list[str]:
        """What the best option rests on."""
        return self.best.deployment.sources

    def to_dict(self) -> dict[str, Any]:
        """Everything; keys carry units."""
        return {
            "question": self.question, "options": [option.to_dict() for option in self.options],
            "pareto_front": [point.to_dict() for point in self.front], "flips": list(self.flips),
            "candidates": self.tried.candidates, "did_not_fit": self.tried.too_large, "refused": self.tried.refused,
            "left_out": self.tried.reasons, "search_s": self.seconds, "sources": self.sources,
        }  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """The options as flat rows."""
        nested = (
            "parallelism",
            "prefill_parallelism",
            "knobs",
            "simulated",
            "ttft_interval_90_s",
            "tpot_interval_90_s",
        )
        return [{k: v for k, v in option.to_dict().items() if k not in nested} for option in self.options]

    def to_frame(self) -> Any:
        """The options as a pandas frame, one row each."""
        return frame(self.rows())

    def to_csv(self) -> str:
        """The options as CSV, one row each."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows()[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def __str__(self) -> str:
        best = self.best
        figures = [
            f"TTFT {units.show(best.ttft, 's')}", f"TPOT {units.show(best.tpot, 's')}" if best.tpot else "",
            f"{best.tokens_per_second_per_gpu:,.0f} {best.token_word}/s per GPU",
            f"{best.cost_per_hour:,.2f} USD/h" if best.cost_per_hour is not None else "",
        ]  # fmt: skip
        lines = [best.describe(), best.why, "   ".join(figure for figure in figures if figure)]
        lines += [f"next: {option.describe()}{self._dearer(option)}" for option in self.alternatives[:3]]
        wrapped = (
            textwrap.wrap(line, 80, subsequent_indent="  ", break_on_hyphens=False) for line in (*lines, *self.flips)
        )
        return "\n".join(piece for pieces in wrapped for piece in pieces)

    def _dearer(self, option: Option) -> str:
        if option.cost_per_hour is None or self.best.cost_per_hour is None:
            return ""
        return f": {option.cost_per_hour:,.2f} USD/h"


def frame(rows: list[dict[str, Any]]) -> Any:
    """Rows as a pandas frame; SpecError where pandas is not there."""
    from infersim.errors import SpecError

    try:
        import pandas as pd
    except ImportError as error:
        raise SpecError("a frame needs pandas: pip install 'infersim[data]'") from error
    return pd.DataFrame(rows)
