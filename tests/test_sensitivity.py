"""Tornado, shares of the variance and what would flip a choice: known answers, laws, bad input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersim.errors import SpecError
from infersim.planning.assumptions import Assumption, Assumptions
from infersim.planning.distributions import Quantiles, Triangular, score_of
from infersim.planning.flips import FARTHEST, flips
from infersim.planning.sensitivity import tornado, variance_shares

Metric = Callable[[Mapping[str, Any]], Any]


def normal(name: str, mean: float, deviation: float) -> Assumption:
    """A normal distribution, certain where it has no deviation."""
    reach = deviation * score_of(95.0)
    return Assumption.around(name, mean, mean - reach, mean + reach, scale="linear")


def positive(**bases: float) -> Assumptions:
    """Log-normal assumptions whose 90% range is a factor of two to both sides."""
    return Assumptions(tuple(Assumption.around(name, base, base / 2, base * 2) for name, base in bases.items()))


# shares of the variance


def test_variance_shares_of_a_linear_model() -> None:
    """Y = sum of a_i X_i of independent X_i: the share of X_i is a_i^2 var_i / sum of those."""
    weights, deviations = {"a": 3.0, "b": 2.0, "c": -1.0}, {"a": 1.0, "b": 2.0, "c": 1.0}
    known = Assumptions(tuple(normal(name, 10.0, deviations[name]) for name in weights))
    drawn = known.draw(20_000)
    found = variance_shares(drawn, sum(weight * drawn[name] for name, weight in weights.items()))
    total = sum((weights[name] * deviations[name]) ** 2 for name in weights)
    for name, weight in weights.items():
        assert found[name] == pytest.approx((weight * deviations[name]) ** 2 / total, abs=0.015)


def test_variance_shares_of_ishigami_function() -> None:
    """Ishigami and Homma 1990, a = 7, b = 0.1: first-order indices 0.3139, 0.4424 and 0 (Saltelli et al. 2008, Global Sensitivity
    Analysis, section 4)."""
    generator = np.random.default_rng(0)
    x = {name: generator.uniform(-math.pi, math.pi, 60_000) for name in "abc"}
    y = np.sin(x["a"]) + 7 * np.sin(x["b"]) ** 2 + 0.1 * x["c"] ** 4 * np.sin(x["a"])
    found = variance_shares(x, y)
    assert found["a"] == pytest.approx(0.3139, abs=0.012)
    assert found["b"] == pytest.approx(0.4424, abs=0.025)  # twenty classes over four arches
    assert found["c"] == pytest.approx(0.0, abs=0.01)


def test_shares_need_a_sample_that_varies() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=1000)
    assert variance_shares({"x": x}, np.ones(1000)) == {}
    assert variance_shares({"x": x[:100]}, x[:100]) == {}
    never = np.where(x > 0, np.inf, x)
    assert variance_shares({"x": x, "still": np.ones(1000)}, never)["x"] > 0.9
    assert "still" not in variance_shares({"x": x, "still": np.ones(1000)}, never)


# tornado


def test_tornado_of_a_product() -> None:
    """Cost = price x GPUs: each at its ends with the other at its base."""
    known = Assumptions((Assumption.around("price", 2.0, 1.5, 3.0), Assumption.around("gpus", 10.0, 9.0, 11.0)))
    found = tornado(lambda v: v["price"] * v["gpus"], known, "cost", "USD/h")
    assert [bar.name for bar in found.bars] == ["price", "gpus"]
    assert (found.bars[0].low, found.bars[0].base, found.bars[0].high) == pytest.approx((15.0, 20.0, 30.0))
    assert (found.bars[1].low, found.bars[1].high) == pytest.approx((18.0, 22.0))
    assert found.bars[0].swing == pytest.approx(15.0)
    answer = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert answer["bars"][0]["figure_at_high"] == pytest.approx(30.0)
    assert len(found.to_frame()) == 2


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=5), st.floats(-2, 2))
def test_bars_hold_the_base_and_fall_in_width(weights: list[float], bend: float) -> None:
    known = positive(**{f"x{place}": 1.0 + place for place in range(len(weights))})

    def metric(values: Mapping[str, Any]) -> Any:
        return (
            sum(weight * np.log(values[f"x{place}"]) for place, weight in enumerate(weights)) + bend * values["x0"] ** 2
        )

    found = tornado(metric, known)
    assert all(bar.least <= bar.base <= bar.most for bar in found.bars)
    swings = [bar.swing for bar in found.bars]
    assert swings == sorted(swings, reverse=True)
    assert len({bar.base for bar in found.bars}) == 1


def test_an_end_out_of_reach_is_shown_first() -> None:
    known = positive(load=10.0, price=2.0)
    found = tornado(lambda v: np.where(v["load"] > 15, np.inf, v["load"] * v["price"]), known, "cost", "USD")
    assert found.bars[0].name == "load"
    assert math.isinf(found.bars[0].swing)
    assert "none" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_nothing_to_vary() -> None:
    certain = Assumptions((Assumption.certain("price", 2.0),))
    with pytest.raises(SpecError, match="no uncertain"):
        tornado(lambda v: v["price"], certain)
    with pytest.raises(SpecError, match="no uncertain"):
        flips(lambda v: v["price"], lambda v: v["price"], certain)


# flips


def test_flip_of_a_linear_cost() -> None:
    """Rent of 10 GPUs at p against 8 at 3: equal at p = 2.4; the price may be off by a factor of two, nine times in ten."""
    found = flips(lambda v: 10 * v["price"], lambda v: 8 * 3.0 + 0 * v["price"], positive(price=2.0))
    (flip,) = found.each
    (crossing,) = flip.crossings
    assert crossing.value == pytest.approx(2.4, rel=1e-4)
    assert crossing.a == pytest.approx(crossing.b, rel=1e-4)
    assert not crossing.jump
    assert crossing.b_wins_above
    sigma = math.log(2.0) / score_of(95.0)
    assert crossing.chance == pytest.approx(0.5 * math.erfc(math.log(1.2) / sigma / math.sqrt(2)), rel=1e-3)
    assert found.cheaper == "A"
    assert "B wins if price rises above 2.4" in str(found)
    assert found.to_frame()["value"][0] == pytest.approx(2.4, rel=1e-4)


def test_all_crossings_of_a_curve_that_turns() -> None:
    """(x - 1)(x - 3) against 0: two crossings."""
    known = Assumptions((Assumption("x", 2.0, Triangular(0.0, 2.0, 4.0)),))
    found = flips(lambda v: (v["x"] - 1) * (v["x"] - 3), lambda v: 0 * v["x"], known, ranges={"x": (0.0, 4.0)})
    assert [crossing.value for crossing in found.each[0].crossings] == pytest.approx([1.0, 3.0], abs=1e-4)
    assert [crossing.b_wins_above for crossing in found.each[0].crossings] == [False, True]


def test_whole_replicas_step_past_each_other() -> None:
    """ceil(load / 3) x 4 against 21: from 15 to just above it the cost of A jumps from 20 to 24."""
    found = flips(lambda v: 4 * np.ceil(v["load"] / 3), lambda v: 21.0 + 0 * v["load"], positive(load=10.0))
    (crossing,) = found.each[0].crossings
    assert crossing.value == pytest.approx(15.0, rel=1e-4)
    assert crossing.jump
    assert (crossing.a, crossing.b) == (24.0, 21.0)


def test_a_wall_flips_too() -> None:
    """A is out of reach above a load of 12, B always serves."""
    found = flips(lambda v: np.where(v["load"] > 12, np.inf, 1.0), lambda v: 2.0 + 0 * v["load"], positive(load=10.0))
    (crossing,) = found.each[0].crossings
    assert crossing.value == pytest.approx(12.0, rel=1e-4)
    assert crossing.jump
    assert math.isinf(crossing.a)
    json.dumps(found.to_dict(), allow_nan=False)


def test_no_value_in_the_range_does_it() -> None:
    known = Assumptions(
        (*positive(price=2.0, other=1.0), Assumption("share", 0.5, Quantiles((5.0, 95.0), (0.2, 0.8), "logit")))
    )
    found = flips(lambda v: v["price"] + 0 * v["other"], lambda v: 1e3 * v["price"] + v["share"], known)
    assert all(not flip.crossings for flip in found.each)
    assert "no value in the range searched does it alone: price, other, share" in str(found)
    assert found.combined is None
    assert found.each[2].searched == pytest.approx((0.001, 0.999))


def test_the_likeliest_change_of_several() -> None:
    """B - A = 10 - 3 a - 4 b of standard normal a, b: reliability index 10 / 5 = 2, design point (1.2, 1.6) (Hasofer and Lind 1974)."""
    known = Assumptions((normal("a", 0.0, 1.0), normal("b", 0.0, 1.0)))
    found = flips(lambda v: 0 * v["a"], lambda v: 10 - 3 * v["a"] - 4 * v["b"], known)
    assert found.combined is not None
    assert found.combined.distance == pytest.approx(2.0, abs=1e-3)
    assert dict(found.combined.values) == pytest.approx({"b": 1.6, "a": 1.2}, abs=1e-3)
    assert list(found.combined.values) == ["b", "a"]


@given(st.floats(0.5, 5.0), st.floats(0.5, 5.0), st.floats(0.3, 3.0))
def test_at_a_flip_both_cost_the_same_and_beyond_it_the_other_wins(one: float, two: float, power: float) -> None:
    known = positive(x=1.0, y=2.0)
    a: Metric = lambda v: one * v["x"] ** power + v["y"]  # noqa: E731
    b: Metric = lambda v: two + 0.5 * v["y"] + 0 * v["x"]  # noqa: E731
    found, mirrored = flips(a, b, known), flips(b, a, known, names=("B", "A"))
    assert found.cheaper == mirrored.cheaper
    for flip, mirror in zip(found.each, mirrored.each, strict=True):
        assert [c.value for c in flip.crossings] == pytest.approx([c.value for c in mirror.crossings], rel=1e-4)
        for crossing in flip.crossings:
            at = known.base() | {flip.name: crossing.value}
            assert float(a(at)) == pytest.approx(float(b(at)), rel=1e-4)
            beyond = known.base() | {flip.name: crossing.value * 1.001}
            assert (float(b(beyond)) < float(a(beyond))) == crossing.b_wins_above
    if found.combined is not None and mirrored.combined is not None:
        assert found.combined.distance == pytest.approx(mirrored.combined.distance, abs=1e-3)
        assert 0 < found.combined.distance <= FARTHEST


@pytest.mark.parametrize(("ranges", "said"), [({"z": (1.0, 2.0)}, "no assumption"), ({"x": (2.0, 1.0)}, "range"),
                                              ({"x": (1.0, math.inf)}, "range")])  # fmt: skip
def test_bad_ranges(ranges: dict[str, tuple[float, float]], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        flips(lambda v: v["x"], lambda v: 2 * v["x"], positive(x=1.0), ranges=ranges)
