"""Two or more deployments for one load: side by side, why they differ, how sure the choice is, and what would change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.planning.assumptions import Assumptions
from infersim.planning.between import differences, op_differences, way
from infersim.planning.comparison import LETTERS, Comparison, Pair, Side
from infersim.planning.disaggregated import decode_curve
from infersim.planning.flips import REACH, flips
from infersim.planning.options import Option
from infersim.planning.outcome import Choice, Outcome
from infersim.planning.search import at_load
from infersim.planning.service import capacity_of, service_curve
from infersim.planning.uncertainty import SAMPLES, MonteCarlo, check_rate, choice_of
from infersim.planning.usual import own_assumptions, workload_assumptions
from infersim.predict.estimate import Estimate
from infersim.predict.interval import metric_correlation, shared_error
from infersim.serving.target import Limit, read_limits

LENGTHS = ("input_tokens", "output_tokens", "prefix_hit")
"""Of a workload; options must agree in them."""


def compare(
    *options: Estimate | Option | Choice,
    request_rate: float,
    target: str | None = None,
    names: Sequence[str] | None = None,
    assumptions: Mapping[str, Any] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    whole_nodes: bool = False,
) -> Comparison:
    """Set deployments side by side for the same load, within the same target, on the same terms.

    Each option is one replica (of each pool, for the disaggregated options of a plan); how many it takes is part of the answer. One
    option alone is told with its doubts. ``target`` is written as for ``infersim simulate``:
    ``ttft_p95=800ms,tpot_p95=40ms``. ``assumptions`` replaces usual ones by name (``planning.usual``): shared ones as
    ``workload.input_tokens``, an option's own as ``A.price.per_hour`` or with its name in place of the letter; one without either,
    ``price.per_hour``, is set for all.

    Workloads are drawn once for all options. Errors of predictions go together as far as measured ones of the same model under the
    same load do (``predict.interval.shared_error``), wholly for equal deployments, not at all across engines or models. One GPU
    has one price. SpecError for options that answer different workloads.

    >>> from infersim import estimate
    >>> chat = dict(input_tokens=1000, output_tokens=200)
    >>> one, two = (estimate("meta-llama/Llama-3.1-8B", gpu, **chat) for gpu in ("H100-SXM", "L40S"))
    >>> found = compare(one, two, request_rate=50, target="ttft_p95=1s,tpot_p95=40ms", samples=500)
    >>> [side.letter for side in found.sides], found.cheapest.letter in "AB"
    (['A', 'B'], True)
    """
    choices = _choices(options, names, target, whole_nodes)
    rate = check_rate(request_rate)
    known = workload_assumptions(choices[0], rate)
    given = {_spelt(name, choices): value for name, value in (assumptions or {}).items()}
    shared = _shared(choices) - {
        name.removeprefix(f"{c.name}.") for c in choices for name in given if name.startswith(f"{c.name}.")
    }
    for choice in choices:
        known = known.joined(own_assumptions(choice, shared))
    known = Assumptions(known.items, {**known.correlations, **_correlations(choices, known)})
    known = known.changed(_named(given, choices, known))
    base, drawn = known.base(), known.draw(samples, seed)
    priced = all(
        np.isfinite(choice.outcome(base).usd_per_year) or choice.outcome(base).gpus == np.inf for choice in choices
    )
    figure = "usd_per_year" if priced else "gpus"
    sides = []
    for letter, choice in zip(LETTERS, choices, strict=False):
        found = MonteCarlo(choice, known, drawn, choice.outcome(drawn), choice.outcome(base), seed)
        sides.append(_side(letter, choice, found, base))
    chances = _cheapest([side.uncertain.outcome for side in sides], figure)
    sides = [replace(side, chance_cheapest=chance) for side, chance in zip(sides, chances, strict=True)]
    best = min(sides, key=lambda side: (side.figure(figure), side.figure("gpus")))
    pairs = [
        _pair(one, two, known, base, figure, [side.name for side in sides if side not in (one, two)])
        for one, two in combinations(sides, 2) if best in (one, two)
    ]  # fmt: skip
    return Comparison(tuple(sides), tuple(pairs), known, figure, rate, choices[0].limits, seed)


def _choices(
    options: Sequence[Estimate | Option | Choice], names: Sequence[str] | None, target: str | None, whole_nodes: bool
) -> list[Choice]:
    """The options as choices with names of their own."""
    if not 1 <= len(options) <= len(LETTERS):
        raise SpecError(f"compares from one to {len(LETTERS)} options, got {len(options)}", field="options")
    if names is not None and (len(names) != len(options) or len(set(names)) != len(names)):
        raise SpecError(f"are as many as the options, and all different, got {list(names)!r}", field="names")
    limits: tuple[Limit, ...] | None = read_limits(target) if target else None
    found = [choice_of(option, limits, whole_nodes=whole_nodes) for option in options]
    first = found[0]
    for choice in found[1:]:
        for field in LENGTHS:
            given = [getattr(one.deployment.workload, field) for one in (first, choice)]
            if given[0] != given[1]:
                raise SpecError(f"the options answer different workloads: {given[0]:g} and {given[1]:g}", field=field)
        if choice.limits != first.limits:
            raise SpecError("the options have different targets; give one for all", field="target")
    labels = list(names) if names is not None else _labels(found)
    return [replace(choice, name=label) for choice, label in zip(found, labels, strict=True)]


def _labels(choices: Sequence[Choice]) -> list[str]:
    """A short name for every option, numbered where several would have the same."""
    plain = []
    for choice in choices:
        one = choice.deployment
        scheme = one.precision.name or one.precision.weights
        ways = str(one.parallelism) if choice.prefill is None else f"{choice.prefill.parallelism}+{one.parallelism}"
        plain.append(f"{one.machine.accelerator.name} {ways} {scheme}")
    return [
        f"{name} #{plain[: place + 1].count(name)}" if plain.count(name) > 1 else name
        for place, name in enumerate(plain)
    ]


def _shared(choices: Sequence[Choice]) -> frozenset[str]:
    """Names of own assumptions that are one and the same for all choices: errors of equal deployments, the price of one GPU, and terms
    that are equal wherever they occur, such as the price of electricity at one site."""
    local = [{item.name: item for item in own_assumptions(replace(choice, name=""))} for choice in choices]
    first, found = choices[0], set()
    for name, item in ((name, item) for items in local for name, item in items.items()):
        is_term = any(term.name == name for choice in choices for term in choice.terms)
        alike = all(
            _correlation(first, other, name) == 1.0 and name in items
            for other, items in zip(choices, local, strict=True)
        )
        if all(items.get(name, item) == item for items in local) and (is_term or alike):
            found.add(name)
    return frozenset(found)


def _correlation(one: Choice, two: Choice, name: str) -> float:
    """How the same assumption of two choices goes together."""
    a, b = one.deployment, two.deployment
    if name.startswith("prediction."):
        return _alike(one, two, name.removeprefix("prediction."))
    if name == "price.per_hour":
        return 1.0 if a.machine.accelerator.name == b.machine.accelerator.name else 0.0
    if name == "speculation.acceptance" and a.drafter is not None and b.drafter is not None:
        return 1.0 if a.drafter.speculation == b.drafter.speculation else 0.0
    return 0.0


def _spelt(name: str, choices: Sequence[Choice]) -> str:
    """An assumption's name with an option's name in place of its letter."""
    letter, dot, rest = name.partition(".")
    place = LETTERS[: len(choices)].find(letter) if dot and len(letter) == 1 else -1
    return name if place < 0 else f"{choices[place].name}.{rest}"


def _named(given: Mapping[str, Any], choices: Sequence[Choice], known: Assumptions) -> dict[str, Any]:
    """Assumptions that users name without an option, under the names of all options that have them."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        own = [f"{choice.name}.{name}" for choice in choices if f"{choice.name}.{name}" in known.names]
        found |= dict.fromkeys(own if own and name not in known.names else [name], value)
    return found


