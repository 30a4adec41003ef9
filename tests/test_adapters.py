"""Quantisation and adapters: values that can be checked by hand, laws, and what answers say."""

from __future__ import annotations

import json
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim import estimate, load_model
from infersim.adapters import many, quantisation
from infersim.adapters.accuracy import accuracy_of, published_accuracy
from infersim.adapters.lora import (
    Adapter,
    adapter_bytes,
    adapter_ops,
    adapter_parameters,
    distinct_adapters,
    popularity,
    recent_hit_rate,
    resident_hit_rate,
    swap_seconds,
)
from infersim.adapters.quantisation import amdahl_bound, byte_bound, decode_weight_bytes
from infersim.adapters.training import checkpointed_bytes, training_bytes, training_cost, training_flops
from infersim.errors import DoesNotFitError, SpecError, UnsupportedError
from infersim.predict.memory import weight_bytes
from infersim.specs.deployment import Parallelism
from infersim.specs.precision import FORMATS, SCHEMES, precision, scaled

LLAMA = load_model("meta-llama/Llama-3.1-8B")
BASE = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=2048, output_tokens=256, concurrency=16)

# -- number formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("int4", 4.125),
        ("int4_zp", 4.15625),
        ("nvfp4", 4.5),
        ("mxfp4", 4.25),
        ("q4_0", 4.5),
        ("q4_k", 4.5),
        ("q6_k", 6.5625),
        ("q8_0", 8.5),
    ],
)
def test_bits_with_scales_of_gguf_ocp_mx_nvfp4_and_gptq(name: str, bits: float) -> None:
    """GPTQ (2210.17323) and AWQ (2306.00978) at group 128, OCP MX 1.0 (2310.10537), block sizes of llama.cpp's ggml-common.h."""
    assert FORMATS[name].bits == bits


def test_kivi_takes_3_2_5_and_2_25_bits() -> None:
    """arXiv:2402.02750: two bits, scale and zero in fp16 per 32, 64 or 128."""
    assert [scaled(2, group, 16, 16) for group in (32, 64, 128)] == [3.0, 2.5, 2.25]


def test_llama_cpp_stores_llama_2_70b_in_4_7995_bits_as_q4_k_m() -> None:
    """38.54 GiB over 68.977e9 parameters (llama.cpp, tools/quantize/README.md); its mix for 7B is 4.84."""
    assert pytest.approx(4.7995, abs=5e-5) == 38.54 * 2**30 * 8 / 68.977e9
    assert FORMATS["q4_k_m"].bits == pytest.approx(4.7995, rel=0.01)


def test_llama_3_1_8b_in_w4a16_takes_5_70_gb_not_a_quarter() -> None:
    assert weight_bytes(LLAMA, Parallelism(), precision("w4a16")) == pytest.approx(5.70e9, rel=1e-3)
    assert 4.125 / 8 * LLAMA.total_parameters == pytest.approx(4.14e9, rel=1e-3)


def test_llama_3_1_8b_in_runtime_fp8_takes_8_46_gib_where_vllm_says_8_49() -> None:
    """vLLM's log of a run with --quantization fp8: 8.49 GiB against 14.99 GiB in bf16."""
    found = weight_bytes(LLAMA, Parallelism(), precision("fp8")) / 2**30
    assert found == pytest.approx(8.46, abs=0.005)
    assert found == pytest.approx(8.49, rel=0.005)


@pytest.mark.parametrize(("scheme", "ratio"), [("w4a16", 3.228), ("fp8", 1.869)])
def test_a_decode_step_of_llama_3_1_8b_reads_so_many_times_fewer_weights(scheme: str, ratio: float) -> None:
    """Not 4 and 2: embedding and LM head stay in 16 bits, scales count."""
    whole, less = (decode_weight_bytes(LLAMA, precision(name)) for name in ("bf16", scheme))
    assert byte_bound(whole, less) == pytest.approx(ratio, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(1, 16))
def test_amdahls_bound_lies_between_one_and_the_gain(share: float, gain: float) -> None:
    assert 1 - 1e-12 <= amdahl_bound(share, gain) <= gain + 1e-12


