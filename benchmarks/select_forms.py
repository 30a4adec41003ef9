"""Choose forms, grids and penalties of matrix products and attention blind: cross-validation inside the rows a fit may see.

Run with ``python benchmarks/select_forms.py [gemm|attention]``; it needs ``pip install 'infersim[silicon]'``. Test rows are
never read. Whole groups are kept out in turn: of matrix products the shapes (n, k) of the weights, of attention (heads,
key-value heads, head dimension, window). Prints the mean absolute error of every setting on every sampled table.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from former_forms import (
    FormerAttention,
    FormerGemm,
    former_attention_axes,
    former_attention_time,
    former_gemm_time,
)

from infersim.calibrate.fit import fit_parameters
from infersim.calibrate.measurements import KernelTable, fit_rows, shape_hash
from infersim.calibrate.sections import Problem, problem, section_key
from infersim.calibrate.silicon_dense import dense_tables
from infersim.calibrate.surface import fit_surface, knots_for
from infersim.machine.machine import rates_of
from infersim.specs.library import load_accelerator
from infersim.specs.precision import FORMATS, matrix_unit

FOLDS, ROWS, EVALUATIONS = 4, 1500, 30
GROUPS = {"gemm": ("n", "k"), "attention": ("heads", "kv_heads", "head_dim", "window")}

SAMPLE = {
    "gemm": (
        ("H100-SXM", "vllm", "bf16"), ("H100-SXM", "trtllm", "fp8_block"), ("H200-SXM", "trtllm", "fp8"),
        ("H200-SXM", "sglang", "bf16"), ("B200-SXM", "vllm", "nvfp4"), ("B200-SXM", "trtllm", "fp8"),
        ("B200-SXM", "sglang", "fp8_block"), ("GB300", "vllm", "fp8"), ("L40S", "vllm", "bf16"), ("L40S", "sglang", "fp8"),
        ("A100-80GB-SXM", "trtllm", "int4"), ("RTX-PRO-6000-Blackwell", "vllm", "bf16"),
    ),
    "attention": (
        ("H100-SXM", "vllm", "bf16.decode"), ("H100-SXM", "vllm", "bf16.prefill"), ("H200-SXM", "sglang", "fp8.decode"),
        ("H200-SXM", "trtllm", "fp8.prefill"), ("B200-SXM", "trtllm", "fp8.decode"), ("B200-SXM", "sglang", "bf16.prefill"),
        ("GB200", "vllm", "fp8.decode"), ("A100-80GB-SXM", "trtllm", "bf16.decode"), ("L40S", "vllm", "bf16.decode"),
        ("L40S", "sglang", "bf16.prefill"), ("RTX-PRO-6000-Blackwell", "trtllm", "bf16.prefill"), ("Arc-Pro-B60", "vllm", "bf16.decode"),
    ),
}  # fmt: skip
"""Device, engine and key of the tables compared: every family, engine and phase, and most formats."""


@dataclass(frozen=True)
class Setting:
    """The surface that is laid on a form."""

    knots: Sequence[Any]
    layers: Sequence[Sequence[str]]
    ridge: float
    smooth: float


def sampled(kind: str) -> list[KernelTable]:
    """The fit rows of the sampled tables."""
    return [
        table.take(fit_rows(table))
        for device, engine in dict.fromkeys(name[:2] for name in SAMPLE[kind])
        for table in dense_tables(device, engine, None, Counter())
        if table.kind == kind and (device, engine, section_key(table)) in SAMPLE[kind]
    ]


def former(table: KernelTable) -> Problem:
    """How the table was fitted with the former form."""
    accelerator = load_accelerator(table.device)
    if table.kind == "gemm":
        weights, activations = FORMATS[table.formats["weights"]], FORMATS[table.formats["activations"]]
        rates = rates_of(accelerator, matrix_unit(weights, activations, accelerator))

        def product(s: Mapping[str, Any], p: FormerGemm) -> Any:
            return former_gemm_time(
                s["m"], s["n"], s["k"], weight_bytes=weights.bytes, activation_bytes=activations.bytes, output_bytes=2.0,
                rates=rates, parameters=p, weights_in_l2=True,
            )  # fmt: skip

        hold = ("input_pass",) if activations.bits >= 16 else ()
        return Problem(product, [FormerGemm()], hold, ("m", "n", "k"), lambda s: (s["m"], s["n"], s["k"]))
    rates = rates_of(accelerator, matrix_unit(FORMATS["bf16"], FORMATS["bf16"], accelerator))
    cache = FORMATS[table.formats["kv_cache"]].bytes

    def attention(s: Mapping[str, Any], p: FormerAttention) -> Any:
        return former_attention_time(
            s["count"], s["new"], s["cached"], heads=s["heads"], kv_heads=s["kv_heads"], key_dim=s["head_dim"],
            value_dim=s["head_dim"], window=s["window"], kv_bytes=cache, rates=rates, parameters=p, cache_in_l2=True,
        )  # fmt: skip

    def place(s: Mapping[str, Any]) -> Any:
        return former_attention_axes(s["count"], s["new"], s["cached"], s["heads"], s["kv_heads"], s["window"])

    return Problem(attention, [FormerAttention()], (), ("sequences", "keys", "group", "kv_heads"), place)


def crossed(table: KernelTable, found: Problem, settings: Mapping[str, Setting]) -> dict[str, float]:
    """Mean absolute error of each setting on groups kept out of its fit, over all folds; one form for all settings."""
    fold = shape_hash({name: table.shape[name] for name in GROUPS[table.kind]}) // np.uint64(100) % np.uint64(FOLDS)
    errors: dict[str, list[Any]] = {name: [] for name in ("form alone", *settings)}
    for number in range(FOLDS):
        seen, kept = table.take(fold != number), table.take(fold == number)
        fits = [
            fit_parameters(found.time, start, seen.shape, seen.seconds, hold=found.hold, rows=ROWS, evaluations=EVALUATIONS)
            for start in found.starts
        ]  # fmt: skip
        parameters = min(fits, key=lambda one: one.cost).parameters
        predicted = found.time(kept.shape, parameters)
        errors["form alone"].append(np.abs(predicted / kept.seconds - 1))
        log_error = np.log(seen.seconds / found.time(seen.shape, parameters))
        for name, setting in settings.items():
            knots = [knots_for(size, count) for size, count in zip(found.place(seen.shape), setting.knots, strict=True)]
            surface = fit_surface(
                found.axes, knots, found.place(seen.shape), log_error, layers=setting.layers, ridge=setting.ridge,
                smooth=setting.smooth,
            )  # fmt: skip
            corrected = predicted * np.exp(surface.at(*found.place(kept.shape)))
            errors[name].append(np.abs(corrected / kept.seconds - 1))
    return {name: float(np.concatenate(parts).mean()) for name, parts in errors.items()}


def held(found: Problem, values: Mapping[str, float]) -> Problem:
    """The problem with some parameters fixed."""
    starts = list(dict.fromkeys(replace(start, **values) for start in found.starts))
    return replace(found, starts=starts, hold=(*found.hold, *values))


FORMS: dict[str, dict[str, dict[str, float] | None]] = {
    "gemm": {
        "former": None,
        "tiles": {},
        "copies 1": {"copies": 1.0},
    },
    "attention": {
        "former": None,
        "tiles": {},
        "no lone": {"lone": 1.0},
        "packed in window": {"packed_in_window": 1.0},
        "skips window": {"skips_window": 1.0},
    },
}
"""Values that each form holds; None is the former form."""
CHOSEN_FORM = {"gemm": "tiles", "attention": "tiles"}

BY_GROUP, BY_WIDTH = ("extent", "streams", "group"), ("extent", "streams", "head_dim")
GRIDS: dict[str, dict[str, tuple[Sequence[Any], Sequence[Sequence[str]]]]] = {
    "gemm": {"10x6x5": ((10, 6, 5), ()), "8x6x6": ((8, 6, 6), ()),
             "16x(9+9)": ((16, 9, 9), (("m", "n"), ("m", "k"))), "13x(8+8)+8x8": ((13, 8, 8), (("m", "n"), ("m", "k"), ("n", "k")))},
    "attention": {
        "8x4x(4+each)": ((8, 4, (1.0, 4.0), "each"), (BY_GROUP, BY_WIDTH)),
        "8x5x4x2": ((8, 5, (1.0, 4.0), ()), ()),
        "6x6x(3+each)": ((6, 6, (2.0,), "each"), (BY_GROUP, BY_WIDTH)),
        "8x4x(5+each)": ((8, 4, (1.0, 2.0, 4.0), "each"), (BY_GROUP, BY_WIDTH)),
    },
}  # fmt: skip
"""Knots of every axis, and the axes of each surface where several add up."""
FORMER_GRID: dict[str, Sequence[Any]] = {"gemm": (10, 6, 5), "attention": (6, 7, 3, 2)}
PENALTIES = ((0.05, 0.03), (0.3, 0.5), (0.01, 0.01), (0.05, 0.3))
"""Ridge and smoothness, in rows' worth."""


