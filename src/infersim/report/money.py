"""Figures of money and of doubt."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from infersim.report.figures.doubt import chance_of_target
from infersim.report.figures.money import cost_against_utilisation, cost_parts, own_against_rent, rented_cost
from infersim.report.figures.sweep import shown
from infersim.report.figures.tornado import spoken, tornado
from infersim.report.results import Case
from infersim.report.svg import Picture
from infersim.report.words import Answer, money, number

UTILISATION = [share / 100 for share in range(5, 101)]
FIGURES = {"usd_per_year": "the cost of a year", "gpus": "the number of GPUs", "tpot": "TPOT", "ttft": "TTFT"}


def rented_picture(case: Case, answer: Answer, prefix: str) -> list[Picture]:
    """What tokens of rented GPUs cost over how much of their capacity is used; none without a price or an output."""
    price, tokens = answer["price_per_gpu_hour_usd"], answer["workload"]["output_tokens"]
    capacity = capacity_within(case.evidence["load"], answer["target"]) * answer["parallelism"]["replicas"]
    if price is None or not answer["output_tokens_per_s"] or not capacity:
        return []
    costs = rented_cost(
        UTILISATION, price_per_hour=price, devices=answer["devices"], tokens_per_second=capacity * tokens
    )
    within = " within the target" if answer["target"] else ""
    caption = (
        f"Rented GPUs cost the same when they idle: {money(float(costs[-1]))} USD per million output tokens at the full "
        f"{number(capacity)} requests/s{within}, twice that at half of them. All of the money is over output tokens."
    )
    used = min(answer["requests_per_s"] / capacity, 1.0)
    return [
        Picture(
            f"{prefix}-cost",
            "Cost against utilisation",
            "Line: USD per million output tokens over utilisation.",
            caption,
            partial(cost_against_utilisation, UTILISATION, {"rented by the hour": costs.tolist()}, at=used),
        )
    ]


def capacity_within(curve: Mapping[str, Any], target: Mapping[str, float]) -> float:
    """The highest rate of a curve [requests/s] at which every mean keeps its target; 0 where one user alone misses it.

    >>> capacity_within({"requests_per_s": [1, 2, 3], "ttft_s": [0.1, 0.2, 0.4]}, {"ttft_s": 0.3})
    2.5
    """
    rate = np.asarray(curve["requests_per_s"], dtype=float)
    best = float(rate[-1])
    for name, most in target.items():
        values = np.maximum.accumulate(np.asarray(curve[name], dtype=float))
        best = min(best, 0.0 if values[0] > most else float(np.interp(most, values, rate)))
    return best


def cost_pictures(case: Case, prefix: str) -> list[Picture]:
    """Where the money of a cost goes, what it comes to over utilisation beside the alternatives, and when owning has paid off."""
    answer, found = case.answer or {}, []
    if "capacity_requests_per_s" in case.evidence:
        found.append(_alternatives(case, answer, prefix))
    ledger = answer.get("buy_or_rent")
    if ledger:
        month, equal = ledger["break_even_month"], ledger["break_even_rent_per_device_hour_usd"]
        paid = f"Owning has paid off after {month} months" if month else "Owning never pays off in these years"
        found.append(
            Picture(
                f"{prefix}-own-or-rent",
                "Own or rent",
                "Lines: what owning and renting have cost after each month.",
                f"{paid}; both cost the same at a rent of {money(equal)} USD per GPU and hour "
                f"(now {money(ledger['rent_per_device_hour_usd'])}). Owning is net of what the hardware then sells for.",
                partial(
                    own_against_rent, ledger["owned_by_month_usd"], ledger["rented_by_month_usd"], break_even=month
                ),
            )
        )
    parts = {name: usd for name, usd in answer["parts_per_year_usd"].items() if usd}
    if len(parts) > 1:
        largest = max(parts, key=parts.__getitem__)
        found.append(
            Picture(
                f"{prefix}-parts",
                "Where the money goes",
                "Bars: the parts of a year's cost.",
                f"The largest part is {largest} with {parts[largest] / sum(parts.values()):.0%}.",
                partial(cost_parts, parts),
            )
        )
    return found


def _alternatives(case: Case, answer: Answer, prefix: str) -> Picture:
    """USD per 1,000 requests over utilisation: these devices, and an API or hours of rent as they are used."""
    capacity = case.evidence["capacity_requests_per_s"]
    full = answer["per_hour_usd"] / 3600 / capacity * 1000
    costs = {"these GPUs": [full / used for used in UTILISATION]}
    api, ledger = answer.get("api"), answer.get("buy_or_rent")
    told = ""
    if api:
        each = api["per_hour_usd"] / 3600 / answer["requests_per_s"] * 1000
        costs["the API"] = [each] * len(UTILISATION)
        rate = api["break_even_requests_per_s"]
        told = (
            " They are never cheaper than the API."
            if rate is None
            else f" They are cheaper than the API from {number(rate)} requests/s on."
        )
        if rate is not None and rate > capacity:
            told += " That is more than they can serve."
    elif ledger and answer["terms"] == "owned":
        each = ledger["rent_per_device_hour_usd"] * answer["devices"] / 3600 / capacity * 1000
        costs["rented only in hours of full use"] = [each] * len(UTILISATION)
    price = f"{money(full)} USD per 1,000 requests"
    caption = (
        f"At the full {number(capacity)} requests/s these GPUs cost {price}; they cost as much when they idle.{told}"
    )
    return Picture(
        f"{prefix}-cost",
        "Cost against utilisation",
        "Lines: USD per 1,000 requests over utilisation.",
        caption,
        partial(
            cost_against_utilisation,
            UTILISATION,
            costs,
            at=min(answer["requests_per_s"] / capacity, 1.0),
            unit="USD per 1,000 requests",
        ),
    )


def doubt_pictures(case: Case, prefix: str) -> list[Picture]:
    """How sure the answer is: the chance of each number of GPUs, and what moves the answer most."""
    doubt, found = case.evidence.get("doubt", {}), []
    if doubt.get("gpus_to_chance"):
        found.append(
            Picture(
                f"{prefix}-chance",
                "How likely so many GPUs meet the target",
                "Line: the chance of meeting the target over the number of GPUs.",
                f"{doubt['sentence']} Workload, prices and errors of the prediction are drawn within their ranges.",
                partial(chance_of_target, doubt["gpus_to_chance"]),
            )
        )
    bars = doubt.get("tornado")
    if bars and bars["base"] is not None and any(_moves(bar, bars["base"]) for bar in bars["bars"]):
        first = spoken(bars["bars"][0]["assumption"])
        figure = bars["figure"].rpartition(" of ")[0] or bars["figure"]
        name = FIGURES.get(figure, shown(figure))
        found.append(
            Picture(
                f"{prefix}-tornado",
                f"What moves {name} most",
                f"Bars: {name} with each assumption at the ends of its 90% range.",
                f"{first[:1].upper()}{first[1:]} moves it most. Each bar runs over the 90% range of one assumption, the others as planned.",
                partial(tornado, {**bars, "figure": name.removeprefix("the ")}),
            )
        )
    return found


def _moves(bar: Mapping[str, Any], base: float) -> bool:
    ends = (bar["figure_at_low"], bar["figure_at_high"])
    return any(end is None or abs(end - base) > 1e-9 * abs(base) for end in ends)
