"""Decisions: published arithmetic, exact break-even points, what flips a choice, kind refusals."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim import estimate
from infersim.cli.app import main
from infersim.decide.answer import answer, work_out
from infersim.decide.choice import Choice, Figures, Way
from infersim.decide.envelope import break_even_queries, break_evens, cheapest, stretches
from infersim.decide.models import priced
from infersim.decide.spec import QUESTIONS, Decision
from infersim.errors import InferSimError, SpecError, UnknownNameError
from infersim.planning.assumptions import Assumption, Assumptions
from infersim.planning.break_even import break_even_tokens
from infersim.planning.known import knowledge
from infersim.prompts.tiers import recompute_seconds
from infersim.serving.target import Limit, read_limits
from infersim.specs.api import ApiModel
from infersim.specs.workload import Target

PRICES = "3,0.3,15"
FREE_OUTPUT = {"prices": {"input": 3.0, "cached_input": 0.3, "output": 0.0}}
OWN = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM"}
BARE = {"question_tokens": 0.0, "instruction_tokens": 0.0, "output_tokens": 1.0, "index_usd_per_month": 0.0,
        "retrieval_usd_per_query": 0.0, "corpus_changes_per_month": 0.0, "retrieved_passages": 8.0, "passage_tokens": 500.0}  # fmt: skip
ASKED: dict[str, dict[str, Any]] = {
    "rag-vs-long-context": {"model": PRICES},
    "cached-prompt": {"model": {"prices": "3,15", "cache": "anthropic-5m"}},
    "finetune": {"model": PRICES},
    "self-host-vs-api": {"model": OWN, "api": "0.5,0.1,0.8"},
    "cascade": {"model": PRICES, "small": "0.15,0.075,0.6"},
}


def usd(found: Any, way: str) -> float:
    return float(found.at[found.names.index(way)].usd)


# published and worked arithmetic


def test_a_corpus_of_200k_tokens_at_3_usd_costs_6_cents_cached_60_in_full_and_1_2_by_retrieval() -> None:
    """200,000 tokens at 3 USD per million: 0.600 USD, a tenth of it from a cache; 4,000 retrieved tokens: 0.012 USD."""
    asked = {
        "question": "rag-vs-long-context",
        "model": FREE_OUTPUT,
        "assume": BARE | {"corpus_tokens": 200_000.0, "hit_rate": 1.0},
    }
    found = answer(asked)
    assert usd(found, "long context, cached") == pytest.approx(0.060, rel=1e-4)
    assert usd(found, "long context") == pytest.approx(0.600, rel=1e-4)
    assert usd(found, "RAG") == pytest.approx(0.012, rel=1e-4)


def test_200k_tokens_of_llama_8b_hold_26_gb_and_take_22_seconds() -> None:
    """Llama-3.1-8B: 200,000 x 131,072 B = 26.2 GB; 4,000 and 200,000 tokens at 60% of 989 TFLOP/s: 0.101 s and 22.4 s."""
    memory = estimate("meta-llama/Llama-3.1-8B", "H100-SXM").memory
    assert memory.rates.per_token * 200_000 == pytest.approx(26.2e9, rel=2e-3)
    times = recompute_seconds(np.array([4_000, 200_000]), 6.98e9, 4 * 32 * 32 * 128, 0.6 * 989e12)
    assert times == pytest.approx([0.101, 22.4], rel=3e-3)


def test_break_even_of_fine_tuning_is_its_cost_over_the_saving_per_query() -> None:
    """N* = C / (c_prompt - c_tuned) in a refresh period; the curve crosses prompting there (over the months of the period)."""
    found = answer({"question": "finetune", "model": PRICES, "assume": {"index_usd_per_month": 1e5}})
    value = found.choice.assumptions.base()
    prompt, tuned = (
        (3000 * (0.8 * 0.3 + 0.2 * 3) + 200 * 3 + 200 * 15) / 1e6,
        ((300 + 200) * 3 + 200 * 15) / 1e6,
    )
    once = 3e7 * 3 * 10 / 1e6 + value["data_and_evaluation_usd"]
    expected = once / (prompt - tuned)
    assert found.payback_queries == pytest.approx(expected)
    assert float(break_even_queries(once, prompt, tuned)) == pytest.approx(expected)
    (change,) = found.break_evens
    assert change.value * value["refresh_months"] == pytest.approx(expected, rel=1e-9)
    assert not change.jump


def test_training_on_own_devices_is_priced_by_its_flop() -> None:
    """LoRA on Llama-3.1-8B over 3e7 tokens: 4 P D FLOP, 0.68 H100 hours at 40% of peak; at 2 USD an hour 1.36 USD a run."""
    deployed = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=16, price_per_hour=2.0)
    value = answer({"question": "finetune"}, deployed).choice.assumptions.base()
    assert value["training_usd_per_million"] * 30 == pytest.approx(1.36, rel=0.01)


def test_a_cascade_pays_from_the_ratio_of_prices_on() -> None:
    """FrugalGPT's rule (arXiv:2305.05176): c_s + c_j + (1 - a) c_l < c_l where a > (c_s + c_j) / c_l."""
    found = answer({"question": "cascade", **ASKED["cascade"], "assume": {"judge_usd": 2e-5}})
    small, large = (1000 * p_in / 1e6 + 300 * p_out / 1e6 for p_in, p_out in ((0.15, 0.6), (3, 15)))
    (change,) = found.break_evens
    assert change.value == pytest.approx((small + 2e-5) / large, rel=1e-9)
    assert found.names[change.above] == "small first"
    latency = {name: float(one.e2e) for name, one in zip(found.names, found.at, strict=True)}
    assert latency["small first"] == pytest.approx(latency["large model"] * 1.4 + 0.03, rel=1e-6)  # models of one speed


