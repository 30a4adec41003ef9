"""What all commands have in common: options, forms of an answer, widths, colours, exit codes, pipes, completion, worked examples."""

from __future__ import annotations

import csv
import functools
import importlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infersim.cli import output
from infersim.cli.app import PANELS, app, main
from infersim.cli.command import EXAMPLE_WIDTH, examples, help_text
from infersim.cli.exits import MEANING, ExitCode
from infersim.doctor import examine
from infersim.tables import cell, flatten
from test_microbench import synthetic

LLAMA = "meta-llama/Llama-3.1-8B"
CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16,
          "num_key_value_heads": 4, "intermediate_size": 5632, "vocab_size": 32000, "hidden_act": "silu",
          "max_position_embeddings": 8192}  # fmt: skip
EXAMINE = examine
TRACES = Path(__file__).parent / "data" / "traces"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    shown = capsys.readouterr()
    return int(stopped.value.code or 0), shown.out, shown.err


def shell(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The installed command in a process of its own, whose environment says nothing of colours and widths."""
    silent = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TERM", "INFERSIM_SPECS", "GITHUB_ACTIONS")
    environment = {name: value for name, value in os.environ.items() if name not in silent}
    return subprocess.run(
        [sys.executable, "-m", "infersim", *arguments], capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)} | settings,
    )  # fmt: skip


def function(name: str) -> Any:
    return getattr(importlib.import_module(f"infersim.cli.{name}"), name)


def command(name: str) -> Any:
    import typer.main

    group: Any = typer.main.get_command(app)
    return group.get_command(None, name)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What --specs and --prices of one test named is not there for the next."""
    from infersim.specs import library

    yield
    if library._added or library._price_files:
        library._added.clear()
        library._price_files.clear()
        library.clear_cache()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that a worked example names."""
    import report_samples
    from infersim import estimate
    from infersim.microbench.results import begin
    from infersim.planning.handover.verify import expected_figures
    from infersim.planning.prices import price_rows
    from infersim.specs.price_tables import write_price_table

    folder = tmp_path_factory.mktemp("workshop")
    (folder / "my-model").mkdir()
    (folder / "my-model" / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "my_specs").mkdir()
    (folder / "AzureLLMInferenceTrace_conv.csv").write_bytes((TRACES / "azure_2023_conv.csv").read_bytes())
    grid = "sweep: {grid: {workload.concurrency: [1, 8]}}"
    (folder / "sweep.yaml").write_text(
        f"model: gpt2\nhardware: L4\nworkload: {{input_tokens: 64}}\n{grid}\n", encoding="utf-8"
    )
    base = f"model: {LLAMA}\nhardware: H100-SXM\nworkload: {{concurrency: 8}}\nwhat_if: [{{name: two H200, hardware: H200-SXM}}]\n"
    (folder / "base.yaml").write_text(base, encoding="utf-8")
    (folder / "cheaper.yaml").write_text(base.replace("H100-SXM", "L40S"), encoding="utf-8")
    write_price_table(folder / "mine.csv", price_rows(["H200-SXM"]))
    begin(folder / "bench.jsonl", synthetic())
    report_samples.write(folder / "results", report_samples.estimates()[:1])
    figures = expected_figures(estimate(LLAMA, "L40S", concurrency=16))
    measured = {figure.key: figure.value for figure in figures}
    (folder / "infersim-check.json").write_text(json.dumps(measured), encoding="utf-8")
    return folder


@pytest.fixture
def hands_on(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workshop, with stand-ins for what needs a network, a package of its own or minutes of this machine."""
    from infersim.microbench.suite import Outcome
    from infersim.report.across import all_pictures
    from infersim.scenario.sweeps import backends

    monkeypatch.setitem(
        backends.BACKENDS, "dask", backends.BACKENDS["serial"]
    )  # tests/test_sweep_clusters.py starts one
    points, tables = measured()
    own = calibrated()
    monkeypatch.chdir(workshop)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(
        "infersim.microbench.suite.open_backend", lambda *_: SimpleNamespace(name="numpy", device="cpu")
    )
    monkeypatch.setattr("infersim.microbench.suite.run_suite", lambda *_, **__: Outcome(synthetic(), 0))
    monkeypatch.setattr("infersim.planning.live_prices._gpuhunt", lambda providers: [live_offer()])
    monkeypatch.setattr("infersim.calibrate.write.calibrate", lambda *_, **__: calibrated().sections)
    monkeypatch.setattr("infersim.calibrate.own_suite.calibrate_own", lambda *_, **__: own)
    monkeypatch.setattr("infersim.validate.live.run_live", lambda **_: Live())
    monkeypatch.setattr("infersim.validate.search.run_search", lambda **_: Live())
    monkeypatch.setattr("infersim.validate.embedding.run_embedding", lambda **_: Live())
    monkeypatch.setattr(
        "infersim.report.html.all_pictures", lambda results: {k: v[:1] for k, v in all_pictures(results).items()}
    )
    monkeypatch.setattr("infersim.doctor.examine", examined)
    monkeypatch.setattr("infersim.validate.serving.shipped_serving_points", lambda: points)
    monkeypatch.setattr("infersim.validate.sample.read_sample", lambda: tables)
    return workshop


@functools.cache
def measured() -> tuple[Any, Any]:
    """A few of the measurements that ship, read once."""
    from infersim.validate.sample import read_sample
    from infersim.validate.serving import shipped_serving_points

    return shipped_serving_points()[::100], read_sample()[::25]


@functools.cache
def examined() -> Any:
    """This installation, looked at once for all tests of how that is shown."""
    return EXAMINE()


def live_offer() -> Any:
    return SimpleNamespace(instance_name="p5.48xlarge", provider="aws", location="us-east-1", price=40.0, gpu_count=8,
                           gpu_name="H100", gpu_memory=80.0, spot=False)  # fmt: skip


@functools.cache
def calibrated() -> Any:
    """A calibration of the synthetic machine, fitted once."""
    from infersim.calibrate.own_suite import calibrate_own

    return calibrate_own(synthetic())


class Live:
    """What comparing real steps gives, without PyTorch."""

    def to_dict(self) -> dict[str, Any]:
        return {"device": "here", "rows": [{"measured_s": 1.0, "predicted_s": 1.1, "parts": {"gemm_s": 0.9}}]}

    def __str__(self) -> str:
        return "10% off"


# Worked examples


EXAMPLES = [example for name in PANELS for example in examples(function(name))]


@pytest.mark.parametrize("name", PANELS)
def test_every_command_has_examples_that_a_shell_reads_back_from_its_help(name: str) -> None:
    assert examples(function(name))
    shown = re.sub(r"\\([\\`*_{}\[\]<>#|~])", r"\1", help_text(function(name)).partition("Examples:\n\n")[2])
    assert all(len(line.rstrip()) <= EXAMPLE_WIDTH + 2 for line in shown.splitlines())
    copied = [re.sub(r"\\ *\n", "", block) for block in shown.split("\n\n")]
    assert [shlex.split(block) for block in copied] == [shlex.split(example) for example in examples(function(name))]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(capsys: pytest.CaptureFixture[str], hands_on: Path, example: str) -> None:
    code, out, err = run(capsys, *shlex.split(example)[1:])
    assert code == 0, (out, err)
    assert out or "wrote" in err
    assert "error" not in err


# Options


SAME_NAME_OTHER_MEANING = {
    "--gpu": "one, several, a choice among several, or only those of a list",
    "--input": "a mean or a distribution", "--output": "a mean, a distribution, or a page",
    "--precision": "one, several to try, or that of a measured run", "--tp": "of a measured run",
    "--engine": "one, several to try, or a filter", "--speculative-config": "one, or tried beside none",
    "--request-rate": "the load, the peak, the load test's, or several to plot", "--concurrency": "in place of a rate or beside none",
    "--num-requests": "of a closed run or in all", "--target": "means alone", "--price": "one or by GPU", "--model": "of a measured run",
    "--months": "shown or planned for", "--plan": "for the peak or for a hand-over", "--device": "of a bench, or another word for --gpu",
    "--out": "a folder, a file or a page", "--plot": "of the command's own figures", "--kind": "of kernels or of prices",
    "--report": "of accuracy", "-o": "see --output", "-g": "see --gpu", "-r": "see --request-rate", "-c": "see --concurrency",
    "-i": "see --input", "-n": "see --num-requests", "--all": "GPUs or rows",
    "--api": "against own devices, or a model of its own", "--assume": "of a deployment or of a decision",
    "--figure": "that moves or that differs",
    "--capacity": "searched or measured", "--backend": "of a sweep or of a bench", "--live": "prices or steps of this machine",
}  # fmt: skip
"""Options whose help may differ between commands, and why."""


def test_the_same_option_is_declared_alike_in_every_command() -> None:
    seen: dict[str, dict[tuple[Any, ...], list[str]]] = {}
    for name in PANELS:
        for parameter in command(name).params:
            if parameter.param_type_name == "option":
                told = (
                    parameter.help,
                    getattr(parameter, "rich_help_panel", None),
                    parameter.default,
                    tuple(parameter.opts),
                )
                for flag in parameter.opts:
                    seen.setdefault(flag, {}).setdefault(told, []).append(name)
    differing = {flag: found for flag, found in seen.items() if len(found) > 1 and flag not in SAME_NAME_OTHER_MEANING}
    assert not differing, sorted(differing)


NO_ANSWER = ("init", "schema")
"""Commands that write a file and answer nothing."""


@pytest.mark.parametrize("name", PANELS)
def test_every_command_answers_as_json_and_csv_and_takes_the_options_of_any_command(name: str) -> None:
    flags = {flag for parameter in command(name).params for flag in (*parameter.opts, *parameter.secondary_opts)}
    answers = set() if name in NO_ANSWER else {"--json", "--csv"}
    assert flags >= answers | {
        "--quiet",
        "-q",
        "--verbose",
        "-v",
        "--color",
        "--no-color",
        "--specs",
        "--prices",
    }


@pytest.mark.parametrize("name", ["", *PANELS])
def test_help_fits_eighty_columns_with_every_flag_whole(name: str) -> None:
    from typer.testing import CliRunner

    arguments = [*([name] if name else []), "--help"]
    text = CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    if name:
        for parameter in command(name).params:
            flags = [flag for flag in (*parameter.opts, *parameter.secondary_opts) if flag.startswith("-")]
            assert all(flag in text for flag in flags)
    else:
        assert all(f"{code:d} " in text for code in ExitCode)
        assert all(name in text for name in PANELS)


# Forms of an answer


ANSWERS: dict[str, tuple[list[str], str | None]] = {
    "estimate": (["estimate", LLAMA, "-g", "H100-SXM", "-c", "8"], None),
    "estimate several": (["estimate", "meta-llama/Llama-3.1-70B", "-g", "RTX-PRO-6000-Blackwell,B200-SXM"], ""),
    "simulate": (["simulate", LLAMA, "-g", "L40S", "-r", "2", "-n", "40"], None),
    "simulate rates": (["simulate", LLAMA, "-g", "L40S", "-r", "1,2", "-n", "40"], ""),
    "simulate capacity": (
        ["simulate", LLAMA, "-g", "L40S", "--capacity", "--target", "ttft_p95=1s", "-n", "60"], None),
    "plan": (["plan", LLAMA, "-g", "RTX-PRO-6000-Blackwell", "-r", "4", "--verify", "0", "--max-gpus", "2", "--precision",
              "bf16"], "options"),
    "compare": (["compare", LLAMA, "H100-SXM", "RTX-PRO-6000-Blackwell tp=2", "-r", "9", "--monte-carlo", "50"], "options"),
    "cost": (["cost", LLAMA, "-g", "L40S", "-r", "2"], None),
    "cost over months": (["cost", LLAMA, "-g", "L40S", "-r", "1", "--months", "3", "--growth", "10"], "months"),
    "size": (["size", LLAMA, "-g", "L40S", "-r", "2", "--months", "3", "--growth", "20"], "months"),
    "launch": (["launch", LLAMA, "-g", "L40S", "-c", "4"], "expected"),
    "launch check": (["launch", LLAMA, "-g", "L40S", "-c", "16", "--check", "infersim-check.json"], ""),
    "report": (["report", "results", "-o", "page.html"], "-"),
    "models": (["models"], ""),
    "model": (["models", "deepseek-ai/DeepSeek-V3"], None),
    "hardware": (["hardware"], ""),
    "accelerator": (["hardware", "H100-SXM"], None),
    "systems": (["hardware", "--systems"], ""),
    "calibrations": (["calibrations", "--kind", "collective"], ""),
    "prices": (["prices"], "prices"),
    "prices of one": (["prices", "H200", "--sources"], "prices"),
    "bench": (["bench", "--set", "tiny", "--backend", "numpy"], "best"),
    "calibrate": (["calibrate", "--from", "bench.jsonl", "--out", "own"], "sections"),
    "calibrate all": (["calibrate", "--out", "calibrations"], "sections"),
    "validate": (["validate", "--by", "model", "--by", "device"], "-"),
    "validate live": (["validate", "--live"], "rows"),
    "doctor": (["doctor"], "specs"),
    "run": (["run", "base.yaml"], "-"),
    "diff": (["diff", "base.yaml", "base.yaml#two H200"], "-"),
    "sweep": (["sweep", "sweep.yaml", "-o", "swept"], "-"),
    "decide": (["decide", "rag-vs-long-context", "--api", "3,0.3,15"], "-"),
}  # fmt: skip
"""A question to each command, and where its JSON has the records that CSV has a line for: "" for a list, None for one record, "-"
where CSV says it in lines of another shape."""


def numbers_agree(text: str, value: Any) -> bool:
    return text == cell(value)


@pytest.mark.parametrize("question", ANSWERS)
def test_json_and_csv_agree(
    capsys: pytest.CaptureFixture[str], hands_on: Path, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setattr("infersim.report.html.write_page", lambda *_: [])  # drawn in the examples
    arguments, place = ANSWERS[question]
    code, out, _ = run(capsys, *arguments, "--json")
    answer = json.loads(out, parse_constant=pytest.fail)
    assert code in (0, 1)
    again, text, _ = run(capsys, *arguments, "--csv", "-q")
    assert again == code
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows
    assert all(None not in row for row in rows)
    if place == "-":
        return
    records = [answer] if place is None else answer if place == "" else answer[place]
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        flat = flatten(record)
        assert all(numbers_agree(row[name], value) for name, value in flat.items() if name in row), question
        assert all(value is None for name, value in flat.items() if name not in row)
        assert all(not row[name] for name in row if name not in flat)


@pytest.mark.parametrize("question", ANSWERS)
def test_answers_fit_eighty_columns_and_break_no_name(
    capsys: pytest.CaptureFixture[str], hands_on: Path, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setattr("infersim.report.html.write_page", lambda *_: [])
    arguments, _ = ANSWERS[question]
    out = run(capsys, *arguments)[1]
    assert out.strip()
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "\x1b" not in out
    for name in NAMES.get(question, ()):
        assert name in out, name


NAMES = {
    "estimate several": ["RTX-PRO-6000-Blackwell", "B200-SXM"], "plan": ["RTX-PRO-6000-Blackwell"], "compare": ["RTX-PRO-6000-Blackwell"],
    "models": ["RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic", "fp8_block, nvfp4 experts"],
    "hardware": ["RTX-PRO-6000-Blackwell", "V100-32GB-SXM2", "USD/h"],
    "systems": ["PCIe-8x-RTX-PRO-6000-Blackwell", "Workstation-4x-RTX-6000-Ada"],
    "calibrations": ["H100-SXM vllm collective combine.low_latency"],
    "prices": ["RTX-PRO-6000-Blackwell", "reserved_1y"],
    "validate": ["Llama-3.1-8B-Instruct"],
}  # fmt: skip
"""What a user copies from an answer."""


@pytest.mark.parametrize("kind", ["models", "accelerators", "systems"])
def test_every_name_on_file_is_listed_whole(capsys: pytest.CaptureFixture[str], hands_on: Path, kind: str) -> None:
    from infersim.specs.library import names

    asked = {"models": ["models"], "accelerators": ["hardware"], "systems": ["hardware", "--systems"]}[kind]
    shown = {line.split("  ")[0].strip() for line in run(capsys, *asked)[1].splitlines()}
    assert set(names(kind)) <= shown


def test_both_forms_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "models", "gpt2", "--json", "--csv")
    assert (code, out) == (2, "")
    assert "one of --json and --csv" in err


def test_prices_as_csv_are_read_back_as_prices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from infersim.specs.price_tables import read_price_table

    table = tmp_path / "prices.csv"
    run(capsys, "prices", "L40S", "--out", str(table))
    listed = list(csv.DictReader(io.StringIO(run(capsys, "prices", "L40S", "--csv")[1])))
    rows = read_price_table(table)
    assert [float(row["usd_per_hour"] or 0) for row in listed] == [row.per_hour or 0 for row in rows]


# -q and -v, on either side of the command


def test_quiet_leaves_only_errors_and_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = str(tmp_path / "mine.csv")
    for arguments in (["-q", "prices", "L40S", "--out", page], ["prices", "L40S", "--out", page, "--quiet"]):
        assert run(capsys, *arguments) == (0, "", "")
    assert json.loads(run(capsys, "models", "gpt2", "--json", "-q")[1])["name"].endswith("gpt2")
    code, out, err = run(capsys, "-q", "models", "--specs", str(tmp_path / "none"))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_verbose_says_what_was_read_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(capsys, "estimate", LLAMA, "-g", "L40S", "--json")
    for arguments in (
        ["-v", "estimate", LLAMA, "-g", "L40S", "--json"],
        ["estimate", LLAMA, "-g", "L40S", "--json", "--verbose"],
    ):
        found = shell(*arguments)
        assert (found.returncode, found.stdout, plain[2]) == (0, plain[1], "")
        assert re.search(r"^read .*L40S\.yaml$", found.stderr, re.MULTILINE)
        assert "kernels: measured" in found.stderr
        assert re.search(r"^\d+\.\d\d s$", found.stderr, re.MULTILINE)
    assert run(capsys, "-v", "estimate", LLAMA, "-g", "L40S")[2] != ""
    assert run(capsys, "estimate", LLAMA, "-g", "L40S")[2] == ""


def test_specs_are_taken_on_either_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from infersim.specs import library

    (tmp_path / "accelerators").mkdir()
    shipped = library.find("accelerators", "L40S").read_text(encoding="utf-8")
    (tmp_path / "accelerators" / "Mine.yaml").write_text(shipped.replace("name: L40S", "name: Mine"), encoding="utf-8")
    for arguments in (["--specs", str(tmp_path), "hardware", "Mine"], ["hardware", "Mine", "--specs", str(tmp_path)]):
        assert run(capsys, *arguments)[0] == 0
        library._added.clear()
        library.clear_cache()
        assert run(capsys, "hardware", "Mine")[0] == 2


# Colours


@pytest.mark.parametrize(("settings", "watched", "expected"), [
    ({}, True, True), ({}, False, False), ({"TERM": "dumb"}, True, False), ({"NO_COLOR": "1"}, True, False),
    ({"NO_COLOR": ""}, True, True), ({"FORCE_COLOR": "1"}, False, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
])  # fmt: skip
def test_colours_follow_the_conventions(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], watched: bool, expected: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return watched

    monkeypatch.setattr(output, "manner", output.Manner())
    assert output.coloured(Stream()) is expected
    for wish in (True, False):
        monkeypatch.setattr(output, "manner", output.Manner(color=wish))
        assert output.coloured(Stream()) is wish


def test_a_pipe_gets_no_escape_codes_unless_it_asks() -> None:
    assert "\x1b" not in shell("hardware", "H100-SXM").stdout
    assert "\x1b[" in shell("hardware", "H100-SXM", "--color").stdout
    assert "\x1b[" in shell("hardware", "H100-SXM", FORCE_COLOR="1").stdout
    assert "\x1b" not in shell("--no-color", "hardware", "H100-SXM", FORCE_COLOR="1").stdout


# How commands end


def test_exit_codes_are_as_help_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert [int(code) for code in ExitCode] == [0, 1, 2, 130] == [int(code) for code in MEANING]
    assert run(capsys, "estimate", LLAMA, "-g", "L40S")[0] == ExitCode.ANSWERED
    assert run(capsys, "estimate", "meta-llama/Llama-3.1-70B", "-g", "L40S")[0] == ExitCode.MISSED
    assert run(capsys, "estimate", LLAMA, "-g", "L40S", "--target", "ttft=1us")[0] == ExitCode.MISSED
    assert run(capsys, "estimate", LLAMA, "-g", "L41S")[0] == ExitCode.BAD_INPUT
    assert run(capsys, "estimate")[0] == ExitCode.BAD_INPUT
    assert run(capsys, "estimat")[0] == ExitCode.BAD_INPUT


@pytest.mark.parametrize("arguments", [["plan", LLAMA, "-g", "L40S", "-r", "1e6", "--max-gpus", "1"], ["models", "no/such/model"],
                                       ["models", "--nonsense"], ["size", LLAMA, "-g", "L40S"]])  # fmt: skip
def test_errors_are_on_standard_error_alone(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments, *(["--json"] if "--nonsense" not in arguments else []))
    assert code in (1, 2)
    assert out == ""
    assert "rror" in err
    assert "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of Unix")
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["--help"], ["launch", LLAMA, "-g", "L40S"]])
def test_a_closed_pipe_ends_a_command_quietly(arguments: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "infersim", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of Unix")
@pytest.mark.parametrize("after", [0.15, 1.2])
def test_ctrl_c_ends_a_command_with_one_word(tmp_path: Path, after: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "infersim", "plan", "deepseek-ai/DeepSeek-V3", "--all", "-r", "20"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:  # fmt: skip
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    if process.returncode == -signal.SIGINT:  # on a busy machine Python itself had not started yet
        pytest.skip("interrupted before the first line of infersim")
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_ctrl_c_anywhere_in_a_command_is_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for where, arguments in (("infersim.predict.estimate.estimate", ["estimate", LLAMA, "-g", "L40S"]),
                             ("infersim.specs.library.load_bundled_model", ["models"]),
                             ("infersim.specs.library.add_spec_folder", ["--specs", ".", "models"])):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(where, stop)
            assert run(capsys, *arguments) == (130, "", "interrupted\n")


def test_a_write_that_fails_leaves_the_older_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "mine.csv"
    page.write_text("old", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(capsys, "prices", "L40S", "--out", str(page))[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]
    assert page.read_text(encoding="utf-8") == "old"


# Completion


def complete(line: str, **settings: str) -> list[str]:
    words = line.split(" ")
    found = shell(_INFERSIM_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), **settings)
    assert found.stderr == ""
    return found.stdout.split()


def test_shells_complete_what_is_on_file(tmp_path: Path) -> None:
    assert complete("infersim est") == ["estimate"]
    assert complete("infersim estimate m --gpu H100-") == ["H100-NVL", "H100-PCIe", "H100-SXM"]
    assert "llama-3.1-8B" in complete("infersim estimate llama-3.1-8")
    (tmp_path / "accelerators").mkdir()
    (tmp_path / "accelerators" / "Mine.yaml").touch()
    assert complete(f"infersim --specs {tmp_path} plan m --gpu L40S,Min") == ["L40S,Mine"]


def test_values_of_options_are_completed_without_a_shell() -> None:
    import typer

    def values(name: str, flag: str, typed: str) -> list[str]:
        from typer.core import TyperGroup  # noqa: F401 - the group builds its commands

        found = command(name)
        parameter = next(p for p in found.params if flag in p.opts)
        return [item.value for item in parameter.shell_complete(typer.Context(found), typed)]

    assert "HGX-H100" in values("estimate", "--system", "HGX")
    assert values("simulate", "--engine", "t") == ["tgi", "trtllm"]
    assert {"fp8", "fp8_block"} <= set(values("cost", "--precision", "fp"))
    assert values("cost", "--site", "g") == ["germany"]
    assert values("simulate", "--mode", "b") == ["bound"]
    assert values("cost", "--rent", "r") == ["reserved_1y", "reserved_3y"]


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_completion_scripts_are_shown(kind: str) -> None:
    found = shell("--show-completion", kind, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert found.returncode == 0
    assert "_INFERSIM_COMPLETE" in found.stdout


def test_help_and_completion_import_nothing_heavy() -> None:
    code = ("import sys\nfrom infersim.cli.app import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
            "print(sorted({heavy} & set(sys.modules)), file=sys.stderr)")  # fmt: skip
    heavy = {"numpy", "scipy", "pandas", "torch", "matplotlib"}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    asked: list[tuple[list[str], set[str], dict[str, str]]] = [
        (["--help"], heavy | {"yaml"}, {}), (["plan", "--help"], heavy | {"yaml"}, {}),
        ([], heavy, {"_INFERSIM_COMPLETE": "complete_bash", "COMP_WORDS": "infersim estimate --gpu H1", "COMP_CWORD": "3"}),
    ]  # fmt: skip
    for arguments, unwanted, settings in asked:
        found = subprocess.run(
            [sys.executable, "-c", code.format(arguments=arguments, heavy=unwanted)], capture_output=True, text=True, check=True,
            env=environment | settings,
        )  # fmt: skip
        assert found.stderr.strip() == "[]"
