"""Simulate a deployment under a stream of requests: the serving simulator's front door."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from infersim.errors import DoesNotFitError, SpecError, did_you_mean
from infersim.ops.drafts import Drafter
from infersim.predict.estimate import Estimate, estimate
from infersim.serving.arrivals import LONGEST_RUN, ClosedLoop
from infersim.serving.cost import StepCost, step_cost
from infersim.serving.drafting import DraftingReplica, Drafts
from infersim.serving.fleet import Fleet, Inbox, Routing
from infersim.serving.policy import Policy, policy_of
from infersim.serving.pools import FIRST_TOKEN, FirstToken, Pools
from infersim.serving.records import Records
from infersim.serving.replica import Replica, Source
from infersim.serving.result import ServingResult
from infersim.serving.source import build_source
from infersim.serving.target import Limit, read_limits
from infersim.serving.traces import Trace
from infersim.serving.traffic import Traffic
from infersim.serving.transfer import transfer_between
from infersim.specs.hardware import Accelerator
from infersim.specs.model import ModelSpec

ROUTING: tuple[Routing, ...] = ("round_robin", "least_loaded", "prefix_aware")
LONGEST_CONTEXT = 131072
"""Contexts are tabulated to this many tokens where neither model nor pool says less; beyond it the last line goes on."""


def simulate(
    model: str | ModelSpec,
    gpu: str | Accelerator,
    traffic: Traffic | Trace | None = None,
    *,
    seed: int = 0,
    target: str | tuple[Limit, ...] = (),
    routing: Routing = "least_loaded",
    speedup: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
    prefill: Mapping[str, Any] | None = None,
    transfer_overlap: float = 0.0,
    first_token: FirstToken = "decode",
    **deployment: Any,
) -> ServingResult:
    """Simulate ``traffic`` on a deployment; ``deployment`` takes what ``estimate`` takes, lengths and concurrency aside.

    ``traffic`` is a stream to draw or a trace to replay, the latter at ``speedup`` times its pace. The same seed gives the same
    result. ``progress`` is called with (requests drawn, requests in all) now and then.

    ``prefill`` makes a pool of its own for prompts (disaggregation): what differs from ``deployment``, which then is the decode
    pool, in the words of ``estimate`` (``gpu``, ``tensor_parallel``, ``replicas``, ``knobs`` ...). ``transfer_overlap`` is
    the share of a prompt's last chunk behind which its cache is sent, layer by layer; ``first_token`` the pool that sends it.
    Raises SpecError for bad input, DoesNotFitError where the deployment cannot hold a mean request.

    >>> from infersim.serving.traffic import benchmark_traffic
    >>> result = simulate("meta-llama/Llama-3.1-8B", "H100-SXM", benchmark_traffic(1024, 128, 8))
    >>> result.completed, result.failed, result.unstable
    (80, 0, False)
    """
    wanted = traffic or Traffic()
    for name in ("input_tokens", "output_tokens", "concurrency", "prefix_hit"):
        if name in deployment:
            raise SpecError("belongs to the traffic, not to the deployment", field=name)
    users = wanted.arrivals.concurrency if isinstance(wanted.arrivals, ClosedLoop) else 1
    resolved = estimate(
        model, gpu, input_tokens=wanted.mean_input, output_tokens=wanted.mean_output, concurrency=users, **deployment
    )
    pool = None
    if prefill is not None:
        differs = {**deployment, "replicas": 1, "speculation": None, **prefill}
        pool = estimate(
            model, differs.pop("gpu", gpu), input_tokens=wanted.mean_input, output_tokens=1, concurrency=1, **differs
        )
    return simulate_deployment(
        resolved, wanted, seed=seed, target=target, routing=routing, speedup=speedup, progress=progress, prefill=pool,
        transfer_overlap=transfer_overlap, first_token=first_token,
    )  # fmt: skip


def simulate_deployment(
    deployment: Estimate,
    traffic: Traffic | Trace,
    *,
    seed: int = 0,
    target: str | tuple[Limit, ...] = (),
    routing: Routing = "least_loaded",
    speedup: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
    prefill: Estimate | None = None,
    transfer_overlap: float = 0.0,
    first_token: FirstToken = "decode",
) -> ServingResult:
    """Simulate ``traffic`` on a deployment that ``estimate`` has resolved, with a pool for prompts where ``prefill`` is one."""
    for one in (deployment, prefill):
        if one is not None and not one.memory.fits:
            raise DoesNotFitError(str(one), shortfall=one.memory.shortfall)
    if routing not in ROUTING:
        raise SpecError(f"no routing is called {routing!r}; {did_you_mean(routing, ROUTING)}", field="routing")
    if first_token not in FIRST_TOKEN:
        raise SpecError(f"is decode or prefill, got {first_token!r}", field="first_token")
    if prefill is not None and {prefill.knobs.batching, deployment.knobs.batching} != {"continuous"}:
        raise SpecError("pools for prompts and for decodes batch continuously", field="batching")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SpecError(f"must be a whole number from zero on, got {seed!r}", field="seed")
    if isinstance(traffic, Trace) and traffic.arrival is None:
        raise SpecError(
            "has no arrival times; draw its lengths with Traffic(pairs=trace.pairs(), arrivals=...)", file=traffic.file
        )
    if not 0 < speedup < math.inf:
        raise SpecError(f"must be above zero, got {speedup!r}", field="speedup")
    if isinstance(traffic, Trace) and traffic.duration / speedup > LONGEST_RUN:
        raise SpecError(f"makes {traffic.duration:.3g} s last centuries, got {speedup!r}", field="speedup")
    limits = read_limits(target) if isinstance(target, str) else target
    policy, cost, longest = scheduler_of(deployment)
    records = Records()
    front = scheduler_of(prefill) if prefill is not None else None
    host, calibrated = deployment.machine.engine.host, deployment.machine.mode == "calibrated"

    def fits(prompt: int, output: int) -> bool:
        taken = front is None or (prompt + 1 <= front[2] and front[0].fits(prompt, 1))
        return taken and prompt + output <= longest and policy.fits(prompt, output)

    source = build_source(
        traffic, records, seed=seed, request=host.request if calibrated else 0.0, token=host.token if calibrated else 0.0,
        fits=fits, speedup=speedup,
    )  # fmt: skip
    drafts = drafts_of(deployment, policy, longest, seed)

    def build(requests: Source, number: int) -> Replica:
        if drafts is None:
            return Replica(policy, cost, requests, records, number)
        return DraftingReplica(policy, cost, requests, records, number, drafts=drafts)

    count = deployment.parallelism.replicas
    run: Callable[[], None]
    pools: Pools | None = None
    if prefill is not None and front is not None:
        pools = Pools((front[0], front[1], prefill.parallelism.replicas), (build, count), source, records,
                       transfer_between(prefill, deployment, transfer_overlap), routing, first_token)  # fmt: skip
        replicas, run = pools.decode.replicas, pools.run
    elif count == 1:
        replicas = [build(source, 0)]
        run = replicas[0].run
    else:
        inboxes = [Inbox(source.finished if source.reacts else None) for _ in range(count)]
        replicas = [build(inbox, number) for number, inbox in enumerate(inboxes)]
        run = Fleet(replicas, inboxes, source, routing).run
    if progress is not None:
        source.progress = lambda drawn: progress(drawn, traffic.num_requests)
    interrupted = False
    try:
        run()
    except KeyboardInterrupt:
        interrupted = True
    pool = pools.summary(prefill) if pools is not None and prefill is not None else None
    return ServingResult(deployment, traffic, policy, seed, records, tuple(r.totals for r in replicas),
                         tuple(r.series for r in replicas), limits, interrupted, prefill=pool)  # fmt: skip


def scheduler_of(deployment: Estimate) -> tuple[Policy, StepCost, float]:
    """A replica's scheduler, the tables of its step times, and the longest request it takes [tokens]."""
    knobs, machine, model = deployment.knobs, deployment.machine, deployment.model
    speculation = deployment.drafter.speculation if deployment.drafter is not None else None
    policy = policy_of(
        machine.engine, knobs, machine, deployment.memory, deployment.parallelism.pipeline, speculation=speculation
    )
    longest = min(model.max_position_embeddings or math.inf, knobs.max_model_len or math.inf)
    return policy, _tables(deployment, policy, longest, None), longest


def drafts_of(deployment: Estimate, policy: Policy, longest: float, seed: int) -> Drafts | None:
    """What drafts for a replica's requests; None without speculative decoding."""
    drafter = deployment.drafter
    if drafter is None:
        return None
    return Drafts(drafter.reached, _tables(deployment, policy, longest, drafter), seed)


def _tables(deployment: Estimate, policy: Policy, longest: float, drafter: Drafter | None) -> StepCost:
    context = int(min(longest, LONGEST_CONTEXT, policy.num_blocks * policy.block_size))
    return step_cost(
        deployment.model, deployment.parallelism, deployment.precision, deployment.machine,
        max_sequences=policy.max_num_seqs, max_tokens=policy.max_num_batched_tokens, max_context=max(context, 16),
        sampler=deployment.sampler, eager=deployment.knobs.enforce_eager, drafter=drafter,
    )  # fmt: skip
