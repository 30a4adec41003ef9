"""Bytes per device: weights, KV cache, activations, runtime; and what fits into what is left."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim import units
from infersim.machine.machine import Machine
from infersim.ops.base import Numbers
from infersim.ops.drafts import Drafter
from infersim.specs.deployment import EngineKnobs, Parallelism
from infersim.specs.model import Attention, CacheShape, MixtureOfExperts, ModelSpec, Slice, Stack
from infersim.specs.precision import FORMATS, Precision


@functools.lru_cache(maxsize=512)
def weight_bytes(model: ModelSpec, parallelism: Parallelism, precision: Precision) -> float:
    """Bytes of weights on the fullest device [B], scales included.

    Counted: every matrix as tensor, expert and pipeline parallelism cut it, key-value heads replicated where there are
    fewer of them than ranks, norms and routers on every rank, embeddings on the first pipeline stage and the LM head on
    the last, towers on the first. Draft layers are not counted.

    >>> from infersim import load_model, precision
    >>> round(weight_bytes(load_model("meta-llama/Llama-3.1-8B"), Parallelism(), precision("bf16")) / 2**30, 2)
    14.96
    """
    stages = parallelism.pipeline
    layers = _stack_bytes(model, parallelism, precision, towers=False)
    share = math.ceil(model.num_layers / stages) / model.num_layers if stages > 1 else 1.0
    compute = FORMATS[precision.compute].bytes
    tensor = parallelism.tensor
    embedding = precision.of("embedding")[0].bytes * Slice(model.embedding_parameters, model.vocab_size).local(tensor)
    head = precision.of("lm_head")[0].bytes * Slice(model.lm_head_parameters, model.vocab_size).local(tensor)
    towers = sum(
        _stack_bytes(t, parallelism, precision, towers=True) + t.other_parameters * compute
        for t in model.towers.values()
    )
    norm = model.norm_parameters(model.hidden_size) * compute
    first = embedding + towers + model.other_parameters * compute + model.embedding_norm * norm
    last = head + model.final_norm * norm
    tied_copy = embedding if stages > 1 and model.tie_word_embeddings and model.lm_head else 0.0
    if stages == 1:
        return layers + first + last
    return layers * share + max(first, last + tied_copy)


def _stack_bytes(stack: Stack, parallelism: Parallelism, precision: Precision, *, towers: bool) -> float:
    """Weights of all layers of a stack on one rank [B]."""
    compute, d, total = FORMATS[precision.compute].bytes, stack.hidden_size, 0.0
    for layer, mixers, feed_forward in stack.blocks():
        parts: list[Any] = [*mixers, *([feed_forward] if feed_forward else [])]
        one = 0.0
        for part in parts:
            for projection in part.projections(d):
                k, n = projection.local_shape(parallelism.tensor)
                weights = precision.of("tower" if towers else projection.role)[0]
                one += projection.copies * n * (k * weights.bytes + projection.bias * compute)
            one += part.small_parameters(d) * compute
        norms = stack.norms_per_layer if layer.norms is None else layer.norms
        one += (norms * stack.norm_parameters(d) + stack.layer_parameters) * compute
        if isinstance(feed_forward, MixtureOfExperts):
            experts = math.ceil(feed_forward.num_experts / parallelism.expert)
            each = feed_forward.expert_parameters(d) * precision.of("experts")[0].bytes
            one += experts * each / parallelism.expert_tensor
        total += (layer.weights or layer.count) * one
    return total


def drafter_bytes(drafter: Drafter, parallelism: Parallelism) -> float:
    """Bytes of a drafter's weights on one device [B]: its layers, its first product whole on every rank, and the embedding and
    LM head that are not the target's own."""
    if drafter.model is None or drafter.precision is None:
        return 0.0
    model, precision, placed = drafter.model, drafter.precision, drafter.placed(parallelism)
    total = weight_bytes(model, placed, precision)
    for shared, role, size in (
        (drafter.shares_embedding, "embedding", model.embedding_parameters),
        (drafter.shares_lm_head, "lm_head", model.lm_head_parameters),
    ):
        if shared:
            total -= precision.of(role)[0].bytes * Slice(size, model.vocab_size).local(placed.tensor)  # type: ignore[arg-type]
    return total + drafter.fused_states * model.hidden_size**2 * precision.of("attention")[0].bytes