# -- schemes beside each other -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schemes() -> quantisation.QuantisationAnswer:
    return quantisation.answer(None, BASE)


def test_no_prediction_beats_the_bytes(schemes: quantisation.QuantisationAnswer) -> None:
    for row in schemes.rows:
        if row.runs:
            assert row.decode_gain is not None
            assert row.decode_bound is not None
            assert row.decode_gain <= row.decode_bound * (1 + 1e-9)
    fp8 = schemes.row("fp8")
    assert fp8.prefill_gain is not None
    assert 1 < fp8.prefill_gain < (fp8.prefill_bound or 0)


def test_fewer_bits_take_less_memory_and_hold_more_sequences(schemes: quantisation.QuantisationAnswer) -> None:
    told = {row["scheme"]: row for row in schemes.to_dict()["schemes"]}
    weights = [told[name]["weights_bytes"] for name in ("bf16", "fp8", "w4a16")]
    assert weights == sorted(weights, reverse=True)
    assert told["fp8+kv_fp8"]["relative"]["kv_bytes_per_token"] == 0.5
    assert told["fp8+kv_fp8"]["max_sequences"] == pytest.approx(2 * told["fp8"]["max_sequences"], abs=1)
    assert told["w4a16"]["bits_per_parameter"] == pytest.approx(8 * 5.70e9 / 8.03e9, rel=1e-3)
    assert told["bf16"]["relative"]["ttft"] == 1
    assert not told["nvfp4"]["runs"]
    assert "no fp4 unit" in told["nvfp4"]["reason"]


def test_weight_only_schemes_do_not_speed_products_up(schemes: quantisation.QuantisationAnswer) -> None:
    assert schemes.row("w4a16").prefill_bound == 1


def test_the_table_is_short_and_the_dictionary_plain(schemes: quantisation.QuantisationAnswer) -> None:
    assert all(len(line) <= 80 for line in str(schemes).splitlines())
    assert json.loads(json.dumps(schemes.to_dict()))["checkpoint"] == "bf16"
    assert any("arXiv:2411.02355" in source for source in schemes.sources)


def test_what_does_not_fit_has_sizes_and_no_times() -> None:
    big = estimate("meta-llama/Llama-3.1-70B", "H100-SXM")
    told = {row["scheme"]: row for row in quantisation.answer({"schemes": ["fp8", "w4a16"]}, big).to_dict()["schemes"]}
    assert told["bf16"]["ttft_s"] is None
    assert told["bf16"]["weights_bytes"] == pytest.approx(141e9, rel=0.01)
    assert told["w4a16"]["ttft_s"] > 0
    assert "does not fit" in str(quantisation.answer({"schemes": ["w4a16"]}, big))
    embedder = quantisation.answer({"schemes": ["fp8"]}, estimate("Qwen/Qwen3-Embedding-0.6B", "L4"))
    assert embedder.row("fp8").decode_gain is None
    assert "fp8" in str(embedder)
    with pytest.raises(DoesNotFitError, match="fits with"):
        many.answer(None, big)


def test_bad_schemes_get_a_kind_sentence() -> None:
    with pytest.raises(SpecError, match="no precision is called 'fp9'; did you mean"):
        quantisation.answer({"schemes": ["fp9"]}, BASE)
    with pytest.raises(SpecError, match=r"did you mean 'schemes'\?"):
        quantisation.answer({"scheme": ["fp8"]}, BASE)


def test_accuracy_is_published_dated_and_about_schemes_that_exist() -> None:
    for record in published_accuracy():
        assert set(record.schemes) <= set(SCHEMES)
        assert record.ref
        if record.baseline and record.value:
            assert record.change == pytest.approx(record.value / record.baseline - 1, abs=6e-4)
    perplexity = {r.schemes[0]: r.change for r in published_accuracy() if r.model == "Llama-2-70B"}
    assert perplexity == {
        "q6_k": 0.0016,
        "q5_k": 0.0040,
        "q4_k_m": 0.0120,
        "q4_k": 0.0157,
        "q4_0": 0.0361,
        "q3_k": 0.0472,
        "q2_k": 0.0882,
    }
    assert accuracy_of("fp8+kv_fp8") == accuracy_of("fp8")


