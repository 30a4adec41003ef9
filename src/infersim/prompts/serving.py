"""A prompt layout on a deployment: the hit rate that its KV pool and tiers give, and what the hits save of time and money."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from infersim.errors import DoesNotFitError, SpecError
from infersim.planning.disaggregated import prompt_times
from infersim.planning.service import service_curve
from infersim.predict.estimate import Estimate
from infersim.prompts.cache import Array, Items, characteristic_time, hit_rate, hit_tokens
from infersim.prompts.layout import Prefix, block_sizes, prefixes, tree_items
from infersim.prompts.spec import PromptLayout
from infersim.prompts.tiers import reload_seconds
from infersim.serving.traffic import Traffic

ROUNDS = 6
"""Fixed-point rounds between hit rate, latency and load; the latency moves the hit rate little."""


def with_prompt(deployment: Estimate, tokens: float, cached: float) -> Estimate:
    """The deployment under prompts of so many tokens, of which ``cached`` need no prefill."""
    workload = deployment.workload.model_copy(
        update={"input_tokens": float(tokens), "prefix_hit": min(cached / tokens, 1.0 - 1e-12)}
    )
    return dataclasses.replace(deployment, workload=workload)


def prefill_seconds(deployment: Estimate, tokens: float, cached: float = 0.0) -> float:
    """Time of a lone prompt's steps on one replica, tokenising included [s]."""
    return prompt_times(with_prompt(deployment, tokens, cached)).alone


@dataclass(frozen=True)
class Point:
    """The load at one hit rate: latencies [s], requests per second of all replicas; infinite times where the load is too much."""

    ttft: float
    tpot: float
    e2e: float
    requests_per_second: float


def point(deployment: Estimate, tokens: float, cached: float, rate: float | None) -> Point:
    """Where the deployment runs with ``cached`` tokens of each prompt found: at ``rate``, or in its closed loop."""
    asked = with_prompt(deployment, tokens, cached)
    if rate is None:
        return Point(asked.ttft, asked.tpot, asked.e2e, asked.requests_per_second)
    replicas = asked.parallelism.replicas
    curve = service_curve(asked)
    if rate / replicas > curve.rate[-1]:
        return Point(math.inf, float(curve.tpot[-1]), math.inf, float(curve.rate[-1]) * replicas)
    at = curve.at(rate / replicas)
    return Point(float(at.ttft), float(at.tpot), float(at.e2e), rate)


@dataclass(frozen=True)
class TierHit:
    """What one tier adds: the share of prompt tokens found in it, and whether fetching them beats computing them again."""

    name: str
    share: float
    """Of all prompt tokens."""
    keeps_seconds: float
    """How long an unused prefix stays, in this tier and those before it; infinite where all fits."""
    reload_seconds: float
    """To fetch what a request finds here on average where it finds all its cacheable prefix here."""
    recompute_seconds: float
    """To prefill that instead."""
    pays: bool
    """Whether it is fetched; what lies in a tier that is too slow is computed again."""