def test_own_devices_that_are_never_full_break_even_with_an_api_in_closed_form() -> None:
    """One replica, no spare: fixed cost over the API's price of a query, as ``break_even_tokens`` has it."""
    found = answer({"question": "self-host-vs-api", "model": OWN | {"gpu_hour": "2 USD"}, "api": "3,3,15",
                    "assume": {"spare_replicas": 0.0, "operation_usd_per_month": 0.0}})  # fmt: skip
    each = (1024 * 3 + 256 * 15) / 1e6
    first = found.break_evens[0]
    assert first.value == pytest.approx(2 * 730 / each, rel=1e-9)
    assert first.value == pytest.approx(float(break_even_tokens(2 * 730.0, each * 1e6)), rel=1e-9)
    assert [name for name, _, _ in found.stretches][:2] == ["API", "own devices"]


def test_a_cached_prompt_is_found_as_often_as_its_time_to_live_says() -> None:
    """A query a minute finds a prefix of five minutes with 1 - e^-5 = 0.9933; the mean of hit and miss is paid."""
    month = 730 * 3600
    found = answer({"question": "cached-prompt", "model": FREE_OUTPUT,
                    "assume": BARE | {"queries_per_month": month / 60, "corpus_tokens": 50_000.0, "cache_ttl": 300.0}})  # fmt: skip
    expected = 50_000 * (0.99326 * 0.3 + 0.00674 * 3) / 1e6
    assert usd(found, "long context, cached") == pytest.approx(expected, rel=1e-3)


def test_writing_a_cache_costs_what_the_scheme_says() -> None:
    """Anthropic's 5 minutes: 1.25 to write, 0.1 to read; a corpus asked for once in a long while is dearer cached."""
    rare = {"queries_per_month": 10.0, "corpus_tokens": 50_000.0}
    found = answer(
        {"question": "cached-prompt", "model": {"prices": "3,0", "cache": "anthropic-5m"}, "assume": BARE | rare}
    )
    assert usd(found, "long context, cached") == pytest.approx(1.25 * usd(found, "long context"), rel=2e-3)


def test_devices_that_cost_nothing_leave_the_people_to_pay() -> None:
    found = answer({"question": "self-host-vs-api", "model": OWN | {"gpu_hour": "0 USD"}, "api": PRICES,
                    "assume": {"operation_usd_per_month": 1000.0, "queries_per_month": 1e6}})  # fmt: skip
    assert usd(found, "own devices") == pytest.approx(1e-3)


# break-even points and envelopes


