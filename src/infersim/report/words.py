"""Answers in words: the sentence a reader looks for first, and the figures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infersim import units
from infersim.report.results import Case
from infersim.specs.deployment import Parallelism

Answer = Mapping[str, Any]
ENGINES = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM", "tgi": "TGI"}
METRICS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E"}


@dataclass(frozen=True)
class Tile:
    """One figure of an answer with what it means and how sure it is."""

    name: str
    value: str
    unit: str = ""
    note: str = ""
    state: str = ""
    """``good`` or ``bad`` where a target judges it."""


def seconds(value: float | None) -> str:
    """
    >>> seconds(0.0456), seconds(None)
    ('45.6 ms', '–')
    """
    return "–" if value is None else units.show(value, "s")


def split(shown: str) -> tuple[str, str]:
    """A quantity as its number and its unit.

    >>> split("148 ms"), split("–")
    (('148', 'ms'), ('–', ''))
    """
    value, _, unit = shown.partition(" ")
    return value, unit


def number(value: float | None, digits: int = 3) -> str:
    """A count or a rate, with thousands separated.

    >>> number(12345.6), number(4.824), number(None), number(16.0)
    ('12,346', '4.82', '–', '16')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.{digits}g}"


def money(value: float | None) -> str:
    """USD with cents where cents count.

    >>> money(1.0723), money(0.00412), money(12345), money(None)
    ('1.07', '0.00412', '12,345', '–')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}" if abs(value) >= 0.1 else f"{value:.3g}"


def memory(value: float) -> str:
    return units.show(value, "B", binary=True)


def span(bounds: Any) -> str:
    """Bounds in seconds as text; empty where there are none.

    >>> span([0.05, 0.22])
    '50 ms to 220 ms'
    """
    return f"{seconds(bounds[0])} to {seconds(bounds[1])}" if bounds else ""


def layout(parallelism: Mapping[str, int]) -> str:
    return str(Parallelism.model_validate(dict(parallelism)))


def model(name: str) -> str:
    """A model's name without whose it is.

    >>> model("meta-llama/Llama-3.1-8B")
    'Llama-3.1-8B'
    """
    return name.rpartition("/")[2]


def engine(name: str) -> str:
    return ENGINES.get(name, name)


def formats(precision: Mapping[str, str]) -> str:
    """
    >>> formats({"weights": "fp8", "activations": "fp8", "kv_cache": "bf16"})
    'fp8 weights, bf16 KV cache'
    """
    return f"{precision['weights']} weights, {precision['kv_cache']} KV cache"


def estimate_deployment(answer: Answer) -> str:
    how = f"{layout(answer['parallelism'])}, {answer['precision']['weights']}, {engine(answer['engine'])}"
    return f"{answer['devices']} × {answer['accelerator']} ({how})"


def option_deployment(option: Answer) -> str:
    """
    >>> one = {"tensor": 2}
    >>> option_deployment({"devices": 5, "gpu": "H100-SXM", "replicas": 1, "parallelism": one, "prefill_replicas": 3,
    ...     "prefill_parallelism": {"tensor": 1}, "precision": "fp8", "engine": "vllm"})
    '5 × H100-SXM as 3 × TP1 for prefill and 1 × TP2 for decode (fp8, vLLM)'
    """
    replicas = f"{option['replicas']} × {layout(option['parallelism'])}"
    if option["prefill_parallelism"]:
        replicas = f"{option['prefill_replicas']} × {layout(option['prefill_parallelism'])} for prefill and {replicas} for decode"
    return f"{option['devices']} × {option['gpu']} as {replicas} ({option['precision']}, {engine(option['engine'])})"


def deployment(case: Case) -> str:
    """The deployment that a case is about, in a line."""
    answer = case.answer or {}
    if case.question == "estimate":
        return estimate_deployment(answer)
    if case.question == "plan":
        return option_deployment(answer["options"][0])
    below = case.evidence.get("estimate")
    if case.question == "simulate" and below and not answer.get("prefill_pool"):
        return estimate_deployment(below)
    return str(answer.get("deployment", "–"))


def headline(case: Case) -> str:
    """The answer of a case in a sentence or two."""
    if case.answer is None:
        return f"No answer: {case.error}"
    if case.question == "simulate":
        return _simulate(case.answer, _simulated(case))
    return {"estimate": _estimate, "plan": _plan}.get(case.question, _other)(case.answer)


def best_of(cases: list[Case]) -> str | None:
    """Which case is the cheapest of those that meet their target, in a sentence; None where fewer than two have a cost.

    Closed forms are compared by USD per million output tokens, plans by USD per hour for the load that all of them serve.
    """
    for question, told in (("estimate", "per million output tokens"), ("plan", "an hour")):
        costs = {
            place: cost
            for place, case in enumerate(cases)
            if case.question == question and (cost := _cost_of(case)) is not None
        }
        if len(costs) < 2:
            continue
        first = min(costs)
        good = [place for place in costs if (verdict(cases[place]) or ("good", ""))[0] == "good"]
        if not good:
            return "No case meets its target."
        best = min(good, key=costs.__getitem__)
        targets = "that meet their target " if any(verdict(cases[place]) for place in costs) else ""
        sentence = f"Of the cases {targets}the cheapest is {cases[best].name} ({deployment(cases[best])}): {money(costs[best])} USD {told}"
        if best == first:
            return f"{sentence}."
        change = costs[best] / costs[first] - 1
        return f"{sentence}, {abs(change):.0%} {'less' if change < 0 else 'more'} than {cases[first].name}."
    return None


def _cost_of(case: Case) -> float | None:
    if case.answer is None:
        return None
    if case.question == "plan":
        found: float | None = case.answer["options"][0]["cost_per_hour_usd"]
        return found
    return case.answer.get("cost_per_million_output_tokens_usd")


def verdict(case: Case) -> tuple[str, str] | None:
    """``good`` or ``bad`` and the words, where the case has a target."""
    answer = case.answer or {}
    if case.question == "estimate":
        if not answer["fits"]:
            return "bad", "Does not fit into memory"
        if not answer["target"]:
            return None
    if case.question == "simulate" and answer["unstable"]:
        return "bad", "Overloaded: the queue grows without end"
    if case.question == "plan":
        return "good", "Serves the load within its target" if answer["question"].get("target") else "Serves the load"
    missed = answer.get("missed_targets")
    if missed is None or (case.question == "simulate" and not missed and answer["goodput_requests_per_s"] is None):
        return None
    return ("bad", "Misses its target: " + ", ".join(map(limit, missed))) if missed else ("good", "Meets its target")


def limit(name: str) -> str:
    """
    >>> limit("ttft_p95"), limit("tpot_s"), limit("tpot_p99_s")
    ('TTFT p95', 'mean TPOT', 'TPOT p99')
    """
    metric, _, percentile = name.removesuffix("_s").partition("_")
    word = METRICS.get(metric, metric)
    return f"{word} {percentile}" if percentile else f"mean {word}"


def _estimate(answer: Answer) -> str:
    where = f"{model(answer['model'])} on {estimate_deployment(answer)}"
    memory_told = answer["memory"]
    if not answer["fits"]:
        return f"{where} does not fit: each GPU is short by {memory(memory_told['shortfall_bytes'])}. {_sentence(answer['remedies'])}"
    users = number(answer["workload"]["concurrency"])
    first = f"{where} serves {users} concurrent {'user' if users == '1' else 'users'} at {number(answer['requests_per_s'])} requests/s"
    if answer["tpot_s"]:
        first += f", with the first token after {seconds(answer['ttft_s'])} and a further token every {seconds(answer['tpot_s'])}"
    else:
        first += f", each after {seconds(answer['e2e_s'])}"
    cost = answer["cost_per_million_output_tokens_usd"]
    if cost is None:
        return f"{first}."
    prompts = money(answer["cost_per_million_input_tokens_usd"])
    return f"{first}. That costs {money(cost)} USD per million output tokens and {prompts} per million input tokens."


def _simulated(case: Case) -> str:
    """The model and where it ran."""
    below = case.evidence.get("estimate")
    return (
        f"{model(below['model'])} on {deployment(case)}"
        if below and case.answer and not case.answer["prefill_pool"]
        else deployment(case)
    )


def _simulate(answer: Answer, where: str) -> str:
    if answer["unstable"]:
        return f"{where} cannot keep up: requests arrive faster than its {number(answer['requests_per_s'])} served per second."
    if not answer["completed"]:
        return f"{where} completed no request."
    told = f"{where} serves {number(answer['requests_per_s'])} requests/s"
    if answer["ttft_p95_s"] is not None:
        told += f"; 95% of requests get their first token within {seconds(answer['ttft_p95_s'])}"
    if answer["tpot_p95_s"] is not None:
        told += f" and further tokens at {seconds(answer['tpot_p95_s'])} each or faster"
    return f"{told} ({answer['completed']:,} simulated requests)."


def _plan(answer: Answer) -> str:
    best, asked = answer["options"][0], answer["question"]
    cost = best["cost_per_hour_usd"]
    told = f"For {model(asked['model'])} at {number(best['requests_per_s'])} requests/s, take {option_deployment(best)}"
    if cost is not None:
        told += (
            f": {money(cost)} USD an hour, {money(best['cost_per_million_tokens_usd'])} USD per million output tokens"
        )
    told += "."
    others = [option for option in answer["options"][1:] if option["gpu"] != best["gpu"]]
    if others and cost is not None and others[0]["cost_per_hour_usd"] is not None:
        more = others[0]["cost_per_hour_usd"] / cost - 1
        told += f" The best on another GPU is {option_deployment(others[0])} for {abs(more):.0%} {'more' if more >= 0 else 'less'}."
    return told


def _other(answer: Answer) -> str:
    return "The figures of this answer are in the table below."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def tiles(case: Case) -> list[Tile]:
    """The figures of a case that a reader asks for first."""
    if case.answer is None:
        return []
    return {"estimate": _estimate_tiles, "simulate": _simulate_tiles, "plan": _plan_tiles}.get(
        case.question, _no_tiles
    )(case.answer)


def _estimate_tiles(answer: Answer) -> list[Tile]:
    if not answer["fits"]:
        return [Tile("Short per GPU", *split(memory(answer["memory"]["shortfall_bytes"])), state="bad")]
    target, missed = answer["target"], answer["missed_targets"]
    found = []
    for metric, name in (("ttft", "Time to first token"), ("tpot", "Time per output token")):
        if answer[f"{metric}_s"]:
            state = ("bad" if metric in missed else "good") if f"{metric}_s" in target else ""
            found.append(
                Tile(name, *split(seconds(answer[f"{metric}_s"])), _interval_note(answer, metric, target), state)
            )
    per_gpu = number(answer["output_tokens_per_s_per_gpu"])
    found.append(
        Tile("Throughput", number(answer["requests_per_s"]), "requests/s", f"{per_gpu} output tokens/s per GPU")
    )
    if answer["cost_per_million_output_tokens_usd"] is not None:
        rent = f"at {money(answer['price_per_gpu_hour_usd'])} USD per GPU and hour"
        found.append(
            Tile(
                "Cost", money(answer["cost_per_million_output_tokens_usd"]), "USD", f"per million output tokens, {rent}"
            )
        )
    most = answer["memory"]["max_sequences"]
    running = f"{answer['running_sequences']:,.0f}"
    fit = f"of {number(most)} that fit at full length" if most else "fit in any number"
    found.append(Tile("Running sequences", running, "", fit))
    return found


def _interval_note(answer: Answer, metric: str, target: Mapping[str, float]) -> str:
    interval = answer.get(f"{metric}_interval_90_s")
    told = [f"90% interval {span(interval)}"] if interval else []
    if f"{metric}_s" in target:
        told.append(f"target {seconds(target[f'{metric}_s'])}")
    return "; ".join(told)


def _simulate_tiles(answer: Answer) -> list[Tile]:
    found = []
    for metric, name in (("ttft", "Time to first token, p95"), ("tpot", "Time per output token, p95")):
        value = answer[f"{metric}_p95_s"]
        if value is not None:
            found.append(
                Tile(
                    name,
                    *split(seconds(value)),
                    f"median {seconds(answer[f'{metric}_p50_s'])}, p99 {seconds(answer[f'{metric}_p99_s'])}",
                )
            )
    per_gpu = f"{number(answer['output_tokens_per_s_per_gpu'])} output tokens/s per GPU"
    found.append(Tile("Throughput", number(answer["requests_per_s"]), "requests/s", per_gpu))
    if answer["goodput_requests_per_s"] is not None:
        found.append(
            Tile("Goodput", number(answer["goodput_requests_per_s"]), "requests/s", "that meet every target themselves")
        )
    return found


def _plan_tiles(answer: Answer) -> list[Tile]:
    best = answer["options"][0]
    found = [
        Tile("GPUs", f"{best['devices']}", f"× {best['gpu']}", f"{best['utilisation']:.0%} of their capacity used")
    ]
    if best["cost_per_hour_usd"] is not None:
        found.append(
            Tile(
                "Cost",
                money(best["cost_per_hour_usd"]),
                "USD/h",
                f"{money(best['cost_per_million_tokens_usd'])} USD per million output tokens",
            )
        )
    for metric, name in (("ttft", "Time to first token"), ("tpot", "Time per output token")):
        if best[f"{metric}_s"]:
            interval = best[f"{metric}_interval_90_s"]
            found.append(
                Tile(
                    name,
                    *split(seconds(best[f"{metric}_s"])),
                    f"mean; 90% interval {span(interval)}" if interval else "mean",
                )
            )
    return found


def _no_tiles(_: Answer) -> list[Tile]:
    return []
