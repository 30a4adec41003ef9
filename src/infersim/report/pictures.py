"""Which figures answer which question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from infersim.report.figures.accuracy import predicted_against_measured
from infersim.report.figures.load import latency_against_load, simulated_latency
from infersim.report.figures.memory import kv_memory, memory_parts
from infersim.report.figures.money import cost_against_utilisation, rented_cost
from infersim.report.figures.pareto import pareto
from infersim.report.figures.roofline import roofline
from infersim.report.figures.run import latency_distribution, load_over_time
from infersim.report.figures.steps import step_breakdown, step_comparison
from infersim.report.figures.style import WORDS
from infersim.report.markup import slug
from infersim.report.results import Case, Results
from infersim.report.svg import Picture
from infersim.report.words import Answer, limit, memory, money, number, option_deployment, seconds

STEPS = ("decode", "prefill")
UTILISATION = np.linspace(0.05, 1.0, 60)


def case_pictures(case: Case, prefix: str, *, brief: bool = False) -> list[Picture]:
    """The figures of one case, in the order of reading; their names start with ``prefix``. ``brief``: those of the answer itself."""
    if case.answer is None:
        return []
    answer, found = case.answer, []
    if case.question == "plan":
        found += _plan(answer, prefix)
    if case.question == "simulate":
        found += _run(case, prefix)
    below = answer if case.question == "estimate" else case.evidence.get("estimate")
    if below is None or (brief and found):
        return found
    front = case.evidence.get("prefill_estimate")
    whose = ", decode pool" if front else ", one replica" if case.question == "plan" else ""
    if below["fits"]:
        if "load" in case.evidence:
            found.append(_load(case, below, prefix, whose))
        found += _steps(below, prefix, whose, STEPS[:1] if front else STEPS)[: 1 if brief else None]
    if brief:
        return found
    if front:
        found += _steps(front, f"{prefix}-front", ", prefill pool", STEPS[1:])
    found += _memory(below, prefix, whose)
    if case.question == "estimate" and below["fits"] and "load" in case.evidence:
        found += _cost(case, below, prefix)
    return found


def _steps(answer: Answer, prefix: str, whose: str, steps: tuple[str, ...]) -> list[Picture]:
    found = []
    for step in steps:
        told = answer.get(f"{step}_step")
        if told is None:
            continue
        bound, share = _most(told)
        longest = max(told["ops"], key=lambda op: op["seconds"])
        why = f"{share:.0%} of the {step} step waits for {WORDS[bound]}; the longest op is {longest['name']} with {longest['seconds'] / told['seconds']:.0%}."
        found.append(Picture(
            f"{prefix}-breakdown-{step}", f"Where a {step} step spends its time{whose}", f"Bars of the time of each op in a {step} step. {why}", why,
            lambda ax, step=step: step_breakdown(answer, step=step, ax=ax),
        ))  # fmt: skip
    for step in steps:
        told = answer.get(f"{step}_step")
        if told is None or not any(op["flop"] > 0 and op["bytes"] > 0 for op in told["ops"]):
            continue
        reached = f"The step reaches {told['mfu']:.0%} of the peak arithmetic and {told['mbu']:.0%} of the peak memory bandwidth."
        found.append(Picture(
            f"{prefix}-roofline-{step}", f"How near the {step} ops come to the hardware's limits{whose}",
            f"Roofline of one {answer['accelerator']} with the ops of the {step} step on it. {reached}",
            f"{reached} A dot on a line is at a limit of the hardware; its area is its share of the step.",
            lambda ax, step=step: roofline(answer, step=step, ax=ax),
        ))  # fmt: skip
    return found


def _most(step: Mapping[str, Any]) -> tuple[str, float]:
    """What most of a step's time waits for, and its share."""
    spent: dict[str, float] = {}
    for op in step["ops"]:
        spent[op["bound"]] = spent.get(op["bound"], 0.0) + op["seconds"]
    bound = max(spent, key=spent.__getitem__)
    return bound, spent[bound] / step["seconds"]


def _load(case: Case, answer: Answer, prefix: str, whose: str) -> Picture:
    curve, replicas = case.evidence["load"], answer["parallelism"]["replicas"]
    most = replicas * max(curve["requests_per_s"])
    caption = f"Mean latencies in a closed loop, from one user to as many as fit: at most {number(most)} requests/s. Percentiles need a simulation."
    at = answer if case.question == "estimate" else None
    return Picture(
        f"{prefix}-load", f"Latency against load{whose}", f"Mean TTFT and TPOT over requests per second. {caption}", caption,
        lambda ax: latency_against_load(curve, target=answer["target"], at=at, replicas=replicas, ax=ax),
    )  # fmt: skip


