"""Model + parallelism + precision + batch -> the ops of one step on one device. The order of layers is written once.

A batch is a few groups of identical sequences, each ``(count, new, cached)``: a prompt is ``(1, T, 0)``, decode is
``(B, 1, C)``, a chunk is ``(1, T, C)``, and a mixed step is their sum. Counts and lengths may be numpy arrays: one call
then describes as many steps as the arrays are long.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infersim.ops.attention import Attention, Scan
from infersim.ops.base import Numbers, Op
from infersim.ops.matmul import Gemm, GroupedGemm
from infersim.ops.memory import Collective, Elementwise
from infersim.ops.sampling import Sampler, sampling
from infersim.specs.deployment import Parallelism
from infersim.specs.model import (
    AttentionCore,
    MixtureOfExperts,
    Mlp,
    ModelSpec,
    Projection,
    ScanCore,
    Slice,
    Stack,
    Tower,
)  # fmt: skip
from infersim.specs.precision import FORMATS, NumberFormat, Precision, Role


@dataclass(frozen=True)
class Group:
    """``count`` identical sequences that each bring ``new`` tokens on top of ``cached`` ones.

    ``sampled`` of the new tokens get logits (1; more when a draft is verified). ``encode`` tokens pass through the model's
    tower first, an image's patches or an encoder's prompt; ``source`` encoder tokens are seen by cross attention.

    >>> Group(count=8, new=1, cached=2048).cached
    2048
    """

    count: Numbers
    new: Numbers
    cached: Numbers = 0.0
    sampled: Numbers = 1.0
    encode: Numbers = 0.0
    source: Numbers = 0.0


Batch = tuple[Group, ...]


def prefill(tokens: Numbers, *, count: Numbers = 1.0, cached: Numbers = 0.0) -> Batch:
    """A batch of ``count`` prompts of ``tokens`` new tokens each.

    >>> prefill(512, count=2)[0].new
    512
    """
    return (Group(count, tokens, cached),)


def decode(count: Numbers, context: Numbers) -> Batch:
    """A batch of ``count`` sequences that each add one token to ``context`` cached ones.

    >>> decode(32, 2048)[0].new
    1.0
    """
    return (Group(count, 1.0, context),)


@dataclass(frozen=True)
class _Pass:
    """One pass of a batch through a stack: what every layer's ops need to know."""

    stack: Stack
    parallelism: Parallelism
    precision: Precision
    groups: Batch
    towers: bool = False

    @property
    def tensor(self) -> int:
        return self.parallelism.tensor

    @functools.cached_property
    def tokens(self) -> Numbers:
        """New tokens of one attention rank."""
        return sum(group.count * _local_new(group.new, self.parallelism.context) for group in self.groups)

    @functools.cached_property
    def source_tokens(self) -> Numbers:
        """Encoder tokens of one attention rank, whose keys and values cross attention needs."""
        return sum(group.count * group.encode for group in self.groups)

    @functools.cached_property
    def width(self) -> float:
        """Bytes per element of the residual stream, norms and attention inputs: the compute type's, whatever the linear
        layers do."""
        return FORMATS[self.precision.compute].bytes

    @functools.cached_property
    def residual(self) -> Numbers:
        """Bytes of the new tokens' residual stream."""
        return self.tokens * (self.stack.hidden_size * self.width)

    def formats(self, role: Role) -> tuple[NumberFormat, NumberFormat]:
        return self.precision.of("tower" if self.towers else role)


def _local_new(new: Numbers, context: int) -> Numbers:
    """New tokens of one context-parallel rank: prompts are split, single tokens are not."""
    return new if context == 1 else np.where(np.asarray(new) >= context, np.asarray(new) / context, new)


def _share(count: Numbers, ranks: int) -> Numbers:
    """Sequences of the fullest of ``ranks``; a lone sequence sits on one of them."""
    return np.maximum(np.asarray(count) / ranks, np.minimum(count, 1.0))


def step_ops(
    model: ModelSpec,
    parallelism: Parallelism,
    precision: Precision,
    batch: Batch,
    *,
    sampler: Sampler = "greedy",
) -> list[Op]:
    """The ops that one device runs in one step of ``batch``, in the order of the network.

    With pipeline stages these are the ops of all stages one after the other, as one micro-batch meets them.
    """
    ranks = parallelism.attention_data
    groups = batch if ranks == 1 else tuple(replace(group, count=_share(group.count, ranks)) for group in batch)
    run = _Pass(model, parallelism, precision, groups)
    ops: list[Op] = []
    if model.towers and any(np.any(np.asarray(group.encode) > 0) for group in groups):
        for tower in model.towers.values():
            ops += _tower(tower, run)
    ops += _embedding(model, run)
    ops += _layers(run)
    if parallelism.pipeline > 1:
        stages = parallelism.pipeline
        ops.append(Collective("pipeline send", stages - 1.0, "send_recv", run.residual, 2, stride=parallelism.tensor))
    return ops + list(_head(model, run, sampler))


