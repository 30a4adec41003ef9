"""How the layers of each family are built from its config: mixers, feed-forwards, and which layer has which.

``decoder`` reads everything that is a standard transformer decoder; the functions after it add one mechanism each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from infersim.specs.fields import ConfigReader
from infersim.specs.model import (
    Attention,
    CompressedAttention,
    EmbeddingTable,
    GatedDeltaNet,
    GatedRecurrence,
    KimiDeltaAttention,
    LatentAttention,
    Layer,
    LightningAttention,
    Mamba,
    Mamba2,
    MixtureOfExperts,
    Mlp,
    ParallelMixers,
    ShortConvolution,
    SparseIndex,
    Tower,
)  # fmt: skip
from infersim.specs.traits import Traits

UNKNOWN_MECHANISMS = ("ssm_", "mamba", "rwkv", "linear_attn", "lora_rank", "retention", "hyena", "kda_", "state_size", "index_topk",
                      "compress_ratio", "cross_attention_layers", "encoder_layers", "num_mem_blocks")  # fmt: skip
"""Parts of field names that give away a mechanism which a standard decoder does not have."""


class Place(NamedTuple):
    """What one layer is made of, by name."""

    mixer: str | None
    feed_forward: str | None
    cross_attention: str | None = None
    norms: int | None = None


@dataclass
class Layout:
    """Layers in order, and what they are made of."""

    mixers: dict[str, Any]
    feed_forwards: dict[str, Any]
    plan: list[Place]
    tables: dict[str, EmbeddingTable] = field(default_factory=dict)
    towers: dict[str, Tower] = field(default_factory=dict)
    norms: int | None = None
    residual_streams: int = 1
    layer_parameters: int = 0
    other_parameters: int = 0
    shared: dict[Place, int] = field(default_factory=dict)
    """Places whose layers share weights: how many sets of weights there are."""

    def layers(self) -> list[Layer]:
        """Equal places together, in order of first appearance."""
        counts: dict[Place, int] = {}
        for place in self.plan:
            counts[place] = counts.get(place, 0) + 1
        return [
            Layer(mixer=p.mixer, cross_attention=p.cross_attention, feed_forward=p.feed_forward, norms=p.norms, count=count,
                  weights=self.shared.get(p))
            for p, count in counts.items()
        ]  # fmt: skip


def hidden_size(reader: ConfigReader) -> int:
    return reader.size("hidden_size", "n_embd", "d_model", "n_embed", "hidden_dim")


MOST_LAYERS = 10_000
"""No honest model is deeper; a plan of layers is a list, so this bounds memory too."""


def num_layers(reader: ConfigReader) -> int:
    listed = reader.listed("layers_block_type", "layer_types", "block_types")
    default = len(listed) if listed and not reader.has("block_types") else None
    names = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
    return reader.size(*names, default=default, most=MOST_LAYERS)


def num_heads(reader: ConfigReader) -> int:
    return reader.size("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")


def attention(reader: ConfigReader, traits: Traits, **changes: Any) -> Attention:
    """The attention of a standard decoder; ``changes`` override single fields."""
    hidden = hidden_size(reader)
    heads = changes.pop("num_heads", None) or num_heads(reader)
    kv_heads = changes.pop("num_kv_heads", None) or _kv_heads(reader, heads)
    width = changes.pop("head_dim", None) or reader.maybe("head_dim", "attention_head_dim", "kv_channels")
    if width is None:
        if hidden % heads:
            raise reader.error(
                "hidden_size", f"{hidden} is not a multiple of num_attention_heads {heads}, and there is no head_dim"
            )
        width = hidden // heads
    if heads % kv_heads:
        raise reader.error("num_key_value_heads", f"num_attention_heads {heads} is not a multiple of {kv_heads}")
    stated = reader.has("attention_bias", "use_qkv_bias", "add_qkv_bias", "qkv_bias", "use_bias")
    bias = reader.flag(
        "attention_bias", "use_qkv_bias", "add_qkv_bias", "qkv_bias", "use_bias", default=traits.qkv_bias
    )
    follows = stated and traits.o_bias_follows and not reader.has("use_qkv_bias", "add_qkv_bias")
    out_bias = reader.flag("attention_out_bias", default=bias if follows else traits.o_bias)
    qk_norm = traits.qk_norm
    if reader.has("use_qk_norm") and traits.qk_norm_flag:
        qk_norm = traits.qk_norm_flag if reader.flag("use_qk_norm") else "none"
    fields = {
        "num_heads": heads, "num_kv_heads": kv_heads, "head_dim": width, "qkv_bias": bias, "o_bias": out_bias,
        "qk_norm": qk_norm, "sinks": traits.sinks, "output_gate": traits.output_gate, "causal": not traits.encoder,
    }  # fmt: skip
    return Attention(**(fields | changes))


def _kv_heads(reader: ConfigReader, heads: int) -> int:
    if reader.has("multi_query") or reader.has("new_decoder_architecture"):  # Falcon
        if reader.flag("new_decoder_architecture"):
            return reader.size("num_kv_heads", "n_head_kv", default=heads)
        return 1 if reader.flag("multi_query", default=True) else heads
    if reader.flag("multi_query_attention"):
        return reader.size("multi_query_group_num")
    return reader.size("num_key_value_heads", "n_head_kv", "num_kv_heads", "num_query_groups", default=heads)


def mlp(reader: ConfigReader, traits: Traits, *, width: int | None = None, gated: bool | None = None) -> Mlp:
    """The dense feed-forward block."""
    hidden = hidden_size(reader)
    fallback = hidden * (reader.size("expansion_ratio", default=4) if not traits.gated else 4)
    if (
        traits.gated
        and width is None
        and not reader.has("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "mlp_hidden_size")
    ):
        raise reader.error("intermediate_size", "is missing (or ffn_hidden_size, ffn_dim, n_inner)")
    found = width or reader.size(
        "intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner", "mlp_hidden_size", default=fallback
    )
    bias = reader.flag("mlp_bias", "use_mlp_bias", "use_bias", default=traits.mlp_bias)
    return Mlp(intermediate_size=found, gated=traits.gated if gated is None else gated, bias=bias)


def experts(reader: ConfigReader, traits: Traits, **changes: Any) -> MixtureOfExperts:
    """The routed experts and what runs beside them."""
    width = reader.size("moe_intermediate_size", "expert_intermediate_size", "intermediate_size", "ffn_hidden_size")
    shared = reader.maybe("shared_expert_intermediate_size", "share_expert_dim", "shared_intermediate_size", least=0)
    if shared is None:
        each = reader.size("moe_shared_expert_intermediate_size", default=width)
        shared = (
            reader.size(
                "n_shared_experts",
                "num_shared_experts",
                "num_shared_expert",
                "moe_num_shared_experts",
                default=0,
                least=0,
            )
            * each
        )
    total = reader.size("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
    chosen = reader.size(
        "num_experts_per_tok",
        "num_experts_per_token",
        "top_k_experts",
        "moe_top_k",
        "moe_topk",
        "moe_k",
        "experts_per_token",
    )
    if chosen > total:
        raise reader.error("num_experts_per_tok", f"{chosen} is more than the {total} experts there are")
    correction = reader.text("topk_method") == "noaux_tc" if reader.has("topk_method") else traits.correction
    fields = {
        "num_experts": total, "experts_per_token": chosen, "intermediate_size": width, "gated": traits.gated,
        "shared_intermediate_size": shared, "shared_gated": traits.gated, "shared_gate": bool(shared) and traits.shared_gate,
        "router_correction": correction,
    }  # fmt: skip
    return MixtureOfExperts(**(fields | changes))


def has_experts(reader: ConfigReader) -> bool:
    return (reader.maybe("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts", least=0) or 0) > 1


def expert_layers(reader: ConfigReader, layers: int) -> list[bool]:
    """Which layers have routed experts: a list, a period, or all but the first few."""
    if not has_experts(reader):
        return [False] * layers
    kinds = reader.per_layer("mlp_layer_types", layers=layers)
    if kinds is not None:
        return [kind != "dense" for kind in kinds]
    frequency = reader.raw("moe_layer_freq")[1]
    if isinstance(frequency, list):
        return [bool(flag) for flag in reader.per_layer("moe_layer_freq", layers=layers) or []]
    first = reader.size("first_k_dense_replace", "moe_layer_start_index", default=0, least=0)
    period = reader.size("moe_layer_freq", "decoder_sparse_step", "interleave_moe_layer_step", default=1)
    offset = 0 if reader.has("moe_layer_freq") else period - 1
    dense = set(reader.indices("mlp_only_layers") or [])
    return [i >= first and i % period == offset % period and i not in dense for i in range(layers)]


def feed_forwards(
    reader: ConfigReader, traits: Traits, layers: int, **changes: Any
) -> tuple[dict[str, Any], list[str]]:
    """The kinds of feed-forward there are, and the one of each layer."""
    sparse = expert_layers(reader, layers)
    found: dict[str, Any] = {}
    if not all(sparse):
        found["dense"] = mlp(reader, traits, width=reader.maybe("dense_intermediate_size", "intermediate_size_mlp"))
    if any(sparse):
        found["moe"] = experts(reader, traits, **changes)
    return found, ["moe" if flag else "dense" for flag in sparse]


def windowed_layers(reader: ConfigReader, traits: Traits, layers: int) -> list[bool]:
    """Which layers see a window only."""
    kinds = reader.per_layer("layer_types", layers=layers)
    if kinds is not None:
        strange = [kind for kind in kinds if kind not in ("full_attention", "sliding_attention", "chunked_attention")]
        if strange:
            raise reader.error("layer_types", f"has a kind of layer that is not modelled here: {strange[0]!r}")
        return [kind != "full_attention" for kind in kinds]
    if (
        not traits.window
        or reader.maybe("sliding_window") is None
        or not reader.flag("use_sliding_window", default=True)
    ):
        return [False] * layers
    period = reader.maybe("sliding_window_pattern", "_sliding_window_pattern") or traits.window_pattern
    return [bool((i + 1) % period) for i in range(layers)] if period else [True] * layers


def _join(mixers: Sequence[str | None], blocks: Sequence[str | None]) -> list[Place]:
    return [Place(mixer, block) for mixer, block in zip(mixers, blocks, strict=True)]


def decoder(reader: ConfigReader, traits: Traits) -> Layout:
    """A standard decoder: full or windowed attention, dense or expert feed-forwards."""
    layers = num_layers(reader)
    local = windowed_layers(reader, traits, layers)
    mixers: dict[str, Any] = {}
    longest = reader.maybe("max_position_embeddings")
    if any(local) and longest is not None and reader.size("sliding_window") >= longest:
        local = [False] * layers  # a window that no sequence outgrows
    if not all(local):
        mixers["full"] = attention(reader, traits)
    if any(local):
        mixers["window"] = attention(reader, traits, window=reader.size("sliding_window"))
    changes = {"bias": True, "router_bias": True} if traits.sinks else {}
    blocks, which = feed_forwards(reader, traits, layers, **changes)
    return Layout(mixers, blocks, _join(["window" if flag else "full" for flag in local], which))


def falcon(reader: ConfigReader, traits: Traits) -> Layout:
    """Falcon: one norm for both blocks, two in the new architecture."""
    if not reader.has("multi_query", "new_decoder_architecture"):
        reader.warnings.append(
            "falcon config without its attention fields: read as the new architecture with 8 key-value heads"
        )
        filled = dict(reader.config) | {"new_decoder_architecture": True, "num_kv_heads": 8}
        reader = ConfigReader(filled, reader.file, reader.path, reader.warnings)
    biased = reader.flag("bias")
    layout = decoder(reader, traits._replace(qkv_bias=biased, o_bias=biased, mlp_bias=biased))
    layout.norms = 2 if reader.flag("new_decoder_architecture") or not reader.flag("parallel_attn", default=True) else 1
    return layout


def _index(reader: ConfigReader, *, shared: bool = False, stride: int = 1) -> SparseIndex | None:
    if not reader.has("index_topk"):
        return None
    return SparseIndex(num_heads=reader.size("index_n_heads"), head_dim=reader.size("index_head_dim"), top_k=reader.size("index_topk"),
                       stride=stride, shared=shared)  # fmt: skip


def hunyuan_moe(reader: ConfigReader, traits: Traits) -> Layout:
    """Hunyuan: one number of shared experts, or one per layer; one where nothing is said."""
    stated = reader.raw("num_shared_expert")[1]
    shared = max(reader.indices("num_shared_expert") or [1]) if isinstance(stated, list) else stated or 1
    filled = dict(reader.config) | {"n_shared_experts": shared}
    for name in ("moe_intermediate_size", "moe_topk"):
        if isinstance(filled.get(name), list):
            filled[name] = max(reader.indices(name) or [1])
    return decoder(ConfigReader(filled, reader.file, reader.path, reader.warnings), traits)


def latent_attention(reader: ConfigReader, *, sparse: SparseIndex | None = None) -> LatentAttention:
    """Multi-head latent attention by DeepSeek's field names."""
    return LatentAttention(
        num_heads=num_heads(reader), q_lora_rank=reader.maybe("q_lora_rank"), kv_lora_rank=reader.size("kv_lora_rank"),
        qk_nope_head_dim=reader.size("qk_nope_head_dim"), qk_rope_head_dim=reader.size("qk_rope_head_dim", default=0, least=0),
        v_head_dim=reader.size("v_head_dim"), bias=reader.flag("attention_bias"),
        output_gate="element" if reader.flag("mla_use_output_gate") else "none", sparse=sparse,
    )  # fmt: skip


