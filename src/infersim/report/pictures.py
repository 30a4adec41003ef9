"""Which figures answer the question of a case."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from infersim.report.figures.load import latency_against_load
from infersim.report.figures.memory import kv_memory, memory_parts
from infersim.report.figures.pareto import pareto
from infersim.report.figures.roofline import roofline
from infersim.report.figures.run import latency_distribution, load_over_time
from infersim.report.figures.steps import step_breakdown
from infersim.report.figures.style import WORDS
from infersim.report.money import cost_pictures, doubt_pictures, rented_picture
from infersim.report.other import pictures as other_pictures
from infersim.report.results import Case
from infersim.report.svg import Picture
from infersim.report.words import Answer, memory, number, option_deployment, seconds

STEPS = ("decode", "prefill")


def case_pictures(case: Case, prefix: str, *, brief: bool = False) -> list[Picture]:
    """The figures of one case, in the order of reading; their names start with ``prefix``. ``brief``: those of the answer itself."""
    if case.answer is None:
        return []
    found = {"plan": _plan, "simulate": _run, "cost": cost_pictures}.get(case.question, other_pictures)(case, prefix)
    if case.question != "estimate":
        found += doubt_pictures(case, prefix)
    below = case.answer if case.question == "estimate" else case.evidence.get("estimate")
    if below is None or (brief and case.question != "estimate"):
        return found
    front = case.evidence.get("prefill_estimate")
    whose = ", decode pool" if front else ", one replica" if case.question in ("plan", "cost") else ""
    if below["fits"]:
        if "load" in case.evidence:
            found.append(_load(case, below, prefix, whose))
        if case.question == "estimate" and not brief:
            found += doubt_pictures(case, prefix)
        for step in STEPS[: 1 if front or brief else 2]:
            found += _step(below, prefix, whose, step)[: 1 if brief else 2]
    if brief:
        return found
    if front:
        found += _step(front, f"{prefix}-front", ", prefill pool", "prefill")
    found += _memory(below, prefix, whose)
    if case.question == "estimate" and below["fits"] and "load" in case.evidence:
        found += rented_picture(case, below, prefix)
    return found


def _step(answer: Answer, prefix: str, whose: str, step: str) -> list[Picture]:
    """Where a step's time goes, and how near its ops come to the hardware's limits."""
    told = answer.get(f"{step}_step")
    if told is None:
        return []
    bound, share = longest_wait(told)
    longest = max(told["ops"], key=lambda op: op["seconds"])
    part = longest["seconds"] / told["seconds"]
    why = (
        f"{share:.0%} of the {step} step waits for {WORDS[bound]}; the longest op is {longest['name']} with {part:.0%}."
    )
    found = [
        Picture(
            f"{prefix}-breakdown-{step}",
            f"Where a {step} step spends its time{whose}",
            f"Bars: the time of each op in a {step} step.",
            why,
            partial(step_breakdown, answer, step=step),
        )
    ]
    if any(op["flop"] > 0 and op["bytes"] > 0 for op in told["ops"]):
        reached = (
            f"The step reaches {told['mfu']:.0%} of peak arithmetic and {told['mbu']:.0%} of peak memory bandwidth."
        )
        found.append(
            Picture(
                f"{prefix}-roofline-{step}",
                f"{step.capitalize()} ops on the roofline{whose}",
                f"Roofline of one {answer['accelerator']} with the ops of the {step} step on it.",
                f"{reached} A dot on a line is at a limit of the hardware; its area is its share of the step.",
                partial(roofline, answer, step=step),
            )
        )
    return found


def longest_wait(step: Mapping[str, Any]) -> tuple[str, float]:
    """What most of a step's time waits for, and its share."""
    spent: dict[str, float] = {}
    for op in step["ops"]:
        spent[op["bound"]] = spent.get(op["bound"], 0.0) + op["seconds"]
    bound = max(spent, key=spent.__getitem__)
    return bound, spent[bound] / step["seconds"]