def _tower(tower: Tower, run: _Pass) -> Iterator[Op]:
    """An encoder pass over the tokens that need one."""
    groups = tuple(Group(group.count, group.encode) for group in run.groups)
    yield from _layers(_Pass(tower, run.parallelism, run.precision, groups, towers=tower.kind != "encoder"))


def _embedding(model: ModelSpec, run: _Pass) -> Iterator[Op]:
    """Rows gathered from the embedding tables: not the whole table."""
    weights, _ = run.precision.of("embedding")
    width = model.embedding_width or model.hidden_size
    looked_up = width + sum(table.lookups_per_token * table.width for table in model.embedding_tables.values())
    yield Elementwise(
        "embedding", 1.0, read=run.tokens * (looked_up * weights.bytes), written=run.residual, fusible=False,
    )  # fmt: skip
    yield from _all_reduce(run, "embedding all-reduce", 1.0)


def _layers(run: _Pass) -> Iterator[Op]:
    """Every kind of layer, each op counted as often as the layer occurs."""
    stack = run.stack
    streams = run.residual * stack.residual_streams
    moved, arithmetic = 2 * streams, 4 * streams
    for layer, mixers, feed_forward in stack.blocks():
        count = float(layer.count)
        norms = stack.norms_per_layer if layer.norms is None else layer.norms
        if norms:
            yield Elementwise("norm", count * norms, moved, moved, arithmetic, variant=stack.norm)
        for mixer in mixers:
            yield from _mixer(mixer, run, count)
        if mixers and not (stack.parallel_blocks and feed_forward):
            yield from _all_reduce(run, "attention all-reduce", count * len(mixers))
        if isinstance(feed_forward, Mlp):
            yield from _mlp(feed_forward, run, count, "mlp", "")
            yield from _all_reduce(run, "mlp all-reduce", count)
        elif isinstance(feed_forward, MixtureOfExperts):
            yield from _experts(feed_forward, run, count)


def _all_reduce(run: _Pass, name: str, count: float) -> Iterator[Op]:
    if run.tensor > 1:
        yield Collective(name, count, "all_reduce", run.residual, run.tensor)


@functools.lru_cache(maxsize=4096)
def _local_shape(projection: Projection, ranks: int) -> tuple[float, float]:
    return projection.local_shape(ranks)


@functools.lru_cache(maxsize=1024)
def _projections(block: Any, hidden: int, *named: str) -> tuple[Projection, ...]:
    found: tuple[Projection, ...] = block.projections(hidden, *named)
    return found


def _projection(projection: Projection, run: _Pass, count: float, tokens: Numbers) -> Iterator[Op]:
    """The GEMM of a projection, after the pass that quantises its input where one is needed."""
    weights, activations = run.formats(projection.role)
    k, n = _local_shape(projection, run.tensor)
    if activations.bits < 16:
        read, written = tokens * (k * run.width), tokens * (k * activations.bytes)
        yield Elementwise("quantise", count, read, written, arithmetic=tokens * (2 * k))
    yield Gemm(projection.name, count, weights, activations, tokens, n, k, projection.copies, run.width)


def _mixer(mixer: Any, run: _Pass, count: float) -> Iterator[Op]:
    """Projections in, the core, the projection out."""
    projections = _projections(mixer, run.stack.hidden_size)
    for projection in projections[:-1]:
        tokens = run.source_tokens if projection.name.startswith("cross_") else run.tokens
        yield from _projection(projection, run, count, tokens)
    for core in mixer.cores():
        if isinstance(core, AttentionCore):
            yield from _attention(core, mixer, run, count)
        else:
            yield from _scan(core, mixer, run, count)
    yield from _projection(projections[-1], run, count, run.tokens)


def _attention(core: AttentionCore, mixer: Any, run: _Pass, count: float) -> Iterator[Op]:
    """Rotary and cache write, the indexer where there is one, scores and values group by group."""
    heads = Slice(core.heads, core.heads).local(run.tensor)
    kv_heads = Slice(core.kv_heads, core.kv_heads).local(run.tensor)
    cache_format, context = FORMATS[run.precision.kv_cache], run.parallelism.context
    elements = sum(core.latent[:2]) if core.latent else kv_heads * (core.key_dim + core.value_dim)
    written = mixer.cache().elements and elements
    rotated = (heads + kv_heads) * core.key_dim * run.width
    yield Elementwise(
        "rotary and cache write", count, read=run.tokens * (rotated + written * run.width),
        written=run.tokens * (rotated + written * cache_format.bytes), arithmetic=run.tokens * (3 * rotated), kernels=2,
        variant="learned" if "positions" in getattr(run.stack, "embedding_tables", {}) else "rotary",
    )  # fmt: skip
    for group in run.groups:
        sequences = group.count if context == 1 else group.count / context
        cached = group.source if core.cross else group.cached
        if core.index_heads:
            yield Attention("index scores", count, sequences, group.new, cached, core.index_heads, 1, core.index_dim, 0,
                            stride=core.index_stride, cache_bytes=mixer.cache().index_bytes, query_bytes=1.0)  # fmt: skip
        yield Attention(
            "attention", count, sequences, group.new, cached, heads, kv_heads, core.key_dim, core.value_dim,
            window=core.window, chunk=core.chunk, causal=core.causal, cross=core.cross, stride=core.stride,
            top_k=core.top_k, latent=core.latent, shared_kv=core.shared_kv, cache_bytes=cache_format.bytes,
            query_bytes=run.width,
        )  # fmt: skip
    if context > 1:
        prompts = sum(g.count * np.where(np.asarray(g.new) >= context, g.new, 0) for g in run.groups)
        singles = sum(g.count * np.where(np.asarray(g.new) < context, g.new, 0) for g in run.groups)
        stride = run.tensor
        yield Collective(
            "context all-gather", count, "all_gather", prompts * elements * cache_format.bytes, context, stride
        )
        outputs = singles * heads * (core.latent[0] if core.latent else core.value_dim) * run.width
        yield Collective("context all-reduce", count, "all_reduce", outputs, context, stride)


