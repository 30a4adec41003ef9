"""A model as its architecture: layers of (mixer, feed-forward), embeddings, heads, towers. No weights, no machine.

Every weight matrix is declared once, as a ``Projection``. Parameter counts, bytes per device under tensor parallelism,
and the GEMMs of a step all derive from these declarations, so they cannot disagree. A parameter count is never stored.

A *mixer* moves information between tokens: attention in its variants, or a recurrent scan. It has projections, a
cache per sequence, and a core (what happens between the projections). A new model is a new file of data; a new
mechanism is a new mixer here and, where its core is new too, a new op.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from infersim.errors import did_you_mean
from infersim.specs.precision import Precision, Role
from infersim.specs.quantity import Source, Spec

Count = Annotated[int, Field(ge=0, le=10**12)]
Size = Annotated[int, Field(ge=1, le=10**9)]


class Slice(NamedTuple):
    """``size`` rows or columns of a matrix that are dealt out in ``units`` equal parts (heads, say)."""

    size: int
    units: int

    def local(self, ranks: int) -> float:
        """The share of one rank, the largest; with fewer units than ranks each unit is replicated.

        >>> Slice(8 * 128, 8).local(4), Slice(8 * 128, 8).local(16)
        (256.0, 128.0)
        """
        return self.size / self.units * max(1, -(-self.units // ranks))


class Projection(NamedTuple):
    """A weight matrix (or several fused into one GEMM): y = x W, W of ``inputs`` x sum(``outputs``).

    ``split`` says how tensor parallelism cuts it: by ``outputs`` (column), by ``inputs`` (row), or not at all.
    ``copies`` counts identical matrices that each see the same tokens (block-diagonal groups).
    """

    name: str
    role: Role
    inputs: Slice
    outputs: tuple[Slice, ...]
    split: Literal["outputs", "inputs", "none"]
    copies: int = 1
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights and biases, unsharded."""
        columns = sum(part.size for part in self.outputs)
        return self.copies * columns * (self.inputs.size + self.bias)

    def local_shape(self, ranks: int) -> tuple[float, float]:
        """(k, n) of one rank's GEMM."""
        k = self.inputs.local(ranks) if self.split == "inputs" else float(self.inputs.size)
        columns = (part.local(ranks) if self.split == "outputs" else float(part.size) for part in self.outputs)
        return k, sum(columns)


class CacheShape(NamedTuple):
    """What one sequence keeps in one layer between steps.

    Elements per token of KV format, dealt out over ``units`` heads (1: every rank holds a copy); ``window`` caps the
    tokens kept, ``stride`` keeps one entry per that many tokens; ``state`` elements are kept whatever the length, at
    ``state_bytes`` each, dealt out over ``state_units``. ``index`` elements per token (a sparse indexer's keys) take
    ``index_bytes`` each and are replicated.
    """

    elements: float = 0.0
    units: int = 1
    window: int | None = None
    stride: int = 1
    state: float = 0.0
    state_bytes: float = 4.0
    state_units: int = 1
    index: float = 0.0  # type: ignore[assignment]
    index_bytes: float = 1.0


