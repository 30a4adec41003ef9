"""Pictures of a RAG pipeline and of a decision in a report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from infersim.report.figures.decision import decision_curve
from infersim.report.figures.rag import rag_waterfall
from infersim.report.svg import Picture
from infersim.units import show


def rag_pictures(answer: Mapping[str, Any], prefix: str) -> list[Picture]:
    """Where the time of a query goes."""
    ttft = show(answer["ttft_s"], "s")
    why = f"{answer['slowest_stage']} takes the most of {ttft} to the first token."
    if answer["weakest_stage"] is not None:
        why += f" {answer['weakest_stage']} holds the rate at {answer['capacity_queries_per_s']:,.3g} queries/s."
    told = "Bars: the stages of a query one after the other, what each takes alone and what is waited for."
    return [Picture(f"{prefix}-waterfall", "Where the time of a query goes", told, why, partial(rag_waterfall, answer))]


def decision_pictures(answer: Mapping[str, Any], prefix: str) -> list[Picture]:
    """What each way costs over what decides."""
    name = answer["over"].replace("_", " ")
    best = answer["best"] or "none"
    points = len(answer["break_evens"])
    why = f"At your own value the cheapest is {best}; it changes at {points or 'no'} value{'' if points == 1 else 's'} along the curve."
    told = f"Lines: cost of each way over {name}, the cheapest drawn broad."
    return [
        Picture(
            f"{prefix}-decision",
            answer["title"][:1].upper() + answer["title"][1:],
            told,
            why,
            partial(decision_curve, answer),
        )
    ]
