"""An inference engine as data: the defaults of its knobs, how it shares memory, and what a step costs on the host.

Knobs carry vLLM's names; ``flags`` of other engines that mean the same are listed in the spec files.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infersim.specs.quantity import Bytes, Seconds, Source, Spec


class HostOverhead(Spec):
    """Host work of one step and one request.

    A step costs ``step`` + ``sequence`` x running sequences on the host; with ``overlap`` the host prepares the next step while
    the device runs this one, so only what is longer than the device's time shows, plus ``sync`` + ``sync_sequence`` x running
    sequences, which always show. ``request`` is paid once per request before its first token (HTTP, tokenising, scheduling),
    ``token`` per prompt token in it. A step that carries prompts is not replayed from a captured graph: its kernels are submitted
    one by one while the device waits, ``prompt_layer`` for each layer and ``prompt_expert_layer`` more where that has experts.
    """

    step: Seconds
    sequence: Seconds
    sync: Seconds
    sync_sequence: Seconds
    overlap: bool
    request: Seconds
    token: Seconds
    prompt_layer: Seconds = 0.0
    prompt_expert_layer: Seconds = 0.0


class EngineMemory(Spec):
    """How an engine divides device memory, and what it needs beside weights and KV cache.

    ``rule`` total: budget = ``gpu_memory_utilization`` x device memory, KV gets what weights, activations and runtime
    leave; static: KV gets that fraction less the weights; free: KV gets that fraction of what is free after loading.
    """

    rule: Literal["total", "static", "free"]
    runtime: Bytes
    """Context, libraries, allocator: per device."""
    communication: Bytes
    """Buffers of the collectives where there is more than one device."""
    cuda_graphs: Bytes
    cuda_graphs_in_budget: bool
    logits_bytes: Annotated[float, Field(gt=0)]
    """Bytes per (sequence x vocabulary entry) at the sampling peak."""
    residual_copies: Annotated[float, Field(ge=0)]
    """Copies of the (tokens x hidden) activations alive at the peak."""


class ExpertKernels(Spec):
    """Which kernels an engine runs routed experts with, where the format of the checkpoint does not tell.

    Holds for experts of ``weights`` and ``activations`` (as the checkpoint has them) on devices of ``architectures``.
    """

    weights: str
    activations: str
    architectures: tuple[str, ...]
    quantised_to: str | None = None
    """The kernels quantise the activations to this format."""
    measured_under: str | None = None
    """The engine whose measurements hold the kernels, where this one's hold others."""
    or_faster: str | None = None
    """A second kernel family that a tuned server takes where it is faster."""


class DeviceDefaults(Spec):
    """Defaults that differ on some devices: those whose name has one of ``names`` in it, with so much memory.

    >>> DeviceDefaults(memory_below="70 GiB", max_num_seqs=256).holds("L40S", 48e9)
    True
    """

    names: tuple[str, ...] = ()
    memory_below: Bytes | None = None
    memory_from: Bytes | None = None
    max_num_seqs: Annotated[int, Field(ge=1)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=1)] | None = None

    def holds(self, name: str, memory: float) -> bool:
        """Whether a device of this name and memory [B] is one of them."""
        named = not self.names or any(word in name for word in self.names)
        return named and (self.memory_from or 0.0) <= memory < (self.memory_below or float("inf"))


class Scheduling(Spec):
    """How an engine decides who runs next; with the knobs of EngineSpec this is all the serving simulator knows of it.

    A waiting request is admitted where a slot, the token budget of the step and the KV blocks of its whole prompt are free,
    and where the booked blocks of all running requests fit the pool: prompt + ``output_reserve`` x output each. At 1 nothing is
    ever preempted; at 0 requests grow until the pool is full, and the last one admitted is then preempted.
    """

    output_reserve: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of a request's output that is booked at admission."""
    headroom_steps: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Decode steps for which blocks must be free at admission, and are made free by a preemption."""
    watermark: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the blocks that admission leaves free while anything runs."""
    waiting_served_ratio: Annotated[float, Field(ge=0)] = 0.0
    """Prefill interrupts the decodes only once waiting requests are this share of the running ones ..."""
    max_waiting_tokens: Annotated[int, Field(ge=0)] = 0
    """... or after this many decode steps with one waiting."""


class EngineSpec(Spec):
    """Defaults of one engine (and version, where they changed)."""

    name: str
    version: str
    aliases: tuple[str, ...] = ()
    block_size: Annotated[int, Field(ge=1)]
    max_num_seqs: Annotated[int, Field(ge=1)]
    max_num_batched_tokens: Annotated[int, Field(ge=1)]
    device_defaults: tuple[DeviceDefaults, ...] = ()
    """The first that holds and states a value stands before the general one."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)]
    enable_chunked_prefill: bool
    mixed_batches: bool
    """Prefill chunks and decodes share a step; otherwise a prefill step runs alone and decodes wait."""
    enable_prefix_caching: bool
    scheduling: Scheduling = Scheduling()
    launch_gap: Seconds
    """Idle time between two kernels under captured graphs."""
    captured_tokens: Annotated[int, Field(ge=0)] = 0
    """Steps with prompts and at most this many tokens in all are replayed from captured graphs too."""
    eager_launch: Seconds
    """Host time to submit one kernel without captured graphs."""
    sampling_passes: Annotated[float, Field(gt=0)]
    """Passes over the fp32 logits that default sampling takes."""
    host: HostOverhead
    memory: EngineMemory
    expert_kernels: tuple[ExpertKernels, ...] = ()
    sources: tuple[Source, ...]

    def default(self, knob: Literal["max_num_seqs", "max_num_batched_tokens"], device: str, memory: float) -> int:
        """What the engine takes for a knob on a device with so much memory [B]."""
        for rule in self.device_defaults:
            value: int | None = getattr(rule, knob)
            if value is not None and rule.holds(device, memory):
                return value
        general: int = getattr(self, knob)
        return general
