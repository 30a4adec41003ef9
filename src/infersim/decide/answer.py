"""The answer to a decision: what each way costs and takes at your point and along the curve, where the choice changes, and why."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim import units
from infersim.decide.choice import Choice, Figures, chance_of
from infersim.decide.envelope import BreakEven, break_even_queries, break_evens, cheapest, stretches
from infersim.decide.models import Priced, priced
from infersim.decide.spec import Decision
from infersim.decide.ways import (
    cascade,
    own_or_api,
    prompt_or_weights,
    retrieval_or_context,
    tuning_usd,
    with_retrieval,
)
from infersim.errors import SpecError
from infersim.planning.assumptions import Assumption
from infersim.planning.distributions import Array
from infersim.planning.flips import REACH, Crossing, Flips, flips
from infersim.planning.uncertainty import show_chance
from infersim.predict.estimate import Estimate
from infersim.retrieval.answer import answer as retrieve
from infersim.serving.target import Limit
from infersim.specs.api import ApiModel
from infersim.specs.library import validate
from infersim.specs.served import ServedModel
from infersim.specs.workload import Workload

CURVES = {"usd_per_query": "usd", "ttft_s": "ttft", "e2e_s": "e2e"}
POINTS = 121
"""Points of a curve."""
SPAN = 30.0
"""Factor to both sides of the range of an assumption that a curve is drawn over, at most."""


@dataclass(frozen=True)
class Turn:
    """A value of one assumption, the others as they are, at which another way becomes the cheapest: ``to``, None where none is left."""

    assumption: Assumption
    crossing: Crossing
    to: str | None

    def sentence(self) -> str:
        item, at = self.assumption, self.crossing
        side = "falls below" if at.value < item.base else "rises above"
        chance = "" if at.chance is None else f"; chance {show_chance(at.chance)}"
        now = _number(item.base, item.unit, False)
        return f"{self.to or 'no way'} if {item.name} {side} {_number(at.value, item.unit)} (now {now}{chance})"

    def to_dict(self) -> dict[str, Any]:
        return {"assumption": self.assumption.name, "unit": self.assumption.unit, "now": self.assumption.base, "value": self.crossing.value,
                "then_cheapest": self.to, "chance": self.crossing.chance, "jump": self.crossing.jump}  # fmt: skip


@dataclass(frozen=True)
class DecisionAnswer:
    """A choice, worked out. ``grid`` are values of what the curves are drawn over, ``curves`` the figures of each way along it, ``at``
    those at your own values."""

    choice: Choice
    grid: Array
    curves: tuple[Figures, ...]
    at: tuple[Figures, ...]
    break_evens: tuple[BreakEven, ...]

    @property
    def over(self) -> Assumption:
        return self.choice.assumptions[self.choice.over]

    @property
    def names(self) -> list[str]:
        return self.choice.names

    @property
    def best(self) -> str | None:
        """The cheapest way at your own values; None where none is within reach."""
        return self._name(int(cheapest(np.array([[float(one.usd)] for one in self.at]))[0]))

    @property
    def envelope(self) -> Array:
        """The lowest cost along the curve."""
        return np.asarray(np.min(np.stack([one.usd for one in self.curves]), axis=0))

    @property
    def stretches(self) -> list[tuple[str | None, float, float]]:
        """The cheapest way along the curve: (way, from, to)."""
        first = int(cheapest(np.stack([one.usd[:1] for one in self.curves]))[0])
        found = stretches(self.break_evens, first, float(self.grid[0]), float(self.grid[-1]))
        return [(self._name(way), low, high) for way, low, high in found]

    @property
    def queries_per_month(self) -> float:
        return self.choice.assumptions[self.choice.queries].base

    @functools.cached_property
    def flips(self) -> Flips:
        """What each assumption alone, or the likeliest few together, would have to be for another way to be cheaper."""
        place = self.names.index(self.best) if self.best in self.names else 0
        others = [way for way in range(len(self.names)) if way != place]
        last: list[Any] = [None, None]

        def costs(values: Mapping[str, Any]) -> Array:
            """Of all ways; the figures of both sides are asked for with the same values, one after the other."""
            if last[0] is not values:
                last[:] = values, self.choice.costs(values)
            found: Array = last[1]
            return found

        return flips(
            lambda v: costs(v)[place], lambda v: np.min(costs(v)[others], axis=0), self.choice.assumptions,
            names=(self.names[place], "another way"), figure="USD per query", ranges=self._ranges,
        )  # fmt: skip

    @property
    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Where a turn is looked for: along the curve; from zero on; about values that are certain, too."""
        found = {}
        for item in self.choice.assumptions:
            if item.uncertain and item.scale == "linear":
                found[item.name] = (0.0, item.quantile(99.9))
            elif not item.uncertain and item.base > 0:
                found[item.name] = (0.001, 0.999) if item.unit == "share" else (item.base / REACH, item.base * REACH)
        return found | {self.over.name: (float(self.grid[0]), float(self.grid[-1]))}

    @functools.cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The nearest change that each assumption brings about by itself, the likeliest first."""
        found = []
        for flip in self.flips.each:
            if flip.nearest is None:
                continue
            step = 1e-4 if flip.nearest.value >= flip.base else -1e-4
            beyond = flip.nearest.value * (1 + step) or step
            there = self.choice.costs({**self.choice.assumptions.base(), flip.name: np.array([beyond])})
            found.append(Turn(self.choice.assumptions[flip.name], flip.nearest, self._name(int(cheapest(there)[0]))))
        return tuple(sorted(found, key=lambda turn: -(turn.crossing.chance or 0.0)))

    @property
    def steady(self) -> list[str]:
        """Assumptions that change nothing by themselves in the range searched."""
        return [flip.name for flip in self.flips.each if flip.nearest is None]

    @property
    def missing_evidence(self) -> tuple[str, ...]:
        """What is not known of the quality of the answers; the first line falls where chances of success are given."""
        return self.choice.quality[1:] if self.choice.shared else self.choice.quality

    @property
    def payback_queries(self) -> float | None:
        """Queries in a refresh period from which on fine-tuning is cheaper than prompting, N* = C / (c_prompt - c_tuned)."""
        if "fine-tuning" not in self.names:
            return None
        value = self.choice.assumptions.base()
        once = float(tuning_usd(value)) + value["tuned_hosting_usd_per_month"] * value["refresh_months"]
        without = {**value, "training_tokens": 0.0, "data_and_evaluation_usd": 0.0, "tuned_hosting_usd_per_month": 0.0}
        marginal = {name: float(usd) for name, usd in zip(self.names, self.choice.costs(without), strict=True)}
        if self.choice.shared:
            once /= value[chance_of("fine-tuning")]
        return float(break_even_queries(once, marginal["prompting"], marginal["fine-tuning"]))

    @property
    def sources(self) -> list[str]:
        """What the figures rest on, assumptions included."""
        found = [*self.choice.sources, *self.choice.notes]
        for item in self.choice.assumptions:
            standing = "assumed" if item.status == "guess" and item.source != "given by the user" else item.status
            found.append(f"{item.name} {item.base:.6g} {item.unit}".rstrip() + f": {item.source} ({standing})")
        return found

    def _curve(self, part: str) -> dict[str, list[float | None]]:
        return {
            name: [_finite(value) for value in getattr(one, part)]
            for name, one in zip(self.names, self.curves, strict=True)
        }

    def _money(self, one: Figures, usd: Any) -> str:
        if math.isfinite(float(usd)):
            return _usd(usd)
        limit = self.choice.ttft_limit
        return "too slow" if limit is not None and limit < float(one.ttft) < math.inf else "too long"

    def _name(self, way: int) -> str | None:
        return self.names[way] if way >= 0 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, infinite ones as None; keys carry units. Costs are of a query, or of a right answer where chances are given;
        those at the top are of the cheapest way."""
        best = self.at[self.names.index(self.best)] if self.best is not None else Figures(None, None, None)
        return {
            "title": self.choice.title, "best": self.best, "usd_per_query": _finite(best.usd), "ttft_s": _finite(best.ttft),
            "e2e_s": _finite(best.e2e), "over": self.over.name, "over_unit": self.over.unit, "your_value": self.over.base,
            "usd_are_per": "right answer" if self.choice.shared else "query",
            "queries_per_month": self.queries_per_month, "ttft_limit_s": self.choice.ttft_limit,
            "ways": [
                {"name": name, "usd_per_query": _finite(one.usd), "usd_per_month": _finite(one.usd * self.queries_per_month),
                 "ttft_s": _finite(one.ttft), "e2e_s": _finite(one.e2e), "success": self.choice.success.get(name)}
                for name, one in zip(self.names, self.at, strict=True)
            ],
            "payback_queries_per_period": _finite(self.payback_queries),
            "break_evens": [
                {"value": one.value, "below": self._name(one.below), "above": self._name(one.above), "usd_per_query": _finite(one.usd),
                 "jump": one.jump} for one in self.break_evens
            ],
            "turns": [turn.to_dict() for turn in self.turns], "no_turn": self.steady,
            "together": self.flips.to_dict()["together"],
            "curve": {"over": self.grid.tolist()} | {field: self._curve(part) for field, part in CURVES.items()},
            "assumptions": self.choice.assumptions.to_dict(), "missing_evidence": list(self.missing_evidence), "sources": self.sources,
        }  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """A row per way and point of the curve."""
        told = self.to_dict()["curve"]
        return [
            {self.over.name: value, "way": name, **{field: told[field][name][place] for field in CURVES}}
            for name in self.names for place, value in enumerate(told["over"])
        ]  # fmt: skip

    def __str__(self) -> str:
        per = "USD/right" if self.choice.shared else "USD/query"
        lines = [
            f"{self.choice.title}, at {_shown(self.over)}",
            f"{'':<24}{per:>12}{'USD/month':>14}{'TTFT':>11}{'E2E':>11}",
        ]
        for name, one in zip(self.names, self.at, strict=True):
            mark = "*" if name == self.best else " "
            usd, month = (self._money(one, value) for value in (one.usd, one.usd * self.queries_per_month))
            lines.append(f"{mark} {name:<22}{usd:>12}{month:>14}{_seconds(one.ttft):>11}{_seconds(one.e2e):>11}")
        lines.append("")
        parts = [
            f"{name or 'none'} " + _between(low, high, self.grid, self.over.unit) for name, low, high in self.stretches
        ]
        more = [f"and {len(parts) - SHOWN} more changes"] if len(parts) > SHOWN else []
        lines += _wrapped(f"Cheapest by {self.over.name}: " + "; ".join([*parts[:SHOWN], *more]))
        if self.payback_queries is not None:
            pays = (
                f"{self.payback_queries:,.0f} queries a refresh period"
                if math.isfinite(self.payback_queries)
                else "no number of queries"
            )
            lines += _wrapped(f"Fine-tuning pays against prompting from {pays} on")
        told = [turn.sentence() for turn in self.turns]
        lines += ["What would change it:"] if told else ["No assumption alone changes it."]
        lines += [line for sentence in told[:SHOWN] for line in _wrapped(sentence, "  ")]
        if len(told) > SHOWN:
            lines.append(f"  and {len(told) - SHOWN} more")
        lines.append("Not known here:")
        return "\n".join([*lines, *(line for one in self.missing_evidence for line in _wrapped(one, "  "))])


