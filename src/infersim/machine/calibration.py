"""Which kernel parameters hold for a device under an engine, what they rest on, and how far they were off on unseen rows.

Calibrations are files in ``hardware_specs/calibrations``: ``DEVICE.ENGINE.yaml`` with parameters and errors for people to
read, and a companion ``.npz`` with the residual surfaces. A lookup goes from (device, engine) to the same device under
another engine, to a measured device of the same family, to defaults, and says where it stopped.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from infersim.errors import SpecError, did_you_mean
from infersim.machine.kernels.attention import AttentionParameters
from infersim.machine.kernels.collective import PCIE, CollectiveParameters
from infersim.machine.kernels.elementwise import ElementwiseParameters
from infersim.machine.kernels.gemm import GemmParameters
from infersim.machine.kernels.latent import LatentParameters
from infersim.machine.kernels.moe import MoeParameters
from infersim.machine.kernels.scan import ScanParameters
from infersim.machine.surface import AnySurface, Surface, SurfaceSum, folded
from infersim.specs.library import read_yaml, spec_folders

PARAMETERS: dict[str, type[Any]] = {
    "gemm": GemmParameters, "attention": AttentionParameters, "elementwise": ElementwiseParameters, "mla": LatentParameters,
    "moe": MoeParameters, "scan": ScanParameters, "collective": CollectiveParameters,
}  # fmt: skip
"""The parameters of each kind of kernel."""

ENGINES = ("vllm", "sglang", "trtllm")
"""Engines that bundled calibrations were measured under."""

LIBRARIES = ("torch", "numpy")
"""What ``infersim bench`` measures with; stands in for an engine that was not measured on the device."""

FAMILY_DEVICE = {
    "Ampere": "A100-80GB-SXM", "Hopper": "H100-SXM", "Blackwell": "B200-SXM", "Blackwell-Ultra": "B300-SXM", "Ada": "L40S",
    "Blackwell-GeForce": "RTX-PRO-6000-Blackwell", "Battlemage": "Arc-Pro-B60",
}  # fmt: skip
"""The measured device that stands for its family."""

POOLED = {"HBM": "pooled-HBM", "other": "pooled-GDDR"}
"""What stands in the place of a device in the files of parameters fitted to every measured NVIDIA device together, by the kind
of memory: devices with stacked memory are another class of silicon than those without."""

LENT_SURFACES = frozenset({"gemm", "attention"})
"""Kinds whose residual surface holds for the family as well: between H100 and H200, and between B200 and GB200, it takes the
error of lent parameters from 11% to 8% and from 15% to 9% (``benchmarks/leave_one_out.py``)."""

DEFAULT_SPREAD = {
    "gemm": 0.6,
    "attention": 0.7,
    "elementwise": 0.3,
    "mla": 0.3,
    "moe": 0.3,
    "scan": 0.4,
    "collective": 0.4,
}
"""Root mean square log error of parameters that stand in for a device without a measured relative, by kind: of products and
attention those of the pooled parameters on another vendor's GPU (Arc Pro B60; on NVIDIA GPUs that were left out it is 0.2 to 0.4,
``benchmarks/leave_one_out.py``), of the others assumed."""

LEAST_SPREAD = {("gemm", "same device"): 0.25, ("attention", "same device"): 0.52}
"""Least spread of another engine's parameters: median over measured tables (``benchmarks/borrowed.py``, 2026-11-23)."""

ADDED_SPREAD = {"measured": 0.0, "same device": 0.1, "family": 0.2}
"""Log spread added, in quadrature, for parameters of another engine or another device of the family: assumed."""

SURFACE_UNIT = 1e-4
"""Surfaces are stored as whole multiples of this."""


@dataclass(frozen=True)
class Fitted:
    """Parameters of one kind of kernel, their residual surface, what they rest on, and the spread of their log error."""

    parameters: Any
    source: str
    spread: float
    level: str
    """measured, same device, family, or default."""
    surface: AnySurface | None = field(default=None, repr=False)
    measured_range: tuple[tuple[str, float, float], ...] = ()
    """What the fit saw: name, smallest and largest size of each axis; empty where nothing was measured."""

    def octaves_outside(self, sizes: Sequence[Any]) -> dict[str, Any]:
        """How many doublings sizes, in the order of ``measured_range``, lie outside it, by axis; sizes below 1 count as 1.

        >>> fitted = Fitted(None, "", 0.1, "measured", None, (("m", 1.0, 1024.0), ("n", 64.0, 4096.0)))
        >>> {axis: float(octaves) for axis, octaves in fitted.octaves_outside((4096.0, 32.0)).items()}
        {'m': 2.0, 'n': 1.0}
        """
        outside = {}
        for (axis, low, high), size in zip(self.measured_range, sizes, strict=True):
            place = np.log2(np.maximum(size, 1.0))
            outside[axis] = np.maximum(np.maximum(np.log2(low) - place, place - np.log2(high)), 0.0)
        return outside

    def correction(self, *sizes: Any, held: tuple[tuple[int, float], ...] = ()) -> Any:
        """Factor on the physical time at sizes in the order of the surface's axes; 1 where nothing was measured.

        ``held`` axes, (number of the axis, size) each, are folded away once and kept; ``sizes`` are then the others'.
        """
        if self.surface is None:
            return 1.0
        return np.exp((folded(self.surface, held) if held else self.surface).at(*sizes))


