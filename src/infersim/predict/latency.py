"""Steady load in closed form: TTFT, TPOT and throughput of a closed loop, from the times of two steps.

C users each send the next request when the last has ended. A replica then runs b decoding sequences, and for every
(O - 1) tokens that a sequence decodes one prompt of I tokens must be prefilled beside it:

    TPOT = D(b) + f (M(b) - D(b))       f = b n / (q (O - 1)) prefill steps per decode step, at most 1; of short prompts a come
                                        in a step, so that q = a / (1 - exp(-a)) share one
    TTFT = wait for the running step + steps held back + queue of prompts ahead + n M + host
    C = X E2E                           Little's law, which fixes b and the throughput X

D is a pure decode step; M one that also carries prefill: q short prompts at once, or one of the n chunks of a long one, as
far as the token budget of a step allows. Where f would exceed 1 the prefill is the bottleneck: every step carries all it can,
and what does not fit waits. With attention data parallelism every rank schedules its own share and all step together.
With drafts a decode step is one that verifies, of which a request takes n (O - 1 tokens at E a step, the last one cut short):
n stands for O - 1 above, and TPOT = time of a step x n / (O - 1). Everything broadcasts: lengths and concurrency may be
arrays, and one call then answers for all of them.

A benchmark run starts with all C users at once. That burst takes s = C n / q full steps of prefill, F each, and weighs on the
means of the run by its share w of the requests:

    TTFT = (1 - w) TTFT + w ((s + 1) / 2 F + host)
    TPOT = D + max(1 - w, 1/2) (TPOT - D)   decodes of the first and the last C requests meet half as many prompts
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infersim.acceptance import mean_steps
from infersim.machine.machine import Machine
from infersim.ops.base import Numbers
from infersim.ops.drafts import Drafter
from infersim.ops.sampling import Sampler
from infersim.ops.transformer import Batch, Group
from infersim.predict.memory import MemoryReport
from infersim.predict.speculation import predict_drafted_step
from infersim.predict.step import predict_step
from infersim.specs.deployment import EngineKnobs, Parallelism
from infersim.specs.model import ModelSpec
from infersim.specs.precision import Precision

LOAD_NODES = (1.0, 0.85, 0.6, 0.3)
"""Shares of the slots at which steps are priced; between them time is interpolated."""
ROUNDS, DAMPING = 5, 0.7
"""Fixed-point rounds for the number of decoding sequences; five leave less than 0.1% of it open."""


@dataclass(frozen=True)
class SteadyState:
    """What one replica does under a steady closed loop. Times in seconds, rates per second."""

    ttft: Numbers
    """Arrival to first token, queueing for a slot and for prompts ahead included."""
    tpot: Numbers
    e2e: Numbers
    requests_per_second: Numbers
    running: Numbers
    """Sequences decoding at once."""
    waiting: Numbers
    """Requests without a slot."""
    prefill_share: Numbers
    """Share of device time that prefill takes."""
    prefill_batch: Batch
    """The step that carries a prompt (or chunk) alone."""
    decode_batch: Batch
    """The pure decode step at the steady number of sequences of one micro-batch."""
    tokens_per_step: Numbers = 1.0
    """Tokens that a sequence gets in a decode step: more than one where drafts are verified."""
    drafting: Any = False
    """Whether decode steps verify drafts."""


def encoder_tokens(model: ModelSpec, tokens: Numbers) -> Numbers:
    """Tokens that an encoder-decoder model's encoder reads for a prompt; none for other models."""
    return tokens if any(tower.kind == "encoder" for tower in model.towers.values()) else 0.0


def _between(nodes: Any, values: Any, at: Any) -> Any:
    """Linear interpolation along the first axis, nodes falling; flat beyond the ends. Lists hold one case, arrays many."""
    if isinstance(nodes, list):
        if at >= nodes[0]:
            return values[0]
        for high in range(len(nodes) - 1):
            low = high + 1
            if at > nodes[low]:
                share = (at - nodes[low]) / (nodes[high] - nodes[low])
                return values[low] + share * (values[high] - values[low])
        return values[-1]
    result = values[-1]
    for low in range(len(nodes) - 2, -1, -1):
        high_node, low_node = nodes[low], nodes[low + 1]
        weight = np.clip((at - low_node) / np.maximum(high_node - low_node, 1e-12), 0.0, 1.0)
        result = np.where(at > low_node, values[low + 1] + weight * (values[low] - values[low + 1]), result)
    return result


def _functions(arrays: bool) -> tuple[Any, Any, Any]:
    """Minimum, maximum and choice: numpy's for arrays; for plain numbers Python's own, which are ten times as fast on them."""
    if arrays:
        return np.minimum, np.maximum, np.where
    return min, max, lambda condition, first, second: first if condition else second


