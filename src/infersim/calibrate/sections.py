"""Fit every kind of kernel to the tables that ``silicon_dense`` and ``silicon_more`` read.

Every table becomes a section: parameters of the physical form found on the 30% of rows a fit may see, a small residual
surface on top, and both errors on the other 70%. The order of work and every start is fixed, so a repeat gives the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.calibrate.fit import Spread, fit_parameters, spread, spread_by_duration
from infersim.calibrate.measurements import KernelTable, fit_rows
from infersim.calibrate.surface import fit_surface, knots_for
from infersim.errors import UnsupportedError
from infersim.machine.kernels.attention import (
    ATTENTION_AXES,
    CHOICES,
    AttentionParameters,
    attention_axes,
    attention_time,
)
from infersim.machine.kernels.collective import COLLECTIVE_AXES, PCIE, CollectiveParameters, collective_time
from infersim.machine.kernels.elementwise import ElementwiseParameters, elementwise_time
from infersim.machine.kernels.gemm import GemmParameters, gemm_time
from infersim.machine.kernels.latent import LATENT_AXES, LatentParameters, latent_attention_time, latent_axes
from infersim.machine.kernels.moe import MOE_AXES, MoeParameters, moe_axes, moe_time
from infersim.machine.kernels.scan import SCAN_AXES, ScanParameters, scan_axes, scan_time
from infersim.machine.machine import rates_of
from infersim.machine.network import Path as LinkPath
from infersim.machine.surface import AnySurface
from infersim.specs.hardware import Accelerator
from infersim.specs.library import load_accelerator
from infersim.specs.precision import FORMATS, matrix_unit

Array = npt.NDArray[np.float64]
Shape = Mapping[str, Array]

LEAST_FIT_ROWS = 10
"""A table that offers a fit fewer rows is left out."""

EAGER_LAUNCH = 25e-6
"""A smallest product that takes longer than this was timed with its launch on the host, not in a graph [s]."""

HOST_NOISE = 0.15
"""Mean error, on fitted rows twice as long as the launch, from which such a table tells of the host and not of the device."""


RIDGE, SMOOTH = 0.05, 0.03
"""Penalties, in rows' worth, of the surfaces of products and attention, chosen by ``benchmarks/select_forms.py``."""


