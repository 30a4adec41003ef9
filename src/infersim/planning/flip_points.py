"""What would make another option the best one: price, load, targets, prompt length, acceptance of drafts, one at a time.

All in closed form, on the market that the search has priced already; only other lengths and acceptances are priced again, for the best
candidates of each kind of GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infersim import units
from infersim.planning.market import Market, Offer, Question
from infersim.planning.options import Option
from infersim.planning.service import capacity_of, service_curve

FACTORS = tuple(2 ** (step / 4) for step in range(1, 13))
"""How far an assumption is moved, up and down, from 1.19 to 8 times."""
CONTENDERS = 6
"""Kinds of GPU, and candidates priced again under other lengths."""
HALVINGS = 7


@dataclass(frozen=True)
class FlipPoint:
    """``what`` at ``value`` (now ``now``), from which on ``option`` is the better choice."""

    what: str
    now: float | None
    value: float
    option: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def flip_points(market: Market, question: Question, options: Sequence[Option]) -> list[FlipPoint]:
    """The nearest flips of each kind."""
    gpus = list(dict.fromkeys(option.gpu for option in options))[:CONTENDERS]
    near = market.only(set(gpus))
    base = near.offers(question)
    if not base:
        return []
    found = list(_prices(options))
    winner = _key(near, base[0])
    if question.request_rate is not None:
        free = replace(question, max_devices=10**9)
        found += _scan(
            near,
            winner,
            question.request_rate,
            lambda value: replace(free, request_rate=value),
            "load",
            lambda v: f"{v:.3g} requests/s",
        )
    for index, limit in enumerate(question.limits):
        found += _scan(
            near, winner, limit.seconds, _with_limit(question, index), limit.name, lambda v: units.show(v, "s")
        )
    found += _lengths(near, question, base)
    found += _acceptance(near, question, base)
    return found


def _key(market: Market, offer: Offer) -> tuple[Any, ...]:
    one = market.deployments[offer.row]
    return (one.machine.accelerator.name, one.precision, one.parallelism, one.machine.engine.name, offer.prefill_row is not None,
            one.drafter is not None)  # fmt: skip


def _told(market: Market, offer: Offer) -> str:
    one = market.deployments[offer.row]
    scheme = one.precision.name or one.precision.weights
    pools = " in two pools" if offer.prefill_row is not None else ""
    drafts = " with drafts" if one.drafter is not None else ""
    return f"{one.machine.accelerator.name} ({one.parallelism}, {scheme}{pools}{drafts})"


def _with_limit(question: Question, index: int) -> Callable[[float], Question]:
    def changed(seconds: float) -> Question:
        limits = list(question.limits)
        limits[index] = replace(limits[index], seconds=seconds)
        return replace(question, limits=tuple(limits))

    return changed


def _scan(
    market: Market, winner: tuple[Any, ...], now: float, question_at: Callable[[float], Question], what: str, show: Callable[[float], str]
) -> Iterator[FlipPoint]:  # fmt: skip
    """The nearest value below and above ``now`` at which another option wins, or none is left."""
    for direction, word in ((-1, "below"), (1, "above")):
        last = now
        for factor in FACTORS:
            value = now * factor**direction
            other = market.best(question_at(value))
            if other is not None and _key(market, other) == winner:
                last = value
                continue
            for _ in range(HALVINGS):
                middle = math.sqrt(last * value)
                closer = market.best(question_at(middle))
                if closer is not None and _key(market, closer) == winner:
                    last = middle
                else:
                    value, other = middle, closer
            told = _told(market, other) if other is not None else "none of these"
            verb = "is the best" if other is not None else "serves it"
            yield FlipPoint(what, now, value, told, f"{what} {word} {show(value)} (now {show(now)}): {told} {verb}")
            break


def _prices(options: Sequence[Option]) -> Iterator[FlipPoint]:
    """At which price per device and hour the best option of another kind of GPU is as cheap as the best one."""
    best = options[0]
    if best.cost_per_hour is None:
        return
    rivals: dict[str, Option] = {}
    for option in options:
        if option.gpu != best.gpu:
            rivals.setdefault(option.gpu, option)
    for rival in list(rivals.values())[:3]:
        value = best.cost_per_hour / best.request_rate * rival.request_rate / rival.devices
        now = rival.price_per_hour
        paid = f"now {now:.2f}" if now is not None else "no price on file"
        yield FlipPoint(
            f"price of {rival.gpu}", now, value, rival.describe(),
            f"price of {rival.gpu} below {value:.2f} USD/h ({paid}): {rival.describe()} is the cheapest",
        )  # fmt: skip
    priced = [rival for rival in rivals.values() if rival.cost_per_hour is not None]
    if priced:
        nearest = priced[0]
        value = nearest.cost_per_hour / nearest.request_rate * best.request_rate / best.devices  # type: ignore[operator]
        yield FlipPoint(
            f"price of {best.gpu}", best.price_per_hour, value, nearest.describe(),
            f"price of {best.gpu} above {value:.2f} USD/h (now {best.price_per_hour:.2f}): {nearest.describe()} is the cheapest",
        )  # fmt: skip


def _contenders(market: Market, base: Sequence[Offer]) -> list[int]:
    """Rows of the aggregated candidates that are priced again: the best of each kind of GPU, then the next best."""
    rows = [offer.row for offer in base if offer.prefill_row is None]
    first = {market.deployments[row].machine.accelerator.name: row for row in reversed(rows)}
    return list(dict.fromkeys([*first.values(), *rows]))[: 2 * CONTENDERS]


def _costs(market: Market, row: int, rate: Any, question: Question) -> Any:
    """USD per request (or devices, without a price) of a candidate whose replica sustains ``rate``; infinite where none serves."""
    price = market.prices[row]
    unit = 1.0 if np.isnan(market.prices).any() else float(price)
    devices = float(market.devices[row])
    with np.errstate(divide="ignore"):
        if question.request_rate is None:
            return np.where(rate > 0, unit * devices / rate, np.inf)
        return np.where(rate > 0, np.ceil(question.request_rate / rate * (1 - 1e-9)) * devices * unit, np.inf)


def _lengths(market: Market, question: Question, base: Sequence[Offer]) -> Iterator[FlipPoint]:
    """From which mean prompt length on another of the aggregated candidates is the best one."""
    rows = _contenders(market, base)
    if len(rows) < 2:
        return
    workload, model = market.deployments[0].workload, market.deployments[0].model
    longest = (model.max_position_embeddings or math.inf) - workload.output_tokens
    factors = np.array([2 ** (step / 2) for step in range(-6, 9)])
    prompts = workload.input_tokens * factors
    prompts = prompts[(prompts >= 1) & (prompts <= longest)]
    costs = []
    for row in rows:
        one = market.deployments[row]
        curve = service_curve(one, input_tokens=prompts, cached_tokens=prompts * workload.prefix_hit)
        rate = capacity_of(curve, question.limits, scatter=question.scatter).rate
        fits = np.asarray(one.memory.max_sequences(prompts + workload.output_tokens)) >= 1
        costs.append(_costs(market, row, np.where(fits, rate, 0.0), question))
    best = np.where(np.isinf(np.min(costs, axis=0)), -1, np.argmin(costs, axis=0))
    here = int(np.argmin(np.abs(prompts - workload.input_tokens)))
    for step, word in ((-1, "below"), (1, "above")):
        place = here
        while 0 <= place + step < len(prompts) and best[place + step] == best[here]:
            place += step
        if 0 <= place + step < len(prompts):
            other = int(best[place + step])
            value = math.sqrt(prompts[place] * prompts[place + step])
            named = _told(market, Offer(rows[other], None, 1, 0, 1, 0.0, 1.0, 0.0)) if other >= 0 else "none of these"
            verb = "is the best" if other >= 0 else "serves it"
            yield FlipPoint(
                "prompt length", workload.input_tokens, value, named,
                f"prompts {word} about {value:,.0f} tokens (now {workload.input_tokens:,.0f}): {named} {verb}",
            )  # fmt: skip


def _acceptance(market: Market, question: Question, base: Sequence[Offer]) -> Iterator[FlipPoint]:
    """Below which acceptance decoding without drafts is the cheaper one."""
    rows = [offer.row for offer in base if offer.prefill_row is None]
    drafted = next((row for row in rows if market.deployments[row].drafter is not None), None)
    plain = next((row for row in rows if market.deployments[row].drafter is None), None)
    if drafted is None or plain is None:
        return
    one = market.deployments[drafted]
    assert one.drafter is not None
    reached = one.drafter.reached
    rates = capacity_of(market.curves, question.limits, scatter=question.scatter).rate

    def cost(share: float) -> float:
        scaled = tuple(value * share ** (place + 1) for place, value in enumerate(reached))
        other = replace(one, drafter=replace(one.drafter, reached=scaled))  # type: ignore[type-var]
        rate = capacity_of(service_curve(other), question.limits, scatter=question.scatter).rate
        return float(_costs(market, drafted, rate, question))

    rival = float(_costs(market, plain, rates[plain], question))
    most = 1.0 / reached[0]
    low, high = (0.0, 1.0) if cost(1.0) < rival else (1.0, most)
    if cost(low) < rival or cost(high) >= rival:
        return
    for _ in range(2 * HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) < rival else (middle, high)
    value = high * reached[0]
    told = _told(market, Offer(plain, None, 1, 0, 1, 0.0, 1.0, 0.0))
    yield FlipPoint(
        "acceptance of the first draft", reached[0], value, told,
        f"acceptance of the first draft below {value:.0%} (now {reached[0]:.0%}): {told} is the best",
    )  # fmt: skip