def _load(case: Case, answer: Answer, prefix: str, whose: str) -> Picture:
    curve, replicas = case.evidence["load"], answer["parallelism"]["replicas"]
    most = number(replicas * max(curve["requests_per_s"]))
    return Picture(
        f"{prefix}-load",
        f"Latency against load{whose}",
        "Lines: mean TTFT and TPOT over requests per second.",
        f"Mean latencies in a closed loop, from one user to as many as fit: at most {most} requests/s. Percentiles need a simulation.",
        partial(
            latency_against_load,
            curve,
            target=answer["target"],
            at=answer if case.question == "estimate" else None,
            replicas=replicas,
        ),
    )


def _memory(answer: Answer, prefix: str, whose: str) -> list[Picture]:
    told = answer["memory"]
    weights, capacity = told["weights_bytes"], told["capacity_bytes"]
    found = [
        Picture(
            f"{prefix}-memory",
            f"What takes the memory of a GPU{whose}",
            "One bar of what takes a GPU's memory.",
            f"Weights take {weights / capacity:.0%} of {memory(capacity)}; {memory(told['kv_pool_bytes'])} are left for the KV cache.",
            partial(memory_parts, answer),
            0.62,
        )
    ]
    grows = told["kv_bytes_per_token"] or told["kv_windows"] or told["kv_bytes_per_sequence"]
    if told["kv_pool_bytes"] > 0 and grows:
        context, most = told["longest_context_tokens"], told["max_sequences"]
        longest = (
            f"One sequence alone can have {context:,.0f} tokens." if context else "The cache does not grow without end."
        )
        many = f" {number(most)} sequences of this workload fit at full length." if most else ""
        found.append(
            Picture(
                f"{prefix}-kv",
                f"KV memory against context and batch{whose}",
                "Lines: KV cache of a GPU over the context length, one line per number of sequences.",
                f"{longest}{many} A line per number of sequences.",
                partial(kv_memory, answer),
            )
        )
    return found


def _run(case: Case, prefix: str) -> list[Picture]:
    found, evidence, answer = [], case.evidence, case.answer or {}
    if answer["unstable"] is not True and any(evidence.get("distribution", {}).values()):
        half, most = seconds(answer["ttft_p50_s"]), seconds(answer["ttft_p99_s"])
        found.append(
            Picture(
                f"{prefix}-distribution",
                "How latencies are spread over requests",
                "Lines: share of requests over TTFT, TPOT and E2E.",
                f"Half of the requests get their first token within {half}, 99 of 100 within {most}.",
                partial(latency_distribution, evidence["distribution"]),
            )
        )
    if evidence.get("series", {}).get("time_s"):
        running = number(answer["mean_running_sequences"])
        found.append(
            Picture(
                f"{prefix}-series",
                "What the engine held over time",
                "Lines: running and waiting requests and the KV pool over time.",
                f"{running} sequences decode at once on average; {answer['preemptions']:,} preemptions.",
                partial(load_over_time, evidence["series"]),
            )
        )
    return found


def _plan(case: Case, prefix: str) -> list[Picture]:
    answer = case.answer or {}
    if not any(point["tokens_per_s_per_user"] for point in answer["pareto_front"]):
        return []
    pools = any(option["prefill_replicas"] for option in answer["options"][:3])
    beyond = (
        " Dots are aggregated deployments; an option with a pool of its own for prefill can lie beyond them."
        if pools
        else ""
    )
    return [
        Picture(
            f"{prefix}-pareto",
            "Speed for a user against throughput of a GPU",
            "Dots: the Pareto front of the search, with the best options ringed.",
            "Each dot is a deployment at a load that no other beats in speed, throughput and cost together. "
            f"Option 1, ringed at the load planned for, is {option_deployment(answer['options'][0])}.{beyond}",
            partial(pareto, answer),
        )
    ]
