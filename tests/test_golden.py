"""Numbers published elsewhere, or plain arithmetic on published shapes, that the formulas must reproduce."""

from __future__ import annotations

import pytest

from infersim import decode, estimate, load_model, prefill
from infersim.machine.machine import build_machine
from infersim.machine.network import ring_all_reduce_time
from infersim.ops.attention import Attention, attention_flops, visible_pairs
from infersim.ops.matmul import Gemm, GroupedGemm
from infersim.ops.transformer import Batch, step_ops
from infersim.predict.memory import cache_rates, memory_report, weight_bytes
from infersim.predict.step import StepTime, predict_step
from infersim.routing import distinct_experts
from infersim.specs.deployment import EngineKnobs, Parallelism
from infersim.specs.library import default_system, load_accelerator, load_engine
from infersim.specs.model import Attention as AttentionSpec
from infersim.specs.model import Layer, Mlp, ModelSpec
from infersim.specs.precision import FORMATS, SCHEMES

ONE = Parallelism()
LLAMA_8B, LLAMA_70B = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"


def bound_step(model: str, gpu: str, batch: Batch, *, tensor: int = 1, scheme: str = "bf16") -> StepTime:
    accelerator = load_accelerator(gpu)
    machine = build_machine(accelerator, default_system(accelerator.name), load_engine("vllm"), "bound", tensor)
    return predict_step(load_model(model), Parallelism(tensor=tensor), SCHEMES[scheme], batch, machine)


def linear_and_attention(model: str, batch: Batch, scheme: str = "bf16") -> tuple[float, float]:
    """(FLOP, bytes) of matrix products and attention of a step."""
    ops = [
        op
        for op in step_ops(load_model(model), ONE, SCHEMES[scheme], batch)
        if isinstance(op, (Gemm, GroupedGemm, Attention))
    ]
    return sum(float(op.count * op.flops) for op in ops), sum(float(op.count * op.bytes) for op in ops)


def test_nanogpt_transformer_sizing_parameters() -> None:
    """nanoGPT transformer_sizing.ipynb: GPT-2 124M without biases has 124,337,664 parameters."""
    nanogpt = ModelSpec(
        name="nanogpt-124m", hidden_size=768, vocab_size=50257, tie_word_embeddings=True,
        mixers={"attention": AttentionSpec(num_heads=12, num_kv_heads=12, head_dim=64)},
        feed_forwards={"mlp": Mlp(intermediate_size=3072, gated=False)},
        layers=(Layer(mixer="attention", feed_forward="mlp", count=12),),
        embedding_tables={"positions": {"rows": 1024, "width": 768}},  # type: ignore[dict-item]
    )  # fmt: skip
    assert nanogpt.total_parameters == 124_337_664


def test_gpt2_parameters_with_biases() -> None:
    """Hugging Face's gpt2 checkpoint: 124,439,808 parameters."""
    assert load_model("gpt2").total_parameters == 124_439_808


@pytest.mark.parametrize(("model", "total"), [(LLAMA_8B, 8_030_261_248), (LLAMA_70B, 70_553_706_496)])
def test_llama_3_parameters(model: str, total: int) -> None:
    """Llama 3.1 model cards."""
    assert load_model(model).total_parameters == total


SCALING_BOOK = [(1, 4.98), (8, 12.13), (16, 20.30), (32, 36.65), (64, 69.33), (240, 249.09)]


@pytest.mark.parametrize(("batch", "milliseconds"), SCALING_BOOK)
def test_scaling_book_llama_2_13b_on_8_tpu_v5e(batch: int, milliseconds: float) -> None:
    """jax-ml/scaling-book, inference chapter: step times of LLaMA-2-13B on 8 x TPU v5e at a context of 8,192."""
    step = bound_step("meta-llama/Llama-2-13b-hf", "TPU-v5e", decode(float(batch), 8191.0), tensor=8)
    assert float(step.seconds) * 1e3 == pytest.approx(milliseconds, rel=0.01)


KV_BYTES_PER_TOKEN = [
    ("meta-llama/Llama-2-7b-hf", 524_288), (LLAMA_8B, 131_072), ("meta-llama/Meta-Llama-3-70B", 327_680),
    ("Qwen/Qwen2.5-7B-Instruct", 57_344), ("deepseek-ai/DeepSeek-V3", 70_272), ("openai/gpt-oss-20b", 24_576),
    ("google/gemma-3-27b-it", 81_920), ("Qwen/Qwen3-Next-80B-A3B-Instruct", 24_576),
]  # fmt: skip


