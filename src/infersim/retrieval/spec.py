"""Retrieval as a file says it: the corpus, what embeds it, the index, what reranks, how many queries there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from infersim.specs.hardware import Accelerator
from infersim.specs.library import load_recall_curve, load_vector_index
from infersim.specs.quantity import Money, Seconds, Spec
from infersim.specs.served import ServedModel
from infersim.specs.vector_search import Count, RecallCurve, Share, VectorIndex

Tokens = Annotated[float, Field(ge=1, le=1e9)]


class Corpus(Spec):
    """Documents and how they are cut. ``document_tokens`` is a mean, or the lengths themselves: {length: share of documents}.

    >>> Corpus(documents=1000, document_tokens={500: 0.5, 3500: 0.5}).mean_tokens
    2000.0
    """

    documents: Count
    """How many."""
    document_tokens: Tokens | dict[float, float] = 1000.0
    """Mean length, or lengths and their shares."""
    chunk: Tokens = 512.0
    """Tokens of a passage."""
    overlap: Annotated[float, Field(ge=0)] = 64.0
    """Tokens that a passage shares with the one before."""
    changed_per_day: Annotated[float, Field(ge=0)] = 0.0
    """Share of the documents that change in a day and are embedded again."""
    batch_period: Seconds = 3600.0
    """Changes are taken up this often."""

    @model_validator(mode="after")
    def _fits(self) -> Corpus:
        if self.overlap >= self.chunk:
            raise ValueError(f"overlap of {self.overlap:g} tokens must be less than the chunk of {self.chunk:g}")
        if isinstance(self.document_tokens, dict):
            shares = self.document_tokens
            if not shares or any(not length >= 1 or part < 0 for length, part in shares.items()):
                raise ValueError("document_tokens: lengths of at least 1 token, each with its share of the documents")
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"document_tokens: shares must add up to 1, got {sum(shares.values()):g}")
        return self

    @property
    def lengths(self) -> dict[float, float]:
        """Length -> share of the documents."""
        given = self.document_tokens
        return given if isinstance(given, dict) else {given: 1.0}

    @property
    def mean_tokens(self) -> float:
        return sum(length * part for length, part in self.lengths.items())


class IndexChoice(Spec):
    """An index on hardware: a preset with its parameters changed where wanted, threads, replicas, and what the host costs.

    ``hardware`` is a CPU or an accelerator, by name or written out. ``threads`` work on queries at the same time; None takes all cores
    of a CPU. ``host_hour`` is what a replica's host costs for an hour, by default the price of the hardware on file.

    >>> IndexChoice.model_validate({"preset": "faiss-hnsw", "ef_search": 128}).index.ef_search
    128
    """

    index: VectorIndex
    """The index, by preset or written out."""
    hardware: Annotated[str, Field(min_length=1)] | Accelerator = "EPYC-9654"
    """A CPU or an accelerator."""
    rates: str | None = None
    """Search rates measured on that CPU, by name; None takes those of its name where there are some."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Queries worked on at the same time; None: all cores."""
    replicas: Annotated[int, Field(ge=1, le=65536)] = 1
    """Hosts with the index."""
    batch: Annotated[int, Field(ge=1, le=65536)] = 1
    """Queries searched together."""
    selectivity: Share = 1.0
    """Share of the vectors that pass a filter."""
    filtered: Annotated[str, Field(pattern="^(before|after)$")] = "after"
    """A filter is applied before the search, which is then exact over what passes, or after it, over more candidates."""
    curve: RecallCurve | None = None
    """What recall is read from; None: no recall is told."""
    host_hour: Money | None = None
    """Price of a host for an hour; by default the one on file."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"preset": given}
        if not isinstance(given, Mapping) or "index" in given:
            return given
        given = dict(given)
        changed = {
            name: given.pop(name)
            for name in list(given)
            if name in VectorIndex.model_fields and name not in cls.model_fields
        }
        name = given.pop("preset", None)
        if name is None:
            return given | {"index": {"name": changed.get("kind", "index"), "engine": "library", **changed}}
        base = load_vector_index(name)
        return given | {"index": VectorIndex.model_validate(base.model_dump(mode="json") | changed)}

    @field_validator("curve", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return load_recall_curve(given) if isinstance(given, str) else given


class Reranker(ServedModel):
    """A cross-encoder on hardware that reads the query with each of ``candidates`` passages."""

    candidates: Annotated[int, Field(ge=1, le=10**6)] = 50
    """Passages read with the query."""


class RetrievalSpec(Spec):
    """Retrieval from documents to the passages that are handed on.

    >>> one = RetrievalSpec.model_validate({
    ...     "corpus": {"documents": 100_000}, "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4"}, "index": "faiss-hnsw",
    ...     "queries_per_second": 20})
    >>> one.index.index.kind, one.top_k
    ('hnsw', 10)
    """

    corpus: Corpus
    """The documents."""
    embedder: ServedModel
    """Model that makes vectors, on hardware."""
    dimension: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Elements of a vector; None: the model's hidden size."""
    index: IndexChoice
    """Vector index, on hardware."""
    top_k: Count = 10
    """Passages handed on."""
    reranker: Reranker | None = None
    """Cross-encoder after the search."""
    query_tokens: Tokens = 32.0
    """Length of a query."""
    queries_per_second: Annotated[float, Field(gt=0, le=1e9)] = 10.0
    """Rate of queries that it is sized for."""
    utilisation: Share = 0.7
    """Share of its capacity that a stage is loaded to at most, for the queue not to grow."""
