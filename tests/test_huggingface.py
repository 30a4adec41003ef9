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
    ("lfm2", LLAMA | {"model_type": "lfm2", "layer_types": ["conv", "full_attention"] * 2}, {"attention", "short_conv"}),
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
    assert excluded_roles(["model.layers.3.mlp.gate"]) == {"router"}
    assert excluded_roles(["*self_attn*"]) == {"attention"}
    assert "mlp" not in excluded_roles(["model.layers.*.mlp.gate"])


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
