"""The answer of a pipeline: the waterfall of a query, what the stages serve, and what they cost together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from infersim.errors import SpecError
from infersim.planning.calls import Deployed
from infersim.predict.estimate import Estimate
from infersim.rag.reuse import computed_tokens, load_seconds, store_bytes
from infersim.rag.sizing import cheapest
from infersim.rag.spec import Pipeline
from infersim.rag.stations import (
    MONTH,
    SCATTER,
    ApiStation,
    ModelStation,
    RetrievalStation,
    Served,
    Station,
    device_time,
    fixed,
    model_station,
    quantile,
    shown,
)
from infersim.rag.waits import Scattered
from infersim.retrieval.answer import RetrievalAnswer
from infersim.retrieval.answer import answer as retrieve
from infersim.serving.target import Limit, read_limits
from infersim.specs.api import ApiModel
from infersim.specs.library import validate
from infersim.specs.served import ServedModel
from infersim.units import show

AFTER = "generate"
"""The one stage that comes after the first token."""
TAIL = 95.0


@dataclass(frozen=True)
class RagAnswer:
    """A pipeline at its query rate. Times in seconds, money in USD.

    ``stages`` in the order of a query; all but the last come before the first token. Means are sums; percentiles are those of the sum
    of independent times: waits of M/M/c before retrieval's stages, TTFT and decoding of the generator log-normal about their means.
    """

    spec: Pipeline
    retrieval: RetrievalAnswer
    stages: tuple[Served, ...]
    generator: str
    context_tokens: float
    computed_tokens: float
    """Tokens of the prompt that the generator computes."""
    store_bytes: float
    """Of the KV caches of passages that are kept; 0 where none are."""
    tpot: float
    limits: tuple[Limit, ...] = ()
    """Of the target, on the whole pipeline."""

    @property
    def before(self) -> tuple[Served, ...]:
        """The stages before the first token."""
        return tuple(stage for stage in self.stages if stage.name != AFTER)

    @property
    def ttft(self) -> float:
        """From the question until the first token of the answer [s], the network included."""
        return quantile(self.before, None)

    @property
    def e2e(self) -> float:
        return quantile(self.stages, None)

    def percentile(self, metric: str, percent: float | None) -> float:
        """A percentile, or the mean (None), of ``ttft``, ``e2e`` or ``tpot``."""
        if metric in ("tpot", "itl"):
            one = Scattered(self.tpot, SCATTER.tpot)
            return one.mean if percent is None else one.percentile(percent)
        return quantile(self.before if metric == "ttft" else self.stages, percent)

    @cached_property
    def ttft_p95(self) -> float:
        return self.percentile("ttft", TAIL)

    @cached_property
    def e2e_p95(self) -> float:
        return self.percentile("e2e", TAIL)

    @property
    def missed(self) -> list[str]:
        """Limits of the target that are missed."""
        return [limit.name for limit in self.limits if self.percentile(limit.metric, limit.percentile) > limit.seconds]

    @property
    def rate(self) -> float:
        return self.spec.retrieval.queries_per_second

    @property
    def weakest(self) -> Served:
        """The stage that serves the fewest queries, and so the pipeline's throughput."""
        return min(
            self.stages,
            key=lambda stage: stage.capacity / max(stage.load, 1e-300) if math.isfinite(stage.capacity) else math.inf,
        )

    @property
    def capacity(self) -> float:
        """Queries per second of the pipeline; infinite where nothing in it is one's own."""
        one = self.weakest
        return self.rate * one.capacity / one.load if one.load and math.isfinite(one.capacity) else math.inf

    @property
    def slowest(self) -> Served:
        """The stage that takes the largest share of TTFT."""
        return max(self.before, key=lambda stage: stage.mean)

    @property
    def queries_per_month(self) -> float:
        return self.rate * self.spec.mean_load * MONTH

    def month(self, stage: Served) -> float | None:
        """USD a month of a stage: its copies around the clock, and what is charged per query."""
        hourly = stage.usd_per_hour
        return None if hourly is None else hourly * MONTH / 3600.0 + (stage.charged or 0.0) * self.queries_per_month

    @property
    def upkeep_per_month(self) -> float | None:
        """USD a month beside the stages: embedding what changes, and what a managed index charges for storage."""
        renewed = self.retrieval.ingestion.usd_per_month
        return None if renewed is None else renewed + self.retrieval.managed_per_month

    @property
    def usd_per_month(self) -> float | None:
        """None where a price is not known."""
        parts = [*map(self.month, self.stages), self.upkeep_per_month]
        return None if any(part is None for part in parts) else math.fsum(part for part in parts if part is not None)

    @property
    def usd_per_query(self) -> float | None:
        month = self.usd_per_month
        return None if month is None else month / self.queries_per_month

    @cached_property
    def sources(self) -> list[str]:
        """What the figures rest on."""
        found = [
            "retrieval queues: M/M/c in a row, waits taken as independent (Jackson 1957); a copy counts as capacity x latency servers",
            f"the generator's TTFT scatters log-normally by {SCATTER.ttft:g}, decoding by {SCATTER.tpot:g} of its mean (assumed)",
            f"network {shown(self.spec.network)}, fetch {shown(self.spec.fetch)}: given, or assumed by default",
        ]
        if self.spec.reuse is not None:
            found.append(
                "reused passages: Yao et al., CacheBlend, arXiv:2405.16444; loading is not hidden behind computing"
            )
        if self.spec.rewrite is not None and self.spec.rewrite.searches > 1:
            found.append("several searches of one query run side by side and wait as long as one")
        found += [f"{stage.name}: {source}" for stage in self.stages for source in stage.sources]
        return list(dict.fromkeys(found))

    def waterfall(self) -> list[dict[str, Any]]:
        """A row per stage in the order of a query: when it starts on average, what it takes alone, what is waited, its 95th percentile."""
        rows, start = [], 0.0
        for stage in self.stages:
            rows.append({"name": stage.name, "start_s": start, "latency_s": stage.seconds, "waited_s": stage.waited,
                         "p95_s": stage.percentile(TAIL)})  # fmt: skip
            start += stage.mean
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values with units in their keys; infinite ones as None."""
        return {
            "generator": self.generator, "ttft_s": self.ttft, "ttft_p95_s": self.ttft_p95, "e2e_s": self.e2e,
            "usd_per_query": self.usd_per_query, "usd_per_month": self.usd_per_month, "capacity_queries_per_s": _finite(self.capacity),
            "tpot_s": self.tpot, "e2e_p95_s": self.e2e_p95, "queries_per_s": self.rate, "passages": self.spec.handed_on,
            "prompt_tokens": self.spec.prompt_tokens, "computed_prompt_tokens": self.computed_tokens,
            "target_s": {limit.name: limit.seconds for limit in self.limits}, "missed": self.missed,
            "weakest_stage": self.weakest.name if math.isfinite(self.capacity) else None, "slowest_stage": self.slowest.name,
            "upkeep_usd_per_month": self.upkeep_per_month, "kv_store_bytes": self.store_bytes,
            "index_memory_bytes": self.retrieval.memory_bytes,
            "stages": [
                row | {"copies": stage.copies, "least_copies": stage.least, "bound": stage.bound, "devices": stage.devices * stage.copies,
                       "capacity_calls_per_s": _finite(stage.capacity), "calls_per_s": stage.load, "usd_per_month": self.month(stage),
                       "detail": stage.detail}
                for row, stage in zip(self.waterfall(), self.stages, strict=True)
            ],
            "retrieval": self.retrieval.to_dict(), "sources": self.sources,
        }  # fmt: skip

    def __str__(self) -> str:
        tokens = f"{self.spec.prompt_tokens:,.0f} tokens in, {self.computed_tokens:,.0f} of them computed"
        lines = [
            f"RAG with {self.generator}"[:80],
            f"{self.rate:g} queries/s, {self.spec.handed_on} passages, {tokens}",
            f"{'stage':<14}{'alone':>10}{'waited':>10}{'p95':>10}{'copies':>8}{'used':>7}{'USD/month':>11}  set by",
        ]
        for stage in self.stages:
            month = self.month(stage)
            own = stage.devices > 0
            paid = "-" if month is None else f"{month:,.0f}" if month else ""
            lines.append(
                f"{stage.name:<14}{shown(stage.seconds):>10}{shown(stage.waited) if stage.waited else '':>10}"
                f"{shown(stage.percentile(TAIL)):>10}{stage.copies if own else '':>8}{f'{stage.use:.0%}' if own else '':>7}{paid:>11}"
                f"  {stage.bound if own else '':<7}".rstrip()
            )
        lines.append(f"TTFT {shown(self.ttft)} (p95 {shown(self.ttft_p95)})   TPOT {shown(self.tpot)}   E2E {shown(self.e2e)} "
                     f"(p95 {shown(self.e2e_p95)})")  # fmt: skip
        held = f"; throughput {self.capacity:,.3g} queries/s, held up by {self.weakest.name}"
        lines.append(f"most of TTFT: {self.slowest.name}" + (held if math.isfinite(self.capacity) else ""))
        if self.store_bytes:
            lines.append(f"KV caches of passages kept: {show(self.store_bytes, 'B')}")
        if self.usd_per_month is not None:
            lines.append(
                f"{self.usd_per_month:,.0f} USD a month, {1e3 * (self.usd_per_query or 0.0):.4g} USD per thousand queries"
            )
        if self.missed:
            lines.append("misses " + ", ".join(self.missed))
        return "\n".join(lines)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class _Plan:
    """A pipeline taken apart: what it queues at, and what it does not."""

    spec: Pipeline
    retrieval: RetrievalAnswer
    rewriter: ModelStation | ApiStation | None
    generator: ModelStation | ApiStation
    loading: float
    rewrites_itself: bool

    @property
    def stations(self) -> list[Station]:
        spec = self.spec.retrieval
        searches = self.spec.rewrite.searches if self.spec.rewrite else 1
        calls = {"embed query": searches, "search": searches}
        retrieval = [
            RetrievalStation(stage, spec.queries_per_second * calls.get(stage.name, 1), spec.utilisation)
            for stage in self.retrieval.stages
        ]
        return [*([self.rewriter] if self.rewriter else []), *retrieval, self.generator]

    def in_order(self, found: tuple[Served, ...]) -> tuple[Served, ...]:
        """All stages of a query, where the stations have these copies."""
        served = {stage.name: stage for stage in found}
        stages = [fixed("network", self.spec.network, "there and back")]
        if self.rewriter is not None:
            stages.append(served["rewrite"])
        elif self.rewrites_itself:
            stages.append(self._rewriting(served["prefill"].copies))
        stages += [served["embed query"], served["search"], fixed("fetch", self.spec.fetch, "the text of the passages")]
        if "rerank" in served:
            stages.append(served["rerank"])
        if self.loading:
            stages.append(fixed("load KV", self.loading, "caches of passages"))
        return (*stages, served["prefill"], self._decoding(served["prefill"].copies))

    def _rewriting(self, copies: int) -> Served:
        """The generator's own call before retrieval, at the load it has."""
        rewrite, one = self.spec.rewrite, self.generator
        assert rewrite is not None
        if isinstance(one, ApiStation):
            return ApiStation("rewrite", one.api, rewrite.prompt_tokens, rewrite.output_tokens, 0.0, one.load, True).at(
                1
            )
        call = Deployed(_unpriced(one.at_load(copies))).call(rewrite.prompt_tokens, rewrite.output_tokens)
        seconds = float(call.e2e)
        return Served("rewrite", seconds, 0.0, 0.0, (Scattered(seconds, SCATTER.e2e),), 1, 1, math.inf, 0.0, 0, None, 0.0,
                      "the generator itself")  # fmt: skip

    def _decoding(self, copies: int) -> Served:
        """From the first token to the last; its devices are those of the prefill."""
        one = self.generator
        seconds = (
            one.decode_seconds if isinstance(one, ApiStation) else float(one.point(copies).e2e - one.point(copies).ttft)
        )
        detail = f"{self.spec.output_tokens:,.0f} tokens"
        return Served(
            AFTER, seconds, 0.0, 0.0, (Scattered(seconds, SCATTER.tpot),), 1, 1, math.inf, 0.0, 0, None, 0.0, detail
        )

    def tpot(self, copies: int) -> float:
        one = self.generator
        if isinstance(one, ApiStation):
            return one.decode_seconds / max(one.output - 1.0, 1.0)
        return float(one.point(copies).tpot)