# -- adapters ---------------------------------------------------------------------------------------------------------------------


def test_rank_16_on_all_linear_layers_of_llama_3_1_8b_is_what_peft_prints() -> None:
    assert adapter_parameters(LLAMA, Adapter(rank=16)) == 41_943_040
    assert adapter_bytes(LLAMA, Adapter(rank=16)) == pytest.approx(83.9e6, rel=1e-3)


def test_an_adapter_costs_half_a_percent_of_the_models_flop() -> None:
    ops = adapter_ops(LLAMA, Parallelism(), Adapter(rank=16), 1.0, 1.0)
    work = sum(float(op.count * op.flops) for op in ops)
    assert work == 2 * 41_943_040
    assert work / (2 * LLAMA.total_parameters) == pytest.approx(0.005, abs=5e-4)


def test_bringing_one_in_over_pcie_5_takes_a_millisecond_and_a_half() -> None:
    assert swap_seconds(83.9e6, 55e9) == pytest.approx(1.5e-3, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.floats(0, 3), st.integers(1, 512))
def test_distinct_adapters_are_no_more_than_sequences_or_adapters(count: int, skew: float, batch: int) -> None:
    shares = popularity(count, skew)
    found = float(distinct_adapters(shares, batch))
    assert shares.sum() == pytest.approx(1)
    assert 1 - 1e-9 <= found <= min(count, batch) + 1e-9
    assert found <= float(distinct_adapters(popularity(count), batch)) + 1e-9  # all equal is the widest
    equal = count * (1 - (1 - 1 / count) ** batch)
    assert float(distinct_adapters(popularity(count), batch)) == pytest.approx(equal)
    assert resident_hit_rate(shares, count) == pytest.approx(1)


def test_distinct_adapters_are_those_of_a_drawn_batch() -> None:
    shares = popularity(50, 1.0)
    draws = np.random.default_rng(0).choice(50, size=(4000, 24), p=shares)
    assert np.mean([len(set(batch)) for batch in draws.tolist()]) == pytest.approx(
        float(distinct_adapters(shares, 24)), rel=0.01
    )


def test_the_hit_rate_of_recently_used_adapters_is_that_of_a_walked_cache() -> None:
    """Che's approximation (Che et al. 2002) against an LRU list."""
    shares, kept, hits = popularity(60, 1.0), OrderedDict[int, None](), 0
    asked = np.random.default_rng(0).choice(60, size=30_000, p=shares).tolist()
    for adapter in asked:
        hits += adapter in kept
        kept[adapter] = kept.pop(adapter, None)
        if len(kept) > 15:
            kept.popitem(last=False)
    assert recent_hit_rate(shares, 15) == pytest.approx(hits / len(asked), abs=0.01)
    assert recent_hit_rate(shares, 15) < resident_hit_rate(shares, 15)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 128), st.sampled_from(["attention", "mlp"]))
def test_adapters_grow_with_rank_and_shrink_with_tensor_parallelism(log_tensor: int, rank: int, target: str) -> None:
    one, twice = (Adapter(rank=r, targets=(target,)) for r in (rank, 2 * rank))
    assert adapter_parameters(LLAMA, twice) == 2 * adapter_parameters(LLAMA, one)
    whole, cut = adapter_bytes(LLAMA, one), adapter_bytes(LLAMA, one, Parallelism(tensor=2**log_tensor))
    assert whole / 2**log_tensor <= cut < whole


@pytest.mark.parametrize("name", ["Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-Next-80B-A3B-Instruct"])
def test_other_kinds_of_layers_are_adapted_too(name: str) -> None:
    assert adapter_parameters(load_model(name), Adapter(targets=("attention",))) > 1e6


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no shared_expert layers to adapt"):
        adapter_parameters(LLAMA, Adapter(targets=("shared_expert",)))


