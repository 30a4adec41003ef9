"""Speculative decoding of one deployment: who drafts, what a step with drafts takes, and up to which batch it pays."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from infersim.acceptance import Array, break_even_batch, expected_tokens, speedup
from infersim.errors import SpecError, UnknownNameError, UnsupportedError
from infersim.machine.machine import Machine
from infersim.ops.drafts import Drafter, drafted_step_ops
from infersim.ops.sampling import Sampler
from infersim.ops.transformer import Batch, Group, decode
from infersim.predict.formats import resolve_precision
from infersim.predict.step import StepTime, predict_step, price, prompt_submission
from infersim.specs.deployment import Parallelism, check_parallelism
from infersim.specs.hardware import Accelerator
from infersim.specs.huggingface import load_model
from infersim.specs.model import Attention, LatentAttention, Layer, MixtureOfExperts, Mlp, ModelSpec
from infersim.specs.precision import Precision
from infersim.specs.speculation import Speculation

FUSED_STATES = {"eagle": 2, "eagle3": 3, "mtp": 2}
"""Vectors of the hidden size that a head's first product takes in: embedding and hidden state (EAGLE, arXiv:2401.15077;
DeepSeek-V3, arXiv:2412.19437), or hidden states of three layers (EAGLE-3, arXiv:2503.01840)."""


@functools.lru_cache(maxsize=256)
def resolve_drafter(
    model: ModelSpec, speculation: Speculation, formats: Precision, accelerator: Accelerator, parallelism: Parallelism
) -> Drafter:
    """The drafter of a target model that runs in ``formats``.

    A draft model runs in its checkpoint's formats, an MTP head in the target's, an EAGLE head in 16 bits; the KV cache has the
    target's. A head is made of ``draft_layers`` layers of the target: its attention, and for EAGLE a dense feed-forward.
    Raises UnsupportedError for deployments that engines do not draft for, SpecError where acceptance is not known.

    >>> from infersim import load_accelerator, load_model, precision
    >>> config = Speculation(method="mtp", num_speculative_tokens=1, acceptance=0.85)
    >>> drafter = resolve_drafter(load_model("deepseek-ai/DeepSeek-V3"), config, precision("fp8_block"),
    ...     load_accelerator("H200-SXM"), Parallelism(tensor=8))
    >>> round(drafter.model.layer_weights() / 1e9, 1)  # published: 11.5 B, less the first product
    11.5
    """
    if model.task != "generate" or any(tower.kind == "encoder" for tower in model.towers.values()):
        raise UnsupportedError(f"{model.name} is no decoder-only generating model; drafts are for those alone")
    for name in ("pipeline", "context"):
        if getattr(parallelism, name) > 1:
            raise UnsupportedError(
                f"speculative decoding is priced without {name} parallelism; use tensor, attention-data or expert parallelism"
            )
    table, sources = speculation.table, []
    if table is None:
        sources.append("acceptance: given by the user")
    else:
        refs = "; ".join(f"{source.ref} ({source.status})" for source in table.sources)
        sources.append(f"acceptance of {table.draft} on {table.task}, {table.measured}: {refs}")
    if speculation.method == "ngram":
        sources.append("n-gram lookup on the host: taken as free (vLLM pull request 13365 measured 2.5% of a run)")
        return Drafter(speculation, speculation.reached, sources=tuple(sources))
    placed = parallelism
    if speculation.method == "draft_model":
        assert speculation.model is not None
        draft = load_model(speculation.model)
        own = resolve_precision(draft, None, formats.kv_cache, accelerator)
        drafter = Drafter(speculation, speculation.reached, draft, own, sources=tuple(sources))
        placed = drafter.placed(parallelism)
        if placed.tensor not in (1, parallelism.tensor):
            raise SpecError(
                f"is 1 or the target's {parallelism.tensor}, got {placed.tensor}", field="draft_tensor_parallel_size"
            )
    else:
        drafter = _head(model, speculation, formats, sources)
    assert drafter.model is not None
    check_parallelism(drafter.model, placed)
    return drafter


def _head(model: ModelSpec, speculation: Speculation, formats: Precision, sources: list[str]) -> Drafter:
    """An EAGLE or MTP head, as described by its own spec or made of the target's layers."""
    method, given = speculation.method, None
    if speculation.model is not None:
        try:
            given = load_model(speculation.model)
        except UnknownNameError:
            sources.append(f"{speculation.model} is not at hand: its size is assumed")
    plain = formats if method == "mtp" else Precision(
        name=formats.compute, compute=formats.compute, weights=formats.compute, activations=formats.compute,
        kv_cache=formats.kv_cache,
    )  # fmt: skip
    if given is not None:
        if given.hidden_size != model.hidden_size:
            raise SpecError(
                f"{given.name} has hidden size {given.hidden_size}, its target {model.hidden_size}; a head reads the target's states",
                field="model",
            )
        return Drafter(speculation, speculation.reached, given, plain, FUSED_STATES[method], sources=tuple(sources))
    layer = max(model.layers, key=lambda found: (_attends(model, found), found.count))
    block = model.feed_forwards.get(layer.feed_forward or "")
    note = f"{method} head: assumed {speculation.draft_layers} layer(s) of the target"
    if method != "mtp" and isinstance(block, MixtureOfExperts):
        dense = next((b for b in model.feed_forwards.values() if isinstance(b, Mlp)), None)
        width = block.experts_per_token * block.intermediate_size + block.shared_intermediate_size
        block = dense or Mlp(intermediate_size=width, gated=block.gated)
        note += f", with a dense feed-forward {block.intermediate_size:,} wide"
    sources.append(note)
    fields = {name: getattr(model, name) for name in type(model).model_fields}
    head = type(model).model_validate(fields | {
        "name": f"{model.name} {method} head x{speculation.draft_layers} of {speculation.draft_vocab_size}",
        "aliases": (), "towers": {}, "draft": None, "published": None, "embedding_tables": {}, "other_parameters": 0,
        "vocab_size": speculation.draft_vocab_size or model.vocab_size, "tie_word_embeddings": False,
        "feed_forwards": {"head": block} if block else {},
        "layers": (Layer(mixer=layer.mixer, feed_forward="head" if block else None, count=speculation.draft_layers),),
    })  # fmt: skip
    return Drafter(
        speculation, speculation.reached, head, plain, FUSED_STATES[method], shares_embedding=True,
        shares_lm_head=speculation.draft_vocab_size is None, sources=tuple(sources),
    )  # fmt: skip