SHOWN = 6
"""Turns that a printed answer names."""


def _between(low: float, high: float, grid: Array, unit: str) -> str:
    start, end = (_number(value, unit, False) for value in (low, high))
    if low <= grid[0] and high >= grid[-1]:
        return f"from {start} to {end}"
    if low <= grid[0]:
        return f"below {end}"
    return f"above {start}" if high >= grid[-1] else f"{start} to {end}"


def _number(value: float, unit: str = "", told: bool = True) -> str:
    """A value for a sentence; shares as percentages, other units where they are told."""
    if unit == "share":
        return f"{100 * value:.3g}%"
    number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{number} {unit}" if unit and told else number


def _shown(item: Assumption) -> str:
    return f"{item.name} {_number(item.base, item.unit, False)}"


def _usd(value: Any) -> str:
    number = float(value)
    return f"{number:,.0f}" if number >= 1000 else f"{number:.2f}" if number >= 10 else f"{number:.3g}"


def _seconds(value: Any) -> str:
    return units.show(float(value), "s") if math.isfinite(float(value)) else "none"


def _wrapped(text: str, indent: str = "") -> list[str]:
    import textwrap

    return textwrap.wrap(text, 80, initial_indent=indent, subsequent_indent=indent + "  ")


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(float(value)) else None


