"""What a newcomer meets: screens that keep to 80 columns, slips that are told in one sentence, figures in their units."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import infersim
from infersim.cli.app import main
from infersim.scenario.evidence import evidence
from infersim.scenario.expect import check, read_rule
from infersim.scenario.scenario import load_scenario, read_scenario

CHAT = {
    "model": "meta-llama/Llama-3.1-8B",
    "hardware": "H100-SXM",
    "workload": {"input_tokens": 512, "output_tokens": 64, "concurrency": 4},
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16,
    "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 32000, "max_position_embeddings": 32768,
}  # fmt: skip


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def _scenario(folder: Path, **changes: Any) -> str:
    file = folder / "s.yaml"
    file.write_text(json.dumps({**CHAT, **changes}))
    return str(file)


@pytest.mark.parametrize("asked", ["meta-llama/Llama-3.1-8B --gpu H100-SXM", "meta-llama/Llama-3.1-70B --gpu L4"])
def test_memory_of_an_estimate_keeps_to_eighty_columns(capsys: pytest.CaptureFixture[str], asked: str) -> None:
    _, out, _ = _run(capsys, "estimate", *asked.split())
    top = out.split("\n\n")[1].splitlines()
    assert all(len(line) <= 80 for line in top)
    assert [line.count("iB") for line in top[1:3]] == [2, 1 if "does not fit" in out else 2]
    assert "KV cache" in top[2]


def test_a_base_case_that_cannot_be_asked_is_bad_input_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _scenario(
        tmp_path, hardware="H100SXM", what_if=[{"name": "two", "workload.concurrency": 2}], expect={"fits": True}
    )
    code, out, err = _run(capsys, "run", file)
    assert (code, out) == (2, "")
    assert err.count("no accelerator is called 'H100SXM'") == 1
    file = _scenario(
        tmp_path,
        hardware="H100SXM",
        what_if=[{"name": "L4", "hardware": "L4"}],
        expect={"case": {"L4": {"fits": True}}},
    )
    code, out, _ = _run(capsys, "run", file)
    assert code == 2
    assert "met: L4: fits" in out


def test_a_sweep_that_cannot_be_stored_is_told_before_the_cases_are_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    file = _scenario(tmp_path, sweep={"grid": {"workload.concurrency": [1, 2]}})
    code, out, err = _run(capsys, "run", file, "-o", str(tmp_path / "results"))
    assert (code, out) == (2, "")
    assert "infersim[data]" in err
    assert not (tmp_path / "results").exists()
    assert _run(capsys, "run", file)[0] == 0


def test_words_held_against_a_number_say_what_a_rule_is() -> None:
    (one,) = check((read_rule("ttft_s", "below 400 ms"),), "base", {"ttft_s": 0.3}, None)
    assert not one.met
    assert "got 300 ms; a rule on a number begins with <" in str(one)


def test_a_folder_of_a_model_beside_the_scenario_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir("/")
    found = load_scenario(_scenario(tmp_path, model="mine")).run()
    assert found.cases[0].told is not None
    assert found.cases[0].told["model"] == "mine"


def test_steps_beside_a_simulation_are_those_of_its_load() -> None:
    asked = {
        **CHAT,
        "workload": {"input_tokens": 512, "output_tokens": 64, "arrivals": {"poisson": "20 /s"}, "num_requests": 400},
    }
    (case,) = read_scenario(asked).run(doubts=False).cases
    beside = evidence(case.answer)["estimate"]
    users = case.answer.requests_per_second * case.answer.mean("e2e")
    assert beside["workload"]["concurrency"] == pytest.approx(users)
    assert beside["running_sequences"] == pytest.approx(case.answer.mean_running, rel=0.35)


def test_decide_names_its_questions_and_prices(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(capsys, "decide", "cascades", "--api", "3,0.3,15")
    assert code == 2
    assert "did you mean 'cascade'?" in err
    code, _, err = _run(capsys, "decide", "cascade", "--api", "3")
    assert code == 2
    assert err.startswith("error: --api: write USD per million")


def test_a_folder_of_a_sweep_is_read_by_pandas_as_it_is(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    infersim.run_sweep(CHAT, {"grid": {"workload.concurrency": [1, 2, 4]}}, tmp_path, backend="serial")
    assert len(pandas.read_parquet(tmp_path)) == 3


def test_expectations_in_a_report_have_units(tmp_path: Path) -> None:
    from infersim.report.html import page
    from infersim.report.results import read_results

    folder = tmp_path / "results"
    read_scenario({**CHAT, "expect": {"ttft_s": "< 1 s"}}).run(doubts=False).save(folder)
    row = str(page(read_results(folder))).split(">Found<", 1)[1].split("</tbody>")[0]
    assert " ms<" in row


def test_a_sweep_in_a_report_leaves_out_what_does_not_vary(tmp_path: Path) -> None:
    from infersim.report.sweep import sweep_section
    from infersim.report.swept import read_sweep

    infersim.run_sweep(CHAT, {"grid": {"workload.concurrency": [1, 2, 4]}}, tmp_path, backend="serial")
    told = str(sweep_section(read_sweep(tmp_path), []))
    assert "TPOT" in told
    assert "workload.input_tokens" not in told
    assert "left out" in told
