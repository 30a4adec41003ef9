"""Which kernel model prices which op. The only place where an op's fields become a kernel's arguments."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.machine.calibration import DATA_SHEET, LOW_LATENCY, ExpertShape, Fitted
from infersim.machine.kernels.attention import attention_axes, attention_time
from infersim.machine.kernels.collective import collective_time
from infersim.machine.kernels.elementwise import elementwise_time
from infersim.machine.kernels.gemm import gemm_time
from infersim.machine.kernels.latent import latent_attention_time, latent_axes
from infersim.machine.kernels.moe import moe_axes, moe_time
from infersim.machine.kernels.scan import scan_axes, scan_time
from infersim.machine.machine import Machine
from infersim.machine.surface import along_first_axis
from infersim.mechanisms import ABSORBED_NEW_TOKENS
from infersim.ops.attention import Attention, Scan
from infersim.ops.base import MatrixOp, Op
from infersim.ops.matmul import Gemm, GroupedGemm
from infersim.ops.memory import Collective, Elementwise, HostCopy
from infersim.routing import remote_visits
from infersim.specs.engine import ExpertKernels
from infersim.specs.hardware import MatrixUnit
from infersim.specs.precision import FORMATS

Array = npt.NDArray[np.float64]
Pricer = Callable[[Any, "Columns", Machine, Any], tuple[Any, Fitted]]


@dataclass(frozen=True)
class Columns:
    """Fields of several alike ops, one row per op (or one for all that share a value) and behind it the ``shape`` of the batch; of
    one op as they are."""

    ops: Sequence[Any]
    shape: tuple[int, ...]

    def __getattr__(self, field: str) -> Any:
        if len(self.ops) == 1:
            return getattr(self.ops[0], field)
        values = [getattr(op, field) for op in self.ops]
        if len(set(map(id, values))) == 1:
            rows = np.array(values[0], dtype=float, ndmin=1 + len(self.shape))
        elif np.ndarray not in map(type, values):
            rows = np.array(values, dtype=float).reshape((-1,) + (1,) * len(self.shape))
        else:
            rows = np.empty((len(values), *self.shape))
            for row, value in enumerate(values):
                rows[row] = value
        self.__dict__[field] = rows
        return rows


STACKED_POINTS = 64
"""Up to this many batches at once, alike ops are priced in one call; beyond it the arrays are long enough alone, and an op's
own sizes stay plain numbers."""


def kernel_seconds(
    ops: Sequence[Op], units: Sequence[MatrixUnit | None], machine: Machine, shape: tuple[int, ...]
) -> tuple[Array, list[Fitted]]:
    """Seconds of one repetition of every op, and the parameters that each figure rests on.

    Ops that differ in nothing but their sizes are priced in one call, unless the arrays of batches are long.
    """
    seconds, basis = np.zeros(shape), [DATA_SHEET] * len(ops)
    stacked = math.prod(shape[1:]) <= STACKED_POINTS
    together: dict[Any, list[int]] = defaultdict(list)
    for row, op in enumerate(ops):
        alike = _signature(op, machine) if stacked else row
        together[type(op), units[row], alike].append(row)
    for (kind, unit, _), rows in together.items():
        members = [ops[row] for row in rows[: 1 if kind is Attention else None]]
        time, fitted = PRICERS[kind](members[0], Columns(members, shape[1:]), machine, unit)
        if len(rows) > 1:
            seconds[rows] = time
        else:
            seconds[rows[0]] = time
        for row in rows:
            basis[row] = fitted
    return seconds, basis


def as_engine_runs(ops: Sequence[Op], machine: Machine) -> list[Op]:
    """The ops as the engine's kernels run them: experts with activations in the kernels' format, and without the quantising
    passes that the measured time of the product behind them already holds."""
    kept: list[Op] = []
    for op, following in zip(ops, [*ops[1:], None], strict=True):
        if op.name == "quantise" and isinstance(following, Gemm):
            fitted = _lookup(machine, "gemm", format_key(following))
            if fitted.level != "default" and fitted.parameters.input_pass > 0:
                continue
        if isinstance(op, GroupedGemm):
            choice = expert_kernels(op, machine)
            if choice and choice.quantised_to:
                op = replace(op, activations=FORMATS[choice.quantised_to])
        kept.append(op)
    return kept


def _signature(op: Op, machine: Machine) -> Any:
    """What must be equal for ops to be priced together: everything but the sizes their pricer takes as columns."""
    if isinstance(op, Gemm):
        return op.weights.name, op.activations.name, op.output_bytes, op.copies
    if isinstance(op, Attention):
        # layers of several kinds see the very same sequences
        return (op.heads, op.kv_heads, op.key_dim, op.value_dim, op.window, op.chunk, op.causal, op.cross, op.stride, op.top_k,
                op.latent, op.shared_kv, op.cache_bytes, op.query_bytes,
                id(op.sequences), id(op.new), id(op.cached))  # fmt: skip
    if isinstance(op, Collective):
        return op.kind, op.devices, op.stride, op.name if op.kind == "all_to_all" else ""
    return _lookup(machine, "elementwise", op.key).source if isinstance(op, Elementwise) else id(op)


def _lookup(machine: Machine, kind: str, key: str) -> Fitted:
    assert machine.calibration is not None
    return machine.calibration.lookup(kind, key)


def format_key(op: MatrixOp) -> str:
    """The key of a matrix op's calibration: the activation's format where it is quantised, else the weights'."""
    return op.activations.name if op.activations.bits < 16 else op.weights.name


