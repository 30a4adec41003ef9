"""Tables of a report: cases side by side, options of a plan, ops, inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from infersim.report import other
from infersim.report.answers import verdict
from infersim.report.markup import NONE, Markup, join, pairs, table, tag
from infersim.report.results import Case, Results
from infersim.report.words import (
    Answer,
    deployment,
    estimate_deployment,
    formats,
    limit,
    money,
    number,
    option_deployment,
    seconds,
    span,
)
from infersim.scenario.expect import unit_of
from infersim.units import show

Column = tuple[str, Any]


def compared(results: Results) -> list[Markup]:
    """One table per kind of question that has several cases, cases in rows."""
    found = []
    for question in dict.fromkeys(case.question for case in results.cases):
        cases = [case for case in results.cases if case.question == question]
        if len(cases) < 2:
            continue
        columns = COLUMNS[question] if question in COLUMNS else _other_columns(question, cases)
        shown = {name: [_cell(show, case) for case in cases] for name, show in columns}
        used = [(name, show) for name, show in columns if set(shown[name]) != {NONE}]
        same = set(shown.get("Deployment", ()))
        if len(same) == 1:
            used = [(name, show) for name, show in used if name != "Deployment"]
        rows = [[case.name, *(_cell(show, case) for _, show in used)] for case in cases]
        numeric = [place for place, (name, _) in enumerate(used, 1) if name not in ("Deployment", "Target")]
        found.append(
            table(
                ["Case", *(name for name, _ in used)],
                rows,
                numeric=numeric,
                caption=f"All on {same.pop()}." if len(same) == 1 and NONE not in same else None,
            )
        )
    return found


def _cell(show: Any, case: Case) -> Any:
    if case.answer is None:
        return f"no answer: {case.error}" if show in (deployment, _no_answer) else NONE
    try:
        return show(case)
    except (KeyError, TypeError):  # a deployment that does not fit has no latencies
        return NONE


def _latency(metric: str) -> Any:
    def show(case: Case) -> Any:
        assert case.answer is not None
        interval = case.answer.get(f"{metric}_interval_90_s")
        value = seconds(case.answer[f"{metric}_s"])
        return join([value, tag("small", span(interval))]) if interval else value

    return show


def _of(key: str, show: Any = number) -> Any:
    return lambda case: show(case.answer[key])


def _best(key: str, show: Any = number) -> Any:
    return lambda case: show(case.answer["options"][0][key])


def _verdict(case: Case) -> str:
    """The verdict in the few words that a column named Target has room for."""
    found = verdict(case)
    return found[1].replace("Meets its target", "met").replace("Misses its target:", "misses") if found else NONE


ESTIMATE: tuple[Column, ...] = (
    ("Deployment", deployment), ("TTFT (90% interval)", _latency("ttft")), ("TPOT (90% interval)", _latency("tpot")),
    ("Requests/s", _of("requests_per_s")), ("Output tokens/s per GPU", _of("output_tokens_per_s_per_gpu")),
    ("USD per M output tokens", _of("cost_per_million_output_tokens_usd", money)), ("Target", _verdict),
)  # fmt: skip
SIMULATE: tuple[Column, ...] = (
    ("Deployment", deployment), ("TTFT p50", _of("ttft_p50_s", seconds)), ("TTFT p95", _of("ttft_p95_s", seconds)),
    ("TPOT p50", _of("tpot_p50_s", seconds)), ("TPOT p95", _of("tpot_p95_s", seconds)), ("Requests/s", _of("requests_per_s")),
    ("Output tokens/s per GPU", _of("output_tokens_per_s_per_gpu")), ("Goodput [requests/s]", _of("goodput_requests_per_s")),
    ("Target", _verdict),
)  # fmt: skip
PLAN: tuple[Column, ...] = (
    ("Deployment", deployment), ("GPUs", _best("devices")), ("USD/h", _best("cost_per_hour_usd", money)),
    ("USD per M tokens", _best("cost_per_million_tokens_usd", money)), ("TTFT", _best("ttft_s", seconds)),
    ("TPOT", _best("tpot_s", seconds)), ("Capacity [requests/s]", _best("capacity_requests_per_s")),
)  # fmt: skip

COST: tuple[Column, ...] = (
    ("Deployment", deployment), ("GPUs", _of("devices")), ("USD a year", _of("per_year_usd", money)),
    ("USD per GPU and hour", _of("per_device_hour_usd", money)), ("USD per M output tokens", _of("per_million_output_tokens_usd", money)),
    ("USD per M input tokens", _of("per_million_input_tokens_usd", money)), ("kWh a year", _of("energy_kwh_per_year")),
    ("t CO2e a year", _of("carbon_t_per_year")),
)  # fmt: skip


COLUMNS = {"estimate": ESTIMATE, "simulate": SIMULATE, "plan": PLAN, "cost": COST}


def _other_columns(question: str, cases: list[Case]) -> tuple[Column, ...]:
    """Those that the layer of a question has chosen, or the first in which the answers differ."""

    def column(name: str) -> Column:
        return other.word(name), lambda case: other.value(name, other.figures(case).get(name))

    chosen = [(other.capital(title), partial(other.shown_at, name)) for title, name in other.compared(question)]
    return (("Deployment", _no_answer), *(chosen or map(column, other.columns(cases))))


def _no_answer(_: Case) -> str:
    return NONE


def assumptions_table(assumptions: Sequence[Mapping[str, Any]]) -> Markup | None:
    """What a figure rests on, with the range of each assumption and how it is known."""
    rows = []
    for item in assumptions:
        ends = f"{_plain(item['low'])} to {_plain(item['high'])}" if item["low"] != item["high"] else NONE
        rows.append([item["name"], _plain(item["base"]), ends, item["unit"], item["status"], item["source"]])
    return (
        table(["Assumption", "Value", "90% range", "Unit", "Status", "Source"], rows, numeric=[1, 2]) if rows else None
    )


def options_table(answer: Answer, most: int = 10) -> Markup:
    """The options of a plan, best first."""
    options = answer["options"][:most]
    rows = [
        [f"{place}", option_deployment(option), money(option["cost_per_hour_usd"]), money(option["cost_per_million_tokens_usd"]),
         f"{seconds(option['ttft_s'])}", seconds(option["tpot_s"]), number(option["tokens_per_s_per_gpu"]),
         f"{option['utilisation']:.0%}", option["bottleneck"]]
        for place, option in enumerate(options, 1)
    ]  # fmt: skip
    columns = [
        "Option",
        "Deployment",
        "USD/h",
        "USD per M tokens",
        "TTFT",
        "TPOT",
        "Tokens/s per GPU",
        "Used",
        "Bottleneck",
    ]
    left = len(answer["options"]) - len(options)
    return table(
        columns, rows, numeric=range(2, 8), caption=f"{left} more options are in results.json" if left else None
    )


def ops_table(ops: Sequence[Mapping[str, Any]], total: float) -> Markup:
    """Every op of a step with its work and what its time rests on."""
    rows = [
        [op["name"], number(op["count"]), seconds(op["seconds"]), f"{op['seconds'] / total:.1%}", f"{op['flop'] / 1e9:,.1f}",
         f"{op['bytes'] / 1e6:,.1f}", op["bound"], op["source"]]
        for op in ops
    ]  # fmt: skip
    return table(
        ["Op", "Count", "Time", "Share", "GFLOP", "MB", "Bound by", "Time rests on"], rows, numeric=range(1, 6)
    )


def percentiles_table(answer: Answer) -> Markup:
    """Mean and percentiles of the latencies of a simulated run."""
    rows = [
        [name, *(seconds(answer[f"{metric}_{figure}_s"]) for figure in ("mean", "p50", "p90", "p95", "p99"))]
        for metric, name in (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2e", "E2E"))
    ]
    return table(["Latency", "Mean", "p50", "p90", "p95", "p99"], rows, numeric=range(1, 6))


def expectations(results: Results) -> Markup | None:
    """What the scenario expected and what came out."""
    if not results.expect:
        return None
    rows = [
        [str(one.get("metric", "")), str(one.get("case", "")), str(one.get("rule", "")), _found(one),
         tag("span", "met" if one.get("met") else "not met", class_="good" if one.get("met") else "bad")]
        for one in results.expect
    ]  # fmt: skip
    return table(["Expected", "Case", "Rule", "Found", "Result"], rows, numeric=[3])


def _found(one: Mapping[str, Any]) -> str:
    """What came out, in the unit that the figure's name tells, or why nothing did."""
    value, unit = one.get("value"), unit_of(str(one.get("metric", "")))
    if value is None:
        return str(one.get("problem") or NONE)
    counted = isinstance(value, int | float) and not isinstance(value, bool)
    return show(value, unit) if counted and unit is not None else _plain(value)


