"""Assumptions, draws and Monte Carlo: where the answer is known in closed form, what must always hold, and bad input."""

from __future__ import annotations

import functools
import json
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersim import estimate
from infersim.errors import DoesNotFitError, SpecError, UnsupportedError
from infersim.planning import outcome as outcomes
from infersim.planning.assumptions import Assumption, Assumptions, read_assumption
from infersim.planning.distributions import Quantiles, Triangular, measured, scaled, score_of
from infersim.planning.outcome import Choice, gpus_for
from infersim.planning.sensitivity import tornado
from infersim.planning.service import Scatter, capacity_of, service_curve
from infersim.planning.uncertainty import MonteCarlo, chance_of, monte_carlo
from infersim.planning.usual import usual_assumptions
from infersim.predict.estimate import Estimate
from infersim.predict.interval import metric_correlation, regime, shared_error
from infersim.serving.target import read_limits
from infersim.validate.chances import reliability, stated_and_kept
from infersim.validate.serving import shipped_serving_points

NORMAL = NormalDist()
TARGET = "ttft_p95=1s,tpot_p95=40ms"


@functools.lru_cache
def deployment(**changed: Any) -> Estimate:
    told = {"input_tokens": 1000, "output_tokens": 200, "prefix_hit": 0.3} | changed
    return estimate("meta-llama/Llama-3.1-8B", "H100-SXM", **told)


def only(name: str, value: Any, rate: float = 100.0) -> MonteCarlo:
    """Monte Carlo where one assumption alone is uncertain."""
    choice = Choice(deployment(), read_limits(TARGET))
    usual = usual_assumptions(choice, rate)
    certain = {item.name: item.base for item in usual} | {name: value}
    return monte_carlo(choice, request_rate=rate, assumptions=usual.changed(certain))


# closed forms


def test_cost_quantiles_of_a_lognormal_price_are_exact() -> None:
    """GPUs are certain, so cost per year is gpus x 8760 x price, and its quantiles are the price's."""
    found = only("price.per_hour", (1.5, 2.0, 2.0**2 / 1.5))
    gpus = float(found.base.gpus)
    assert found.base.usd_per_year == pytest.approx(gpus * 8760 * 2.0)
    for percent in (5, 25, 50, 75, 95):
        price = 2.0 * math.exp(score_of(percent) * math.log(2.0 / 1.5) / NORMAL.inv_cdf(0.95))
        assert found.quantile("usd_per_year", percent) == pytest.approx(gpus * 8760 * price, rel=2e-3)
    assert set(found.outcome.gpus) == {gpus}
    # USD/h over tokens/h: 200 output tokens x 100 requests/s
    assert found.base.usd_per_million_tokens == pytest.approx(gpus * 2.0 / 3600 / (200 * 100) * 1e6)


def test_terms_of_ownership_are_assumptions_like_others() -> None:
    """30,000 USD a device over y years, 700 W at PUE 1.3 and p USD/kWh: (30000 / y + 0.91 x 8760 p) / 8760 USD an hour."""
    terms = (Assumption.around("years", 4.0, 3.0, 5.0), Assumption.around("energy.price", 0.1, 0.06, 0.2))
    owned = Choice(
        deployment(), read_limits(TARGET), terms=terms,
        hourly=lambda v: 30_000 / np.asarray(v["years"]) / 8760 + 0.7 * 1.3 * np.asarray(v["energy.price"]),
    )  # fmt: skip
    found = monte_carlo(owned, request_rate=100, samples=400)
    hour = 30_000 / 4 / 8760 + 0.91 * 0.1
    assert float(found.base.usd_per_year) == pytest.approx(hour * 8760 * float(found.base.gpus))
    assert "price.per_hour" not in found.assumptions.names
    bars = {bar.name: bar for bar in tornado(lambda v: owned.outcome(v).usd_per_year, found.assumptions).bars}
    assert bars["years"].low / bars["years"].base == pytest.approx((30_000 / 3 / 8760 + 0.091) / hour)
    assert bars["energy.price"].high > bars["energy.price"].base > bars["energy.price"].low


def test_a_price_may_turn_out_to_be_the_middle_one_on_file() -> None:
    """Planned with the cheapest of the prices on file; the 95% quantile is their median where that is far above."""
    one = deployment()
    quotes = [price.per_hour for price in one.machine.accelerator.prices if price.kind == "on_demand"]
    known = usual_assumptions(Choice(one), 10.0)["price.per_hour"]
    assert known.base == one.price_per_hour
    assert known.high == pytest.approx(max(1.2 * known.base, float(np.median(quotes))))  # type: ignore[arg-type]
    own = usual_assumptions(Choice(deployment(price_per_hour=2.0)), 10.0)["price.per_hour"]
    assert (own.low, own.high) == pytest.approx((2.0 / 1.2, 2.0 * 1.2))