def _unpriced(deployment: Estimate) -> Estimate:
    return deployment if deployment.price_per_hour is not None else replace(deployment, price_per_hour=0.0)


def _plan(spec: Pipeline, deployment: Estimate | None) -> tuple[_Plan, float, float]:
    """The stations of a pipeline, tokens that the generator computes, bytes of caches kept."""
    model: ServedModel | ApiModel | Estimate | None = spec.generator or deployment
    if model is None:
        raise SpecError("is needed: a model on hardware, or an API's prices such as 3,0.3,15", field="generator")
    rate, prompt = spec.retrieval.queries_per_second, spec.prompt_tokens
    cached = spec.system_tokens * spec.system_cached
    reuse = spec.reuse
    if reuse is not None:
        if isinstance(model, ApiModel):
            raise SpecError("passages' caches can be reused on own devices only, not at an API", field="reuse")
        cached += spec.context_tokens - float(computed_tokens(spec.context_tokens, reuse.stored, reuse.recompute))
    rewrite, most = spec.rewrite, spec.retrieval.utilisation
    generator = model_station(
        "prefill", model, rate, prompt=prompt, output=spec.output_tokens, cached=cached, utilisation=most
    )
    rewriter = None
    if rewrite is not None and rewrite.model is not None:
        rewriter = model_station("rewrite", rewrite.model, rate, prompt=rewrite.prompt_tokens, output=rewrite.output_tokens, whole=True,
                                 utilisation=most)  # fmt: skip
    elif rewrite is not None and isinstance(generator, ModelStation):
        work = 1.0 + device_time(generator.deployment, rewrite.prompt_tokens, rewrite.output_tokens)
        generator = replace(generator, work=work)
    loading = kept = 0.0
    if reuse is not None:
        assert isinstance(generator, ModelStation)
        one = generator.deployment
        per_token = one.memory.rates.per_token
        loading = float(
            load_seconds(
                spec.context_tokens, reuse.stored, per_token, reuse.bandwidth or one.machine.host_copy_bandwidth
            )
        )
    retrieval = retrieve(spec.retrieval)
    if reuse is not None and isinstance(generator, ModelStation):
        one = generator.deployment
        devices = one.parallelism.devices_per_replica
        kept = float(store_bytes(retrieval.ingestion.tokens, reuse.stored, one.memory.rates.per_token * devices))
    itself = rewrite is not None and rewriter is None
    return _Plan(spec, retrieval, rewriter, generator, loading, itself), prompt - min(cached, prompt - 1.0), kept


