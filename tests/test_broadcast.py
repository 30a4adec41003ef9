"""One call for many answers them as one call for each does: loads in the closed form, ops in a step."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

import infersim
from infersim.ops.transformer import Group, step_ops
from infersim.predict.latency import SteadyState, steady_state
from infersim.predict.pricing import as_engine_runs
from infersim.predict.step import price
from infersim.specs.deployment import EngineKnobs

LLAMA, DEEPSEEK = "meta-llama/Llama-3.1-70B-Instruct", "deepseek-ai/DeepSeek-V3"
DEPLOYMENTS = [
    (LLAMA, "H100-SXM", {"tensor_parallel": 4, "precision": "fp8"}),
    (DEEPSEEK, "H200-SXM", {"tensor_parallel": 8}),
    (DEEPSEEK, "B200-SXM", {"attention_data_parallel": 8, "expert_parallel": 8}),
]
FIGURES = [field.name for field in fields(SteadyState) if field.name not in ("prefill_batch", "decode_batch")]


@pytest.mark.parametrize("engine", ["vllm", "trtllm"])
@pytest.mark.parametrize("burst_share", [0.0, 0.25])
@pytest.mark.parametrize(("model", "gpu", "parallel"), DEPLOYMENTS)
def test_many_loads_equal_one_by_one(
    model: str, gpu: str, parallel: dict[str, int | str], burst_share: float, engine: str
) -> None:
    answer = infersim.estimate(model, gpu, engine=engine, **parallel)  # type: ignore[arg-type]
    deployed = answer.model, answer.parallelism, answer.precision, answer.machine, answer.memory, EngineKnobs()
    prompts = np.array([1.0, 200.0, 3000.0, 40000.0])
    outputs = np.array([300.0, 1.0, 64.0, 2.0])
    users = np.array([[1.0], [37.0], [5000.0]])

    def state(prompt: object, output: object, many: object) -> SteadyState:
        return steady_state(
            *deployed, input_tokens=prompt, output_tokens=output, users=many, cached_tokens=0.25 * (prompt - 1),  # type: ignore[operator]
            burst_share=burst_share,
        )  # fmt: skip

    together = state(prompts, outputs, users)
    for row, many in enumerate(users[:, 0]):
        for column, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
            alone = state(float(prompt), float(output), float(many))
            for name in FIGURES:
                found = np.broadcast_to(getattr(together, name), (3, 4))[row, column]
                assert found == pytest.approx(getattr(alone, name), rel=1e-9), name


@pytest.mark.parametrize(("model", "gpu", "parallel"), DEPLOYMENTS)
@pytest.mark.parametrize("points", [1, 9, 80])
def test_ops_priced_together_equal_each_alone(
    model: str, gpu: str, parallel: dict[str, int | str], points: int
) -> None:
    answer = infersim.estimate(model, gpu, **parallel)  # type: ignore[arg-type]
    generator = np.random.default_rng(points)
    decodes = Group(
        generator.integers(1, 300, points).astype(float), 1.0, generator.integers(1, 9000, points).astype(float)
    )
    prompts = Group(1.0, generator.integers(1, 4000, points).astype(float), 128.0)
    ops = as_engine_runs(
        step_ops(answer.model, answer.parallelism, answer.precision, (prompts, decodes)), answer.machine
    )
    together = price(ops, answer.machine)
    assert [op.name for op in together.ops] == [op.name for op in ops]
    for row, op in enumerate(ops):
        alone = price([op], answer.machine)
        np.testing.assert_allclose(together.seconds_each[row], alone.seconds_each[0], rtol=1e-12, err_msg=op.name)
        assert together.sources[row] == alone.sources[0]
