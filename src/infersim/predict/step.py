"""The meeting point: ops of one step and a machine become the time of that step, op by op."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from infersim import units
from infersim.machine.calibration import DATA_SHEET, Fitted
from infersim.machine.machine import Machine
from infersim.machine.network import least_time
from infersim.mechanisms import ABSORBED_NEW_TOKENS
from infersim.ops.attention import Attention, Scan
from infersim.ops.base import MatrixOp, Numbers, Op
from infersim.ops.memory import Collective, HostCopy
from infersim.ops.sampling import Sampler
from infersim.ops.transformer import Batch, step_ops
from infersim.specs.deployment import Parallelism
from infersim.specs.hardware import MatrixUnit
from infersim.specs.model import ModelSpec
from infersim.specs.precision import Precision, matrix_unit

Array = npt.NDArray[np.float64]
Bound = Literal["compute", "memory", "network", "launch", "host"]
SPREAD_PER_OCTAVE = 0.1
"""Log spread that a kernel model gains, in quadrature, per doubling outside the sizes it was fitted on:
assumed, the growth has not been measured."""
LINKED = (Collective, HostCopy)
"""Ops whose work crosses links."""
BOUNDS: tuple[Bound, ...] = ("compute", "memory", "network", "launch", "host")


@dataclass(frozen=True)
class OpTime:
    """All repetitions of one op in a step: seconds, work, what bounds it, and what the figure rests on."""

    name: str
    count: float
    seconds: Numbers
    flops: Numbers
    bytes: Numbers
    link_bytes: Numbers
    bound: Bound
    source: str
    compute_floor: Numbers = 0.0
    """Least time on the matrix or vector unit [s]."""
    memory_floor: Numbers = 0.0
    """Least time at the bandwidth of the device's memory [s]."""

    @property
    def intensity(self) -> Numbers:
        """FLOP per byte of device memory."""
        return np.asarray(self.flops) / np.maximum(self.bytes, 1e-30)


