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
    ``token`` per prompt token in it.
    """

    step: Seconds
    sequence: Seconds
    sync: Seconds
    sync_sequence: Seconds
    overlap: bool
    request: Seconds
    token: Seconds


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


class EngineSpec(Spec):
    """Defaults of one engine (and version, where they changed)."""

    name: str
    version: str
    aliases: tuple[str, ...] = ()
    block_size: Annotated[int, Field(ge=1)]
    max_num_seqs: Annotated[int, Field(ge=1)]
    max_num_batched_tokens: Annotated[int, Field(ge=1)]
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)]
    enable_chunked_prefill: bool
    mixed_batches: bool
    """Prefill chunks and decodes share a step; otherwise a prefill step runs alone and decodes wait."""
    enable_prefix_caching: bool
    launch_gap: Seconds
    """Idle time between two kernels under captured graphs."""
    eager_launch: Seconds
    """Host time to submit one kernel without captured graphs."""
    sampling_passes: Annotated[float, Field(gt=0)]
    """Passes over the fp32 logits that default sampling takes."""
    host: HostOverhead
    memory: EngineMemory
    expert_kernels: tuple[ExpertKernels, ...] = ()
    sources: tuple[Source, ...]
