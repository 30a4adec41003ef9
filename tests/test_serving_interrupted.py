"""Ctrl-C in a long run: what was simulated is kept, and never passes for the whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infersim.predict.estimate import estimate
from infersim.serving.arrivals import poisson
from infersim.serving.capacity import capacity
from infersim.serving.compare import compare
from infersim.serving.simulate import simulate, simulate_deployment
from infersim.serving.traces import read_trace
from infersim.serving.traffic import Traffic

MODEL, GPU = "meta-llama/Llama-3.1-8B", "H100-SXM"
DRIVER = """
import os, signal, sys, threading, time
import infersim.serving.simulate as module
from infersim.cli.app import main

number, runs = int(sys.argv.pop(1)), []

class Watched(module.Records):
    def __init__(self):
        super().__init__()
        runs.append(self)

module.Records = Watched

def interrupt():
    while len(runs) <= number or not any(runs[number].finish[:100]):
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
main()
"""
"""The command, with a SIGINT to itself as soon as a request of run ``number`` has ended."""
SMALL = ["--input", "64", "--output", "8", "-n", "60000"]


def interrupted(number: int, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DRIVER, str(number), "simulate", MODEL, "-g", GPU, *SMALL, *options],
        capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False,
    )  # fmt: skip


def test_one_run(tmp_path: Path) -> None:
    csv, parquet, bench, plot = (tmp_path / name for name in ("r.csv", "s.parquet", "b.json", "p.png"))
    found = interrupted(0, "--request-rate", "400", "--json", "--save", str(csv), "--save-series", str(parquet), "--benchmark",
                        str(bench), "--plot", str(plot))  # fmt: skip
    assert found.returncode == 130
    assert "not of 60,000" in found.stderr
    assert "Traceback" not in found.stderr
    summary = json.loads(found.stdout, parse_constant=pytest.fail)
    assert summary["interrupted"] is True
    assert summary["unstable"] is None
    assert 0 < summary["completed"] < 60_000
    assert (
        f"interrupted: {summary['completed']:,} of 60,000 requests were simulated to their end" in summary["warnings"]
    )
    rows = csv.read_text().splitlines()[1:]
    assert sum(bool(row.split(",")[5]) for row in rows) == summary["completed"] < 60_000
    assert json.loads(bench.read_text())["interrupted"] is True
    assert plot.stat().st_size > 1000
    import pyarrow.parquet

    assert pyarrow.parquet.read_schema(parquet).metadata[b"interrupted"] == b"true"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "p.png", "r.csv", "s.parquet"]


def test_several_rates_show_what_is_done_and_name_the_rest(tmp_path: Path) -> None:
    options = ("--request-rate", "200,300,400", "--plot", str(tmp_path / "load.png"))
    found = interrupted(1, *options, "--json")
    assert found.returncode == 130
    first, second, rest = json.loads(found.stdout)
    assert (first["interrupted"], first["completed"]) == (False, 60_000)
    assert (second["interrupted"], second["completed"] < 60_000) == (True, True)
    assert rest == {"interrupted": True, "request_rates_left_out": [400.0]}
    assert "interrupted: not simulated: 400 requests/s" in found.stderr
    assert (tmp_path / "load.png").exists()


def test_a_search_shows_its_bounds() -> None:
    found = interrupted(2, "--capacity", "--target", "ttft_p95=500ms", "--json")
    assert found.returncode == 130
    assert "interrupted after 2 trials: the search was not finished" in found.stderr
    assert json.loads(found.stdout)["interrupted"] is True
    assert json.loads(found.stdout)["trials"] == 2


def test_a_first_trial_leaves_nothing_to_show() -> None:
    found = interrupted(0, "--capacity", "--target", "ttft_p95=500ms")
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "interrupted before anything could be shown\n")


class Stop:
    """Progress that interrupts after so many calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self, drawn: int, total: int) -> None:
        self.calls -= 1
        if not self.calls:
            raise KeyboardInterrupt


def test_python_keeps_what_was_simulated(tmp_path: Path) -> None:
    traffic = Traffic(input_tokens=64, output_tokens=8, arrivals=poisson(300), num_requests=80_000)
    result = simulate(MODEL, GPU, traffic, progress=Stop(1), target="ttft=1s")
    assert result.interrupted
    assert 32_000 < result.completed <= 32_768 < len(result.columns["arrival_s"])
    assert "interrupted: " in str(result)
    assert "of 80,000 requests" in str(result)
    assert result.settled().interrupted
    result.write_csv(tmp_path / "part.csv")
    trace = read_trace(tmp_path / "part.csv")
    again = simulate(MODEL, GPU, trace, progress=Stop(1))
    assert again.interrupted
    assert again.completed <= compare(again, trace).requests < trace.num_requests


def test_a_search_keeps_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = estimate(MODEL, GPU, input_tokens=64, output_tokens=8)
    traffic = Traffic(input_tokens=64, output_tokens=8, arrivals=poisson(1), num_requests=500)
    whole = capacity(resolved, traffic, "ttft_p95=200ms")
    left = [0]

    def stop(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        result = simulate_deployment(*args, **options)
        return result if left[0] else replace(result, interrupted=True)

    monkeypatch.setattr("infersim.serving.capacity.simulate_deployment", stop)
    left[0] = 4
    found = capacity(resolved, traffic, "ttft_p95=200ms")
    assert (found.interrupted, found.trials) == (True, 3)
    assert found.rate <= whole.rate <= whole.missed_at <= found.missed_at
    left[0] = 1
    with pytest.raises(KeyboardInterrupt):
        capacity(resolved, traffic, "ttft_p95=200ms")