class AttentionCore(NamedTuple):
    """Scores and values between the projections, unsharded. ``latent`` cores keep one vector per token for all heads."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    """Each token sees at most this many tokens, itself included."""
    chunk: int | None = None
    """Each token sees its own block of this many tokens only."""
    causal: bool = True
    cross: bool = False
    """Keys and values come from an encoder: nothing is appended to the cache."""
    stride: int = 1
    """One key per that many tokens (compressed attention)."""
    top_k: int | None = None
    """At most this many keys are read, chosen by an indexer."""
    latent: tuple[int, int, int, int] | None = None
    """(kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, v_head_dim) where the cache is a latent vector (MLA)."""
    index_heads: int = 0
    index_dim: int = 0
    index_stride: int = 1
    shared_kv: bool = False
    """One vector per token serves as key and as value."""


class ScanCore(NamedTuple):
    """A recurrent update of ``heads`` states of ``key_dim`` x ``value_dim``, after a short convolution. Unsharded."""

    kind: Literal["mamba1", "mamba2", "gated_delta_net", "kda", "lightning", "rg_lru", "short_conv"]
    heads: int
    key_dim: int
    value_dim: int
    conv_channels: int = 0
    conv_kernel: int = 0
    chunk: int = 64


def _column(name: str, role: Role, inputs: int, *outputs: tuple[int, int], bias: bool = False) -> Projection:
    return Projection(name, role, Slice(inputs, 1), tuple(Slice(*part) for part in outputs), "outputs", bias=bias)


def _row(name: str, role: Role, inputs: tuple[int, int], outputs: int, *, bias: bool = False) -> Projection:
    return Projection(name, role, Slice(*inputs), (Slice(outputs, 1),), "inputs", bias=bias)


def _whole(name: str, role: Role, inputs: int, *outputs: int, bias: bool = False) -> Projection:
    return Projection(name, role, Slice(inputs, 1), tuple(Slice(size, 1) for size in outputs), "none", bias=bias)


class SparseIndex(Spec):
    """A light scorer that picks the keys attention reads (DeepSeek sparse attention and its kin)."""

    num_heads: Size
    head_dim: Size
    top_k: Size
    """Keys read per query, at most [tokens]."""
    query_rank: Size | None = None
    """Width the index queries are projected from; the hidden size where it is None."""
    stride: Size = 1
    """One index key per that many tokens (a block scorer)."""
    shared: bool = False
    """True where this layer reuses the choice an earlier layer made: no scorer weights, no scoring."""
    head_weights: bool = True
    """Whether the heads' scores are weighted by a projection of the token (DeepSeek) or just combined (MiniMax-M3)."""

    def projections(self, hidden: int, query_rank: int | None) -> tuple[Projection, ...]:
        """Index queries, keys and head weights; replicated on every rank."""
        if self.shared:
            return ()
        return (
            _whole("index_q", "attention", self.query_rank or query_rank or hidden, self.num_heads * self.head_dim),
            _whole("index_k", "attention", hidden, self.head_dim, *([self.num_heads] if self.head_weights else [])),
        )


