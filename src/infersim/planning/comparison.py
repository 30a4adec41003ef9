"""What a comparison of deployments answers, as values and as a table of 80 columns."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, replace
from typing import Any

from infersim import units
from infersim.planning.assumptions import Assumptions
from infersim.planning.between import Change, Difference, OpDifference
from infersim.planning.flips import Flips
from infersim.planning.options import frame
from infersim.planning.outcome import FIGURES, Choice
from infersim.planning.sensitivity import Tornado, tornado
from infersim.planning.uncertainty import MonteCarlo, show_chance
from infersim.predict.estimate import Estimate
from infersim.predict.step import StepTime
from infersim.serving.target import Limit

LETTERS = "ABCDEFGH"
COLUMNS = 3
"""Options side by side in 80 columns."""
OPS_SHOWN = 4
OPS_SHARE = 0.02
"""Ops are shown whose difference is at least this share of a step."""
PLURAL = {"usd_per_year": "USD/year", "gpus": "GPUs"}


@dataclass(frozen=True)
class Side:
    """One option of a comparison."""

    letter: str
    choice: Choice
    loaded: Estimate
    """One replica at its share of the planned load, of the decode pool where there are two."""
    prompts: Estimate | None
    """One replica of the prefill pool."""
    uncertain: MonteCarlo
    """The option in every world that was drawn; worlds are the same for all options."""
    bound: str
    """The limit that ends a replica's capacity, or ``throughput``."""
    device_hour: float
    """USD per device and hour, rented or owned; not a number where no price is known."""
    chance_cheapest: float = 0.0

    @property
    def name(self) -> str:
        return self.choice.name

    @property
    def steps(self) -> dict[str, StepTime]:
        """The steps that the option is made of."""
        if self.prompts is None:
            return self.loaded.steps
        return {"prefill": self.prompts.prefill_step, "decode": self.loaded.decode_step}

    def interval(self, metric: str) -> tuple[float, float] | None:
        """The 90% range of mean TTFT or TPOT at the load from the error of the prediction alone; None where no error is assumed."""
        known = {item.name: item for item in self.uncertain.assumptions}
        item = known.get(f"{self.name}.prediction.{metric}", known.get(f"prediction.{metric}"))
        value = self.figure(metric)
        if item is None or not item.uncertain or not math.isfinite(value):
            return None
        return value * item.low, value * item.high

    def figure(self, name: str) -> float:
        """A figure of the plan (``planning.outcome.FIGURES``) with all assumptions at their base values."""
        return float(self.uncertain.base.figure(name))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, infinite ones as None; keys carry units."""
        found: dict[str, Any] = {"option": self.letter, "name": self.name, "deployment": self.choice.describe()}
        found["concurrency_per_replica"] = self.loaded.workload.concurrency
        for metric in ("ttft", "tpot"):
            interval = self.interval(metric)
            found[f"{metric}_s"] = _finite(self.figure(metric))
            found[f"{metric}_interval_90_s"] = list(interval) if interval else None
        found |= {
            "bound": self.bound,
            "price_per_gpu_hour_usd": _finite(self.device_hour),
            "chance_cheapest": self.chance_cheapest,
        }
        gpus_90 = self.uncertain.gpus_for(0.9)
        counts = [_finite(float(count)) for count in self.uncertain.base.replicas]
        found["prefill_replicas"] = counts[1] if len(counts) > 1 else 0
        return found | {"replicas": counts[0], "gpus_for_90_percent": gpus_90,
                        "uncertainty": self.uncertain.to_dict()}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Why two options differ, and what would change which is better."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    way: tuple[Change, ...]
    """From A to B, setting by setting."""
    ops: tuple[OpDifference, ...]
    flips: Flips

    def to_dict(self) -> dict[str, Any]:
        """Plain values; keys carry units."""
        return {
            "a": self.a, "b": self.b,
            "differences": [{"setting": d.what, "a": d.a, "b": d.b} for d in self.differences],
            "way_from_a_to_b": [{"change": c.what, self.flips.figure: _finite(c.figure), "ratio": _finite(c.ratio)} for c in self.way],
            "ops": [{"step": o.step, "op": o.op, "a_s": o.a, "b_s": o.b, "bound_a": o.bound_a, "bound_b": o.bound_b}
                    for o in self.ops],
            "flips": self.flips.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Options for one load, side by side. ``figure`` is what decides: USD per year, or GPUs where a price is missing.

    >>> from infersim import compare, estimate
    >>> one, two = (estimate("meta-llama/Llama-3.1-8B", "H100-SXM", precision=p) for p in ("bf16", "fp8"))
    >>> found = compare(one, two, request_rate=40, target="tpot=20ms", samples=200)
    >>> found.pairs[0].differences[0].what, round(sum(side.chance_cheapest for side in found.sides), 6)
    ('precision', 1.0)
    """

    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    """The cheapest option with each of the others."""
    assumptions: Assumptions
    figure: str
    request_rate: float
    limits: tuple[Limit, ...]
    seed: int

    @property
    def cheapest(self) -> Side:
        """The best option as planned; the first of several."""
        return min(self.sides, key=lambda side: (side.figure(self.figure), side.figure("gpus")))

    def side(self, letter: str) -> Side:
        """An option by its letter."""
        return self.sides[LETTERS.index(letter)]

    def tornado(self, letter: str, figure: str | None = None) -> Tornado:
        """How far each assumption moves a figure of one option, with its share of the variance."""
        side, figure = self.side(letter), figure or self.figure
        own = [item for item in self.assumptions if not _of_another(item.name, self.sides, side)]
        replicas = side.uncertain.base.replicas if figure in ("ttft", "tpot") else None
        sample = (side.uncertain.drawn, side.uncertain.outcome.figure(figure)) if replicas is None else None
        found = tornado(
            lambda values: side.choice.outcome(values, replicas=replicas).figure(figure), Assumptions(tuple(own)),
            f"{figure} of {letter}", FIGURES[figure], sample=sample,
        )  # fmt: skip
        return replace(
            found, bars=tuple(replace(bar, name=bar.name.removeprefix(f"{side.name}.")) for bar in found.bars)
        )

    def assumed(self) -> str:
        """The assumptions as a table, options by their letters."""
        items = (replace(item, name=_lettered(item.name, self.sides)) for item in self.assumptions)
        return str(Assumptions(tuple(items)))

    @property
    def sources(self) -> list[str]:
        """What the comparison rests on: the assumptions first, then each option's data."""
        found = [f"{_lettered(item.name, self.sides)}: {item.status}, {item.source}" for item in self.assumptions]
        return found + [f"{side.letter}: {line}" for side in self.sides for line in side.loaded.sources]

    def to_dict(self) -> dict[str, Any]:
        """Everything; keys carry units."""
        return {
            "requests_per_s": self.request_rate, "target": {f"{limit.name}_s": limit.seconds for limit in self.limits},
            "decided_by": self.figure, "cheapest": self.cheapest.letter, "options": [side.to_dict() for side in self.sides],
            "pairs": [pair.to_dict() for pair in self.pairs], "assumptions": self.assumptions.to_dict(), "seed": self.seed,
            "sources": self.sources,
        }  # fmt: skip

    def to_frame(self) -> Any:
        """One row per option, as a pandas frame."""
        rows = []
        for side in self.sides:
            told = side.to_dict()
            figures = {name: entry["base"] for name, entry in told.pop("uncertainty")["figures"].items()}
            rows.append({name: value for name, value in told.items() if not isinstance(value, list)} | figures)
        return frame(rows)

    def __str__(self) -> str:
        limits = ", ".join(f"{limit.name} {units.show(limit.seconds, 's')}" for limit in self.limits) or "no target"
        lines = [f"{self.request_rate:g} requests/s within {limits}"]
        for side in self.sides:
            lines += textwrap.wrap(f"{side.letter}  {side.choice.describe()}", 80, subsequent_indent="   ")
        for start in range(0, len(self.sides), COLUMNS):
            lines += ["", *_table(self.sides[start : start + COLUMNS], len(self.sides) > 1)]
        for pair in self.pairs if len(self.sides) == 2 else ():
            lines += ["", *self._why(pair)]
        return "\n".join(lines)

    def _why(self, pair: Pair) -> list[str]:
        lines = [f"From {pair.a} to {pair.b}:"]
        lines += _wrapped("differs in " + "; ".join(f"{d.what}: {d.a} -> {d.b}" for d in pair.differences))
        if pair.way:
            told = "; ".join(
                f"{c.what}{'' if math.isnan(c.ratio) else f' x{c.ratio:.2f}'} -> {_money(c.figure)}" for c in pair.way
            )
            lines += _wrapped(f"{PLURAL[self.figure]}, change by change: {told}")
        lines += _ops(pair)
        sides = {side.letter: side for side in self.sides}
        chance = sides[pair.b].chance_cheapest
        lines += _wrapped(f"{pair.b} is the cheaper one in {show_chance(chance)} of the worlds drawn (ties split)")
        for sentence in pair.flips.sentences():
            lines += _wrapped(_lettered(sentence, self.sides))
        return lines