def work_out(choice: Choice, *, span: tuple[float, float] | None = None) -> DecisionAnswer:
    """Figures at the base values and along a grid of the assumption that the choice is drawn over, logarithmic unless it is a share.

    ``span`` are the ends of the curve, by default its 90% range and a few times more; break-even points are looked for between them.
    """
    item, base = choice.assumptions[choice.over], choice.assumptions.base()
    low, high = span or _span(item)
    grid = np.linspace(low, high, POINTS) if item.unit == "share" or low <= 0 else np.geomspace(low, high, POINTS)
    if low < item.base < high:
        grid = np.union1d(grid, item.base)

    def at(values: Any) -> list[Figures]:
        return choice.figures({**base, choice.over: np.asarray(values, dtype=float)})

    fine = grid
    if choice.knots is not None and choice.over == choice.queries:
        knots = choice.knots(base)
        fine = np.union1d(grid, knots[(knots > low) & (knots < high)])
    found = break_evens(lambda values: np.stack([one.usd for one in at(values)]), fine)
    return DecisionAnswer(choice, grid, tuple(at(grid)), tuple(choice.figures(base)), found)


def _span(item: Assumption) -> tuple[float, float]:
    if item.unit == "share":
        return 0.0, 1.0
    low, high = (item.low, item.high) if item.uncertain else (item.base, item.base)
    if high <= 0:
        raise SpecError("has no range that a curve could be drawn over; give a span", field=item.name)
    wide = SPAN if item.uncertain else SPAN**2
    return max(low, high / 1e6) / np.sqrt(wide), high * np.sqrt(wide)


