"""One sweep on a real Dask cluster and a real Ray, both of this machine, gives the rows of one process, bit for bit."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import infersim
from infersim.errors import SpecError
from infersim.scenario.sweeps.result import SweepResult

BASE = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM", "target": {"ttft": "1 s", "tpot": "30 ms"}}
DESIGN: dict[str, Any] = {
    "random": {
        "hardware": ["H100-SXM", "L40S", "L4"],
        "deployment.tensor_parallel": [1, 2],
        "workload.input_tokens": {"log_uniform": [64, 140_000], "whole": True},
        "workload.output_tokens": {"log_uniform": [16, 1024], "whole": True},
        "workload.concurrency": {"log_uniform": [1, 256]},
        "workload.prefix_hit": {"uniform": [0, 0.9]},
        "cost.gpu_hour": {"uniform": ["1 USD", "4 USD"]},
    },
    "points": 20_000,
    "seed": 11,
    "chunk_points": 2500,
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    found = infersim.run_sweep(BASE, DESIGN, tmp_path_factory.mktemp("alone"), backend="serial")
    assert found.rows == 20_000
    assert 100 < found.failed < 10_000
    return found


def _same(one: SweepResult, other: SweepResult) -> bool:
    assert [part.name for part in one.parts] == [part.name for part in other.parts]
    return all(a.read_bytes() == b.read_bytes() for a, b in zip(one.parts, other.parts, strict=True))


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    subprocesses = pytest.importorskip("distributed.deploy.subprocess")
    if sys.platform == "win32":
        pytest.skip("Dask starts such clusters on POSIX systems")
    with subprocesses.SubprocessCluster(
        n_workers=2, threads_per_worker=1, worker_class="distributed.Worker", dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_dask(scheduler: str, alone: SweepResult, tmp_path: Path) -> None:
    told: list[int] = []
    found = infersim.run_sweep(
        BASE, DESIGN, tmp_path, backend="dask", address=scheduler, progress=lambda done, total: told.append(done)
    )
    assert _same(alone, found)
    assert told == [2500 * n for n in range(9)]


@pytest.mark.slow
def test_ray(alone: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a token into the home folder
    found = infersim.run_sweep(BASE, DESIGN, tmp_path, backend="ray", workers=2)
    assert _same(alone, found)


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_an_address_where_nobody_answers_is_told_soon(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed" if backend == "dask" else "ray")
    monkeypatch.setattr("infersim.scenario.sweeps.backends.CONNECT_SECONDS", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{silent.getsockname()[1]}"
        for listens in (False, True):
            if listens:
                silent.listen()
            started = time.monotonic()
            with pytest.raises(
                SpecError,
                match=rf"address: no (Dask scheduler|Ray cluster) answers at {nobody} .*; start one: (dask|ray) ",
            ):
                infersim.run_sweep(BASE, DESIGN, tmp_path, backend=backend, address=nobody)
            assert time.monotonic() - started < 15
    with pytest.raises(SpecError, match="is HOST:PORT of a"):
        infersim.run_sweep(BASE, DESIGN, tmp_path, backend=backend, address="somewhere")


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_extra_is_named(backend: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SpecError, match=rf"{backend} is not installed: pip install 'infersim\[{backend}\]'"):
        infersim.run_sweep(BASE, DESIGN, tmp_path, backend=backend)