def linear_envelope(fixed: tuple[float, ...], marginal: tuple[float, ...]) -> tuple[list[int], list[float]]:
    """The cheapest of straight lines fixed + marginal N from N = 0 on, and where each gives way to the next, in closed form."""
    order, breaks = [min(range(len(fixed)), key=lambda i: (fixed[i], marginal[i]))], []
    while True:
        now = order[-1]
        later = [
            (float(break_even_queries(fixed[i] - fixed[now], marginal[now], marginal[i])), marginal[i], i)
            for i in range(len(fixed)) if marginal[i] < marginal[now]
        ]  # fmt: skip
        if not later:
            return order, breaks
        at, _, after = min(later)
        order.append(after)
        breaks.append(max(at, *breaks[-1:]) if breaks else at)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 1000)), min_size=2, max_size=5))
def test_straight_lines_break_even_where_the_closed_form_says(given_lines: list[tuple[int, int]]) -> None:
    lines = [(float(fixed), marginal / 1000) for fixed, marginal in given_lines]
    fixed, marginal = zip(*lines, strict=True)
    order, breaks = linear_envelope(fixed, marginal)
    assert all(a <= b for a, b in itertools.pairwise(breaks))
    grid = np.geomspace(1e-3, 1e12, 200)
    found = break_evens(lambda n: np.array([f + m * n for f, m in lines]), grid)
    costs = np.array([f + m * grid for f, m in lines])
    assert len(found) <= len(breaks)
    for one in found:
        assert min(abs(one.value / b - 1) for b in breaks) < 1e-6
        assert not one.jump
    for n, best in zip(grid, cheapest(costs), strict=True):
        place = sum(b <= n for b in breaks)
        expected = fixed[order[place]] + marginal[order[place]] * n
        assert costs[best, list(grid).index(n)] == pytest.approx(expected, rel=1e-9)


def test_a_third_way_between_two_points_of_the_grid_is_found() -> None:
    """Two changes between neighbours of a grid are told apart where the ends differ."""
    found = break_evens(lambda x: np.array([x, 0 * x + 1.0, 2.05 - x]), np.array([0.0, 2.0]))
    assert [(one.below, one.above) for one in found] == [(0, 1), (1, 2)]
    assert [one.value for one in found] == pytest.approx([1.0, 1.05])


def test_a_step_is_a_jump_and_what_is_out_of_reach_has_no_winner() -> None:
    def costs(x: Any) -> Any:
        return np.array([np.where(x < 3, 1.0, 4.0), 2.0 + 0 * x, np.where(x > 7, np.inf, 5.0)])

    (change,) = break_evens(costs, np.linspace(0, 10, 11))
    assert change.jump
    assert change.value == pytest.approx(3)
    nothing = break_evens(lambda x: np.array([np.where(x < 5, 1.0, np.inf)]), np.linspace(0, 10, 11))
    assert [(one.below, one.above, one.usd) for one in nothing] == [(0, -1, np.inf)]
    assert stretches(nothing, 0, 0.0, 10.0)[-1][0] == -1


@pytest.mark.parametrize("question", QUESTIONS)
def test_costs_of_both_ways_meet_at_a_break_even_that_is_no_jump(question: str) -> None:
    found = answer({"question": question, **ASKED[question]})
    assert found.break_evens
    base = found.choice.assumptions.base()
    for one in found.break_evens:
        costs = found.choice.costs(
            {**base, found.over.name: np.array([one.value * (1 - 1e-9), one.value * (1 + 1e-9)])}
        )
        assert cheapest(costs).tolist() == [one.below, one.above]
        if not one.jump:
            assert costs[one.below, 0] == pytest.approx(costs[one.above, 1], rel=1e-5)
    lowest = np.min([one.usd for one in found.curves], axis=0)
    assert (found.envelope == lowest).all()
    assert (
        next(way for way, _, _ in found.stretches)
        == found.names[int(cheapest(np.stack([c.usd[:1] for c in found.curves]))[0])]
    )


@pytest.mark.parametrize("question", QUESTIONS)
def test_beyond_each_turn_another_way_is_the_cheapest(question: str) -> None:
    found = answer({"question": question, **ASKED[question]})
    base = found.choice.assumptions.base()
    for turn in found.turns:
        far = turn.crossing.value * (1.001 if turn.crossing.value > turn.assumption.base else 0.999)
        best = int(cheapest(found.choice.costs({**base, turn.assumption.name: np.array([far])}))[0])
        assert found.names[best] == turn.to
        assert turn.to != found.best


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_plain_values_and_tables_of_80_columns(question: str) -> None:
    found = answer({"question": question, **ASKED[question]})
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["best"] == found.best
    assert len(told["curve"]["over"]) == len(found.grid)
    assert len(found.rows()) == len(found.grid) * len(found.names)
    assert max(map(len, str(found).splitlines())) <= 80
    assert all(f"{item.name} " in "".join(found.sources) for item in found.choice.assumptions)
    assert any("(assumed)" in line for line in found.sources)
    assert told["missing_evidence"]