@pytest.mark.parametrize(("model", "expected"), KV_BYTES_PER_TOKEN)
def test_kv_bytes_per_token_in_bf16(model: str, expected: int) -> None:
    """2 L K h b for GQA, L (d_c + d_rope) b for MLA, growing layers only for windows (2305.13245, 2405.04434)."""
    assert cache_rates(load_model(model), ONE, SCHEMES["bf16"]).per_token == expected


def test_window_and_state_caches_stop_growing() -> None:
    """gpt-oss-20b: 3,145,728 B of windows; Gemma-3-27B: 436,207,616 B; Qwen3-Next: 75.5 MB of fp32 state + 1.77 MB conv."""
    windows = [
        cache_rates(load_model(name), ONE, SCHEMES["bf16"]).windows
        for name in ("openai/gpt-oss-20b", "google/gemma-3-27b-it")
    ]
    assert [sum(rate * window for rate, window in found) for found in windows] == [3_145_728, 436_207_616]
    state = cache_rates(load_model("Qwen/Qwen3-Next-80B-A3B-Instruct"), ONE, SCHEMES["bf16"]).per_sequence
    assert state == pytest.approx(75.5e6 + 1.77e6, rel=1e-3)


def test_kv_heads_are_replicated_beyond_their_number() -> None:
    """8 KV heads on 16 ranks: each rank keeps one whole head, so 16 ranks hold twice the cache."""
    model = load_model("meta-llama/Llama-3.1-70B")
    assert cache_rates(model, Parallelism(tensor=16), SCHEMES["bf16"]).per_token == 327_680 / 8
    assert cache_rates(model, Parallelism(tensor=8), SCHEMES["bf16"]).per_token == 327_680 / 8


@pytest.mark.parametrize(("model", "expected"), [(LLAMA_8B, 2.9688e13), (LLAMA_70B, 2.8588e14)])
def test_prefill_flops_of_2048_tokens(model: str, expected: float) -> None:
    """2 P S + causal attention + LM head of the last token."""
    flops, _ = linear_and_attention(model, prefill(2048.0))
    assert flops == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("gpu", "milliseconds"), [("H100-SXM", 4.561), ("H200-SXM", 3.183), ("B200-SXM", 1.910)])
def test_decode_bound_of_llama_8b_at_2048_tokens(gpu: str, milliseconds: float) -> None:
    """(15.009 GB of weights + 0.268 GB of KV) / bandwidth: 4.56, 3.18, 1.91 ms at 3.35, 4.8 and 8 TB/s."""
    _, moved = linear_and_attention(LLAMA_8B, decode(1.0, 2047.0))
    nominal = {"H100-SXM": 3.35e12, "H200-SXM": 4.8e12, "B200-SXM": 8e12}[gpu]
    assert moved / nominal * 1e3 == pytest.approx(milliseconds, rel=2e-3)
    step = bound_step(LLAMA_8B, gpu, decode(1.0, 2047.0))
    assert float(step.seconds) * load_accelerator(gpu).memory.bandwidth / nominal * 1e3 == pytest.approx(
        milliseconds, rel=5e-3
    )


@pytest.mark.parametrize(
    ("layers_per_head", "crossover"), [((218_103_808, 32 * 128), 53_248), ((855_638_016, 64 * 128), 104_448)]
)
def test_attention_overtakes_linear_layers(layers_per_head: tuple[int, int], crossover: int) -> None:
    """Causal prefill attention equals the linear FLOP at S = P_layer / (H h): 53,248 (8B) and 104,448 tokens (70B)."""
    parameters, width = layers_per_head
    pairs = float(visible_pairs(crossover, 0))
    attention = attention_flops(pairs, heads=width / 128, key_dim=128, value_dim=128)
    assert attention == pytest.approx(2 * parameters * crossover, rel=1e-3)


def test_million_token_prefill_of_an_8b_model() -> None:
    """MInference (NeurIPS 2024): 1M tokens on an 8B model are 2.761e17 FLOP, 885 s at an A100's peak."""
    flops, _ = linear_and_attention("meta-llama/Llama-3.1-8B", prefill(1e6))
    assert flops == pytest.approx(2.761e17, rel=1e-3)
    assert flops / 312e12 == pytest.approx(885, rel=2e-3)


