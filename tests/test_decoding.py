"""Decoding algorithms: published arithmetic, measured samplers and grammar engines, laws of the comparison, bad input."""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infersim
from infersim.decoding.answer import DecodingAnswer, answer, compare
from infersim.decoding.beams import copied_tokens, reorder_bytes, request_bytes, shared_tokens
from infersim.decoding.drafts import matching_tables, speculation_table
from infersim.decoding.grammars import (
    exposed_seconds,
    jump_forward_steps,
    load_grammar_engine,
    mask_bytes,
    mask_seconds,
    tokens_per_jump,
)
from infersim.decoding.method import MethodResult, decode_with
from infersim.decoding.outputs import Outputs, answer_tokens, any_correct, harmonic, majority_correct, outputs_of
from infersim.decoding.spec import STANDARD, DecodingMethod, DecodingSpec, Structured
from infersim.errors import DoesNotFitError, InferSimError, SpecError, UnsupportedError
from infersim.ops.sampling import SAMPLING_PASSES, sampling, sampling_passes
from infersim.predict.estimate import Estimate
from infersim.predict.step import price
from infersim.serving.lengths import Empirical, Fixed, LogNormal, Uniform
from infersim.serving.simulate import simulate_deployment
from infersim.serving.traces import Trace
from infersim.specs.library import measurement_file, names
from infersim.specs.speculation import load_acceptance

MODEL, GPU = "meta-llama/Llama-3.1-8B-Instruct", "H100-SXM"


def deployment(**options: Any) -> Estimate:
    return infersim.estimate(MODEL, GPU, **{"input_tokens": 1000, "output_tokens": 300, "concurrency": 32} | options)


def one(method: Any, **options: Any) -> MethodResult:
    return decode_with(deployment(**options), DecodingMethod.model_validate(method))


# -- samplers ----------------------------------------------------------------------------------------------------------


def sampler_rows() -> list[tuple[str, float, float, float]]:
    """(sampler, batch, vocabulary, measured seconds) of every measured row."""
    lines = measurement_file("samplers.csv").read_text(encoding="utf-8").splitlines()
    suffixes = {"triton_ms": "_triton", "pytorch_sort_ms": "_sort", "flashinfer_ms": ""}
    return [
        (row["filter"] + suffix, float(row["batch"]), float(row["vocab_size"]), float(row[column]) / 1e3)
        for row in csv.DictReader(line for line in lines if not line.startswith("#"))
        for column, suffix in suffixes.items() if row[column] and "32558" not in row["source"]
    ]  # fmt: skip


def test_one_pass_over_the_logits() -> None:
    """B = 256, V = 128,256 in fp32: 131 MB, 39 us at 3.35 TB/s."""
    op = sampling(256, 128_256)
    assert op.read == pytest.approx(131.3e6, rel=1e-3)
    assert op.read / 3.35e12 == pytest.approx(39e-6, rel=0.01)


def test_lm_head_of_8b() -> None:
    """1.05 GB of weights: 0.31 ms on an H100, 7% of the step of one sequence."""
    step = infersim.estimate(MODEL, GPU, mode="bound", input_tokens=1).decode_step
    (head,) = [part for part in step.parts() if part.name == "lm_head"]
    assert float(head.bytes) == pytest.approx(1.05e9, rel=0.01)
    assert float(head.seconds) == pytest.approx(0.31e-3, rel=0.02)
    assert float(head.seconds / step.seconds) == pytest.approx(0.07, abs=0.005)


@pytest.mark.parametrize(("sampler", "batch", "vocab", "seconds"), sampler_rows())
def test_samplers_against_measured_rows(sampler: str, batch: float, vocab: float, seconds: float) -> None:
    """vLLM pull request 40376: passes and latency meet every row within 34%, priced on an H100 within 45%."""
    passes, latency = sampling_passes(sampler)
    assert latency + passes * 4 * batch * vocab / 3.35e12 == pytest.approx(seconds, rel=0.34)
    priced = float(price([sampling(batch, int(vocab), sampler=sampler)], deployment().machine).op_seconds[0])
    assert priced == pytest.approx(seconds, rel=0.45)


