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
from typing import Any, NamedTuple

import numpy as np

from infersim.errors import SpecError, did_you_mean
from infersim.files import safe_file_name
from infersim.machine.kernels.attention import AttentionParameters
from infersim.machine.kernels.collective import CollectiveParameters, family_default
from infersim.machine.kernels.elementwise import ElementwiseParameters
from infersim.machine.kernels.gemm import GemmParameters
from infersim.machine.kernels.latent import LatentParameters
from infersim.machine.kernels.moe import MoeParameters
from infersim.machine.kernels.scan import ScanParameters
from infersim.machine.surface import AnySurface, Surface, SurfaceSum, folded
from infersim.specs.hardware import Link
from infersim.specs.library import load_accelerator, read_yaml, spec_folders

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

LINK_DEVICES = ("A100-80GB-SXM", "H100-SXM", "B200-SXM", "GB200", "L40S", "RTX-PRO-6000-Blackwell")
"""Measured devices that stand for others on the same kind of link."""

LOW_LATENCY = "low_latency"
"""Kernel family for small batches: experts of TensorRT-LLM, exchanges of DeepEP."""

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
    "mla": 0.32,
    "moe": 0.36,
    "scan": 0.62,
    "collective": 0.45,
}
"""Root mean square log error of parameters that stand in for a device without a measured relative, by kind: of products and
attention those of the pooled parameters on another vendor's GPU (Arc Pro B60; on NVIDIA GPUs that were left out it is 0.2 to 0.4,
``benchmarks/leave_one_out.py``), of the others medians over measured tables (``benchmarks/borrowed.py``, 2026-11-23); of
elementwise kernels assumed."""

LEAST_SPREAD = {
    ("gemm", "same device"): 0.25, ("attention", "same device"): 0.52,
    ("mla", "same device"): 0.28, ("moe", "same device"): 0.39, ("scan", "same device"): 0.57, ("collective", "same device"): 0.18,
    ("mla", "family"): 0.17, ("moe", "family"): 0.19, ("scan", "family"): 0.15, ("collective", "same link"): 0.31,
}  # fmt: skip
"""Least spread of borrowed parameters, by kind and level: median over measured tables (``benchmarks/borrowed.py``, 2026-11-23)."""

ADDED_SPREAD = {"measured": 0.0, "same device": 0.1, "family": 0.2, "same link": 0.2}
"""Log spread added, in quadrature, for parameters of another engine or another device of the family: assumed."""

SURFACE_UNIT = 1e-4
"""Surfaces are stored as whole multiples of this."""


class ExpertShape(NamedTuple):
    """What decides which kernels an engine takes for routed experts."""

    hidden: float
    intermediate: float
    """Of one expert, before tensor parallel cuts it."""
    num_experts: float
    expert_parallel: bool = False
    """Whole experts on other ranks."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Parameters of one kind of kernel, their residual surface, what they rest on, and the spread of their log error."""

    parameters: Any
    source: str
    spread: float
    level: str
    """measured, same device, family, same link, or default."""
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
    date: str = "no date"
    data: str = "not stated"
    """Whose measurements were fitted."""


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
    told = {name: str(data[name]) for name in ("date", "data") if name in data}
    return CalibrationFile(path, data["accelerator"], data["engine"], data["sections"], surfaces, **told)


def calibration_file(accelerator: str, engine: str, folders: tuple[Path, ...] = ()) -> CalibrationFile | None:
    """The calibration of a device under an engine, from the first folder that has one; ``folders`` come before the specs'."""
    for folder in (*folders, *spec_folders("calibrations")):
        path = folder / safe_file_name(f"{accelerator}.{engine}.yaml")
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


def check_calibration(path: Path) -> CalibrationFile:
    """The calibration in a file, every section of it looked at; SpecError naming the section that cannot be used."""
    file = read_calibration(path)
    for kind, keys in file.sections.items():
        for key, section in keys.items():
            _parameters(kind, section, path, key)
            for name in ("rows", "test_error", "source"):
                if name not in section:
                    raise SpecError("is missing", field=f"sections.{kind}.{key}.{name}", file=path)
    return file