@pytest.mark.parametrize(
    ("gpu", "ridge"), [("A100-80GB-SXM", 153), ("H100-SXM", 295), ("H200-SXM", 206), ("B200-SXM", 281)]
)
def test_ridge_points(gpu: str, ridge: float) -> None:
    accelerator = load_accelerator(gpu)
    assert accelerator.peak_flops["bf16"] / accelerator.memory.bandwidth == pytest.approx(ridge, rel=0.045)


def test_mla_decode_intensity() -> None:
    """DeepSeek-V3 absorbed decode: 2 H (576 + 512) FLOP per 1,152 B: 241.8 FLOP/B, 30.2 per rank of eight."""
    for heads, expected in ((128, 241.8), (16, 30.2)):
        op = Attention("mla", 1, 1.0, 1.0, 1e7, heads, heads, 192, 128, latent=(512, 64, 128, 128))
        assert float(op.flops / op.bytes) == pytest.approx(expected, rel=2e-3)


def test_mla_prefill_is_expanded() -> None:
    """Expanded 2 H (192 + 128) per pair; the absorbed form would be 3.4 times the FLOP."""
    op = Attention("mla", 1, 1.0, 4096.0, 0.0, 128, 128, 192, 128, latent=(512, 64, 128, 128))
    assert float(op.flops) == 2 * 128 * 320 * 4096 * 4097 / 2
    assert pytest.approx(3.4) == (576 + 512) / (192 + 128)


@pytest.mark.parametrize(("experts", "k", "tokens", "expected"), [
    (8, 2, 4, 5.47), (8, 2, 8, 7.20), (256, 8, 16, 101.96), (256, 8, 5, 37.577), (128, 8, 8, 51.62), (128, 4, 8, 28.71), (32, 4, 8, 21.0),
])  # fmt: skip
def test_distinct_experts(experts: int, k: int, tokens: int, expected: float) -> None:
    """E (1 - (1 - k/E)^T)."""
    assert float(distinct_experts(tokens, experts, k)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("name", "bits"), [
    ("fp8", 8), ("fp8_block", 8.002), ("int4", 4.125), ("int4_zp", 4.15625), ("nvfp4", 4.5), ("mxfp4", 4.25),
    ("q4_0", 4.5), ("q4_k", 4.5), ("q6_k", 6.5625), ("q8_0", 8.5),
])  # fmt: skip
def test_bits_per_weight_with_scales(name: str, bits: float) -> None:
    assert FORMATS[name].bits == pytest.approx(bits, abs=5e-4)


def test_quantised_llama_8b_sizes() -> None:
    """Runtime fp8 with 16-bit embeddings: 8.46 GiB (vLLM reports 8.49); W4A16: 5.70 GB, not a quarter of 16."""
    model = load_model(LLAMA_8B)
    assert weight_bytes(model, ONE, SCHEMES["fp8"]) / 2**30 == pytest.approx(8.46, rel=2e-3)
    assert weight_bytes(model, ONE, SCHEMES["w4a16"]) / 1e9 == pytest.approx(5.70, rel=2e-3)


def test_decode_byte_ratios_of_quantised_weights() -> None:
    """Llama-3.1-8B, weights only: W4A16 moves 3.228 times and fp8 1.869 times fewer bytes than bf16."""
    model = load_model(LLAMA_8B)
    table = 2.0 * model.vocab_size * model.hidden_size
    moved = {name: weight_bytes(model, ONE, SCHEMES[name]) - table for name in ("bf16", "fp8", "w4a16")}
    assert moved["bf16"] / moved["w4a16"] == pytest.approx(3.228, rel=1e-3)
    assert moved["bf16"] / moved["fp8"] == pytest.approx(1.869, rel=1e-3)


def test_llama_2_70b_q4_k_m_file_size() -> None:
    """llama.cpp: 70B Q4_K_M is 38.54 GiB at 4.80 bits per weight; the mix is modelled at 4.83 for the linear layers."""
    model = load_model("meta-llama/Llama-2-70b-hf")
    assert model.total_parameters == 68_976_648_192
    assert 4.83 * model.total_parameters / 8 / 2**30 == pytest.approx(38.54, rel=0.01)


