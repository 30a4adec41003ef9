"""The assumptions that every plan makes, each with the range that is taken where the user says nothing."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

from infersim.planning.assumptions import Assumption, Assumptions
from infersim.planning.distributions import scaled
from infersim.planning.outcome import Choice
from infersim.predict.interval import metric_correlation, regime

LENGTH_RANGE = 1.25
"""Mean lengths of the coming workload lie within this factor, nine times in ten. A guess."""
RATE_RANGE = 1.3
PRICE_RANGE = 1.2
SCATTER_RANGE = 1.5
"""How latencies of single requests scatter about their mean, for limits on percentiles. A guess."""
ODDS_RANGE = 2.0
"""Odds of a shared prefix, and of an accepted draft, lie within this factor."""


def usual_assumptions(choice: Choice, request_rate: float) -> Assumptions:
    """Workload, prediction error and price of a choice, under the names that ``Choice.outcome`` reads.

    Errors of predictions are measured: quantiles of measured over predicted for the engine and kind of model
    (``predict.interval``). Ranges of the workload and of prices are guesses, said so, and there to be replaced.

    >>> from infersim import estimate
    >>> known = usual_assumptions(Choice(estimate("meta-llama/Llama-3.1-8B", "H100-SXM")), 20.0)
    >>> known["prediction.tpot"].status, known["workload.input_tokens"].high
    ('fit', 1280.0)
    """
    return workload_assumptions(choice, request_rate).joined(own_assumptions(choice))


def workload_assumptions(choice: Choice, request_rate: float) -> Assumptions:
    """What all choices for one workload share."""
    workload = choice.deployment.workload
    items = [_factor("workload.request_rate", request_rate, RATE_RANGE, "requests/s"),
             _factor("workload.input_tokens", workload.input_tokens, LENGTH_RANGE, "tokens")]  # fmt: skip
    if choice.deployment.model.task == "generate":
        items.append(_factor("workload.output_tokens", workload.output_tokens, LENGTH_RANGE, "tokens"))
    items.append(_share("workload.prefix_hit", workload.prefix_hit, "share of the prompt"))
    items.append(Assumption.certain("workload.mean_share", 1.0, unit="mean rate / rate planned for",
                                    source="all requests planned for come, at every hour"))  # fmt: skip
    scattered = {
        "tpot" if limit.metric == "itl" else limit.metric for limit in choice.limits if limit.percentile is not None
    }
    items += [_factor(f"scatter.{metric}", getattr(choice.scatter, metric), SCATTER_RANGE, "coefficient of variation")
              for metric in ("ttft", "tpot", "e2e") if metric in scattered]  # fmt: skip
    items += [Assumption.certain(f"target.{limit.name}", limit.seconds, unit="s", source="chosen, not uncertain", status="fact")
              for limit in choice.limits]  # fmt: skip
    return Assumptions(tuple(items))


def own_assumptions(choice: Choice, shared: frozenset[str] = frozenset()) -> Assumptions:
    """What one choice alone rests on: errors of its prediction, its price or terms, acceptance of its drafts; under its name where it
    has one, except what is named in ``shared``."""
    deployment = choice.deployment
    items: list[Assumption] = []
    correlations: dict[tuple[str, str], float] = {}

    def named(name: str) -> str:
        return name if not choice.name or name in shared else f"{choice.name}.{name}"

    generates = deployment.model.task == "generate"
    if deployment.machine.mode == "calibrated":
        kind = "MoE" if deployment.model.is_moe else "dense"
        for metric in ("ttft", "tpot") if generates else ("ttft",):
            found = regime(deployment.machine.engine.name, kind, metric)
            steps = choice.prefill if metric == "ttft" and choice.prefill is not None else deployment
            spread = (found.added**2 + steps.log_spread(metric) ** 2) ** 0.5
            items.append(Assumption(
                f"prediction.{metric}", 1.0, scaled(found.quantiles, spread), "measured / predicted",
                f"{found.rows} measured points ({found.source})" if found.rows else found.source, "fit" if found.rows else "guess",
            ))  # fmt: skip
        if generates:
            pair = (named("prediction.ttft"), named("prediction.tpot"))
            correlations[pair] = metric_correlation(deployment.machine.engine.name, kind)
    items += _price(choice) if choice.hourly is None else choice.terms
    if deployment.drafter is not None and deployment.drafter.reached:
        items.append(_share("speculation.acceptance", deployment.drafter.reached[0], "of the first draft"))
    return Assumptions(tuple(replace(item, name=named(item.name)) for item in items), correlations)


def _price(choice: Choice) -> list[Assumption]:
    price = choice.deployment.price_per_hour
    if price is None:
        return []
    name, unit, told = "price.per_hour", "USD/h per GPU", f"base: {choice.deployment.price_source}"
    quotes = [p.per_hour for p in choice.deployment.machine.accelerator.prices if p.kind == "on_demand" and p.per_hour]
    middle = statistics.median(quotes) if price in quotes else 0.0
    if middle <= price * PRICE_RANGE:
        return [_factor(name, price, PRICE_RANGE, unit, f"{told}; range: guess of a factor {PRICE_RANGE:g}")]
    source = f"{told}; high: the middle one of {len(quotes)} prices on file; low: guess of a factor {PRICE_RANGE:g}"
    return [Assumption.around(name, price, price / PRICE_RANGE, middle, unit=unit, source=source)]


def _factor(name: str, base: float, factor: float, unit: str, source: str = "") -> Assumption:
    told: dict[str, Any] = {"unit": unit, "source": source or f"base: given; range: guess of a factor {factor:g}"}
    if base <= 0:
        return Assumption.certain(name, base, **told)
    return Assumption.around(name, base, base / factor, base * factor, **told)


def _share(name: str, base: float, unit: str) -> Assumption:
    """A share whose odds lie within ODDS_RANGE; certain at its ends."""
    told: dict[str, Any] = {"unit": unit, "source": f"base: given; range: guess of odds within a factor {ODDS_RANGE:g}"}
    if not 0 < base < 1:
        return Assumption.certain(name, base, **told)
    odds = base / (1 - base)
    low, high = (value / (1 + value) for value in (odds / ODDS_RANGE, odds * ODDS_RANGE))
    return Assumption.around(name, base, low, high, scale="logit", **told)