def deepseek(reader: ConfigReader, traits: Traits) -> Layout:
    """DeepSeek-V2, V3 and V3.2, Kimi K2, GLM-5: latent attention, with an indexer where the config has one."""
    layers = num_layers(reader)
    kinds = reader.per_layer("indexer_types", layers=layers) or ["full"] * layers
    sparse = _index(reader)
    mixers: dict[str, Any] = {"mla": latent_attention(reader, sparse=sparse)}
    if "shared" in kinds:
        mixers["mla_shared"] = latent_attention(reader, sparse=_index(reader, shared=True))
    blocks, which = feed_forwards(reader, traits, layers)
    return Layout(mixers, blocks, _join(["mla_shared" if kind == "shared" else "mla" for kind in kinds], which))


def _hyper_connections(reader: ConfigReader, layout: Layout, *, collapse: bool = True) -> Layout:
    """Streams of the residual and the weights that mix them: two mixings a layer, a learned collapse at the end."""
    streams = reader.size("hc_mult", default=1)
    if streams > 1:
        hidden = hidden_size(reader)
        mixing = (2 + streams) * streams
        layout.residual_streams = streams
        layout.layer_parameters = 2 * (mixing * streams * hidden + mixing + 3)
        layout.other_parameters += (streams * streams * hidden + streams + 1) if collapse else 0
    return layout