@pytest.mark.parametrize(("suffix", "low", "high"), [("_sort", 68, 121), ("_triton", 13, 38), ("", 4.5, 20)])
def test_rows_in_passes(suffix: str, low: float, high: float) -> None:
    """At V = 131,072, in passes at 3.35 TB/s: sorting 70-120, Triton 14-38, FlashInfer 5-20."""
    rows = [
        row
        for row in sampler_rows()
        if row[2] == 131_072 and row[0] in {m + suffix for m in ("top_k", "top_p", "top_k_top_p")}
    ]
    assert rows
    if not suffix:  # FlashInfer, 2025-03-10: more than half of the time of sampling in vLLM is saved
        sorting = {row[:3]: row[3] for row in sampler_rows() if row[0].endswith("_sort")}
        assert all(seconds < 0.5 * sorting[f"{name}_sort", batch, vocab] for name, batch, vocab, seconds in rows)
    assert all(low <= seconds / (4 * batch * vocab / 3.35e12) <= high for _, batch, vocab, seconds in rows)


def test_samplers_in_an_estimate() -> None:
    """Sorting costs milliseconds a step at 256 sequences and more (vLLM pull request 11394: top-p took 15% off the throughput)."""
    tpot = {
        name: deployment(concurrency=256, sampler=name).tpot for name in ("greedy", "top_k_top_p", "top_k_top_p_sort")
    }
    assert tpot["greedy"] < tpot["top_k_top_p"] < tpot["top_k_top_p_sort"] - 1e-3
    assert sampling_passes("greedy+penalties+logprobs").passes == 1 + 4 + 3
    assert deployment(sampler="top_p+penalties").tpot > deployment(sampler="top_p").tpot
    for wrong in ("top_q", "greedy+penalty", ""):
        with pytest.raises(SpecError, match="sampler"):
            deployment(sampler=wrong)


# -- lengths and answers -----------------------------------------------------------------------------------------------


def test_longest_of_exponential_answers() -> None:
    """E[max of 8] = mean x H_8 = 2.718 (order statistics)."""
    assert harmonic(8) == pytest.approx(2.718, abs=5e-4)
    exponential = Outputs(-300.0 * np.log1p(-(np.arange(100_000) + 0.5) / 100_000))
    assert exponential.longest_of(8) == pytest.approx(300 * harmonic(8), rel=1e-3)


@pytest.mark.parametrize(
    "lengths",
    [
        Fixed(tokens=200),
        Uniform(low=10, high=500),
        LogNormal(mean=300, cv=1.2),
        Empirical(values=(5, 900, 100), weights=(1, 1, 4)),
    ],
)
def test_longest_against_drawn_answers(lengths: Any) -> None:
    drawn = lengths.sample(np.random.default_rng(0), 8 * 40_000).reshape(-1, 8)
    found = answer_tokens(lengths)
    assert found.mean == pytest.approx(lengths.mean, rel=0.01)
    assert found.longest_of(8) == pytest.approx(drawn.max(axis=1).mean(), rel=0.02)


@given(n=st.integers(1, 64), cv=st.floats(0.1, 2))
@settings(max_examples=30)
def test_laws_of_the_longest(n: int, cv: float) -> None:
    found = outputs_of(LogNormal(mean=300, cv=cv))
    assert found.longest_of(1) == pytest.approx(found.mean)
    assert found.mean <= found.longest_of(n) <= found.longest_of(n + 1) <= found.values[-1]
    assert found.longest_of(n) <= n * found.mean


def test_thinking_adds_and_a_budget_cuts() -> None:
    """G = G_think + G_answer."""
    answered, thought = Fixed(tokens=200), LogNormal(mean=2000, cv=1)
    whole = answer_tokens(answered, thought)
    assert whole.mean == pytest.approx(2200, rel=0.01)
    budgets = [answer_tokens(answered, thought, budget) for budget in (0, 500, 2000, 10**6)]
    assert budgets[0].mean == 200
    assert [one.mean for one in budgets] == sorted(one.mean for one in budgets)
    assert budgets[1].values.max() == 700
    assert budgets[-1].mean == pytest.approx(whole.mean)


