"""What a scheduler needs to know of a deployment: an engine's scheduling data, the user's knobs and the KV pool, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from infersim.errors import SpecError
from infersim.machine.machine import Machine
from infersim.predict.memory import MemoryReport
from infersim.specs.deployment import EngineKnobs
from infersim.specs.engine import EngineSpec
from infersim.specs.speculation import Speculation

SHARES = 1024
"""Parts of a token in which progress under drafts is counted, so that sums stay whole numbers."""


@dataclass(frozen=True)
class Policy:
    """One scheduler's parameters. Lengths in tokens, memory in blocks, times in seconds."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int
    num_blocks: int
    """Blocks of the KV pool of one replica."""
    chunked: bool = True
    """A prompt may be cut where the token budget of a step ends."""
    mixed: bool = True
    """Prompts and decodes share a step; otherwise prompts go first, in steps of their own."""
    output_reserve: float = 0.0
    headroom_steps: int = 0
    watermark_blocks: int = 0
    prefix_caching: bool = False
    priority: bool = False
    waiting_served_ratio: float = 0.0
    max_waiting_tokens: int = 0
    hold_steps: int = 0
    """Decode steps for which prompts may be held back beside running decodes ..."""
    hold_tokens: int = 0
    """... unless they and the decodes come to so many tokens ..."""
    hold_prompts: int = 2**60
    """... or there are so many of them: one for each rank of attention data parallelism."""
    poll_steps: int = 1
    """Decode steps between two looks for new requests; a step with prompts and an idle engine look at once."""
    host_blocks: int = 0
    """Blocks of host memory that take the cache of preempted requests; 0: they are recomputed."""
    swap_seconds: float = 0.0
    """To copy a block between device and host."""
    static: bool = False
    """A batch starts full (or after ``batch_delay``) and takes nobody in until it has ended."""
    batch_delay: float = math.inf
    state_blocks: float = 0.0
    """Blocks' worth of memory that every sequence takes whatever its length: recurrent states."""
    windows: tuple[tuple[float, float], ...] = ()
    """(blocks' worth per token, tokens at most) of layers that keep a window only."""
    draft_tokens: int = 0
    """Drafts of a sequence that a step verifies beside its next token; each takes a token of the step's budget."""
    drafting_below: float = math.inf
    """Steps with so many decoding sequences or more run plainly."""

    def __post_init__(self) -> None:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise SpecError(
                f"max_num_batched_tokens {self.max_num_batched_tokens} is below max_num_seqs {self.max_num_seqs}: every "
                "running sequence needs a token of the step's budget",
                field="max_num_batched_tokens",
            )
        drafting = min(self.max_num_seqs, self.drafting_below - 1)
        if self.draft_tokens and self.max_num_batched_tokens < drafting * (1 + self.draft_tokens):
            raise SpecError(
                f"max_num_batched_tokens {self.max_num_batched_tokens} is below {drafting:.0f} drafting sequences x "
                f"{1 + self.draft_tokens} tokens; lower max_num_seqs or disable_by_batch_size",
                field="max_num_batched_tokens",
            )
        if self.num_blocks < 1:
            raise SpecError("the KV pool holds no block", field="num_gpu_blocks_override")

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many cached tokens."""
        return -(-tokens // self.block_size)

    def drafting_blocks(self, context: int, sequences: int) -> int:
        """Blocks that hold ``sequences`` decoding ones with drafts, of ``context`` / SHARES tokens in all: the least that is
        enough however the tokens are spread, room for the drafts of the next step included.

        >>> Policy(8, 64, 16, 100, draft_tokens=3).drafting_blocks((13 + 14) * SHARES, 2)  # 17 and 18 with drafts
        4
        """
        whole = SHARES * self.block_size
        return (context + sequences * ((1 + self.draft_tokens) * SHARES + whole - 1)) // whole

    def fixed_blocks(self, tokens: int) -> int:
        """Blocks' worth of memory beside the growing cache, for a sequence of ``tokens`` at its end."""
        windows = sum(rate * min(tokens, most) for rate, most in self.windows)
        return math.ceil(self.state_blocks + windows - 1e-9)

    def booked_blocks(self, prompt: int, output: int) -> int:
        """Blocks that admission books: the prompt and ``output_reserve`` of the cached output (its last token never is)."""
        tokens = prompt + math.ceil(self.output_reserve * max(output - 1, 0))
        return self.drafting_blocks(tokens * SHARES, 1) + 1 if self.draft_tokens else self.blocks(tokens)

    def fits(self, prompt: int, output: int) -> bool:
        """Whether a request of this size can ever run."""
        most = self.blocks(prompt + output - 1)
        if self.draft_tokens:
            most = self.drafting_blocks((prompt + output - 1) * SHARES, 1) + 1
        return most + self.fixed_blocks(prompt + output) <= self.num_blocks


