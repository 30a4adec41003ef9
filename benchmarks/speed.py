"""How fast infersim answers: one point, a sweep, a cold process, an import. Prints figures beside their bars.

Run with ``python benchmarks/speed.py``. Wall times depend on the machine, so nothing is asserted here.
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

import infersim

MODEL, GPU = "meta-llama/Llama-3.1-70B-Instruct", "H100-SXM"
DEPLOYMENT = {"tensor_parallel": 4, "precision": "fp8"}


def best(action: object, repeats: int = 5) -> float:
    """Shortest of several wall times [s]."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return min(times)


def one_point(mode: str) -> float:
    """Seconds of one operating point: the best of five passes over 128 different ones."""
    infersim.estimate(MODEL, GPU, mode=mode, input_tokens=1000, output_tokens=100, concurrency=4, **DEPLOYMENT)
    points = [(float(length), float(users)) for length in range(512, 1024, 16) for users in (1, 8, 32, 100)]

    def every_point() -> None:
        for length, users in points:
            answer = infersim.estimate(
                MODEL, GPU, mode=mode, input_tokens=length, output_tokens=256, concurrency=users, **DEPLOYMENT
            )
            answer.tpot  # noqa: B018 - steps are priced when a latency is asked for

    return best(every_point) / len(points)


def sweep(mode: str, points: int = 100_000) -> float:
    """Points per second of one deployment over batch and context."""
    generator = np.random.default_rng(0)
    batch = infersim.decode(
        generator.integers(1, 257, points).astype(float), generator.integers(1, 16385, points).astype(float)
    )
    return points / best(lambda: infersim.sweep_steps(MODEL, GPU, batch, mode=mode, **DEPLOYMENT), repeats=3)


def search(gpus: str | None, verify: int) -> float:
    """Seconds of one search under a chat load, the best of three."""
    load = {"input_tokens": 1000, "output_tokens": 300, "request_rate": 20, "target": "ttft_p95=800ms,tpot_p95=40ms"}
    return best(lambda: infersim.plan(MODEL, gpus, max_gpus=32, verify=verify, **load), repeats=3)


def process(*arguments: str) -> float:
    """Wall time of a cold process [s], the best of five."""
    return best(lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL))


def main() -> None:
    """Print one line per figure."""
    estimate = ["-m", "infersim", "estimate", MODEL, "--gpu", GPU, "--tp", "4", "--precision", "fp8"]
    empty = process("-c", "pass")
    rows = [
        ("one operating point, calibrated", f"{one_point('calibrated') * 1e3:.2f} ms", "< 1 ms"),
        ("one operating point, bound", f"{one_point('bound') * 1e3:.2f} ms", "< 1 ms"),
        ("sweep, calibrated", f"{sweep('calibrated'):,.0f} points/s", ">= 200,000 points/s"),
        ("sweep, bound", f"{sweep('bound'):,.0f} points/s", ">= 200,000 points/s"),
        ("search, one GPU type, closed form", f"{search(GPU, 0):.2f} s", "< 0.5 s"),
        ("search, one GPU type, two simulated", f"{search(GPU, 2):.2f} s", "< 0.5 s"),
        ("search, all GPU types, two simulated", f"{search(None, 2):.2f} s", "< 10 s"),
        ("infersim estimate, cold process", f"{process(*estimate):.3f} s", "< 0.7 s"),
        ("import infersim, beyond an empty process", f"{process('-c', 'import infersim') - empty:.3f} s", "< 0.25 s"),
    ]
    for name, figure, bar in rows:
        print(f"{name:<42} {figure:>22}   bar {bar}")


if __name__ == "__main__":
    main()
