"""A pipeline as a file says it: retrieval, what is put into the prompt, and what generates."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from infersim.errors import InferSimError
from infersim.retrieval.spec import RetrievalSpec
from infersim.serving.target import read_limits
from infersim.specs.api import AnyModel
from infersim.specs.quantity import Bandwidth, Seconds, Spec

Share = Annotated[float, Field(ge=0, le=1)]
Tokens = Annotated[float, Field(ge=0, le=1e8)]


class Rewrite(Spec):
    """A call before retrieval that makes the question fit for search: rewriting, sub-questions, a hypothetical answer (HyDE).

    ``model`` None is the generator itself. ``searches`` queries come of it and are embedded and searched side by side.
    """

    model: AnyModel | None = None
    """Model that rewrites; None: the generator."""
    prompt_tokens: Annotated[float, Field(ge=1, le=1e8)] = 200.0
    """Of the rewriting call."""
    output_tokens: Annotated[float, Field(ge=1, le=1e6)] = 40.0
    """Of the rewriting call."""
    searches: Annotated[int, Field(ge=1, le=64)] = 1
    """Queries that come of it, searched side by side."""


class ChunkReuse(Spec):
    """KV caches of passages, kept and loaded wherever a passage stands in the prompt; a share of its tokens is computed again.

    ``stored`` is the share of the passages whose cache is found. ``bandwidth`` is that of one device, by default the rate of large
    copies from its host. Source: Yao et al., CacheBlend, arXiv:2405.16444, who compute about 15% of the tokens again.
    """

    recompute: Share = 0.15
    """Share of a kept passage's tokens that is computed again."""
    stored: Share = 1.0
    """Share of the passages whose cache is found."""
    bandwidth: Bandwidth | None = None
    """Of one device; by default that of large copies from its host."""


class Pipeline(Spec):
    """Retrieval-augmented generation for ``retrieval.queries_per_second``.

    ``generator`` None is the scenario's deployment. The prompt holds ``system_tokens``, of which ``system_cached`` is found in the
    prefix cache, ``passages`` (None: ``retrieval.top_k``) chunks of the corpus, and the question (``retrieval.query_tokens`` and
    ``history_tokens``). ``network`` is there and back, ``fetch`` the reading of the passages' text. ``target`` is on the whole
    pipeline. ``mean_load`` is the mean rate over the one it is sized for.

    >>> one = Pipeline.model_validate({"retrieval": {
    ...     "corpus": {"documents": 100_000}, "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4"}, "index": "faiss-hnsw"}})
    >>> one.context_tokens, one.prompt_tokens
    (5120.0, 5652.0)
    """

    retrieval: RetrievalSpec
    """What finds the passages, and the rate of queries."""
    generator: AnyModel | None = None
    """Model that answers; None: the deployment."""
    passages: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """Passages in the prompt; None: top_k."""
    system_tokens: Tokens = 500.0
    """System prompt before the passages."""
    system_cached: Share = 1.0
    """Share of it in the prefix cache."""
    history_tokens: Tokens = 0.0
    """What was said before."""
    output_tokens: Annotated[float, Field(ge=1, le=1e8)] = 300.0
    """Length of an answer."""
    rewrite: Rewrite | None = None
    """A call before retrieval."""
    reuse: ChunkReuse | None = None
    """KV caches of passages, kept."""
    network: Seconds = 0.02
    """There and back."""
    fetch: Seconds = 0.005
    """Reading the passages' text."""
    target: str | None = None
    """On the whole pipeline: ttft_p95=450ms."""
    mean_load: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Mean rate over the one that it is sized for."""

    @field_validator("target")
    @classmethod
    def _limits(cls, given: str | None) -> str | None:
        if given is not None:
            try:
                read_limits(given)
            except InferSimError as error:
                raise ValueError(str(error)) from None
        return given

    @model_validator(mode="after")
    def _found(self) -> Pipeline:
        most = max(self.retrieval.top_k, self.retrieval.reranker.candidates if self.retrieval.reranker else 0)
        if self.passages is not None and self.passages > most:
            raise ValueError(f"passages: {self.passages} are put into the prompt, but only {most} are found")
        return self

    @property
    def handed_on(self) -> int:
        """Passages in the prompt."""
        return self.passages if self.passages is not None else int(self.retrieval.top_k)

    @property
    def context_tokens(self) -> float:
        """Tokens of the passages in the prompt, each as long as a chunk."""
        return self.handed_on * self.retrieval.corpus.chunk

    @property
    def prompt_tokens(self) -> float:
        return self.system_tokens + self.context_tokens + self.retrieval.query_tokens + self.history_tokens
