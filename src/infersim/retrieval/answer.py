"""Answer a retrieval spec: every stage of a query, what the index holds, ingestion, and what it all costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from infersim.errors import SpecError
from infersim.retrieval.index import SearchTime
from infersim.retrieval.ingestion import Ingestion, count_vectors, ingest
from infersim.retrieval.recall import recall_at
from infersim.retrieval.spec import RetrievalSpec
from infersim.retrieval.stages import MONTH_HOURS, Stage, embed_query, rerank, search, timed
from infersim.specs.huggingface import load_model
from infersim.units import show

MONTH = MONTH_HOURS * 3600.0


@dataclass(frozen=True)
class RetrievalAnswer:
    """What a retrieval spec comes to. Times in seconds, bytes, money in USD; None where no price is known."""

    spec: RetrievalSpec
    dimension: int
    stages: tuple[Stage, ...]
    found: SearchTime
    ingestion: Ingestion

    @property
    def seconds(self) -> float:
        """From the query's text to the passages, on idle hardware: the sum of the stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def capacity(self) -> float:
        """Queries per second of the hardware given: that of the slowest stage."""
        return min(stage.capacity for stage in self.stages)

    @property
    def memory_bytes(self) -> float:
        """Of the index in memory, in one replica."""
        return float(self.found.footprint.memory)

    @property
    def disk_bytes(self) -> float:
        return float(self.found.footprint.disk)

    @property
    def recall(self) -> float | None:
        """As measured on the curve given, at this index's knob; None without a curve. Of its data, not of this corpus."""
        index, curve = self.spec.index.index, self.spec.index.curve
        if index.kind == "flat":
            return 1.0
        if curve is None:
            return None
        return float(recall_at(curve, index.ef_search if index.kind == "hnsw" else index.probes))

    def copies(self, stage: Stage) -> int:
        """How many times the hardware given of a stage is needed so that it is loaded to ``utilisation`` at most."""
        return max(math.ceil(self.spec.queries_per_second / (stage.capacity * self.spec.utilisation) - 1e-9), 1)

    @property
    def usd_per_month(self) -> float | None:
        """USD a month: devices and hosts that run all the time, what a service charges, embedding of what changes."""
        total = 0.0
        for stage in self.stages:
            charged = stage.charged * self.spec.queries_per_second * MONTH
            if stage.device_hour is None and not charged and stage.seconds > 0:
                return None
            total += (stage.device_hour or 0.0) * stage.devices * self.copies(stage) * MONTH_HOURS + charged
        renewed = self.ingestion.usd_per_month
        return None if renewed is None else max(total + self.managed_per_month + renewed, self._least_per_month)

    @property
    def managed_per_month(self) -> float:
        """USD a month that a managed service charges for storage and for writing what changes."""
        managed, vectors = self.spec.index.index.managed, self.ingestion.vectors
        if managed is None:
            return 0.0
        each = self.dimension * 4.0 + self.spec.index.index.memory.per_vector
        stored = (managed.storage_gb_month or 0.0) * vectors * each / 1e9
        writes = (
            self.ingestion.changed_per_day * 365 / 12 * each / managed.write_unit_bytes
            if managed.write_unit_bytes
            else 0.0
        )
        units = math.ceil(self.memory_bytes / managed.unit_memory) if managed.unit_memory else 0.0
        capacity = max(units, managed.least_units) * (managed.unit_hour or 0.0) * MONTH_HOURS
        return stored + (managed.million_write_units or 0.0) / 1e6 * writes + capacity

    @property
    def _least_per_month(self) -> float:
        managed = self.spec.index.index.managed
        return float(managed.least_per_month or 0.0) if managed else 0.0

    @property
    def usd_per_query(self) -> float | None:
        """USD a month over the queries of a month."""
        month = self.usd_per_month
        return None if month is None else month / (self.spec.queries_per_second * MONTH)

    @cached_property
    def sources(self) -> list[str]:
        """Everything the figures rest on."""
        found = [f"{stage.name}: {source}" for stage in self.stages for source in stage.sources]
        found.append(f"a stage is loaded to {self.spec.utilisation:.0%} at most")
        return list(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """Plain values with units in their keys."""
        work = self.found.work
        return {
            "dimension": self.dimension, "vectors": self.ingestion.vectors, "top_k": self.spec.top_k, "latency_s": self.seconds,
            "capacity_per_s": self.capacity, "recall": self.recall, "memory_bytes": self.memory_bytes, "disk_bytes": self.disk_bytes,
            "stages": [stage.to_dict() | {"copies": self.copies(stage)} for stage in self.stages],
            "search": {
                "index": self.spec.index.index.name, "kind": self.spec.index.index.kind, "evaluations": float(work.evaluations),
                "flop": float(work.flops), "read_bytes": float(work.moved), "bound": self.found.bound,
            },
            "ingestion": self.ingestion.to_dict(), "usd_per_query": self.usd_per_query, "usd_per_month": self.usd_per_month,
            "sources": self.sources,
        }  # fmt: skip

    def __str__(self) -> str:
        ingestion, month = self.ingestion, self.usd_per_month
        name, memory = self.spec.index.index.name, show(self.memory_bytes, "B")
        disk = f", {show(self.disk_bytes, 'B')} on disk" if self.disk_bytes else ""
        lines = [
            f"{ingestion.vectors:,.0f} vectors of {self.dimension} in {name}: {memory} of memory{disk}",
            f"{'stage':<17}{'latency':>10}{'capacity':>13}{'copies':>8}{'USD/h':>9}",
        ]
        for stage in self.stages:
            copies = self.copies(stage)
            hour = "-" if stage.device_hour is None else f"{stage.device_hour * stage.devices * copies:,.2f}"
            lines.append(
                f"{stage.name:<17}{show(stage.seconds, 's'):>10}{_rate(stage.capacity):>11}/s{copies:>8}{hour:>9}"
            )
        lines.append(f"{'together':<17}{show(self.seconds, 's'):>10}{_rate(self.capacity):>11}/s")
        if self.recall is not None and self.spec.index.index.kind != "flat":
            lines.append(f"recall {self.recall:.3f}, as measured on {self.spec.index.curve.data}")  # type: ignore[union-attr]
        cost = "no price known" if ingestion.usd is None else f"{ingestion.usd:,.2f} USD"
        lines.append(f"ingestion {ingestion.seconds / 3600:,.2f} h, {cost}, held up by {ingestion.bottleneck}; fresh within "
                     f"{show(ingestion.freshness, 's')}")  # fmt: skip
        if month is not None:
            rate, thousand = self.spec.queries_per_second, 1e3 * (self.usd_per_query or 0.0)
            lines.append(f"{month:,.0f} USD a month at {rate:g} queries/s, {thousand:.4f} USD per thousand")
        return "\n".join(lines)


def _rate(value: float) -> str:
    """Three digits of a rate below a hundred, whole numbers above."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def answer(spec: RetrievalSpec) -> RetrievalAnswer:
    """Every figure of a retrieval spec. Raises SpecError where it cannot be answered, such as more passages to rerank than found.

    >>> found = answer(RetrievalSpec.model_validate({
    ...     "corpus": {"documents": 100_000}, "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4", "gpu_hour": "0.8 USD"},
    ...     "index": {"preset": "faiss-hnsw", "threads": 8, "host_hour": "1 USD"}, "queries_per_second": 20}))
    >>> [stage.name for stage in found.stages], found.memory_bytes
    (['embed query', 'search'], 998400000.0)
    """
    embedder = load_model(spec.embedder.model) if isinstance(spec.embedder.model, str) else spec.embedder.model
    dimension = spec.dimension or embedder.hidden_size
    wanted = max(spec.top_k, spec.reranker.candidates if spec.reranker else 0)
    vectors = count_vectors(spec.corpus)
    if wanted > vectors:
        raise SpecError(f"asks for {wanted} passages of {vectors:,.0f}", field="top_k")
    found = timed(spec.index, vectors, dimension, top_k=wanted)
    ingestion = ingest(spec.corpus, spec.embedder, found)
    stages = [embed_query(spec.embedder, spec.query_tokens), search(spec.index, vectors, dimension, top_k=wanted)]
    if spec.reranker is not None:
        passage = ingestion.tokens / vectors
        stages.append(rerank(spec.reranker, spec.reranker.candidates, spec.query_tokens, passage))
    return RetrievalAnswer(spec, dimension, tuple(stages), found, ingestion)