DATA_SHEET = Fitted(None, "data sheet", 0.0, "data sheet")
"""What the physical limit rests on."""


@dataclass(frozen=True)
class CalibrationFile:
    """One calibration as it was read: sections by kind and key."""

    path: Path
    accelerator: str
    engine: str
    sections: dict[str, dict[str, dict[str, Any]]]
    surfaces: dict[tuple[str, str], AnySurface]


@functools.lru_cache(maxsize=64)
def read_calibration(path: Path) -> CalibrationFile:
    """The calibration in a file; SpecError naming file and section where it cannot be used."""
    data = read_yaml(path)
    for name in ("accelerator", "engine", "sections"):
        if name not in data:
            raise SpecError("is missing", field=name, file=path)
    packed = path.with_suffix(".npz")
    knots, values = np.empty(0), np.empty(0)
    if packed.is_file():
        try:
            with np.load(packed) as arrays:
                knots, values = arrays["knots"].astype(float), arrays["values"].astype(float) * SURFACE_UNIT
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise SpecError("is not a companion of surfaces; make the calibration again", file=packed) from error
    surfaces: dict[tuple[str, str], AnySurface] = {}
    at_knot = at_value = 0
    for kind, keys in data["sections"].items():
        if kind not in PARAMETERS:
            raise SpecError(
                f"unknown kind of kernel; {did_you_mean(str(kind), PARAMETERS)}", field=f"sections.{kind}", file=path
            )
        for key, section in keys.items():
            parts = []
            for stated in section.get("surfaces", ()):
                shape, grids = tuple(stated["shape"]), []
                size = int(np.prod(shape))
                if at_knot + sum(shape) > len(knots) or at_value + size > len(values):
                    raise SpecError(
                        "its surfaces are missing from the companion", field=f"sections.{kind}.{key}", file=path
                    )
                for count in shape:
                    grids.append(knots[at_knot : at_knot + count])
                    at_knot += count
                table = values[at_value : at_value + size].reshape(shape)
                at_value += size
                parts.append(Surface(tuple(stated["axes"]), tuple(grids), table))
            if parts:
                surfaces[kind, key] = parts[0] if len(parts) == 1 else SurfaceSum(tuple(parts))
    return CalibrationFile(path, data["accelerator"], data["engine"], data["sections"], surfaces)


def calibration_file(accelerator: str, engine: str, folders: tuple[Path, ...] = ()) -> CalibrationFile | None:
    """The calibration of a device under an engine, from the first folder that has one; ``folders`` come before the specs'."""
    for folder in (*folders, *spec_folders("calibrations")):
        path = folder / f"{accelerator}.{engine}.yaml"
        if path.is_file():
            return read_calibration(path)
    return None


def _parameters(kind: str, section: dict[str, Any], path: Path, key: str) -> Any:
    given, known = section.get("parameters", {}), {f.name for f in fields(PARAMETERS[kind])}
    for name, value in given.items():
        where = f"sections.{kind}.{key}.parameters.{name}"
        if name not in known:
            raise SpecError(f"unknown parameter; {did_you_mean(str(name), known)}", field=where, file=path)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise SpecError(f"must be a number, got {value!r}", field=where, file=path)
    return PARAMETERS[kind](**given)


@dataclass(frozen=True)
class Calibration:
    """The kernel parameters of one device under one engine."""

    accelerator: str
    architecture: str
    engine: str
    pcie: bool = False
    folders: tuple[Path, ...] = ()
    """Folders of calibrations that are looked through before those of the specs."""
    memory: str = "HBM"
    """Kind of memory, as the accelerator's spec says."""

    def lookup(self, kind: str, key: str) -> Fitted:
        """Parameters of a kind of kernel for a key (number format, phase, mechanism), from the nearest measurement.

        >>> load_calibration("H100-SXM", "Hopper", "vllm").lookup("gemm", "bf16").level
        'measured'
        >>> load_calibration("H20-SXM", "Hopper", "vllm").lookup("gemm", "bf16").level
        'family'
        """
        return _lookup(self, kind, key)