def _listed_count(reader: ConfigReader, field: str, value: str) -> int:
    return sum(item == value for item in reader.listed(field) or [])


def _compress_rates(reader: ConfigReader, layers: int) -> list[int]:
    """Tokens per compressed entry of each layer, where a config names kinds of layers instead of ratios."""
    kinds = reader.per_layer("layer_types", layers=layers)
    rates = reader.nested("compress_rates")
    if kinds is None:
        return [0] * layers
    known = {str(kind): rates.size(kind) for kind in rates} if rates else {}
    return [known.get(str(kind), 0) for kind in kinds]


def deepseek_v4(reader: ConfigReader, traits: Traits) -> Layout:
    """DeepSeek-V4: a short window everywhere, compressed entries behind it, hyper-connections."""
    layers = num_layers(reader)
    ratios = reader.per_layer("compress_ratios", layers=layers) or _compress_rates(reader, layers)
    mixers: dict[str, Any] = {}
    names = []
    for ratio in ratios:
        if not isinstance(ratio, int) or not 0 <= ratio <= 10**6:
            raise reader.error("compress_ratios", f"must hold whole numbers, got {ratio!r}")
        names.append(f"compressed_{ratio}" if ratio else "window")
        mixers[names[-1]] = CompressedAttention(
            num_heads=num_heads(reader), head_dim=reader.size("head_dim"), q_lora_rank=reader.size("q_lora_rank"),
            o_groups=reader.size("o_groups"), o_lora_rank=reader.size("o_lora_rank"), window=reader.size("sliding_window"),
            ratio=ratio, sparse=_index(reader) if 0 < ratio < 64 else None,
        )  # fmt: skip
    blocks, which = feed_forwards(reader, traits, layers)
    hashed = reader.size("num_hash_layers", default=_listed_count(reader, "mlp_layer_types", "hash_moe"), least=0)
    if hashed and "moe" in blocks:  # routed by a table of token ids: no scores to correct
        blocks["hashed"] = blocks["moe"].model_copy(update={"router_correction": False})
        which[:hashed] = ["hashed"] * min(hashed, layers)
    layout = Layout(mixers, blocks, _join(names, which))
    rows = reader.indices("engram_num_embeddings")
    if rows:
        lookups = reader.size("engram_n_heads", default=1) * (
            reader.size("engram_max_ngram_size", default=2, least=2) - 1
        )
        width = reader.size("engram_head_dim", default=hidden_size(reader))
        for place, count in enumerate(rows):
            layout.tables[f"engram_{place}"] = EmbeddingTable(
                rows=count, width=width, lookups_per_token=lookups, hashed=True
            )
        reader.warnings.append("n-gram embedding tables are counted by their rows and width; their projections are not")
    if reader.has("kv_source_layer_ids"):
        reader.warnings.append("layers that reuse the keys of earlier layers are counted as if each kept its own")
    return _hyper_connections(reader, layout)


