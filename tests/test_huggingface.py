"""Import of Hugging Face configs: families, quantisation methods, caches, unknown architectures."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersim.errors import InferSimError, SpecError, UnknownNameError, UnsupportedError
from infersim.specs import library
from infersim.specs.huggingface import from_config, load_model
from infersim.specs.model import ModelSpec
from infersim.specs.precision import FORMATS
from infersim.specs.quantization import excluded_roles

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 512,
    "num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 4, "vocab_size": 1000, "torch_dtype": "bfloat16",
}  # fmt: skip
MOE = LLAMA | {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2,
               "moe_intermediate_size": 64}  # fmt: skip
MLA = {
    "model_type": "deepseek_v3", "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "num_hidden_layers": 4,
    "vocab_size": 1000, "q_lora_rank": 64, "kv_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "n_shared_experts": 1, "first_k_dense_replace": 1,
}  # fmt: skip


def build(config: dict[str, Any], **changes: Any) -> ModelSpec:
    return from_config(config | changes, name="test/model")


FAMILIES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("gpt2", {"model_type": "gpt2", "n_embd": 256, "n_head": 8, "n_layer": 4, "n_positions": 512, "vocab_size": 1000}, {"attention"}),
    ("opt", {"model_type": "opt", "hidden_size": 256, "ffn_dim": 512, "num_attention_heads": 8, "num_hidden_layers": 4,
             "max_position_embeddings": 512, "vocab_size": 1000}, {"attention"}),
    ("falcon", {"model_type": "falcon", "hidden_size": 256, "num_attention_heads": 8, "num_hidden_layers": 4, "multi_query": True,
                "vocab_size": 1000}, {"attention"}),
    ("phi", {"model_type": "phi-msft", "n_embd": 256, "n_head": 8, "n_layer": 4, "vocab_size": 1000}, {"attention"}),
    ("gemma3", LLAMA | {"model_type": "gemma3_text", "sliding_window": 128, "sliding_window_pattern": 2, "head_dim": 32}, {"attention"}),
    ("gpt_oss", LLAMA | {"model_type": "gpt_oss", "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 128,
                         "layer_types": ["sliding_attention", "full_attention"] * 2}, {"attention"}),
    ("deepseek", MLA, {"mla"}),
    ("deepseek sparse", MLA | {"model_type": "deepseek_v32", "index_topk": 64, "index_n_heads": 4, "index_head_dim": 32}, {"mla"}),
    ("qwen3_next", MOE | {"model_type": "qwen3_next", "linear_num_key_heads": 4, "linear_num_value_heads": 8,
                          "linear_key_head_dim": 32, "linear_value_head_dim": 32, "shared_expert_intermediate_size": 64},
     {"attention", "gated_delta_net"}),
    ("nemotron_h", LLAMA | {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*", "mamba_num_heads": 8, "mamba_head_dim": 64,
                            "ssm_state_size": 16, "n_groups": 2}, {"attention", "mamba2"}),
    ("jamba", MOE | {"model_type": "jamba", "attn_layer_period": 4, "attn_layer_offset": 1, "expert_layer_period": 2,
                     "expert_layer_offset": 1}, {"attention", "mamba"}),
    ("mamba2", {"model_type": "mamba2", "hidden_size": 256, "num_heads": 8, "head_dim": 64, "state_size": 16, "n_groups": 1,
                "num_hidden_layers": 4, "vocab_size": 1000}, {"mamba2"}),
    ("minimax", MOE | {"model_type": "minimax", "layer_types": ["linear_attention", "full_attention"] * 2}, {"attention", "lightning"}),
    ("lfm2_moe", MOE | {"model_type": "lfm2_moe", "layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
     {"attention", "short_conv"}),
    ("hunyuan_moe", MOE | {"model_type": "hunyuan_v1_moe", "num_shared_expert": [1, 1, 1, 1]}, {"attention"}),
    ("mistral4", MLA | {"model_type": "mistral4"}, {"mla"}),
    ("lfm2", LLAMA | {"model_type": "lfm2", "layer_types": ["conv", "full_attention"] * 2}, {"attention", "short_conv"}),
    ("kimi_linear", MLA | {"model_type": "kimi_linear", "q_lora_rank": None, "first_k_dense_replace": 1, "linear_attn_config": {
        "full_attn_layers": [4], "kda_layers": [1, 2, 3], "num_heads": 8, "head_dim": 32}}, {"kda", "mla"}),
    ("deepseek_v4", MLA | {"model_type": "deepseek_v4", "first_k_dense_replace": 0, "head_dim": 64, "o_groups": 2, "o_lora_rank": 32,
                           "sliding_window": 64, "compress_ratios": [0, 4, 128, 4], "index_topk": 64, "index_n_heads": 4,
                           "index_head_dim": 32, "hc_mult": 4}, {"compressed"}),
    ("falcon_h1", LLAMA | {"model_type": "falcon_h1", "mamba_n_heads": 8, "mamba_d_ssm": 256, "mamba_d_state": 16}, {"parallel"}),
    ("recurrent_gemma", LLAMA | {"model_type": "recurrent_gemma", "lru_width": 256}, {"attention", "rg_lru"}),
    ("mamba", {"model_type": "mamba", "hidden_size": 256, "state_size": 16, "num_hidden_layers": 4, "vocab_size": 1000}, {"mamba"}),
    ("glm4_moe_lite", MLA | {"model_type": "glm4_moe_lite"}, {"mla"}),
    ("bert", LLAMA | {"model_type": "bert", "num_key_value_heads": None, "max_position_embeddings": 512}, {"attention"}),
    ("modernbert", LLAMA | {"model_type": "modernbert", "global_attn_every_n_layers": 3, "local_attention": 64}, {"attention"}),
    ("llama4", MOE | {"model_type": "llama4_text", "attention_chunk_size": 256, "intermediate_size_mlp": 1024}, {"attention"}),
]  # fmt: skip


@pytest.mark.parametrize(("config", "kinds"), [case[1:] for case in FAMILIES], ids=[case[0] for case in FAMILIES])
def test_families(config: dict[str, Any], kinds: set[str]) -> None:
    spec = build(config)
    assert {mixer.kind for mixer in spec.mixers.values()} == kinds
    assert spec.num_layers == 4
    assert not spec.warnings


QUANTISED = [
    ({"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}, "fp8_block", "fp8_block"),
    ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8", "fp8"),
    ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, "fp8", "fp8"),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "int4_zp", "bf16"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True}, "int4_g32", "bf16"),
    ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "int8_weight", "bf16"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb_nf4", "bf16"),
    ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}, "int4", "bf16"),
    ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}, "input_tensors": {"dtype": "fp4"}}}, "mxfp4", "mxfp4"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", "nvfp4"),
    ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8", "fp8"),
    ({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
        "input_activations": {"num_bits": 8, "type": "float"}}}}, "fp8", "fp8"),
    ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True}}}}, "int4", "bf16"),
    ({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8, "type": "int"}}}},
     "int8", "int8"),
    ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "group_size": 16},
        "input_activations": {"num_bits": 4, "type": "float"}}}}, "nvfp4", "nvfp4"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("quantization", "weights", "activations"), QUANTISED, ids=[f"{q['quant_method']} {w}" for q, w, _ in QUANTISED]
)
def test_quantisation_methods(quantization: dict[str, Any], weights: str, activations: str) -> None:
    precision = build(LLAMA, quantization_config=quantization).precision
    assert (precision.weights, precision.activations) == (weights, activations)
    assert precision.of("lm_head")[0] == FORMATS["bf16"]
    assert precision.of("router")[0] == FORMATS["bf16"]
    kept_8 = quantization.get("kv_cache_quant_algo") == "FP8"
    assert precision.kv_cache == ("fp8" if kept_8 else "bf16")


def test_gpt_oss_keeps_all_but_experts_in_16_bits() -> None:
    precision = build(MOE, model_type="gpt_oss", quantization_config={"quant_method": "mxfp4"}).precision
    assert precision.of("experts")[0].name == "mxfp4"
    assert precision.of("attention")[0].name == "bf16"


def test_exclusions_are_read_by_role() -> None:
    quantization = {"quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
                    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "group_size": 32},
                                                  "format": "mxfp4-pack-quantized"}}}  # fmt: skip
    precision = build(MOE, quantization_config=quantization).precision
    assert precision.of("attention")[0].name == "bf16"
    assert precision.of("shared_expert")[0].name == "bf16"
    assert precision.of("experts")[0].name == "mxfp4"
    assert excluded_roles([f"model.layers.{i}.mlp.gate" for i in range(4)]) == {"router"}
    assert excluded_roles(["model.layers.3.mlp.gate"]) == set()
    assert excluded_roles(["*self_attn*"]) == {"attention"}
    assert "mlp" not in excluded_roles(["model.layers.*.mlp.gate"])


def test_exclusions_of_single_layers_do_not_speak_for_all() -> None:
    """ModelOpt lists the dense first layers as a whole and the attention of every layer by name."""
    ignore = ["lm_head", "model.layers.0*", "model.layers.1.*", *(f"model.layers.{i}.self_attn*" for i in range(2, 8))]
    config = MLA | {"num_hidden_layers": 8, "first_k_dense_replace": 2}
    quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ignore}
    precision = build(config, quantization_config=quantization).precision
    chosen = {role: precision.of(role)[0].name for role in ("attention", "mlp", "experts", "shared_expert")}  # type: ignore[arg-type]
    assert chosen == {"attention": "bf16", "mlp": "bf16", "experts": "nvfp4", "shared_expert": "nvfp4"}


def test_experts_of_a_format_of_their_own() -> None:
    base = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    assert build(MLA, expert_dtype="fp4", quantization_config=base).precision.of("experts")[0].name == "mxfp4"
    apart = base | {"moe_quant_algo": "NVFP4"}
    precision = build(MLA, expert_dtype="fp4", quantization_config=apart).precision
    assert [precision.of(role)[0].name for role in ("experts", "attention")] == ["nvfp4", "fp8_block"]


def test_experts_beside_the_dense_block() -> None:
    """Gemma 4 calls its always-on block mlp; its routed experts stand beside it."""
    gemma = MOE | {
        "model_type": "gemma4_text",
        "enable_moe_block": True,
        "sliding_window": 64,
        "layer_types": ["full_attention"] * 4,
    }
    ignore = [f"model.language_model.layers.{i}.mlp*" for i in range(4)]
    precision = build(
        gemma, quantization_config={"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ignore}
    ).precision
    assert [precision.of(role)[0].name for role in ("experts", "shared_expert")] == ["nvfp4", "bf16"]


def test_sidecar_and_mixed_modelopt(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MOE))
    layers = {
        f"model.layers.{i}.mlp.experts.{e}.gate_proj": {"quant_algo": "NVFP4"} for i in range(2) for e in range(3)
    }
    layers |= {"model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"}}
    sidecar = {
        "quantization": {"quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": "FP8", "quantized_layers": layers}
    }
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(sidecar))
    precision = load_model(tmp_path).precision
    assert precision.of("experts")[0].name == "nvfp4"
    assert precision.of("attention")[0].name == "fp8"
    assert precision.of("shared_expert")[0].name == "bf16"
    assert precision.kv_cache == "fp8"


def test_unknown_method_names_the_known() -> None:
    with pytest.raises(UnsupportedError, match=r"quant_method 'magic'.*gptq"):
        build(LLAMA, quantization_config={"quant_method": "magic"})


def test_unknown_architecture_with_standard_fields_loads_with_a_warning() -> None:
    spec = build(LLAMA, architectures=["BrandNewForCausalLM"], model_type="brand_new")
    assert spec.total_parameters == build(LLAMA).total_parameters
    assert len(spec.warnings) == 1
    assert "BrandNewForCausalLM" in spec.warnings[0]


def test_unknown_architecture_with_a_plain_activation_has_no_gate() -> None:
    spec = build(LLAMA, architectures=["BrandNewForCausalLM"], model_type="brand_new", hidden_act="relu2")
    assert "plain MLP" in spec.warnings[0]
    assert spec.total_parameters == build(LLAMA, model_type="arcee").total_parameters


@pytest.mark.parametrize(
    "strange",
    [{"layer_types": ["full_attention", "wavelet"] * 2}, {"type_vocab_size": 2}, {"architectures": ["NewForMaskedLM"]}],
)
def test_unknown_layers_and_encoders_are_refused(strange: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="not modelled"):
        build(LLAMA | {"architectures": ["BrandNewForCausalLM"], "model_type": "brand_new"} | strange)


def test_changed_sidecars_are_read_again(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert load_model(tmp_path).precision.weights == "bf16"
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "FP8"}}))
    assert load_model(tmp_path).precision.weights == "fp8"


@pytest.mark.parametrize("field", ["ssm_rank", "kda_layers", "kv_lora_rank", "state_size", "compress_ratios"])
def test_unknown_mechanism_is_refused_by_name(field: str) -> None:
    with pytest.raises(SpecError, match=field):
        build(LLAMA, architectures=["BrandNewForCausalLM"], model_type="brand_new", **{field: 16})


def test_nested_text_config_and_vision_tower() -> None:
    vision = {"model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
              "num_hidden_layers": 2, "image_size": 56, "patch_size": 14}  # fmt: skip
    spec = from_config(
        {"model_type": "gemma3", "text_config": LLAMA | {"model_type": "gemma3_text"}, "vision_config": vision},
        name="vl",
    )
    assert spec.towers["vision"].num_layers == 2
    assert spec.total_parameters > from_config(LLAMA | {"model_type": "gemma3_text"}, name="text").total_parameters


def test_local_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--my-org--my-model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spec = load_model("my-org/my-model")
    assert spec.name == "my-org/my-model"
    with pytest.raises(UnknownNameError, match="no model is called"):
        load_model("my-org/another-model")


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA))
    first = load_model(path)
    assert load_model(path) is first
    path.write_text(json.dumps(LLAMA | {"num_hidden_layers": 12}))
    assert load_model(path).num_layers == 12


def test_newer_names_of_layer_kinds() -> None:
    """transformers 5 saves kinds of layers under common names."""
    hybrid = {
        "model_type": "nemotron_h",
        "mamba_num_heads": 8,
        "mamba_head_dim": 64,
        "ssm_state_size": 16,
        "n_groups": 2,
    }
    old = build(LLAMA | hybrid, hybrid_override_pattern="M-M*")
    new = build(LLAMA | hybrid, layers_block_type=["linear_attention", "mlp", "linear_attention", "full_attention"])
    assert old.total_parameters == new.total_parameters


def test_window_no_sequence_outgrows_is_no_window() -> None:
    windowed = build(LLAMA, model_type="phi3", sliding_window=262144, max_position_embeddings=131072)
    assert [mixer.window for mixer in windowed.mixers.values()] == [None]


def test_phi_3_5_vision_names_its_tower() -> None:
    """CLIP ViT-L/14-336, two linear layers and two separators of 4,096 beside Phi-3.5: the count of the checkpoint, as recalled."""
    spec = library.load_bundled_model("microsoft/Phi-3.5-vision-instruct")
    assert spec.total_parameters == 4_146_621_440


@pytest.mark.parametrize("kind", ["clip_vision_model", "siglip_vision_model"])
def test_vision_tower_alone_is_an_encoder(kind: str) -> None:
    """CLIP ViT-B/32 has 87,456,000 parameters, SigLIP B/16 at 224 has 92,884,224 (transformers 5, without weights)."""
    shape = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "image_size": 224,
    }
    spec = from_config(
        {"model_type": kind, **shape, "patch_size": 32 if kind.startswith("clip") else 16}, name="vision"
    )
    assert spec.task == "encode"
    assert spec.total_parameters == {"clip_vision_model": 87_456_000, "siglip_vision_model": 92_884_224}[kind]


def test_yaml_paths_and_folders(tmp_path: Path) -> None:
    source = library.find("models", "gpt2")
    copy = tmp_path / "mine.yaml"
    copy.write_text(source.read_text())
    assert load_model(copy).total_parameters == 124_439_808
    with pytest.raises(SpecError, match=r"config\.json: no such file"):
        load_model(tmp_path)


BAD_CONFIGS: list[tuple[dict[str, Any], str]] = [
    (LLAMA | {"hidden_size": None}, "hidden_size: is missing"),
    (LLAMA | {"hidden_size": 0}, "hidden_size: must be between"),
    (LLAMA | {"hidden_size": -256}, "hidden_size: must be between"),
    (LLAMA | {"hidden_size": "256"}, "must be a whole number, got '256'"),
    (LLAMA | {"hidden_size": True}, "hidden_size: must be a whole number, got True"),
    (LLAMA | {"hidden_size": float("nan")}, "hidden_size: must be a whole number, got nan"),
    (LLAMA | {"hidden_size": float("inf")}, "hidden_size: must be a whole number"),
    (LLAMA | {"hidden_size": 256.5}, "got 256.5"),
    (LLAMA | {"hidden_size": 10**40}, "hidden_size: must be between"),
    (LLAMA | {"hidden_size": [256]}, "must be a whole number"),
    (LLAMA | {"hidden_size": 250}, "250 is not a multiple of num_attention_heads 8"),
    (LLAMA | {"num_key_value_heads": 3}, "num_attention_heads 8 is not a multiple of 3"),
    (LLAMA | {"num_hidden_layers": 10**9}, "num_hidden_layers: must be between 1 and 10,000"),
    (LLAMA | {"num_hidden_layers": None}, "num_hidden_layers: is missing"),
    (LLAMA | {"vocab_size": None}, "vocab_size: is missing"),
    (LLAMA | {"vocab_size": 10**12}, "vocab_size"),
    (LLAMA | {"intermediate_size": None}, "intermediate_size: is missing"),
    (LLAMA | {"num_attention_heads": 0}, "num_attention_heads: must be between"),
    (LLAMA | {"attention_bias": "yes"}, "attention_bias: must be true"),
    (LLAMA | {"tie_word_embeddings": 3}, "tie_word_embeddings: must be true or false"),
    (LLAMA | {"model_type": 7}, "model_type: must be text"),
    (LLAMA | {"architectures": "Llama"}, "architectures: must be a list"),
    (LLAMA | {"text_config": [1]}, "text_config: must be an object"),
    (LLAMA | {"layer_types": ["full_attention"]}, "has 1 entries for 4 layers"),
    (MOE | {"num_experts_per_tok": 9}, "9 is more than the 8 experts"),
    (MOE | {"mlp_only_layers": ["a"]}, "must be a list of whole numbers"),
    (MLA | {"kv_lora_rank": None}, "kv_lora_rank: is missing"),
    (MLA | {"v_head_dim": 0}, "v_head_dim: must be between"),
    (LLAMA | {"model_type": "nemotron_h", "hybrid_override_pattern": "-X*-"}, "kind of layer that is not known: 'X'"),
    (
        LLAMA | {"vision_config": {"hidden_size": 100, "num_attention_heads": 7, "num_hidden_layers": 2}},
        "7 does not divide the hidden size",
    ),
    (LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 5}}, "5-bit integer weights"),
    (LLAMA | {"quantization_config": {"quant_method": "compressed-tensors"}}, "config_groups: names no group"),
    (LLAMA | {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP5"}}, "quant_algo 'FP5'"),
    (LLAMA | {"quantization_config": "fp8"}, "quantization_config: must be an object"),
    (
        {"model_type": "new_bert", "architectures": ["NewBertForMaskedLM"]} | {"hidden_size": 8},
        "encoder that is not modelled",
    ),
    ({}, "is missing"),
]


@pytest.mark.parametrize(("config", "said"), BAD_CONFIGS, ids=[said[:40] for _, said in BAD_CONFIGS])
def test_bad_configs_are_named_by_field_and_file(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InferSimError) as caught:
        from_config(config, name="bad", file="some/config.json")
    assert said in str(caught.value)
    if isinstance(caught.value, SpecError):
        assert "some/config.json" in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [(b'{"a": ', "not valid JSON"), (b"[1, 2]", "should be an object"), (b"\xff\xfe", "UTF-8"),
                                               (b"[" * 100_000, "nested too deeply"), (b"", "not valid JSON")])  # fmt: skip
def test_malformed_files(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=said):
        load_model(path)


def test_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(SpecError, match="too large for a config"):
        load_model(path)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=8),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip


@given(st.sampled_from([config for _, config, _ in FAMILIES]), st.data())
def test_any_change_of_a_config_gives_a_model_or_a_kind_error(config: dict[str, Any], data: st.DataObject) -> None:
    changed = dict(config)
    for _ in range(data.draw(st.integers(1, 3))):
        field = data.draw(
            st.sampled_from([*config, "quantization_config", "layer_types", "vision_config", "text_config"])
        )
        if data.draw(st.booleans()):
            changed.pop(field, None)
        else:
            changed[field] = data.draw(JUNK)
    with contextlib.suppress(InferSimError):
        assert from_config(changed, name="fuzz").total_parameters > 0