def test_votes() -> None:
    """Binomial: five answers right with 0.6 each, majority 0.6826; pass@n = 1 - (1 - p)^n."""
    assert majority_correct(0.6, 5) == pytest.approx(0.68256)
    assert majority_correct(0.4, 5) < 0.4
    assert any_correct(0.5, 3) == pytest.approx(0.875)
    voted = one({"sampler": "temperature", "answers": 5, "pick": "majority", "correct": 0.6})
    assert voted.chance_correct == pytest.approx(0.68256)
    assert one(
        {"sampler": "temperature", "answers": 3, "pick": "best", "correct": 0.5}
    ).chance_correct == pytest.approx(0.875)
    assert one("greedy").chance_correct is None


# -- beams -------------------------------------------------------------------------------------------------------------


def test_beams_share_their_prompt() -> None:
    """PagedAttention, arXiv:2309.06180: S = 1,000, w = 4, g = 100 keeps 1,400 tokens; 4,400 where copied."""
    assert (shared_tokens(1000, 4, 100), copied_tokens(1000, 4, 100)) == (1400, 4400)
    rates = deployment().memory.rates
    shared, copied = (request_bytes(rates, 1008, 4, 96, 16, apart) / rates.per_token for apart in (False, True))
    assert (shared, copied) == (1008 + 4 * 96, 4 * (1008 + 96))
    assert reorder_bytes(rates, 1000, 4, 100, 16, copied=True) > 50 * reorder_bytes(rates, 1000, 4, 100, 16)


def test_beam_search_costs_its_width() -> None:
    greedy, beams, copied = one("greedy"), one({"beams": 4}), one({"beams": 4, "copied_cache": True})
    assert beams.kv_tokens == 1000 + 4 * 300
    assert copied.kv_tokens == 4 * 1300
    assert beams.generated_tokens == 4 * beams.output_tokens
    assert beams.running == pytest.approx(4 * greedy.running, rel=0.02)
    assert greedy.tpot < beams.tpot < copied.tpot
    assert greedy.usd < beams.usd < 4 * greedy.usd  # one prefill, and weights read once for all


def test_sharing_makes_room() -> None:
    """Where the pool bounds the batch, copies of the prompt's cache cut throughput."""
    options = {"concurrency": 256, "input_tokens": 4000}
    method = {"sampler": "temperature", "answers": 4}
    shared, copied = one(method, **options), one(method | {"copied_cache": True}, **options)
    assert shared.running > 1.5 * copied.running
    assert shared.requests_per_second > 1.1 * copied.requests_per_second


@pytest.mark.parametrize(
    ("users", "n", "prompt", "lengths"),
    [
        (16, 4, 1008, LogNormal(mean=200, cv=1)),
        (8, 8, 4000, Uniform(low=100, high=500)),
        (32, 3, 512, Fixed(tokens=200)),
    ],
)
def test_parallel_answers_beside_the_simulator(users: int, n: int, prompt: int, lengths: Any) -> None:
    """n siblings of one prompt arriving together, through the simulator's prefix cache. Its requests come at random at the rate of
    the closed loop, which holds a few percent more of them at a time."""
    knobs = infersim.EngineKnobs(enable_prefix_caching=True)
    served = deployment(
        input_tokens=prompt, output_tokens=lengths.mean, concurrency=users, knobs=knobs, sampler="temperature"
    )
    found = decode_with(served, DecodingMethod(sampler="temperature", answers=n), lengths)
    generator, requests = np.random.default_rng(0), 1200
    times = np.repeat(generator.exponential(1 / found.requests_per_second, requests).cumsum(), n)
    trace = Trace(
        "siblings", "none", np.full(requests * n, prompt, dtype=np.int32), lengths.sample(generator, requests * n).astype(np.int32),
        times - times[0], prefixes=[((("prompt", request), prompt - 16),) for request in range(requests) for _ in range(n)],
    )  # fmt: skip
    columns = simulate_deployment(served, trace).columns
    slowest = (columns["finish_s"] - columns["arrival_s"]).reshape(requests, n).max(axis=1)
    assert found.e2e == pytest.approx(float(slowest.mean()), rel=0.2)
    assert found.e2e < slowest.mean() * 1.03


