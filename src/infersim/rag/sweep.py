"""A pipeline over the number of passages and the size of chunks: latency and cost, every stage sized anew at each point."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from infersim.errors import InferSimError, NoPlanError, SpecError
from infersim.planning.distributions import Array
from infersim.planning.options import frame
from infersim.predict.estimate import Estimate
from infersim.rag.answer import RagAnswer, answer
from infersim.rag.spec import Pipeline
from infersim.specs.library import validate

FIGURES = ("ttft", "ttft_p95", "e2e", "usd_per_query", "capacity", "prompt_tokens")
UNITS = {"ttft": "ttft_s", "ttft_p95": "ttft_p95_s", "e2e": "e2e_s", "capacity": "capacity_queries_per_s"}


@dataclass(frozen=True)
class RagSweep:
    """Figures with a row per number of passages and a column per chunk size; NaN where a point cannot be, and why in ``refused``.

    What is found is not told: recall by chunk size is to be measured on one's own questions.
    """

    passages: tuple[int, ...]
    chunks: tuple[float, ...]
    figures: Mapping[str, Array]
    refused: Mapping[tuple[int, float], str]

    def __getitem__(self, name: str) -> Array:
        return self.figures[name]

    def rows(self) -> list[dict[str, Any]]:
        """A row per point; figures that cannot be are None."""
        return [
            {"passages": count, "chunk_tokens": chunk,
             **{UNITS.get(name, name): _finite(self.figures[name][row, column]) for name in FIGURES},
             "refused": self.refused.get((count, chunk))}
            for row, count in enumerate(self.passages) for column, chunk in enumerate(self.chunks)
        ]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"passages": list(self.passages), "chunk_tokens": list(self.chunks), "points": self.rows()}

    def to_frame(self) -> Any:
        """A row per point, as a pandas frame."""
        return frame(self.rows())

    def __str__(self) -> str:
        lines = ["TTFT and USD per thousand queries by passages and chunk tokens"]
        lines.append(f"{'':>9}" + "".join(f"{chunk:>17,.0f}" for chunk in self.chunks[:SHOWN]))
        for row, count in enumerate(self.passages):
            cells = ""
            for column in range(min(len(self.chunks), SHOWN)):
                ttft, usd = self["ttft"][row, column], 1e3 * self["usd_per_query"][row, column]
                cells += (
                    f"{'-':>17}" if math.isnan(ttft) else f"{ttft:>8.3f} s{'-' if math.isnan(usd) else f'{usd:.3g}':>7}"
                )
            lines.append(f"{count:>9}" + cells)
        for (count, chunk), why in list(self.refused.items())[:1]:
            lines += textwrap.wrap(
                f"-: {len(self.refused)} of {len(self.rows())} points refused, such as {count} x {chunk:,.0f} tokens: {why}",
                80,
            )
        return "\n".join(lines)


SHOWN = 4
"""Chunk sizes that a printed sweep has room for."""


def sweep(
    spec: Pipeline | Mapping[str, Any],
    deployment: Estimate | None = None,
    *,
    passages: Sequence[int],
    chunks: Sequence[float],
) -> RagSweep:
    """The pipeline at every number of passages and chunk size; the overlap of chunks keeps its share.

    Passages beyond those that are found raise what is found. Raises SpecError where the axes are no rising lists, and what ``answer``
    raises where no point at all can be answered.
    """
    pipeline = spec if isinstance(spec, Pipeline) else validate(Pipeline, spec)
    for name, axis in (("passages", passages), ("chunks", chunks)):
        if not len(axis) or min(axis) < 1 or any(b <= a for a, b in pairwise(axis)):
            raise SpecError(f"is a rising list of numbers from one on, got {list(axis)}", field=name)
    figures = {name: np.full((len(passages), len(chunks)), np.nan) for name in FIGURES}
    refused: dict[tuple[int, float], str] = {}
    last: InferSimError | None = None
    for row, count in enumerate(passages):
        for column, chunk in enumerate(chunks):
            try:
                found = answer(at(pipeline, int(count), float(chunk)), deployment)
            except InferSimError as error:
                refused[int(count), float(chunk)], last = str(error), error
                continue
            for name in FIGURES:
                figures[name][row, column] = _figure(found, name)
    if last is not None and len(refused) == len(passages) * len(chunks):
        raise (
            NoPlanError(f"no point of the sweep can be answered; the last one: {last}")
            if isinstance(last, NoPlanError)
            else last
        )
    return RagSweep(tuple(int(count) for count in passages), tuple(float(chunk) for chunk in chunks), figures, refused)


def at(pipeline: Pipeline, passages: int, chunk: float) -> Pipeline:
    """The same pipeline with so many passages of so many tokens."""
    corpus, retrieval = pipeline.retrieval.corpus, pipeline.retrieval
    cut = corpus.model_copy(update={"chunk": chunk, "overlap": corpus.overlap / corpus.chunk * chunk})
    found = {"top_k": max(retrieval.top_k, passages) if retrieval.reranker else passages}
    reranker = retrieval.reranker
    if reranker is not None and reranker.candidates < passages:
        found["reranker"] = reranker.model_copy(update={"candidates": passages})  # type: ignore[assignment]
    return pipeline.model_copy(
        update={"passages": passages, "retrieval": retrieval.model_copy(update={"corpus": cut, **found})}
    )


def _figure(found: RagAnswer, name: str) -> float:
    value = found.spec.prompt_tokens if name == "prompt_tokens" else getattr(found, name)
    return math.nan if value is None else float(value)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
