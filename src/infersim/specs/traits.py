"""What a family of models does where its config keeps silent: one line of data per ``model_type``."""

from __future__ import annotations

from typing import Literal, NamedTuple

from infersim.specs.fields import ConfigReader


class Traits(NamedTuple):
    """Defaults of a family. Fields of the config win where it has them."""

    norm: Literal["rms", "layer", "none"] = "rms"
    norms: int = 2
    """Norms of one layer."""
    final_norm: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    gated: bool = True
    qk_norm: Literal["none", "head", "layer"] = "none"
    tied: bool = False
    parallel: bool = False
    positions: int | None = None
    """Learned positions: rows beyond ``max_position_embeddings`` that the table has."""
    token_types: bool = False
    relative_buckets: int = 0
    """Rows of a table of attention biases by distance, one column per head, that all layers share."""
    embedding_norm: bool = False
    lm_head_bias: bool = False
    encoder: bool = False
    """Bidirectional, without a language-model head."""
    pooler: bool = False
    output_gate: Literal["none", "head", "element"] = "none"
    shared_gate: bool = False
    correction: bool = False
    """A score correction per expert."""
    sinks: bool = False
    window_pattern: int | None = None
    """Every n-th layer is full where the config names a window but no layer types."""
    window: bool = True
    """Whether ``sliding_window`` is obeyed."""
    o_bias_follows: bool = True
    """Whether a stated ``attention_bias`` holds for the output projection too."""
    qk_norm_flag: Literal["", "head", "layer"] = ""
    """The norm that ``use_qk_norm`` switches on."""


_LAYER_BIASED = Traits(norm="layer", qkv_bias=True, o_bias=True, mlp_bias=True, gated=False)
_BERT = _LAYER_BIASED._replace(
    encoder=True, final_norm=False, embedding_norm=True, positions=0, token_types=True, pooler=True
)
_QWEN3_NEXT = Traits(qk_norm="head", output_gate="element", shared_gate=True)
_DEEPSEEK = Traits(correction=True)