@dataclass(frozen=True)
class CacheRates:
    """KV-cache bytes of one device as a function of a sequence's length.

    ``per_token`` grows with every token; ``windows`` are (bytes per token, tokens at most); ``per_sequence`` is constant.
    """

    per_token: float
    windows: tuple[tuple[float, float], ...]
    per_sequence: float

    @property
    def any(self) -> bool:
        """Whether a sequence keeps a cache at all."""
        return bool(self.per_token or self.windows or self.per_sequence)

    def bytes(self, tokens: Numbers, *, block_size: int = 1) -> Numbers:
        """Bytes that one sequence of ``tokens`` occupies, whole blocks of ``block_size`` tokens."""
        blocks = np.ceil(np.asarray(tokens, dtype=float) / block_size) * block_size
        total = self.per_token * blocks + self.per_sequence
        for rate, window in self.windows:
            total = total + rate * np.minimum(blocks, math.ceil(window / block_size) * block_size)
        return total

    def __add__(self, other: CacheRates) -> CacheRates:
        """Two caches that a sequence keeps side by side."""
        return CacheRates(
            self.per_token + other.per_token, tuple(sorted((*self.windows, *other.windows), key=lambda w: w[1])),
            self.per_sequence + other.per_sequence,
        )  # fmt: skip


@functools.lru_cache(maxsize=512)
def cache_rates(model: ModelSpec, parallelism: Parallelism, precision: Precision) -> CacheRates:
    """How the KV cache of one device grows, over all layers of the fullest pipeline stage.

    Latent and indexer caches are held whole by every tensor rank; KV heads are replicated where there are fewer of them
    than ranks; context parallelism splits tokens. Source of the cases: PagedAttention, arXiv:2309.06180; DeepSeek-V2,
    arXiv:2405.04434.

    >>> from infersim import load_model, precision
    >>> cache_rates(load_model("meta-llama/Meta-Llama-3-70B"), Parallelism(), precision("bf16")).per_token
    327680.0
    """
    element = FORMATS[precision.kv_cache].bytes
    share = math.ceil(model.num_layers / parallelism.pipeline) / model.num_layers / parallelism.context
    per_token = per_sequence = 0.0
    windows: dict[float, float] = {}
    for layer, mixers, _ in model.blocks():
        for mixer in mixers:
            shape: CacheShape = mixer.cache()
            count = layer.count * share
            rate = count * Slice(1, shape.units).local(parallelism.tensor) * shape.elements * element / shape.stride
            rate += count * shape.index * shape.index_bytes
            if (isinstance(mixer, Attention) and mixer.cross) or shape.window is None:
                per_token += rate
            else:
                windows[shape.window] = windows.get(shape.window, 0.0) + rate
            per_sequence += (
                layer.count * share * parallelism.context * shape.state * shape.state_bytes
                * Slice(1, shape.state_units).local(parallelism.tensor)
            )  # fmt: skip
    return CacheRates(per_token, tuple((rate, float(window)) for window, rate in sorted(windows.items())), per_sequence)


@functools.lru_cache(maxsize=512)
def activation_bytes(model: ModelSpec, parallelism: Parallelism, machine: Machine, knobs: EngineKnobs) -> float:
    """Peak of the activations on one device [B], as an engine's profiling run sees it.

    Copies of the residual stream for ``max_num_batched_tokens``, plus the larger of the widest layer's intermediate and
    the logits of ``max_num_seqs`` sequences, plus the workspace of the routed experts. Fitted by hand to the peaks vLLM
    0.19 reports on an H100 (sources in the engine spec): within 10% for dense models.
    """
    engine = machine.engine
    tokens = knobs.max_num_batched_tokens or machine.max_num_batched_tokens
    sequences = min(knobs.max_num_seqs or machine.max_num_seqs, tokens)
    residual = engine.memory.residual_copies * tokens * model.hidden_size * 2.0
    width, workspace = 0.0, 0.0
    for block in model.feed_forwards.values():
        if isinstance(block, MixtureOfExperts):
            inner = 2 * block.intermediate_size / parallelism.expert_tensor + (block.latent_size or model.hidden_size)
            pairs = tokens * parallelism.attention_data * block.experts_per_token / parallelism.expert
            workspace = max(workspace, pairs * inner * 2.0)
        else:
            width = max(width, 2 * block.intermediate_size / parallelism.tensor)
    logits = (
        engine.memory.logits_bytes * sequences * model.vocab_size if model.lm_head and model.task == "generate" else 0.0
    )
    return residual + max(tokens * width * 2.0, logits) + workspace