def test_many_adapters_pay_in_launches_bytes_and_room() -> None:
    """Punica and S-LoRA: little FLOP, one to two milliseconds of small kernels a step, less room for the cache."""
    few, lots = (many.answer({"count": count, "resident": count}, BASE) for count in (1, 200))
    assert 0.5e-3 < few.added_decode < few.added_decode + 1e-9 < lots.added_decode < 4e-3
    assert few.tpot > BASE.tpot
    assert lots.max_sequences() < few.max_sequences() <= few.max_sequences(0)
    assert lots.hit_rate == pytest.approx(1)
    assert lots.ttft == pytest.approx(BASE.ttft + lots.added_prefill)
    assert lots.merged_devices == 200
    told = json.loads(json.dumps(lots.to_dict()))
    assert told["trade_off"]["max_sequences"][0] == told["base_max_sequences"]
    assert told["kv_pool_bytes"] - told["resident_bytes"] == lots.memory.kv_pool
    assert np.all(np.diff(told["trade_off"]["max_sequences"]) <= 0)
    assert np.all(np.diff(told["trade_off"]["hit_rate"]) >= 0)


def test_a_skewed_crowd_of_adapters_needs_few_resident_ones() -> None:
    even, skewed = (many.answer({"count": 500, "skew": skew, "resident": 50}, BASE) for skew in (0.0, 1.0))
    assert even.hit_rate == pytest.approx(0.1)
    assert 0.5 < skewed.hit_rate < skewed.pinned_hit_rate
    assert skewed.distinct < even.distinct
    assert skewed.ttft < even.ttft
    assert all(len(line) <= 80 for line in str(skewed).splitlines())
    crowded = many.answer({"count": 500, "resident": 4}, BASE)
    assert any("wait for a place" in warning for warning in crowded.warnings)


def test_more_than_fit_are_refused_with_how_many_would() -> None:
    with pytest.raises(DoesNotFitError, match=r"at most \d+ fit"):
        many.answer({"count": 5000, "resident": 2000}, BASE)
    with pytest.raises(SpecError, match=r"did you mean 'resident'\?"):
        many.answer({"count": 5, "residents": 2}, BASE)


# -- training -----------------------------------------------------------------------------------------------------------------------


def test_training_8b_on_30_million_tokens_takes_an_h100_an_hour_and_with_lora_two_thirds() -> None:
    """6 P D and 4 P D (Kaplan et al., arXiv:2001.08361) at 40% of 989 TFLOP/s."""
    assert training_flops(8.03e9, 3e7) == pytest.approx(1.445e18, rel=1e-3)
    assert training_cost(LLAMA, 3e7, "full").gpu_hours == pytest.approx(1.01, abs=0.006)
    assert training_cost(LLAMA, 3e7, "lora").gpu_hours == pytest.approx(0.68, abs=0.006)
    assert training_flops(8.03e9, 3e7, recompute=True) == pytest.approx(8 / 6 * 1.445e18, rel=1e-3)


def test_memory_of_adam_is_16_bytes_a_parameter_and_of_adapters_2_and_a_half_one() -> None:
    """ZeRO (arXiv:1910.02054) and QLoRA (arXiv:2305.14314)."""
    assert training_bytes(1e9) == 16e9
    assert training_bytes(1e9, "lora", adapter_parameters=1e6) == pytest.approx(2e9 + 16e6)
    assert 0.5e9 < training_bytes(1e9, "qlora") < 0.55e9
    assert checkpointed_bytes(LLAMA, 4096) == 2 * 4096 * 4096 * 32


def test_training_costs_money_by_the_hour_and_refuses_what_it_does_not_know() -> None:
    run = training_cost(LLAMA, 3e7, "qlora", usd_per_gpu_hour=2.0)
    assert run.usd == pytest.approx(2 * run.gpu_hours)
    assert run.devices == 1
    assert training_cost("meta-llama/Llama-3.1-70B", 1e6).devices > 10
    with pytest.raises(SpecError, match="no method is called 'qlor'; did you mean"):
        training_cost(LLAMA, 3e7, "qlor")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="tokens: must be above 0"):
        training_cost(LLAMA, -1)
