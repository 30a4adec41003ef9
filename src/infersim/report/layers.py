"""Pictures of the layers around the engine in a report: decoding, prompts, agents, number formats, adapters, retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from infersim.report.figures.adapters import adapters_and_room, scheme_comparison
from infersim.report.figures.agents import state_times, task_distribution
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


def agent_pictures(answer: Told, prefix: str) -> list[Picture]:
    """How time and money are spread over tasks, and which states take the time."""
    elapsed, usd = answer["elapsed_s"], answer["usd"]
    most = max(answer["states"], key=lambda row: row["elapsed_s"])
    found = [
        Picture(f"{prefix}-tasks", "How long tasks take", "Bars: share of tasks by time.",
                f"Half of the tasks end within {show(elapsed['p50'], 's')}, 95% within {show(elapsed['p95'], 's')}.",
                partial(task_distribution, answer)),
    ]  # fmt: skip
    if usd["mean"]:
        why = f"A task costs {usd['mean']:.3g} USD on average; one in twenty more than {usd['p95']:.3g}."
        found.append(
            Picture(f"{prefix}-task-cost", "What tasks cost", "Bars: share of tasks by cost.", why,
                    partial(task_distribution, answer, metric="usd"))
        )  # fmt: skip
    why = f"{most['state']} takes the most, in {most['visits']:.3g} visits of a mean task."
    return [*found, Picture(f"{prefix}-states", "Which states take the time", "Bars: part of a mean task's time by state.", why,
                            partial(state_times, answer))]  # fmt: skip


def scheme_pictures(answer: Told, prefix: str) -> list[Picture]:
    """Speed-ups by number format."""
    rows = [row for row in answer["schemes"] if row["runs"] and row.get("decode_speedup")]
    if not rows:
        return []
    best = max(rows, key=lambda row: row["decode_speedup"])
    why = f"{best['scheme']} decodes fastest, {best['decode_speedup']:.2f} times as fast; its bytes would allow {best['decode_bound']:.2f}."
    return [
        Picture(f"{prefix}-schemes", "Speed-up by number format", "Bars: speed-up of decode and prefill by number format.", why,
                partial(scheme_comparison, answer))
    ]  # fmt: skip


def adapter_pictures(answer: Told, prefix: str) -> list[Picture]:
    """Room for requests over adapters kept."""
    why = (
        f"With {answer['resident']:,} adapters on the device {answer['max_sequences']:,.0f} requests fit, and "
        f"{answer['hit_rate']:.0%} of them find theirs."
    )
    return [
        Picture(f"{prefix}-adapters", "Adapters against room for requests", "Lines: requests that fit and hits over adapters kept.", why,
                partial(adapters_and_room, answer))
    ]  # fmt: skip


def retrieval_pictures(answer: Told, prefix: str) -> list[Picture]:
    """The stages of a query."""
    most = max(answer["stages"], key=lambda stage: stage["seconds_s"])
    why = f"{most['name']} takes the most of {show(answer['seconds_s'], 's')}."
    return [
        Picture(f"{prefix}-stages", "Where the time of a query goes", "Bars: the stages of a query, one after the other.", why,
                partial(retrieval_stages, answer))
    ]  # fmt: skip
