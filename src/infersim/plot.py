"""Figures from results: each function takes a result (or its ``to_dict()``), draws on ``ax`` or on new axes, and returns the Axes.

    >>> import infersim
    >>> axes = infersim.plot.roofline(infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=16))
    >>> axes.get_xlabel()
    'arithmetic intensity [FLOP/byte]'

``axes.figure.savefig("roofline.svg")`` writes a file; in a notebook ``axes.figure`` shows the figure. matplotlib is imported when the
first figure is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infersim.report.figures.accuracy import predicted_against_measured
    from infersim.report.figures.adapters import adapters_and_room, scheme_comparison
    from infersim.report.figures.agents import state_times, task_distribution
    from infersim.report.figures.decision import decision_curve
    from infersim.report.figures.decoding import decoding_methods
    from infersim.report.figures.doubt import chance_of_target
    from infersim.report.figures.load import latency_against_load, simulated_latency
    from infersim.report.figures.memory import kv_memory, memory_parts
    from infersim.report.figures.money import cost_against_utilisation, cost_parts, own_against_rent
    from infersim.report.figures.pareto import pareto
    from infersim.report.figures.prompts import prefix_hits
    from infersim.report.figures.rag import rag_passages, rag_waterfall
    from infersim.report.figures.retrieval import retrieval_stages
    from infersim.report.figures.roofline import roofline
    from infersim.report.figures.run import latency_distribution, load_over_time
    from infersim.report.figures.steps import step_breakdown, step_comparison
    from infersim.report.figures.sweep import sweep_points
    from infersim.report.figures.tornado import tornado

_HOMES = {
    "roofline": "roofline", "step_breakdown": "steps", "step_comparison": "steps", "latency_against_load": "load",
    "simulated_latency": "load", "latency_distribution": "run", "load_over_time": "run", "pareto": "pareto", "kv_memory": "memory",
    "memory_parts": "memory", "cost_against_utilisation": "money", "own_against_rent": "money", "cost_parts": "money",
    "chance_of_target": "doubt", "tornado": "tornado", "predicted_against_measured": "accuracy", "sweep_points": "sweep",
    "task_distribution": "agents", "state_times": "agents", "scheme_comparison": "adapters", "adapters_and_room": "adapters",
    "decoding_methods": "decoding", "prefix_hits": "prompts", "retrieval_stages": "retrieval",
    "rag_waterfall": "rag", "rag_passages": "rag", "decision_curve": "decision",
}  # fmt: skip

__all__ = [  # noqa: RUF022 - grouped by what a reader looks for
    "roofline", "step_breakdown", "step_comparison", "latency_against_load", "simulated_latency", "latency_distribution",
    "load_over_time", "pareto", "kv_memory", "memory_parts", "cost_against_utilisation", "own_against_rent",
    "cost_parts", "chance_of_target", "tornado", "predicted_against_measured",
    "sweep_points",
    "task_distribution", "state_times", "scheme_comparison", "adapters_and_room",
    "decoding_methods", "prefix_hits", "retrieval_stages",
    "rag_waterfall", "rag_passages", "decision_curve",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'infersim.plot' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"infersim.report.figures.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
