"""Scenarios: what they ask, what cases change, what is expected, where results go, and the questions of layers above the engine."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from pydantic import Field

import infersim
from infersim import DoesNotFitError, InferSimError
from infersim.cli.app import main
from infersim.errors import SpecError
from infersim.predict.estimate import Estimate
from infersim.report.html import page
from infersim.report.results import read_results
from infersim.report.svg import Picture
from infersim.scenario import questions
from infersim.scenario.answers import answer, figures
from infersim.scenario.expect import check, read_rule
from infersim.scenario.places import plain
from infersim.scenario.questions import Question
from infersim.scenario.scenario import load_scenario, read_scenario, resolve
from infersim.scenario.schema import scenario_schema
from infersim.specs.quantity import Seconds, Spec

BASE: dict[str, Any] = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM"}
CHAT: dict[str, Any] = {**BASE, "workload": {"input_tokens": 1000, "output_tokens": 200, "concurrency": 16}}


# -- what is asked -----------------------------------------------------------------------------------------------------

QUESTIONS: dict[str, dict[str, Any]] = {
    "estimate": {}, "simulate": {"workload": {"arrivals": {"poisson": "2 /s"}}}, "plan": {"hardware": ["H100-SXM", "L40S"]},
    "cost": {"cost": {"terms": "buy"}}, "size": {"fleet": {"users": 100}}, "compare": {"compare": {"options": [{"hardware": "L40S"}]}},
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_question_follows_from_the_sections(question: str) -> None:
    assert resolve({**BASE, **QUESTIONS[question]}).question == question


def test_a_percentile_makes_a_simulation_and_a_price_alone_does_not_make_a_cost() -> None:
    assert resolve({**BASE, "target": {"ttft_p95": "1 s"}}).question == "simulate"
    assert resolve({**BASE, "target": "ttft=1s", "cost": {"gpu_hour": "2 USD"}}).question == "estimate"
    assert resolve({**BASE, **QUESTIONS["plan"], "question": "compare"}).question == "compare"


def test_the_closed_form_is_the_one_of_the_python_function() -> None:
    found = answer(
        resolve(
            {**CHAT, "deployment": {"precision": "fp8"}, "cost": {"gpu_hour": "2.50 USD"}, "target": {"tpot": "40 ms"}}
        )
    )
    same = infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM", precision="fp8", input_tokens=1000, output_tokens=200, concurrency=16,
                             price_per_hour=2.5, target="tpot=40ms")  # fmt: skip
    assert found.to_dict() == same.to_dict()


def test_the_simulation_is_the_one_of_the_python_function() -> None:
    asked = {**BASE, "workload": {"input_tokens": {"lognormal": {"mean": 500, "cv": 1}}, "output_tokens": 50, "arrivals": {"gamma": {
        "rate": "4 /s", "burstiness": 0.5}}, "num_requests": 200}, "seed": 3, "target": {"ttft_p95": "1 s"}}  # fmt: skip
    traffic = infersim.Traffic(input_tokens={"lognormal": {"mean": 500, "cv": 1}}, output_tokens=50, num_requests=200,
                               arrivals={"kind": "gamma", "rate": 4, "burstiness": 0.5})  # fmt: skip
    same = infersim.simulate("meta-llama/Llama-3.1-8B", "H100-SXM", traffic, seed=3, target="ttft_p95=1s")
    assert answer(resolve(asked)).to_dict() == same.to_dict()


def test_shared_prefixes_mean_the_same_in_closed_form_and_simulation() -> None:
    asked = {
        **BASE,
        "workload": {"input_tokens": 600, "output_tokens": 100, "prefix": {"shared_tokens": 600, "hit_rate": 0.5}},
    }
    load = resolve(asked).setup.workload
    steady, traffic = load.steady(), load.traffic()
    assert (steady.input_tokens, steady.prefix_hit) == (900, pytest.approx(1 / 3))
    assert traffic.mean_input == 900
    hit = resolve({**BASE, "workload": {"input_tokens": 1000, "prefix_hit": 0.6}}).setup.workload
    assert hit.traffic().mean_input == 1000
    assert hit.traffic().prefixes.tokens.mean == 600  # type: ignore[union-attr]


def test_pools_for_prompts_and_traces(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{n * 0.2},500,20\n" for n in range(50)))
    (tmp_path / "s.yaml").write_text("model: meta-llama/Llama-3.1-8B\nhardware: H100-SXM\nworkload: {trace: t.csv, speedup: 2}\n"
                                     "simulate: {prefill: {hardware: L40S}, settled: true}\n")  # fmt: skip
    found = load_scenario(tmp_path / "s.yaml").run(doubts=False).cases[0]
    assert found.told is not None
    assert found.told["prefill_pool"]["deployment"].count("L40S") == 1
    with pytest.raises(SpecError, match=r"simulate.prefill.*tensor_paralel.*did you mean"):
        answer(resolve({**BASE, "workload": {"arrivals": "burst"}, "simulate": {"prefill": {"tensor_paralel": 2}}}))


# -- cases -------------------------------------------------------------------------------------------------------------


def test_a_grid_has_one_case_for_every_combination_named_after_its_values() -> None:
    one = read_scenario({**CHAT, "grid": {"deployment.precision": ["bf16", "fp8"], "workload.concurrency": [1, 2]}})
    pairs = [f"precision {precision}, concurrency {users}" for precision in ("bf16", "fp8") for users in (1, 2)]
    assert [case.case for case in one.cases] == ["base", *pairs]
    assert one.cases[3].changes == {"deployment.precision": "fp8", "workload.concurrency": 1}
    assert one.cases[3].setup.deployment.precision == "fp8"


def test_a_what_if_on_a_figure_of_a_named_spec() -> None:
    faster = resolve(CHAT, {"hardware.memory.bandwidth": "6.7 TB/s"})
    plain_one, fast_one = answer(resolve(CHAT)), answer(faster)
    assert fast_one.machine.accelerator.memory.bandwidth == 6.7e12
    assert fast_one.tpot < plain_one.tpot
    assert resolve(CHAT, {"model.layers.0.count": 16}).setup.model.num_layers == 16  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name", ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen2.5-VL-7B-Instruct", "gpt2"]
)
def test_a_spec_written_out_is_the_spec(name: str) -> None:
    one = resolve(
        {"model": name, "hardware": "MI300X"},
        {"model.name": "own", "hardware.name": "own", "deployment.engine.version": "x"},
    )
    same = infersim.load_model(name).model_copy(update={"name": "own"})
    assert one.setup.model == same
    assert one.setup.hardware == infersim.load_accelerator("MI300X").model_copy(update={"name": "own"})
    assert one.setup.deployment.engine.version == "x"  # type: ignore[union-attr]


def test_a_change_of_a_section_lays_its_fields_on_the_old_ones_and_another_kind_replaces_the_old_kind() -> None:
    one = resolve({**BASE, "workload": {"input_tokens": 500, "arrivals": {"gamma": {"rate": 1, "burstiness": 0.5}}}},
                  {"workload": {"output_tokens": 7}, "workload.arrivals.poisson": "3 /s"})  # fmt: skip
    assert (one.setup.workload.input_tokens.mean, one.setup.workload.output_tokens.mean, one.setup.workload.rate) == (
        500,
        7,
        3,
    )


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["workload.concurrency", "workload.input_tokens", "deployment.tensor_parallel", "deployment.max_num_seqs"]),
        st.integers(1, 64), min_size=1,
    )
)  # fmt: skip
def test_changes_of_different_fields_commute(changes: dict[str, int]) -> None:
    there = resolve(CHAT, changes)
    back = resolve(CHAT, dict(reversed(list(changes.items()))))
    assert there.setup == back.setup
    assert plain(there.tree) == plain(back.tree)


def test_includes_are_laid_on_each_other_and_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "gpu.yaml").write_text(
        (Path(__file__).parents[1] / "hardware_specs/accelerators/L4.yaml").read_text()
    )
    (tmp_path / "deep" / "a.yaml").write_text(
        "hardware: gpu.yaml\nworkload: {concurrency: 4, input_tokens: 100}\nmodel: gpt2\n"
    )
    (tmp_path / "b.yaml").write_text("workload: {concurrency: 8}\n")
    (tmp_path / "s.yaml").write_text(
        "include: [deep/a.yaml, b.yaml]\nworkload: {output_tokens: 5}\nwhat_if: [{workload.concurrency: 2}]\n"
    )
    one = load_scenario(tmp_path / "s.yaml")
    load = one.setup.workload
    assert (load.concurrency, load.input_tokens.mean, load.output_tokens.mean) == (8, 100, 5)
    result = one.run(doubts=False)
    assert result.cases[0].answer.machine.accelerator.name == "L4"
    assert result.cases[1].name == "workload.concurrency 2"
    saved = json.loads((result.save(tmp_path / "out") / "results.json").read_text())
    assert saved["cases"][0]["setup"]["hardware"] == str((tmp_path / "deep" / "gpu.yaml").resolve())


def test_a_case_that_cannot_be_answered_says_so_and_the_others_go_on() -> None:
    found = read_scenario({**CHAT, "grid": {"deployment.tensor_parallel": [1, 3]}}).run(doubts=False)
    assert [case.error is None for case in found.cases] == [True, True, False]
    assert "tensor-parallel" in str(found.cases[2].error)
    assert "32 heads" in str(found)
    assert found.exit_code == 0


# -- expectations ------------------------------------------------------------------------------------------------------

TOLD = {
    "ttft_s": 0.2, "cost_per_million_output_tokens_usd": 0.9, "requests_per_s": 4.0, "memory": {"weights_bytes": 16e9}, "fits": True,
    "missed_targets": [], "utilisation": 0.8, "options": [{"gpu": "L40S", "tpot_s": 0.01}], "months": [{"devices": 8}, {"devices": 16}],
}  # fmt: skip
RULES: dict[tuple[str, Any], bool] = {
    ("ttft_s", "< 0.3"): True, ("ttft_s", "< 300 ms"): True, ("ttft_s", ">= 200 ms"): True, ("ttft_s", "> 200 ms"): False,
    ("ttft", "< 300 ms"): True, ("ttft_s", "190 ms .. 210 ms"): True, ("ttft_s", "190 ms +- 5%"): False,
    ("ttft_s", "190 ms +- 10 ms"): True, ("ttft_s", 0.2): True, ("ttft_s", 0.21): False,
    ("cost_per_million_output_tokens_usd", "0.88 USD +- 5%"): True, ("cost_per_million_output_tokens", "< 1 USD"): True,
    ("requests_per_s", ">= 4 /s"): True, ("requests_per_s", "240 /min"): True, ("memory.weights_bytes", "16 GB +- 1%"): True,
    ("target_met", True): True, ("target_met", False): False, ("fits", True): True, ("utilisation", "< 85%"): True,
    ("utilisation", "80% +- 1%"): True, ("best.hardware", "L40S"): True, ("best.hardware", "!= L40S"): False,
    ("best.tpot", "< 20 ms"): True, ("last.devices", 16): True, ("months.0.devices", "== 8"): True,
}  # fmt: skip


@pytest.mark.parametrize(("figure", "rule"), RULES, ids=str)
def test_a_rule_holds_or_does_not(figure: str, rule: Any) -> None:
    (found,) = check((read_rule(figure, rule),), "base", TOLD, None)
    assert not found.problem
    assert found.met is RULES[figure, rule]


def test_an_unknown_figure_is_not_met_and_offers_the_nearest_name() -> None:
    (found,) = check((read_rule("tttf_s", "< 1"),), "base", TOLD, None)
    assert not found.met
    assert "did you mean 'ttft_s'" in str(found)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(0, 0.5), st.floats(0.2, 5))
def test_a_tolerance_is_a_band_around_its_value(middle: float, share: float, factor: float) -> None:
    rule = read_rule("ttft_s", f"{middle!r} s +- {share * 100!r}%")
    value = middle * factor
    inside = abs(value - middle) < middle * share * (1 - 1e-6)
    outside = abs(value - middle) > middle * share * (1 + 1e-6) + 1e-12
    assert rule.holds(value) or not inside
    assert not (rule.holds(value) and outside)


def _exit(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_expectations_set_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps({**CHAT, "expect": {"ttft_s": "< 1 ms"}})
    (tmp_path / "s.yaml").write_text(text)
    assert _exit("run", str(tmp_path / "s.yaml")) == 1
    assert "NOT MET: base: ttft_s: expected < 1 ms, got " in capsys.readouterr().out
    assert _exit("run", str(tmp_path / "s.yaml"), "--quiet") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "NOT MET" in told.err
    (tmp_path / "s.yaml").write_text(text.replace("< 1 ms", "< 1 s"))
    assert _exit("run", str(tmp_path / "s.yaml"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["expect"][0]["met"] is True


def test_without_expectations_a_missed_target_or_what_does_not_fit_is_one(tmp_path: Path) -> None:
    for changed, code in (
        ({"target": {"ttft": "1 ms"}}, 1),
        ({"model": "meta-llama/Llama-3.1-405B"}, 1),
        ({"target": {"ttft": "1 s"}}, 0),
    ):
        (tmp_path / "s.yaml").write_text(json.dumps({**CHAT, **changed}))
        assert _exit("run", str(tmp_path / "s.yaml"), "-q") == code


# -- results -----------------------------------------------------------------------------------------------------------


def test_results_are_read_by_the_report_and_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(json.dumps({**CHAT, "name": "chat", "what_if": [{"name": "two", "hardware": "L40S"}],
                                                 "expect": {"fits": True}}))  # fmt: skip
    result = load_scenario(tmp_path / "s.yaml").run(doubts=False)
    folder = result.save(tmp_path / "out")
    back = read_results(folder)
    assert (back.scenario, [case.name for case in back.cases], len(back.expect)) == ("chat", ["base", "two"], 1)
    assert back.cases[1].overrides == {"hardware": "L40S"}
    assert back.cases[0].answer == json.loads(json.dumps(result.cases[0].told))
    assert back.text == (tmp_path / "s.yaml").read_text()
    assert (folder / "figures.csv").read_text().count("\n") == 3
    result.save(folder)  # a folder of results is written again


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    result = read_scenario(CHAT).run(doubts=False)
    with pytest.raises(SpecError, match="folder with other things"):
        result.save(tmp_path / "out")
    with pytest.raises(SpecError, match="is a file"):
        result.save(tmp_path / "out" / "thesis.tex")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_half_a_result_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = read_scenario(CHAT).run(doubts=False)
    result.save(tmp_path / "out")
    before = (tmp_path / "out" / "results.json").read_text()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(InferSimError):
        result.save(tmp_path / "out")
    monkeypatch.undo()
    assert (tmp_path / "out" / "results.json").read_text() == before
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_figures_are_flat_numbers_of_every_answer() -> None:
    for question, changed in QUESTIONS.items():
        if question in ("estimate", "cost", "size"):
            found = figures(answer(resolve({**CHAT, **changed, "question": question}, {"cost.request_rate": 2})))
            assert found
            assert all(isinstance(value, float) for value in found.values())
    with pytest.raises(DoesNotFitError):
        answer(resolve({**BASE, "model": "meta-llama/Llama-3.1-405B", "workload": {"arrivals": "burst"}}))


# -- layers above the engine -------------------------------------------------------------------------------------------


class Errand(Spec):
    """A layer made up for this test: so many calls one after the other."""

    calls: int = Field(ge=1)
    pause: Seconds = 0.0


@dataclass(frozen=True)
class ErrandAnswer:
    seconds: float
    seed: int
    sources: tuple[str, ...] = ("assumed",)

    def to_dict(self) -> dict[str, Any]:
        return {"errand_s": self.seconds, "seed": self.seed, "sources": list(self.sources)}

    def __str__(self) -> str:
        return f"the errand takes {self.seconds:.3g} s"


def run_errand(spec: Errand, deployment: Estimate, *, seed: int) -> ErrandAnswer:
    return ErrandAnswer(spec.calls * (deployment.e2e + spec.pause), seed)


def errand_pictures(told: dict[str, Any], prefix: str) -> list[Picture]:
    def draw(ax: Axes) -> None:
        ax.barh(["errand"], [told["errand_s"]])

    return [Picture(f"{prefix}-errand", "The errand", "Bar: seconds of the errand.", "One bar.", draw)]


def test_a_layer_is_one_line_and_everything_works_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = SimpleNamespace(Errand=Errand, run_errand=run_errand, errand_pictures=errand_pictures)
    monkeypatch.setitem(sys.modules, "infersim.errands", here)
    line = Question("errand", "errands:Errand", "errands:run_errand", "errands:errand_pictures")
    monkeypatch.setitem(questions.LAYERS, "errands", line)
    text = {
        **CHAT,
        "seed": 4,
        "errand": {"calls": 3, "pause": "2 s"},
        "grid": {"errand.calls": [1, 6]},
        "expect": {"errand_s": "> 6 s"},
    }
    (tmp_path / "s.yaml").write_text(json.dumps(text))
    result = load_scenario(tmp_path / "s.yaml").run()
    base, one, six = (case.answer for case in result.cases)
    assert (base.seed, six.seconds) == (4, pytest.approx(6 * one.seconds))
    assert "the errand takes" in str(result)
    assert result.exit_code == 0
    told = page(read_results(result.save(tmp_path / "out")))
    assert "the errand takes" in told
    assert 'id="case-1-base-errand"' in told
    assert scenario_schema()["properties"]["errand"]["anyOf"][0] == {"$ref": "#/$defs/Errand"}
    (tmp_path / "s.yaml").write_text(json.dumps({**text, "errand": {"call": 3}}))
    with pytest.raises(SpecError, match=r"errand.call: unknown field; did you mean 'calls'"):
        load_scenario(tmp_path / "s.yaml")
    with pytest.raises(SpecError, match="asks about a deployment"):
        answer(resolve({"errand": {"calls": 2}}))


def test_the_layers_on_file_answer_scenarios(tmp_path: Path) -> None:
    prompts = {"segments": [{"name": "rules", "tokens": 2000}, {"name": "question", "tokens": 100, "variants": "unique", "movable": False}],
               "requests_per_second": 2}  # fmt: skip
    asked: dict[str, Any] = {"prompts": prompts, "decoding": {"methods": ["greedy", "top_p"]}}
    for section, spec in asked.items():
        one = resolve({**CHAT, section: spec})
        assert one.question == section
        assert figures(answer(one))
    own: dict[str, Any] = {
        "adapters": {"count": 20}, "quantisation": {"schemes": ["fp8"]},
        "agents": {"start": "try", "states": {"try": {
            "kind": "llm", "input_tokens": 500, "output_tokens": 50, "next": {"try": 0.2, "success": 0.8}}}},
        "retrieval": {"corpus": {"documents": 10_000}, "index": {"preset": "faiss-hnsw", "host_hour": "1 USD"}, "queries_per_second": 5,
                      "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4", "gpu_hour": "0.8 USD"}},
        "decide": {"question": "rag-vs-long-context", "model": "3,0.3,15"},
    }  # fmt: skip
    for section, spec in own.items():
        tree = {section: spec} if section in ("retrieval", "decide") else {**CHAT, section: spec}
        result = read_scenario(tree).run()
        assert result.cases[0].error is None
        told = page(read_results(result.save(tmp_path / section)))
        assert "case-1-base-" in told or section == "retrieval"
    with pytest.raises(SpecError, match="several questions in one: write question: decoding or question: prompts"):
        resolve({**CHAT, **asked})
    assert resolve({**CHAT, **asked, "question": "decoding"}).question == "decoding"


def test_a_closed_form_of_arrivals_has_the_users_that_they_make() -> None:
    """Little's law: users of the closed loop are arrivals times the mean time of a request."""
    asked = {
        **BASE,
        "question": "estimate",
        "workload": {"input_tokens": 1000, "output_tokens": 200, "arrivals": {"poisson": 8}},
    }
    found = answer(resolve(asked))
    assert found.requests_per_second == pytest.approx(8, rel=0.01)
    assert found.workload.concurrency == pytest.approx(8 * found.e2e, rel=0.01)
    two = answer(resolve(asked, {"deployment.replicas": 2}))
    assert two.requests_per_second == pytest.approx(8, rel=0.01)
    with pytest.raises(InferSimError, match=r"serves .* at most"):
        answer(resolve(asked, {"workload.arrivals.poisson": 1000}))