def answer(
    spec: Decision | Mapping[str, Any], deployment: Estimate | None = None, *, limits: tuple[Limit, ...] = ()
) -> DecisionAnswer:
    """The decision that ``spec`` asks for; ``deployment`` stands in where it names no model. SpecError where there is neither.

    >>> found = answer({"question": "rag-vs-long-context", "model": "3,0.3,15"})
    >>> found.best, [name for name, _, _ in found.stretches]
    ('RAG', ['long context, cached', 'RAG'])
    """
    asked = spec if isinstance(spec, Decision) else validate(Decision, spec)
    return work_out(choice_of(asked, deployment, limits=limits), span=asked.span)


def choice_of(asked: Decision, deployment: Estimate | None = None, *, limits: tuple[Limit, ...] = ()) -> Choice:
    """The choice behind a decision, with what the spec says of it."""
    given = asked.model or deployment
    if given is None:
        raise SpecError("is needed: a model on hardware, or an API's prices such as 3,0.3,15", field="model")
    workload = deployment.workload if deployment is not None else None
    if asked.question in ("rag-vs-long-context", "cached-prompt"):
        hit = "hit_rate" in asked.assume
        found = retrieval_or_context(priced(given, workload=workload), known_hit=hit, data=asked.question)
    elif asked.question == "finetune":
        tuned = _other(asked.tuned, "tuned.", workload) if asked.tuned is not None else None
        found = prompt_or_weights(priced(given, workload=workload), tuned)
    elif asked.question == "self-host-vs-api":
        assert asked.api is not None
        if isinstance(given, ApiModel):
            raise SpecError("is a model on own devices for this question, not an API", field="model")
        found = own_or_api(priced(given, workload=workload), priced(asked.api), limits=limits)
    else:
        assert asked.small is not None
        found = cascade(_other(asked.small, "small.", workload), priced(given, "large.", workload=workload))
    if asked.retrieval is not None:
        found = with_retrieval(found, retrieve(asked.retrieval))
    found = found.with_success(asked.success).given(asked.assume)
    if asked.over is not None:
        found = found.drawn_over(asked.over)
    if asked.ttft is not None:
        found = _limited(found, asked.ttft)
    return found


def _other(given: ServedModel | ApiModel, prefix: str, workload: Workload | None) -> Priced:
    return priced(given, prefix, workload=workload)


def _limited(choice: Choice, seconds: float) -> Choice:
    from dataclasses import replace

    return replace(choice, ttft_limit=seconds)