def _linear_layers(reader: ConfigReader, layers: int) -> list[bool]:
    """Which layers are linear attention: by layer types, by a list of indices, or all but every n-th."""
    kinds = reader.per_layer("layer_types", layers=layers)
    if kinds is not None:
        return [kind == "linear_attention" for kind in kinds]
    nested = reader.nested("linear_attn_config")
    if nested is not None:
        full = set(nested.indices("full_attn_layers") or [])
        first = 0 if 0 in {*full, *(nested.indices("kda_layers") or [])} else 1
        return [index + first not in full for index in range(layers)]
    every = reader.size("full_attention_interval", default=4)
    return [bool((index + 1) % every) for index in range(layers)]


def delta_hybrid(reader: ConfigReader, traits: Traits) -> Layout:
    """Qwen3-Next and Qwen3.5: three gated delta nets to one gated attention."""
    layers = num_layers(reader)
    linear = _linear_layers(reader, layers)
    mixers: dict[str, Any] = {}
    if any(linear):
        mixers["linear"] = GatedDeltaNet(
            num_key_heads=reader.size("linear_num_key_heads"), num_value_heads=reader.size("linear_num_value_heads"),
            key_head_dim=reader.size("linear_key_head_dim"), value_head_dim=reader.size("linear_value_head_dim"),
            conv_kernel=reader.size("linear_conv_kernel_dim", default=4),
        )  # fmt: skip
    if not all(linear):
        mixers["full"] = attention(reader, traits)
    blocks, which = feed_forwards(reader, traits, layers)
    return Layout(mixers, blocks, _join(["linear" if flag else "full" for flag in linear], which))


def kimi_hybrid(reader: ConfigReader, traits: Traits) -> Layout:
    """Kimi Linear, Kimi K3, GLM-5.3-Flash: delta attention with a decay per channel, beside latent attention."""
    layers = num_layers(reader)
    linear = _linear_layers(reader, layers)
    nested = reader.nested("linear_attn_config") or reader
    mixers: dict[str, Any] = {
        "kda": KimiDeltaAttention(
            num_heads=nested.size("linear_num_heads", "num_heads"), head_dim=nested.size("linear_head_dim", "head_dim"),
            conv_kernel=nested.size("short_conv_kernel_size", "linear_conv_kernel_dim", default=4),
            full_rank_gate=nested.flag("use_full_rank_gate"),
        )
    }  # fmt: skip
    if not all(linear):
        mixers["mla"] = latent_attention(reader, sparse=_index(reader, stride=1))
    latent = reader.maybe("routed_expert_hidden_size")
    blocks, which = feed_forwards(reader, traits, layers, **({"latent_size": latent} if latent else {}))
    layout = Layout(mixers, blocks, _join(["kda" if flag else "mla" for flag in linear], which))
    pool = reader.size("index_kpool", default=0, least=0)
    if pool and "mla" in mixers:
        width, hidden = reader.size("index_head_dim"), hidden_size(reader)
        compressed = linear.count(False) * (pool * width + width * hidden)
        layout.other_parameters += compressed if reader.flag("index_kpool_compress") else 0
    return (
        _hyper_connections(reader, layout, collapse=False)
        if reader.flag("mhc", default=reader.has("hc_mult"))
        else layout
    )


def mamba2_mixer(reader: ConfigReader, *, norm: bool = True) -> Mamba2:
    """A Mamba-2 layer under the many names of its fields."""
    hidden = hidden_size(reader)
    heads = reader.size("mamba_num_heads", "mamba_n_heads", "n_mamba_heads", "num_heads")
    width = reader.maybe("mamba_head_dim", "mamba_d_head", "mamba_headdim", "head_dim")
    if width is None or (reader.has("mamba_d_head") and reader.raw("mamba_d_head")[1] == "auto"):
        width = reader.size("mamba_expand", "expand", default=2) * hidden // heads
    return Mamba2(
        num_heads=heads, head_dim=width, state_size=reader.size("mamba_d_state", "ssm_state_size", "state_size"),
        n_groups=reader.size("mamba_n_groups", "mamba_ngroups", "n_groups", default=1),
        conv_kernel=reader.size("mamba_d_conv", "conv_kernel", default=4),
        chunk_size=reader.size("mamba_chunk_size", "chunk_size", default=256),
        conv_bias=reader.flag("mamba_conv_bias", "use_conv_bias", default=True),
        bias=reader.flag("mamba_proj_bias", "use_bias", "add_bias_linear"), norm=norm,
    )  # fmt: skip


