"""Measured kernels on shapes that no fit saw, beside what the shipped calibrations say, and beside the naive roofline.

Kernels are priced as the benchmarks ran them (operands that fit may sit in the cache), from the parameters and residual surfaces on
file. The naive roofline is the larger of FLOP / peak and bytes / bandwidth of the data sheet; for collectives the time of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.calibrate.measurements import KernelTable, fit_rows
from infersim.calibrate.sections import LATENT_SHAPE, collective_kind, measured_path, problem, section_key
from infersim.errors import UnsupportedError
from infersim.machine.calibration import PARAMETERS, CalibrationFile, calibration_file
from infersim.machine.network import least_time
from infersim.ops.attention import Attention, Scan
from infersim.ops.base import Op
from infersim.ops.matmul import Gemm, GroupedGemm
from infersim.ops.memory import Elementwise
from infersim.specs.hardware import Accelerator
from infersim.specs.library import load_accelerator, read_yaml
from infersim.specs.precision import FORMATS, matrix_unit
from infersim.validate.comparison import Comparison

Array = npt.NDArray[np.float64]
SMALL = 20e-6
"""A kernel whose roofline is shorter than this is mostly launch [s]."""


def compare_table(table: KernelTable) -> Iterator[Comparison]:
    """Every row of a table beside its prediction; rows without a calibration on file are refused."""
    accelerator = load_accelerator(table.device)
    key = section_key(table)
    labels = {"kind": table.kind, "device": table.device, "engine": table.engine, "format": key}
    file = calibration_file(table.device, table.engine)
    section = file.sections.get(table.kind, {}).get(key) if file else None
    refusal, physical, predicted = "", None, None
    if file is None or section is None:
        refusal = _why_not(table.kind, key, file)
    else:
        parameters = PARAMETERS[table.kind](**section["parameters"])
        try:
            found = problem(table, accelerator)
            physical = found.time(table.shape, parameters)
            surface = file.surfaces.get((table.kind, key))
            predicted = physical * np.exp(surface.at(*found.place(table.shape))) if surface else physical
        except UnsupportedError as error:
            refusal = _first_part(error)
    try:
        naive, bound = naive_seconds(table, accelerator)
    except UnsupportedError as error:
        naive, bound, refusal, predicted = (
            np.full(len(table), np.nan),
            np.full(len(table), "-"),
            _first_part(error),
            None,
        )
    by_regime = {regime: labels | {"regime": regime} for regime in ("launch", *map(str, np.unique(bound)))}
    for row, seconds in enumerate(table.seconds):
        regime = "launch" if naive[row] < SMALL else str(bound[row])
        yield Comparison(
            by_regime[regime], float(seconds),
            None if predicted is None else float(predicted[row]),
            None if predicted is None else float(naive[row]),
            None if physical is None else float(physical[row]), refusal=refusal,
        )  # fmt: skip


def _why_not(kind: str, key: str, file: CalibrationFile | None) -> str:
    """Why a table has no section: what its calibration says it left out, where it says so."""
    left = read_yaml(file.path).get("left_out", {}) if file else {}
    said = [reason for reason in left if reason.startswith(f"{kind} {key}: ")]
    return f"{said[0]}, so not calibrated" if said else f"no calibration of {kind} {key}"


def _first_part(error: UnsupportedError) -> str:
    """What cannot be done, without what could be instead."""
    return str(error).split(";")[0]


def compare_kernels(tables: Iterable[KernelTable], *, progress: Callable[[], None] = lambda: None) -> list[Comparison]:
    """The test rows of every table; rows that a fit may have seen are left aside."""
    found: list[Comparison] = []
    for table in tables:
        progress()
        found += compare_table(table.take(~fit_rows(table)))
    return found


def naive_seconds(table: KernelTable, accelerator: Accelerator) -> tuple[Array, npt.NDArray[Any]]:
    """The roofline's time of every row [s], and what bounds it: compute, memory or network."""
    if table.kind == "collective":
        seconds = np.zeros(len(table))
        for rows, path in measured_path(table, accelerator):
            seconds[rows] = least_time(collective_kind(table.kernel), table.shape["payload"][rows], path)
        return seconds, np.full(len(table), "network")
    seconds, bound = np.zeros(len(table)), np.full(len(table), "memory", dtype=object)
    for rows, op, unit in _ops(table, accelerator):
        compute = np.asarray(op.flops) / accelerator.peak_flops[unit]
        memory = np.asarray(op.bytes) / accelerator.memory.bandwidth
        seconds[rows] = np.maximum(compute, memory)
        bound[rows] = np.where(compute > memory, "compute", "memory")
    return seconds, bound


def _ops(table: KernelTable, accelerator: Accelerator) -> Iterator[tuple[Any, Op, Any]]:
    """The op of each group of rows that differ in sizes alone, with the rows and the matrix unit."""
    shape: dict[str, Any] = dict(table.shape)
    everything = np.ones(len(table), dtype=bool)
    named: dict[str, Any] = {"name": table.kind, "count": 1.0}
    if table.kind in ("gemm", "moe"):
        of = FORMATS[table.formats["weights"]], FORMATS[table.formats["activations"]]
        unit = matrix_unit(*of, accelerator)
        named |= {"weights": of[0], "activations": of[1]}
        if table.kind == "gemm":
            yield everything, Gemm(**named, **{name: shape[name] for name in "mnk"}), unit
            return
        sizes = (
            "tokens",
            "hidden",
            "intermediate",
            "num_experts",
            "experts_per_token",
            "tensor_parallel",
            "expert_parallel",
        )
        for gated in (True, False):
            rows = shape["gated"].astype(bool) == gated
            if rows.any():
                yield rows, GroupedGemm(**named, **{name: shape[name][rows] for name in sizes}, gated=gated), unit
        return
    unit = matrix_unit(FORMATS["bf16"], FORMATS["bf16"], accelerator)
    if table.kind == "elementwise":
        yield everything, Elementwise(**named, read=shape["bytes"], written=0.0, fusible=False), unit
        return
    if table.kind == "scan":
        scanned = ("sequences", "new", "heads", "key_dim", "value_dim", "conv_channels")
        mechanism, _, part = table.kernel.partition(".")
        kernel = int(shape["conv_kernel"][0])
        if part:  # the convolution alone was timed: no heads, no state
            shape["heads"] = np.zeros(len(table))
        yield (
            everything,
            Scan(**named, **{name: shape[name] for name in scanned}, kind=mechanism, conv_kernel=kernel),
            unit,
        )
        return
    named["cache_bytes"] = FORMATS[table.formats["kv_cache"]].bytes
    plain = {"sequences": shape["count"], "new": shape["new"], "cached": shape["cached"], "heads": shape["heads"]}
    if table.kind == "mla":
        _, rope, nope, value = latent = (
            LATENT_SHAPE["kv_lora_rank"], LATENT_SHAPE["qk_rope_head_dim"], LATENT_SHAPE["qk_nope_head_dim"], LATENT_SHAPE["v_head_dim"]
        )  # fmt: skip
        yield (
            everything,
            Attention(**named, **plain, kv_heads=1, key_dim=nope + rope, value_dim=value, latent=latent),
            unit,
        )
        return
    plain |= {"kv_heads": shape["kv_heads"], "key_dim": shape["head_dim"], "value_dim": shape["head_dim"]}
    for window in np.unique(shape["window"]):
        rows = shape["window"] == window
        cut = {name: column[rows] for name, column in plain.items()}
        seen = float(window) if window else None
        yield rows, Attention(**named, **cut, window=seen, causal=table.kernel != "encoder"), unit