def test_stated_chances_are_kept_by_measurements() -> None:
    """Of targets stated to be kept with some chance, measured points keep about as many (points that the fit may see)."""
    points = shipped_serving_points()[::7]
    for row in reliability(stated_and_kept(points, judging=False)):
        assert row.kept == pytest.approx(row.stated, abs=0.12)


def test_base_figures_are_those_of_the_service_curve() -> None:
    """At base values nothing is drawn: the capacity is the closed form's, and replicas are the load over it, rounded up."""
    found = only("price.per_hour", 2.0)
    capacity = float(capacity_of(service_curve(deployment()), read_limits(TARGET)).rate)
    assert float(found.base.capacity) == pytest.approx(capacity)
    assert float(found.base.gpus) == math.ceil(100 / capacity)
    assert float(found.base.ttft) * Scatter().factor(read_limits(TARGET)[0]) <= 1.0
    assert float(found.base.tpot) * Scatter().factor(read_limits(TARGET)[1]) <= 0.04


def test_chance_of_a_lognormal_load_is_exact() -> None:
    """n replicas serve a load R with P(R <= n c); R log-normal with 90% of it within a factor 1.5 of 100 requests/s."""
    found = only("workload.request_rate", (100 / 1.5, 100.0, 150.0))
    capacity, sigma = float(found.base.capacity), math.log(1.5) / NORMAL.inv_cdf(0.95)
    for gpus, chance in found.chances.items():
        assert chance.value == pytest.approx(NORMAL.cdf(math.log(gpus * capacity / 100) / sigma), abs=2e-3)
        assert chance.low <= chance.value <= chance.high
    assert len(found.chances) > 3


def test_errors_of_predictions_have_the_measured_quantiles() -> None:
    """The factor drawn is exp(q x sqrt(s^2 + t^2)) at the regime's quantiles."""
    known = usual_assumptions(Choice(deployment()), 10.0)
    for metric in ("ttft", "tpot"):
        found = regime("vllm", "dense", metric)
        spread = math.hypot(found.added, deployment().log_spread(metric))
        drawn = known.draw(4000, seed=3)[f"prediction.{metric}"]
        for percent, quantile in found.quantiles.items():
            value = float(np.percentile(drawn, percent, method="inverted_cdf"))
            assert math.log(value) == pytest.approx(quantile * spread, abs=0.05)
        interval = deployment().interval(metric)
        assert interval is not None
        assert known[f"prediction.{metric}"].low == pytest.approx(interval.low / getattr(deployment(), metric))


def test_correlated_errors_are_drawn_as_measured() -> None:
    known = usual_assumptions(Choice(deployment()), 10.0)
    drawn = known.draw(4000, seed=1)
    scores = [
        [known[f"prediction.{m}"].distribution.score(float(v)) for v in drawn[f"prediction.{m}"]]
        for m in ("ttft", "tpot")
    ]
    expected = metric_correlation("vllm", "dense")
    assert float(np.corrcoef(scores)[0, 1]) == pytest.approx(expected, abs=0.03)
    assert -1 < expected < 1
    assert 0 <= shared_error("tpot", same_device=False) <= shared_error("tpot", same_device=True) < 1


def test_wholly_correlated_assumptions_move_as_one() -> None:
    pair = tuple(Assumption.around(name, 2.0, 1.0, 4.0) for name in ("a", "b"))
    drawn = Assumptions(pair, {("a", "b"): 1.0}).draw(200)
    assert drawn["a"] == pytest.approx(drawn["b"])
    apart = Assumptions(pair).draw(4000)
    assert abs(np.corrcoef(apart["a"], apart["b"])[0, 1]) < 0.05