def test_kv_pool_of_llama_8b_on_an_h100_under_vllm_0_19() -> None:
    """llm-d-planner's report: at 0.95 of 79.19 GiB, less weights 14.99, activations 1.89 and runtime, 476,016 tokens fit."""
    accelerator = load_accelerator("H100-SXM")
    machine = build_machine(accelerator, None, load_engine("vllm"), "bound", 1)
    report = memory_report(
        load_model(LLAMA_8B), ONE, SCHEMES["bf16"], machine, EngineKnobs(gpu_memory_utilization=0.95)
    )
    assert report.weights / 2**30 == pytest.approx(14.99, rel=3e-3)
    assert report.activations / 2**30 == pytest.approx(1.89, rel=0.03)
    assert report.kv_pool / 2**30 == pytest.approx(58.11, rel=0.01)
    assert report.kv_tokens == pytest.approx(476_016, rel=0.01)


@pytest.mark.parametrize(("model", "gibibytes", "tolerance"), [
    ("Qwen/Qwen2.5-7B-Instruct", 2.21, 0.1), ("microsoft/phi-4", 1.52, 0.1), ("Qwen/Qwen3-8B", 2.21, 0.1),
    ("Qwen/Qwen3-30B-A3B", 2.68, 0.1), ("openai/gpt-oss-20b", 2.87, 0.2), ("deepseek-ai/DeepSeek-V2-Lite", 1.93, 0.1),
])  # fmt: skip
def test_peak_activations_under_vllm_0_19(model: str, gibibytes: float, tolerance: float) -> None:
    """llm-d-planner's vLLM 0.19 accuracy report, H100."""
    machine = build_machine(load_accelerator("H100-SXM"), None, load_engine("vllm"), "bound", 1)
    spec = load_model(model)
    assert memory_report(spec, ONE, spec.precision, machine).activations / 2**30 == pytest.approx(
        gibibytes, rel=tolerance
    )


def test_ring_all_reduce_of_half_a_gibibyte() -> None:
    """512 MiB on eight devices at 450 GB/s: 2.088 ms (2.11 ms measured with NVLS on 8 x H100)."""
    assert ring_all_reduce_time(2**29, 8, 450e9) * 1e3 == pytest.approx(2.088, rel=1e-3)


def test_full_length_requests_in_the_pool() -> None:
    """58.11 GiB of 131,072 B/token hold 58.1 requests of 8,192 tokens."""
    assert pytest.approx(58.1, rel=1e-3) == 58.11 * 2**30 / 131_072 / 8192
    answer = estimate(LLAMA_8B, "H100-SXM", input_tokens=7936, output_tokens=256, mode="bound")
    assert float(answer.memory.max_sequences(8192)) == answer.memory.kv_tokens // 8192


def test_batch_where_decode_turns_compute_bound() -> None:
    """Linear layers in bf16 or fp8 meet an H100's ridge at a batch of 295, with 4-bit weights at about 74."""
    h100 = load_accelerator("H100-SXM")
    gemm = {name: SCHEMES[name].of("mlp") for name in ("bf16", "fp8", "w4a16")}
    for name, unit, expected in (("bf16", "bf16", 295), ("fp8", "fp8", 295), ("w4a16", "bf16", 76)):
        weights, _ = gemm[name]
        batch = h100.peak_flops[unit] / h100.memory.bandwidth * weights.bytes / 2  # type: ignore[index]
        assert batch == pytest.approx(expected, rel=0.01)


def test_decode_attention_intensity_does_not_depend_on_the_batch() -> None:
    """2 (H/K) / b FLOP per byte: 1 for MHA, 4 for GQA 4:1, whatever the batch."""
    for kv_heads, expected in ((32, 1.0), (8, 4.0)):
        for batch in (1.0, 64.0):
            op = Attention("decode", 1, batch, 1.0, 1e6, 32, kv_heads, 128, 128)
            assert float(op.flops / op.bytes) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("model", "tokens"), [(LLAMA_8B, 114_512), (LLAMA_70B, 424_205)])
def test_kv_cache_reads_equal_weight_reads(model: str, tokens: int) -> None:
    """bf16 decode: as many bytes of KV as of weights (embedding table not read) at this many tokens in the batch."""
    spec = load_model(model)
    weights = weight_bytes(spec, ONE, SCHEMES["bf16"]) - 2 * spec.embedding_parameters
    assert weights / cache_rates(spec, ONE, SCHEMES["bf16"]).per_token == pytest.approx(tokens, rel=1e-4)