def main(kinds: Sequence[str]) -> None:
    """Print a table for each kind: every form under the first surface, then every surface on the chosen form."""
    for kind in kinds:
        tables = sampled(kind)
        names = [f"{t.device} {t.engine} {section_key(t)}" for t in tables]
        print(f"{kind}: mean absolute error in %, {FOLDS} folds inside the fit rows of", "; ".join(names), flush=True)
        surfaces = {
            f"{grid}, ridge {ridge}, smooth {smooth}": Setting(knots, layers, ridge, smooth)
            for grid, (knots, layers) in GRIDS[kind].items() for ridge, smooth in PENALTIES
        }  # fmt: skip
        first = dict([next(iter(surfaces.items()))])
        former_surfaces = {f"former grid, {name.partition(', ')[2]}": replace(surface, knots=FORMER_GRID[kind], layers=())
                           for name, surface in surfaces.items() if name.startswith(next(iter(GRIDS[kind])))}  # fmt: skip
        for form, values in FORMS[kind].items():
            settings = former_surfaces if values is None else surfaces if form == CHOSEN_FORM[kind] else first
            found: dict[str, list[float]] = {}
            for table in tables:
                how = former(table) if values is None else held(problem(table, load_accelerator(table.device)), values)
                for name, error in crossed(table, how, settings).items():
                    found.setdefault(name, []).append(error)
            for name, errors in found.items():
                each = " ".join(f"{100 * error:5.1f}" for error in errors)
                print(f"{form:<16} {name:<40} {100 * np.mean(errors):5.2f}   {each}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or tuple(SAMPLE))