class Attention(Spec):
    """Multi-head, grouped-query or multi-query attention, full or local, causal or bidirectional.

    Source of the shapes: Ainslie et al. 2023, arXiv:2305.13245 (GQA); Beltagy et al. 2020, arXiv:2004.05150 (windows).
    """

    kind: Literal["attention"] = "attention"
    num_heads: Size
    num_kv_heads: Size
    head_dim: Size
    v_head_dim: Size | None = None
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: Literal["none", "head", "layer"] = "none"
    """Norm of queries and keys: none, one weight vector per head dimension, or one over all heads."""
    window: Size | None = None
    chunk: Size | None = None
    causal: bool = True
    cross: bool = False
    sinks: bool = False
    """A learned logit per head that joins the softmax (gpt-oss)."""
    output_gate: Literal["none", "head", "element"] = "none"
    """A gate on the output, per head or per element, projected from the layer's input."""
    reuse_kv: bool = False
    """Reads the keys and values of an earlier layer: no key or value projection, no cache of its own."""
    keys_are_values: bool = False
    """Values are the unrotated keys: no value projection; both are cached."""
    sparse: SparseIndex | None = None
    extra_parameters: Count = 0
    """Weights beside the projections and norms above (a relative-position table, say)."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Attention:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        return self

    @property
    def value_dim(self) -> int:
        return self.v_head_dim or self.head_dim

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        H, K, h = self.num_heads, self.num_kv_heads, self.head_dim
        gate = {"none": 0, "head": H, "element": H * self.value_dim}[self.output_gate]
        query = [(H * h, H)] + ([(gate, H)] if gate else [])
        keys = [] if self.reuse_kv else [(K * h, K)] + ([] if self.keys_are_values else [(K * self.value_dim, K)])
        into: tuple[Projection, ...]
        if self.cross:
            into = (
                _column("q_proj", "attention", hidden, *query, bias=self.qkv_bias),
                _column("cross_kv_proj", "attention", hidden, *keys, bias=self.qkv_bias),
            )
        else:
            into = (_column("qkv_proj", "attention", hidden, *query, *keys, bias=self.qkv_bias),)
        out = _row("o_proj", "attention", (H * self.value_dim, H), hidden, bias=self.o_bias)
        index = self.sparse.projections(hidden, None) if self.sparse else ()
        return (*into, *index, out)

    def small_parameters(self, hidden: int) -> int:
        norms = {
            "none": 0,
            "head": self.head_dim * (1 if self.reuse_kv else 2),
            "layer": (self.num_heads + (0 if self.reuse_kv else self.num_kv_heads)) * self.head_dim,
        }
        return norms[self.qk_norm] + (self.num_heads if self.sinks else 0) + self.extra_parameters

    def cache(self) -> CacheShape:
        if self.reuse_kv or not self.causal:
            return CacheShape()
        scorer = self.sparse if self.sparse and not self.sparse.shared else None
        return CacheShape(
            elements=self.num_kv_heads * (self.head_dim + self.value_dim),
            units=self.num_kv_heads,
            window=self.window or self.chunk,
            index=scorer.head_dim / scorer.stride if scorer else 0.0,
        )

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        scorer = self.sparse if self.sparse and not self.sparse.shared else None
        return (
            AttentionCore(
                self.num_heads, self.num_kv_heads, self.head_dim, self.value_dim,
                window=self.window, chunk=self.chunk, causal=self.causal, cross=self.cross,
                top_k=self.sparse.top_k if self.sparse else None,
                index_heads=scorer.num_heads if scorer else 0, index_dim=scorer.head_dim if scorer else 0,
                index_stride=scorer.stride if scorer else 1,
            ),
        )  # fmt: skip


class LatentAttention(Spec):
    """Multi-head latent attention: one compressed vector per token is cached for all heads.

    Source: DeepSeek-V2, arXiv:2405.04434. Prefill expands the latent to keys and values; decode absorbs the expansion
    into queries and output, so the cache is read once for all heads.
    """

    kind: Literal["mla"] = "mla"
    num_heads: Size
    q_lora_rank: Size | None = None
    kv_lora_rank: Size
    qk_nope_head_dim: Size
    qk_rope_head_dim: Annotated[int, Field(ge=0)]
    v_head_dim: Size
    output_gate: Literal["none", "element"] = "none"
    bias: bool = False
    sparse: SparseIndex | None = None

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        H, nope, rope, v, latent = (
            self.num_heads, self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim, self.kv_lora_rank,
        )  # fmt: skip
        if self.q_lora_rank:
            queries = (
                _whole("qkv_a_proj", "attention", hidden, self.q_lora_rank, latent + rope, bias=self.bias),
                _column("q_b_proj", "attention", self.q_lora_rank, (H * (nope + rope), H)),
            )
        else:
            queries = (
                _column("q_proj", "attention", hidden, (H * (nope + rope), H)),
                _whole("kv_a_proj", "attention", hidden, latent + rope, bias=self.bias),
            )
        gate = (_column("gate_proj", "attention", hidden, (H * v, H)),) if self.output_gate == "element" else ()
        return (
            *queries,
            _column("kv_b_proj", "attention", latent, (H * (nope + v), H)),
            *gate,
            *(self.sparse.projections(hidden, self.q_lora_rank) if self.sparse else ()),
            _row("o_proj", "attention", (H * v, H), hidden, bias=self.bias),
        )

    def small_parameters(self, hidden: int) -> int:
        index_norm = 2 * self.sparse.head_dim if self.sparse and not self.sparse.shared else 0
        return (self.q_lora_rank or 0) + self.kv_lora_rank + index_norm

    def cache(self) -> CacheShape:
        scorer = self.sparse if self.sparse and not self.sparse.shared else None
        return CacheShape(
            elements=self.kv_lora_rank + self.qk_rope_head_dim, units=1, index=scorer.head_dim if scorer else 0.0
        )

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        scorer = self.sparse if self.sparse and not self.sparse.shared else None
        latent = (self.kv_lora_rank, self.qk_rope_head_dim, self.qk_nope_head_dim, self.v_head_dim)
        return (
            AttentionCore(
                self.num_heads, self.num_heads, self.qk_nope_head_dim + self.qk_rope_head_dim, self.v_head_dim,
                latent=latent, top_k=self.sparse.top_k if self.sparse else None,
                index_heads=scorer.num_heads if scorer else 0, index_dim=scorer.head_dim if scorer else 0,
            ),
        )  # fmt: skip


class Mamba2(Spec):
    """State-space duality layer. Source: Dao and Gu 2024, arXiv:2405.21060."""

    kind: Literal["mamba2"] = "mamba2"
    num_heads: Size
    head_dim: Size
    state_size: Size
    n_groups: Size = 1
    conv_kernel: Size = 4
    chunk_size: Size = 256
    conv_bias: bool = True
    bias: bool = False
    gate: bool = True
    norm: bool = True
    """A norm over the inner width before the output projection."""

    @property
    def inner(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def conv_channels(self) -> int:
        return self.inner + 2 * self.n_groups * self.state_size

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        groups = (2 * self.n_groups * self.state_size, self.n_groups)
        inner = (self.inner * (2 if self.gate else 1), self.num_heads)
        return (
            _column("in_proj", "attention", hidden, inner, groups, (self.num_heads, self.num_heads), bias=self.bias),
            _row("out_proj", "attention", (self.inner, self.num_heads), hidden, bias=self.bias),
        )

    def small_parameters(self, hidden: int) -> int:
        convolution = self.conv_channels * (self.conv_kernel + self.conv_bias)
        return convolution + 3 * self.num_heads + (self.inner if self.norm else 0)

    def cache(self) -> CacheShape:
        convolution = self.conv_channels * (self.conv_kernel - 1)
        state = self.num_heads * self.head_dim * self.state_size
        return CacheShape(state=state + convolution / 2, state_bytes=4.0, state_units=self.num_heads)

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        return (
            ScanCore("mamba2", self.num_heads, self.state_size, self.head_dim,
                     self.conv_channels, self.conv_kernel, self.chunk_size),
        )  # fmt: skip


class GatedDeltaNet(Spec):
    """Linear attention with a gated delta rule. Source: Yang et al. 2024, arXiv:2412.06464; Qwen3-Next's layout."""

    kind: Literal["gated_delta_net"] = "gated_delta_net"
    num_key_heads: Size
    num_value_heads: Size
    key_head_dim: Size
    value_head_dim: Size
    conv_kernel: Size = 4

    @property
    def conv_channels(self) -> int:
        return 2 * self.num_key_heads * self.key_head_dim + self.num_value_heads * self.value_head_dim

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        keys = (2 * self.num_key_heads * self.key_head_dim, self.num_key_heads)
        values = self.num_value_heads * self.value_head_dim
        return (
            _column("in_proj_qkvz", "attention", hidden, keys, (2 * values, self.num_value_heads)),
            _column("in_proj_ba", "attention", hidden, (2 * self.num_value_heads, self.num_value_heads)),
            _row("out_proj", "attention", (values, self.num_value_heads), hidden),
        )

    def small_parameters(self, hidden: int) -> int:
        return self.conv_channels * self.conv_kernel + 2 * self.num_value_heads + self.value_head_dim

    def cache(self) -> CacheShape:
        state = self.num_value_heads * self.key_head_dim * self.value_head_dim
        convolution = self.conv_channels * (self.conv_kernel - 1)
        return CacheShape(state=state + convolution / 2, state_bytes=4.0, state_units=self.num_value_heads)

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        return (
            ScanCore("gated_delta_net", self.num_value_heads, self.key_head_dim, self.value_head_dim,
                     self.conv_channels, self.conv_kernel),
        )  # fmt: skip