def _table(sides: tuple[Side, ...], several: bool) -> list[str]:
    rows: list[tuple[str, list[str]]] = [("", [side.letter for side in sides])]

    def row(label: str, *cells: str) -> None:
        if any(cell not in ("", "-") for cell in cells):
            rows.append((label, list(cells)))

    row("GPUs needed", *(_number(side.figure("gpus")) for side in sides))
    row("  for a 90% chance", *(_number(side.uncertain.gpus_for(0.9)) for side in sides))
    row("  replicas", *(" + ".join(_number(float(n)) for n in side.uncertain.base.replicas[::-1]) for side in sides))
    row("requests/s a replica", *(_number(side.figure("capacity")) for side in sides))
    row("  ended by", *(side.bound for side in sides))
    for metric in ("ttft", "tpot"):
        row(f"{metric.upper()} at the load", *(_latency(side, metric) for side in sides))
        row("  90% interval", *(_interval(side, metric) for side in sides))

    def priced(side: Side) -> bool:
        return not math.isnan(side.figure("usd_per_year"))

    row("USD/h per GPU", *(_number(side.device_hour) for side in sides))
    row("USD/year", *(_money(side.figure("usd_per_year")) if priced(side) else "-" for side in sides))
    row("  90% range", *(_range(side, "usd_per_year") for side in sides))
    row("USD/M tokens", *(_number(side.figure("usd_per_million_tokens")) for side in sides))
    if several:
        row("chance: cheapest", *(show_chance(side.chance_cheapest) for side in sides))
    return [f"{label:<21}" + "".join(f"{cell:>19}" for cell in cells) for label, cells in rows]


