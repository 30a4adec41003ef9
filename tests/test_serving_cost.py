"""Tabulated step times against ``predict_step``, and the closed forms of runs of steps against their sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infersim
from infersim.errors import UnsupportedError
from infersim.ops.transformer import Group
from infersim.predict.estimate import Estimate
from infersim.predict.step import predict_step
from infersim.serving.cost import StepCost, fewest_terms, step_cost

DEPLOYMENTS: list[dict[str, Any]] = [
    {"model": "meta-llama/Llama-3.1-70B-Instruct", "gpu": "H100-SXM", "tensor_parallel": 8, "precision": "fp8"},
    {"model": "meta-llama/Llama-3.1-8B", "gpu": "H100-SXM", "tensor_parallel": 4, "mode": "bound"},
    {"model": "deepseek-ai/DeepSeek-R1", "gpu": "H200-SXM", "attention_data_parallel": 8, "expert_parallel": 8},
    {"model": "openai/gpt-oss-120b", "gpu": "B200-SXM", "engine": "trtllm"},
    {"model": "Qwen/Qwen3-Next-80B-A3B-Instruct", "gpu": "H100-SXM", "tensor_parallel": 4, "engine": "sglang"},
]


def tables(e: Estimate, max_sequences: int = 1024) -> StepCost:
    return step_cost(
        e.model, e.parallelism, e.precision, e.machine, max_sequences=max_sequences, max_tokens=8192, max_context=131072
    )


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["model"].rsplit("/", 1)[-1])
def test_error_of_the_tables(deployment: dict[str, Any]) -> None:
    """Random batches: half are priced within 0.1%, 95 of a hundred within 1%, none is off by more than 4%."""
    e = infersim.estimate(**deployment)
    cost, generator, errors = tables(e), np.random.default_rng(0), []
    for _ in range(150):
        running, context = int(generator.integers(1, 1025)), int(np.exp(generator.uniform(0, np.log(100_000))))
        count = int(generator.integers(1, 9))
        new = int(np.exp(generator.uniform(0, np.log(8192 / count))))
        cached = int(np.exp(generator.uniform(0, np.log(60_000)))) if generator.random() < 0.5 else 0
        pairs = count * (new * cached + new * (new + 1) / 2)
        decodes, prompts = Group(float(running), 1.0, float(context)), Group(float(count), float(new), float(cached))
        for batch, got in (
            ((decodes,), cost.step(0, 0, 0, running, running * context)),
            ((prompts,), cost.step(count, count * new, pairs, 0, 0)),
            ((prompts, decodes), cost.step(count, count * new, pairs, running, running * context)),
        ):
            wanted = float(predict_step(e.model, e.parallelism, e.precision, batch, e.machine).seconds)
            errors.append(abs(got / wanted - 1))
    assert np.median(errors) < 0.001
    assert np.percentile(errors, 95) < 0.01
    assert max(errors) < 0.04


@pytest.fixture(scope="module")
def cost() -> StepCost:
    return tables(infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM"))


@settings(max_examples=100, deadline=None)
@given(running=st.integers(1, 1024), mean=st.integers(1, 100_000), steps=st.integers(1, 3000))
def test_a_run_of_steps_is_their_sum(cost: StepCost, running: int, mean: int, steps: int) -> None:
    context = running * mean + running // 3
    single = sum(cost.step(0, 0, 0, running, context + step * running) for step in range(steps))
    assert cost.decode_run(running, context, steps) == pytest.approx(single, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(running=st.integers(1, 1024), mean=st.integers(1, 50_000), steps=st.integers(1, 500), share=st.floats(0.01, 1))
def test_steps_until_a_time(cost: StepCost, running: int, mean: int, steps: int, share: float) -> None:
    context, whole = running * mean, cost.decode_run(running, running * mean, steps)
    found = cost.decode_steps_until(running, context, share * whole, steps)
    assert 1 <= found <= steps
    assert cost.decode_run(running, context, found) >= share * whole * (1 - 1e-12)
    if found > 1:
        assert cost.decode_run(running, context, found - 1) < share * whole


@given(first=st.floats(1e-3, 10), slope=st.floats(0, 0.1), count=st.integers(1, 2000))
def test_fewest_terms(first: float, slope: float, count: int) -> None:
    total = count * first + slope * count * (count - 1) / 2
    assert fewest_terms(first, slope, total * (1 - 1e-9)) == count
    assert fewest_terms(first, slope, total * (1 + 1e-9)) == count + 1


def test_pipeline_stages_work_at_once() -> None:
    """Four stages: one sequence waits for all of them; many get their tokens in the time of a quarter of them."""
    whole = tables(infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM", pipeline_parallel=4))
    assert whole.step(0, 0, 0, 1, 1000) == whole.step(0, 0, 0, 4, 4000)
    assert whole.step(0, 0, 0, 400, 400 * 1000) < 0.7 * tables(
        infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM")
    ).step(0, 0, 0, 400, 400 * 1000)


def test_models_with_an_encoder_are_refused() -> None:
    e = infersim.estimate("facebook/bart-large-cnn", "H100-SXM", input_tokens=512, output_tokens=64)
    with pytest.raises(UnsupportedError, match="decoder-only"):
        tables(e)


def test_head_room_beyond_the_tables(cost: StepCost) -> None:
    """A prompt recomputed after a preemption may exceed the budget: the tables go on in proportion."""
    inside, outside = cost.step(1, 8192, 8192 * 8193 / 2, 0, 0), cost.step(1, 16384, 16384 * 16385 / 2, 0, 0)
    assert 1.8 < outside / inside < 3
    assert math.isfinite(cost.step(1, 8192, 8192 * 300_000, 5, 5 * 200_000))
