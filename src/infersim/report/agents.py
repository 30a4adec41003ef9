"""Pictures of agents, number formats and adapters in a report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from infersim.report.figures.adapters import adapters_and_room, scheme_comparison
from infersim.report.figures.agents import state_times, task_distribution
from infersim.report.svg import Picture
from infersim.units import show


def agent_pictures(answer: Mapping[str, Any], prefix: str) -> list[Picture]:
    """How long and how costly tasks are, and which states take the time."""
    time, first = answer["elapsed_s"], answer["critical_path"][0]
    why = f"Half of the tasks end within {show(time['p50'], 's')}, 95% within {show(time['p95'], 's')}."
    costly = f"A mean task costs {answer['usd']['mean']:.3g} USD, one in twenty {answer['usd']['p95']:.3g} USD or more."
    told = f"Bars: shares of {answer['simulated_tasks']:,} simulated tasks."
    return [
        Picture(f"{prefix}-time", "How long a task takes", told, why, partial(task_distribution, answer)),
        Picture(f"{prefix}-cost", "What a task costs", told, costly, partial(task_distribution, answer, metric="usd")),
        Picture(f"{prefix}-states", "Where the time of a task goes", "Bars: the states of the workflow, by their part of a mean task.",
                f"{first} takes the most.", partial(state_times, answer)),
    ]  # fmt: skip


def quantisation_pictures(answer: Mapping[str, Any], prefix: str) -> list[Picture]:
    """Schemes side by side; none where nothing runs."""
    runs = [row for row in answer["schemes"] if row["runs"] and row.get("decode_speedup")]
    if not runs:
        return []
    best = max(runs, key=lambda row: row["decode_speedup"])
    why = f"{best['scheme']} decodes {best['decode_speedup']:.2f} times as fast, of {best['decode_bound']:.2f} that its bytes allow."
    told = "Bars: speed-up of decode and prefill by scheme; ticks: bounds."
    return [Picture(f"{prefix}-schemes", "What fewer bits gain", told, why, partial(scheme_comparison, answer))]


def adapter_pictures(answer: Mapping[str, Any], prefix: str) -> list[Picture]:
    """Adapters on the device against room for requests."""
    why = (
        f"With {answer['resident']:,} adapters on the device {answer['max_sequences']:,.0f} requests fit beside them, "
        f"and {answer['hit_rate']:.0%} of requests find theirs there."
    )
    told = "Lines: requests that fit, and requests whose adapter is there, over the adapters kept."
    return [
        Picture(f"{prefix}-room", "Adapters against room for requests", told, why, partial(adapters_and_room, answer))
    ]