@pytest.mark.parametrize("question", [*QUESTIONS, "language-model"])
def test_every_assumption_on_file_says_what_it_rests_on(question: str) -> None:
    for name, known in knowledge(question).assumptions.items():
        assert known.low < known.high, name
        assert len(known.source) > 5, name


# what a user changes


def test_chances_of_success_make_costs_those_of_a_right_answer() -> None:
    plain = answer({"question": "cascade", **ASKED["cascade"]})
    both = answer(
        {"question": "cascade", **ASKED["cascade"], "success": {"large_model": 0.9, "small first": (0.5, 0.8)}}
    )
    assert usd(both, "large model") == pytest.approx(usd(plain, "large model") / 0.9)
    assert usd(both, "small first") == pytest.approx(usd(plain, "small first") / 0.65)
    assert len(both.missing_evidence) == len(plain.missing_evidence) - 1
    never = answer({"question": "cascade", **ASKED["cascade"], "success": {"large model": 0.0, "small first": 0.5}})
    assert never.best == "small first"


def test_a_way_above_the_limit_is_out() -> None:
    asked = {"question": "rag-vs-long-context", "model": PRICES, "assume": {"corpus_tokens": 8000.0, "hit_rate": 0.9}}
    assert answer(asked).best == "long context, cached"
    fast = answer({**asked, "ttft": "640 ms"})
    assert [bool(np.isfinite(one.usd)) for one in fast.at] == [False, True, False]
    none = answer({**asked, "ttft": "100 ms"})
    assert none.best is None
    assert "too slow" in str(none)


def test_a_prompt_longer_than_the_model_reads_is_out_of_reach() -> None:
    found = answer({"question": "rag-vs-long-context", "model": {"prices": PRICES, "context": 100_000}})
    assert found.best == "RAG"
    costs = found.curves[found.names.index("long context")].usd
    assert np.isinf(costs[found.grid > 100_000]).all()
    assert np.isfinite(costs[found.grid < 90_000]).all()
    own = priced(estimate("meta-llama/Llama-3.1-8B", "H100-SXM"))
    assert own.context == 131_072


def test_the_curve_may_be_drawn_over_any_assumption() -> None:
    found = answer({"question": "rag-vs-long-context", "model": PRICES, "over": "input_price", "span": (0.1, 100.0)})
    assert (found.grid[0], found.grid[-1]) == pytest.approx((0.1, 100.0))
    with pytest.raises(UnknownNameError, match=r"input_price"):
        answer({"question": "rag-vs-long-context", "model": PRICES, "over": "input_prize"})


def test_own_devices_are_paid_for_the_hours_in_which_they_idle() -> None:
    deployed = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=16)
    half, full = (
        answer({"question": "finetune", "assume": {"gpu_utilisation": share}}, deployed) for share in (0.5, 1.0)
    )
    assert usd(half, "prompting") == pytest.approx(2 * usd(full, "prompting"))


def test_capacity_of_own_replicas_is_that_within_the_target() -> None:
    loose = answer({"question": "self-host-vs-api", **ASKED["self-host-vs-api"], "assume": {"queries_per_month": 5e7}})
    tight = answer({"question": "self-host-vs-api", **ASKED["self-host-vs-api"], "assume": {"queries_per_month": 5e7}},
                   limits=(Limit("tpot", None, 0.008),))  # fmt: skip
    assert usd(tight, "own devices") > 1.3 * usd(loose, "own devices")
    with pytest.raises(SpecError, match="meets no load"):
        answer({"question": "self-host-vs-api", **ASKED["self-host-vs-api"]}, limits=(Limit("tpot", None, 1e-6),))