def answer(
    spec: Pipeline | Mapping[str, Any], deployment: Estimate | None = None, *, limits: tuple[Limit, ...] = ()
) -> RagAnswer:
    """The pipeline with the cheapest copies of every stage that serve its rate within its target.

    ``deployment`` generates where the spec names no generator; its replicas are sized. ``limits`` hold where the spec has no target.
    Raises NoPlanError where no number of copies meets the target, and says what takes the time;
    SpecError and DoesNotFitError where a part cannot be.

    >>> from infersim import estimate
    >>> found = answer({"retrieval": {"corpus": {"documents": 100_000}, "queries_per_second": 5, "index": "faiss-hnsw",
    ...     "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4"}}}, estimate("meta-llama/Llama-3.1-8B", "H100-SXM"))
    >>> [stage.name for stage in found.stages]
    ['network', 'embed query', 'search', 'fetch', 'prefill', 'generate']
    >>> found.slowest.name, found.ttft < found.ttft_p95 < found.e2e
    ('prefill', True)
    """
    pipeline = spec if isinstance(spec, Pipeline) else validate(Pipeline, spec)
    plan, computed, kept = _plan(pipeline, deployment)
    asked = read_limits(pipeline.target) if pipeline.target else limits

    def worked(found: tuple[Served, ...]) -> RagAnswer:
        stages, tpot = plan.in_order(found), plan.tpot(found[-1].copies)
        return RagAnswer(
            pipeline, plan.retrieval, stages, plan.generator.model, pipeline.context_tokens, computed, kept, tpot, asked
        )

    def misses(found: tuple[Served, ...]) -> str:
        one = worked(found)
        told = "; ".join(
            f"{limit.name} is {shown(one.percentile(limit.metric, limit.percentile))}, not {shown(limit.seconds)}"
            for limit in one.limits if limit.name in one.missed
        )  # fmt: skip
        return f"no number of copies meets the target: {told}; most of TTFT is {one.slowest.name} with {shown(one.slowest.mean)}"

    return worked(cheapest(plan.stations, lambda found: not worked(found).missed, misses))