@dataclass(frozen=True)
class Caching:
    """A layout in a deployment's caches, at the steady state that follows."""

    names: tuple[str, ...]
    segment_hits: tuple[float, ...]
    """Chance that each segment's blocks are found, in any tier that pays."""
    prompt_tokens: float
    cached_tokens: float
    """Mean per request."""
    tiers: tuple[TierHit, ...]
    at: Point
    ttft: float
    """Mean, fetching from tiers included [s]."""
    prefill_seconds: float
    """Device time of a prompt alone [s]."""

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens that need no prefill."""
        return self.cached_tokens / self.prompt_tokens


def caching(layout: PromptLayout, deployment: Estimate) -> Caching:
    """The hit rate of ``layout`` as an outcome: Che's time of the pool and tiers, with what running requests hold.

    The KV pool keeps running requests and idle prefixes; what running ones hold is taken off by their latency, which in turn
    depends on the hit rate. Not counted: preemption, which a pool hardly larger than what runs does not escape; copies of
    blocks between replicas or ranks.
    """
    if not deployment.fits:
        raise DoesNotFitError(str(deployment), shortfall=deployment.memory.shortfall)
    memory, replicas = deployment.memory, deployment.parallelism.replicas
    tokens, outputs, block = float(layout.tokens), deployment.workload.output_tokens, memory.block_size
    each, held = pool_of(deployment, tokens + outputs)
    per_token = each * deployment.parallelism.devices_per_replica / memory.attention_ranks
    pool = layout.cache / per_token if layout.cache else held
    pooled = _pooled(layout, deployment)
    sizes = [pooled * size / block for size in (pool, *(tier.capacity / per_token for tier in layout.tiers))]
    spans = block_sizes(layout, block) * block
    found = prefixes(layout)
    findable = sum(
        span for span, one in zip(spans.tolist(), found, strict=True) if one.turns or np.isfinite(one.changes)
    )
    fetch = _fetch(layout, deployment, findable, each)
    at = point(deployment, tokens, 0.0, layout.requests_per_second)
    cached, hits, times = 0.0, np.zeros((len(sizes), len(found))), [0.0] * len(sizes)
    for _ in range(ROUNDS):
        rate = (layout.requests_per_second or at.requests_per_second) * pooled / replicas
        wanted = tree_items(layout, rate, block, outputs)
        busy = at.e2e if math.isfinite(at.e2e) else 0.0
        times = [characteristic_time(wanted, total, busy) for total in np.cumsum(sizes).tolist()]
        reached = np.array([_hits(found, time + busy, rate) for time in times])
        hits = np.maximum(np.diff(reached, axis=0, prepend=0.0), 0.0)
        paying = sum(hits[tier] for tier in range(len(sizes)) if fetch.pays(tier))
        cached = float(hit_tokens(paying @ spans, tokens))
        at = point(deployment, tokens, cached, layout.requests_per_second)
    names = ("device memory", *(tier.name for tier in layout.tiers))
    tiers = tuple(
        TierHit(
            name, float(hits[tier] @ spans) / tokens, times[tier], fetch.reload[tier], fetch.recompute, fetch.pays(tier)
        )
        for tier, name in enumerate(names)
    )
    fetching = sum(one.reload_seconds * one.share * tokens / max(findable, 1.0) for one in tiers if one.pays)
    return Caching(
        layout.names, tuple(np.asarray(paying).tolist()), tokens, cached, tiers, at, at.ttft + fetching,
        prefill_seconds(deployment, tokens, cached),
    )  # fmt: skip


def pool_of(deployment: Estimate, length: float) -> tuple[float, float]:
    """(cache bytes of a token on one device, tokens that a replica's pools hold) for requests of ``length`` tokens in all.

    Layers that keep a window only add what they keep of such a request. Raises SpecError where the model takes no request that
    long or keeps no cache that prompts could share, DoesNotFitError where the pool does not hold one.
    """
    memory, model = deployment.memory, deployment.model
    longest = min(model.max_position_embeddings or math.inf, deployment.knobs.max_model_len or math.inf)
    if length > longest:
        raise SpecError(f"prompt and output of {length:,.0f} tokens are more than the {longest:,.0f} that {model.name} takes",
                        field="segments")  # fmt: skip
    rates = memory.rates
    if not rates.per_token and not rates.windows:
        raise SpecError(f"{model.name} keeps no cache that prompts could share", field="segments")
    each, held = rates.per_token, memory.kv_tokens
    if rates.windows:
        each = float(rates.bytes(length, block_size=memory.block_size) - rates.per_sequence) / length
        held = memory.attention_ranks * memory.kv_pool / each
    if length > held:
        raise DoesNotFitError(
            f"a request of {length:,.0f} tokens does not fit into the {held:,.0f} that {deployment.describe()} holds",
            shortfall=(length - held) * each,
        )
    return each, held


def pool_hit_rate(layout: PromptLayout, deployment: Estimate, capacity: float, rate: float, busy: float) -> float:
    """Share of prompt tokens found in a pool of ``capacity`` tokens alone, at a given rate and latency ``busy`` of requests [s]."""
    block, pooled = deployment.memory.block_size, _pooled(layout, deployment)
    rate = rate * pooled / deployment.parallelism.replicas
    wanted = tree_items(layout, rate, block, deployment.workload.output_tokens)
    stay = characteristic_time(wanted, pooled * capacity / block, busy) + busy
    chances = _hits(prefixes(layout), stay, rate)
    return float(hit_tokens(chances @ (block_sizes(layout, block) * block), layout.tokens)) / layout.tokens


def _hits(found: list[Prefix], stay: float, rate: float) -> Array:
    """Chance by depth that a prefix is found where each stays ``stay`` seconds since its last use began."""
    return np.array([one.hit(lambda each, changes: hit_rate(each, stay, changes), rate) for one in found])


def _pooled(layout: PromptLayout, deployment: Estimate) -> int:
    """Replicas whose pools act as one: all of them where routing follows prefixes."""
    return deployment.parallelism.replicas if layout.routing == "prefix_aware" else 1


@dataclass(frozen=True)
class _Fetch:
    """What fetching the cacheable prefix of a layout takes of each tier, the first being the pool itself [s]."""

    reload: tuple[float, ...]
    recompute: float

    def pays(self, tier: int) -> bool:
        return tier == 0 or self.reload[tier] < self.recompute


def _fetch(layout: PromptLayout, deployment: Estimate, tokens: float, each: float) -> _Fetch:
    """``tokens`` of ``each`` bytes on a device, copied from a tier to every device at once, or prefilled again."""
    if tokens < 1:
        return _Fetch((0.0,) * (1 + len(layout.tiers)), 0.0)
    without = prefill_seconds(deployment, layout.tokens, min(tokens, layout.tokens - 1))
    host = deployment.machine.host_copy_bandwidth
    reload = (float(reload_seconds(tokens * each, tier.bandwidth or host, tier.latency)) for tier in layout.tiers)
    return _Fetch((0.0, *reload), prefill_seconds(deployment, layout.tokens) - without)


def traffic_items(traffic: Traffic, rate: float, block_size: int) -> Items:
    """What a serving simulation's traffic with shared prefixes leaves in a cache, in blocks: prefixes, and what no one shares."""
    shared = traffic.prefixes
    if shared is None:
        raise SpecError("needs prefixes that requests share", field="traffic")
    weights = shared.weights * shared.share
    blocks = float(shared.tokens.mean) // block_size
    own = math.ceil((traffic.mean_input + traffic.mean_output) / block_size) - blocks * shared.share
    return Items(
        np.append(rate * weights, rate), np.append(np.full(len(weights), blocks), own), np.ones(len(weights) + 1),
        np.append(np.zeros(len(weights)), np.inf),
    )  # fmt: skip


def traffic_hit_rate(deployment: Estimate, traffic: Traffic, rate: float) -> float:
    """Share of prompt tokens that the prefix cache holds where ``traffic`` with shared prefixes of a fixed length arrives at ``rate``.

    The closed form of what ``simulate`` measures as ``prefix_hit_rate``: Che's approximation with the memory that running requests
    hold. Within 2 points of the simulator on Zipf traffic without preemption (``tests/test_prompts.py``).
    """
    memory, shared = deployment.memory, traffic.prefixes
    if shared is None:
        return 0.0
    prompt = float(traffic.mean_input)
    asked = dataclasses.replace(
        deployment, workload=deployment.workload.model_copy(update={"output_tokens": float(traffic.mean_output)})
    )
    replicas, block = deployment.parallelism.replicas, memory.block_size
    wanted = traffic_items(traffic, rate / replicas, block)
    cached = 0.0
    for _ in range(ROUNDS):
        at = point(asked, prompt, cached, rate)
        busy = at.e2e if math.isfinite(at.e2e) else 0.0
        chances = wanted.hits(characteristic_time(wanted, memory.kv_blocks, busy), busy)
        cached = float((wanted.rates * wanted.sizes * chances)[:-1].sum() / (rate / replicas)) * block
    return cached / prompt