@functools.lru_cache(maxsize=4096)
def _lookup(calibration: Calibration, kind: str, key: str) -> Fitted:
    engines = [calibration.engine, *(engine for engine in (*ENGINES, *LIBRARIES) if engine != calibration.engine)]
    stand_in = FAMILY_DEVICE.get(calibration.architecture)
    for device in dict.fromkeys([calibration.accelerator, *([stand_in] if stand_in else [])]):
        own = device == calibration.accelerator
        for candidate in _keys(kind, key):
            for engine in engines:
                file = calibration_file(device, engine, calibration.folders)
                section = file.sections.get(kind, {}).get(candidate) if file else None
                if file is None or section is None:
                    continue
                exact = engine == calibration.engine and candidate == key
                level = "family" if not own else "measured" if exact else "same device"
                spread = float(np.hypot(section["test_error"]["log_sd"], ADDED_SPREAD[level]))
                shown = "" if candidate == key else f" as {candidate}"
                source = f"{level}: {kind} {key}{shown} on {device} under {engine} ({section['source']})"
                surface = file.surfaces.get((kind, candidate))
                seen = _range_of(surface)
                parameters = _parameters(kind, section, file.path, candidate)
                return Fitted(
                    parameters,
                    source,
                    max(spread, LEAST_SPREAD.get((kind, level), 0.0)),
                    level,
                    surface if own or kind in LENT_SURFACES else None,
                    seen,
                )
    if kind == "elementwise":
        source = "default: elementwise, a share of the memory bandwidth"
        return Fitted(PARAMETERS[kind](), source, DEFAULT_SPREAD[kind], "default")
    pooled = pooled_name(calibration.memory)
    for candidate in _keys(kind, key):
        for engine in engines:
            file = calibration_file(pooled, engine)
            if file and candidate in file.sections.get(kind, {}):
                section = file.sections[kind][candidate]
                shown = "" if candidate == key else f" as {candidate}"
                source = f"default: {kind} {key}{shown} of {pooled} devices under {engine} ({section['source']})"
                return Fitted(_parameters(kind, section, file.path, candidate), source, DEFAULT_SPREAD[kind], "default")
    parameters = PCIE if kind == "collective" and calibration.pcie else PARAMETERS[kind]()
    source = f"default: {kind} {key}, efficiencies reported for NVIDIA data-centre GPUs"
    return Fitted(parameters, source, DEFAULT_SPREAD[kind], "default")


def _range_of(surface: AnySurface | None) -> tuple[tuple[str, float, float], ...]:
    if surface is None:
        return ()
    ends = ((float(2.0 ** knots[0]), float(2.0 ** knots[-1])) for knots in surface.knots)
    return tuple((axis, low, high) for axis, (low, high) in zip(surface.axes, ends, strict=True))


SIMILAR = {
    "bf16": ("fp16", "fp32"), "fp16": ("bf16", "fp32"),
    "fp8": ("fp8_block",), "fp8_block": ("fp8",), "mxfp8": ("fp8_block", "fp8"), "int8": ("fp8", "bf16"),
    "mxfp4": ("nvfp4",), "nvfp4": ("mxfp4",), "mamba1": ("mamba2",), "kda": ("gated_delta_net",), "gated_delta_net": ("kda",),
    "lightning": ("mamba2",), "send_recv": ("all_gather",), "reduce_scatter": ("all_gather",), "all_to_all": ("combine", "dispatch"),
}  # fmt: skip
"""Keys whose parameters stand in for a key that was not measured, nearest first."""


OTHER_VARIANT = {
    "none": "layer",
    "rms": "layer",
    "layer": "rms",
    "gated": "plain",
    "plain": "gated",
    "learned": "rotary",
}
"""The variant of an elementwise pass that stands in for one that was not measured."""


def _keys(kind: str, key: str) -> list[str]:
    """The key itself and those that stand in for it."""
    if kind in ("attention", "mla"):
        cache, _, phase = key.partition(".")
        phases = [phase, "prefill"] if phase == "encoder" else [phase]
        return list(dict.fromkeys(f"{each}.{part}" for part in phases for each in (cache, "bf16", "fp32")))
    if kind == "elementwise":
        name, _, variant = key.partition(".")
        return list(dict.fromkeys([key, f"{name}.{OTHER_VARIANT.get(variant, variant)}", "copy"]))
    return list(dict.fromkeys([key, *SIMILAR.get(key, ()), *(["bf16"] if kind in ("gemm", "moe") else [])]))


@functools.lru_cache(maxsize=256)
def load_calibration(
    accelerator: str, architecture: str, engine: str, pcie: bool = False, memory: str = "HBM"
) -> Calibration:
    """The calibration of an accelerator under an engine; files are read when they are first needed."""
    return Calibration(accelerator, architecture, engine, pcie, memory=memory)


def pooled_name(memory: str) -> str:
    """The name of the file that stands in for devices with such memory.

    >>> pooled_name("HBM3e"), pooled_name("LPDDR5X")
    ('pooled-HBM', 'pooled-GDDR')
    """
    return POOLED["HBM" if memory.startswith("HBM") else "other"]


def every_section() -> list[dict[str, Any]]:
    """One record per calibrated kind and key of every device and engine, with its errors on unseen rows."""
    found: dict[str, Path] = {}
    for folder in spec_folders("calibrations"):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    rows = []
    for path in found.values():
        file = read_calibration(path)
        if file.accelerator in POOLED.values():
            continue
        for kind, keys in file.sections.items():
            for key, section in keys.items():
                record = {"accelerator": file.accelerator, "engine": file.engine, "kind": kind, "key": key}
                names = ("rows", "parameters", "test_error", "test_error_without_surface", "source")
                rows.append(record | {name: section[name] for name in names})
    return rows