def _gemm(first: Gemm, every: Columns, machine: Machine, unit: Any) -> tuple[Any, Fitted]:
    fitted = _lookup(machine, "gemm", format_key(first))
    if first.activations.bits < 16:
        fitted = _fused(fitted, _lookup(machine, "gemm", "bf16"))
    time = gemm_time(
        every.m, every.n, every.k, weight_bytes=first.weights.bytes, activation_bytes=first.activations.bytes,
        output_bytes=first.output_bytes, rates=machine.rates(unit), parameters=fitted.parameters,
    )  # fmt: skip
    return time * (first.copies * _gemm_correction(fitted, every)), fitted


def _gemm_correction(fitted: Fitted, every: Columns) -> Any:
    """The residual surface at the products' sizes; rows and columns of the weights are fixed by the model."""
    if fitted.surface is None:
        return 1.0
    if len(every.ops) == 1:
        return fitted.correction(every.m, held=((1, every.n), (2, every.k)))
    held = tuple(((1, op.n), (2, op.k)) for op in every.ops)
    return np.exp(along_first_axis(fitted.surface, every.m, held))


FUSED_LAUNCH = 1e-6
"""What a product in a quantised format costs at least beyond one in 16 bits [s]: assumed."""


@functools.lru_cache(maxsize=256)
def _fused(fitted: Fitted, wide: Fitted) -> Fitted:
    """The parameters of a quantised product in an engine, which fuses the quantising pass into the norm or activation before
    it; benchmarks launch that pass on its own.

    What its smallest product costs beyond one in 16 bits (``wide``) is that pass, whichever parameter holds it.
    """
    own, other = fitted.parameters, wide.parameters
    passing = own.launch + own.tile_start - (other.launch + other.tile_start + FUSED_LAUNCH)
    if passing <= 0:
        return fitted
    launch = max(own.launch - passing, min(own.launch, other.launch))
    left = passing - (own.launch - launch)
    start = max(own.tile_start - left, min(own.tile_start, other.tile_start))
    return replace(fitted, parameters=replace(own, launch=launch, tile_start=start))


def _grouped(first: GroupedGemm, every: Columns, machine: Machine, unit: Any) -> tuple[Any, Fitted]:
    key = format_key(first) + ("" if first.gated else ".ungated")
    shape = ExpertShape(first.hidden, first.intermediate, first.num_experts, first.expert_parallel > 1)
    choice = expert_kernels(first, machine)
    assert machine.calibration is not None
    fitted = machine.calibration.experts(key, shape, engine=choice.measured_under if choice else None)
    time = _experts_time(fitted, first, every, machine, unit)
    if choice and choice.or_faster:
        other = machine.calibration.experts(f"{key}.{choice.or_faster}", shape)
        if other.level != "default":
            quicker = _experts_time(other, first, every, machine, unit)
            fitted = other if np.mean(quicker) < np.mean(time) else fitted
            time = np.minimum(time, quicker)
    return time, fitted


def expert_kernels(op: GroupedGemm, machine: Machine) -> ExpertKernels | None:
    """What the engine's spec says of its kernels for experts in these formats on this device, where it says anything."""
    formats, architecture = (op.weights.name, op.activations.name), machine.accelerator.architecture
    for choice in machine.engine.expert_kernels:
        if formats == (choice.weights, choice.activations) and architecture in choice.architectures:
            return choice
    return None


def _experts_time(fitted: Fitted, first: GroupedGemm, every: Columns, machine: Machine, unit: Any) -> Any:
    time = moe_time(
        every.tokens, first.hidden, first.intermediate, first.num_experts, first.experts_per_token, gated=first.gated,
        tensor_parallel=first.tensor_parallel, expert_parallel=first.expert_parallel, weight_bytes=first.weights.bytes,
        activation_bytes=first.activations.bytes, rates=machine.rates(unit), parameters=fitted.parameters,
    )  # fmt: skip
    axes = moe_axes(
        every.tokens, first.hidden, first.intermediate, first.num_experts, tensor_parallel=first.tensor_parallel,
        expert_parallel=first.expert_parallel,
    )  # fmt: skip
    return time * fitted.correction(axes[0], held=tuple((axis, float(axes[axis])) for axis in (1, 2, 3)))


