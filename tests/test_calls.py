"""Calls of a language model: the mean request is the deployment's own, other lengths follow its steps, money follows device time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim import estimate
from infersim.errors import SpecError
from infersim.planning.allocation import TokenPrices
from infersim.planning.calls import Api, Deployed
from infersim.predict.deploy import deploy
from infersim.specs.library import validate
from infersim.specs.served import ServedModel
from infersim.specs.workload import Workload


@pytest.mark.parametrize(("gpu", "engine", "concurrency"), [("H100-SXM", "vllm", 32), ("L40S", "sglang", 4)])
def test_the_mean_request_is_the_deployments_own(gpu: str, engine: str, concurrency: int) -> None:
    one = estimate("meta-llama/Llama-3.1-8B", gpu, engine=engine, input_tokens=1500, output_tokens=300,
                   concurrency=concurrency, prefix_hit=0.5)  # fmt: skip
    call = Deployed(one).call(1500, 300, 750)
    assert one.cost_per_second is not None
    assert (call.ttft, call.tpot, call.e2e) == pytest.approx((one.ttft, one.tpot, one.e2e), rel=1e-9)
    assert call.usd == pytest.approx(one.cost_per_second / one.requests_per_second)


@pytest.mark.parametrize(("prompt", "output"), [(300, 100), (4000, 100), (30_000, 600)])
def test_alone_a_call_is_an_estimate_of_its_lengths(prompt: int, output: int) -> None:
    mean = Deployed(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1000, output_tokens=200))
    other = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=prompt, output_tokens=output)
    call = mean.call(prompt, output)
    assert other.cost_per_second is not None
    assert call.ttft == pytest.approx(other.ttft, rel=0.02)
    assert call.tpot == pytest.approx(other.tpot, rel=0.04)
    # alone, a user also pays for the host's time between requests, in which the device waits
    assert call.usd == pytest.approx(other.cost_per_second / other.requests_per_second, rel=0.1)


OWN = Deployed(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1000, output_tokens=200, concurrency=16))
API = Api("an API", TokenPrices(3.0, 0.3, 15.0), ttft=0.5, tpot=0.01, prefill_rate=10_000)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60_000), st.integers(1, 2_000), st.floats(0, 1), st.sampled_from([OWN, API]))
def test_longer_calls_take_and_cost_no_less_and_cached_ones_no_more(
    prompt: int, output: int, share: float, model: Deployed | Api
) -> None:
    calls = model.call(np.array([prompt, 2 * prompt, prompt, prompt]), np.array([output, output, 2 * output, output]),
                       np.array([0.0, 0.0, 0.0, share * (prompt - 1)]))  # fmt: skip
    for values in (calls.ttft, calls.usd):
        base, longer, _, cached = np.asarray(values) * (1 + 0.02 * (model is OWN) * np.array([0, 1, 1, -1]))
        assert longer >= base * (1 - 1e-9)
        assert cached <= base * (1 + 1e-9)
    assert np.asarray(calls.e2e)[2] >= np.asarray(calls.e2e)[0]


def test_a_call_that_cannot_be_held_is_refused() -> None:
    with pytest.raises(SpecError, match="longer than the"):
        OWN.call(2_000_000, 100)
    with pytest.raises(SpecError, match="at least one token"):
        API.call(0, 100)


def test_a_served_model_reads_as_a_file_says_it() -> None:
    told = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM", "gpu_hour": "2 USD",
            "deployment": {"tensor_parallel": 2, "precision": "fp8", "max_num_seqs": 64,
                           "speculative_config": "method=ngram,num_speculative_tokens=4,acceptance=0.6"}}  # fmt: skip
    one = deploy(validate(ServedModel, told), Workload(concurrency=8))
    assert (one.devices, one.knobs.max_num_seqs, one.price_per_hour) == (2, 64, 2.0)
    assert one.drafter is not None
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16,
              "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256,
              "head_dim": 64, "max_position_embeddings": 8192, "tie_word_embeddings": True}  # fmt: skip
    written = deploy(validate(ServedModel, told | {"model": config}), Workload())
    assert written.model.num_layers == 16
    with pytest.raises(SpecError, match=r"deployment.tensor_paralel: unknown field; did you mean 'tensor_parallel'"):
        validate(ServedModel, told | {"deployment": {"tensor_paralel": 2}})