def _correlations(choices: Sequence[Choice], known: Assumptions) -> dict[tuple[str, str], float]:
    """How errors of predictions, prices and acceptance of the choices go together."""
    found: dict[tuple[str, str], float] = {}
    for one, two in combinations(choices, 2):
        a = one.deployment
        for name in ("prediction.ttft", "prediction.tpot", "price.per_hour", "speculation.acceptance"):
            found[f"{one.name}.{name}", f"{two.name}.{name}"] = _correlation(one, two, name)
        within = metric_correlation(a.machine.engine.name, "MoE" if a.model.is_moe else "dense")
        across = within * (_alike(one, two, "ttft") * _alike(one, two, "tpot")) ** 0.5
        for first, second in (("ttft", "tpot"), ("tpot", "ttft")):
            found[f"{one.name}.prediction.{first}", f"{two.name}.prediction.{second}"] = across
    return {pair: value for pair, value in found.items() if value and all(name in known.names for name in pair)}


def _alike(one: Choice, two: Choice, metric: str) -> float:
    """How far the predictions of two choices err alike."""
    a, b = one.deployment, two.deployment
    if a.model != b.model or a.machine.engine.name != b.machine.engine.name:
        return 0.0
    if [_run(pool) for pool in one.pools] == [_run(pool) for pool in two.pools]:
        return 1.0
    return shared_error(metric, same_device=a.machine.accelerator.name == b.machine.accelerator.name)