def mamba1_mixer(reader: ConfigReader, *, norms: bool = False) -> Mamba:
    """A Mamba layer of the first kind."""
    hidden = hidden_size(reader)
    inner = reader.size("intermediate_size", default=0, least=0) if not reader.has("mamba_expand") else 0
    rank = reader.raw("mamba_dt_rank", "time_step_rank")[1]
    return Mamba(
        inner_size=inner or reader.size("mamba_expand", "expand", default=2) * hidden,
        state_size=reader.size("mamba_d_state", "state_size", default=16),
        time_step_rank=-(-hidden // 16) if rank in (None, "auto") else reader.size("mamba_dt_rank", "time_step_rank"),
        conv_kernel=reader.size("mamba_d_conv", "conv_kernel", default=4), bias=reader.flag("mamba_proj_bias", "use_bias"),
        conv_bias=reader.flag("mamba_conv_bias", "use_conv_bias", default=True), norms=norms,
    )  # fmt: skip


def mamba(reader: ConfigReader, traits: Traits) -> Layout:
    """Pure Mamba of either kind: no feed-forward blocks."""
    second = reader.has("n_groups", "num_heads")
    mixer = mamba2_mixer(reader) if second else mamba1_mixer(reader)
    return Layout({"mamba": mixer}, {}, [Place("mamba", None)] * num_layers(reader))


def jamba(reader: ConfigReader, traits: Traits) -> Layout:
    """Jamba: one attention in eight layers, experts in every other one."""
    layers = num_layers(reader)
    period, offset = reader.size("attn_layer_period"), reader.size("attn_layer_offset", least=0)
    sparse_period, sparse_offset = reader.size("expert_layer_period"), reader.size("expert_layer_offset", least=0)
    mixers = {"mamba": mamba1_mixer(reader, norms=True), "full": attention(reader, traits)}
    blocks = {"dense": mlp(reader, traits), "moe": experts(reader, traits)}
    plan = [
        Place("full" if i % period == offset else "mamba", "moe" if i % sparse_period == sparse_offset else "dense")
        for i in range(layers)
    ]
    return Layout(mixers, blocks, plan)


def bamba(reader: ConfigReader, traits: Traits) -> Layout:
    """Bamba: Mamba-2 with a few attention layers, a dense block in each."""
    layers = num_layers(reader)
    full = set(reader.indices("attn_layer_indices") or [])
    mixers: dict[str, Any] = {"mamba": mamba2_mixer(reader)}
    if full:
        mixers["full"] = attention(reader, traits)
    plan = [Place("full" if i in full else "mamba", "dense") for i in range(layers)]
    return Layout(mixers, {"dense": mlp(reader, traits)}, plan)


def falcon_h1(reader: ConfigReader, traits: Traits) -> Layout:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    hidden = hidden_size(reader)
    inner = reader.maybe("mamba_d_ssm") or reader.size("mamba_expand", default=2) * hidden
    heads = reader.size("mamba_n_heads")
    recurrent = mamba2_mixer(reader, norm=reader.flag("mamba_rms_norm")).model_copy(update={"head_dim": inner // heads})
    mixer = ParallelMixers(attention=attention(reader, traits), recurrent=recurrent)
    return Layout(
        {"parallel": mixer}, {"dense": mlp(reader, traits)}, [Place("parallel", "dense")] * num_layers(reader)
    )


def granite_hybrid(reader: ConfigReader, traits: Traits) -> Layout:
    """Granite 4: Mamba-2 and attention layers, each with a shared dense block and, where there are any, experts."""
    layers = num_layers(reader)
    kinds = reader.per_layer("layers_block_type", "layer_types", layers=layers) or ["mamba"] * layers
    mixers: dict[str, Any] = {"mamba": mamba2_mixer(reader)}
    if "attention" in kinds:
        mixers["full"] = attention(reader, traits)
    shared = reader.size("shared_intermediate_size", default=reader.size("intermediate_size"))
    if has_experts(reader):
        block: Any = experts(reader, traits, shared_intermediate_size=shared)
    else:
        block = mlp(reader, traits, width=shared)
    return Layout(
        mixers,
        {"block": block},
        _join(["full" if kind == "attention" else "mamba" for kind in kinds], ["block"] * layers),
    )


NEMOTRON_KINDS = {
    "M": "mamba",
    "*": "attention",
    "-": "mlp",
    "E": "moe",
    "linear_attention": "mamba",
    "full_attention": "attention",
}
"""Letters of the pattern, and names that newer configs use, by kind of layer."""


def nemotron_h(reader: ConfigReader, traits: Traits) -> Layout:
    """Nemotron-H: each layer is one thing only, a Mamba-2, an attention, a dense block or experts, behind one norm."""
    pattern = reader.text("hybrid_override_pattern")
    named = reader.listed("layers_block_type") or [letter for letter in pattern if letter != "|"]
    kinds = [NEMOTRON_KINDS.get(kind, kind) if isinstance(kind, str) else repr(kind) for kind in named[:MOST_LAYERS]]
    if not kinds:
        raise reader.error("hybrid_override_pattern", "is missing (or layers_block_type)")
    mixers: dict[str, Any] = {}
    blocks: dict[str, Any] = {}
    if "mamba" in kinds:
        mixers["mamba"] = mamba2_mixer(reader)
    if "attention" in kinds:
        mixers["full"] = attention(reader, traits)
    if "mlp" in kinds:
        blocks["dense"] = mlp(reader, traits)
    if "moe" in kinds:
        latent = reader.maybe("moe_latent_size")
        blocks["moe"] = experts(reader, traits, **({"latent_size": latent} if latent else {}))
    places = {
        "mamba": Place("mamba", None),
        "attention": Place("full", None),
        "mlp": Place(None, "dense"),
        "moe": Place(None, "moe"),
    }
    strange = [kind for kind in kinds if kind not in places]
    if strange:
        raise reader.error("hybrid_override_pattern", f"has a kind of layer that is not known: {strange[0]!r}")
    return Layout(mixers, blocks, [places[kind] for kind in kinds])


def zamba2(reader: ConfigReader, traits: Traits) -> Layout:
    """Zamba2: Mamba-2 layers, and a few places where one shared transformer block joins in."""
    layers, hidden = num_layers(reader), hidden_size(reader)
    kinds = reader.per_layer("layers_block_type", layers=layers) or []
    ids = set(reader.indices("hybrid_layer_ids") or []) or {i for i, kind in enumerate(kinds) if kind == "hybrid"}
    width = reader.size("attention_hidden_size", default=2 * hidden)
    heads = num_heads(reader)
    joined = attention(reader, traits, head_dim=reader.size("attention_head_dim", default=width // heads))
    sets = reader.size("num_mem_blocks", default=1)
    plan = [Place("mamba", None, norms=1)] * layers + [Place("shared", "dense", norms=3)] * len(ids)
    layout = Layout({"mamba": mamba2_mixer(reader), "shared": joined}, {"dense": mlp(reader, traits)}, plan)
    layout.shared = {Place("shared", "dense", norms=3): sets}
    query = heads * joined.head_dim
    layout.other_parameters = sets * (width - hidden) * 3 * query + len(ids) * hidden * hidden
    rank = reader.size("adapter_rank", default=0, least=0)
    gate_up = 2 * reader.size("intermediate_size")
    layout.other_parameters += len(ids) * rank * (hidden + gate_up) - sets * hidden + sets * (width - hidden)
    reader.warnings.append(
        "shared blocks read the embedding beside the residual stream; their wider projections count as weights only"
    )
    return layout


def zamba(reader: ConfigReader, traits: Traits) -> Layout:
    """Zamba: multi-head Mamba layers and one shared transformer block."""
    layers, hidden = num_layers(reader), hidden_size(reader)
    kinds = reader.per_layer("layers_block_type", "layer_types", layers=layers) or ["mamba"] * layers
    joins = sum(kind == "hybrid" for kind in kinds)
    width = reader.size("attention_hidden_size", default=2 * hidden)
    joined = attention(reader, traits, head_dim=reader.size("attention_head_dim", default=width // num_heads(reader)))
    plan = [Place("mamba", None, norms=1)] * layers + [Place("shared", "dense", norms=3)] * joins
    layout = Layout({"mamba": mamba1_mixer(reader), "shared": joined}, {"dense": mlp(reader, traits)}, plan)
    layout.shared = {Place("shared", "dense", norms=3): 1}
    query = num_heads(reader) * joined.head_dim
    layout.other_parameters = (width - hidden) * 3 * query + joins * hidden * hidden
    return layout


def lfm2(reader: ConfigReader, traits: Traits) -> Layout:
    """LFM2: short gated convolutions and a few attention layers."""
    layers, hidden = num_layers(reader), hidden_size(reader)
    kinds = reader.per_layer("layer_types", layers=layers)
    if kinds is None:
        full = set(reader.indices("full_attn_idxs") or range(layers))
        kinds = ["full_attention" if i in full else "conv" for i in range(layers)]
    width = reader.size("block_ff_dim", "intermediate_size")
    if reader.flag("block_auto_adjust_ff_dim", default=not has_experts(reader)):
        multiple = reader.size("block_multiple_of", default=256)
        width = int(reader.number("block_ffn_dim_multiplier", default=1.0) * int(2 * width / 3))
        width = multiple * -(-width // multiple)
    mixers = {
        "conv": ShortConvolution(
            width=hidden, conv_kernel=reader.size("conv_L_cache", default=3), bias=reader.flag("conv_bias")
        ),
        "full": attention(reader, traits),
    }
    blocks: dict[str, Any] = {"dense": mlp(reader, traits, width=width)}
    which = ["dense"] * layers
    if has_experts(reader):
        blocks["moe"] = experts(reader, traits, router_correction=reader.flag("use_expert_bias", default=True))
        which = ["dense" if i < reader.size("num_dense_layers", default=0, least=0) else "moe" for i in range(layers)]
    return Layout(mixers, blocks, _join(["full" if kind == "full_attention" else "conv" for kind in kinds], which))


def recurrent_gemma(reader: ConfigReader, traits: Traits) -> Layout:
    """RecurrentGemma: two gated recurrences to one local attention."""
    layers = num_layers(reader)
    pattern = reader.listed("block_types", "_block_types") or ["recurrent", "recurrent", "attention"]
    width = reader.size("lru_width", default=hidden_size(reader))
    mixers = {
        "recurrent": GatedRecurrence(
            width=width, num_blocks=num_heads(reader), conv_kernel=reader.size("conv1d_width", default=4)
        ),
        "window": attention(reader, traits, window=reader.size("attention_window_size", default=2048), o_bias=True),
    }
    names = ["window" if pattern[i % len(pattern)] == "attention" else "recurrent" for i in range(layers)]
    block = mlp(reader, traits, width=reader.size("intermediate_size") // 2).model_copy(update={"bias": True})
    return Layout(mixers, {"dense": block}, _join(names, ["dense"] * layers))


def minimax(reader: ConfigReader, traits: Traits) -> Layout:
    """MiniMax-01: seven lightning attentions to one softmax attention, experts everywhere."""
    layers = num_layers(reader)
    flags = reader.per_layer("attn_type_list", layers=layers) or [i % 8 == 7 for i in range(layers)]
    kinds = reader.per_layer("layer_types", layers=layers) or [
        "full_attention" if flag else "linear_attention" for flag in flags
    ]
    full = attention(reader, traits)
    mixers: dict[str, Any] = {}
    if "linear_attention" in kinds:
        mixers["lightning"] = LightningAttention(
            num_heads=full.num_heads, head_dim=full.head_dim, chunk_size=reader.size("block_size", default=256)
        )
    if "full_attention" in kinds:
        mixers["full"] = full
    blocks, which = feed_forwards(reader, traits, layers)
    return Layout(
        mixers, blocks, _join(["lightning" if kind == "linear_attention" else "full" for kind in kinds], which)
    )


def minimax_m3(reader: ConfigReader, traits: Traits) -> Layout:
    """MiniMax-M3: grouped attention that reads the best blocks of keys, chosen by a light scorer."""
    layers = num_layers(reader)
    nested = reader.nested("sparse_attention_config")
    picks = [False] * layers
    mixers: dict[str, Any] = {"full": attention(reader, traits)}
    if nested is not None and nested.flag("use_sparse_attention", default=True):
        picks = [bool(flag) for flag in nested.per_layer("sparse_attention_freq", layers=layers) or [True] * layers]
        block = nested.size("sparse_block_size")
        index = SparseIndex(num_heads=nested.size("sparse_num_index_heads"), head_dim=nested.size("sparse_index_dim"),
                            top_k=nested.size("sparse_topk_blocks") * block, head_weights=False)  # fmt: skip
        mixers["sparse"] = attention(reader, traits, sparse=index, extra_parameters=2 * index.head_dim)
    blocks, which = feed_forwards(reader, traits, layers)
    if "moe" in blocks and reader.has("n_shared_experts"):
        shared = reader.size("n_shared_experts", least=0) * reader.size(
            "shared_intermediate_size", default=blocks["moe"].intermediate_size
        )
        blocks["moe"] = blocks["moe"].model_copy(update={"shared_intermediate_size": shared})
    return Layout(mixers, blocks, _join(["sparse" if flag else "full" for flag in picks], which))


def llama4(reader: ConfigReader, traits: Traits) -> Layout:
    """Llama 4: three layers of chunked attention to one full; experts in every n-th layer."""
    layers = num_layers(reader)
    kinds = reader.per_layer("layer_types", layers=layers)
    rope = reader.listed("no_rope_layers")
    flags = (
        [bool(flag) for flag in rope[:layers]]
        if rope and len(rope) >= layers
        else [bool((i + 1) % 4) for i in range(layers)]
    )
    local = [kind == "chunked_attention" for kind in kinds] if kinds else flags
    mixers: dict[str, Any] = {}
    if any(local):
        mixers["chunk"] = attention(reader, traits, chunk=reader.size("attention_chunk_size", default=8192))
    if not all(local):
        mixers["full"] = attention(reader, traits)
    width = reader.size("intermediate_size")
    blocks, which = feed_forwards(reader, traits, layers, shared_intermediate_size=width)
    return Layout(mixers, blocks, _join(["chunk" if flag else "full" for flag in local], which))


def _override(reader: ConfigReader, field: str) -> int | None:
    """The value of a field in the layers that differ from the others (``per_layer_config`` of newer configs)."""
    layers = reader.nested("per_layer_config")
    found = [layers.nested(place) for place in layers] if layers else []
    return next((one.size(field) for one in found if one is not None and one.has(field)), None)


def gemma4(reader: ConfigReader, traits: Traits) -> Layout:
    """Gemma 4: wider global heads, values that are the keys, layers that reuse earlier keys, an embedding per layer."""
    layers, hidden = num_layers(reader), hidden_size(reader)
    kinds = reader.per_layer("layer_types", layers=layers) or [
        "full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(layers)
    ]
    reused = reader.size("num_kv_shared_layers", default=0, least=0)
    own = layers - reused
    equal = reader.flag("attention_k_eq_v")
    kv_heads = reader.size("num_key_value_heads")
    variants: dict[str, dict[str, Any]] = {
        "window": {"window": reader.size("sliding_window")},
        "full": {
            "head_dim": reader.maybe("global_head_dim") or _override(reader, "head_dim"), "keys_are_values": equal,
            "num_kv_heads": (reader.maybe("num_global_key_value_heads") or kv_heads) if equal else kv_heads,
        },
    }  # fmt: skip
    mixers: dict[str, Any] = {}
    blocks: dict[str, Any] = {"dense": mlp(reader, traits)}
    wide = reader.flag("use_double_wide_mlp") and reused > 0
    if wide:
        blocks["wide"] = mlp(reader, traits, width=2 * reader.size("intermediate_size"))
    norms = None
    if reader.flag("enable_moe_block"):
        beside = reader.size("intermediate_size")
        blocks = {
            "moe": experts(
                reader, traits, shared_intermediate_size=beside, extra_parameters=hidden + reader.size("num_experts")
            )
        }
        norms = 7
    plan = []
    for index, kind in enumerate(kinds):
        name = "full" if kind == "full_attention" else "window"
        label = name if index < own else f"{name}_reused"
        mixers.setdefault(label, attention(reader, traits, reuse_kv=index >= own, **variants[name]))
        plan.append(Place(label, "moe" if "moe" in blocks else "wide" if wide and index >= own else "dense"))
    layout = Layout(mixers, blocks, plan, norms=norms)
    per_layer = reader.size("hidden_size_per_layer_input", default=0, least=0)
    if per_layer:
        rows = reader.size("vocab_size_per_layer_input", default=reader.size("vocab_size"))
        layout.tables["per_layer"] = EmbeddingTable(rows=rows, width=layers * per_layer)
        layout.layer_parameters += 2 * hidden * per_layer + hidden
        layout.other_parameters += hidden * layers * per_layer + per_layer
    return layout


def mimo_v2(reader: ConfigReader, traits: Traits) -> Layout:
    """MiMo-V2-Flash: windowed layers with heads and sinks of their own."""
    layers = num_layers(reader)
    pattern = reader.per_layer("hybrid_layer_pattern", layers=layers) or [0] * layers
    value = reader.maybe("v_head_dim")
    mixers: dict[str, Any] = {
        "full": attention(reader, traits, v_head_dim=value, sinks=reader.flag("add_full_attention_sink_bias"))
    }
    if any(pattern):
        mixers["window"] = attention(
            reader, traits, num_heads=reader.maybe("swa_num_attention_heads"), num_kv_heads=reader.maybe("swa_num_key_value_heads"),
            head_dim=reader.maybe("swa_head_dim"), v_head_dim=reader.maybe("swa_v_head_dim") or value,
            window=reader.size("sliding_window", "sliding_window_size"), sinks=reader.flag("add_swa_attention_sink_bias"),
        )  # fmt: skip
    blocks, which = feed_forwards(reader, traits, layers)
    return Layout(mixers, blocks, _join(["window" if flag else "full" for flag in pattern], which))


def nemotron_nas(reader: ConfigReader, traits: Traits) -> Layout:
    """Llama-Nemotron from architecture search: every layer has its own group size and width, or lacks a block."""
    hidden, heads = hidden_size(reader), num_heads(reader)
    configs = reader.per_layer("block_configs", layers=num_layers(reader))
    if configs is None:
        raise reader.error("block_configs", "is missing")
    mixers: dict[str, Any] = {}
    blocks: dict[str, Any] = {}
    plan = []
    for index, config in enumerate(configs):
        block = ConfigReader(
            config if isinstance(config, dict) else {},
            reader.file,
            f"{reader.path}block_configs.{index}.",
            reader.warnings,
        )
        attend, feed = block.nested("attention"), block.nested("ffn")
        mixer = width = None
        if attend is not None and not attend.flag("no_op"):
            if attend.flag("replace_with_linear"):
                raise block.error("attention", "replaces attention by a linear layer, which is not modelled")
            group = attend.size("n_heads_in_group")
            mixer = f"group_{group}"
            mixers.setdefault(mixer, attention(reader, traits, num_kv_heads=heads // group))
        if feed is not None and not feed.flag("no_op"):
            size = int(2 * feed.number("ffn_mult") * hidden / 3)
            size = 256 * -(-size // 256)
            width = f"mlp_{size}"
            blocks.setdefault(width, mlp(reader, traits, width=size))
        plan.append(Place(mixer, width, norms=(mixer is not None) + (width is not None)))
    return Layout(mixers, blocks, plan)


def dbrx(reader: ConfigReader, traits: Traits) -> Layout:
    """DBRX: fields in two nested configs."""
    inner, outer = reader.nested("attn_config"), reader.nested("ffn_config")
    if inner is None or outer is None:
        raise reader.error("attn_config", "is missing (or ffn_config)")
    mixer = attention(reader, traits, num_kv_heads=inner.size("kv_n_heads", default=8))
    block = MixtureOfExperts(
        num_experts=outer.size("moe_num_experts", default=16), experts_per_token=outer.size("moe_top_k", default=4),
        intermediate_size=outer.size("ffn_hidden_size", default=10752),
    )  # fmt: skip
    return Layout({"full": mixer}, {"moe": block}, [Place("full", "moe")] * num_layers(reader))


def modernbert(reader: ConfigReader, traits: Traits) -> Layout:
    """ModernBERT: every third layer global, the others local; the first layer has no norm before its attention."""
    layers = num_layers(reader)
    kinds = reader.per_layer("layer_types", layers=layers)
    every = reader.size("global_attn_every_n_layers", default=3)
    local = [kind == "sliding_attention" for kind in kinds] if kinds else [bool(i % every) for i in range(layers)]
    mixers = {
        "full": attention(reader, traits),
        "window": attention(reader, traits, window=reader.size("local_attention", default=128)),
    }
    plan = [Place("window" if flag else "full", "dense", norms=2 if i else 1) for i, flag in enumerate(local)]
    return Layout(mixers, {"dense": mlp(reader, traits)}, plan)


def bart(reader: ConfigReader, traits: Traits) -> Layout:
    """BART: an encoder, and a decoder whose layers attend to it as well."""
    hidden = hidden_size(reader)
    biased = {"num_kv_heads": None, "qkv_bias": True, "o_bias": True}
    own, cross = attention(reader, traits, **biased), attention(reader, traits, cross=True, **biased)
    decoder_block = mlp(reader, traits, width=reader.size("decoder_ffn_dim"))
    heads = reader.size("encoder_attention_heads")
    rows = reader.size("max_position_embeddings", default=1024) + 2
    encoder = Tower(
        kind="encoder", hidden_size=hidden, norm="layer", norms_per_layer=2,
        mixers={"attention": attention(reader, traits, num_heads=heads, causal=False, **biased)},
        feed_forwards={"dense": mlp(reader, traits, width=reader.size("encoder_ffn_dim"))},
        layers=(Layer(mixer="attention", feed_forward="dense", count=reader.size("encoder_layers")),),
        other_parameters=rows * hidden + 2 * hidden,
    )  # fmt: skip
    plan = [Place("attention", "dense", "cross")] * reader.size("decoder_layers")
    return Layout({"attention": own, "cross": cross}, {"dense": decoder_block}, plan, towers={"encoder": encoder})


BY_FAMILY: dict[str, Callable[[ConfigReader, Traits], Layout]] = {
    "falcon": falcon, "deepseek_v2": deepseek, "deepseek_v3": deepseek, "deepseek_v32": deepseek,
    "glm_moe_dsa": deepseek, "deepseek_v4": deepseek_v4, "qwen3_next": delta_hybrid, "qwen3_5": delta_hybrid,
    "qwen3_5_moe": delta_hybrid, "kimi_linear": kimi_hybrid, "glm5_next": kimi_hybrid, "mamba": mamba,
    "mamba2": mamba, "jamba": jamba, "bamba": bamba, "falcon_h1": falcon_h1, "granitemoehybrid": granite_hybrid,
    "nemotron_h": nemotron_h, "zamba2": zamba2, "zamba": zamba, "lfm2": lfm2, "recurrent_gemma": recurrent_gemma,
    "minimax": minimax, "minimax_m3": minimax_m3, "llama4": llama4, "hunyuan_v1_moe": hunyuan_moe, "gemma4": gemma4,
    "mimo_v2_flash": mimo_v2, "nemotron-nas": nemotron_nas, "dbrx": dbrx, "modernbert": modernbert, "bart": bart,
}  # fmt: skip
"""Families with a mechanism of their own; all others are standard decoders."""
