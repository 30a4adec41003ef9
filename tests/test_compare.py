"""Deployments side by side: consistency with what each is alone, mirrored answers, the command line, pictures, bad input."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infersim import compare, estimate
from infersim.cli.app import main
from infersim.cli.compare import read_option
from infersim.errors import DoesNotFitError, SpecError, UnsupportedError
from infersim.planning.assumptions import Assumption, Assumptions
from infersim.planning.compare import _correlations
from infersim.planning.comparison import Comparison
from infersim.planning.outcome import Choice
from infersim.planning.search import plan
from infersim.planning.uncertainty import monte_carlo
from infersim.planning.usual import own_assumptions
from infersim.predict.estimate import Estimate
from infersim.report.figures.doubt import chance_of_target
from infersim.report.figures.tornado import spoken
from infersim.report.figures.tornado import tornado as draw_tornado
from infersim.report.planning import plot_comparison
from infersim.serving.target import read_limits

SMALL = "meta-llama/Llama-3.1-8B"
CHAT = {"input_tokens": 1500, "output_tokens": 300, "prefix_hit": 0.25}
LOAD: dict[str, Any] = {"request_rate": 60.0, "target": "ttft_p95=1s,tpot_p95=40ms", "samples": 400}


@functools.lru_cache
def one(gpu: str = "H100-SXM", model: str = SMALL, **told: Any) -> Estimate:
    return estimate(model, gpu, **CHAT, **told)


@functools.lru_cache
def pair() -> Comparison:
    return compare(one(), one("A100-SXM", precision="bf16"), **LOAD)


def test_sides_are_what_each_is_alone() -> None:
    for side in pair().sides:
        alone = monte_carlo(side.choice.deployment, **LOAD)
        assert alone.base.gpus == pytest.approx(side.figure("gpus"))
        assert alone.base.usd_per_year == pytest.approx(side.figure("usd_per_year"))
        assert side.figure("usd_per_year") == pytest.approx(
            side.figure("gpus") * 8760 * (side.choice.deployment.price_per_hour or 0.0)
        )
        assert side.figure("capacity") * float(side.uncertain.base.replicas[0]) >= 60
        assert side.loaded.ttft == pytest.approx(side.figure("ttft"), rel=0.05)
        assert side.loaded.tpot == pytest.approx(side.figure("tpot"), rel=0.05)


def test_swapped_options_give_the_mirrored_answer() -> None:
    swapped = compare(one("A100-SXM", precision="bf16"), one(), **LOAD)
    assert [side.chance_cheapest for side in swapped.sides] == [side.chance_cheapest for side in pair().sides][::-1]
    for figure in ("gpus", "usd_per_year", "ttft"):
        assert [side.figure(figure) for side in swapped.sides] == [side.figure(figure) for side in pair().sides][::-1]
    assert swapped.cheapest.name == pair().cheapest.name
    here, there = pair().pairs[0], swapped.pairs[0]
    assert [(d.what, d.a, d.b) for d in here.differences] == [(d.what, d.b, d.a) for d in there.differences]
    assert {(op.step, op.op): op.difference for op in here.ops} == {
        (op.step, op.op): -op.difference for op in there.ops
    }
    values = [{flip.name: [c.value for c in flip.crossings] for flip in found.flips.each} for found in (here, there)]
    assert values[0].keys() == values[1].keys()
    for name, crossings in values[0].items():
        assert crossings == pytest.approx(values[1][name], rel=1e-4)


def test_the_way_from_one_to_the_other_is_whole() -> None:
    """The ratios multiply to that of the figures, and ops account for the whole difference of the steps."""
    found = pair().pairs[0]
    ends = [side.figure("usd_per_year") for side in pair().sides]
    assert found.way[-1].figure == pytest.approx(ends[1])
    assert math.prod(change.ratio for change in found.way) == pytest.approx(ends[1] / ends[0])
    steps = [side.loaded.steps for side in pair().sides]
    for name in ("decode", "prefill"):
        whole = [float(step[name].seconds) for step in steps]
        rows = [op for op in found.ops if op.step == name]
        assert sum(op.difference for op in rows) == pytest.approx(whole[1] - whole[0])
        assert sum(op.a for op in rows) == pytest.approx(whole[0])


def test_flips_equate_the_costs_of_the_two() -> None:
    """Prices enter smoothly: at the value both fleets cost the same."""
    base = pair().assumptions.base()
    found = {flip.name: flip for flip in pair().pairs[0].flips.each}
    for side in pair().sides:
        name = f"{side.name}.price.per_hour"
        (crossing,) = found[name].crossings
        costs = [float(other.choice.outcome(base | {name: crossing.value}).usd_per_year) for other in pair().sides]
        assert costs[0] == pytest.approx(costs[1], rel=1e-4)
        assert not crossing.jump


def test_equal_deployments_differ_in_price_alone() -> None:
    """One deployment at two prices: errors are the same, so the cheaper price wins in every world where it is drawn lower."""
    cheap, dear = one(price_per_hour=2.0), one(price_per_hour=2.5)
    found = compare(cheap, dear, **LOAD)
    a, b = (side.uncertain.outcome for side in found.sides)
    assert np.array_equal(a.gpus, b.gpus)
    # quotes for one GPU move together, and errors are one and the same
    assert {"prediction.ttft", "prediction.tpot"} <= set(found.assumptions.names)
    assert found.sides[0].chance_cheapest == 1.0
    assert [d.what for d in found.pairs[0].differences] == ["price"]
    assert found.pairs[0].way[0].ratio == pytest.approx(1.25)
    assert {op.difference for op in found.pairs[0].ops} == {0.0}


def test_rent_against_ownership() -> None:
    """The same deployment rented at 2.29 and owned at 20,000 USD over `years` with power at `energy.price`: GPUs are the same in every
    world; the choice flips where years make both hours cost the same."""
    years = Assumption.around("years", 3.0, 2.0, 5.0)
    power = Assumption.around("energy.price", 0.1, 0.05, 0.2, unit="USD/kWh")

    def hourly(values: Any) -> Any:
        return 20_000 / (np.asarray(values["years"]) * 8760) + np.asarray(values["energy.price"])

    limits = read_limits(LOAD["target"])
    told = {name: value for name, value in LOAD.items() if name != "target"}
    rent = Choice(one(price_per_hour=1.0), limits)
    own, other = (Choice(one(gpu), limits, hourly=hourly, terms=(years, power)) for gpu in ("H100-SXM", "H200-SXM"))
    found = compare(rent, own, **told)
    assert found.sides[1].device_hour == pytest.approx(20_000 / 3 / 8760 + 0.1)
    assert np.array_equal(found.sides[0].uncertain.outcome.gpus, found.sides[1].uncertain.outcome.gpus)
    assert [d.what for d in found.pairs[0].differences] == ["price"]
    assert [c.what for c in found.pairs[0].way] == ["price"]
    crossing = next(flip for flip in found.pairs[0].flips.each if flip.name == "years").crossings[0]
    assert crossing.value == pytest.approx(20_000 / (1.0 - 0.1) / 8760, rel=1e-4)
    both = compare(own, other, **told)
    assert both.assumptions.names.count("energy.price") == 1
    assert not any(name.endswith(".years") for name in both.assumptions.names)
    dearer = replace(other, terms=(years, replace(power, base=0.15)))
    apart = compare(own, dearer, names=("a", "b"), **told)
    assert {"years", "a.energy.price", "b.energy.price"} <= set(apart.assumptions.names)


def test_a_base_value_that_is_changed_is_shown() -> None:
    """Longer prompts than the estimates were made for: what is shown is for the longer ones."""
    found = compare(one(), one("A100-SXM"), assumptions={"workload.input_tokens": (2500, 3000, 3500)}, **LOAD)
    longer = compare(
        *(estimate(SMALL, gpu, **(CHAT | {"input_tokens": 3000})) for gpu in ("H100-SXM", "A100-SXM")), **LOAD
    )
    for side, expected in zip(found.sides, longer.sides, strict=True):
        assert side.figure("gpus") == expected.figure("gpus")
        assert side.loaded.ttft == pytest.approx(expected.loaded.ttft)
    assert found.pairs[0].way[-1].figure == pytest.approx(found.sides[1].figure("usd_per_year"))


def test_what_is_one_for_all_can_be_split() -> None:
    """One GPU has one price, until an option is given its own."""
    options = (one(), one(precision="fp8"))
    assert "price.per_hour" in compare(*options, **LOAD).assumptions.names
    found = compare(*options, assumptions={"B.price.per_hour": (1.0, 1.5, 2.0)}, **LOAD)
    assert "price.per_hour" not in found.assumptions.names
    assert found.sides[1].device_hour == 1.5
    assert found.sides[0].device_hour == options[0].price_per_hour


def test_worlds_are_shared_and_errors_partly() -> None:
    drawn = [side.uncertain.drawn for side in pair().sides]
    assert drawn[0] is drawn[1]
    names = [f"{side.name}.prediction.tpot" for side in pair().sides]
    scores = [[pair().assumptions[name].distribution.score(float(v)) for v in drawn[0][name]] for name in names]
    expected = pair().assumptions.correlations[names[0], names[1]]
    assert 0 < expected < 1
    assert float(np.corrcoef(scores)[0, 1]) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("model", [SMALL, "Qwen/Qwen3-30B-A3B"])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_correlations_of_many_options_do_not_contradict(model: str, engine: str) -> None:
    options = [
        one(gpu, model, tensor_parallel=tp, engine=engine)
        for gpu in ("H100-SXM", "H200-SXM", "B200-SXM")
        for tp in (1, 2)
    ]
    choices = [Choice(option, name=f"option {place}") for place, option in enumerate([*options, options[0]])]
    known = Assumptions(tuple(item for choice in choices for item in own_assumptions(choice)))
    within = {pair: value for choice in choices for pair, value in own_assumptions(choice).correlations.items()}
    Assumptions(known.items, {**within, **_correlations(choices, known)}).draw(10)


def test_three_options_and_the_best_of_a_plan() -> None:
    options = plan(SMALL, ["H100-SXM", "L40S"], input_tokens=1500, output_tokens=300, request_rate=60, verify=0,
                   target=LOAD["target"], pools="aggregated").options[:3]  # fmt: skip
    found = compare(*options, request_rate=60, samples=200)
    assert len(found.pairs) == 2
    assert all(found.cheapest.letter in (p.a, p.b) for p in found.pairs)
    assert sum(side.chance_cheapest for side in found.sides) <= 1 + 1e-9
    assert found.cheapest.figure("gpus") == options[0].devices


def test_pools_of_a_plan_are_compared_as_planned() -> None:
    """GPUs, replicas and latency of two pools are those that the search found; with doubts no number of GPUs is certain."""
    options = plan(
        SMALL, "H100-SXM", input_tokens=1500, output_tokens=300, request_rate=60, verify=0, target=LOAD["target"]
    ).options
    pools = [next(option for option in options if (option.prefill is not None) == wanted) for wanted in (True, False)]
    found = compare(*pools, request_rate=60, samples=300)
    first = found.sides[0]
    assert first.figure("gpus") == pools[0].devices
    assert [float(n) for n in first.uncertain.base.replicas] == [pools[0].replicas, pools[0].prefill_replicas]
    assert first.figure("tpot") == pytest.approx(pools[0].tpot, rel=1e-3)
    assert first.figure("ttft") <= pools[0].ttft * (1 + 1e-6)
    assert found.pairs[0].differences[0].what == "pools"
    assert found.pairs[0].way[-1].figure == pytest.approx(found.sides[1].figure("usd_per_year"))
    assert max(map(len, str(found).splitlines())) <= 80
    json.dumps(found.to_dict(), allow_nan=False)
    values = [first.uncertain.chance(gpus).value for gpus in range(20)]
    assert values == sorted(values)
    assert 0.05 < first.uncertain.chance(pools[0].devices).value < 0.999
    slower = first.choice.outcome(
        found.assumptions.base() | {f"{first.name}.prediction.ttft": np.array([1.0, 1.5, 3.0])}
    )
    assert (np.diff(slower.gpus) >= 0).all()
    assert (np.diff(slower.ttft) > 0).all() or (np.diff(slower.gpus) > 0).any()


def test_one_option_alone_has_doubts_too() -> None:
    found = compare(one(), **LOAD)
    assert found.pairs == ()
    assert "chance: cheapest" not in str(found)
    assert found.cheapest is found.sides[0]


def test_without_prices_gpus_decide() -> None:
    found = compare(one(), replace(one("A100-SXM"), price_per_hour=None), **LOAD)
    assert found.figure == "gpus"
    json.dumps(found.to_dict(), allow_nan=False)


def test_assumptions_by_letter_by_name_and_for_all() -> None:
    given = {"A.price.per_hour": 3.0, "workload.input_tokens": (1000, 2000), "prediction.ttft": 1.0}
    found = compare(one(), one("A100-SXM"), names=("ours", "theirs"), assumptions=given, **LOAD)
    assert found.sides[0].figure("usd_per_hour") == pytest.approx(3.0 * found.sides[0].figure("gpus"))
    assert found.assumptions["theirs.price.per_hour"].uncertain
    assert not found.assumptions["ours.prediction.ttft"].uncertain
    assert not found.assumptions["theirs.prediction.ttft"].uncertain
    assert found.assumptions["workload.input_tokens"].high == pytest.approx(2000)


def test_shown_in_eighty_columns_and_as_values() -> None:
    text = str(pair())
    assert max(map(len, text.splitlines())) <= 80
    for word in ("GPUs needed", "90% interval", "USD/year", "chance: cheapest", "From A to B", "decode step"):
        assert word in text
    answer = json.loads(json.dumps(pair().to_dict(), allow_nan=False))
    assert answer["cheapest"] in ("A", "B")
    assert answer["options"][0]["ttft_interval_90_s"][0] < answer["options"][0]["ttft_s"]
    assert len(pair().to_frame()) == 2
    bars = pair().tornado("A").bars
    assert {"prediction.tpot", "price.per_hour", "workload.request_rate"} <= {bar.name for bar in bars}
    assert not any(bar.name.startswith(pair().sides[1].name) for bar in bars)
    assert sum(bar.variance_share or 0.0 for bar in bars) > 0.5
    assert pair().tornado("B", "ttft").bars[0].swing > 0


def test_pictures(tmp_path: Path) -> None:
    axes = draw_tornado(pair().tornado("A"))
    moving = [bar for bar in pair().tornado("A").bars if bar.swing > 0]
    assert [label.get_text() for label in axes.get_yticklabels()][::-1] == [spoken(bar.name) for bar in moving][:10]
    steps = chance_of_target(pair().sides[0].uncertain).lines[0].get_ydata()
    assert (np.diff(steps) >= 0).all()
    plot_comparison(pair(), tmp_path / "doubt.png")
    assert (tmp_path / "doubt.png").stat().st_size > 10_000
    with pytest.raises(SpecError, match="a picture ends in"):
        plot_comparison(pair(), tmp_path / "doubt.txt")
    assert list(tmp_path.iterdir()) == [tmp_path / "doubt.png"]


# bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"request_rate": -1}, "above zero"),
        ({"names": ("a",)}, "as many as"),
        ({"names": ("a", "a")}, "all different"),
        ({"target": "speed=1s"}, "no latency"),
        ({"assumptions": {"C.price.per_hour": 2}}, "no assumption"),
        ({"assumptions": {"A.price.per_our": 2}}, "price.per_hour"),
    ],
)
def test_bad_input_is_a_kind_sentence(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        compare(one(), one("A100-SXM"), **(LOAD | arguments))


def test_options_that_cannot_be_compared() -> None:
    with pytest.raises(SpecError, match="one to 8"):
        compare(**LOAD)
    with pytest.raises(SpecError, match=r"infersim\.estimate"):
        compare(one(), "H100-SXM", **LOAD)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="different workloads"):
        compare(one(), estimate(SMALL, "H100-SXM", **(CHAT | {"output_tokens": 100})), **LOAD)
    with pytest.raises(DoesNotFitError):
        compare(one(), estimate("meta-llama/Llama-3.1-70B", "L40S", **CHAT), **LOAD)
    with pytest.raises(UnsupportedError, match="one replica"):
        compare(one(), estimate(SMALL, "H100-SXM", replicas=2, **CHAT), **LOAD)


# command line


COMMAND = ["compare", SMALL, "H100-SXM tp=1", "A100-SXM,tp=1,price=1.5", "-r", "60", "-i", "1500", "-o", "300",
           "--target", "ttft_p95=1s,tpot_p95=40ms", "--monte-carlo", "300"]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    shown = capsys.readouterr()
    return int(stopped.value.code or 0), shown.out, shown.err


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    code, out, _ = run(capsys, *COMMAND, "--tornado", "--chances", "--plot", str(picture))
    assert code == 0
    assert picture.stat().st_size > 0
    assert max(map(len, out.splitlines())) <= 80
    for word in ("chance of meeting the target", "variance", "From A to B", "300 samples, seed 0", "wins if"):
        assert word in out
    code, out, _ = run(
        capsys, *COMMAND, "--json", "--tornado", "--figure", "gpus", "--assume", "workload.request_rate=40..90"
    )
    answer = json.loads(out)
    assert code == 0
    assert answer["tornados"]["A"]["unit"] == "GPUs"
    told = {item["name"]: item for item in answer["assumptions"]}
    assert told["workload.request_rate"]["high"] == pytest.approx(90)
    assert all(item["source"] and item["status"] in ("fact", "fit", "guess") for item in told.values())


def test_a_target_that_nothing_meets_is_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    command = [*COMMAND]
    command[command.index("ttft_p95=1s,tpot_p95=40ms")] = "tpot=1us"
    code, out, _ = run(capsys, *command)
    assert code == 1
    assert "none" in out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({2: "tp=2"}, "names no GPU"),
        ({2: "H100-SXM tpp=2"}, "'tp'"),
        ({2: "H100-SXM tp=two"}, "whole number"),
        ({2: "H100-SXM tp=2 tp=4"}, "twice"),
        ({2: "H100-SXM precision="}, "no value"),
        ({2: "H100-SXN"}, "H100-SXM"),
        ({2: "H100-SXM name=ours"}, "name every option"),
        ({5: "fast"}, "fast"),
        ({13: "1"}, "from 2"),
    ],
)
def test_bad_commands(capsys: pytest.CaptureFixture[str], change: dict[int, str], said: str) -> None:
    command = [change.get(place, word) for place, word in enumerate(COMMAND)]
    code, out, err = run(capsys, *command)
    assert code == 2
    assert not out
    assert said in err
    assert "Traceback" not in err


def test_read_option_takes_commas_and_spaces() -> None:
    told = {"gpu": "B200-SXM", "tp": "8", "attention_dp": "8"}
    assert read_option("B200-SXM, tp=8 attention-dp=8") == read_option("gpu=B200-SXM,tp=8,attention_dp=8") == told
    for first, second in combinations(["H100-SXM", "gpu=H100-SXM"], 2):
        assert read_option(first) == read_option(second)
