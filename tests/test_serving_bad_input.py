"""What ``infersim simulate`` and its Python face refuse, and what they say where nothing can be served."""

from __future__ import annotations

import contextlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from infersim.cli.app import app, main
from infersim.cli.simulate import read_lengths, read_rates
from infersim.errors import DoesNotFitError, SpecError, UnsupportedError
from infersim.predict.estimate import estimate
from infersim.serving.arrivals import Burst, ClosedLoop, Constant, poisson
from infersim.serving.capacity import capacity
from infersim.serving.lengths import Fixed
from infersim.serving.simulate import simulate, simulate_deployment
from infersim.serving.target import read_limits
from infersim.serving.traffic import Traffic
from infersim.specs.deployment import EngineKnobs

MODEL, GPU = "meta-llama/Llama-3.1-8B", "H100-SXM"
SAMPLES = Path(__file__).parent / "data" / "traces"


def run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command."""
    with pytest.raises(SystemExit) as ended:
        main(["simulate", MODEL, "-g", GPU, *options])
    captured = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, captured.out, captured.err


TRACE = ("--trace", str(SAMPLES / "vidur.csv"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-n", "0"], ["num_requests", "1", "got 0"]),
        (["-n", "-5"], ["num_requests", "got -5"]),
        (["--request-rate=-3"], ["--request-rate", "above zero", "'-3'"]),
        (["--request-rate", "nan"], ["--request-rate", "above zero", "'nan'"]),
        (["--request-rate", "2,fast"], ["--request-rate", "or inf", "'fast'"]),
        (["--request-rate", "1e10"], ["rate", "1000000000"]),
        (["--request-rate", "1e-300"], ["take centuries", "raise the rate"]),
        ([*TRACE, "--speedup", "1e-300"], ["speedup", "last centuries"]),
        (["-c", "0"], ["concurrency", "got 0"]),
        (["-c", "4", "--request-rate", "3"], ["--request-rate", "not both"]),
        (["--burstiness", "0.5"], ["--burstiness", "--request-rate"]),
        (["--request-rate", "3", "--burstiness", "0"], ["burstiness", "greater than 0"]),
        (["--think", "2 s"], ["--think", "--turns"]),
        (["--turns", "3", "--think", "2"], ["think", "'2'"]),
        (["--prefix-groups", "4"], ["--prefix-groups", "--prefix-tokens"]),
        (["--prefix-tokens", "-4"], ["tokens", "-4"]),
        (["--input", "1e9"], ["--input", "100000000"]),
        (["--input", "-4"], ["--input", "greater than or equal to 1"]),
        (["--input", "nan"], ["--input"]),
        (["--input", "many"], ["--input", "lognormal:mean=1000,p99=6000", "'many'"]),
        (["--input", "gauss:mean=3"], ["--input", "'gauss'"]),
        (["--output", "uniform:9-3"], ["--output", "low 9 is above high 3"]),
        (["--output", "lognormal:mean=100"], ["--output", "either p99 or cv"]),
        (["--random-range-ratio", "2"], ["random_range_ratio", "at most 1"]),
        (["--random-range-ratio", "0.5", "--input", "uniform:1-5"], ["--random-range-ratio", "plain lengths"]),
        (["--target", "ttft_p95=0s"], ["target", "no latency is at most 0s"]),
        (["--target", "ttft_p95=5"], ["target", "ttft_p95", "'5'"]),
        (["--target", "tfft=1s"], ["no latency is called 'tfft'", "'ttft'"]),
        (["--target", "ttft_p0=1s"], ["between 0 and 100", "p0"]),
        (["--target", "ttft_p100=1s"], ["between 0 and 100", "p100"]),
        (["--target", "fast please"], ["ttft_p95=800ms,tpot=40ms", "'fast please'"]),
        (["--target", ""], ["target", "got none"]),
        (["--engine", "vlm"], ["no engine is called 'vlm'", "'vllm'"]),
        (["--routing", "leastloaded"], ["routing", "'least_loaded'"]),
        (["--batching", "sttic"], ["batching", "'static'"]),
        (["--scheduling-policy", "lifo"], ["scheduling_policy", "'fcfs'"]),
        (["--max-num-seqs", "0"], ["max_num_seqs", "got 0"]),
        (["--max-num-seqs", "512", "--max-num-batched-tokens", "100"], ["max_num_batched_tokens", "below max_num_seqs"]),
        (["--num-gpu-blocks-override", "0"], ["num_gpu_blocks_override", "got 0"]),
        (["--max-model-len", "10"], ["more than the 10"]),
        (["--replicas", "100000"], ["replicas", "65536"]),
        (["--seed", "-1"], ["seed", "got -1"]),
        (["--capacity"], ["--capacity", "needs a --target"]),
        (["--capacity", "--target", "ttft=1s", "-c", "4"], ["--concurrency", "sets the rate itself"]),
        (["--capacity", "--target", "ttft=1s", "--save", "a.csv"], ["--save", "of one run"]),
        ([*TRACE, "--input", "5"], ["--input", "a trace brings its own"]),
        ([*TRACE, "-n", "5"], ["--num-requests", "a trace brings its own"]),
        ([*TRACE, "--capacity", "--target", "ttft=1s"], ["--capacity", "a trace has its own"]),
        ([*TRACE, "--speedup", "0"], ["speedup", "above zero"]),
        ([*TRACE, "--speedup", "nan"], ["speedup", "above zero"]),
        ([*TRACE, "--trace-format", "azur"], ["'azure'"]),
        (["--speedup", "2"], ["--speedup", "--trace"]),
        (["--trace-format", "azure"], ["--trace-format", "--trace"]),
        (["--trace", "nowhere.csv"], ["nowhere.csv", "no such file"]),
        (["--trace", str(SAMPLES / "sharegpt.json")], ["sharegpt.json", "no arrival times"]),
        (["--save", "x.txt"], ["--save", ".csv, .parquet", "'x.txt'"]),
        (["--save", "nowhere/x.csv"], ["--save", "no such folder"]),
        (["--save-series", "x.json"], ["--save-series", ".csv, .parquet"]),
        (["--benchmark", "x.csv"], ["--benchmark", ".json"]),
        (["--save-detailed"], ["--save-detailed", "--benchmark"]),
        (["--plot", "x.gif"], ["--plot", ".png, .svg, .pdf"]),
        (["--request-rate", "1,2", "--save", "x.csv"], ["--save", "of one run"]),
        (["--request-rate", "1,inf", "--plot", "x.png"], ["--plot", "leave inf out"]),
        (["--request-rates", "4"], ["--request-rate"]),
    ],
)  # fmt: skip
def test_the_command_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    code, out, err = run(capsys, *options)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for word in words:
        assert word in re.sub(r"[\s│]+", " ", err)


def test_what_does_not_fit_exits_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--num-gpu-blocks-override", "2")
    assert (code, out) == (1, "")
    assert "does not fit" in err
    with pytest.raises(DoesNotFitError):
        simulate("meta-llama/Llama-3.1-70B", GPU, Traffic(num_requests=1))


def too_long(count: int = 30, arrivals: Any = None) -> Any:
    """A run whose every request is longer than the model length it was resolved for."""
    resolved = estimate(MODEL, GPU, input_tokens=64, output_tokens=64, knobs=EngineKnobs(max_model_len=128))
    traffic = Traffic(input_tokens=1000, output_tokens=10, arrivals=arrivals or poisson(5), num_requests=count)
    return simulate_deployment(resolved, traffic, target="ttft=1s")


@pytest.mark.parametrize("arrivals", [poisson(5), ClosedLoop(concurrency=4), Burst()])
def test_all_requests_turned_away_is_an_answer_without_latencies(tmp_path: Path, arrivals: Any) -> None:
    result = too_long(arrivals=arrivals)
    assert (result.completed, result.failed, result.unstable) == (0, 30, False)
    assert result.missed_targets == ["ttft"]
    for shown in (result, result.settled()):
        assert "30 requests were turned away: longer than the 128 tokens that fit" in str(shown)
        assert "no request was completed" in str(shown)
        assert "nan" not in str(shown).lower()
        found = json.loads(json.dumps(shown.to_dict(), allow_nan=False))
        assert found["ttft_mean_s"] is None
        assert json.dumps(shown.benchmark_dict(detailed=True), allow_nan=False)
    result.write_csv(tmp_path / "none.csv")
    assert len((tmp_path / "none.csv").read_text().splitlines()) == 31
    from infersim.report.serving import plot_run

    plot_run(result, tmp_path / "none.png")
    assert (tmp_path / "none.png").stat().st_size > 1000


def test_the_command_exits_with_one_where_nothing_was_served(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infersim.serving.simulate.simulate", lambda *args, **options: too_long())
    code, out, _ = run(capsys, "--request-rate", "5")
    assert code == 1
    assert "no request was completed" in out
    code, out, _ = run(capsys, "--request-rate", "5", "--json")
    assert code == 1
    assert json.loads(out, parse_constant=pytest.fail)["completed"] == 0


def test_a_capacity_that_nothing_meets_is_zero() -> None:
    resolved = estimate(MODEL, GPU, input_tokens=64, output_tokens=64)
    found = capacity(
        resolved, Traffic(input_tokens=64, output_tokens=64, arrivals=poisson(1), num_requests=50), "ttft=1us"
    )
    assert (found.rate, found.interrupted) == (0.0, False)
    assert 0 < found.missed_at < math.inf
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["capacity_requests_per_s"] == 0
    with pytest.raises(SpecError, match="arrivals must be gamma"):
        capacity(resolved, Traffic(arrivals=ClosedLoop(concurrency=2)), "ttft=1s")
    with pytest.raises(SpecError, match="at least one limit"):
        capacity(resolved, Traffic(arrivals=poisson(1)), ())
    with pytest.raises(SpecError, match="between 0 and 1"):
        capacity(resolved, Traffic(arrivals=poisson(1)), "ttft=1s", tolerance=math.nan)


@pytest.mark.parametrize("arrivals", [poisson(5), Constant(rate=5), ClosedLoop(concurrency=3), Burst()])
def test_one_request_and_its_zero_length_window(arrivals: Any) -> None:
    result = simulate(MODEL, GPU, Traffic(input_tokens=100, output_tokens=1, arrivals=arrivals, num_requests=1))
    settled = result.settled()
    assert (result.completed, settled.completed) == (1, 1)
    assert result.mean("ttft") == result.percentile("ttft", 99) == result.mean("e2e")
    assert math.isnan(result.mean("tpot"))
    found = json.loads(json.dumps(settled.to_dict(), allow_nan=False))
    assert (found["tpot_mean_s"], found["itl_p99_s"]) == (None, None)
    assert "nan" not in str(result)


def test_equal_arrivals_have_a_rate_over_the_run() -> None:
    result = simulate(MODEL, GPU, Traffic(arrivals=Burst(), num_requests=40)).settled()
    assert result.window is None
    assert result.requests_per_second == pytest.approx(40 / result.duration)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1.5}, "whole number"), ({"seed": True}, "whole number"), ({"routing": "random"}, "no routing is called"),
        ({"target": "ttft"}, "write a target"), ({"input_tokens": 5}, "belongs to the traffic"),
        ({"speedup": math.inf}, "above zero"), ({"target": "x=1s"}, "no latency"), ({"engine": "TGI2"}, "no engine"),
    ],
)  # fmt: skip
def test_python_refuses_the_same(options: dict[str, Any], words: str) -> None:
    with pytest.raises((SpecError, TypeError), match=words):
        simulate(MODEL, GPU, Traffic(num_requests=1), **options)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_requests": 0}, {"num_requests": 1.5}, {"input_tokens": "many"}, {"output_tokens": 0}, {"input_tokens": 1e9},
        {"arrivals": {"kind": "gamma", "rate": 0}}, {"arrivals": {"kind": "gamma", "rate": math.nan}}, {"arrivals": {"kind": "x"}},
        {"arrivals": {"kind": "profile", "at": [0, 1], "rates": [1]}}, {"arrivals": {"kind": "profile", "at": [0], "rates": [0]}},
        {"pairs": {"pairs": []}}, {"pairs": {"pairs": [[1, 0]]}}, {"prefixes": {"tokens": 5, "share": 2}},
        {"prefixes": {"tokens": 5, "groups": 0}}, {"sessions": {"turns": 0}}, {"priorities": 0}, {"arivals": None},
    ],
)  # fmt: skip
def test_bad_traffic_is_refused(fields: dict[str, Any]) -> None:
    from infersim.specs.library import validate

    with pytest.raises(SpecError) as caught:
        validate(Traffic, fields)
    assert next(iter(fields)).split(".")[0][:6] in str(caught.value) or "tokens" in str(caught.value)


def test_limits_name_percentiles_and_means() -> None:
    assert [(limit.percentile, limit.seconds) for limit in read_limits("ttft_median=1s,itl_mean=2ms,e2e_p99.9=1min")] == [
        (50.0, 1.0), (None, 0.002), (99.9, 60.0),
    ]  # fmt: skip


WORDS = st.text("0123456789.,:=-_enifpxt msu", max_size=20) | st.sampled_from(
    [
        "uniform:1-",
        "uniform:-3-5",
        "lognormal:mean=5,p99=1e9",
        "fixed:tokens=3",
        "empirical:values=3",
        "lognormal:",
        "1e400",
        "-0",
    ]
)


@given(text=WORDS | st.text(max_size=12))
def test_whatever_is_written_only_spec_errors_come_out(text: str) -> None:
    for read in (lambda: read_lengths(text, "--input").mean, lambda: read_rates(text), lambda: read_limits(text)):
        with contextlib.suppress(SpecError):
            assert read() is not None


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = simulate(MODEL, GPU, Traffic(input_tokens=Fixed(tokens=10), output_tokens=2, num_requests=3))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'infersim\[data\]', or write CSV"):
        result.write_parquet(tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_help_fits_eighty_columns_with_every_flag_in_full() -> None:
    text = CliRunner().invoke(app, ["simulate", "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
    assert max(map(len, text.splitlines())) <= 80
    command: Any = get_command(app)
    for parameter in command.get_command(None, "simulate").params:
        assert all(flag in text for flag in [*parameter.opts, *parameter.secondary_opts] if flag.startswith("-"))


@pytest.mark.parametrize("options", [["--request-rate", "400", "-n", "2000"], ["--trace", str(SAMPLES / "measured.csv")],
                                     ["--request-rate", "2,5", "-n", "50", "--target", "ttft_p95=1s,tpot=1ms"]])  # fmt: skip
def test_output_fits_eighty_columns(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    _, out, _ = run(capsys, *options)
    assert 40 < max(map(len, out.splitlines())) <= 80
    _, out, _ = run(capsys, *options, "--json")
    assert json.loads(out, parse_constant=pytest.fail)


def test_a_measured_trace_is_compared_in_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--trace", str(SAMPLES / "vllm_detailed.json"), "--num-gpu-blocks-override", "400")
    code, out, _ = run(capsys, *options)
    assert code == 0
    assert re.search(r"ttft p95 +[0-9.]+ ms +85.5 ms +[-+][0-9.]+%", out)
    assert "left out of the trace: 1 failed requests" in out
    _, out, _ = run(capsys, *options, "--json")
    rows = json.loads(out)["measured"]
    assert {"metric", "statistic", "predicted_s", "measured_s", "error"} == set(rows[0])
    assert next(row["measured_s"] for row in rows if row["metric"] == "ttft") == pytest.approx(0.06)


def test_no_bar_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(
        capsys, "--request-rate", "900", "--input", "16", "--output", "1", "-n", "200000", "--mode", "bound"
    )
    assert (code, err) == (0, "")