def test_doubling_a_long_prompt() -> None:
    """8B: 131,072 tokens are 1.83e15 linear and 4.50e15 attention FLOP; from 64k to 128k work grows 3.10 times."""
    whole, half = (linear_and_attention(LLAMA_8B, prefill(float(n)))[0] for n in (131_072, 65_536))
    assert whole == pytest.approx(1.83e15 + 4.50e15, rel=2e-3)
    assert whole / half == pytest.approx(3.10, rel=2e-3)


def test_expert_dispatch_bytes_of_deepseek_v3() -> None:
    """128 tokens, 8 experts, width 7168: 7.34 MB dispatched in fp8, 14.7 MB combined in bf16, when all cross ranks."""
    parallelism = Parallelism(attention_data=64, expert=64)
    ops = step_ops(load_model("deepseek-ai/DeepSeek-V3"), parallelism, SCHEMES["fp8"], decode(128.0 * 64, 1000.0))
    sent = {op.name: float(op.link_bytes) for op in ops if op.name.startswith("expert ")}
    remote = 1 - 1 / 64
    assert sent["expert dispatch"] == pytest.approx(7.34e6 * remote, rel=1e-3)
    assert sent["expert combine"] == pytest.approx(14.68e6 * remote, rel=1e-3)


def test_ring_attention_overlap() -> None:
    """8B on H100: compute hides the exchange from 549 tokens a rank over NVLink, 4,945 over 50 GB/s (2310.01889)."""
    for bandwidth, expected in ((450e9, 549), (50e9, 4_945)):
        tokens = 989e12 * 8 * 2 / (2 * 32 * bandwidth)
        exchanged, computed = 2 * tokens * 8 * 128 * 2 / bandwidth, 4 * tokens**2 * 32 * 128 / 989e12
        assert tokens == pytest.approx(expected, rel=1e-3)
        assert exchanged == pytest.approx(computed, rel=1e-9)


def test_tensor_parallel_all_reduces() -> None:
    """A dense layer has two all-reduces of B d b bytes: Llama-3.1-70B, batch 64: 160 of 1.05 MB, and one for the embedding."""
    ops = step_ops(load_model(LLAMA_70B), Parallelism(tensor=8), SCHEMES["bf16"], decode(64.0, 1000.0))
    reduces = [op for op in ops if getattr(op, "kind", "") == "all_reduce"]
    assert sum(op.count for op in reduces) == 161
    assert {float(op.payload) for op in reduces} == {64 * 8192 * 2}  # type: ignore[attr-defined]


def test_pipeline_sends_and_stages() -> None:
    """Four stages: three sends of B d b bytes, a quarter of the layers on each, no head and table together."""
    parallelism = Parallelism(pipeline=4)
    model = load_model(LLAMA_70B)
    sends = [
        op for op in step_ops(model, parallelism, SCHEMES["bf16"], decode(16.0, 1000.0)) if op.name == "pipeline send"
    ]
    assert [op.count for op in sends] == [3.0]
    assert float(sends[0].payload) == 16 * 8192 * 2  # type: ignore[attr-defined]
    stage = 2 * (model.layer_weights() / 4 + model.vocab_size * model.hidden_size + model.hidden_size)
    assert weight_bytes(model, parallelism, SCHEMES["bf16"]) == pytest.approx(stage, rel=1e-6)


def test_attention_data_parallel_does_not_repeat_the_latent_cache() -> None:
    """DeepSeek-V3 on eight ranks: tensor parallelism holds every latent eight times, attention data parallelism once."""
    model, kwargs = "deepseek-ai/DeepSeek-V3", {"input_tokens": 4000, "output_tokens": 1000, "mode": "bound"}
    tensor = estimate(model, "H200-SXM", tensor_parallel=8, **kwargs)  # type: ignore[arg-type]
    data = estimate(model, "H200-SXM", attention_data_parallel=8, expert_parallel=8, **kwargs)  # type: ignore[arg-type]
    assert (
        data.memory.kv_tokens > 4 * tensor.memory.kv_tokens
    )  # eight pools, less the attention weights that each rank now holds whole


def test_speculative_verification_touches_more_experts() -> None:
    """One sequence with four drafts on 256 experts of which 8 are chosen: 37.6 experts instead of 8."""
    assert float(distinct_experts(5, 256, 8)) == pytest.approx(37.6, rel=1e-3)