def _scan(core: ScanCore, mixer: Any, run: _Pass, count: float) -> Iterator[Op]:
    """The recurrent core, group by group."""
    heads = Slice(core.heads, core.heads).local(run.tensor)
    for group in run.groups:
        yield Scan("scan", count, group.count, group.new, core.kind, heads, core.key_dim, core.value_dim,
                   core.conv_channels / run.tensor, core.conv_kernel, core.chunk, mixer.cache().state_bytes)  # fmt: skip


def _mlp(block: Mlp, run: _Pass, count: float, role: Role, prefix: str) -> Iterator[Op]:
    """Up, activation, down."""
    up, down = _projections(block, run.stack.hidden_size, role, prefix)
    yield from _projection(up, run, count, run.tokens)
    width = block.intermediate_size / run.tensor
    written = run.tokens * (width * run.width)
    yield Elementwise(
        "activation", count, read=2 * written if block.gated else written, written=written,
        arithmetic=run.tokens * (5 * width), variant="gated" if block.gated else "plain",
    )  # fmt: skip
    yield from _projection(down, run, count, run.tokens)


def _experts(block: MixtureOfExperts, run: _Pass, count: float) -> Iterator[Op]:
    """Router, dispatch, routed experts, combine, and the shared experts beside them."""
    parallelism, hidden, tokens = run.parallelism, run.stack.hidden_size, run.tokens
    ranks, groups = parallelism.expert_ranks, parallelism.attention_data
    weights, activations = run.formats("experts")
    width = block.latent_size or hidden
    for projection in _projections(block, hidden):
        if projection.role in ("router", "experts"):
            yield from _projection(projection, run, count, tokens)
    yield Elementwise(
        "routing",
        count,
        read=tokens * (4.0 * block.num_experts),
        written=tokens * (8.0 * block.experts_per_token),
        kernels=2,
    )
    everyone = tokens * groups
    if groups > 1 and parallelism.expert > 1:
        visits = min(block.experts_per_token, parallelism.expert) * (1 - 1 / parallelism.expert)
        sent = tokens * (visits * width / parallelism.tensor)
        message = width * activations.bytes
        yield Collective("expert dispatch", count, "all_to_all", sent * activations.bytes, ranks,
                         experts_per_token=block.experts_per_token, message_bytes=message)  # fmt: skip
    elif groups > 1:
        yield Collective("expert all-gather", count, "all_gather", everyone * (width * run.width), ranks)
    yield GroupedGemm(
        "experts", count, weights, activations, everyone, width, block.intermediate_size, block.num_experts,
        block.experts_per_token, block.gated, parallelism.expert_tensor, parallelism.expert,
    )  # fmt: skip
    if groups > 1 and parallelism.expert > 1:
        message = width * run.width
        yield Collective("expert combine", count, "all_to_all", sent * run.width, ranks,
                         experts_per_token=block.experts_per_token, message_bytes=message)  # fmt: skip
    elif groups > 1:
        yield Collective("expert reduce-scatter", count, "reduce_scatter", everyone * (width * run.width), ranks)
    if block.shared_intermediate_size:
        yield from _mlp(block.shared, run, count, "shared_expert", "shared_")
    if groups == 1 or block.shared_intermediate_size:
        yield from _all_reduce(run, "expert all-reduce", count)


def _head(model: ModelSpec, run: _Pass, sampler: Sampler) -> Iterator[Op]:
    """Final norm, logits of the sampled tokens, their gathering over tensor ranks, and sampling."""
    sampled = sum(group.count * group.sampled for group in run.groups)
    if model.final_norm:
        residual = sampled * (model.hidden_size * run.width)
        yield Elementwise("norm", 1.0, 2 * residual, residual, 4 * residual, variant=model.norm)
    if not model.lm_head or model.task != "generate":
        return
    weights, activations = run.precision.of("lm_head")
    columns = Slice(model.vocab_size, model.vocab_size).local(run.tensor)
    width = float(model.embedding_width or model.hidden_size)
    yield Gemm("lm_head", 1.0, weights, activations, sampled, columns, width, output_bytes=run.width)
    if run.tensor > 1:
        yield Collective("logits all-gather", 1.0, "all_gather", sampled * (model.vocab_size * run.width), run.tensor)
    yield sampling(sampled, model.vocab_size, sampler=sampler)