class CompressedAttention(Spec):
    """Multi-query attention over a short window and over compressed entries of everything before it.

    One vector per token serves as key and value. With ``ratio`` r, r tokens become one entry; ``sparse`` picks the entries
    that are read. Queries come from, and outputs go through, low-rank projections, the latter in groups. Source: the
    DeepSeek-V4 implementation in transformers 5.
    """

    kind: Literal["compressed"] = "compressed"
    num_heads: Size
    head_dim: Size
    q_lora_rank: Size
    o_groups: Size
    o_lora_rank: Size
    window: Size
    ratio: Annotated[int, Field(ge=0)] = 0
    sparse: SparseIndex | None = None

    @property
    def _entry(self) -> int:
        """Width of the compressor's key and gate: overlapping windows (those that are picked from) need two."""
        return self.head_dim * (2 if self.sparse else 1)

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        H, h = self.num_heads, self.head_dim
        found = [
            _whole("qkv_a_proj", "attention", hidden, self.q_lora_rank, h),
            _column("q_b_proj", "attention", self.q_lora_rank, (H * h, H)),
        ]
        if self.ratio:
            found.append(_whole("compressor", "attention", hidden, self._entry, self._entry))
        if self.sparse:
            heads, width = self.sparse.num_heads, self.sparse.head_dim
            found.append(_whole("index_q", "attention", self.q_lora_rank, heads * width))
            found.append(_whole("index_k", "attention", hidden, 2 * width, 2 * width, heads))
        grouped = (self.o_groups * self.o_lora_rank, self.o_groups)
        found.append(_column("o_a_proj", "attention", H * h // self.o_groups, grouped))
        found.append(_row("o_proj", "attention", grouped, hidden))
        return tuple(found)

    def small_parameters(self, hidden: int) -> int:
        h = self.head_dim
        small = self.q_lora_rank + h + self.num_heads
        if self.ratio:
            small += self.ratio * self._entry + h
        if self.sparse:
            small += self.ratio * 2 * self.sparse.head_dim + self.sparse.head_dim
        return small

    def cache(self) -> CacheShape:
        entries = self.head_dim / self.ratio if self.ratio else 0.0
        index = self.sparse.head_dim / self.ratio if self.sparse and self.ratio else 0.0
        return CacheShape(elements=entries, state=self.window * self.head_dim, state_bytes=2.0, index=index)

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        H, h = self.num_heads, self.head_dim
        found = [AttentionCore(H, 1, h, h, window=self.window, shared_kv=True)]
        if self.ratio:
            found.append(
                AttentionCore(
                    H, 1, h, h, stride=self.ratio, shared_kv=True, top_k=self.sparse.top_k if self.sparse else None,
                    index_heads=self.sparse.num_heads if self.sparse else 0,
                    index_dim=self.sparse.head_dim if self.sparse else 0, index_stride=self.ratio,
                )
            )  # fmt: skip
        return tuple(found)


class Mamba(Spec):
    """Selective state space, the first kind. Source: Gu and Dao 2023, arXiv:2312.00752."""

    kind: Literal["mamba"] = "mamba"
    inner_size: Size
    state_size: Size
    time_step_rank: Size
    conv_kernel: Size = 4
    conv_bias: bool = True
    bias: bool = False
    norms: bool = False
    """Norms of the time step, B and C (Jamba)."""

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        e, rank, n = self.inner_size, self.time_step_rank, self.state_size
        return (
            _column("in_proj", "attention", hidden, (2 * e, e), bias=self.bias),
            _row("x_proj", "attention", (e, e), rank + 2 * n),
            _column("dt_proj", "attention", rank, (e, e), bias=True),
            _row("out_proj", "attention", (e, e), hidden, bias=self.bias),
        )

    def small_parameters(self, hidden: int) -> int:
        e, n = self.inner_size, self.state_size
        norms = self.time_step_rank + 2 * n if self.norms else 0
        return e * (self.conv_kernel + self.conv_bias) + e * n + e + norms

    def cache(self) -> CacheShape:
        state = self.inner_size * (self.state_size + (self.conv_kernel - 1) / 2)
        return CacheShape(state=state, state_units=self.inner_size)

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        return (ScanCore("mamba1", self.inner_size, self.state_size, 1, self.inner_size, self.conv_kernel),)


class KimiDeltaAttention(Spec):
    """Gated delta rule with a decay per channel. Source: Kimi Linear, arXiv:2510.26692."""

    kind: Literal["kda"] = "kda"
    num_heads: Size
    head_dim: Size
    conv_kernel: Size = 4
    full_rank_gate: bool = False

    @property
    def width(self) -> int:
        return self.num_heads * self.head_dim

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        H, h, e = self.num_heads, self.head_dim, self.width
        gate = (
            (_column("g_proj", "attention", hidden, (e, H)),)
            if self.full_rank_gate
            else (_whole("g_a_proj", "attention", hidden, h), _column("g_b_proj", "attention", h, (e, H)))
        )
        return (
            _column("qkv_proj", "attention", hidden, (3 * e, H), (H, H)),
            _whole("f_a_proj", "attention", hidden, h),
            _column("f_b_proj", "attention", h, (e, H)),
            *gate,
            _row("o_proj", "attention", (e, H), hidden),
        )

    def small_parameters(self, hidden: int) -> int:
        return 3 * self.width * self.conv_kernel + self.width + self.num_heads + self.head_dim

    def cache(self) -> CacheShape:
        state = self.width * self.head_dim + 3 * self.width * (self.conv_kernel - 1) / 2
        return CacheShape(state=state, state_units=self.num_heads)

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        return (ScanCore("kda", self.num_heads, self.head_dim, self.head_dim, 3 * self.width, self.conv_kernel),)


class LightningAttention(Spec):
    """Linear attention with a fixed decay per head. Source: MiniMax-01, arXiv:2501.08313."""

    kind: Literal["lightning"] = "lightning"
    num_heads: Size
    head_dim: Size
    chunk_size: Size = 256

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        H, e = self.num_heads, self.num_heads * self.head_dim
        return (
            _column("qkv_proj", "attention", hidden, (3 * e, H)),
            _column("output_gate", "attention", hidden, (e, H)),
            _row("out_proj", "attention", (e, H), hidden),
        )

    def small_parameters(self, hidden: int) -> int:
        return self.num_heads * self.head_dim

    def cache(self) -> CacheShape:
        return CacheShape(state=self.num_heads * self.head_dim**2, state_units=self.num_heads)

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        return (ScanCore("lightning", self.num_heads, self.head_dim, self.head_dim, chunk=self.chunk_size),)


class GatedRecurrence(Spec):
    """Real-gated linear recurrent unit behind a short convolution. Source: Griffin, arXiv:2402.19427."""

    kind: Literal["rg_lru"] = "rg_lru"
    width: Size
    num_blocks: Size
    conv_kernel: Size = 4

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        e, b = self.width, self.num_blocks
        return (
            _column("in_proj", "attention", hidden, (2 * e, b), bias=True),
            _column("gates", "attention", e // b, (2 * e, b), bias=False),
            _row("out_proj", "attention", (e, b), hidden, bias=True),
        )

    def small_parameters(self, hidden: int) -> int:
        return self.width * (self.conv_kernel + 1) + 2 * self.width + self.width

    def cache(self) -> CacheShape:
        return CacheShape(state=self.width * (1 + (self.conv_kernel - 1) / 2), state_units=self.width)

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        return (ScanCore("rg_lru", self.width, 1, 1, self.width, self.conv_kernel),)


class ShortConvolution(Spec):
    """A gated convolution over a few tokens in place of attention (LFM2)."""

    kind: Literal["short_conv"] = "short_conv"
    width: Size
    conv_kernel: Size = 3
    bias: bool = False

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        e = self.width
        return (
            _column("in_proj", "attention", hidden, (3 * e, e), bias=self.bias),
            _row("out_proj", "attention", (e, e), hidden, bias=self.bias),
        )

    def small_parameters(self, hidden: int) -> int:
        return self.width * (self.conv_kernel + self.bias)

    def cache(self) -> CacheShape:
        return CacheShape(state=self.width * (self.conv_kernel - 1), state_bytes=2.0, state_units=self.width)

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        return (ScanCore("short_conv", self.width, 0, 0, self.width, self.conv_kernel),)


class ParallelMixers(Spec):
    """Two mixers that read the same input and are added together (Falcon-H1)."""

    kind: Literal["parallel"] = "parallel"
    attention: Attention
    recurrent: Mamba2

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        return (*self.recurrent.projections(hidden), *self.attention.projections(hidden))

    def small_parameters(self, hidden: int) -> int:
        return self.attention.small_parameters(hidden) + self.recurrent.small_parameters(hidden)

    def cache(self) -> CacheShape:
        state = self.recurrent.cache()
        return self.attention.cache()._replace(
            state=state.state, state_bytes=state.state_bytes, state_units=state.state_units
        )

    def cores(self) -> tuple[AttentionCore | ScanCore, ...]:
        return (*self.recurrent.cores(), *self.attention.cores())


class Mlp(Spec):
    """A dense feed-forward block, gated (SwiGLU and kin) or plain."""

    kind: Literal["mlp"] = "mlp"
    intermediate_size: Size
    gated: bool = True
    bias: bool = False

    def projections(self, hidden: int, role: Role = "mlp", prefix: str = "") -> tuple[Projection, ...]:
        f = self.intermediate_size
        into = [(f, f)] * (2 if self.gated else 1)
        return (
            _column(prefix + ("gate_up_proj" if self.gated else "up_proj"), role, hidden, *into, bias=self.bias),
            _row(prefix + "down_proj", role, (f, f), hidden, bias=self.bias),
        )

    def small_parameters(self, hidden: int) -> int:
        return 0


class MixtureOfExperts(Spec):
    """Routed experts, of which each token visits ``experts_per_token``, beside shared ones that all tokens visit."""

    kind: Literal["moe"] = "moe"
    num_experts: Size
    experts_per_token: Size
    intermediate_size: Size
    gated: bool = True
    bias: bool = False
    shared_intermediate_size: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Width of the shared experts together, or of a dense block that runs beside the routed ones."""
    shared_gated: bool = True
    shared_gate: bool = False
    """A sigmoid gate (hidden -> 1) on the shared experts' output."""
    latent_size: Size | None = None
    """Width the routed experts work in, between a down and an up projection of their own."""
    router_weights: bool = True
    """False where tokens are routed by a hash table."""
    router_bias: bool = False
    router_correction: bool = False
    """A score correction per expert, used for balance."""
    extra_parameters: Count = 0

    @model_validator(mode="after")
    def _enough_experts(self) -> MixtureOfExperts:
        if self.experts_per_token > self.num_experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} exceeds num_experts {self.num_experts}")
        return self

    @property
    def shared(self) -> Mlp:
        """The shared experts together; asked for only where there are some."""
        return Mlp(intermediate_size=self.shared_intermediate_size, gated=self.shared_gated)

    def expert_parameters(self, hidden: int) -> int:
        """Weights and biases of one routed expert."""
        d, f = self.latent_size or hidden, self.intermediate_size
        matrices = (3 if self.gated else 2) * d * f
        return matrices + ((2 if self.gated else 1) * f + d if self.bias else 0)

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        """Router, shared experts and latent projections; the routed experts are counted apart."""
        found: list[Projection] = []
        if self.router_weights:
            found.append(_whole("router", "router", hidden, self.num_experts, bias=self.router_bias))
        if self.latent_size:
            found.append(_whole("latent_down_proj", "experts", hidden, self.latent_size))
            found.append(_whole("latent_up_proj", "experts", self.latent_size, hidden))
        if self.shared_intermediate_size:
            found.extend(self.shared.projections(hidden, "shared_expert", "shared_"))
        if self.shared_gate:
            found.append(_whole("shared_gate", "router", hidden, 1))
        return tuple(found)

    def small_parameters(self, hidden: int) -> int:
        return (self.num_experts if self.router_correction else 0) + self.extra_parameters


Mixer = Annotated[
    Attention | LatentAttention | CompressedAttention | Mamba | Mamba2 | GatedDeltaNet | KimiDeltaAttention
    | LightningAttention | GatedRecurrence | ShortConvolution | ParallelMixers,
    Field(discriminator="kind"),
]  # fmt: skip
FeedForward = Annotated[Mlp | MixtureOfExperts, Field(discriminator="kind")]


class Layer(Spec):
    """``count`` identical layers: names of a mixer and a feed-forward (either may be missing)."""

    mixer: str | None = None
    cross_attention: str | None = None
    feed_forward: str | None = None
    count: Size
    norms: Annotated[int, Field(ge=0)] | None = None
    """Norms of one such layer, where it differs from the stack's ``norms_per_layer``."""
    weights: Size | None = None
    """Sets of weights that these layers share among them; as many as layers where it is None."""


class Stack(Spec):
    """Layers over one hidden width. The order of layers has no cost; only kinds and counts are kept."""

    hidden_size: Size
    mixers: dict[str, Mixer] = {}
    feed_forwards: dict[str, FeedForward] = {}
    layers: tuple[Layer, ...]
    norm: Literal["rms", "layer", "none"] = "rms"
    """rms: one weight per channel; layer: weight and bias; none: no weights."""
    norms_per_layer: Annotated[int, Field(ge=0)] = 2
    parallel_blocks: bool = False
    """Mixer and feed-forward read the same input and are added together (GPT-J, Falcon)."""
    residual_streams: Annotated[int, Field(ge=1)] = 1
    """Hyper-connections keep this many copies of the residual stream."""
    layer_parameters: Count = 0
    """Weights of one layer outside its mixer, feed-forward and norms."""

    @model_validator(mode="after")
    def _layers_name_what_exists(self) -> Stack:
        for position, layer in enumerate(self.layers):
            for field, known in (
                ("mixer", self.mixers),
                ("cross_attention", self.mixers),
                ("feed_forward", self.feed_forwards),
            ):
                name = getattr(layer, field)
                if name is not None and name not in known:
                    raise ValueError(
                        f"layers.{position}.{field}: no {field} is called {name!r}; {did_you_mean(name, known)}"
                    )
        return self

    @property
    def num_layers(self) -> int:
        return sum(layer.count for layer in self.layers)

    @functools.cached_property
    def num_expert_layers(self) -> int:
        """Layers whose feed-forward is a mixture of experts."""
        return sum(layer.count for layer, _, block in self.blocks() if isinstance(block, MixtureOfExperts))

    def blocks(self) -> Iterator[tuple[Layer, list[Any], Any]]:
        """Each kind of layer with its mixers (self, cross) and its feed-forward."""
        for layer in self.layers:
            mixers = [self.mixers[name] for name in (layer.mixer, layer.cross_attention) if name]
            yield layer, mixers, self.feed_forwards[layer.feed_forward] if layer.feed_forward else None

    def norm_parameters(self, width: int) -> int:
        """Weights of one norm over ``width`` channels."""
        return {"rms": width, "layer": 2 * width, "none": 0}[self.norm]

    def layer_weights(self, *, active: bool = False) -> int:
        """Parameters of all layers; ``active`` counts only the routed experts a token visits."""
        total, d = 0, self.hidden_size
        for layer, mixers, feed_forward in self.blocks():
            parts = [*mixers, *([feed_forward] if feed_forward else [])]
            one = sum(p.parameters for part in parts for p in part.projections(d))
            one += sum(part.small_parameters(d) for part in parts)
            norms = self.norms_per_layer if layer.norms is None else layer.norms
            one += norms * self.norm_parameters(d) + self.layer_parameters
            if isinstance(feed_forward, MixtureOfExperts):
                visited = feed_forward.experts_per_token if active else feed_forward.num_experts
                one += visited * feed_forward.expert_parameters(d)
            total += (layer.weights or layer.count) * one
        return total


class Tower(Stack):
    """An encoder beside the language model: vision, audio, or the encoder of an encoder-decoder model.

    ``other_parameters`` are its patch embedding, position tables, projector and merger.
    """

    kind: Literal["vision", "audio", "encoder"]
    other_parameters: Count = 0
    tokens_per_item: Size | None = None
    """Tokens that one image or clip becomes in the language model, where the config fixes it."""
    patches_per_item: Size | None = None
    """Tokens that one image or clip is inside the tower, where the config fixes it."""

    @property
    def parameters(self) -> int:
        return self.layer_weights() + self.other_parameters


class EmbeddingTable(Spec):
    """A table beside the token embedding: positions, token types, per-layer or n-gram embeddings."""

    rows: Size
    width: Size
    lookups_per_token: Annotated[int, Field(ge=0)] = 1
    hashed: bool = False
    """A memory addressed by hashes of the tokens (n-grams): its rows do not count as active."""


class Published(Spec):
    """What the authors state, to check the derived count against."""

    total_parameters: float | None = None
    active_parameters: float | None = None
    active_counts: Literal["all", "without_input_embedding", "without_embeddings"] = "all"
    """What the authors count as active: conventions differ in whether the embeddings are in it."""
    source: str
    note: str = ""
    """Why the derived count may differ by more than 1%, where it does."""


class ModelSpec(Stack):
    """A whole model. Field names are Hugging Face's where it has one."""

    name: str
    aliases: tuple[str, ...] = ()
    architecture: str = ""
    task: Literal["generate", "embed", "rerank", "encode"] = "generate"
    vocab_size: Size
    max_position_embeddings: Size | None = None
    embedding_width: Size | None = None
    """Width of the token embedding where it is not the hidden size."""
    embedding_tables: dict[str, EmbeddingTable] = {}
    embedding_norm: bool = False
    tie_word_embeddings: bool = False
    lm_head: bool = True
    lm_head_bias: bool = False
    final_norm: bool = True
    other_parameters: Count = 0
    """Weights outside the layers that no step reads in bulk: poolers, classifier heads, projections of embeddings."""
    towers: dict[str, Tower] = {}
    draft: Tower | None = None
    """Multi-token-prediction layers that ship with the checkpoint; not counted in the parameters."""
    precision: Precision = Precision(name="bf16")
    """The formats the checkpoint is stored and run in."""
    published: Published | None = None
    warnings: tuple[str, ...] = ()
    """What had to be assumed when the spec was read from a config."""
    sources: tuple[Source, ...] = ()

    @functools.cached_property
    def embedding_parameters(self) -> int:
        """Token embedding and the tables beside it."""
        tables = sum(table.rows * table.width for table in self.embedding_tables.values())
        return self.vocab_size * (self.embedding_width or self.hidden_size) + tables

    @functools.cached_property
    def lm_head_parameters(self) -> int:
        """Weights of the output head that are not the embedding's."""
        if not self.lm_head:
            return 0
        own = 0 if self.tie_word_embeddings else self.vocab_size * (self.embedding_width or self.hidden_size)
        return own + (self.vocab_size if self.lm_head_bias else 0)

    def _parameters(self, *, active: bool) -> int:
        hashed = sum(table.rows * table.width for table in self.embedding_tables.values() if table.hashed)
        norms = (self.final_norm + self.embedding_norm) * self.norm_parameters(self.hidden_size)
        towers = sum(tower.parameters for tower in self.towers.values())
        return (
            self.embedding_parameters + self.lm_head_parameters + self.layer_weights(active=active)
            + norms + self.other_parameters + towers - (hashed if active else 0)
        )  # fmt: skip

    @functools.cached_property
    def total_parameters(self) -> int:
        """Every weight of the checkpoint except draft layers.

        >>> from infersim import load_model
        >>> load_model("meta-llama/Llama-3.1-8B").total_parameters
        8030261248
        """
        return self._parameters(active=False)

    @functools.cached_property
    def active_parameters(self) -> int:
        """Weights that one token meets: of the routed experts only those it visits; embeddings included, n-gram memories not."""
        return self._parameters(active=True)

    def active_parameters_as_published(self) -> int:
        """Active parameters under the convention of the published figure."""
        convention = self.published.active_counts if self.published else "all"
        dropped = {"all": 0, "without_input_embedding": self.embedding_parameters,
                   "without_embeddings": self.embedding_parameters + self.lm_head_parameters}  # fmt: skip
        return self.active_parameters - dropped[convention]

    @property
    def is_moe(self) -> bool:
        return any(isinstance(block, MixtureOfExperts) for block in self.feed_forwards.values())
