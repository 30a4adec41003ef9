"""Every shipped model: loads, agrees with what its authors publish and with an independent count."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from infersim.machine.machine import build_machine
from infersim.ops.transformer import Group
from infersim.predict.memory import cache_rates, weight_bytes
from infersim.predict.step import predict_step
from infersim.specs import library
from infersim.specs.deployment import Parallelism
from infersim.specs.library import load_accelerator, load_bundled_model, load_engine, names
from infersim.specs.precision import SCHEMES, precision

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
    """Exactly equal, the routers' score corrections (buffers there, saved with the weights) included."""
    assert load_bundled_model(name).total_parameters == COUNTED[name]


def test_enough_models_are_counted_independently() -> None:
    assert len(COUNTED) >= 200


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


NAMES = [
    ("gpt2", "openai-community/gpt2"), ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"), ("Llama-2-7b-chat-hf", "meta-llama/Llama-2-7b-hf"),
    ("META-LLAMA/META-LLAMA-3.1-70B", "meta-llama/Llama-3.1-70B"), ("meta-llama/Llama-3-70B", "meta-llama/Meta-Llama-3-70B"),
    ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"), ("Qwen2.5-72B", "Qwen/Qwen2.5-72B-Instruct"), ("gemma-3-27b", "google/gemma-3-27b-it"),
    ("mistralai/Mistral-7B", "mistralai/Mistral-7B-v0.1"), ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-v0.1"),
    ("Kimi-K2", "moonshotai/Kimi-K2-Instruct"), ("Qwen3-Next-80B-A3B", "Qwen/Qwen3-Next-80B-A3B-Instruct"),
    ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"), ("bge-m3", "BAAI/bge-m3"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "name"), NAMES)
def test_names_people_type(typed: str, name: str) -> None:
    assert load_bundled_model(typed).name == name


def test_shapes_of_the_smallest_embedder() -> None:
    spec = load_bundled_model("sentence-transformers/all-MiniLM-L6-v2")
    assert (spec.num_layers, spec.hidden_size, spec.task) == (6, 384, "embed")


CACHES = [
    ("meta-llama/Meta-Llama-3-70B", 2.0, 327_680, 0), ("deepseek-ai/DeepSeek-V3", 2.0, 70_272, 0),
    ("openai/gpt-oss-20b", 2.0, 24_576, 3_145_728), ("google/gemma-3-27b-it", 2.0, 81_920, 436_207_616),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", 2.0, 24_576, 0), ("Qwen/Qwen2.5-7B-Instruct", 2.0, 57_344, 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "element", "growing", "fixed"), CACHES)
def test_cache_shapes(name: str, element: float, growing: int, fixed: int) -> None:
    """Bytes per token that keep growing, and bytes at most in windows, straight from the cache shapes in bf16."""
    spec = load_bundled_model(name)
    shapes = [(layer.count, mixer.cache()) for layer, mixers, _ in spec.blocks() for mixer in mixers]
    assert sum(n * c.elements / c.stride * element for n, c in shapes if c.window is None) == growing
    assert sum(n * c.elements * element * c.window for n, c in shapes if c.window) == fixed


def test_recurrent_state_of_qwen3_next() -> None:
    """36 layers: 32 states of 128 x 128 in fp32 (75.5 MB) and three steps of 8,192 convolved channels in bf16 (1.77 MB)."""
    spec = load_bundled_model("Qwen/Qwen3-Next-80B-A3B-Instruct")
    shapes = [(layer.count, mixer.cache()) for layer, mixers, _ in spec.blocks() for mixer in mixers]
    assert sum(n * c.state * c.state_bytes for n, c in shapes) == 36 * (32 * 128 * 128 * 4 + 3 * 8192 * 2)


def test_hashed_memories_are_not_active() -> None:
    spec = load_bundled_model("deepseek-ai/DeepSeek-V4.1-Flash")
    assert spec.total_parameters > 700e9
    assert spec.active_parameters < 20e9


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_priced_on_kernel_models(name: str) -> None:
    """A mixed step and a decode step on a calibrated device take a finite time, every op of them."""
    spec = load_bundled_model(name)
    machine = build_machine(load_accelerator("H100-SXM"), None, load_engine("vllm"))
    source = 300.0 if any(tower.kind == "encoder" for tower in spec.towers.values()) else 0.0
    prompt, running = Group(1.0, 200.0, encode=source, source=source), Group(4.0, 1.0, 200.0, source=source)
    for batch in ((prompt, running), (running,)):
        step = predict_step(spec, Parallelism(), precision("bf16"), batch, machine)
        assert np.isfinite(step.op_seconds).all()
        assert step.seconds > 0