TRAITS: dict[str, Traits] = {
    "llama": Traits(),
    "mistral": Traits(),
    "mixtral": Traits(),
    "internlm2": Traits(),
    "ministral3": Traits(),
    "mimo": Traits(qkv_bias=True, o_bias_follows=False),
    "seed_oss": Traits(qkv_bias=True, o_bias_follows=False),
    "smollm3": Traits(),
    "granite": Traits(),
    "nemotron-nas": Traits(),
    "yi": Traits(),
    "cwm": Traits(),
    "ernie4_5": Traits(),
    "ernie4_5_moe": Traits(correction=True),
    "exaone4": Traits(qk_norm="head"),
    "granitemoe": Traits(),
    "granitemoeshared": Traits(),
    "helium": Traits(),
    "internlm3": Traits(),
    "iquestcoder": Traits(),
    "bitnet": Traits(),  # two inner norms a layer, 0.01% of its weights, are not counted
    "apertus": Traits(gated=False, qk_norm="head"),
    "arcee": Traits(gated=False),
    "hunyuan_v1_dense": Traits(qk_norm="head"),
    "hunyuan_v1_moe": Traits(qk_norm="head"),
    "glm": Traits(o_bias_follows=False),
    "glm4": Traits(o_bias_follows=False, norms=4),
    "olmo": Traits(norm="none"),
    "olmoe": Traits(qk_norm="layer"),
    "dots1": Traits(qk_norm="head", correction=True),
    "solar_open": Traits(correction=True),
    "vaultgemma": Traits(tied=True),
    "qwen2": Traits(o_bias_follows=False, qkv_bias=True, window=False),
    "qwen2_vl": Traits(o_bias_follows=False, qkv_bias=True, window=False),
    "qwen2_5_vl": Traits(o_bias_follows=False, qkv_bias=True, window=False),
    "qwen2_moe": Traits(o_bias_follows=False, qkv_bias=True, shared_gate=True, window=False),
    "qwen3": Traits(qk_norm="head", window=False),
    "qwen3_moe": Traits(qk_norm="head", window=False),
    "qwen3_vl": Traits(qk_norm="head"),
    "qwen3_vl_moe": Traits(qk_norm="head"),
    "qwen3_next": _QWEN3_NEXT,
    "qwen3_5": _QWEN3_NEXT,
    "qwen3_5_moe": _QWEN3_NEXT,
    "gemma": Traits(tied=True),
    "gemma2": Traits(tied=True, norms=4, window_pattern=2),
    "gemma3": Traits(tied=True, norms=4, qk_norm="head", window_pattern=6),
    "gemma4": Traits(tied=True, norms=4, qk_norm="head"),
    "olmo2": Traits(qk_norm="layer"),
    "olmo3": Traits(qk_norm="layer", window_pattern=4),
    "phi3": Traits(),
    "phi3_v": Traits(),
    "phimoe": Traits(norm="layer"),
    "phi": Traits(
        norm="layer", norms=1, parallel=True, qkv_bias=True, o_bias=True, mlp_bias=True, gated=False, lm_head_bias=True
    ),
    "gpt2": _LAYER_BIASED._replace(tied=True, positions=0),
    "gptj": Traits(norm="layer", norms=1, parallel=True, mlp_bias=True, gated=False, lm_head_bias=True),
    "gpt_neox": _LAYER_BIASED._replace(parallel=True),
    "opt": _LAYER_BIASED._replace(tied=True, positions=2),
    "bloom": _LAYER_BIASED._replace(tied=True, embedding_norm=True),
    "falcon": Traits(norm="layer", norms=1, parallel=True, gated=False, tied=True),
    "mpt": Traits(gated=False, tied=True),
    "stablelm": Traits(norm="layer"),
    "starcoder2": _LAYER_BIASED._replace(tied=True, window=True),
    "nemotron": Traits(norm="layer", gated=False),
    "chatglm": Traits(qkv_bias=True),
    "cohere": Traits(qk_norm_flag="layer", norms=1, parallel=True, tied=True),
    "cohere2": Traits(qk_norm_flag="layer", norms=1, parallel=True, tied=True, window_pattern=4),
    "dbrx": Traits(tied=False),
    "gpt_oss": Traits(qkv_bias=True, o_bias=True, sinks=True),
    "glm4_moe": Traits(correction=True, o_bias_follows=False, qk_norm_flag="head"),
    "minimax_m2": Traits(qk_norm="layer", correction=True),
    "minimax_m3": Traits(qk_norm="head", correction=True),
    "deepseek_v2": Traits(),
    "deepseek_v3": _DEEPSEEK,
    "deepseek_v32": _DEEPSEEK,
    "glm_moe_dsa": _DEEPSEEK,
    "deepseek_v4": _DEEPSEEK,
    "glm5_next": _DEEPSEEK,
    "kimi_linear": _DEEPSEEK,
    "mimo_v2_flash": Traits(correction=True),
    "step3p7": Traits(qk_norm="head", correction=True, output_gate="head"),
    "muse_glimmer": Traits(norms=4, output_gate="element"),
    "llama4": Traits(),
    "bert": _BERT,
    "xlm-roberta": _BERT,
    "roberta": _BERT,
    "camembert": _BERT,
    "mpnet": _BERT._replace(token_types=False, relative_buckets=32),
    "modernbert": Traits(encoder=True, embedding_norm=True),
    "bart": _LAYER_BIASED._replace(tied=True, positions=2, final_norm=False, embedding_norm=True, norms=3),
    "mamba": Traits(norms=1, tied=True),
    "mamba2": Traits(norms=1),
    "bamba": Traits(),
    "jamba": Traits(),
    "zamba": Traits(),
    "zamba2": Traits(),
    "falcon_h1": Traits(),
    "granitemoehybrid": Traits(),
    "nemotron_h": Traits(norms=1, gated=False, correction=True),
    "lfm2": Traits(qk_norm="head", tied=True),
    "recurrent_gemma": Traits(tied=True),
    "minimax": Traits(),
}
"""Traits by family."""