def _memory(answer: Answer, prefix: str, whose: str) -> list[Picture]:
    told = answer["memory"]
    weights = told["weights_bytes"] / told["capacity_bytes"]
    caption = f"Weights take {weights:.0%} of {memory(told['capacity_bytes'])}; {memory(told['kv_pool_bytes'])} are left for the KV cache."
    found = [Picture(f"{prefix}-memory", f"What takes the memory of a GPU{whose}", f"One bar of what takes a GPU's memory. {caption}", caption,
                     lambda ax: memory_parts(answer, ax=ax), 0.62)]  # fmt: skip
    if told["kv_pool_bytes"] > 0 and (told["kv_bytes_per_token"] or told["kv_windows"] or told["kv_bytes_per_sequence"]):
        context = told["longest_context_tokens"]
        longest = f"One sequence alone can have {context:,.0f} tokens" if context else "The cache does not grow without end"
        caption = f"{longest}; {number(told['max_sequences'])} sequences of this workload fit at full length. A line per number of sequences."
        found.append(Picture(
            f"{prefix}-kv", f"KV memory against context and batch{whose}", f"KV cache per GPU over context length. {caption}", caption,
            lambda ax: kv_memory(answer, ax=ax),
        ))  # fmt: skip
    return found


def _cost(case: Case, answer: Answer, prefix: str) -> list[Picture]:
    price, tokens = answer["price_per_gpu_hour_usd"], answer["workload"]["output_tokens"]
    if price is None or not answer["output_tokens_per_s"]:
        return []
    capacity = capacity_within(case.evidence["load"], answer["target"]) * answer["parallelism"]["replicas"]
    if not capacity:
        return []
    full = capacity * tokens
    costs = {"rented by the hour": rented_cost(UTILISATION, price_per_hour=price, devices=answer["devices"], tokens_per_second=full).tolist()}
    within = " within the target" if answer["target"] else ""
    caption = (
        f"Rented GPUs cost the same when they idle: {money(costs['rented by the hour'][-1])} USD per million output tokens at the full "
        f"{number(capacity)} requests/s{within}, twice that at half of them. All of the money is over output tokens."
    )
    return [Picture(f"{prefix}-cost", "Cost against utilisation", f"USD per million output tokens over utilisation. {caption}", caption,
                    lambda ax: cost_against_utilisation(UTILISATION.tolist(), costs, at=min(answer["requests_per_s"] / capacity, 1.0), ax=ax))]  # fmt: skip


def capacity_within(curve: Mapping[str, Any], target: Mapping[str, float]) -> float:
    """The highest rate of a curve [requests/s] at which every mean keeps its target; 0 where one user alone misses it.

    >>> capacity_within({"requests_per_s": [1, 2, 3], "ttft_s": [0.1, 0.2, 0.4]}, {"ttft_s": 0.3})
    2.5
    """
    rate = np.asarray(curve["requests_per_s"], dtype=float)
    best = float(rate[-1])
    for name, limit_s in target.items():
        values = np.maximum.accumulate(np.asarray(curve[name], dtype=float))
        best = min(best, 0.0 if values[0] > limit_s else float(np.interp(limit_s, values, rate)))
    return best


def _run(case: Case, prefix: str) -> list[Picture]:
    found, evidence, answer = [], case.evidence, case.answer or {}
    if answer["unstable"] is not True and any(evidence.get("distribution", {}).values()):
        caption = f"Half of the requests get their first token within {seconds(answer['ttft_p50_s'])}, 99 of 100 within {seconds(answer['ttft_p99_s'])}."
        found.append(Picture(
            f"{prefix}-distribution", "How latencies are spread over requests", f"Share of requests over latency. {caption}", caption,
            lambda ax: latency_distribution(evidence["distribution"], ax=ax),
        ))  # fmt: skip
    if evidence.get("series", {}).get("time_s"):
        caption = f"{number(answer['mean_running_sequences'])} sequences decode at once on average; {answer['preemptions']:,} preemptions."
        found.append(Picture(
            f"{prefix}-series", "What the engine held over time", f"Running and waiting requests and KV pool over time. {caption}", caption,
            lambda ax: load_over_time(evidence["series"], ax=ax),
        ))  # fmt: skip
    return found