def _attention(first: Attention, every: Columns, machine: Machine, unit: Any) -> tuple[Any, Fitted]:
    """The kernel that engines take for the new tokens there are; arrays may hold both kinds."""
    phase = _phase(every.new)
    if phase == "decode" or not isinstance(every.new, np.ndarray) or every.new.min() > ABSORBED_NEW_TOKENS:
        return _attention_of(phase, first, every, machine, unit)
    (decode, _), (prefill, fitted) = (
        _attention_of(phase, first, every, machine, unit) for phase in ("decode", "prefill")
    )
    return np.where(every.new <= ABSORBED_NEW_TOKENS, decode, prefill), fitted


def _attention_of(phase: str, first: Attention, every: Columns, machine: Machine, unit: Any) -> tuple[Any, Fitted]:
    rates = machine.rates(unit)
    cache = "fp32" if first.cache_bytes >= 4 else "bf16" if first.cache_bytes >= 2 else "fp8"
    if first.latent is not None:
        rank, rope, nope, value = first.latent
        fitted = _lookup(machine, "mla", f"{cache}.{phase}")
        new = every.new
        cached = every.cached if first.top_k is None else np.minimum(every.cached, float(first.top_k))
        sequences = np.maximum(every.sequences, 1e-9)
        time = latent_attention_time(
            sequences, new, cached, heads=first.heads, kv_lora_rank=rank, qk_rope_head_dim=rope,
            qk_nope_head_dim=nope, v_head_dim=value, cache_bytes=first.cache_bytes, rates=rates, parameters=fitted.parameters,
        )  # fmt: skip
        count, keys, heads = latent_axes(sequences, new, cached, first.heads)
        time = time * fitted.correction(count, keys, held=((2, heads),))
        return np.where(every.sequences * new > 1e-6, time, 0.0), fitted
    decode = phase == "decode"
    alike = "encoder" if not (first.causal or first.cross or decode) else phase
    fitted = _lookup(machine, "attention", f"{cache}.{alike}")
    sequences, new, cached, causal = every.sequences, every.new, every.cached, first.causal
    if first.chunk or first.cross or first.stride > 1 or first.top_k is not None:
        # as many queries as keys at most, each block of them seeing the keys its queries see on average
        seen = np.maximum(np.asarray(every.pairs) / np.maximum(new, 1e-9), 1.0)
        block = np.minimum(new, seen)
        sequences, new, cached, causal = sequences * new / np.maximum(block, 1e-9), block, seen - block, False
    busy = sequences * new > 1e-6
    sequences, new = np.maximum(sequences, 1e-9), np.maximum(new, 1e-9)
    time = attention_time(
        sequences, new, cached, heads=first.heads, kv_heads=first.kv_heads, key_dim=first.key_dim, value_dim=first.value_dim,
        window=first.window, causal=causal, q_bytes=first.query_bytes, kv_bytes=first.cache_bytes, rates=rates,
        parameters=fitted.parameters, decode=decode,
    )  # fmt: skip
    if fitted.surface is not None:
        extent, streams, group, width = attention_axes(
            sequences, new, cached, first.heads, first.kv_heads, first.key_dim, first.window, decode=decode
        )
        time = time * fitted.correction(extent, streams, held=((2, group), (3, width)))
    return np.where(busy, time, 0.0), fitted


def _phase(new: Any) -> str:
    """Which kernel an engine takes for that many new tokens a sequence."""
    longest = new.max() if isinstance(new, np.ndarray) else new
    return "decode" if longest <= ABSORBED_NEW_TOKENS else "prefill"


def _scan(first: Scan, every: Columns, machine: Machine, unit: Any) -> tuple[Any, Fitted]:
    fitted = _lookup(machine, "scan", first.kind)
    time = scan_time(
        every.sequences, every.new, kind=first.kind, heads=first.heads, key_dim=first.key_dim, value_dim=first.value_dim,
        conv_channels=first.conv_channels, conv_kernel=first.conv_kernel, chunk=first.chunk, rates=machine.rates(unit),
        parameters=fitted.parameters,
    )  # fmt: skip
    time = time * fitted.correction(*scan_axes(every.sequences, every.new, first.heads))
    return np.where(np.asarray(every.sequences) * np.asarray(every.new) > 1e-6, time, 0.0), fitted