def changes(results: Results) -> Markup | None:
    """What every case but the first changes."""
    rows = [
        [case.name, "; ".join(f"{name}: {_plain(value)}" for name, value in case.overrides.items()) or NONE]
        for case in results.cases[1:]
    ]  # fmt: skip
    return table(["Case", "Changes from the first case"], rows) if rows else None


def inputs(case: Case) -> Markup:
    """What went into a case."""
    answer = case.answer or {}
    told = {"estimate": _estimate_inputs, "simulate": _simulate_inputs, "plan": _plan_inputs, "cost": _cost_inputs}
    known = told.get(case.question, lambda _, case: other.inputs(case.setup))
    rows = known(answer, case) if case.answer is not None else []
    rows += [(f"changed: {name}", _plain(value)) for name, value in case.overrides.items()]
    return pairs(rows)


def _estimate_inputs(answer: Answer, _: Case) -> list[tuple[str, str]]:
    workload, parameters = answer["workload"], answer["total_parameters"] / 1e9
    active = answer["active_parameters"] / 1e9
    size = f"{parameters:,.1f} billion parameters" + (
        f", {active:,.1f} billion active" if active < parameters * 0.99 else ""
    )
    hit = f", {workload['prefix_hit']:.0%} of the prompt cached" if workload["prefix_hit"] else ""
    rows = [
        ("Model", f"{answer['model']}, {size}"), ("Deployment", estimate_deployment(answer)), ("Formats", formats(answer["precision"])),
        ("System", answer["system"] or "none"),
        ("Workload", f"{number(workload['input_tokens'])} input and {number(workload['output_tokens'])} output tokens{hit}, "
                     f"{number(workload['concurrency'])} concurrent"),
        ("Target", ", ".join(f"{limit(name)} {seconds(value)}" for name, value in answer["target"].items()) or "none"),
    ]  # fmt: skip
    if answer.get("price_per_gpu_hour_usd") is not None:
        rows.append(("Price", f"{money(answer['price_per_gpu_hour_usd'])} USD per GPU and hour"))
    if answer["mode"] == "bound":
        rows.append(("Mode", "bound: physical limits, not predictions"))
    return rows