def _plan(answer: Answer, prefix: str) -> list[Picture]:
    if not any(point["tokens_per_s_per_user"] for point in answer["pareto_front"]):
        return []
    first = option_deployment(answer["options"][0])
    pools = any(option["prefill_replicas"] for option in answer["options"][:3])
    caption = (
        f"Each dot is a deployment at a load that no other beats in speed, throughput and cost together. Option 1 is {first}, at the load planned for."
        + (" Dots are aggregated deployments; an option with pools of its own for prefill can lie beyond them." if pools else "")
    )
    return [Picture(f"{prefix}-pareto", "Speed for a user against throughput of a GPU", f"Pareto front of the search. {caption}", caption,
                    lambda ax: pareto(answer, ax=ax))]  # fmt: skip


def compared_pictures(results: Results) -> list[Picture]:
    """Figures that set cases side by side."""
    found = []
    fitting = {case.name: case.answer for case in results.of("estimate") if case.answer and case.answer["fits"]}
    if len(fitting) > 1:
        for step in STEPS:
            shown = {name: answer for name, answer in fitting.items() if answer.get(f"{step}_step")}
            if len(shown) < 2:
                continue
            ranked = sorted(shown, key=lambda name: shown[name][f"{step}_step"]["seconds"])
            times = [seconds(shown[name][f"{step}_step"]["seconds"]) for name in (ranked[0], ranked[-1])]
            caption = f"The shortest {step} step is that of {ranked[0]} with {times[0]}, the longest that of {ranked[-1]} with {times[1]}."
            found.append(Picture(
                f"compare-{step}", f"The {step} step of every case", f"Stacked bars of what each case's {step} step waits for. {caption}", caption,
                lambda ax, step=step, shown=shown: step_comparison({_short(name): one for name, one in shown.items()}, step=step, ax=ax),
                min(0.45 + 0.14 * len(shown), 2.0),
            ))  # fmt: skip
    runs = [case.answer for case in results.of("simulate") if case.answer]
    rates = {run["requests_per_s"] for run in runs if not run["unstable"]}
    if len(rates) > 1 and len({run["deployment"] for run in runs}) == 1:
        for metric in ("ttft", "tpot"):
            caption = "One point per simulated case of the same deployment."
            found.append(Picture(
                f"compare-{metric}", f"{limit(f'{metric}_p95').split()[0]} against load", f"Percentiles over requests per second. {caption}", caption,
                lambda ax, metric=metric: simulated_latency(runs, metric=metric, ax=ax),
            ))  # fmt: skip
    return found


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def accuracy_picture(results: Results) -> Picture | None:
    """Predicted against measured for the GPU and engine of the first case, on points that no fit saw; None where none are known."""
    from infersim.calibrate.measurements import judges
    from infersim.validate.comparison import error_table
    from infersim.validate.serving import compare_serving, shipped_serving_points

    for case in results.answered:
        below = case.answer if case.question == "estimate" else case.evidence.get("estimate")
        if not below or below["mode"] != "calibrated":
            continue
        points = [
            point for point in shipped_serving_points()
            if point.device == below["accelerator"] and point.engine == below["engine"] and judges(point)
        ]  # fmt: skip
        rows = compare_serving(points, naive=False)
        answered = [row for row in rows if row.predicted is not None]
        if not answered:
            return None
        told = "; ".join(
            f"{line.group[0].upper()} {line.median:.0%} off at the median, {line.p90:.0%} at the 90th percentile"
            for line in error_table(answered, ("metric",), worst_first=False)
        )
        refused = len(rows) - len(answered)
        caption = (
            f"{len(points)} measured serving points of {below['accelerator']} under {below['engine']} that no fit saw, all models: {told}."
            + (f" {refused} figures were not answered." if refused else "")
        )
        return Picture("accuracy", "Predicted against measured", f"Predicted over measured latencies. {caption}", caption,
                       lambda ax, answered=answered: predicted_against_measured(answered, ax=ax))  # fmt: skip
    return None


def all_pictures(results: Results) -> dict[str, list[Picture]]:
    """Every figure of a report by section: ``compare``, each case by its anchor (all of the first's), ``accuracy``."""
    found = {"compare": compared_pictures(results)}
    for number_, case in enumerate(results.cases):
        found[anchor(case, number_)] = case_pictures(case, anchor(case, number_), brief=number_ > 0)
    accuracy = accuracy_picture(results)
    found["accuracy"] = [accuracy] if accuracy else []
    return found


def anchor(case: Case, place: int) -> str:
    """The name of a case in links and files; the place keeps equal names apart."""
    return f"case-{place + 1}-{slug(case.name)}"


