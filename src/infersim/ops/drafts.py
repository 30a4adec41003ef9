"""The ops of a step that drafts tokens and verifies them: the target model over whole drafts, the drafter's passes behind it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from infersim.ops.base import Op
from infersim.ops.matmul import Gemm
from infersim.ops.sampling import Sampler
from infersim.ops.transformer import Batch, Group, step_ops
from infersim.specs.deployment import Parallelism
from infersim.specs.model import ModelSpec
from infersim.specs.precision import Precision
from infersim.specs.speculation import Speculation


@dataclass(frozen=True)
class Drafter:
    """What drafts for a target model: its own model or a head, ready to be counted. ``predict.speculation`` makes it."""

    speculation: Speculation
    reached: tuple[float, ...]
    """Probability that at least 1, 2, ... drafts are accepted."""
    model: ModelSpec | None = None
    """The draft model or head; None where nothing runs on the device (n-grams)."""
    precision: Precision | None = None
    fused_states: int = 0
    """Hidden states side by side that a head's first product takes in."""
    shares_embedding: bool = False
    shares_lm_head: bool = False
    """Whose weights are the target's own."""
    sources: tuple[str, ...] = ()
    """What acceptance rests on, and what was assumed."""

    @property
    def is_head(self) -> bool:
        """A head reads the target's hidden states of every token that was verified; a draft model knows those it drafted."""
        return self.fused_states > 0

    @property
    def first_tokens(self) -> int:
        """Tokens of a sequence in the drafter's first pass after a verification."""
        return self.speculation.verified if self.is_head else 1

    @property
    def later_passes(self) -> dict[int, int]:
        """Tokens of a sequence -> number of passes after the first that take so many: the widths of a tree, 1 in a chain."""
        widths = self.speculation.tree or (1,) * self.speculation.depth
        return dict(Counter(widths[:-1]))

    def always(self) -> Drafter:
        """The same without a batch at which it rests."""
        return replace(self, speculation=self.speculation.model_copy(update={"disable_by_batch_size": None}))

    def placed(self, parallelism: Parallelism) -> Parallelism:
        """How the drafter is cut: as the target, or its own degree of tensor parallelism."""
        tensor = self.speculation.draft_tensor_parallel_size
        return parallelism if tensor is None else Parallelism(tensor=tensor, attention_data=parallelism.attention_data)

    def pass_ops(self, parallelism: Parallelism, batch: Batch) -> list[Op]:
        """One pass of the drafter. Tokens are drawn greedily; the head's first product stays whole on every rank.

        Not counted: handing hidden states and drafts over, and preparing the next pass on the host.
        """
        assert self.model is not None
        assert self.precision is not None
        placed = self.placed(parallelism)
        ops = step_ops(self.model, placed, self.precision, batch)
        if self.is_head:
            weights, activations = self.precision.of("attention")
            tokens = sum(np.asarray(group.count) * group.new for group in batch) / placed.attention_data
            width = float(self.model.hidden_size)
            ops.insert(0, Gemm("fusion_proj", 1.0, weights, activations, tokens, width, self.fused_states * width))
        return [replace(op, part="draft") for op in ops]


def verified(decodes: Group, drafter: Drafter) -> Group:
    """Decoding sequences with a draft each: all its tokens and the one before it are computed, and all get logits.

    >>> config = Speculation(method="ngram", num_speculative_tokens=4, acceptance=0.8)
    >>> verified(Group(8, 1, 2048), Drafter(config, config.reached)).new
    5.0
    """
    tokens = float(drafter.speculation.verified)
    return replace(decodes, new=tokens, sampled=tokens)


def drafted_step_ops(
    model: ModelSpec,
    parallelism: Parallelism,
    precision: Precision,
    decodes: Group | None,
    drafter: Drafter,
    *,
    prompts: Batch = (),
    sampler: Sampler = "greedy",
) -> list[Op]:
    """The ops of a step that verifies a draft of every decoding sequence, prompts beside it, and drafts anew for all.

    The drafter's first pass takes in what the target has just computed; each later one adds a level of the draft. Rejection
    sampling is the sampling of all verified tokens; draft probabilities kept for it are not counted.
    """
    alone = () if decodes is None else (decodes,)
    batch = (*prompts, *(verified(group, drafter) for group in alone))
    ops = step_ops(model, parallelism, precision, batch, sampler=sampler)
    if drafter.model is None:
        return ops
    first = (replace(group, new=float(drafter.first_tokens)) for group in alone)
    ops += drafter.pass_ops(parallelism, (*prompts, *first))
    for tokens, passes in drafter.later_passes.items():
        later = tuple(
            Group(group.count, float(tokens), np.asarray(group.cached) + group.new, float(tokens))
            for group in (*prompts, *alone)
        )
        ops += [replace(op, count=op.count * passes) for op in drafter.pass_ops(parallelism, later)]
    return ops