def _attends(model: ModelSpec, layer: Layer) -> bool:
    """Whether a layer has softmax attention, as heads have it in models of mixed layers."""
    return isinstance(model.mixers.get(layer.mixer or ""), Attention | LatentAttention)


def predict_drafted_step(
    model: ModelSpec, parallelism: Parallelism, precision: Precision, decodes: Group | None, machine: Machine,
    drafter: Drafter, *,
    prompts: Batch = (), sampler: Sampler = "greedy", eager: bool = False,
) -> StepTime:  # fmt: skip
    """Time of one step that verifies a draft of every decoding sequence, prompts beside it, and drafts for the next one.

    The host's work of a step hides behind target and drafter together, as far as the engine overlaps the two.
    """
    ops = drafted_step_ops(model, parallelism, precision, decodes, drafter, prompts=prompts, sampler=sampler)
    alone = () if decodes is None else (decodes,)
    waiting: Any = 0.0
    for one, tokens in ((model, drafter.speculation.verified), (drafter.model, drafter.first_tokens)):
        if one is not None:
            singly = (Group(group.count * tokens, 1.0) for group in alone)
            waiting = waiting + prompt_submission(one, machine, (*prompts, *singly))
    sequences = sum(group.count for group in (*prompts, *alone))
    return price(ops, machine, sequences, eager=eager, submission=waiting)


def speculative_gain(
    model: ModelSpec, parallelism: Parallelism, precision: Precision, machine: Machine, drafter: Drafter,
    batch: Any, context: Any, *, sampler: Sampler = "greedy", eager: bool = False,
) -> Any:  # fmt: skip
    """Speed-up of decoding by drafts at ``batch`` running sequences of ``context`` tokens: E x plain step / drafted step."""
    plain = predict_step(model, parallelism, precision, decode(batch, context), machine, sampler=sampler, eager=eager)
    drafted = predict_drafted_step(
        model, parallelism, precision, decode(batch, context)[0], machine, drafter, sampler=sampler, eager=eager
    )
    return speedup(expected_tokens(drafter.reached), plain.seconds, drafted.seconds)


def last_paying_batch(
    model: ModelSpec, parallelism: Parallelism, precision: Precision, machine: Machine, drafter: Drafter, context: float,
    *, most: int = 1024, sampler: Sampler = "greedy", eager: bool = False,
) -> int | None:  # fmt: skip
    """The batch from which on plain decoding is faster, by search over the step times; None where drafts pay up to ``most``."""

    def gain(batches: Array) -> Any:
        return speculative_gain(
            model, parallelism, precision, machine, drafter, batches, np.full_like(batches, context), sampler=sampler,
            eager=eager,
        )  # fmt: skip

    return break_even_batch(gain, most)
