"""How a model is placed on devices: parallelism, number formats, engine and its knobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from infersim.errors import SpecError
from infersim.specs.model import Attention, LatentAttention, ModelSpec
from infersim.specs.quantity import Bytes, Seconds, Spec

Degree = Annotated[int, Field(ge=1, le=65536)]


class Parallelism(Spec):
    """Degrees of parallelism of one replica, and the number of replicas.

    ``tensor`` splits every matrix and every head; ``pipeline`` splits the layers; ``attention_data`` gives each group of
    ``tensor`` ranks its own sequences for attention while the experts stay shared; ``expert`` deals whole experts out to
    that many groups (of the tensor x attention_data ranks); ``context`` splits the tokens of one sequence; ``replicas``
    are independent copies behind a router.

    >>> Parallelism(tensor=2, attention_data=4, expert=8).devices
    8
    """

    tensor: Degree = 1
    pipeline: Degree = 1
    attention_data: Degree = 1
    expert: Degree = 1
    context: Degree = 1
    replicas: Degree = 1

    @model_validator(mode="after")
    def _experts_divide(self) -> Parallelism:
        if self.expert_ranks % self.expert:
            raise ValueError(
                f"expert {self.expert} does not divide the {self.expert_ranks} ranks (tensor x attention_data) that share the experts"
            )
        return self

    @property
    def expert_ranks(self) -> int:
        """Ranks that share one layer's experts."""
        return self.tensor * self.attention_data

    @property
    def expert_tensor(self) -> int:
        """Ranks that share one expert's matrices."""
        return self.expert_ranks // self.expert

    @property
    def devices_per_replica(self) -> int:
        return self.tensor * self.pipeline * self.attention_data * self.context

    @property
    def devices(self) -> int:
        return self.devices_per_replica * self.replicas

    def __str__(self) -> str:
        """As engines abbreviate it.

        >>> str(Parallelism(tensor=4, expert=4)), str(Parallelism())
        ('TP4 EP4', 'TP1')
        """
        parts = {"TP": self.tensor, "PP": self.pipeline, "ADP": self.attention_data, "EP": self.expert,
                 "CP": self.context, "DP": self.replicas}  # fmt: skip
        return " ".join(f"{name}{degree}" for name, degree in parts.items() if degree > 1) or "TP1"


class EngineKnobs(Spec):
    """Engine settings a user gave; what is left None takes the engine's default.

    >>> EngineKnobs(max_num_seqs=64).max_num_seqs
    64
    """

    max_num_seqs: Annotated[int, Field(ge=1, le=10**6)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=10**8)] | None = None
    max_model_len: Annotated[int, Field(ge=1, le=10**9)] | None = None
    block_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    num_gpu_blocks_override: Annotated[int, Field(ge=1)] | None = None
    enable_chunked_prefill: bool | None = None
    enable_prefix_caching: bool | None = None
    mixed_batches: bool | None = None
    """Prefill chunks and decodes share a step (SGLang: ``--enable-mixed-chunk``)."""
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    batching: Literal["continuous", "dynamic", "static"] = "continuous"
    """static: a batch starts when it is full and runs to its end; dynamic: also once its oldest request has waited
    ``batch_delay``; continuous: requests join and leave at every step."""
    batch_delay: Seconds = 0.1
    """How long the oldest request waits for a dynamic batch to fill."""
    preemption_mode: Literal["recompute", "swap"] = "recompute"
    """What a preempted request's cache becomes: computed again, or copied to host memory and back."""
    swap_space: Bytes = 4 * 2.0**30
    """Host memory per device for swapped caches; where it is full, requests are recomputed."""
    output_reserve: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the output booked at admission; 0 is TensorRT-LLM's MAX_UTILIZATION, 1 its GUARANTEED_NO_EVICT."""
    enforce_eager: bool = False
    batch_wait_timeout_iters: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """TensorRT-LLM: decode steps for which prompts may be held back so that more of them are batched ..."""
    batch_wait_max_tokens_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """... unless those that wait fill this share of ``max_num_batched_tokens`` with the decodes; None: all of it."""
    attention_dp_timeout_iters: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """TensorRT-LLM with attention data parallelism and ``enable_balance``: decode steps for which prompts may be held back until
    every rank has one."""
    scheduler_recv_interval: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """SGLang: steps between two looks for new requests."""

    @property
    def held_steps(self) -> float:
        """Decode steps that a prompt waits on average before the scheduler takes it up.

        >>> EngineKnobs(scheduler_recv_interval=30).held_steps
        15.0
        """
        return float(self.batch_wait_timeout_iters or 0) + 0.5 * float((self.scheduler_recv_interval or 1) > 1) * (
            self.scheduler_recv_interval or 1
        )


def check_parallelism(model: ModelSpec, parallelism: Parallelism) -> None:
    """SpecError where a model cannot be cut that way: heads, layers or experts that do not divide."""
    t = parallelism.tensor
    for name, mixer in model.mixers.items():
        heads = getattr(mixer, "num_heads", None) or getattr(mixer, "num_value_heads", None)
        if heads and heads % t:
            raise SpecError(
                f"{model.name} has {heads} heads in {name!r}, which {t} tensor-parallel ranks cannot share; "
                f"use {_divisors(heads)}",
                field="tensor_parallel",
            )
        if isinstance(mixer, Attention) and max(mixer.num_kv_heads, t) % min(mixer.num_kv_heads, t):
            raise SpecError(
                f"{model.name} has {mixer.num_kv_heads} KV heads in {name!r}, which {t} tensor-parallel ranks can "
                f"neither share nor replicate evenly; use {_divisors(heads or 1)}",
                field="tensor_parallel",
            )
    if parallelism.pipeline > model.num_layers:
        raise SpecError(
            f"{model.name} has {model.num_layers} layers, fewer than {parallelism.pipeline} pipeline stages",
            field="pipeline_parallel",
        )
    experts = [ff.num_experts for ff in model.feed_forwards.values() if ff.kind == "moe"]
    if parallelism.expert > 1 and not experts:
        raise SpecError(f"{model.name} has no experts to spread", field="expert_parallel")
    for number in experts:
        if number < parallelism.expert:
            raise SpecError(
                f"{model.name} has {number} experts, fewer than {parallelism.expert} expert-parallel groups",
                field="expert_parallel",
            )
    if parallelism.context > 1 and any(not isinstance(m, (Attention, LatentAttention)) for m in model.mixers.values()):
        raise SpecError(
            f"{model.name} has recurrent layers, which context parallelism cannot split", field="context_parallel"
        )


def _divisors(number: int) -> str:
    divisors: list[Any] = [d for d in range(1, min(number, 129)) if number % d == 0]
    return ", ".join(map(str, divisors[:-1])) + f" or {divisors[-1]}" if len(divisors) > 1 else "1"