# -- grammars ----------------------------------------------------------------------------------------------------------


def test_masks() -> None:
    """V / 8 bytes a sequence and step, 16 KB at 131,072; t_mask B / threads; max(0, t_cpu - t_gpu)."""
    assert mask_bytes(131_072) == 16_384
    assert mask_seconds(50e-6, 64) == pytest.approx(3.2e-3)
    assert mask_seconds(50e-6, 64, threads=16) == pytest.approx(0.2e-3)
    assert mask_seconds(50e-6, 1, threads=16) == pytest.approx(50e-6)
    assert (exposed_seconds(8e-3, 5e-3), exposed_seconds(3e-3, 5e-3)) == (pytest.approx(3e-3), 0)
    assert jump_forward_steps(200, 0.25) == 150
    assert tokens_per_jump(0.0) == 1


@pytest.mark.parametrize("name", names("grammar_engines"))
def test_grammar_engines_are_sourced(name: str) -> None:
    engine = load_grammar_engine(name)
    claimed = {field for source in engine.sources for field in source.of}
    assert {"mask", "compile"} <= claimed
    if engine.mask_p50 is not None:
        assert engine.mask_p50 <= engine.mask_p99
        assert engine.compile_p50 <= engine.compile_p99


def test_engines_by_measured_order() -> None:
    """MaskBench: llguidance 47 us a mask, XGrammar 0.1.10 292 us in the mean and 8 us in the median, llama.cpp 14.5 ms. llama.cpp
    adds 6 ms to a token of a Qwen3-30B-A3B run: (7.9 s - 6.7 s) / 200."""
    masks = {name: load_grammar_engine(name).mask for name in ("llguidance", "xgrammar", "llama.cpp", "outlines")}
    assert list(masks.values()) == sorted(masks.values())
    assert masks["llguidance"] < 50e-6
    assert pytest.approx(6e-3) == (7.9 - 6.7) / 200
    assert 1e-3 <= load_grammar_engine("naive").mask <= 10e-3


def test_structured_output_on_a_deployment() -> None:
    plain = one("greedy")
    fast, slow = one({"structured": "llguidance"}), one({"structured": "naive"})
    assert plain.tpot < fast.tpot < 1.03 * plain.tpot  # hidden behind the step
    step = slow.tpot - plain.tpot
    assert step == pytest.approx(32 * 5e-3 - float(deployment().decode_step.seconds), rel=0.15)
    threads = one({"structured": {"engine": "naive", "threads": 32}})
    assert threads.tpot < 1.1 * plain.tpot
    shown = one({"structured": {"engine": "llguidance", "overlapped": False}})
    assert shown.tpot - fast.tpot == pytest.approx(32 * 47e-6, rel=0.15)
    compiled = one({"structured": {"engine": "llguidance", "compile": "0.4 s", "new_grammars": 0.5}})
    assert compiled.ttft - fast.ttft == pytest.approx(0.2)


def test_forced_tokens_skip_steps() -> None:
    structured, jumping = (
        one({"structured": "llguidance"}),
        one({"structured": {"engine": "llguidance", "forced": 0.2}}),
    )
    assert jumping.tokens_per_step == pytest.approx(1.25)
    assert 0.78 * structured.tpot < jumping.tpot < 0.9 * structured.tpot
    again = one({"structured": {"engine": "llguidance", "forced": 0.2, "retokenised": 2}})
    assert again.tpot > jumping.tpot


# -- comparisons -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"num_requests": 320}, {"replicas": 2, "prefix_hit": 0.5}, {"concurrency": 600}]
)
def test_greedy_is_the_estimate(options: dict[str, Any]) -> None:
    """Without extras the comparison says what the deployment itself says."""
    served = deployment(price_per_hour=2.0, **options)
    found = decode_with(served, DecodingMethod())
    assert (found.ttft, found.tpot, found.e2e) == pytest.approx((served.ttft, served.tpot, served.e2e))
    assert found.requests_per_second == pytest.approx(served.requests_per_second)
    assert found.usd == pytest.approx(2.0 * served.devices / 3600 / served.requests_per_second)
    assert found.generated_tokens == found.output_tokens == 300


