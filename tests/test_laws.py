"""Laws that hold for every model, device and batch: conservation, bounds, monotonicity, round trips."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import infersim
from infersim import units
from infersim.machine.machine import Machine, build_machine
from infersim.ops.attention import Attention, visible_pairs
from infersim.ops.matmul import Gemm, GroupedGemm
from infersim.ops.transformer import Batch, Group, prefill, step_ops
from infersim.predict.memory import cache_rates, weight_bytes
from infersim.predict.step import predict_step
from infersim.specs.deployment import Parallelism
from infersim.specs.hardware import Accelerator
from infersim.specs.library import load_accelerator, load_engine
from infersim.specs.model import ModelSpec
from infersim.specs.precision import FORMATS, SCHEMES, Precision
from strategies import accelerators, batches, groups, models

BF16, FP8 = SCHEMES["bf16"], SCHEMES["fp8"]
schemes = st.sampled_from([BF16, FP8, SCHEMES["w4a16"]])


def machine(accelerator: Accelerator, mode: str = "calibrated") -> Machine:
    return build_machine(accelerator, None, load_engine("vllm"), mode, 1)  # type: ignore[arg-type]


def work(model: ModelSpec, batch: Batch, parallelism: Parallelism | None = None, precision: Precision = BF16) -> float:
    """FLOP of the matrix ops and attention of a step on one device."""
    ops = step_ops(model, parallelism or Parallelism(), precision, batch)
    return sum(float(op.count * op.flops) for op in ops if isinstance(op, (Gemm, GroupedGemm, Attention)))


@given(
    st.integers(1, 3000),
    st.integers(0, 3000),
    st.integers(1, 2999),
    st.sampled_from([None, 64, 1024]),
    st.sampled_from([None, 512]),
)
def test_chunked_prefill_sees_the_same_pairs(
    new: int, cached: int, cut: int, window: int | None, chunk: int | None
) -> None:
    cut = min(cut, new)
    kinds = {"window": window} if window else {"chunk": chunk} if chunk else {}
    whole = visible_pairs(new, cached, **kinds)
    parts = visible_pairs(cut, cached, **kinds) + visible_pairs(new - cut, cached + cut, **kinds)
    assert float(parts) == float(whole)


@given(st.integers(1, 60), st.integers(0, 100), st.sampled_from([None, 7, 64]), st.sampled_from([None, 16]))
def test_visible_pairs_equal_a_count_by_hand(new: int, cached: int, window: int | None, chunk: int | None) -> None:
    def sees(position: int) -> int:
        if chunk:
            return position % chunk + 1
        return min(position + 1, window) if window else position + 1

    kinds = {"chunk": chunk} if chunk else {"window": window}
    assert float(visible_pairs(new, cached, **kinds)) == sum(sees(cached + t) for t in range(new))


@given(models(), st.integers(2, 2048), st.integers(1, 2047))
def test_chunked_prefill_is_the_same_work(model: ModelSpec, tokens: int, cut: int) -> None:
    """Every linear layer and every visible pair is paid once; latent attention re-expands what it has cached."""
    cut = min(cut, tokens - 1)
    assume(not any(mixer.kind == "mla" for mixer in model.mixers.values()))
    whole = work(model, prefill(float(tokens)))
    chunks = work(model, prefill(float(cut))) + work(model, prefill(float(tokens - cut), cached=float(cut)))
    extra_head = 2.0 * model.hidden_size * model.vocab_size  # each chunk samples once
    assert chunks - extra_head == pytest.approx(whole, rel=1e-9)


@given(models(), batches, st.sampled_from([2, 4, 8]), schemes)
def test_tensor_shards_sum_to_at_least_the_whole(
    model: ModelSpec, batch: Batch, tensor: int, precision: Precision
) -> None:
    split = Parallelism(tensor=tensor)
    assert tensor * work(model, batch, split, precision) >= work(model, batch, precision=precision) * (1 - 1e-9)
    assert tensor * weight_bytes(model, split, precision) >= weight_bytes(model, Parallelism(), precision) * (1 - 1e-9)
    whole, shard = cache_rates(model, Parallelism(), precision), cache_rates(model, split, precision)
    assert tensor * float(shard.bytes(1000)) >= float(whole.bytes(1000)) * (1 - 1e-9)


@given(models())
def test_bf16_weights_are_two_bytes_each(model: ModelSpec) -> None:
    stored = weight_bytes(model, Parallelism(), BF16)
    assert stored == pytest.approx(2 * model.total_parameters, rel=1e-9)


@given(models(), accelerators(), batches, st.sampled_from(["bound", "calibrated"]), st.sampled_from([1.5, 4.0]))
def test_a_faster_machine_is_never_slower(
    model: ModelSpec, slow: Accelerator, batch: Batch, mode: str, factor: float
) -> None:
    fast = slow.model_copy(update={
        "name": "faster", "peak_flops": {unit: rate * factor for unit, rate in slow.peak_flops.items()},
        "memory": slow.memory.model_copy(update={"bandwidth": slow.memory.bandwidth * factor}),
    })  # fmt: skip
    before = predict_step(model, Parallelism(), BF16, batch, machine(slow, mode)).seconds
    after = predict_step(model, Parallelism(), BF16, batch, machine(fast, mode)).seconds
    assert float(after) <= float(before) * (1 + 1e-9)


@given(models(), accelerators(), batches, schemes)
def test_the_bound_is_a_bound(model: ModelSpec, accelerator: Accelerator, batch: Batch, precision: Precision) -> None:
    assume(not (precision is FP8 and "fp8" not in accelerator.peak_flops))
    bound = predict_step(model, Parallelism(), precision, batch, machine(accelerator, "bound"))
    calibrated = predict_step(model, Parallelism(), precision, batch, machine(accelerator))
    assert float(bound.seconds) <= float(calibrated.seconds)
    assert 0 < float(calibrated.mfu) <= 1
    assert 0 < float(calibrated.mbu) <= 1


@given(models(), accelerators(), batches)
def test_longest_part_is_at_most_the_step_and_the_step_at_most_the_sum(
    model: ModelSpec, accelerator: Accelerator, batch: Batch
) -> None:
    for mode in ("bound", "calibrated"):
        step = predict_step(model, Parallelism(), BF16, batch, machine(accelerator, mode))
        parts = [float(part.seconds) for part in step.parts()]
        assert max(parts) <= float(step.seconds) * (1 + 1e-9)
        assert float(step.seconds) <= sum(parts) * (1 + 1e-9)


@given(models(), accelerators(), groups(), st.integers(1, 4096))
def test_more_context_is_never_cheaper(model: ModelSpec, accelerator: Accelerator, group: Group, more: int) -> None:
    longer = replace(group, cached=group.cached + more)
    for mode in ("bound", "calibrated"):
        times = [
            predict_step(model, Parallelism(), BF16, (g,), machine(accelerator, mode)).seconds for g in (group, longer)
        ]
        assert float(times[1]) >= float(times[0]) * (1 - 1e-6)


@given(
    models(),
    accelerators(),
    st.lists(st.tuples(st.integers(1, 64), st.integers(1, 600), st.integers(0, 4000)), min_size=2, max_size=6),
)
def test_arrays_equal_a_loop_of_scalars(
    model: ModelSpec, accelerator: Accelerator, rows: list[tuple[int, int, int]]
) -> None:
    count, new, cached = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    for mode in ("bound", "calibrated"):
        device = machine(accelerator, mode)
        together = predict_step(model, Parallelism(), BF16, (Group(count, new, cached),), device).seconds
        alone = [predict_step(model, Parallelism(), BF16, (Group(*map(float, row)),), device).seconds for row in rows]
        np.testing.assert_allclose(together, alone, rtol=1e-9)


@given(models(), st.integers(1, 100_000), st.integers(1, 100_000))
def test_cache_grows_with_length(model: ModelSpec, first: int, second: int) -> None:
    rates = cache_rates(model, Parallelism(), BF16)
    low, high = sorted((first, second))
    assert float(rates.bytes(low)) <= float(rates.bytes(high))
    assert float(rates.bytes(low, block_size=16)) >= float(rates.bytes(low))


UNITS = st.sampled_from(["B", "B/s", "FLOP/s", "s", "W", "Hz", "J", "USD", "USD/h", "/s"])


@given(UNITS, st.floats(1e-9, 1e18), st.integers(3, 12))
def test_what_is_shown_reads_back(unit: str, value: float, digits: int) -> None:
    shown = units.show(value, unit, digits=digits)
    assert units.parse(shown, unit) == pytest.approx(value, rel=10.0 ** (1 - digits))


@given(st.floats(1, 1e15))
def test_binary_sizes_read_back(value: float) -> None:
    assert units.parse(units.show(value, "B", digits=6, binary=True), "B") == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_scales_only_add_bits(name: str) -> None:
    assert FORMATS[name].bits >= {"int2_kivi": 2, "q2_k": 2, "int3": 3, "q3_k": 3}.get(name, 4)
    assert math.isfinite(FORMATS[name].bytes)


@given(st.sampled_from([1, 4, 16, 64]), st.sampled_from([256, 2048, 8192]), st.sampled_from(["vllm", "sglang"]))
def test_a_long_run_forgets_its_burst(users: int, prompt: int, engine: str) -> None:
    def run(num_requests: float | None) -> infersim.Estimate:
        return infersim.estimate(
            "meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=prompt, output_tokens=200, concurrency=users, engine=engine,
            num_requests=num_requests,
        )  # fmt: skip

    steady, endless, ten, one = run(None), run(1e9 * users), run(10 * users), run(users)
    assert math.isclose(endless.ttft, steady.ttft, rel_tol=1e-6)
    assert math.isclose(endless.tpot, steady.tpot, rel_tol=1e-6)
    assert math.isclose(
        ten.ttft, 0.9 * steady.ttft + 0.1 * one.ttft, rel_tol=1e-9
    )  # a tenth of the requests are the burst
    assert one.tpot <= ten.tpot <= steady.tpot  # the first and the last decode beside fewer prompts
    prompts_per_step = max(1, steady.machine.max_num_batched_tokens // prompt)
    if users > 4 * prompts_per_step:  # many steps of prompts: the mean one waits for half of them
        assert one.ttft > 2 * float(steady.prefill_step.seconds)


def test_burst_of_vllm_on_h100_adds_what_was_measured() -> None:
    """InferenceX, Llama-3.1-70B fp8 on 4 x H100 under vLLM, 1k/1k, lengths uniform in [0.8, 1] of nominal, 10 C requests."""

    def ttft(users: int) -> float:
        return infersim.estimate(
            "meta-llama/Llama-3.1-70B", "H100-SXM", tensor_parallel=4, precision="fp8", input_tokens=921.6, output_tokens=921.6,
            concurrency=users, num_requests=10 * users,
        ).ttft  # fmt: skip

    assert abs((ttft(16) - ttft(4)) / (0.1214 - 0.0805) - 1) < 0.15
    assert abs((ttft(64) - ttft(4)) / (0.2564 - 0.0805) - 1) < 0.15


@given(st.sampled_from([1024, 32768, 131072 - 256]), st.sampled_from([1, 8]))
def test_extrapolation_widens_the_interval_and_says_so(prompt: int, users: int) -> None:
    answer = infersim.estimate(
        "meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=prompt, output_tokens=256, concurrency=users
    )
    step = answer.prefill_step
    inside = replace(step, basis=tuple(replace(fitted, measured_range=()) for fitted in step.basis))
    assert bool(step.extrapolations()) == (float(step.log_spread) > float(inside.log_spread))
    if prompt <= 1024:  # only the lm head is wider than what was measured
        assert {line.split(":")[0] for line in answer.extrapolations} <= {"prefill lm_head", "decode lm_head"}


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-R1", "Qwen/Qwen3.5-397B-A17B"])
@pytest.mark.parametrize("prompt", [64.0, 8192.0])
def test_no_prompts_cost_nothing(name: str, prompt: float) -> None:
    """A group of no sequences beside the decodes leaves the step as it is, however long its prompts would be."""
    model, place = infersim.load_model(name), build_machine(load_accelerator("B200-SXM"), None, load_engine("sglang"))
    decodes = Group(8.0, 1.0, 1000.0)
    alone = predict_step(model, Parallelism(), model.precision, (decodes,), place)
    beside = predict_step(model, Parallelism(), model.precision, (Group(0.0, prompt, 0.0), decodes), place)
    assert float(beside.kernel_seconds) == pytest.approx(float(alone.kernel_seconds), rel=1e-6)