@dataclass(frozen=True)
class Section:
    """What one table of measurements says about a kind of kernel: parameters, surface, errors on unseen rows."""

    device: str
    engine: str
    kind: str
    key: str
    parameters: Any
    surface: AnySurface | None
    rows: int
    """Rows the fit saw."""
    physical: Spread
    """Error of the physical form alone, on rows the fit did not see."""
    final: Spread
    """Error with the surface, on the same rows."""
    source: str
    valid: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Least and greatest of every size that was fitted."""
    regimes: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)
    """Rows, mean error and log spread with the surface, on rows the fit did not see, by how long a kernel took."""
    shapes: tuple[tuple[int, int, int, int], ...] = ()
    """Experts: hidden, intermediate, number of experts, whether other ranks hold some; what these kernels were taken for."""


@dataclass(frozen=True)
class Problem:
    """How a kind of kernel is fitted: its time, where a fit starts, what it holds, where its surface is read.

    Knots and penalties of experts, latent attention, scans and collectives were chosen by ``benchmarks/select_forms_more.py``.
    """

    time: Callable[[Shape, Any], Array]
    starts: Sequence[Any]
    hold: Sequence[str] = ()
    axes: Sequence[str] = ()
    place: Callable[[Shape], Sequence[Array]] = lambda shape: ()
    knots: Sequence[int | str | Sequence[float]] = ()
    """Per axis: how many, the very ones (log2), or ``each`` size that occurs."""
    layers: Sequence[Sequence[str]] = ()
    """Axes of each of several surfaces that add up; none: one surface over all."""
    ridge: float = 0.3
    smooth: float = 0.5
    prior: float = 0.0
    rows: int = 3000
    evaluations: int = 40


def fit_tables(tables: Sequence[KernelTable], left: Counter[str]) -> Iterator[Section]:
    """One section per table that can be fitted; the rows of the others are counted in ``left``."""
    mixed: ScanParameters | None = None
    for table in tables:
        accelerator = load_accelerator(table.device)
        try:
            found = problem(table, accelerator, mixed)
        except UnsupportedError as error:
            left[f"{table.kind}: {str(error).split(';')[0]}"] += len(table)
            continue
        seen = fit_rows(table)
        if seen.sum() < LEAST_FIT_ROWS:
            left[f"{table.kind}: too few rows"] += len(table)
            continue
        section = fit_section(table, found)
        if _host_bound(section, table.take(seen), found):
            left[f"gemm {section.key}: timed without graphs"] += len(table)
            continue
        if table.kind == "scan" and table.kernel == "gated_delta_net":
            mixed = section.parameters
        yield section


def _host_bound(section: Section, fit: KernelTable, found: Problem) -> bool:
    """Whether a table of products shows the host's noise more than the device's time."""
    if fit.kind != "gemm" or section.parameters.launch <= EAGER_LAUNCH:
        return False
    busy = fit.take(fit.seconds > 2 * section.parameters.launch)
    return not len(busy) or spread(found.time(busy.shape, section.parameters), busy.seconds).mean > HOST_NOISE


def fit_section(table: KernelTable, found: Problem) -> Section:
    """Fit the physical form from each start, keep the best, lay a surface on what it leaves."""
    seen = fit_rows(table)
    fit, test = table.take(seen), table.take(~seen)
    fits = [
        fit_parameters(
            found.time,
            start,
            fit.shape,
            fit.seconds,
            hold=found.hold,
            rows=found.rows,
            prior=found.prior,
            evaluations=found.evaluations,
        )
        for start in found.starts
    ]
    parameters = min(fits, key=lambda one: one.cost).parameters
    corrected = found.time(test.shape, parameters)
    physical = final = spread(corrected, test.seconds)
    surface: AnySurface | None = None
    if found.axes:
        sizes = tuple(found.place(fit.shape))
        knots = [knots_for(size, count) for size, count in zip(found.place(table.shape), found.knots, strict=True)]
        log_error = np.log(fit.seconds / found.time(fit.shape, parameters))
        surface = fit_surface(
            found.axes, knots, sizes, log_error, layers=found.layers, ridge=found.ridge, smooth=found.smooth
        )
        corrected = corrected * np.exp(surface.at(*found.place(test.shape)))
        final = spread(corrected, test.seconds)
    return Section(
        table.device,
        table.engine,
        table.kind,
        section_key(table),
        parameters,
        surface,
        len(fit),
        physical,
        final,
        table.source,
        valid={name: (float(sizes.min()), float(sizes.max())) for name, sizes in fit.shape.items()},
        regimes=spread_by_duration(corrected, test.seconds),
        shapes=expert_shapes(table),
    )


def expert_shapes(table: KernelTable) -> tuple[tuple[int, int, int, int], ...]:
    """Hidden size, intermediate size, number of experts and whether other ranks hold some, of each measured shape."""
    if table.kind != "moe":
        return ()
    shape = table.shape
    columns = (shape["hidden"], shape["intermediate"], shape["num_experts"], shape["expert_parallel"] > 1)
    rows = np.unique(np.column_stack(columns).astype(int), axis=0)
    return tuple((h, i, e, apart) for h, i, e, apart in rows.tolist())


def section_key(table: KernelTable) -> str:
    """The key under which a table's section is looked up.

    Experts: the activation's format where it is quantised, else the weights', then ``.ungated`` for experts of two
    matrices and the kernel family where it is not the usual one. Latent attention: cache format and phase. Scans:
    mechanism. Collectives and elementwise passes: their name.
    """
    if table.kind in ("moe", "gemm"):
        weights, activations = table.formats["weights"], table.formats["activations"]
        return ".".join(part for part in (weights if activations == "bf16" else activations, table.kernel) if part)
    if table.kind in ("mla", "attention"):
        return f"{table.formats['kv_cache']}.{table.kernel}"
    return table.kernel.partition(".")[0] if table.kind == "scan" else table.kernel


def problem(table: KernelTable, accelerator: Accelerator, mixed: ScanParameters | None = None) -> Problem:
    """How to fit a table. ``mixed`` are scan parameters for a table that holds the convolution alone."""
    if table.kind == "gemm":
        return _gemm(table, accelerator)
    if table.kind == "attention":
        return _attention(table, accelerator)
    if table.kind == "moe":
        return _experts(table, accelerator)
    if table.kind == "mla":
        return _latent(table, accelerator)
    if table.kind == "scan":
        return _scan(table, accelerator, mixed)
    if table.kind == "elementwise":
        return _elementwise(accelerator)
    return _collective(table, accelerator)


def _gemm(table: KernelTable, accelerator: Accelerator) -> Problem:
    weights, activations = table.formats["weights"], table.formats["activations"]
    rates = rates_of(accelerator, matrix_unit(FORMATS[weights], FORMATS[activations], accelerator))

    def time(s: Shape, p: GemmParameters) -> Array:
        seconds: Array = gemm_time(
            s["m"], s["n"], s["k"], weight_bytes=FORMATS[weights].bytes, activation_bytes=FORMATS[activations].bytes,
            output_bytes=2.0, rates=rates, parameters=p, weights_in_l2=True,
        )  # fmt: skip
        return seconds

    def place(s: Shape) -> Sequence[Array]:
        return s["m"], s["n"], s["k"]

    hold = ("padding", "input_pass") if FORMATS[activations].bits >= 16 else ("padding",)
    return Problem(time, [GemmParameters()], hold, ("m", "n", "k"), place, (10, 6, 5), ridge=RIDGE, smooth=SMOOTH)


def _attention(table: KernelTable, accelerator: Accelerator) -> Problem:
    rates = rates_of(accelerator, matrix_unit(FORMATS["bf16"], FORMATS["bf16"], accelerator))
    cache_bytes, decode, causal = (
        FORMATS[table.formats["kv_cache"]].bytes,
        table.kernel == "decode",
        table.kernel != "encoder",
    )

    def time(s: Shape, p: AttentionParameters) -> Array:
        seconds: Array = attention_time(
            s["count"], s["new"], s["cached"], heads=s["heads"], kv_heads=s["kv_heads"], key_dim=s["head_dim"],
            value_dim=s["head_dim"], window=s["window"], causal=causal, kv_bytes=cache_bytes, rates=rates, parameters=p,
            decode=decode, cache_in_l2=True,
        )  # fmt: skip
        return seconds

    def place(s: Shape) -> Sequence[Array]:
        return attention_axes(
            s["count"], s["new"], s["cached"], s["heads"], s["kv_heads"], s["head_dim"], s["window"], decode=decode
        )

    usual = AttentionParameters()
    starts = [usual, replace(usual, skips_window=0.0)]
    if decode:
        starts += [replace(usual, packed=32.0), replace(usual, packed_in_window=0.0)]
    hold = CHOICES if decode else (*CHOICES, "lone")
    return Problem(time, starts, hold, ATTENTION_AXES, place, KNOTS, LAYERS, RIDGE, SMOOTH)


KNOTS = (8, 4, (1.0, 4.0), "each")
LAYERS = (("extent", "streams", "group"), ("extent", "streams", "head_dim"))
"""Surfaces of attention: one by how many query heads share keys (one, two, 16, most: other kernels), one by head dimension."""


def _experts(table: KernelTable, accelerator: Accelerator) -> Problem:
    weights, activations = table.formats["weights"], table.formats["activations"]
    rates = rates_of(accelerator, matrix_unit(FORMATS[weights], FORMATS[activations], accelerator))

    def time(s: Shape, p: MoeParameters) -> Array:
        seconds: Array = moe_time(
            s["tokens"], s["hidden"], s["intermediate"], s["num_experts"], s["experts_per_token"], gated=s["gated"],
            tensor_parallel=s["tensor_parallel"], expert_parallel=s["expert_parallel"], weight_bytes=FORMATS[weights].bytes,
            activation_bytes=FORMATS[activations].bytes, rates=rates, parameters=p, skew=s["skew"], weights_in_l2=True,
        )  # fmt: skip
        return seconds

    def place(s: Shape) -> Sequence[Array]:
        return moe_axes(
            s["tokens"], s["hidden"], s["intermediate"], s["num_experts"], tensor_parallel=s["tensor_parallel"],
            expert_parallel=s["expert_parallel"],
        )  # fmt: skip

    return Problem(time, [MoeParameters()], (), MOE_AXES, place, (9, 4, 4, 2), ridge=0.03, smooth=0.03)


LEAST_FOR_SURFACE = 300
"""Rows of latent attention below which a table gets no surface and few parameters."""

LATENT_SHAPE = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}


def _latent(table: KernelTable, accelerator: Accelerator) -> Problem:
    rates = rates_of(accelerator, matrix_unit(FORMATS["bf16"], FORMATS["bf16"], accelerator))
    decode = table.kernel == "decode"
    cache_bytes = FORMATS[table.formats["kv_cache"]].bytes

    def time(s: Shape, p: LatentParameters) -> Array:
        seconds: Array = latent_attention_time(
            s["count"], s["new"], s["cached"], heads=s["heads"], **LATENT_SHAPE, cache_bytes=cache_bytes, rates=rates,
            parameters=p, absorbed=decode, cache_in_l2=True,
        )  # fmt: skip
        return seconds

    def place(s: Shape) -> Sequence[Array]:
        return latent_axes(s["count"], s["new"], s["cached"], s["heads"])

    usual = LatentParameters()
    if decode:
        starts = [usual, replace(usual, most_splits=1.02, walk=1e-7, ramp=1e-7)]
        hold: tuple[str, ...] = ("tile", "diagonal")
    else:
        starts = [usual, replace(usual, tile=1e-7)]
        hold = ("ramp", "ramp_bytes", "combine", "head_rows", "walk", "most_splits")
        if len(table) < LEAST_FOR_SURFACE:  # long prompts alone: what short ones pay stays the default
            few = (*hold, "launch", "tile", "sequence", "query_passes", "memory_efficiency")
            return Problem(time, starts[:1], few, place=place)
    return Problem(time, starts, hold, LATENT_AXES, place, (6, 8, 4), ridge=0.01, smooth=0.01)


def _scan(table: KernelTable, accelerator: Accelerator, mixed: ScanParameters | None) -> Problem:
    rates = rates_of(accelerator, matrix_unit(FORMATS["bf16"], FORMATS["bf16"], accelerator))
    kind, _, part = table.kernel.partition(".")
    kernel = int(table.shape["conv_kernel"][0])

    def time(s: Shape, p: ScanParameters) -> Array:
        seconds: Array = scan_time(
            s["sequences"], s["new"], kind=kind, heads=s["heads"], key_dim=s["key_dim"], value_dim=s["value_dim"],
            conv_channels=s["conv_channels"], conv_kernel=kernel, chunk=s["chunk"], rates=rates, parameters=p,
            convolution_only=bool(part), state_in_l2=True,
        )  # fmt: skip
        return seconds

    usual = ScanParameters()
    starts = [usual, replace(usual, rows=450.0, cache_gain=2.0, state_efficiency=0.8)]
    if part:  # only the convolution was measured: the rest is the other mechanism's
        base = mixed or usual
        return Problem(
            time,
            [replace(base, rows=rows) for rows in (4.0, 450.0)],
            ("compute_efficiency", "state_efficiency", "chain"),
        )
    return Problem(
        time, starts, (), SCAN_AXES, lambda s: scan_axes(s["sequences"], s["new"], s["heads"]), (6, 9, 3),
        ridge=0.01, smooth=0.01,
    )  # fmt: skip


def _elementwise(accelerator: Accelerator) -> Problem:
    """Passes by the bytes they move: a product's rows and columns are not told apart, as a step's passes do not tell them."""
    rates = rates_of(accelerator, matrix_unit(FORMATS["bf16"], FORMATS["bf16"], accelerator))

    def time(s: Shape, p: ElementwiseParameters) -> Array:
        seconds: Array = elementwise_time(s["bytes"], rates=rates, parameters=p)
        return seconds

    return Problem(
        time, [ElementwiseParameters()], (), ("bytes",), lambda s: (s["bytes"],), (12,), ridge=0.1, smooth=0.1
    )


OWN_LIMITS = {"vllm": (8e6,), "sglang": (1.7e7,), "trtllm": (1.2e6, 8.3e6, 1.7e7)}
"""Largest payload each engine gives its own all-reduce [B]: vLLM below 8 MiB, SGLang up to 16 MiB, as their code states."""


def _collective(table: KernelTable, accelerator: Accelerator) -> Problem:
    link = accelerator.scale_up or accelerator.host_link
    if link is None:
        raise UnsupportedError(f"{accelerator.name} states no link between its devices")
    kernel = table.kernel.partition(".")[0]
    kind = {"dispatch": "all_to_all", "combine": "all_to_all", "library_all_reduce": "all_reduce"}.get(kernel, kernel)
    network = _network_of(link)

    def time(s: Shape, p: CollectiveParameters) -> Array:
        seconds = np.zeros(len(s["payload"]))
        nodes = s.get("nodes", np.ones(len(seconds)))
        for n, k in sorted(set(zip(s["devices"].tolist(), nodes.tolist(), strict=True))):
            rows = (s["devices"] == n) & (nodes == k)
            path = LinkPath(int(n // k), int(k), link, network if k > 1 else None)
            messages = {"message_bytes": s["message_bytes"][rows]} if "message_bytes" in s else {}
            seconds[rows] = collective_time(kind, s["payload"][rows], path, p, **messages)
        return seconds

    pcie = link.topology == "pcie"
    base = PCIE if pcie else CollectiveParameters()
    across = () if "nodes" in table.shape and table.shape["nodes"].max() > 1 else ("node_hop", "node_efficiency")
    devices = (8.0,) if not accelerator.name.startswith("GB") else (4.0, 8.0, 72.0)
    hold: tuple[str, ...] = ("limit", "own_devices", *across, *(() if "message_bytes" in table.shape else ("message",)))
    if table.kernel == "all_reduce":
        choices = [(limit, n) for limit in (*OWN_LIMITS.get(table.engine, (8e6,)), *((1.1e9,) if pcie else ()))
                   for n in ((1.0, 2.0) if pcie and accelerator.vendor == "NVIDIA" else devices)]  # fmt: skip
        starts = [replace(base, limit=limit, own_devices=n) for limit, n in choices]
    else:
        exchanged = replace(base, message=2e-9) if "message_bytes" in table.shape else base
        starts = [replace(exchanged, limit=1.0, own_devices=1.0)]
        hold = (*hold, "launch", "hop", "direct_efficiency", "direct_decay")
    return Problem(
        time, starts, hold, COLLECTIVE_AXES, lambda s: (s["payload"], s["devices"]), (12, 3),
        ridge=0.1, smooth=0.1, prior=0.3,
    )  # fmt: skip


def collective_kind(kernel: str) -> str:
    """The kind of collective that a measured kernel carries out.

    >>> collective_kind("dispatch"), collective_kind("all_reduce")
    ('all_to_all', 'all_reduce')
    """
    name = kernel.partition(".")[0]
    return {"dispatch": "all_to_all", "combine": "all_to_all", "library_all_reduce": "all_reduce"}.get(name, name)


def measured_path(table: KernelTable, accelerator: Accelerator) -> Iterator[tuple[npt.NDArray[np.bool_], LinkPath]]:
    """The rows of each number of devices and nodes, and the links between them."""
    link = accelerator.scale_up or accelerator.host_link
    if link is None:
        raise UnsupportedError(f"{accelerator.name} states no link between its devices")
    devices = table.shape["devices"]
    nodes = table.shape.get("nodes", np.ones(len(devices)))
    for n, k in sorted(set(zip(devices.tolist(), nodes.tolist(), strict=True))):
        path = LinkPath(int(n // k), int(k), link, _network_of(link) if k > 1 else None)
        yield (devices == n) & (nodes == k), path


def _network_of(link: Any) -> Any:
    """The network a measured node stands in: 400 Gb/s a device (HGX with ConnectX-7)."""
    return link.model_copy(update={"name": "InfiniBand NDR", "bandwidth": 50e9, "topology": "switch"})
