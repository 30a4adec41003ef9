"""Pictures of decoding, prompts and retrieval in a report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from infersim.report.figures.decoding import decoding_methods
from infersim.report.figures.prompts import prefix_hits
from infersim.report.figures.retrieval import retrieval_stages
from infersim.report.svg import Picture
from infersim.units import show

Told = Mapping[str, Any]


def decoding_pictures(answer: Told, prefix: str) -> list[Picture]:
    """What a user waits for, by algorithm."""
    rows = answer["methods"]
    slow, fast = (pick(rows, key=lambda row: row["e2e_s"]) for pick in (max, min))
    why = f"{fast['method']} answers first, after {show(fast['e2e_s'], 's')}; {slow['method']} last, after {show(slow['e2e_s'], 's')}."
    return [
        Picture(f"{prefix}-decoding", "What an answer takes, by decoding algorithm", "Bars: time of an answer by algorithm.", why,
                partial(decoding_methods, answer))
    ]  # fmt: skip


def prompt_pictures(answer: Told, prefix: str) -> list[Picture]:
    """Hits over the size of the cache."""
    now, best = answer["now"]["hit_rate"], answer["best"]["hit_rate"]
    why = f"{now:.0%} of prompt tokens are found as the prompt stands, {best:.0%} in the best order: {', '.join(answer['best']['order'])}."
    return [
        Picture(f"{prefix}-hits", "Prompt tokens found in the prefix cache", "Lines: hit rate over cache size.", why,
                partial(prefix_hits, answer))
    ]  # fmt: skip


def retrieval_pictures(answer: Told, prefix: str) -> list[Picture]:
    """The stages of a query."""
    most = max(answer["stages"], key=lambda stage: stage["latency_s"])
    why = f"{most['name']} takes the most of {show(answer['latency_s'], 's')}."
    return [
        Picture(f"{prefix}-stages", "Where the time of a query goes", "Bars: the stages of a query, one after the other.", why,
                partial(retrieval_stages, answer))
    ]  # fmt: skip
