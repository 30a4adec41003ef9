"""The stages of retrieval, one function each: embed the query, search, rerank. Each says seconds, capacity and USD of a query.

>>> from infersim.specs.served import ServedModel
>>> one = embed_query(ServedModel(model="BAAI/bge-base-en-v1.5", hardware="L4", gpu_hour="0.8 USD"), 32)
>>> one.seconds < 0.02 and one.usd < 1e-5
True
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from infersim.errors import UnsupportedError
from infersim.predict.deploy import deploy
from infersim.predict.estimate import Estimate
from infersim.retrieval.checks import positive
from infersim.retrieval.corpus import late_interaction_bytes, late_interaction_flops
from infersim.retrieval.index import DEVICE_CALL, SearchTime, search_time, with_replicas
from infersim.retrieval.spec import IndexChoice
from infersim.specs.hardware import Accelerator
from infersim.specs.library import load_accelerator
from infersim.specs.served import ServedModel
from infersim.specs.workload import Workload

FULL = (1, 8, 32, 128)
"""Requests at the same time that are tried for the most a model can do."""

MONTH_HOURS = 730.0
"""Hours of a month: 8,760 / 12."""


@dataclass(frozen=True)
class Stage:
    """One step of a query. ``seconds`` without a queue, ``capacity`` in queries per second of the hardware given, ``usd`` of a query
    on hardware that is fully used; None where no price is known."""

    name: str
    seconds: float
    capacity: float
    devices: int
    device_hour: float | None
    """USD of one device (or host) for an hour."""
    detail: str
    sources: tuple[str, ...] = ()
    charged: float = 0.0
    """USD that a service charges for a query."""

    @property
    def usd(self) -> float | None:
        if self.device_hour is None:
            return self.charged or None
        return self.device_hour * self.devices / 3600 / self.capacity + self.charged

    def to_dict(self) -> dict[str, Any]:
        """Plain values with units in their keys."""
        return {
            "name": self.name, "latency_s": self.seconds, "capacity_per_s": self.capacity, "devices": self.devices,
            "device_hour_usd": self.device_hour, "usd_per_query": self.usd, "detail": self.detail,
        }  # fmt: skip


def embed_query(embedder: ServedModel, tokens: float) -> Stage:
    """Turn a query of ``tokens`` into a vector: one pass of the model; capacity is the most its devices do at any number at once.

    Raises UnsupportedError for a model that generates and DoesNotFitError for one that does not fit.
    """
    positive("tokens", tokens)
    alone, full = one_pass(embedder, tokens, 1.0), fullest(embedder, tokens)
    return Stage(
        "embed query", alone.e2e, full.requests_per_second, full.devices, full.price_per_hour,
        f"{alone.describe()}, {tokens:g} tokens", tuple(alone.sources),
    )  # fmt: skip


def search(choice: IndexChoice, vectors: float, dimension: int, *, top_k: int = 10) -> Stage:
    """Find ``top_k`` of ``vectors``: seconds of a query alone, and the queries that all replicas answer.

    A managed service that states no speed is priced but not timed: its ``seconds`` are those of the same index on the hardware named.
    """
    found = timed(choice, vectors, dimension, top_k=top_k)
    hardware = _hardware(choice.hardware)
    managed, hour = choice.index.managed, choice.host_hour
    if hour is None and managed is None and hardware.price_per_hour is not None:
        hour = hardware.price_per_hour.per_hour
    charged = query_charge(choice, vectors, dimension)
    detail = (
        f"{choice.index.name} on {choice.replicas} x {hardware.name}, {found.threads} threads, bound by {found.bound}"
    )
    seconds, capacity = float(found.alone), float(found.queries_per_second)
    return Stage("search", seconds, capacity, choice.replicas, hour, detail, found.sources, charged)


def timed(choice: IndexChoice, vectors: float, dimension: int, *, top_k: int = 10) -> SearchTime:
    """The search itself with everything it is made of: work, bytes, what bounds it."""
    one = search_time(
        choice.index, vectors, dimension, choice.hardware, top_k=top_k, threads=choice.threads, batch=choice.batch,
        selectivity=choice.selectivity, filtered=choice.filtered, curve=choice.curve, rates=choice.rates,
    )  # fmt: skip
    return with_replicas(one, choice.replicas)


def query_charge(choice: IndexChoice, vectors: float, dimension: int) -> float:
    """USD that a managed service charges for a query: read units by the bytes of the searched vectors; 0 where it states none.

    >>> from infersim.retrieval.spec import IndexChoice
    >>> round(query_charge(IndexChoice.model_validate("pinecone-serverless"), 1e6, 1536) * 1e6, 1)  # 6.64 GB, 16 USD a million units
    106.3
    """
    managed = choice.index.managed
    if managed is None or managed.million_read_units is None or managed.read_unit_bytes is None:
        return 0.0
    size = vectors * (dimension * 4.0 + choice.index.memory.per_vector)
    return managed.million_read_units / 1e6 * max(size / managed.read_unit_bytes, managed.least_read_units)


def rerank(reranker: ServedModel, candidates: int, query_tokens: float, passage_tokens: float) -> Stage:
    """Score the query with each of ``candidates`` passages by a cross-encoder, all pairs at once: as long as they take together.

    One pair is a pass of query and passage tokens; a batch larger than the engine's token budget takes several steps.
    """
    positive("candidates", candidates)
    tokens = query_tokens + passage_tokens
    positive("tokens", tokens)
    together = one_pass(reranker, tokens, float(max(candidates, 1)))
    full = max((together, fullest(reranker, tokens)), key=lambda found: found.requests_per_second)
    seconds = max(candidates / together.requests_per_second, one_pass(reranker, tokens, 1.0).e2e)
    return Stage(
        "rerank", seconds, full.requests_per_second / candidates, full.devices, full.price_per_hour,
        f"{together.describe()}, {candidates} pairs of {tokens:g} tokens", tuple(together.sources),
    )  # fmt: skip


def late_interaction(
    hardware: str | Accelerator, documents: float, document_tokens: float, query_tokens: float, width: int, *, element: float = 2.0,
    device_hour: float | None = None,
) -> Stage:  # fmt: skip
    """Score ``documents`` by the sum of maximal similarities of token vectors (ColBERT): a bound by the data sheet, and a call.

    Embedding the query's tokens is a stage of its own.
    """
    positive("documents", documents)
    device = _hardware(hardware)
    flops = late_interaction_flops(query_tokens, documents * document_tokens, width)
    moved = late_interaction_bytes(documents * document_tokens, width, element)
    peak = device.peak_flops.get("fp16") or device.peak_flops.get("bf16") or max(device.peak_flops.values())
    seconds = DEVICE_CALL + max(flops / peak, moved / device.memory.bandwidth)
    hour = device_hour if device_hour is not None else device.price_per_hour.per_hour if device.price_per_hour else None
    return Stage(
        "late interaction", seconds, 1.0 / seconds, 1, hour, f"{documents:g} documents of {document_tokens:g} tokens on {device.name}",
        (f"{device.name}: data sheet, no efficiency enters (a bound)", f"a call of {DEVICE_CALL * 1e6:g} us (assumed)"),
    )  # fmt: skip


@functools.lru_cache(maxsize=1024)
def one_pass(model: ServedModel, tokens: float, at_once: float) -> Estimate:
    """The model under ``at_once`` requests of ``tokens`` each, of which it only reads. UnsupportedError where it generates."""
    found = deploy(model, Workload(input_tokens=tokens, output_tokens=1.0, concurrency=at_once))
    if found.model.task == "generate":
        raise UnsupportedError(
            f"{found.model.name} generates text; an embedding model or a cross-encoder is needed, such as BAAI/bge-base-en-v1.5"
        )
    return found


def fullest(model: ServedModel, tokens: float) -> Estimate:
    """The most that the model's devices do: the best of a few numbers of requests at once."""
    return max((one_pass(model, tokens, float(n)) for n in FULL), key=lambda found: found.requests_per_second)


def _hardware(given: str | Accelerator) -> Accelerator:
    return load_accelerator(given) if isinstance(given, str) else given