CLASS_DEFAULTS: dict[str, dict[str, int]] = {
    "gemma": {"vocab_size": 256000, "head_dim": 256},
    "gemma2": {"vocab_size": 256000, "head_dim": 256},
    "gemma3": {"vocab_size": 262208, "head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4},
    "qwen2_5_vl": {"vocab_size": 152064},
    "llama4": {"vocab_size": 202048, "head_dim": 128},
}
"""Sizes that saved configs of a family leave out because they are its class's defaults (transformers 5)."""

SAME_FAMILY = {
    "kimi_k2": "deepseek_v3",
    "lfm2_moe": "lfm2",
    "mistral4": "deepseek_v2",
    "minimax_text_01": "minimax",
    "minimax_m1": "minimax",
    "glm4_moe_lite": "deepseek_v3",
    "youtu": "deepseek_v2",
    "minicpm3": "deepseek_v2",
    "jais2": "nemotron",
    "kimi_k25": "deepseek_v3",
    "phi-msft": "phi",
    "deepseek_ref": "deepseek_v4",
    "glm4v_moe_text": "glm4_moe",
    "qwen3_vl_text": "qwen3_vl",
    "qwen3_vl_moe_text": "qwen3_vl_moe",
    "qwen3_5_text": "qwen3_5",
    "qwen3_5_moe_text": "qwen3_5_moe",
    "gemma3_text": "gemma3",
    "gemma4_text": "gemma4",
    "llama4_text": "llama4",
    "muse_glimmer_text": "muse_glimmer",
    "glm5_next_text": "glm5_next",
    "minimax_m3_vl": "minimax_m3",
    "minimax_m3_vl_text": "minimax_m3",
    "kimi_k3": "kimi_linear",
    "deepseek_v41": "deepseek_v4",
    "deepseek_v41_text": "deepseek_v4",
    "qwen2_vl_text": "qwen2_vl",
    "qwen2_5_vl_text": "qwen2_5_vl",
    "refinedweb": "falcon",
    "refinedwebmodel": "falcon",
    "mistral3": "mistral",
    "pixtral": "mistral",
    "RefinedWeb": "falcon",
}
"""model_type -> the family whose traits it shares."""

BY_ARCHITECTURE = {
    "LlamaForCausalLM": "llama", "Llama3ForCausalLM": "llama", "BloomForCausalLM": "bloom", "RWForCausalLM": "falcon",
    "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3", "Gemma2ForCausalLM": "gemma2",
}  # fmt: skip
"""Class name -> family, for configs without a model_type."""

BY_CLASS = {"Qwen2Config": "qwen2", "Qwen3Config": "qwen3", "Gemma2Config": "gemma2", "Gemma3Config": "gemma3"}


def family(reader: ConfigReader, outer: ConfigReader) -> str:
    """The family a config belongs to: by model_type, by class, or by its shape; empty where nothing tells."""
    for source in (reader, outer):
        kind = source.text("model_type")
        if kind:
            kind = SAME_FAMILY.get(kind, kind)
            if kind in TRAITS:
                return kind
    architectures = outer.listed("architectures") or []
    if architectures and str(architectures[0]) in BY_ARCHITECTURE:
        return BY_ARCHITECTURE[str(architectures[0])]
    named = BY_CLASS.get(outer.text("_class"), "")
    if named:
        return named
    kind = reader.text("model_type") or outer.text("model_type")
    if (
        not kind
        and not architectures
        and outer.has("n_head", "hidden_size")
        and outer.has("n_layer")
        and outer.has("multi_query")
    ):
        return "falcon"
    return SAME_FAMILY.get(kind, kind)