@dataclass(frozen=True)
class StepTime:
    """Time of one engine step on one device, as a sum of parts.

    The arrays have one row per op and, behind it, the shape of the batch. ``kernels`` + ``gaps`` is device time, unless the
    mode is bound, where communication overlaps with computing and the longer of the two counts.
    """

    ops: tuple[Op, ...]
    seconds_each: Array
    flops: Array
    bytes: Array
    link_bytes: Array
    compute_floor: Array
    """Least time on the matrix or vector unit, all repetitions [s]."""
    memory_floor: Array
    network_floor: Array
    basis: tuple[Fitted, ...]
    """The kernel parameters that each op's time rests on."""
    gaps: Numbers
    """Idle device time between kernels [s]."""
    host: Numbers
    """Host time that the device does not hide [s]."""
    mode: str

    @property
    def sources(self) -> tuple[str, ...]:
        """What each op's time rests on, in words."""
        return tuple(fitted.source for fitted in self.basis)

    @property
    def counts(self) -> Array:
        return np.array([op.count for op in self.ops])

    @functools.cached_property
    def op_seconds(self) -> Array:
        """Seconds of every op, repetitions included."""
        return _per_op(self.counts, self.seconds_each) * self.seconds_each

    @property
    def is_network(self) -> npt.NDArray[np.bool_]:
        return np.array([isinstance(op, LINKED) for op in self.ops])

    @property
    def network_seconds(self) -> Numbers:
        return self.op_seconds[self.is_network].sum(axis=0)

    @property
    def kernel_seconds(self) -> Numbers:
        return self.op_seconds[~self.is_network].sum(axis=0)

    @property
    def device_seconds(self) -> Numbers:
        """Kernels, communication and gaps."""
        if self.mode == "bound":
            return np.maximum(self.kernel_seconds, self.network_seconds)
        return self.op_seconds.sum(axis=0) + self.gaps

    @property
    def seconds(self) -> Numbers:
        """The whole step."""
        return self.device_seconds + self.host

    @property
    def mfu(self) -> Numbers:
        """Share of the step in which a perfect matrix unit would have done the arithmetic."""
        return self.compute_floor.sum(axis=0) / self.seconds

    @property
    def mbu(self) -> Numbers:
        """Share of the step in which a perfect memory would have moved the bytes."""
        return self.memory_floor.sum(axis=0) / self.seconds

    def bound_of(self, index: int) -> Bound:
        """What limits an op: its largest floor, or the launch where all floors are small beside its time."""
        floors = [float(np.mean(floor[index])) for floor in (self.compute_floor, self.memory_floor, self.network_floor)]
        largest = max(range(3), key=floors.__getitem__)
        if self.mode != "bound" and floors[largest] * 3 < float(np.mean(self.op_seconds[index])):
            return "launch" if not self.is_network[index] else "network"
        return BOUNDS[largest]

    def parts(self) -> list[OpTime]:
        """One entry per op name, the longest first; gaps and host time are entries of their own."""
        merged: dict[str, list[int]] = defaultdict(list)
        for index, op in enumerate(self.ops):
            merged[op.label].append(index)
        seconds = self.op_seconds
        found = []
        for name, rows in merged.items():
            longest = max(rows, key=lambda row: float(np.mean(seconds[row])))
            found.append(
                OpTime(
                    name, sum(self.ops[row].count for row in rows),
                    seconds[rows].sum(axis=0), self.flops[rows].sum(axis=0), self.bytes[rows].sum(axis=0),
                    self.link_bytes[rows].sum(axis=0), self.bound_of(longest), self.basis[longest].source,
                    self.compute_floor[rows].sum(axis=0), self.memory_floor[rows].sum(axis=0),
                )
            )  # fmt: skip
        zero = np.zeros_like(np.asarray(self.seconds))
        if np.any(np.asarray(self.gaps) > 0):
            found.append(OpTime("launch gaps", 1, self.gaps, zero, zero, zero, "launch", "engine spec"))
        if np.any(np.asarray(self.host) > 0):
            found.append(OpTime("host", 1, self.host, zero, zero, zero, "host", "engine spec"))
        return sorted(found, key=lambda part: -float(np.mean(part.seconds)))

    @functools.cached_property
    def octaves_outside(self) -> tuple[dict[str, Numbers], ...]:
        """For each op and axis, how many doublings the op lies outside the sizes that its kernel model was fitted on."""
        if self.mode == "bound":
            return ({},) * len(self.ops)
        from infersim.predict.pricing import octaves_outside

        return tuple(octaves_outside(op, fitted) for op, fitted in zip(self.ops, self.basis, strict=True))

    @functools.cached_property
    def spreads(self) -> tuple[Numbers, ...]:
        """Standard deviation of the log error of each op's kernel model, wider outside the sizes it was fitted on."""
        return tuple(
            np.hypot(fitted.spread, SPREAD_PER_OCTAVE * sum(outside.values()))
            for fitted, outside in zip(self.basis, self.octaves_outside, strict=True)
        )

    @property
    def extrapolated_share(self) -> float:
        """Share of the step's time in ops outside the sizes that their kernel models were fitted on."""
        far = [
            row for row, outside in enumerate(self.octaves_outside) if any(np.max(o) > 0.01 for o in outside.values())
        ]
        return float(np.mean(self.op_seconds[far].sum(axis=0) / self.seconds)) if far else 0.0

    def extrapolations(self) -> list[str]:
        """Which ops lie outside the sizes that their kernel models were fitted on, and how far, in words.

        >>> from infersim import estimate
        >>> estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=8).decode_step.extrapolations()
        ['lm_head: 1.0 doublings outside the measured n']
        """
        found = []
        for op, outside in zip(self.ops, self.octaves_outside, strict=True):
            far = {axis: float(np.max(octaves)) for axis, octaves in outside.items() if np.max(octaves) > 0.01}
            found += [
                f"{op.label}: {octaves:.1f} doublings outside the measured {axis}" for axis, octaves in far.items()
            ]
        return list(dict.fromkeys(found))

    @property
    def log_spread(self) -> Numbers:
        """Standard deviation of the step's log error.

        Ops of one kind share their kernel's error, different kinds are independent: sqrt(sum over kinds of (sum of
        seconds x spread)^2) / seconds. Gaps and host time count as a kind with a spread of one half.
        """
        by_kind: dict[str, Any] = defaultdict(float)
        for row, op in enumerate(self.ops):
            by_kind[type(op).__name__] = by_kind[type(op).__name__] + self.op_seconds[row] * self.spreads[row]
        by_kind["overhead"] = 0.5 * (np.asarray(self.gaps) + self.host)
        return np.sqrt(sum(np.square(value) for value in by_kind.values())) / np.maximum(self.seconds, 1e-30)

    def __str__(self) -> str:
        total = float(np.mean(self.seconds))
        lines = [f"{'step':<24} {units.show(total, 's'):>10}   100%"]
        for part in self.parts():
            seconds = float(np.mean(part.seconds))
            lines.append(f"{part.name:<24} {units.show(seconds, 's'):>10} {seconds / total:>6.1%}  {part.bound}")
        return "\n".join(lines)


