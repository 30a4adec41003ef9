"""Many adapters on one deployment: what each step pays for them, which stay on the device, and what that leaves for the KV cache."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from infersim import units
from infersim.adapters.lora import (
    Adapter,
    adapter_bytes,
    adapter_ops,
    adapter_parameters,
    distinct_adapters,
    popularity,
    recent_hit_rate,
    resident_hit_rate,
    swap_seconds,
)
from infersim.adapters.training import METHODS, TrainingCost, training_cost
from infersim.errors import DoesNotFitError, SpecError
from infersim.ops.transformer import Batch, step_ops
from infersim.predict.estimate import Estimate
from infersim.predict.memory import MemoryReport
from infersim.predict.step import price, prompt_submission
from infersim.specs.quantity import Spec
from infersim.specs.reading import validate

SHARE = 0.1
"""Of the KV pool that adapters take where nobody says how many stay on the device: assumed."""
WIDTH = 80


class AdaptersSpec(Spec):
    """``count`` adapters of one shape. The k-th most popular is asked for in proportion to 1 / k^``skew`` (0: all equally).

    ``resident`` of them, those used last, stay on the device (vLLM's ``max_loras``); None: as many as a tenth of the KV pool holds.
    ``training_tokens``: what one adapter is trained on, all epochs together, for its price.
    """

    count: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Adapters of this shape."""
    adapter: Adapter = Adapter()
    """Their shape."""
    skew: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Zipf's exponent of how often each is asked for; 0: all equally."""
    resident: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Adapters kept on the device (vLLM's max_loras); by default what a tenth of the KV pool holds."""
    training_tokens: Annotated[float, Field(gt=0, le=1e15)] | None = None
    """Tokens that one is trained on, all epochs together, for its price."""


@dataclass(frozen=True)
class AdaptersAnswer:
    """Times in seconds, per replica where nothing else is said; ``deployment`` is the base model's, at its load."""

    spec: AdaptersSpec
    deployment: Estimate
    parameters: int
    each: float
    """Bytes of an adapter on one device."""
    resident: int
    most: int
    """Adapters that fit beside the cache of one request of the workload."""
    added_decode: float
    """What a decode step takes longer."""
    added_prefill: float
    """What a prompt's steps take longer."""
    training: tuple[TrainingCost, ...] = field(default=())

    @functools.cached_property
    def shares(self) -> Any:
        return popularity(self.spec.count, self.spec.skew)

    @property
    def running(self) -> float:
        """Sequences of one replica that run at once."""
        assert self.deployment.state is not None
        return float(self.deployment.state.running)

    @property
    def distinct(self) -> float:
        """Mean number of different adapters in a decode step."""
        return float(distinct_adapters(self.shares, max(self.running, 1.0)))

    @property
    def hit_rate(self) -> float:
        """Share of the requests whose adapter is on the device, the most recently used ones being kept."""
        return recent_hit_rate(self.shares, self.resident)

    @property
    def pinned_hit_rate(self) -> float:
        """The same if the most popular ones were pinned there: the best there is."""
        return resident_hit_rate(self.shares, self.resident)

    @property
    def swap(self) -> float:
        """Time to bring an adapter in over the host link, all devices of a replica at once [s]."""
        return float(swap_seconds(self.each, self.deployment.machine.host_copy_bandwidth))

    @property
    def ttft(self) -> float:
        """With the adapters' products, and the mean time of bringing one in."""
        return self.deployment.ttft + self.added_prefill + (1 - self.hit_rate) * self.swap

    @property
    def tpot(self) -> float:
        return self.deployment.tpot + self.added_decode / self.deployment.tokens_per_step

    @property
    def memory(self) -> MemoryReport:
        """The device's memory with the resident adapters in it."""
        return beside(self.deployment.memory, self.resident * self.each)

    def max_sequences(self, resident: Any = None) -> Any:
        """Requests of the workload that a replica holds beside so many adapters; broadcasts."""
        one, count = self.deployment.memory, self.resident if resident is None else np.asarray(resident, dtype=float)
        tokens = self.deployment.workload.longest_sequence(self.deployment.model.task == "generate")
        size = float(one.rates.bytes(tokens, block_size=one.block_size))
        return one.attention_ranks * np.floor(np.maximum(one.kv_pool - count * self.each, 0.0) / max(size, 1e-9))

    @property
    def merged_devices(self) -> int:
        """Devices where every adapter is merged into weights of its own: a deployment each, and nothing to add to a step."""
        return self.spec.count * self.deployment.devices

    @property
    def warnings(self) -> list[str]:
        found = []
        if self.distinct > self.resident + 0.5:
            found.append(
                f"a step would hold {self.distinct:.0f} adapters and {self.resident} are resident: requests wait for a place"
            )
        if self.resident < self.spec.count:
            found.append(f"{self.spec.count - self.resident:,} adapters wait in host memory")
        return found

    @property
    def sources(self) -> list[str]:
        return [*self.deployment.sources, "adapters: shapes after LoRA, arXiv:2106.09685; products priced as the model's own",
                *(source for run in self.training for source in run.sources)]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units. ``trade_off``: adapters on the device against everything else."""
        one = self.deployment
        counts = np.unique(np.round(np.linspace(0, min(self.most, self.spec.count), 41)).astype(int))
        hour = one.price_per_hour
        return {
            "deployment": one.describe(), "adapters": self.spec.count, "rank": self.spec.adapter.rank, "skew": self.spec.skew,
            "parameters": self.parameters, "adapter_bytes": self.each, "resident": self.resident, "most_resident": self.most,
            "distinct_in_batch": self.distinct, "hit_rate": self.hit_rate, "pinned_hit_rate": self.pinned_hit_rate, "swap_s": self.swap,
            "ttft_s": self.ttft, "tpot_s": self.tpot, "base_ttft_s": one.ttft, "base_tpot_s": one.tpot,
            "added_decode_step_s": self.added_decode, "added_prefill_s": self.added_prefill,
            "resident_bytes": self.resident * self.each, "host_bytes": max(self.spec.count - self.resident, 0) * self.each,
            "kv_pool_bytes": one.memory.kv_pool, "max_sequences": float(self.max_sequences()),
            "base_max_sequences": float(self.max_sequences(0)), "devices": one.devices, "merged_devices": self.merged_devices,
            "usd_per_hour": None if hour is None else hour * one.devices,
            "merged_usd_per_hour": None if hour is None else hour * self.merged_devices,
            "trade_off": {"resident": counts.tolist(), "max_sequences": self.max_sequences(counts).tolist(),
                          "hit_rate": [recent_hit_rate(self.shares, int(count)) for count in counts]},
            "training": [run.to_dict() for run in self.training], "warnings": self.warnings, "sources": self.sources,
        }  # fmt: skip

    def __str__(self) -> str:
        one = self.deployment
        size = units.show(self.each, "B", binary=True)
        slower = self.tpot / one.tpot - 1 if one.tpot else 0.0
        lines = [
            one.describe(),
            f"{self.spec.count:,} adapters of rank {self.spec.adapter.rank}: {self.parameters:,} parameters, {size} per device each",
            f"{self.resident:,} resident (at most {self.most:,}): {self.hit_rate:.1%} of requests find theirs",
            f"one more takes {units.show(self.swap, 's')} from host memory",
            f"{self.distinct:.3g} different ones among {self.running:,.0f} running sequences",
            f"{'':<12}{'base':>12}{'with adapters':>16}",
            f"{'TTFT':<12}{units.show(one.ttft, 's'):>12}{units.show(self.ttft, 's'):>16}",
            f"{'TPOT':<12}{units.show(one.tpot, 's'):>12}{units.show(self.tpot, 's'):>16}   +{slower:.1%}",
            f"{'sequences':<12}{float(self.max_sequences(0)):>12,.0f}{float(self.max_sequences()):>16,.0f}",
            f"{'devices':<12}{one.devices:>12,}{one.devices:>16,}   {self.merged_devices:,} if merged",
            *(str(run) for run in self.training), *self.warnings,
        ]  # fmt: skip
        return "\n".join(
            part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ", drop_whitespace=False)
        )


def beside(memory: MemoryReport, taken: float) -> MemoryReport:
    """The memory of a device of whose KV pool so many bytes are taken by something else."""
    left = memory.kv_pool - taken
    return replace(memory, kv_pool=max(left, 0.0), shortfall=memory.shortfall + taken)


def most_beside(memory: MemoryReport, each: float, tokens: float) -> int:
    """Things of ``each`` bytes that fit beside the cache of one sequence of so many tokens."""
    room = memory.kv_pool - float(memory.rates.bytes(tokens, block_size=memory.block_size))
    return max(math.floor(room / each), 0)


def _added(one: Estimate, batch: Batch, adapter: Adapter, distinct: float) -> float:
    """What adapters add to a step of the batch [s]."""
    tokens = sum(group.count * group.new for group in batch) / one.parallelism.attention_data
    sequences = sum(group.count for group in batch)
    base = step_ops(one.model, one.parallelism, one.precision, batch, sampler=one.sampler)
    more = adapter_ops(one.model, one.parallelism, adapter, tokens, distinct)
    eager, waits = one.knobs.enforce_eager, prompt_submission(one.model, one.machine, batch)
    before, after = (
        price(ops, one.machine, sequences, eager=eager, submission=waits).seconds for ops in (base, [*base, *more])
    )
    return float(after - before)


def answer(spec: AdaptersSpec | Mapping[str, Any] | None, deployment: Estimate) -> AdaptersAnswer:
    """What the adapters of ``spec`` take of a deployment and add to its steps.

    Raises DoesNotFitError where the deployment, or the adapters that shall be resident, leave no room for a request.

    >>> from infersim import estimate
    >>> told = answer({"count": 100, "skew": 1.0}, estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=32))
    >>> told.parameters, told.resident, bool(told.tpot > told.deployment.tpot)
    (41943040, 69, True)
    """
    wanted = spec if isinstance(spec, AdaptersSpec) else validate(AdaptersSpec, dict(spec or {}))
    one = deployment
    if one.state is None:
        raise DoesNotFitError(f"{one.describe()} does not fit; {one.remedies}", shortfall=one.memory.shortfall)
    if one.model.task != "generate":
        raise SpecError("adapters are served for models that generate", field="adapters")
    each = adapter_bytes(one.model, wanted.adapter, one.parallelism)
    most = most_beside(one.memory, each, one.workload.longest_sequence(True))
    resident = min(wanted.resident or max(int(SHARE * one.memory.kv_pool / each), 1), wanted.count)
    if resident > most:
        raise DoesNotFitError(
            f"{resident:,} adapters of {units.show(each, 'B', binary=True)} leave no room for a request in the KV pool of "
            f"{units.show(one.memory.kv_pool, 'B', binary=True)}; at most {most:,} fit",
            shortfall=(resident - most) * each,
        )
    shares = popularity(wanted.count, wanted.skew)
    distinct = min(float(distinct_adapters(shares, max(float(one.state.running), 1.0))), float(resident))
    decode = _added(one, one.state.decode_batch, wanted.adapter, distinct) * one.parallelism.pipeline
    fresh = one.workload.input_tokens - one.workload.cached_tokens
    chunks = fresh / float(one.state.prefill_batch[0].new)
    prompt = _added(one, one.state.prefill_batch, wanted.adapter, 1.0) * chunks
    training: tuple[TrainingCost, ...] = ()
    if wanted.training_tokens:
        device, price_known = one.machine.accelerator, one.price_per_hour
        training = tuple(
            training_cost(
                one.model, wanted.training_tokens, method, device, adapter=wanted.adapter, usd_per_gpu_hour=price_known
            )
            for method in METHODS
        )
    return AdaptersAnswer(
        wanted, one, adapter_parameters(one.model, wanted.adapter), each, resident, most, decode, prompt, training
    )
