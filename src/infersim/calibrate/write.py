"""Write calibrations: a YAML file for people, and a packed companion with the residual surfaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from infersim.calibrate.fit import Spread
from infersim.calibrate.measurements import FIT_SHARE, KernelTable
from infersim.calibrate.pooled import pooled_sections
from infersim.calibrate.sections import Section, fit_tables, section_key
from infersim.calibrate.silicon_dense import dense_tables
from infersim.calibrate.silicon_more import FOLDERS, data_folder, more_tables
from infersim.calibrate.silicon_passes import count_unread, quantise_tables
from infersim.files import replace_file, safe_file_name, write_text
from infersim.machine.calibration import ENGINES, POOLED, SURFACE_UNIT
from infersim.machine.surface import SurfaceSum

KINDS = ("gemm", "attention", "mla", "moe", "scan", "collective", "elementwise")


def device_tables(device: str, engine: str, folder: Path | None = None) -> tuple[list[KernelTable], Counter[str]]:
    """Every measured table of a device under an engine, and the rows that were left out, by reason."""
    tables, left = more_tables(device, engine, folder)
    base = (folder or data_folder()) / FOLDERS[device]
    passes = quantise_tables(base, device, engine, left)
    count_unread(base, engine, left)
    return [*tables, *dense_tables(device, engine, folder, left), *passes], left


def fit_device(device: str, engine: str, folder: Path | None = None) -> tuple[list[Section], Counter[str]]:
    """Every section of a device under an engine, and the rows that were left out, by reason."""
    tables, left = device_tables(device, engine, folder)
    return sorted(
        fit_tables(tables, left), key=lambda s: (KINDS.index(s.kind), s.key)
    ), +left  # reasons that met no row go


def calibrate(
    target: Path,
    devices: Sequence[str] | None = None,
    engines: Sequence[str] = ENGINES,
    *,
    folder: Path | None = None,
    date: str,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Section]:
    """Fit every device and engine that was measured and write the files into ``target``; returns all sections.

    Without a choice of ``devices`` also what stands in for the others: parameters fitted to all devices together.
    """
    target.mkdir(parents=True, exist_ok=True)
    everything: list[Section] = []
    for device in devices or FOLDERS:
        for engine in engines:
            sections, left = fit_device(device, engine, folder)
            if sections:
                write_calibration(target, device, engine, sections, left, date=date)
            everything += sections
            progress(f"{device} {engine}: {len(sections)} sections, {sum(left.values()):,} rows left out")
    if not devices:
        for engine in engines:
            everything += _write_pooled(target, engine, everything, folder, date)
            progress(f"pooled {engine}: what stands in for devices that were not measured")
    return everything


def _write_pooled(
    target: Path, engine: str, measured: Sequence[Section], folder: Path | None, date: str
) -> list[Section]:
    """Fit and write the parameters that the engine's measured devices share, over the tables whose own fits stand."""
    sound = {(s.device, s.engine, s.kind, s.key) for s in measured}
    tables = [
        table
        for device in FOLDERS for table in dense_tables(device, engine, folder, Counter())
        if (device, engine, table.kind, section_key(table)) in sound
    ]  # fmt: skip
    sections = sorted(pooled_sections(tables), key=lambda s: (KINDS.index(s.kind), s.key))
    for name in POOLED.values():
        own = [section for section in sections if section.device == name]
        if own:
            write_calibration(target, name, engine, own, Counter(), date=date)
    return sections


SILICON_DATA = "aiconfigurator-core (PyPI, Apache-2.0), kernel timings by NVIDIA"
SILICON_SPLIT = f"{FIT_SHARE}% of the shapes, by hash, were fitted; the errors are of the others"


def write_calibration(
    target: Path,
    device: str,
    engine: str,
    sections: Sequence[Section],
    left: Counter[str],
    *,
    date: str,
    data: str = SILICON_DATA,
    split: str = SILICON_SPLIT,
) -> Path:
    """Write one calibration; the file replaces an older one only when it is complete."""
    lines = [
        f"# Kernel parameters of {device} under {engine}, fitted to measured kernel times. The meaning, unit and bounds of every",
        "# parameter stand in infersim.machine.kernels; surfaces (log corrections) are in the .npz file beside this one.",
        f"accelerator: {device}",
        f"engine: {engine}",
        f'date: "{date}"',
        f"data: {data}",
        f"split: {split}",
    ]
    if left:
        lines.append("left_out:")
        lines += [f"  {_quoted(reason)}: {count}" for reason, count in sorted(left.items())]
    lines.append("sections:")
    knots: list[Any] = []
    values: list[Any] = []
    kind = ""
    for section in sections:
        if section.kind != kind:
            kind = section.kind
            lines.append(f"  {kind}:")
        lines.append(f"    {section.key}:")
        found = {f.name: getattr(section.parameters, f.name) for f in fields(section.parameters) if "low" in f.metadata}
        lines.append(
            "      parameters: {" + ", ".join(f"{name}: {_number(value)}" for name, value in found.items()) + "}"
        )
        lines.append(f"      rows: {section.rows}")
        if section.shapes:
            lines.append(f"      shapes: {[list(shape) for shape in section.shapes]}")
        lines.append(f"      test_error: {_error(section.final)}")
        lines.append(f"      test_error_without_surface: {_error(section.physical)}")
        if section.regimes:
            told = (
                f"{name}: {{rows: {rows}, mean: {mean}, log_sd: {sd}}}"
                for name, (rows, mean, sd) in section.regimes.items()
            )
            lines.append("      test_error_by_duration: {" + ", ".join(told) + "}")
        if section.valid:
            told = (f"{name}: [{low:.6g}, {high:.6g}]" for name, (low, high) in section.valid.items())
            lines.append("      fitted_range: {" + ", ".join(told) + "}")
        lines.append(f"      source: {_quoted(section.source)}")
        if section.surface is not None:
            lines.append("      surfaces:")
            for part in section.surface.parts if isinstance(section.surface, SurfaceSum) else (section.surface,):
                shape = [len(grid) for grid in part.knots]
                lines.append(f"        - {{axes: [{', '.join(part.axes)}], shape: {shape}}}")
                knots += [np.asarray(grid, dtype=np.float32) for grid in part.knots]
                values.append(np.round(part.values.ravel() / SURFACE_UNIT).astype(np.int16))
    path = target / safe_file_name(f"{device}.{engine}.yaml")

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(
                file,
                knots=np.concatenate(knots or [np.empty(0, np.float32)]),
                values=np.concatenate(values or [np.empty(0, np.int16)]),
            )

    replace_file(path.with_suffix(".npz"), write)
    write_text(path, "\n".join(lines) + "\n")
    return path


def _number(value: float) -> str:
    """A number that YAML reads back as one, exponent included."""
    text = f"{value:.5g}"
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


def _error(found: Spread) -> str:
    return f"{{rows: {found.rows}, mean: {found.mean}, p50: {found.p50}, p90: {found.p90}, bias: {found.bias}, log_sd: {found.log_sd}}}"