def _per_op(values: Array, like: Array) -> Array:
    return values.reshape((-1,) + (1,) * (like.ndim - 1))


def predict_step(
    model: ModelSpec,
    parallelism: Parallelism,
    precision: Precision,
    batch: Batch,
    machine: Machine,
    *,
    sampler: Sampler = "greedy",
    eager: bool = False,
) -> StepTime:
    """Time of one step of ``batch`` on every device of a replica, with its breakdown.

    Counts and lengths in the batch may be arrays: then every figure is an array of that shape. The step passes through all
    pipeline stages; with several micro-batches in flight a stage's device is free again after its share.

    >>> from infersim import decode, load_model, precision
    >>> from infersim.machine.machine import build_machine
    >>> from infersim.specs.library import load_accelerator, load_engine
    >>> h100 = build_machine(load_accelerator("H100-SXM"), None, load_engine("vllm"), "bound")
    >>> step = predict_step(load_model("meta-llama/Llama-3.1-8B"), Parallelism(), precision("bf16"), decode(1.0, 2047.0), h100)
    >>> round(float(step.seconds) * 1e3, 2), step.parts()[0].name, step.parts()[0].bound
    (4.56, 'gate_up_proj', 'memory')
    """
    sequences = sum(group.count for group in batch)
    ops = step_ops(model, parallelism, precision, batch, sampler=sampler)
    return price(ops, machine, sequences, eager=eager, submission=prompt_submission(model, machine, batch))


def prompt_submission(model: ModelSpec, machine: Machine, batch: Batch) -> Numbers:
    """Host time for which the device waits because a step carries prompts and so is not replayed from a captured graph [s].

    Prompts are sequences with more new tokens than decoding or the verification of drafts brings.
    """
    each = submission_seconds(model, machine)
    if not each or machine.mode == "bound":
        return 0.0
    carried = sum(group.count * (group.new > ABSORBED_NEW_TOKENS) for group in batch)
    tokens = sum(group.count * group.new for group in batch)
    return each * ((carried > 0) & (tokens > machine.engine.captured_tokens))


def submission_seconds(model: ModelSpec, machine: Machine) -> float:
    """Host time to submit one step with prompts, layer by layer [s]."""
    host = machine.engine.host
    return host.prompt_layer * model.num_layers + host.prompt_expert_layer * model.num_expert_layers


