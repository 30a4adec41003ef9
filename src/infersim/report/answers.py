"""The answer of a case in a sentence or two, and which case is the best."""

from __future__ import annotations

from infersim.report import other
from infersim.report.results import DRAWN, Case
from infersim.report.words import (
    Answer,
    deployment,
    estimate_deployment,
    limit,
    memory,
    model,
    money,
    number,
    option_deployment,
    seconds,
    token_word,
)


def headline(case: Case) -> str:
    """The answer of a case in a sentence or two."""
    if case.answer is None:
        return f"No answer: {case.error}"
    if case.question not in DRAWN:
        return other.headline(case)
    if case.question in ("simulate", "cost"):
        return (_simulate if case.question == "simulate" else _cost)(case.answer, _where(case))
    return (_plan if case.question == "plan" else _estimate)(case.answer)


def best_of(cases: list[Case]) -> str | None:
    """Which case is the cheapest of those that meet their target, in a sentence; None where fewer than two have a cost.

    Closed forms are compared by USD per million output tokens, plans by USD per hour for the load that all of them serve.
    """
    for question, told in (("estimate", "per million output tokens"), ("plan", "an hour"), ("cost", "a year")):
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
        where = f" ({deployment(cases[best])})" if len({deployment(cases[place]) for place in costs}) > 1 else ""
        sentence = f"Of the cases {targets}the cheapest is {cases[best].name}{where}: {money(costs[best])} USD {told}"
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
    return case.answer.get("per_year_usd" if case.question == "cost" else "cost_per_million_output_tokens_usd")


def doubt(case: Case) -> str | None:
    """How likely a plan's target is met, in a sentence; None where no chance was worked out."""
    found: str | None = case.evidence.get("doubt", {}).get("sentence")
    return f"With doubts about workload, prices and predictions: {found}" if found else None


def verdict(case: Case) -> tuple[str, str] | None:
    """``good`` or ``bad`` and the words, where the case has a target."""
    answer = case.answer
    if answer is None:
        return None
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
    cost, prompts = answer["cost_per_million_output_tokens_usd"], money(answer["cost_per_million_input_tokens_usd"])
    if answer["cost_per_million_input_tokens_usd"] is None:
        return f"{first}."
    if cost is None:
        return f"{first}. That costs {prompts} USD per million tokens."
    return f"{first}. That costs {money(cost)} USD per million output tokens and {prompts} per million input tokens."


def _where(case: Case) -> str:
    """The model and what it runs on."""
    below = case.evidence.get("estimate")
    told = deployment(case)
    return f"{model(below['model'])} on {told}" if below and told != (case.answer or {})["deployment"] else told


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
        each = money(best["cost_per_million_tokens_usd"])
        told += f": {money(cost)} USD an hour, {each} USD per million {token_word(best)}"
    told += "."
    others = [option for option in answer["options"][1:] if option["gpu"] != best["gpu"]]
    if others and cost is not None and others[0]["cost_per_hour_usd"] is not None:
        more = others[0]["cost_per_hour_usd"] / cost - 1
        change = "about as much" if abs(more) < 0.005 else f"{abs(more):.0%} {'more' if more > 0 else 'less'}"
        told += f" The best on another GPU is {option_deployment(others[0])} for {change}."
    return told


def _cost(answer: Answer, where: str) -> str:
    prompts = money(answer["per_million_input_tokens_usd"])
    prices = [f"{prompts} USD per million input tokens"]
    if answer["per_million_output_tokens_usd"] is not None:
        prices = [
            f"{money(answer['per_million_output_tokens_usd'])} USD per million output tokens",
            f"{prompts} per million input tokens",
        ]
    terms = {"owned": "bought", "on_demand": "rented on demand"}.get(answer["terms"], answer["terms"].replace("_", " "))
    rate = number(answer["requests_per_s"])
    told = f"{where}, {terms}, costs {money(answer['per_year_usd'])} USD a year at {rate} requests/s: "
    told += f"{' and '.join(prices)}."
    ledger, api = answer.get("buy_or_rent"), answer.get("api")
    if ledger:
        month = ledger["break_even_month"]
        told += f" Owning has paid off after {month} months." if month else " Owning does not pay off within its years."
    if api:
        this, own = api["per_hour_usd"], answer["per_hour_usd"]
        less = "less" if this < own else "more"
        told += (
            f" The API would cost {money(this)} USD an hour for this load, {less} than these GPUs with {money(own)}."
        )
    return told


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
