"""How fast the serving simulator is on one core. Prints figures beside their bars; wall times depend on the machine.

Run with ``python benchmarks/simulate_speed.py``; add ``--ten-million`` for the long run (minutes) and its memory, with
percentiles, summaries and the settled part worked out.
"""

from __future__ import annotations

import resource
import sys
import time

import infersim
from infersim.predict.estimate import Estimate
from infersim.serving.arrivals import poisson
from infersim.serving.lengths import LogNormal
from infersim.serving.result import ServingResult
from infersim.serving.simulate import simulate_deployment
from infersim.serving.traffic import Traffic

MODEL, GPU = "meta-llama/Llama-3.1-70B-Instruct", "H100-SXM"
LOAD = 0.8


def deployment(output: int) -> Estimate:
    """One replica of eight GPUs under vLLM's defaults."""
    return infersim.estimate(MODEL, GPU, tensor_parallel=8, precision="fp8", input_tokens=1000, output_tokens=output,
                             concurrency=1024)  # fmt: skip


def timed(output: int, requests: int, rate_of: int | None = None) -> tuple[float, ServingResult]:
    """Wall time of a run at LOAD of the closed form's throughput with every slot taken, for outputs of ``rate_of`` tokens if given."""
    e = deployment(output)
    rate = LOAD * (e if rate_of is None else deployment(rate_of)).requests_per_second
    traffic = Traffic(
        input_tokens=LogNormal(mean=1000, cv=1), output_tokens=LogNormal(mean=output, cv=1),
        arrivals=poisson(rate), num_requests=requests,
    )  # fmt: skip
    start = time.perf_counter()
    result = simulate_deployment(e, traffic)
    return time.perf_counter() - start, result


def main() -> None:
    """Print one line per figure."""
    timed(250, 1000)
    short = min((timed(250, 50_000) for _ in range(3)), key=lambda run: run[0])
    long = min((timed(500, 50_000) for _ in range(3)), key=lambda run: run[0])
    half = min((timed(250, 50_000, rate_of=500) for _ in range(3)), key=lambda run: run[0])
    rows = [
        ("Poisson, lognormal 1,000 in / 250 out", f"{50_000 / short[0]:,.0f} requests/s", ">= 20,000 requests/s"),
        ("... share of time busy, sequences running", f"{short[1].totals[0].busy / short[1].series[0].points[-1][0]:.0%}, "
         f"{short[1].mean_running:.0f}", ""),
        ("the same arrivals, twice the output", f"{long[0] / half[0]:.2f} x the time", "< 1.3 x"),
        ("the same load, twice the output", f"{long[0] / short[0]:.2f} x the time", ""),
    ]  # fmt: skip
    if "--ten-million" in sys.argv:
        seconds, result = timed(250, 10_000_000)
        start = time.perf_counter()
        for shown in (result, result.settled()):
            str(shown), shown.to_dict(), shown.benchmark_dict()
        summary = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        rows.append(("ten million requests", f"{seconds:,.0f} s, peak {peak / 1e9:.2f} GB", "< 2 GB"))
        rows.append(("... all their figures, settled too", f"{summary:,.0f} s", ""))
        rows.append(
            (
                "... their TTFT p99, TPOT p99",
                f"{result.percentile('ttft', 99):.3f} s, {result.percentile('tpot', 99):.4f} s",
                "",
            )
        )
    for name, figure, bar in rows:
        print(f"{name:<42} {figure:>28}   {'bar ' + bar if bar else ''}")


if __name__ == "__main__":
    main()