def price(
    ops: Sequence[Op], machine: Machine, sequences: Numbers = 1.0, *, eager: bool = False, submission: Numbers = 0.0
) -> StepTime:
    """The time of each op on the machine, and of the step they make; ``submission``: host time that the device waits for."""
    if machine.mode != "bound":
        from infersim.predict.pricing import as_engine_runs, kernel_seconds

        ops = as_engine_runs(ops, machine)
    unit_of = [_unit(op, machine) for op in ops]
    linked = [(row, op) for row, op in enumerate(ops) if isinstance(op, LINKED)]
    work, moved, sent = [op.flops for op in ops], [op.bytes for op in ops], [op.link_bytes for _, op in linked]
    # no op's FLOP have a shape that its bytes do not have
    shape = np.broadcast_shapes(*{value.shape for value in (*moved, *sent) if isinstance(value, np.ndarray)})
    flops, memory, link = _rows(work, shape), _rows(moved, shape), np.zeros((len(ops), *shape))
    unit_peaks, vector_peak = machine.accelerator.peak_flops, machine.vector_flops
    peaks = np.array([unit_peaks[unit] if unit else vector_peak for unit in unit_of])
    compute_floor = flops / _per_op(peaks, flops)
    memory_floor = memory / machine.accelerator.memory.bandwidth
    network_floor = np.zeros_like(memory_floor)
    for (row, op), crossing in zip(linked, sent, strict=True):
        link[row] = crossing
        if isinstance(op, Collective):
            network_floor[row] = least_time(op.kind, op.payload, machine.fabric.path(op.devices, op.stride))
        else:
            network_floor[row] = op.payload / machine.host_bandwidth
    counts = _per_op(np.array([op.count for op in ops]), flops)
    certain = memory_floor.copy()
    certain[[row for row, op in enumerate(ops) if getattr(op, "fusible", False)]] = 0.0  # may still be in a cache
    floors = np.maximum(np.maximum(compute_floor, certain), network_floor)
    if machine.mode == "bound":
        memory_floor = certain
        seconds, basis = floors, [DATA_SHEET] * len(ops)
        gaps, host = np.zeros(flops.shape[1:]), np.zeros(flops.shape[1:])
    else:
        seconds, basis = kernel_seconds(ops, unit_of, machine, flops.shape)
        seconds = np.maximum(seconds, floors)
        gaps, host = _overheads(ops, counts * seconds, machine, sequences, eager)
        host = host + submission
    return StepTime(
        tuple(ops), seconds, counts * flops, counts * memory, counts * link, counts * compute_floor, counts * memory_floor,
        counts * network_floor, tuple(basis), gaps, host, machine.mode,
    )  # fmt: skip


def _rows(values: list[Any], shape: tuple[int, ...]) -> Array:
    """One row per op, each broadcast to the shape of the batch."""
    if not shape:
        return np.array(values, dtype=float)
    rows = np.empty((len(values), *shape))
    for row, value in enumerate(values):
        rows[row] = value
    return rows


def _unit(op: Op, machine: Machine) -> MatrixUnit | None:
    """The matrix unit an op runs on; None for what the vector units do."""
    if isinstance(op, MatrixOp):
        return matrix_unit(op.weights, op.activations, machine.accelerator)
    if isinstance(op, (Attention, Scan)):
        single = isinstance(op, Attention) and op.query_bytes >= 4
        units: tuple[MatrixUnit, ...] = ("bf16", "fp16", "fp32")
        for unit in reversed(units) if single else units:
            if unit in machine.accelerator.peak_flops:
                return unit
    return None


def _overheads(
    ops: Sequence[Op], op_seconds: Array, machine: Machine, sequences: Numbers, eager: bool
) -> tuple[Any, Any]:
    """Launch gaps, and host time that shows: hidden behind the device where the engine overlaps the two."""
    engine, host = machine.engine, machine.engine.host
    kernels = sum(op.count * getattr(op, "kernels", 1) for op in ops)
    device = op_seconds.sum(axis=0)
    captured = not eager and machine.accelerator.kind == "gpu"
    gaps = kernels * engine.launch_gap if captured else np.maximum(kernels * engine.eager_launch - device, 0.0)
    work = host.step + host.sequence * sequences
    shown = host.sync + host.sync_sequence * sequences
    shown = shown + (np.maximum(work - device - gaps, 0.0) if host.overlap else work)
    return np.full(device.shape, gaps), np.full(device.shape, shown)
