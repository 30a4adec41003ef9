"""The device and the engine that a result file of ``infersim bench`` describes."""

from __future__ import annotations

import re
from typing import Literal

from infersim.errors import SpecError
from infersim.microbench.cases import Gemm, HostCopy, Launch, Stream
from infersim.microbench.results import Results
from infersim.specs.driver_names import accelerator_called
from infersim.specs.engine import EngineSpec
from infersim.specs.hardware import Accelerator, MatrixUnit
from infersim.specs.library import load_accelerator, validate
from infersim.specs.precision import FORMATS
from infersim.specs.quantity import Source
from infersim.units import show

FROM_MEMORY = 4.0
"""A stream of this many times the last-level cache counts as one from memory."""


def accelerator_of(results: Results, device: str | None = None) -> tuple[Accelerator, bool]:
    """The spec of the measured device, and whether it is one on file: the one named, or one of the driver's name, or else a
    new one whose rates are the best the suite measured."""
    told = str(results.environment.get("device_name", "device"))
    if device is not None:
        return load_accelerator(device), True
    if results.device != "cpu":
        known = accelerator_called(told, results.environment.get("device_memory_bytes"))
        if known is not None:
            return known, True
    return _measured_accelerator(results, told), False


def device_name(results: Results) -> str:
    """A name for a device that has no spec: what the system calls it, and the cores that were used."""
    told = re.sub(r"\((R|TM|r|tm)\)|@.*|CPU|Processor", "", str(results.environment.get("device_name", "device")))
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", told).strip("-") or "device"
    return f"{slug}-{results.environment.get('threads', 1)}-core" if results.device == "cpu" else slug


def _measured_accelerator(results: Results, told: str) -> Accelerator:
    measured, environment = results.measured(), results.environment
    products = [(entry.case, entry.seconds) for entry in measured if isinstance(entry.case, Gemm)]
    if not products:
        raise SpecError(
            "holds no timed product, so there is no peak to state; run `infersim bench` again", field="gemm"
        )
    peaks: dict[MatrixUnit, float] = {}
    for case, seconds in products:
        unit = FORMATS[case.format].unit
        if unit is not None:
            peaks[unit] = max(peaks.get(unit, 0.0), case.flops / seconds)
    cache = float(max(environment.get("cache_bytes", {}).values(), default=0.0))
    streams = [(entry.case.moved, entry.seconds) for entry in measured if isinstance(entry.case, Stream)]
    largest = max((moved for moved, _ in streams), default=0.0)
    rates = [moved / seconds for moved, seconds in streams if moved >= min(FROM_MEMORY * cache, largest)]
    rates += [case.moved / seconds for case, seconds in products if case.cold and case.m <= 2]
    ran = f"infersim bench, {results.backend} {results.version}, {str(environment.get('date', ''))[:10]}"
    copies = [entry for entry in measured if isinstance(entry.case, HostCopy)]
    host = max((entry.case.bytes / entry.seconds for entry in copies if isinstance(entry.case, HostCopy)), default=None)
    sources = [
        Source(of=("peak_flops", "memory.bandwidth", *(("host_link",) if host else ())), ref=ran, status="stated",
               note="the best rate the suite measured, not a data sheet's"),
        Source(of=("memory.capacity", "l2_cache", "compute_units", "clock"), ref="the operating system or driver"),
    ]  # fmt: skip
    kind: Literal["cpu", "soc", "gpu"] = {"cpu": "cpu", "mps": "soc"}.get(results.device, "gpu")  # type: ignore[assignment]
    units = environment.get("compute_units") or (environment.get("threads") if results.device == "cpu" else None)
    capacity = environment.get("device_memory_bytes") or environment.get("memory_bytes") or 2**30
    name, clock = device_name(results), environment.get("clock_hz")
    return validate(Accelerator, {
        "name": name, "vendor": told.split()[0], "architecture": name, "kind": kind,
        "peak_flops": {unit: show(rate, "FLOP/s", digits=4) for unit, rate in peaks.items()},
        "memory": {"capacity": show(capacity, "B", digits=6), "bandwidth": show(max(rates), "B/s", digits=4)},
        "l2_cache": show(cache, "B", binary=True) if cache else None, "compute_units": units,
        "clock": show(clock, "Hz") if clock else None,
        "host_link": {"name": "host", "bandwidth": show(host, "B/s", digits=4)} if host else None,
        "notes": "Measured by infersim bench: peaks and bandwidth are the best rates seen, so that no prediction is faster.",
        "sources": tuple(sources),
    })  # fmt: skip


def engine_of(results: Results, name: str) -> EngineSpec:
    """An engine that runs as the suite did: eager (graphs on CUDA), one sequence of kernels, no server around it."""
    launches = {entry.case.way: entry.seconds for entry in results.measured() if isinstance(entry.case, Launch)}
    return validate(EngineSpec, {
        "name": name, "version": results.version, "block_size": 1, "max_num_seqs": 64, "max_num_batched_tokens": 8192,
        "device_defaults": [{"memory_below": "70 GiB", "max_num_batched_tokens": 2048}],
        "gpu_memory_utilization": 0.9, "enable_chunked_prefill": False, "mixed_batches": False, "enable_prefix_caching": False,
        "launch_gap": "0 s", "eager_launch": show(launches.get("eager", 0.0), "s", digits=4), "sampling_passes": 1.0,
        "host": dict.fromkeys(("step", "sequence", "sync", "sync_sequence", "request", "token"), "0 s") | {"overlap": False},
        "memory": {"rule": "total", "runtime": "256 MiB", "communication": "1 MiB", "cuda_graphs": "1 MiB",
                "cuda_graphs_in_budget": False, "logits_bytes": 8.0, "residual_copies": 4.0},
        "sources": (
            Source(of=("eager_launch",), ref=f"infersim bench, {results.backend} {results.version}: one tiny kernel submitted"),
            Source(of=("launch_gap",), ref="kernels were timed back to back: gaps are inside their times"),
            Source(of=("host", "memory", "block_size", "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization",
                       "enable_chunked_prefill", "mixed_batches", "enable_prefix_caching", "sampling_passes"),
                   ref="a plain loop over one static batch, with no server around it", status="assumed"),
        ),
    })  # fmt: skip
