"""A million points into Parquet: seconds, CPU time and memory of all processes together.

    python benchmarks/sweep_speed.py                      # 1,000,000 points on two cores
    python benchmarks/sweep_speed.py 20000 dask           # fewer points, through a local Dask cluster (or ray)
    python benchmarks/sweep_speed.py 1000000 processes dask ray    # and whether all of them wrote the same rows

Bar: a million points under 60 s and 100 s of CPU on two cores, under 1 GB of memory.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

import infersim

BASE = {
    "name": "a million",
    "model": "meta-llama/Llama-3.1-70B",
    "hardware": "H100-SXM",
    "deployment": {"precision": "fp8"},
}
FIELDS = {
    "hardware": ["H100-SXM", "H200-SXM", "L40S"],
    "deployment.tensor_parallel": [1, 2, 4, 8],
    "workload.input_tokens": {"log_uniform": [64, 16384], "whole": True},
    "workload.output_tokens": {"log_uniform": [16, 2048], "whole": True},
    "workload.concurrency": {"log_uniform": [1, 512], "whole": True},
    "workload.prefix_hit": {"uniform": [0, 0.9]},
    "cost.gpu_hour": {"uniform": ["1 USD", "5 USD"]},
}
WORKERS = 2


class Watch(threading.Thread):
    """The most memory that this process and all below it hold at once, and the CPU time they take."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.cpu, self.over = 0, {}, threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.over.wait(0.5):
            held = 0
            for one in [me, *me.children(recursive=True)]:
                try:
                    held += one.memory_full_info().pss
                    times = one.cpu_times()
                    self.cpu[one.pid] = times.user + times.system
                except psutil.Error:
                    continue
            self.peak = max(self.peak, held)


def measure(points: int, backend: str, folder: Path) -> str:
    """Run the sweep, print what it took, and give a digest of its rows."""
    watch = Watch()
    watch.start()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    found = infersim.run_sweep(
        BASE, {"random": FIELDS, "points": points, "seed": 1}, folder, backend=backend, workers=WORKERS
    )
    wall = time.perf_counter() - started
    watch.over.set()
    watch.join()
    own = before.ru_utime + before.ru_stime
    size = sum(part.stat().st_size for part in found.parts) / 1e6
    print(f"{backend}: {points:,} points in {wall:.1f} s, {points / wall:,.0f} a second; CPU {sum(watch.cpu.values()) - own:.1f} s; "
          f"memory of all processes {watch.peak / 1e6:,.0f} MB; {size:,.0f} MB of Parquet; {found.failed:,} without an answer; "
          f"load of the machine {os.getloadavg()[0]:.1f}")  # fmt: skip
    told = hashlib.sha256()
    for part in found.parts:
        told.update(part.read_bytes())
    return told.hexdigest()


def main() -> None:
    """Every backend named, by default processes."""
    arguments = sys.argv[1:]
    points = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 1_000_000
    backends = arguments or ["processes"]
    with tempfile.TemporaryDirectory() as place:
        digests = {backend: measure(points, backend, Path(place) / backend) for backend in backends}
    if len(digests) > 1:
        print("the same rows, bit for bit" if len(set(digests.values())) == 1 else f"ROWS DIFFER: {digests}")


if __name__ == "__main__":
    main()