def test_wilson_interval_of_a_textbook_case() -> None:
    """Newcombe 1998, Statistics in Medicine 17, 857, table I: 81 of 263 is 0.2553 to 0.3662, 0 of 20 is 0 to 0.1611."""
    found = chance_of(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert (chance_of(0, 20).low, chance_of(0, 20).high) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_triangle_and_measured_values() -> None:
    """Triangle 0..1 with its mode at 0: P(X < x) = 1 - (1 - x)^2. A log-normal sample keeps its quantiles."""
    triangle = Triangular(0.0, 0.0, 1.0)
    for chance in (0.1, 0.5, 0.9):
        assert float(triangle.value(NORMAL.inv_cdf(chance))) == pytest.approx(1 - math.sqrt(1 - chance))
        assert triangle.score(1 - math.sqrt(1 - chance)) == pytest.approx(NORMAL.inv_cdf(chance))
    sample = measured(np.exp(np.random.default_rng(0).normal(0.0, 0.5, 20_000)))
    assert float(sample.value(2.0)) == pytest.approx(math.exp(1.0), rel=0.05)
    assert scaled({5: -1.0, 25: -0.5, 75: 0.5, 95: 2.0}, 0.2).values[-1] == pytest.approx(math.exp(0.4))


# interpolation and speed of thought


def test_interpolated_cases_agree_with_computed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    near = monte_carlo(deployment(), target=TARGET, request_rate=200, samples=400)
    monkeypatch.setattr(outcomes, "EXACT_CASES", 10**6)
    true = monte_carlo(deployment(), target=TARGET, request_rate=200, samples=400)
    assert 0 < near.outcome.interpolation_error < outcomes.TOLERATED
    assert true.outcome.interpolation_error == 0
    assert float(np.mean(np.abs(near.outcome.capacity / true.outcome.capacity - 1))) < outcomes.TOLERATED
    for gpus, chance in true.chances.items():
        assert near.chance(gpus).value == pytest.approx(chance.value, abs=0.05)


def test_rough_curves_are_computed_not_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "TOLERATED", 0.0)
    found = monte_carlo(deployment(), target=TARGET, request_rate=200, samples=200)
    assert found.outcome.interpolation_error == 0
    assert not any("interpolated" in note for note in found.notes())


def test_drafts_accepted_more_often_need_no_more_gpus() -> None:
    drafted = deployment(speculation="method=ngram,num_speculative_tokens=4,acceptance=0.6")
    choice = Choice(drafted, read_limits(TARGET))
    known = usual_assumptions(choice, 200.0)
    assert known["speculation.acceptance"].base == pytest.approx(0.6)
    shares = np.array([0.3, 0.5, 0.6, 0.8])
    found = choice.outcome(known.base() | {"speculation.acceptance": shares})
    assert (np.diff(found.gpus) <= 0).all()
    assert found.capacity[-1] > found.capacity[0]
    drawn = monte_carlo(choice, request_rate=200, samples=300)
    assert drawn.quantile("capacity", 5) < float(drawn.base.capacity) < drawn.quantile("capacity", 95)


# laws


@given(st.integers(0, 50), st.sampled_from([20.0, 300.0]))
def test_more_gpus_never_lower_the_chance(seed: int, rate: float) -> None:
    found = monte_carlo(deployment(), target=TARGET, request_rate=rate, samples=130, seed=seed)
    values = [found.chance(gpus).value for gpus in range(60)]
    assert values == sorted(values)
    for chance in (0.1, 0.5, 0.9):
        gpus = found.gpus_for(chance)
        if gpus is not None:
            assert found.chance(gpus).value >= chance > found.chance(gpus - 1).value


@given(
    st.floats(1.05, 2.0),
    st.floats(1.05, 2.0),
    st.sampled_from(["price.per_hour", "workload.request_rate", "workload.output_tokens"]),
)
def test_a_wider_assumption_never_narrows_the_cost(one: float, other: float, name: str) -> None:
    """By more than a GPU of a workload's: they are whole, and a quantile that lies on the edge of one falls to either side of it."""
    narrow, wide = sorted((one, other))
    base = {"price.per_hour": 2.0, "workload.request_rate": 100.0, "workload.output_tokens": 200.0}[name]
    spans = []
    for factor in (narrow, wide):
        found = only(name, (base / factor, base, base * factor))
        spans.append(found.quantile("usd_per_year", 95) - found.quantile("usd_per_year", 5))
    whole = 0.0 if name.startswith("price") else found.base.usd_per_year / float(found.base.gpus)
    assert spans[0] <= spans[1] * (1 + 1e-9) + whole