def _simulate_inputs(answer: Answer, case: Case) -> list[tuple[str, str]]:
    rows = [("Deployment", answer["deployment"]), ("Seed", str(answer["seed"]))]
    rows += [(f"traffic: {name.replace('_', ' ')}", _plain(value)) for name, value in answer["traffic"].items()]
    below = case.evidence.get("estimate")
    return rows + ([("Formats", formats(below["precision"]))] if below else [])


def _cost_inputs(answer: Answer, case: Case) -> list[tuple[str, str]]:
    terms = answer["terms"].replace("_", " ")
    return [
        ("Deployment", deployment(case)), ("Load", f"{number(answer['requests_per_s'])} requests/s on average"), ("Terms", terms),
        ("Site", answer["site"]), ("Money", answer["allocation"]),
    ]  # fmt: skip


def _plan_inputs(answer: Answer, _: Case) -> list[tuple[str, str]]:
    asked = answer["question"]
    target = (
        ", ".join(f"{limit(name)} {seconds(value)}" for name, value in (asked.get("target") or {}).items()) or "none"
    )
    rows = [("Model", asked["model"]), ("Target", target)]
    known = {"model", "target"}
    rows += [
        (name.replace("_", " "), _plain(value))
        for name, value in asked.items()
        if name not in known and value is not None
    ]
    searched = (
        f"{answer['candidates']:,} deployments, {answer['did_not_fit']:,} did not fit, {answer['refused']:,} refused"
    )
    return [*rows, ("Searched", searched)]


def _plain(value: Any) -> str:
    """A value of a file as text a person reads."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NONE}[value]
    if isinstance(value, int | float):
        return number(float(value), 4)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(entry) for entry in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(entry)}" for name, entry in value.items())
    return str(value)
