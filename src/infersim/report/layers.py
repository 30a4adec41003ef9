"""Pictures of agents, adapters and number formats in a report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from infersim.report.figures.adapters import adapters_and_room, scheme_comparison
from infersim.report.figures.agents import state_times, task_distribution
from infersim.report.svg import Picture
from infersim.units import show


def agent_pictures(answer: Mapping[str, Any], prefix: str) -> list[Picture]:
    """How long tasks take, and where their time goes."""
    elapsed = answer["elapsed_s"]
    longest = max(answer["states"], key=lambda state: state["elapsed_s"])
    return [
        Picture(f"{prefix}-tasks", "How long tasks take", "Bars: shares of simulated tasks by their time.",
                f"Half take less than {show(elapsed['p50'], 's')}, 95% less than {show(elapsed['p95'], 's')}.",
                partial(task_distribution, answer)),
        Picture(f"{prefix}-states", "Where a task's time goes", "Bars: what each state adds to a mean task.",
                f"{longest['state']} adds the most, {show(longest['elapsed_s'], 's')} of {show(elapsed['mean'], 's')}.",
                partial(state_times, answer)),
    ]  # fmt: skip


def adapter_pictures(answer: Mapping[str, Any], prefix: str) -> list[Picture]:
    """What adapters that stay on the device leave of its memory."""
    told = "Lines: sequences that fit, and adapters to be loaded, over the adapters that stay on the device."
    why = f"{answer['resident']:,} resident adapters leave room for {answer['max_sequences']:,.0f} sequences."
    return [
        Picture(
            f"{prefix}-adapters",
            "Adapters on the device and room for sequences",
            told,
            why,
            partial(adapters_and_room, answer),
        )
    ]


def scheme_pictures(answer: Mapping[str, Any], prefix: str) -> list[Picture]:
    """Number formats side by side."""
    told = "Bars: speed and memory of the deployment in each number format."
    return [Picture(f"{prefix}-schemes", "Number formats side by side", told, "The deployment's own format is among them.",
                    partial(scheme_comparison, answer))]  # fmt: skip