def _elementwise(first: Elementwise, every: Columns, machine: Machine, unit: Any) -> tuple[Any, Fitted]:
    fitted = _lookup(machine, "elementwise", first.key)
    kernels = every.kernels
    moved = every.bytes / kernels
    each = elementwise_time(moved, rates=machine.rates(_any_unit(machine)), parameters=fitted.parameters)
    return kernels * (each if fitted.surface is None else each * fitted.correction(moved)) + every.latency, fitted


def _any_unit(machine: Machine) -> MatrixUnit:
    return next(iter(machine.accelerator.peak_flops))


def _collective(first: Collective, every: Columns, machine: Machine, unit: Any) -> tuple[Any, Fitted]:
    if first.experts_per_token:
        return _exchange(first, every, machine)
    return _moved(first.kind, every.payload, first, machine)


def _moved(key: str, payload: Any, first: Collective, machine: Machine) -> tuple[Any, Fitted]:
    fitted = _lookup(machine, "collective", key)
    path = machine.fabric.path(first.devices, first.stride)
    time = collective_time(first.kind, payload, path, fitted.parameters, message_bytes=first.message_bytes)
    if path.nodes == 1:
        time = time * fitted.correction(payload, held=((1, float(first.devices)),))
    return time, fitted


def _exchange(first: Collective, every: Columns, machine: Machine) -> tuple[Any, Fitted]:
    """Dispatch or combine by the faster kernels: low-latency ones send a token to every expert, the others once to a rank.

    Engines choose by phase, low-latency for decode and high-throughput for prefill (``--deepep-mode auto`` of SGLang,
    ``deepep_low_latency`` and ``deepep_high_throughput`` of vLLM), which is the faster one for the batches of each.
    """
    phase = "dispatch" if first.name == "expert dispatch" else "combine"
    k, n = first.experts_per_token, first.devices
    nominal = min(k, n) * (1 - 1 / n)
    times, found = [], []
    for key, once in ((phase, True), (f"{phase}.{LOW_LATENCY}", False)):
        time, fitted = _moved(key, every.payload * (remote_visits(k, n, once_a_rank=once) / nominal), first, machine)
        times.append(time)
        found.append(fitted)
    if found[1].level == "default":
        return times[0], found[0]
    quick = np.mean(times[1]) < np.mean(times[0])
    return np.minimum(times[0], times[1]), found[int(quick)]


def _host_copy(first: HostCopy, every: Columns, machine: Machine, unit: Any) -> tuple[Any, Fitted]:
    fitted = _lookup(machine, "elementwise", "copy")
    return machine.engine.eager_launch + every.payload / machine.host_copy_bandwidth, fitted


PRICERS: dict[type[Op], Pricer] = {
    Gemm: _gemm, GroupedGemm: _grouped, Attention: _attention, Scan: _scan, Elementwise: _elementwise,
    Collective: _collective, HostCopy: _host_copy,
}  # fmt: skip


def octaves_outside(op: Op, fitted: Fitted) -> dict[str, Any]:
    """How many doublings an op's sizes lie outside the range that its parameters were fitted on, by axis."""
    place = SIZES.get(type(op))
    return fitted.octaves_outside(place(op)) if place and fitted.measured_range else {}


def _attention_sizes(op: Attention) -> tuple[Any, ...]:
    sequences, keys = np.maximum(op.sequences, 1e-9), np.asarray(op.pairs) / np.maximum(op.new, 1e-9)
    if op.latent is not None:
        return latent_axes(sequences, op.new, op.cached, op.heads)
    decode = _phase(op.new) == "decode"
    if op.chunk or op.cross or op.stride > 1 or op.top_k is not None:
        return attention_axes(
            sequences, op.new if not decode else 0.0, keys, op.heads, op.kv_heads, op.key_dim, decode=decode
        )
    return attention_axes(sequences, op.new, op.cached, op.heads, op.kv_heads, op.key_dim, op.window, decode=decode)


def _grouped_sizes(op: GroupedGemm) -> tuple[Any, ...]:
    return moe_axes(
        op.tokens,
        op.hidden,
        op.intermediate,
        op.num_experts,
        tensor_parallel=op.tensor_parallel,
        expert_parallel=op.expert_parallel,
    )


SIZES: dict[type[Op], Callable[[Any], tuple[Any, ...]]] = {
    Gemm: lambda op: (op.m, op.n, op.k), GroupedGemm: _grouped_sizes, Attention: _attention_sizes,
    Scan: lambda op: scan_axes(op.sequences, op.new, op.heads), Collective: lambda op: (op.payload, float(op.devices)),
}  # fmt: skip
"""Where an op lies on the axes of its kind's measurements."""