@given(n=st.integers(1, 12), users=st.sampled_from([1, 8, 64]), cv=st.floats(0.2, 1.5))
@settings(max_examples=15, deadline=None)
def test_laws_of_many_answers(n: int, users: int, cv: float) -> None:
    """More answers: later ends, more cache, a dearer request, but cheaper than as many requests; Little's law holds."""
    served, lengths = deployment(concurrency=users), LogNormal(mean=200, cv=cv)
    few, more = (
        decode_with(served, DecodingMethod(sampler="temperature", answers=count), lengths) for count in (n, n + 1)
    )
    assert few.e2e < more.e2e
    assert few.kv_bytes < more.kv_bytes
    assert few.usd < more.usd < (n + 1) / n * few.usd * 1.02
    assert users == pytest.approx(more.requests_per_second * more.e2e)
    busy = more.requests_per_second * more.generated_tokens * more.tpot
    assert busy == pytest.approx(more.running, rel=0.05, abs=1.5)


def test_slower_kernels() -> None:
    """Batch-invariant kernels by a factor of the step that the user measured."""
    plain, exact = one("greedy"), one({"sampler": "greedy", "step_factor": 1.5})
    assert exact.tpot - plain.tpot == pytest.approx(0.5 * float(deployment().decode_step.seconds), rel=0.02)
    assert exact.method.label == "greedy, step x 1.5"


def test_thinking_costs_its_tokens() -> None:
    plain = one("temperature")
    thinking = one({"sampler": "temperature", "thinking": 1200})
    assert thinking.output_tokens == 1500
    assert thinking.e2e > 4 * plain.e2e
    assert thinking.kv_tokens == 2500
    cut = one({"sampler": "temperature", "thinking": 1200, "thinking_budget": 300})
    assert cut.output_tokens == 600


def test_answer_from_a_scenarios_section() -> None:
    section = {
        "output_tokens": {"lognormal": {"mean": 250, "cv": 1}},
        "acceptance_tables": "matching",
        "methods": [
            "greedy", "top_p+logprobs", {"beams": 4}, {"name": "vote", "sampler": "top_p", "answers": 8, "pick": "majority"},
            {"sampler": "temperature", "structured": "xgrammar"},
            {"speculation": {"method": "eagle3", "num_speculative_tokens": 3, "acceptance": "eagle3/llama-3.1-8b/mt-bench"}},
        ],
    }  # fmt: skip
    found = answer(section, deployment())
    assert isinstance(found, DecodingAnswer)
    assert max(map(len, str(found).splitlines())) <= 80
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["figure"]["method"][3] == "vote"
    assert len(written["figure"]["usd_per_answer"]) == 6
    assert any("MaskBench" in source for source in found.sources)
    assert any("acceptance eagle3/llama-3.1-8b/mt-bench" in source for source in found.sources)
    assert found.results[5].tpot < 0.8 * found.results[0].tpot
    assert [one.method for one in compare(deployment()).results] == list(STANDARD)
    assert DecodingSpec.model_validate(DecodingSpec().model_dump(mode="json")) == DecodingSpec()


# -- published acceptance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "drafts", "length"),
    [
        ("eagle3/llama-3.1-8b/mt-bench-t1", 7, 2.77), ("eagle3/llama-3.1-8b/humaneval-t1", 7, 3.49),
        ("eagle3/llama-3.3-70b/gsm8k-t1-redhat", 7, 3.29), ("eagle3/llama-3.3-70b/humaneval-t1-nebius", 7, 5.08),
        ("eagle3/qwen3-235b/mt-bench-t1", 7, 3.18), ("mtp/deepseek-v3/tuned-t0", 7, 4.83),
    ],
)  # fmt: skip
def test_acceptance_of_chains(name: str, drafts: int, length: float) -> None:
    """Model cards of LK losses, arXiv:2602.23881: mean tokens a step of chains of seven."""
    assert 1 + sum(load_acceptance(name).reached(drafts)) == pytest.approx(length, abs=1e-4)