def policy_of(
    engine: EngineSpec,
    knobs: EngineKnobs,
    machine: Machine,
    memory: MemoryReport,
    pipeline: int = 1,
    speculation: Speculation | None = None,
) -> Policy:
    """The scheduler of one replica. With ``pipeline`` stages every micro-batch in flight has a budget of its own.

    With attention data parallelism the ranks' slots, budgets and pools are taken together, as if a router kept them even.
    Where no layer's cache grows the pool limits the number of sequences instead.
    """
    ranks, rates = memory.attention_ranks, memory.rates
    block_size = memory.block_size
    slots = (knobs.max_num_seqs or machine.max_num_seqs) * ranks
    budget = (knobs.max_num_batched_tokens or machine.max_num_batched_tokens) * ranks * pipeline
    state = rates.per_sequence + (sum(rate * most for rate, most in rates.windows) if rates.per_token == 0 else 0.0)
    windows: tuple[tuple[float, float], ...] = ()
    if rates.per_token == 0:
        slots = min(slots, int(ranks * memory.kv_pool // max(state, 1e-9)))
        blocks, state_blocks = 2**60, 0.0
    else:
        block_bytes = rates.per_token * block_size
        blocks = int(memory.kv_blocks)
        state_blocks = state / block_bytes
        windows = tuple((rate / block_bytes, most) for rate, most in rates.windows)
    if knobs.num_gpu_blocks_override is not None:
        blocks = knobs.num_gpu_blocks_override * ranks
    filled = 1.0 if knobs.batch_wait_max_tokens_ratio is None else knobs.batch_wait_max_tokens_ratio
    caching = engine.enable_prefix_caching if knobs.enable_prefix_caching is None else knobs.enable_prefix_caching
    chunked = engine.enable_chunked_prefill if knobs.enable_chunked_prefill is None else knobs.enable_chunked_prefill
    mixed = engine.mixed_batches if knobs.mixed_batches is None else knobs.mixed_batches
    rules, continuous = engine.scheduling, knobs.batching == "continuous"
    reserve = rules.output_reserve if knobs.output_reserve is None else knobs.output_reserve
    drafts, below = 0, math.inf
    if speculation is not None:
        drafts, below = speculation.num_speculative_tokens, (speculation.disable_by_batch_size or math.inf) * ranks
    if knobs.max_num_seqs is None:
        slots = min(slots, budget)
        if slots * (1 + drafts) > budget and below > slots:
            slots = budget // (1 + drafts)
    host_blocks, swap_seconds = 0, 0.0
    if knobs.preemption_mode == "swap" and rates.per_token:
        host_blocks = int(ranks * knobs.swap_space // (rates.per_token * block_size))
        swap_seconds = rates.per_token * block_size / machine.host_copy_bandwidth
    return Policy(
        max_num_seqs=max(slots, 1), max_num_batched_tokens=budget, block_size=block_size, num_blocks=blocks, chunked=chunked,
        mixed=mixed and continuous, output_reserve=reserve, headroom_steps=rules.headroom_steps,
        watermark_blocks=math.ceil(rules.watermark * blocks) if rules.watermark else 0,
        prefix_caching=caching and rates.per_token > 0, priority=knobs.scheduling_policy == "priority",
        hold_steps=(ranks > 1 and knobs.attention_dp_timeout_iters) or knobs.batch_wait_timeout_iters or 0,
        hold_prompts=ranks if ranks > 1 and knobs.attention_dp_timeout_iters else 2**60,
        hold_tokens=math.ceil(filled * budget),
        poll_steps=knobs.scheduler_recv_interval or 1, waiting_served_ratio=rules.waiting_served_ratio,
        max_waiting_tokens=rules.max_waiting_tokens, host_blocks=host_blocks, swap_seconds=swap_seconds,
        static=not continuous, batch_delay=knobs.batch_delay if knobs.batching == "dynamic" else math.inf,
        state_blocks=state_blocks, windows=windows, draft_tokens=drafts, drafting_below=below,
    )  # fmt: skip