def steady_state(
    model: ModelSpec,
    parallelism: Parallelism,
    precision: Precision,
    machine: Machine,
    memory: MemoryReport,
    knobs: EngineKnobs,
    *,
    input_tokens: Numbers,
    output_tokens: Numbers,
    users: Numbers,
    cached_tokens: Numbers = 0.0,
    burst_share: Numbers = 0.0,
    sampler: Sampler = "greedy",
    drafter: Drafter | None = None,
    in_rounds: bool = True,
    variants: tuple[Numbers, Numbers, Numbers] | None = None,
    siblings: float = 1.0,
) -> SteadyState:
    """The closed form for one replica with ``users`` in a closed loop.

    A ``drafter`` rests where its ``disable_by_batch_size`` sequences or more (the mean, rounded) would decode at once with it;
    load that swings about that number makes it draft now and then, which only the simulator sees.

    ``input_tokens`` I of which ``cached_tokens`` need no prefill, ``output_tokens`` O; embedding and reranking models have no
    decode steps and E2E is TTFT. ``burst_share`` of the requests came at once at the start (0: a load that never ends).
    ``in_rounds``: with attention data parallelism every rank has a prompt when one has, as where answers end together; otherwise
    prompts come singly, and all ranks wait for the one that has it. ``variants`` prices several settings of the engine at once:
    token budgets and slots in place of the knobs', and the sequences of mean length that each leaves KV memory for. ``siblings``
    decode from one prompt, prefilled once (beams, several answers): ``users`` and ``running`` count sequences. Sequences
    decode at a mean context of I + O/2. With p pipeline stages they form p micro-batches, each stage working on one of them.
    """
    if drafter is not None and drafter.speculation.disable_by_batch_size is not None:
        drafted, plain = (
            steady_state(
                model, parallelism, precision, machine, memory, knobs, input_tokens=input_tokens,
                output_tokens=output_tokens, users=users, cached_tokens=cached_tokens, burst_share=burst_share,
                sampler=sampler, drafter=one, in_rounds=in_rounds, variants=variants, siblings=siblings,
            )
            for one in (drafter.always(), None)
        )  # fmt: skip
        threshold = drafter.speculation.disable_by_batch_size * parallelism.attention_data
        return _either(np.round(drafted.running) < threshold, drafted, plain)
    engine, stages, ranks = machine.engine, parallelism.pipeline, parallelism.attention_data
    given = [
        np.asarray(value, dtype=float)[()] for value in (input_tokens, cached_tokens, output_tokens, users, burst_share)
    ]
    prompt, cached, output, users, burst_share = given
    bursts = bool(np.any(burst_share))
    several = any(isinstance(value, np.ndarray) for value in given)
    minimum, maximum, where = _functions(several)
    source = encoder_tokens(model, prompt)
    if source is prompt:
        cached, prompt = 0 * prompt, 0 * prompt + 1
    fresh = prompt - cached
    generates = model.task == "generate"
    steps = maximum(output - 1, 0.0) if generates else 0 * output
    context = prompt + output / 2
    width, tokens_per_step = 1, 0 * steps + 1
    if drafter is not None:
        width, tokens = drafter.speculation.verified, steps
        steps = mean_steps(tokens, drafter.reached)[()]
        tokens_per_step = np.maximum(tokens, 1e-9) / np.maximum(steps, 1e-9)

    if variants is None:
        budget: Numbers = float(knobs.max_num_batched_tokens or machine.max_num_batched_tokens)
        slots: Numbers = float(knobs.max_num_seqs or min(machine.max_num_seqs, budget // width))
        most = memory.max_sequences(context if generates else prompt)
    else:
        budget, slots, most = variants
    capacity = maximum(1.0, minimum(slots * ranks, most))
    limit = minimum(users, capacity)

    chunked = engine.enable_chunked_prefill if knobs.enable_chunked_prefill is None else knobs.enable_chunked_prefill
    room = maximum(budget - width * limit / stages / ranks, budget / 8)
    chunk = minimum(fresh, room) if chunked else fresh
    chunks = fresh / chunk
    mean_cached = cached + (fresh - chunk) / 2
    others = maximum(limit - siblings, 0.0) / limit  # nobody's decoding waits for his own prompt
    due = limit / siblings * others / maximum(steps, 1.0) / stages if generates else limit
    if generates:  # prompts come at random: those of a step that has any
        due = due / -np.expm1(-maximum(due, 1e-9))
    together = minimum(maximum(room / fresh, 1.0) * ranks, maximum(due, minimum(limit, ranks) if in_rounds else 1.0))
    together = where(chunks > 1, minimum(limit, ranks) if in_rounds else 1.0, maximum(together, 1.0))

    # rows: for every load node a decode step alone and one with a chunk beside it; last the burst's step and the chunk alone
    shape = np.broadcast_shapes(*map(np.shape, (limit, chunk, context, together))) if several else ()
    nodes = np.multiply.outer(LOAD_NODES, limit if np.shape(limit) == shape else np.broadcast_to(limit, shape))
    decoding = np.maximum(nodes / stages, np.minimum(nodes, 1.0)) * (steps > 0)
    beside = decoding if engine.mixed_batches else np.zeros_like(decoding)
    count = len(LOAD_NODES)
    rows = 2 * count + (2 if bursts else 1)
    prompts, decodes = np.zeros((rows, *shape)), np.zeros((rows, *shape))
    prompts[count : 2 * count], prompts[-1] = together, 1.0
    decodes[:count], decodes[count : 2 * count] = np.maximum(decoding, 1e-9), beside
    if bursts:
        full = minimum(where(chunks > 1, 1.0, maximum(budget / fresh, 1.0)) * ranks, limit)
        prompts[-2], decodes[-2] = full, beside[0] / 2
    prompt_group = Group(prompts, chunk, mean_cached, encode=source / chunks, source=source)
    decode_group, eager = Group(decodes, 1.0, context, source=source), knobs.enforce_eager
    if drafter is None:
        batch = (prompt_group, decode_group)
        step = predict_step(model, parallelism, precision, batch, machine, sampler=sampler, eager=eager)
    else:
        step = predict_drafted_step(model, parallelism, precision, decode_group, machine, drafter, prompts=(prompt_group,),
                                    sampler=sampler, eager=eager)  # fmt: skip
    seconds = np.asarray(step.seconds)
    alone_at, mixed_at, lone = seconds[:count], seconds[count : 2 * count], seconds[-1]
    if not engine.mixed_batches:
        mixed_at = alone_at + mixed_at

    if not shape:
        limit, chunks, steps, users, lone = float(limit), float(chunks), float(steps), float(users), float(lone)
        others, together = float(others), float(together)
        nodes, alone_at, mixed_at = nodes.tolist(), alone_at.tolist(), mixed_at.tolist()
    running, held = limit, knobs.held_steps
    for _ in range(ROUNDS):
        alone, carried = _between(nodes, alone_at, running), _between(nodes, mixed_at, running)
        extra = maximum(carried - alone, 0.0)
        wanted = running / siblings * others * chunks / maximum(steps, 1.0) / stages / together
        tpot = alone + minimum(wanted, 1.0) * extra
        busy = minimum(minimum(wanted, 1.0) * extra / tpot, 0.95)
        shared = minimum(maximum(running - 1, 0.0), 1.0)
        service = chunks * (lone + shared * (carried - lone))
        queue = minimum(0.5 * busy / (1 - busy) * chunks * extra, 0.5 * limit * service)
        ttft = 0.5 * tpot * minimum(users - 1, 1.0) + held * tpot + queue + service
        blocked = maximum(limit / siblings * chunks * carried / stages / together - steps * tpot, ttft)
        ttft = ttft + (wanted > 1) * (blocked - ttft)
        settled = minimum(limit, maximum(limit * steps * tpot / (ttft + steps * tpot), 1e-6))
        running = running + DAMPING * (settled - running)
    if not generates:
        tpot, ttft, extra, running = 0.0 * lone, limit / together * chunks * carried, carried, limit
    else:
        tpot, ttft = where(steps > 0, tpot, 0.0), where(steps > 0, ttft, limit / together * chunks * carried)
    per_request = engine.host.request + engine.host.token * prompt if machine.mode == "calibrated" else 0.0
    rate = limit / (ttft + steps * tpot + per_request)
    waiting = maximum(users - limit, 0.0)
    ttft = ttft + per_request + waiting / rate
    if bursts and generates:
        passes = limit / siblings * chunks / full
        burst = seconds[-2] * (1.0 + 0.5 * maximum(passes - 1.0, 0.0) / stages) + per_request
        ttft = ttft + burst_share * (burst + 0.5 * waiting * waiting / users / rate - ttft)
        tpot = tpot - minimum(burst_share, 0.5) * (tpot - alone) * (steps > 0)
    micro_batch = maximum(running / stages, minimum(running, 1.0))
    return SteadyState(
        ttft=ttft, tpot=tpot / tokens_per_step, e2e=ttft + steps * tpot, requests_per_second=rate, running=running, waiting=waiting,
        prefill_share=minimum(1.0, rate / siblings * chunks * extra / stages / together),
        prefill_batch=(Group(1.0, chunk, mean_cached, encode=source, source=source),),
        decode_batch=(Group(micro_batch, 1.0, context, source=source),), tokens_per_step=tokens_per_step,
        drafting=drafter is not None,
    )  # fmt: skip


def _either(first: Any, yes: SteadyState, no: SteadyState) -> SteadyState:
    """One of two states, case by case."""
    if first.all() or not first.any():
        return yes if first.all() else no
    names = (
        "ttft",
        "tpot",
        "e2e",
        "requests_per_second",
        "running",
        "waiting",
        "prefill_share",
        "tokens_per_step",
        "drafting",
    )
    chosen = {name: np.where(first, getattr(yes, name), getattr(no, name)) for name in names}
    batches = {}
    for name in ("prefill_batch", "decode_batch"):
        one, other = getattr(yes, name)[0], getattr(no, name)[0]
        fields = {f: np.where(first, getattr(one, f), getattr(other, f)) for f in ("count", "new", "cached")}
        batches[name] = (replace(one, **fields),)
    return replace(yes, **chosen, **batches)