@given(
    st.lists(st.integers(1, 99), min_size=2, max_size=5, unique=True), st.sampled_from(["log", "linear", "logit"]), st.data()
)  # fmt: skip
def test_a_distribution_passes_through_its_quantiles_and_back(
    shares: list[int], scale: Any, data: st.DataObject
) -> None:
    values = [share / 100 for share in sorted(shares)]
    percents = sorted(data.draw(st.lists(st.integers(1, 99), min_size=len(values), max_size=len(values), unique=True)))
    known = Quantiles(tuple(map(float, percents)), tuple(values), scale)
    for percent, value in zip(percents, values, strict=True):
        assert float(known.value(score_of(percent))) == pytest.approx(value, rel=1e-6)
        assert known.score(value) == pytest.approx(score_of(percent), abs=1e-6)
    scores = np.linspace(-4, 4, 81)
    assert (np.diff(known.value(scores)) >= 0).all()
    if scale == "logit":
        assert ((known.value(scores) >= 0) & (known.value(scores) <= 1)).all()


@given(st.permutations(["a", "b", "c"]), st.integers(0, 5))
def test_draws_depend_on_names_and_seed_alone(order: list[str], seed: int) -> None:
    items = {name: Assumption.around(name, 2.0, 1.0, 3.0 + place) for place, name in enumerate(["a", "b", "c"])}
    plain = Assumptions(tuple(items.values())).draw(64, seed)
    shuffled = Assumptions(tuple(items[name] for name in order)).draw(64, seed)
    for name, values in plain.items():
        assert np.array_equal(values, shuffled[name])


@functools.lru_cache
def pools() -> Choice:
    prompts = deployment(tensor_parallel=2)
    return Choice(deployment(), read_limits(TARGET), prefill=prompts)


@given(st.booleans(), st.floats(0.5, 400.0), st.floats(0.3, 3.0), st.floats(0.5, 3.0), st.floats(0.5, 3.0))
def test_what_makes_service_harder_never_needs_fewer_gpus(
    two: bool, rate: float, loose: float, first: float, each: float
) -> None:
    """More load, tighter targets, slower prompts or slower tokens; and money is what the price makes of the GPUs."""
    choice = pools() if two else Choice(deployment(), read_limits(TARGET))
    base = usual_assumptions(choice, rate).base() | {"prediction.ttft": first, "prediction.tpot": each}
    base |= {name: value * loose for name, value in base.items() if name.startswith("target.")}
    steps = np.geomspace(0.25, 4.0, 17)
    harder = {"workload.request_rate": 1, "prediction.ttft": 1, "prediction.tpot": 1, "scatter.ttft": 1} | {
        f"target.{limit.name}": -1 for limit in choice.limits
    }
    if two:  # fuller decode replicas leave less of TTFT to prompts
        del harder["target.tpot_p95"], harder["prediction.tpot"]
    for name, sign in harder.items():
        gpus = choice.outcome(base | {name: base[name] * steps}).gpus
        change = np.diff(np.nan_to_num(gpus, posinf=1e12))
        assert (sign * change >= 0).all(), name
    priced = choice.outcome(base | {"price.per_hour": steps})
    known = np.isfinite(priced.gpus)
    assert priced.usd_per_year[known] == pytest.approx((priced.gpus * steps * 8760)[known])


def test_same_seed_same_answer_other_seed_within_the_sampling_error() -> None:
    runs = [monte_carlo(deployment(), target=TARGET, request_rate=300, samples=1000, seed=seed) for seed in (5, 5, 6)]
    assert runs[0].to_dict() == runs[1].to_dict()
    assert not np.array_equal(runs[0].outcome.gpus, runs[2].outcome.gpus)
    for gpus in runs[0].chances:
        assert runs[0].chance(gpus).value == pytest.approx(runs[2].chance(gpus).value, abs=0.06)