def _run(one: Estimate) -> tuple[Any, ...]:
    """What a prediction rests on beside the load."""
    return one.machine, one.parallelism, one.precision, one.knobs, one.drafter


def _side(letter: str, choice: Choice, found: MonteCarlo, base: Mapping[str, float]) -> Side:
    """An option at its share of the load, as planned."""
    update = {name: base[f"workload.{name}"] for name in LENGTHS if f"workload.{name}" in base}
    pools = [replace(one, workload=one.workload.model_copy(update=update)) for one in choice.pools]
    curve = service_curve(pools[0]) if choice.prefill is None else decode_curve(pools[0])
    sustained = capacity_of(curve, choice.limits, scatter=choice.scatter)
    bound = int(sustained.bound)
    replicas = float(found.base.replicas[0])
    each = float(base["workload.request_rate"]) / replicas if np.isfinite(replicas) else 0.0
    users = float(curve.at(min(each, float(curve.rate[-1]))).users)
    ended = choice.limits[bound].name if bound >= 0 else "throughput"
    if choice.prefill is not None:
        ended = "two pools"
    front = at_load(pools[1], 1.0) if choice.prefill is not None else None
    return Side(letter, choice, at_load(pools[0], users), front, found, ended, float(choice.device_hour(base)))


def _cheapest(outcomes: Sequence[Outcome], figure: str) -> list[float]:
    """The chance of each to have the lowest figure, ties split among those that tie; worlds in which none is in reach count for none."""
    table = np.stack([np.broadcast_to(outcome.figure(figure), np.shape(outcomes[0].gpus)) for outcome in outcomes])
    least = table.min(axis=0)
    won = (table <= least * (1 + 1e-12)) & np.isfinite(least)
    return [float(share) for share in (won / np.maximum(won.sum(axis=0), 1)).mean(axis=1)]


def _pair(
    one: Side, two: Side, known: Assumptions, base: Mapping[str, float], figure: str, others: Sequence[str]
) -> Pair:
    a, b = one.choice, two.choice
    own = [item for item in known if not any(item.name.startswith(f"{name}.") for name in others)]
    return Pair(
        one.letter, two.letter, differences(a, b, base), way(a, b, base, figure),
        op_differences(one.steps, two.steps),
        flips(lambda v: a.outcome(v).figure(figure), lambda v: b.outcome(v).figure(figure), Assumptions(tuple(own)),
              names=(one.letter, two.letter), figure=figure, ranges=_targets(a, base)),
    )  # fmt: skip


def _targets(choice: Choice, base: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """How far targets are moved to see whether the choice flips."""
    names = [f"target.{limit.name}" for limit in choice.limits]
    return {name: (base[name] / REACH, base[name] * REACH) for name in names}
