"""Every shipped model: loads, agrees with what its authors publish and with an independent count."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from infersim.predict.memory import cache_rates, weight_bytes
from infersim.specs import library
from infersim.specs.deployment import Parallelism
from infersim.specs.library import load_bundled_model, names
from infersim.specs.model import MixtureOfExperts, ModelSpec
from infersim.specs.precision import SCHEMES

MODELS = names("models")
COUNTED = {
    row["model"]: int(row["parameters"])
    for row in csv.DictReader((Path(__file__).parent / "data" / "parameter_counts.csv").read_text().splitlines())
}
"""Parameters that transformers 5.23 counts when it builds the model of the same config without weights."""

FAMILIES = ["LlamaForCausalLM", "MixtralForCausalLM", "DeepseekV3ForCausalLM", "Gemma3ForConditionalGeneration", "GptOssForCausalLM",
            "Qwen3NextForCausalLM", "NemotronHForCausalLM", "JambaForCausalLM", "XLMRobertaForSequenceClassification", "BertModel",
            "Qwen3VLMoeForConditionalGeneration", "BartForConditionalGeneration", "GlmMoeDsaForCausalLM"]  # fmt: skip


def test_there_are_enough_of_every_kind() -> None:
    assert len(MODELS) >= 80
    specs = [load_bundled_model(name) for name in MODELS]
    assert set(FAMILIES) <= {spec.architecture for spec in specs}
    kinds = {mixer.kind for spec in specs for mixer in spec.mixers.values()}
    assert kinds >= {"attention", "mla", "mamba", "mamba2", "gated_delta_net", "kda", "compressed"}
    assert {"generate", "embed", "rerank"} <= {spec.task for spec in specs}
    assert any(spec.towers for spec in specs)
    assert any(mixer.kind == "attention" and mixer.window for spec in specs for mixer in spec.mixers.values())


@pytest.mark.parametrize("name", MODELS)
def test_model_agrees_with_what_is_published(name: str) -> None:
    spec = load_bundled_model(name)
    assert spec.name == name
    assert spec.sources
    assert 0 < spec.active_parameters <= spec.total_parameters
    published = spec.published
    if published is None:
        return
    for derived, stated in ((spec.total_parameters, published.total_parameters),
                            (spec.active_parameters_as_published(), published.active_parameters)):  # fmt: skip
        if stated is not None and abs(derived / stated - 1) > 0.01:
            assert published.note, f"{name}: derived {derived:,}, published {stated:,.0f}, and no reason is given"
            assert abs(derived / stated - 1) < 0.07


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_parameters_counted_by_transformers(name: str) -> None:
    """Exactly equal; score corrections of routers are weights here and buffers there."""
    spec = load_bundled_model(name)
    assert spec.total_parameters - _corrections(spec) in (COUNTED[name], COUNTED[name] - _corrections(spec))


def _corrections(spec: ModelSpec) -> int:
    blocks = [(layer.count, spec.feed_forwards[layer.feed_forward]) for layer in spec.layers if layer.feed_forward]
    return sum(count * b.num_experts for count, b in blocks if isinstance(b, MixtureOfExperts) and b.router_correction)


def test_enough_models_are_counted_independently() -> None:
    assert len(COUNTED) >= 150


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_cache_shard(name: str) -> None:
    spec = load_bundled_model(name)
    one, two = Parallelism(), Parallelism(tensor=2)
    whole = weight_bytes(spec, one, SCHEMES["bf16"])
    assert whole == pytest.approx(2 * spec.total_parameters, rel=1e-9)
    assert whole / 2 * (1 - 1e-9) <= weight_bytes(spec, two, SCHEMES["bf16"]) <= whole
    assert weight_bytes(spec, one, spec.precision) <= 2.01 * spec.total_parameters
    rates = cache_rates(spec, one, SCHEMES["bf16"])
    if spec.task == "generate":
        assert float(rates.bytes(1000)) > 0


def test_files_are_readable() -> None:
    for name, path in library.files("models").items():
        text = path.read_text(encoding="utf-8")
        assert f"name: {name}" in text
        assert len(text) < 6000


@pytest.mark.parametrize(("typed", "name"), [("gpt2", "openai-community/gpt2"), ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
                                             ("META-LLAMA/META-LLAMA-3.1-70B", "meta-llama/Llama-3.1-70B")])  # fmt: skip
def test_names_people_type(typed: str, name: str) -> None:
    assert load_bundled_model(typed).name == name
