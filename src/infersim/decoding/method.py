"""One decoding algorithm on a deployment: its steady state from the engine's step, with the sequences, masks and copies it adds."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.decoding.beams import copied_tokens, reorder_bytes, request_bytes, shared_tokens
from infersim.decoding.grammars import (
    GrammarEngine,
    exposed_seconds,
    jump_forward_steps,
    load_grammar_engine,
    mask_bytes,
    mask_seconds,
    tokens_per_jump,
)
from infersim.decoding.outputs import Outputs, answer_tokens, any_correct, majority_correct
from infersim.decoding.spec import DecodingMethod
from infersim.errors import DoesNotFitError, SpecError, UnsupportedError
from infersim.predict.estimate import Estimate
from infersim.predict.latency import SteadyState, steady_state
from infersim.predict.memory import memory_report
from infersim.predict.speculation import resolve_drafter
from infersim.predict.step import predict_step
from infersim.serving.lengths import Fixed, Lengths

ROUNDS = 4
"""Fixed-point rounds for the share of a request's sequences that still decode; they leave less than 1% open."""


@dataclass(frozen=True)
class MethodResult:
    """One decoding algorithm in a closed loop of the deployment's users. Times in seconds, money in USD."""

    method: DecodingMethod
    ttft: float
    tpot: float
    """Of each sequence."""
    e2e: float
    """Until the last of a request's sequences has ended."""
    requests_per_second: float
    """Of all replicas."""
    output_tokens: float
    """That the answer a user gets has on average, thinking included."""
    generated_tokens: float
    """Per request, over all its sequences."""
    tokens_per_step: float
    kv_tokens: float
    """That a request keeps at its mean end."""
    kv_bytes: float
    """The same over all devices of a replica."""
    running: float
    """Sequences that decode at once in one replica."""
    sampling_seconds: float
    """Of a decode step, before the grammar's host work."""
    added_seconds: float
    """Per decode step by masks on the host, their copy, and beams that change places."""
    usd: float | None
    """Of one request."""

    @property
    def chance_correct(self) -> float | None:
        """Chance that what the user gets is right, where the method states that of one answer; independent answers assumed."""
        method = self.method
        if method.correct is None:
            return None
        if method.pick == "majority":
            return majority_correct(method.correct, method.answers)
        return float(any_correct(method.correct, method.answers)) if method.pick == "best" else method.correct

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units."""
        return {
            "method": self.method.label, "sampler": self.method.engine_sampler, "sequences": self.method.sequences,
            "ttft_s": self.ttft, "tpot_s": self.tpot, "e2e_s": self.e2e, "requests_per_s": self.requests_per_second,
            "output_tokens": self.output_tokens, "generated_tokens": self.generated_tokens,
            "tokens_per_step": self.tokens_per_step, "kv_tokens_per_request": self.kv_tokens,
            "kv_bytes_per_request": self.kv_bytes, "running_sequences": self.running,
            "sampling_s_per_step": self.sampling_seconds, "added_s_per_step": self.added_seconds,
            "usd_per_answer": self.usd, "chance_correct": self.chance_correct,
        }  # fmt: skip


def decode_with(deployment: Estimate, method: DecodingMethod, output_tokens: Lengths | None = None) -> MethodResult:
    """The deployment under its own load, decoding by ``method``; ``output_tokens`` of an answer default to the workload's mean.

    Sequences of one request share its prefill and, unless copied, its prompt's cache. A user waits for the longest of them; slots
    of those that have ended go to others. Attention reads the shared prompt once for each sequence, as kernels without cascade do.
    Raises DoesNotFitError where a request does not fit, UnsupportedError for models that do not generate.

    >>> from infersim import estimate
    >>> found = decode_with(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=8), DecodingMethod(beams=4))
    >>> found.kv_tokens, found.generated_tokens
    (2048.0, 1024.0)
    """
    if deployment.model.task != "generate":
        raise UnsupportedError(f"{deployment.model.name} does not generate, so there is nothing to decode")
    answer = output_tokens or Fixed(tokens=deployment.workload.output_tokens)
    outputs = answer_tokens(answer, method.thinking, method.thinking_budget)
    prepared = _prepared(deployment, method, outputs)
    n, workload = method.sequences, prepared.workload
    # beams end together: the width is one search, not several answers of their own length
    longest = outputs.longest_of(method.answers)
    active, host = 1.0, 0.0
    state = _state(prepared, method, outputs.mean, active)
    for _ in range(ROUNDS if longest > outputs.mean else 1):
        whole, one = (state.ttft + state.tpot * max(tokens - 1, 0.0) for tokens in (longest, outputs.mean))
        active = float(one / whole)
        state = _state(prepared, method, outputs.mean, active)
    tpot, added, sampled = _per_token(prepared, method, state, outputs.mean)
    if method.structured is not None:
        host = method.structured.new_grammars * _compile(method)
    ttft = float(state.ttft) + host
    e2e = ttft + tpot * max(longest - 1, 0.0)
    # Little's law; of a run that starts with a burst the rate is that of its steady part
    steady = float(state.requests_per_second * state.e2e) / _users(prepared, n, active)
    rate = workload.concurrency / e2e * steady
    cost = prepared.cost_per_second
    kept = copied_tokens if method.copied_cache else shared_tokens
    size = request_bytes(prepared.memory.rates, workload.input_tokens, n, outputs.mean, prepared.memory.block_size,
                         method.copied_cache)  # fmt: skip
    return MethodResult(
        method, ttft, tpot, e2e, rate, outputs.mean, n * outputs.mean, float(state.tokens_per_step) * _jump(method)[0],
        float(kept(workload.input_tokens, n, outputs.mean)), size * prepared.parallelism.devices_per_replica,
        float(state.running), sampled, added, None if cost is None else cost / rate,
    )  # fmt: skip


def _prepared(deployment: Estimate, method: DecodingMethod, outputs: Outputs) -> Estimate:
    """The deployment with the method's sampler, drafter and output length; its memory where a drafter moves in."""
    workload = deployment.workload.model_copy(update={"output_tokens": max(outputs.mean, 1.0)})
    drafter, memory = deployment.drafter, deployment.memory
    parts = (deployment.model, deployment.parallelism, deployment.precision, deployment.machine)
    longest = workload.longest_sequence(True)
    most = min(deployment.model.max_position_embeddings or math.inf, deployment.knobs.max_model_len or math.inf)
    if longest > most:
        raise SpecError(f"{method.label}: a mean of {longest:,.0f} tokens in and out is more than the {most:,.0f} that "
                        f"{deployment.model.name} takes", field="methods")  # fmt: skip
    if method.speculation is not None:
        drafter = resolve_drafter(
            deployment.model,
            method.speculation,
            deployment.precision,
            deployment.machine.accelerator,
            deployment.parallelism,
        )
    elif method.beams > 1:
        drafter = None
    if (
        method.speculation is not None
        or drafter is not deployment.drafter
        or longest > deployment.workload.longest_sequence(True)
    ):
        memory = memory_report(*parts, deployment.knobs, longest_wanted=longest, drafter=drafter)
    found = dataclasses.replace(
        deployment, workload=workload, sampler=method.engine_sampler, drafter=drafter, memory=memory
    )
    if not found.fits:
        raise DoesNotFitError(str(found), shortfall=memory.shortfall)
    return found