@settings(deadline=None, max_examples=25)
@given(st.floats(1e3, 1e6), st.floats(0.0, 0.99), st.floats(1.5, 4.0))
def test_costs_rise_with_tokens_and_fall_with_hits(tokens: float, hit: float, more: float) -> None:
    def cached(corpus: float, rate: float) -> float:
        asked = {
            "question": "rag-vs-long-context",
            "model": PRICES,
            "assume": {"corpus_tokens": corpus, "hit_rate": rate},
        }
        return usd(work_out(_choice(asked)), "long context, cached")

    assert cached(more * tokens, hit) > cached(tokens, hit) >= cached(tokens, min(hit + 0.01, 1.0))


def _choice(asked: dict[str, Any]) -> Choice:
    from infersim.decide.answer import choice_of

    return choice_of(Decision.model_validate(asked))


def test_retrieval_that_is_worked_out_replaces_what_is_assumed_of_it() -> None:
    from infersim.retrieval.answer import answer as retrieve
    from infersim.retrieval.spec import RetrievalSpec

    spec = {"corpus": {"documents": 100, "document_tokens": 2000}, "queries_per_second": 2.0, "top_k": 5,
            "index": {"preset": "faiss-hnsw", "host_hour": "1 USD"},
            "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4"}}  # fmt: skip
    alone = retrieve(RetrievalSpec.model_validate(spec))
    found = answer(
        {
            "question": "rag-vs-long-context",
            "model": FREE_OUTPUT,
            "retrieval": spec,
            "assume": {"instruction_tokens": 0.0},
        }
    )
    tokens = 5 * 512 + 32
    assert usd(found, "RAG") == pytest.approx(tokens * 3e-6 + (alone.usd_per_query or 0.0), rel=1e-6)
    assert float(found.at[0].ttft) == pytest.approx(0.5 + tokens / 11_000 + alone.seconds)
    with pytest.raises(SpecError, match="no use for retrieval"):
        answer({"question": "cascade", **ASKED["cascade"], "retrieval": spec})


def test_a_choice_of_ones_own() -> None:
    """The machinery takes any ways: renting a machine at 2 USD an hour against 0.01 USD a call."""
    known = Assumptions(
        (Assumption.around("queries_per_month", 1e5, 1e4, 1e6), Assumption.around("rent", 2.0, 1.5, 3.0))
    )
    ways = (
        Way("rent", lambda v: Figures(v["rent"] * 730 / v["queries_per_month"], 0.1, 1.0)),
        Way("call", lambda v: Figures(0.01, 0.1, 1.0)),
    )
    found = work_out(Choice("rent or call", "queries_per_month", known, ways))
    assert [one.value for one in found.break_evens] == pytest.approx([146_000])
    assert found.best == "call"
    assert {turn.assumption.name for turn in found.turns} == {"queries_per_month", "rent"}


# bad input


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"question": "rag-vs-long-contxt"}, "did you mean 'rag-vs-long-context'"),
        ({"question": "cascade", "model": PRICES}, "needs small"),
        ({"question": "self-host-vs-api", "model": OWN}, "needs api"),
        ({"question": "finetune", "model": PRICES, "small": PRICES}, "no use for small"),
        ({"question": "finetune"}, "is needed"),
        ({"question": "self-host-vs-api", "model": PRICES, "api": PRICES}, "own devices"),
        ({"question": "finetune", "model": "3"}, "write USD per million"),
        ({"question": "finetune", "model": PRICES, "assume": {"refresh_month": 2.0}}, "did you mean 'refresh_months'"),
        ({"question": "finetune", "model": PRICES, "assume": {"hit_rate": 1.5}}, "from 0 to 1"),
        ({"question": "finetune", "model": PRICES, "assume": {"prompt_tokens": -5.0}}, "from 0 on"),
        ({"question": "finetune", "model": PRICES, "assume": {"queries_per_month": 0.0}}, "from 1 on"),
        ({"question": "finetune", "model": PRICES, "assume": {"refresh_months": 0.0}}, "from 0.01 to"),
        (
            {"question": "self-host-vs-api", "model": OWN, "api": PRICES, "assume": {"capacity_factor": 0.0}},
            "from 0.001 to",
        ),
        ({"question": "finetune", "model": {"model": "meta-llama/Llama-3.1-70B", "hardware": "L4"}}, "does not fit"),
        ({"question": "finetune", "model": PRICES, "span": (5.0, 2.0)}, "from a lower to a higher"),
        ({"question": "cascade", **ASKED["cascade"], "success": {"large model": 0.9}}, "missing: small first"),
        ({"question": "cascade", **ASKED["cascade"], "success": {"big model": 0.9}}, "no way is called"),
        ({"question": "finetune", "model": {"prices": PRICES, "cache": "anthropic-6m"}}, "anthropic-5m"),
        ({"question": "finetune", "model": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4"}}, "does not generate"),
        ({"question": "finetune", "model": {"prices": PRICES, "contxt": 5}}, "context"),
    ],
)
def test_refusals_say_what_would_be_right(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InferSimError, match=said):
        answer(asked)