def _ops(pair: Pair) -> list[str]:
    """The ops that make the difference, by step."""
    lines = []
    for step in dict.fromkeys(op.step for op in pair.ops):
        rows = [op for op in pair.ops if op.step == step]
        totals = [sum(getattr(op, side) for op in rows) for side in ("a", "b")]
        told = [
            f"{op.op} {units.show(op.a, 's')} -> {units.show(op.b, 's')}" for op in rows[:OPS_SHOWN]
            if abs(op.difference) >= OPS_SHARE * max(totals)
        ]  # fmt: skip
        ends = " -> ".join(units.show(total, "s") for total in totals)
        lines += _wrapped(f"{step} step {ends}: " + ("; ".join(told) or "no op differs by much"))
    return lines


def _of_another(name: str, sides: tuple[Side, ...], own: Side) -> bool:
    return any(name.startswith(f"{side.name}.") for side in sides if side is not own)


def _lettered(sentence: str, sides: tuple[Side, ...]) -> str:
    """A sentence with letters for the options' names."""
    for side in sorted(sides, key=lambda side: -len(side.name)):
        sentence = sentence.replace(f"{side.name}.", f"{side.letter}.")
    return sentence


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _latency(side: Side, metric: str) -> str:
    value = side.figure(metric)
    return "none" if math.isinf(value) else units.show(value, "s") if value > 0 else "-"


def _interval(side: Side, metric: str) -> str:
    interval = side.interval(metric)
    if interval is None or interval[1] == 0:
        return "-"
    return " - ".join(units.show(end, "s") for end in interval)


def _range(side: Side, figure: str) -> str:
    low, high = (side.uncertain.quantile(figure, percent) for percent in (5, 95))
    return "-" if math.isnan(low) else f"{_money(low)} - {_money(high)}"


def _money(value: float) -> str:
    """An amount in few characters: 320 k, 1.43 M."""
    if not math.isfinite(value):
        return "none"
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _number(value: float | None) -> str:
    if value is None or math.isinf(value):
        return "none"
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