def test_what_was_recalled_is_marked() -> None:
    """Rows of EAGLE-3's paper (arXiv:2503.01840) and Leviathan's table 3 (arXiv:2211.17192) were not read again."""
    recalled = [name for name in names("acceptance") if "paper-tree" in name or name.startswith("draft_model/t5")]
    assert len(recalled) >= 9
    for name in recalled:
        assert load_acceptance(name).sources[0].status == "unverified"


def test_break_even_as_a_table() -> None:
    """The same head pays to fewer sequences at temperature 1 in chains of seven than in short chains at 0."""
    rows = {row.table.name: row for row in speculation_table(deployment())}
    assert set(rows) == set(matching_tables(MODEL))
    assert all("t1" in name or row.break_even_batch is None or row.break_even_batch > 100 for name, row in rows.items())
    warm, cold = rows["eagle3/llama-3.1-8b/mt-bench-t1"], rows["eagle3/llama-3.1-8b/mt-bench"]
    assert warm.alone < cold.alone
    assert warm.break_even_batch is not None
    assert cold.break_even_batch is None or cold.break_even_batch > warm.break_even_batch
    assert [row.here for row in rows.values()] == sorted((row.here for row in rows.values()), reverse=True)


def test_experts_make_drafts_dearer() -> None:
    """Verifying four drafts of one sequence reads 37.6 experts of 256 in place of 8: a mixture gains less than a dense model."""
    tables = ["eagle3/llama-3.1-8b/mt-bench"]
    dense = speculation_table(infersim.estimate(MODEL, "H200-SXM"), tables)[0].alone
    sparse = speculation_table(infersim.estimate("Qwen/Qwen3-30B-A3B", "H200-SXM"), tables)[0].alone
    assert sparse < dense - 0.2


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"methods": ["gredy"]}, ("gredy", "greedy")),
        ({"methods": [{"beam": 4}]}, ("beam", "beams")),
        ({"methods": [{"beams": 4, "answers": 2, "sampler": "top_p"}]}, ("one answer",)),
        ({"methods": [{"answers": 4}]}, ("greedy", "temperature")),
        ({"methods": [{"sampler": "top_p", "pick": "majority"}]}, ("answers",)),
        ({"methods": [{"structured": "xgramar"}]}, ("xgramar", "xgrammar")),
        ({"methods": [{"structured": {"engine": "xgrammar", "forced": 1.0}}]}, ("forced", "1.0")),
        ({"methods": [{"thinking_budget": 100}]}, ("thinking",)),
        ({"methods": ["greedy", "greedy"]}, ("greedy", "twice")),
        ({"methods": []}, ("methods",)),
        ({"output_tokens": {"lognormals": {"mean": 3}}}, ("lognormals", "lognormal")),
        ({"acceptance_tables": ["eagle3/llama"]}, ("eagle3/llama",)),
        (
            {"methods": [{"beams": 4, "speculation": "method=ngram,num_speculative_tokens=3,acceptance=0.5"}]},
            ("beam search",),
        ),
    ],
)
def test_bad_specs(given: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InferSimError) as error:
        answer(given, deployment())
    assert all(word in str(error.value) for word in words), str(error.value)


def test_what_cannot_be_decoded() -> None:
    with pytest.raises(DoesNotFitError, match="sequences of one request"):
        one({"sampler": "temperature", "answers": 1000}, output_tokens=4000)
    with pytest.raises(SpecError, match="more than the 131,072"):
        one({"sampler": "temperature", "thinking": 200_000})
    embedding = next(name for name in names("models") if infersim.load_model(name).task != "generate")
    with pytest.raises(UnsupportedError, match="does not generate"):
        decode_with(infersim.estimate(embedding, GPU, input_tokens=100), DecodingMethod())
    assert set(SAMPLING_PASSES) >= {"greedy", "temperature", "top_k_top_p"}
    assert Structured(engine="xgrammar").threads == 1
