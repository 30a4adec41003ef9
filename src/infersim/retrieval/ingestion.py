"""Embed a corpus and build its index: vectors, tokens, hours, USD; again where the model changes; how fresh the index stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infersim.predict.estimate import Estimate
from infersim.retrieval.corpus import freshness_lag, passage_tokens, passages, pipeline_rate
from infersim.retrieval.index import SearchTime
from infersim.retrieval.spec import Corpus
from infersim.retrieval.stages import fullest
from infersim.specs.served import ServedModel

DAY = 86400.0


@dataclass(frozen=True)
class Ingestion:
    """A corpus on its way into an index. Times in seconds, money in USD."""

    documents: float
    vectors: float
    tokens: float
    embedding: Estimate
    """The embedding model at the load at which it does the most."""
    insert_rate: float
    """Vectors that the index takes in a second, on all its threads."""
    changed_per_day: float
    """Vectors that are embedded again in a day."""
    batch_period: float

    @property
    def embed_rate(self) -> float:
        """Passages embedded in a second by all devices."""
        return self.embedding.requests_per_second

    @property
    def device_seconds(self) -> float:
        """Device-seconds of embedding every passage once."""
        return self.vectors / self.embed_rate * self.embedding.devices

    @property
    def embed_seconds(self) -> float:
        """Seconds of embedding every passage once on the devices there are."""
        return self.vectors / self.embed_rate

    @property
    def build_seconds(self) -> float:
        """Seconds of building the index, where nothing is kept waiting."""
        return self.vectors / self.insert_rate if self.insert_rate != float("inf") else 0.0

    @property
    def seconds(self) -> float:
        """Seconds until every passage is embedded and inserted, the two running side by side."""
        return (
            self.vectors / pipeline_rate(self.embed_rate, self.insert_rate)
            if self.build_seconds
            else self.embed_seconds
        )

    @property
    def bottleneck(self) -> str:
        return "embedding" if self.embed_seconds >= self.build_seconds else "index"

    @property
    def usd(self) -> float | None:
        """USD of embedding: device time at the price; None where none is known."""
        hour = self.embedding.price_per_hour
        return None if hour is None else hour * self.device_seconds / 3600

    @property
    def usd_on_model_change(self) -> float | None:
        """USD of a new embedding model: every passage is embedded again, all at once."""
        return self.usd

    @property
    def usd_per_month(self) -> float | None:
        """USD a month of embedding what changes."""
        if self.usd is None:
            return None
        return self.usd * self.changed_per_day / self.vectors * 365 / 12

    @property
    def freshness(self) -> float:
        """Seconds at most from a change until it can be found: the wait for a batch, then its embedding and insertion."""
        batch = self.changed_per_day * self.batch_period / DAY
        insertion = 0.0 if self.insert_rate == float("inf") else batch / self.insert_rate
        return float(freshness_lag(self.batch_period, max(batch / self.embed_rate, self.embedding.e2e), insertion))

    def to_dict(self) -> dict[str, Any]:
        """Plain values with units in their keys."""
        return {
            "documents": self.documents, "vectors": self.vectors, "tokens": self.tokens, "embed_rate_per_s": self.embed_rate,
            "insert_rate_per_s": None if self.insert_rate == float("inf") else self.insert_rate,
            "device_seconds_s": self.device_seconds, "embed_seconds_s": self.embed_seconds, "build_seconds_s": self.build_seconds,
            "duration_s": self.seconds, "bottleneck": self.bottleneck, "usd": self.usd, "usd_on_model_change": self.usd_on_model_change,
            "usd_per_month": self.usd_per_month, "freshness_s": self.freshness,
        }  # fmt: skip


def count_vectors(corpus: Corpus) -> float:
    """Vectors of a corpus: documents x ceil((length - overlap) / (chunk - overlap)) by their lengths.

    >>> count_vectors(Corpus(documents=1000, document_tokens={500: 0.5, 2000: 0.5}))
    3000.0
    """
    per_document = sum(
        part * float(passages(length, corpus.chunk, corpus.overlap)) for length, part in corpus.lengths.items()
    )
    return corpus.documents * per_document


def count_tokens(corpus: Corpus) -> float:
    """Tokens that are embedded: those of the documents and the overlaps twice.

    >>> count_tokens(Corpus(documents=10, document_tokens=2000))
    22560.0
    """
    per_document = sum(
        part * float(passage_tokens(length, corpus.chunk, corpus.overlap)) for length, part in corpus.lengths.items()
    )
    return corpus.documents * per_document


def ingest(corpus: Corpus, embedder: ServedModel, index: SearchTime | None = None) -> Ingestion:
    """What it takes to embed a corpus and to insert it into ``index``, whose build is spread over its vectors.

    Passages are embedded as if all had the mean length; the engine batches them.

    >>> small = ingest(Corpus(documents=1000), ServedModel(model="BAAI/bge-base-en-v1.5", hardware="L4", gpu_hour="0.8 USD"))
    >>> small.vectors, small.usd < 0.05
    (3000.0, True)
    """
    vectors, tokens = count_vectors(corpus), count_tokens(corpus)
    build = float(index.build) if index is not None else 0.0
    return Ingestion(
        float(corpus.documents), vectors, tokens, fullest(embedder, max(tokens / vectors, 1.0)),
        vectors / build if build > 0 else float("inf"), vectors * corpus.changed_per_day, corpus.batch_period,
    )  # fmt: skip