# targets by name


def test_mlperf_limits_are_targets_by_name() -> None:
    """mlcommons/inference, LLM_LATENCY_LIMITS of v6.0: Llama-2-70B 450/40 ms, DeepSeek-R1 1,500/15 ms interactive, p99."""
    assert read_limits("mlperf/llama-2-70b-interactive") == (Limit("ttft", 99.0, 0.45), Limit("tpot", 99.0, 0.04))
    assert read_limits("mlperf/deepseek-r1-interactive") == (Limit("ttft", 99.0, 1.5), Limit("tpot", 99.0, 0.015))
    assert read_limits("mlperf/llama-3.1-405b-server")[1].seconds == pytest.approx(0.175)
    assert Target.model_validate("chat/fast").ttft == 0.2
    with pytest.raises(UnknownNameError, match=r"mlperf/llama-3\.1-8b"):
        read_limits("mlperf/llama-3.1-8b-interactiv")


# the command


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    shown = capsys.readouterr()
    return int(stopped.value.code or 0), shown.out, shown.err


def test_the_command_answers_in_text_json_csv_and_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "choice.svg"
    asked = ["decide", "rag-vs-long-context", "--api", PRICES, "--assume", "corpus_tokens=2e5", "--target", "ttft=2s"]
    code, text, _ = _run(capsys, *asked, "--plot", str(picture))
    assert code == 0
    assert "* RAG" in text
    assert "too slow" in text
    assert picture.read_text().startswith("<?xml")
    told = json.loads(_run(capsys, *asked, "--json")[1])
    assert told["your_value"] == 2e5
    assert told["ttft_limit_s"] == 2
    lines = _run(capsys, *asked, "--csv")[1].splitlines()
    assert lines[0] == "corpus_tokens,way,usd_per_query,ttft_s,e2e_s"
    assert len(lines) == 1 + 3 * len(told["curve"]["over"])


def test_the_command_reads_a_file_and_models_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "choice.yaml"
    file.write_text('decide: {question: finetune, model: "3,0.3,15", assume: {refresh_months: [1, 2, 4]}}\n')
    assert "fine-tuning" in _run(capsys, "decide", str(file))[1]
    code, text, _ = _run(
        capsys, "decide", "cascade", "--api", PRICES, "--small", "L4 model=meta-llama/Llama-3.2-1B", "--sources"
    )
    assert code == 0
    assert "small.gpu_hour" in text
    code, text, _ = _run(capsys, "decide", "self-host-vs-api", "meta-llama/Llama-3.1-8B", "--gpu", "L40S", "--api", "0.2,0.2",
                         "--target", "tpot=60ms")  # fmt: skip
    assert (code, "own devices" in text) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["finetune"], "needs MODEL with --gpu, or --api"),
        (["self-host-vs-api", "--api", PRICES], "needs MODEL with --gpu"),
        (["finetune", "meta-llama/Llama-3.1-8B"], "go together"),
        (["finetune", "meta-llama/Llama-3.1-8B", "--gpu", "L4", "--api", PRICES], "not both"),
        (["finetune", "--api", PRICES, "--span", "5"], "1e3..1e7"),
        (["finetune", "--api", PRICES, "--target", "ttft_p95=1s"], "mean ttft alone"),
        (["cascade", "--api", PRICES, "--small", "L4"], "or a model as"),
        (["finetune", "--cache", "anthropic-5m"], "give its prices"),
        (["nowhere.yaml"], "no such file"),
    ],
)
def test_the_command_refuses_kindly(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    code, _, told = _run(capsys, "decide", *arguments)
    assert code == 2
    assert said in told


def test_prices_of_an_api_are_read_in_one_text() -> None:
    model = ApiModel.model_validate("3,15")
    assert (model.prices.input, model.prices.cached_input, model.prices.output) == (3.0, None, 15.0)
