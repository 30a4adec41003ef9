"""The command line as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infersim.cli.app import main

ESTIMATE = ["estimate", "meta-llama/Llama-3.1-70B-Instruct", "--gpu", "H100-SXM", "--tp", "4", "--precision", "fp8",
            "--input", "2048", "--output", "256", "--concurrency", "32"]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    return int(stopped.value.code or 0), capsys.readouterr().out


def test_estimate_fits_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, *ESTIMATE)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) <= 48
    assert max(map(len, lines)) <= 100
    for word in ("fits", "TTFT", "TPOT", "per user", "per GPU", "USD per M output tokens", "decode step", "prefill step",
                 "MFU", "memory", "compute", "mode calibrated", "90%"):  # fmt: skip
        assert word in out


def test_estimate_json_has_units_in_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, *ESTIMATE, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["fits"] is True
    assert answer["devices"] == 4
    assert 0.005 < answer["tpot_s"] < 0.1
    low, high = answer["tpot_interval_90_s"]
    assert low < answer["tpot_s"] < high
    steps = answer["decode_step"]
    assert sum(op["seconds"] for op in steps["ops"]) == pytest.approx(steps["seconds"])
    assert {op["bound"] for op in steps["ops"]} <= {"compute", "memory", "network", "launch", "host"}
    assert answer["sources"]


def test_several_gpus_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "estimate", "meta-llama/Llama-3.1-8B", "--gpu", "H100-SXM,H200-SXM", "--gpu", "L40S")
    assert code == 0
    assert all(name in out for name in ("1 x H100-SXM", "1 x H200-SXM", "1 x L40S"))


def test_missed_target_is_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *ESTIMATE, "--target", "ttft=1us")[0] == 1
    assert run(capsys, *ESTIMATE, "--target", "ttft=100s,tpot=10s")[0] == 0


def test_bound_mode_is_faster_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    bound = json.loads(run(capsys, *ESTIMATE, "--json", "--mode", "bound")[1])
    calibrated = json.loads(run(capsys, *ESTIMATE, "--json")[1])
    assert bound["tpot_s"] < calibrated["tpot_s"]
    assert "tpot_interval_90_s" not in bound
    assert "physical limit" in run(capsys, *ESTIMATE, "--mode", "bound")[1]


def test_estimate_on_a_config_that_is_not_bundled(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = {"architectures": ["BrandNewForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16,
              "num_key_value_heads": 4, "intermediate_size": 5632, "vocab_size": 32000, "hidden_act": "silu"}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    code, out = run(capsys, "estimate", str(tmp_path), "--gpu", "L40S")
    assert code == 0
    assert "warning" in out
    assert "BrandNewForCausalLM" in " ".join(out.split())


def test_models_and_hardware_are_listed_filtered_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    everything = run(capsys, "models")[1]
    some = run(capsys, "models", "qwen3")[1]
    assert len(everything.splitlines()) >= 80
    assert 1 < len(some.splitlines()) < len(everything.splitlines())
    assert "8,030,261,248" in run(capsys, "models", "meta-llama/Llama-3.1-8B")[1]
    assert len(run(capsys, "hardware")[1].splitlines()) >= 45
    shown = run(capsys, "hardware", "H100-SXM")[1]
    assert "NVLink" in shown
    assert "source" in shown
    assert "HGX-H100" in run(capsys, "hardware", "--systems")[1]
    assert {spec["vendor"] for spec in json.loads(run(capsys, "hardware", "--vendor", "amd", "--json")[1])} == {"AMD"}
    assert json.loads(run(capsys, "models", "gpt2", "--json")[1])["total_parameters"] == 124_439_808


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[1].startswith("infersim 0.")
    shown = run(capsys, "estimate", "--help")[1]
    assert "Examples" in shown
    assert "--concurrency" in shown