@dataclass(frozen=True)
class Calibration:
    """The kernel parameters of one device under one engine."""

    accelerator: str
    architecture: str
    engine: str
    link: Link | None = None
    """What joins the devices; None where there is one."""
    folders: tuple[Path, ...] = ()
    """Folders of calibrations that are looked through before those of the specs."""
    memory: str = "HBM"
    """Kind of memory, as the accelerator's spec says."""

    def __hash__(self) -> int:
        """By device and engine alone: cheap enough to be a cache key on every call."""
        return hash((self.accelerator, self.engine))

    def lookup(self, kind: str, key: str) -> Fitted:
        """Parameters of a kind of kernel for a key (number format, phase, mechanism), from the nearest measurement.

        >>> load_calibration("H100-SXM", "Hopper", "vllm").lookup("gemm", "bf16").level
        'measured'
        >>> load_calibration("H20-SXM", "Hopper", "vllm").lookup("gemm", "bf16").level
        'family'
        """
        return _lookup(self, kind, key)

    def experts(self, key: str, shape: ExpertShape, *, engine: str | None = None) -> Fitted:
        """The same for routed experts of a shape, from the kernel family that the engine took for the nearest measured shape.

        ``engine``: whose tables hold the kernels, where it is not this one.

        >>> h200, shape = load_calibration("H200-SXM", "Hopper", "vllm"), ExpertShape(7168, 2048, 256)
        >>> [h200.experts("fp8_block", one).source[:34] for one in (shape, shape._replace(expert_parallel=True))]
        ['measured: moe fp8_block.triton on ', 'measured: moe fp8_block on H200-SX']
        """
        return _lookup(self, "moe", key, shape, engine)