def _state(prepared: Estimate, method: DecodingMethod, output: float, active: float) -> SteadyState:
    """The closed loop of a replica's sequences; ``active`` is the share of a request's time for which one of them decodes."""
    n, memory, workload, machine, knobs = (
        method.sequences,
        prepared.memory,
        prepared.workload,
        prepared.machine,
        prepared.knobs,
    )
    size = request_bytes(memory.rates, workload.input_tokens, n, output / 2, memory.block_size, method.copied_cache)
    requests = math.floor(memory.kv_pool / size) if size else math.inf
    if requests < 1:
        raise DoesNotFitError(
            f"{n} sequences of one request do not fit: they take {size / 1e9:.3g} GB of {memory.kv_pool / 1e9:.3g} GB",
            shortfall=size - memory.kv_pool,
        )
    budget = float(knobs.max_num_batched_tokens or machine.max_num_batched_tokens)
    width = prepared.drafter.speculation.verified if prepared.drafter is not None else 1
    slots = float(knobs.max_num_seqs or min(machine.max_num_seqs, budget // width))
    in_step = workload.fixed_lengths and not machine.engine.mixed_batches
    return steady_state(
        prepared.model, prepared.parallelism, prepared.precision, machine, memory, knobs,
        input_tokens=workload.input_tokens, output_tokens=output, users=_users(prepared, n, active),
        burst_share=1.0 if in_step else workload.burst_share,
        cached_tokens=workload.cached_tokens, sampler=prepared.sampler, drafter=prepared.drafter, siblings=float(n),
        variants=(budget, slots, float(n * requests * memory.attention_ranks)),
    )  # fmt: skip


def _users(prepared: Estimate, sequences: int, active: float) -> float:
    """Sequences of a replica that are under way at a time, as users of a closed loop of sequences."""
    return max(sequences * prepared.workload.concurrency / prepared.parallelism.replicas * active, 1.0)


def _per_token(
    prepared: Estimate, method: DecodingMethod, state: SteadyState, output: float
) -> tuple[float, float, float]:
    """(time per token of a sequence, time that masks and beams add to a step, time of sampling in a step)."""
    (decodes,) = state.decode_batch
    machine, memory, batch = prepared.machine, prepared.memory, float(np.asarray(decodes.count))
    deployed = (prepared.model, prepared.parallelism, prepared.precision)
    eager = prepared.knobs.enforce_eager
    plain = predict_step(*deployed, (decodes,), machine, sampler=prepared.sampler, eager=eager)
    sampled = sum(float(part.seconds) for part in plain.parts() if part.name == "sampling")
    step, factor, added = float(plain.seconds), method.step_factor, 0.0
    if method.beams > 1:
        moved = reorder_bytes(
            memory.rates,
            prepared.workload.input_tokens,
            method.beams,
            output / 2,
            memory.block_size,
            method.copied_cache,
        )
        added += float(moved) * batch / method.beams / machine.accelerator.memory.bandwidth
    tokens, computed = _jump(method)
    if method.structured is not None:
        masks = batch * (prepared.drafter.speculation.verified if prepared.drafter and state.drafting else 1)
        host = float(mask_seconds(_mask(method), max(masks, 1.0), method.structured.threads))
        copied = float(mask_bytes(prepared.model.vocab_size, masks)) / machine.host_copy_bandwidth
        added += float(exposed_seconds(host, factor * step, method.structured.overlapped)) + copied
    jumping = step
    if computed > 1:
        longer = (dataclasses.replace(decodes, new=computed, sampled=1.0),)
        jumping = float(predict_step(*deployed, longer, machine, sampler=prepared.sampler, eager=eager).seconds)
    per_step = tokens * float(state.tokens_per_step)
    stages = prepared.parallelism.pipeline
    return float(state.tpot) / tokens + ((factor * jumping - step) * stages + added) / per_step, added, sampled


def _jump(method: DecodingMethod) -> tuple[float, float]:
    """(output tokens that a sequence gets in a step, tokens computed for it) under jump-forward decoding."""
    if method.structured is None or not method.structured.forced:
        return 1.0, 1.0
    tokens = 1.0 / float(jump_forward_steps(1.0, method.structured.forced))
    return tokens, float(tokens_per_jump(method.structured.forced, method.structured.retokenised))


def grammar_engine(method: DecodingMethod) -> GrammarEngine:
    """The grammar engine of a method that has one."""
    assert method.structured is not None
    return load_grammar_engine(method.structured.engine)


def _mask(method: DecodingMethod) -> float:
    assert method.structured is not None
    given = method.structured.mask
    return grammar_engine(method).mask if given is None else given


def _compile(method: DecodingMethod) -> float:
    """Of one grammar: the median over schemas, as a mean over schemas is one of the few slowest."""
    assert method.structured is not None
    if method.structured.compile is not None:
        return method.structured.compile
    engine = grammar_engine(method)
    return engine.compile if engine.compile_p50 is None else engine.compile_p50