@dataclass(frozen=True)
class MemoryReport:
    """Where one device's memory goes [B], and what fits into the KV cache."""

    capacity: float
    budget: float
    """What the engine lets weights, activations, runtime and KV cache take together."""
    weights: float
    activations: float
    runtime: float
    cuda_graphs: float
    kv_pool: float
    """Left for the KV cache; zero where the rest does not fit."""
    shortfall: float
    """Bytes missing for weights, activations and runtime, plus one sequence of ``longest_wanted`` tokens."""
    block_size: int
    rates: CacheRates
    attention_ranks: int = 1
    """Ranks that keep sequences of their own: each has a pool like this one."""
    draft: float = 0.0
    """Weights of what drafts tokens; its KV cache is in the rates."""
    free: float = 0.0
    """What one sequence may take: the pool; where even the rest does not fit, what that lacks, as a negative number."""

    @property
    def fits(self) -> bool:
        return self.shortfall <= 0

    @property
    def kv_tokens(self) -> float:
        """Tokens of ever-growing cache that a replica's pools hold, whole blocks; infinite where no layer grows."""
        if self.rates.per_token == 0:
            return math.inf
        return (
            self.attention_ranks * math.floor(self.kv_pool / (self.rates.per_token * self.block_size)) * self.block_size
        )

    @property
    def kv_blocks(self) -> float:
        return self.kv_tokens / self.block_size

    def max_sequences(self, tokens: Numbers) -> Numbers:
        """Sequences of ``tokens`` each that a replica's pools hold at once."""
        each = self.rates.bytes(tokens, block_size=self.block_size)
        return self.attention_ranks * np.floor(self.kv_pool / np.maximum(each, 1e-9))

    def shortfall_at(self, tokens: Numbers) -> Numbers:
        """Bytes missing where one sequence has so many ``tokens``; fits from zero down. Broadcasts."""
        return self.rates.bytes(tokens, block_size=self.block_size) - self.free

    def longest_context(self) -> float:
        """Tokens of a lone sequence that fills the pool; infinite where the cache does not grow."""
        if self.kv_pool <= self.rates.per_sequence:
            return 0.0
        if self.rates.per_token == 0:
            return math.inf
        low, high = 0.0, self.kv_pool / self.rates.per_token
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.rates.bytes(middle) <= self.kv_pool else (low, middle)
        return math.floor(low / self.block_size) * self.block_size

    def parts(self) -> list[tuple[str, float]]:
        """(name, bytes) of everything that takes memory, KV pool included."""
        draft = [("draft weights", self.draft)] if self.draft else []
        return [("weights", self.weights), *draft, ("activations", self.activations), ("runtime", self.runtime),
                ("CUDA graphs", self.cuda_graphs), ("KV cache", self.kv_pool)]  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{name:<13} {units.show(size, 'B', binary=True):>10}" for name, size in self.parts()]
        return "\n".join([*lines, f"{'device':<13} {units.show(self.capacity, 'B', binary=True):>10}"])


def memory_report(
    model: ModelSpec,
    parallelism: Parallelism,
    precision: Precision,
    machine: Machine,
    knobs: EngineKnobs | None = None,
    *,
    longest_wanted: float = 1.0,
    drafter: Drafter | None = None,
) -> MemoryReport:
    """What a deployment takes of each device, and what it leaves for the KV cache.

    ``longest_wanted`` tokens of one sequence must fit for the deployment to count as fitting. The engine's rule says what
    ``gpu_memory_utilization`` is a share of: of the device (vLLM), of the device for weights and KV alone (SGLang), or of
    what is free after loading (TensorRT-LLM). A ``drafter`` has weights and a KV cache beside the target's.

    >>> from infersim import estimate
    >>> memory = estimate("meta-llama/Llama-3.1-8B", "H100-SXM").memory
    >>> print(memory)
    weights            15 GiB
    activations      1.88 GiB
    runtime           276 MiB
    CUDA graphs      1.04 GiB
    KV cache         54.2 GiB
    device           79.2 GiB
    """
    knobs = knobs or EngineKnobs()
    rule = machine.engine.memory
    share = knobs.gpu_memory_utilization or machine.engine.gpu_memory_utilization
    memory = machine.accelerator.memory
    capacity = memory.usable or memory.capacity
    weights = weight_bytes(model, parallelism, precision)
    draft = drafter_bytes(drafter, parallelism) if drafter else 0.0
    activations = activation_bytes(model, parallelism, machine, knobs)
    runtime = rule.runtime + (rule.communication if parallelism.devices_per_replica > 1 else 0.0)
    graphs = 0.0 if knobs.enforce_eager or machine.accelerator.kind != "gpu" else rule.cuda_graphs
    inside = graphs if rule.cuda_graphs_in_budget else 0.0
    if rule.rule == "total":
        budget = share * capacity
        room = budget - weights - draft - activations - runtime - inside
    elif rule.rule == "static":
        budget = share * capacity
        room = min(budget - weights - draft, capacity - weights - draft - activations - runtime - graphs)
    else:
        budget = capacity
        room = share * (capacity - weights - draft - activations - runtime - inside)
    rates = cache_rates(model, parallelism, precision)
    if drafter and drafter.model and drafter.precision:
        rates += cache_rates(drafter.model, drafter.placed(parallelism), drafter.precision)
    block_size = knobs.block_size or machine.engine.block_size
    pool = max(room, 0.0)
    if knobs.num_gpu_blocks_override is not None:
        pool = min(pool, knobs.num_gpu_blocks_override * block_size * max(rates.per_token, 1e-9))
    free = pool if room > 0 else room
    missing = float(rates.bytes(longest_wanted, block_size=block_size)) - free
    return MemoryReport(capacity, budget, weights, activations, runtime, graphs, pool, missing, block_size, rates,
                        parallelism.attention_data, draft, free)  # fmt: skip