@functools.lru_cache(maxsize=4096)
def _lookup(
    calibration: Calibration, kind: str, key: str, shape: ExpertShape | None = None, under: str | None = None
) -> Fitted:
    engines = list(dict.fromkeys([under or calibration.engine, calibration.engine, *ENGINES, *LIBRARIES]))
    for device, borrowed in lenders(calibration, kind):
        own = device == calibration.accelerator
        for candidate in _keys(kind, key):
            for engine in engines:
                file = calibration_file(device, engine, calibration.folders)
                section = file.sections.get(kind, {}).get(candidate) if file else None
                if file is None or section is None:
                    continue
                exact = engine == calibration.engine and candidate == key
                level = borrowed if not own else "measured" if exact else "same device"
                if shape is not None:
                    candidate = _family_of(file, candidate, shape)
                    section = file.sections[kind][candidate]
                spread = float(np.hypot(section["test_error"]["log_sd"], ADDED_SPREAD[level]))
                shown = candidate[len(key) :] if candidate.startswith(key) else f" as {candidate}"
                source = f"{level}: {kind} {key}{shown} on {device} under {engine} ({section['source']})"
                surface = file.surfaces.get((kind, candidate))
                parameters = _parameters(kind, section, file.path, candidate)
                least = LEAST_SPREAD.get((kind, level), 0.0)
                return Fitted(
                    parameters,
                    source,
                    max(spread, least),
                    level,
                    surface if own or kind in LENT_SURFACES else None,
                    _range_of(surface),
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
    parameters = family_default(calibration.link) if kind == "collective" else PARAMETERS[kind]()
    source = f"default: {kind} {key}, efficiencies reported for NVIDIA data-centre GPUs"
    return Fitted(parameters, source, DEFAULT_SPREAD[kind], "default")


def _range_of(surface: AnySurface | None) -> tuple[tuple[str, float, float], ...]:
    if surface is None:
        return ()
    ends = ((float(2.0 ** knots[0]), float(2.0 ** knots[-1])) for knots in surface.knots)
    return tuple((axis, low, high) for axis, (low, high) in zip(surface.axes, ends, strict=True))


def lenders(calibration: Calibration, kind: str) -> list[tuple[str, str]]:
    """Devices whose measurements may stand for a calibration's, the nearest first, and what borrowing from each is called.

    Kernels are lent within a family of architectures. Collectives are lent by the kind of link: what crosses it is the
    link's business more than the device's; a device measured on another link than the system has lends nothing.
    """
    if kind != "collective":
        stand_in = FAMILY_DEVICE.get(calibration.architecture)
        return [(device, "family") for device in dict.fromkeys((calibration.accelerator, stand_in)) if device]
    link, measured = calibration.link, {device: _device_link(device) for device in LINK_DEVICES}
    if link is None:
        return [(calibration.accelerator, "same link")]
    near = sorted((abs(float(np.log(other.bandwidth / link.bandwidth))), device) for device, other in measured.items()
                  if other.topology == link.topology and device != calibration.accelerator)  # fmt: skip
    own = measured.get(calibration.accelerator, link).topology == link.topology
    return [(device, "same link") for device in ([calibration.accelerator] if own else []) + [name for _, name in near]]


@functools.lru_cache(maxsize=64)
def _device_link(device: str) -> Link:
    """The link that collectives among several of a measured device were timed on."""
    accelerator = load_accelerator(device)
    link = accelerator.scale_up or accelerator.host_link
    assert link is not None
    return link


def _family_of(file: CalibrationFile, key: str, shape: ExpertShape) -> str:
    """The section of a format whose kernels the engine took for the measured shape nearest to ``shape``.

    Nearest in doublings of hidden size, intermediate size and number of experts; whole experts on other ranks apart, which
    engines hand to kernels of their own.
    """
    found, least = key, float("inf")
    for name, section in file.sections["moe"].items():
        rest = name[len(key) :]
        if not name.startswith(key) or any(part in rest.split(".") for part in ("ungated", LOW_LATENCY)):
            continue
        if rest and not rest.startswith("."):
            continue
        for hidden, intermediate, experts, spread_out in section.get("shapes", ()):
            sizes = (hidden / shape.hidden, intermediate / shape.intermediate, experts / shape.num_experts)
            apart = 20.0 * (bool(spread_out) != shape.expert_parallel)
            distance = apart + sum(abs(float(np.log2(ratio))) for ratio in sizes)
            if distance < least:
                found, least = name, distance
    return found


SIMILAR = {
    "bf16": ("fp16", "fp32"), "fp16": ("bf16", "fp32"),
    "fp8": ("fp8_block",), "fp8_block": ("fp8",), "mxfp8": ("fp8_block", "fp8"), "int8": ("fp8", "bf16"),
    "int4_g32": ("int4",), "int4_g64": ("int4",), "int4_zp": ("int4",), "mxfp4": ("int4", "nvfp4"), "nvfp4": ("mxfp4",),
    "mamba1": ("mamba2",), "kda": ("gated_delta_net",), "gated_delta_net": ("kda",), "lightning": ("mamba2",),
    "send_recv": ("all_gather",), "reduce_scatter": ("all_gather",), "all_to_all": ("combine", "dispatch"),
    "dispatch": ("all_to_all",), "combine": ("all_to_all",), "dispatch.low_latency": ("dispatch", "all_to_all"),
    "combine.low_latency": ("combine", "all_to_all"),
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
    if kind == "collective":
        return [key, *SIMILAR.get(key, ())]
    if key.endswith(LOW_LATENCY):
        return [key]
    number_format, _, ungated = key.partition(".")
    formats = (number_format, *SIMILAR.get(number_format, ()), *(["bf16"] if kind in ("gemm", "moe") else []))
    return list(dict.fromkeys([*(f"{name}.{ungated}" for name in formats if ungated), *formats]))


@functools.lru_cache(maxsize=256)
def load_calibration(
    accelerator: str, architecture: str, engine: str, link: Link | None = None, memory: str = "HBM"
) -> Calibration:
    """The calibration of an accelerator under an engine, its devices joined by ``link``; files are read when first
    needed. ``memory`` is the kind of memory, which tells the class of silicon."""
    return Calibration(accelerator, architecture, engine, link, memory=memory)


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