@pytest.mark.parametrize(("tensor", "pipeline"), [(1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (2, 3)])
def test_whole_nodes_hold_whole_replicas(tensor: int, pipeline: int) -> None:
    one = estimate(
        "meta-llama/Llama-3.1-70B", "H100-SXM", tensor_parallel=tensor, pipeline_parallel=pipeline, precision="w4a16"
    )
    each = tensor * pipeline
    for replicas in range(1, 20):
        gpus = float(gpus_for(replicas, one, whole_nodes=True))
        assert gpus % 8 == 0
        assert gpus >= float(gpus_for(replicas, one)) == each * replicas
        # a node less holds fewer replicas
        assert (gpus - 8) // 8 * (8 // each) < replicas if each <= 8 else gpus - 8 < each * replicas


# what is shown


def test_the_sentence_names_gpus_and_chances() -> None:
    found = monte_carlo(deployment(), target=TARGET, request_rate=300)
    first = found.gpus_for(0.5)
    assert found.sentence.startswith(f"{first} GPUs: {found.chance(first or 0)} chance of meeting the target; ")
    assert max(map(len, str(found).splitlines())) <= 100
    answer = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert answer["figures"]["ttft_s"]["p5"] <= answer["figures"]["ttft_s"]["p95"]
    assert all(line.count(":") for line in found.sources)
    frame = found.to_frame()
    assert len(frame) == 2000
    assert {"workload.input_tokens", "gpus", "usd_per_year", "capacity_requests_per_s"} <= set(frame.columns)


def test_an_impossible_target_is_said() -> None:
    found = monte_carlo(deployment(), target="ttft=1us", request_rate=10, samples=200)
    assert found.gpus_for(0.5) is None
    assert "No number of H100-SXM" in found.sentence
    assert found.never.value == 1
    json.dumps(found.to_dict(), allow_nan=False)


def test_an_embedding_model_has_no_output() -> None:
    one = estimate("BAAI/bge-m3", "L40S", input_tokens=500)
    found = monte_carlo(one, target="ttft=200ms", request_rate=2000, samples=300)
    assert "workload.output_tokens" not in found.assumptions.names
    assert "prediction.tpot" not in found.assumptions.names
    assert found.base.usd_per_million_tokens == pytest.approx(
        float(found.base.usd_per_hour) / 3.6e9 / (2000 * 500) * 1e12
    )


def test_sequences_longer_than_the_model_are_counted() -> None:
    long = deployment(input_tokens=120_000, prefix_hit=0.0)
    found = monte_carlo(long, request_rate=1, samples=130)
    assert any("longer than" in note for note in found.notes())


# bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"request_rate": 0}, "above zero"),
        ({"request_rate": math.nan}, "above zero"),
        ({"request_rate": "20"}, "above zero"),
        ({"samples": 1}, "from 2"),
        ({"samples": 2.5}, "whole number"),
        ({"seed": -1}, "from zero"),
        ({"target": "ttft=fast"}, "ttft"),
        ({"assumptions": {"workload.input": (1, 2)}}, "workload.input_tokens"),
        ({"assumptions": {"price.per_hour": "cheap"}}, "price.per_hour"),
        ({"assumptions": {"price.per_hour": (3.0, 1.0)}}, "price.per_hour"),
        ({"assumptions": {"price.per_hour": (1.0, 9.0, 3.0)}}, "does not hold"),
        ({"assumptions": {"price.per_hour": (1.0, math.inf)}}, "price.per_hour"),
        ({"assumptions": {"price.per_hour": (0.0, 2.0, 3.0)}}, "log"),
        ({"assumptions": {"workload.prefix_hit": (0.1, 1.5)}}, "logit"),
    ],
)
def test_bad_input_is_a_kind_sentence(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        monte_carlo(deployment(), **({"request_rate": 20.0, "target": TARGET} | arguments))


def test_deployments_that_cannot_be_chosen() -> None:
    with pytest.raises(DoesNotFitError):
        Choice(estimate("meta-llama/Llama-3.1-70B", "L40S"))
    with pytest.raises(UnsupportedError, match="one replica"):
        Choice(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", replicas=2))
    choice = Choice(deployment(), read_limits(TARGET))
    with pytest.raises(SpecError, match="no figure"):
        choice.outcome(usual_assumptions(choice, 10.0).base()).figure("gpu")
    found = monte_carlo(choice, request_rate=10, samples=10)
    for call in (lambda: found.chance(-1), lambda: found.gpus_for(0), lambda: found.quantile("gpus", 101)):
        with pytest.raises(SpecError):
            call()


@pytest.mark.parametrize("text", ["price.per_hour", "=2", "a=1..2..3..4", "a=x", "a=1..", ""])
def test_unreadable_assumptions(text: str) -> None:
    with pytest.raises(SpecError, match="write an assumption as"):
        read_assumption(text)


def test_contradictory_sets() -> None:
    items = tuple(Assumption.around(name, 2.0, 1.0, 4.0) for name in "abc")
    with pytest.raises(SpecError, match="contradict"):
        Assumptions(items, {("a", "b"): 0.9, ("b", "c"): 0.9, ("a", "c"): -0.9}).draw(10)
    with pytest.raises(SpecError, match="-1 to 1"):
        Assumptions(items, {("a", "b"): 1.5})
    with pytest.raises(SpecError, match="named twice"):
        Assumptions((items[0], items[0]))
    with pytest.raises(SpecError, match="rise"):
        Quantiles((5.0, 95.0), (2.0, 1.0))
    with pytest.raises(SpecError, match="triangle"):
        Triangular(1.0, 0.0, 2.0)
    with pytest.raises(SpecError, match="twenty"):
        measured([1.0, 2.0])
