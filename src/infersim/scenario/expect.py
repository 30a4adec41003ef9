"""What is expected of an answer: rules on its figures, with tolerances and units, and whether they hold."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from infersim import units
from infersim.errors import SpecError, UnitError, did_you_mean
from infersim.scenario.places import Fields, Place, get, place_of
from infersim.scenario.setup import error_at

EQUAL = 1e-6
"""How near a plain number must come, as a share of it."""
_SIGNS = ("<=", ">=", "!=", "==", "<", ">")
_TOLERANCE = re.compile(r"(.*?)\s*(?:\+-|\+/-|±)\s*(.*)")
_RANGE = re.compile(r"(.*?)\s*\.\.\s*(.*)")
_UNIT_OF = (
    ("_requests_per_s", "/s"), ("_bytes_per_s", "B/s"), ("_flop_per_s", "FLOP/s"), ("_hour_usd", "USD/h"), ("_usd", "USD"),
    ("_bytes", "B"), ("_kw", None), ("_per_s", None), ("_w", "W"), ("_j", "J"), ("_s", "s"),
)  # fmt: skip
Op = Literal["<", "<=", ">", ">=", "==", "!=", "near", "between"]


@dataclass(frozen=True)
class Rule:
    """One expectation: ``figure`` by its dotted name in ``to_dict()``, compared with ``low`` (and ``high``)."""

    figure: str
    text: str
    """As it was written."""
    op: Op
    low: Any
    high: Any = None
    place: Place | None = None

    def holds(self, value: Any) -> bool:
        """Whether a value is as expected; a missing one never is."""
        if self.op == "==":
            if isinstance(self.low, bool) or not isinstance(self.low, int | float):
                return bool(value == self.low)
            return _number(value) and math.isclose(value, self.low, rel_tol=EQUAL, abs_tol=1e-12)
        if self.op == "!=":
            return value is not None and value != self.low
        if not _number(value):
            return False
        if self.op in ("near", "between"):
            return bool(self.low <= value <= self.high)
        return bool(
            {"<": value < self.low, "<=": value <= self.low, ">": value > self.low, ">=": value >= self.low}[self.op]
        )


@dataclass(frozen=True)
class Checked:
    """A rule and what was found."""

    case: str
    rule: Rule
    value: Any
    problem: str = ""
    """Why there is no such figure."""

    @property
    def met(self) -> bool:
        return not self.problem and self.rule.holds(self.value)

    def to_dict(self) -> dict[str, Any]:
        """As a results folder holds it."""
        return {"metric": self.rule.figure, "case": self.case, "rule": self.rule.text, "value": self.value, "met": self.met,
                "problem": self.problem}  # fmt: skip

    @property
    def _hint(self) -> str:
        """What a rule looks like, where words were held against a number."""
        wordy = self.rule.op == "==" and isinstance(self.rule.low, str) and _number(self.value)
        return "; a rule on a number begins with < <= > >= or is such as 0.5 +- 10% or 0.4 .. 0.6" if wordy else ""

    def __str__(self) -> str:
        got = self.problem or f"got {_told(self.rule.figure, self.value)}{self._hint}"
        where = f" ({self.rule.place})" if self.rule.place and not self.met else ""
        return f"{'met' if self.met else 'NOT MET'}: {self.case}: {self.rule.figure}: expected {self.rule.text}, {got}{where}"


def read_rules(
    tree: Fields, path: tuple[Any, ...], cases: Collection[str]
) -> tuple[tuple[Rule, ...], dict[str, tuple[Rule, ...]]]:
    """The rules at a path of a scenario, and those it has by case. SpecError with the line of what is none."""
    given = get(tree, [str(part) for part in path])
    if given is None:
        return (), {}
    if not isinstance(given, Mapping):
        raise error_at(tree, path, 'is figures and what is expected of them, such as {ttft_s: "< 0.8"}')
    rules = tuple(read_rule(figure, rule, tree, (*path, figure)) for figure, rule in given.items() if figure != "case")
    by_case: dict[str, tuple[Rule, ...]] = {}
    listed = given.get("case", {})
    if not isinstance(listed, Mapping):
        raise error_at(tree, (*path, "case"), 'is expectations by case, such as {two GPUs: {ttft_s: "< 0.5"}}')
    for case, inner in listed.items():
        if case != "base" and case not in cases:
            raise error_at(
                tree, (*path, "case", case), f"no case is called {case!r}; {did_you_mean(case, ['base', *cases])}"
            )
        if not isinstance(inner, Mapping):
            raise error_at(
                tree, (*path, "case", case), 'is figures and what is expected of them, such as {ttft_s: "< 0.8"}'
            )
        by_case[case] = tuple(
            read_rule(figure, rule, tree, (*path, "case", case, figure)) for figure, rule in inner.items()
        )
    return rules, by_case


def read_rule(figure: str, given: Any, tree: Any = None, path: tuple[Any, ...] = ()) -> Rule:
    """A rule as it is written: a value, ``< 0.8``, ``< 800 ms``, ``0.90 USD +- 5%``, ``0.5 .. 0.8``.

    >>> read_rule("ttft_s", "< 800 ms").low, read_rule("utilisation", "0.5 +- 10%").high
    (0.8, 0.55)
    >>> read_rule("best.hardware", "H200-SXM").holds("H200-SXM")
    True
    """
    place = place_of(tree, path)[0] if tree is not None else None
    try:
        return _rule(figure, given, place)
    except (SpecError, UnitError) as error:
        message = error.message if isinstance(error, SpecError) else str(error)
        raise SpecError(
            message, field=".".join(map(str, path)) or figure, file=str(place) if place else None
        ) from error


def _rule(figure: str, given: Any, place: Place | None) -> Rule:
    if given is None or isinstance(given, bool | int | float):
        if isinstance(given, float) and not math.isfinite(given):
            raise SpecError(f"is a finite number, got {given!r}")
        return Rule(figure, {True: "true", False: "false", None: "nothing"}[given] if given is None or isinstance(given, bool)
                    else f"{given:g}", "==", given, place=place)  # fmt: skip
    if isinstance(given, list):
        return Rule(figure, str(given), "==", list(given), place=place)
    if not isinstance(given, str) or not given.strip():
        raise SpecError(f'is a value or a rule such as "< 800 ms", got {given!r}')
    text = given.strip()
    for sign in _SIGNS:
        if text.startswith(sign):
            value: Any = _quantity(figure, text[len(sign) :], strict=sign in ("<", "<=", ">", ">="))
            return Rule(figure, text, sign, value, place=place)  # type: ignore[arg-type]
    if found := _TOLERANCE.fullmatch(text):
        middle = _quantity(figure, found[1])
        margin = (
            abs(middle) * _percent(found[2])
            if found[2].endswith("%") and not found[1].endswith("%")
            else _quantity(figure, found[2])
        )
        if margin < 0:
            raise SpecError(f"a tolerance is zero or more, got {found[2]!r}")
        return Rule(figure, text, "near", middle - margin, middle + margin, place)
    if found := _RANGE.fullmatch(text):
        low, high = _quantity(figure, found[1]), _quantity(figure, found[2])
        if low > high:
            raise SpecError(f"the lower end comes first, got {text!r}")
        return Rule(figure, text, "between", low, high, place)
    return Rule(figure, text, "==", _quantity(figure, text, strict=False), place=place)


def _quantity(figure: str, text: str, *, strict: bool = True) -> Any:
    """A number in the unit of a figure's name; a text that is none as it is, unless ``strict``."""
    text = text.strip()
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    if re.fullmatch(r"[-+]?[0-9.]+\s*%", text):
        return _percent(text)
    unit = unit_of(figure)
    if unit is not None and re.match(r"[-+.0-9]", text):
        return _parsed(text, unit)
    if not strict:
        return text
    told = f" or with its unit: {units.EXAMPLES[unit]}" if unit else ""
    raise SpecError(f"is a number{told}, got {text!r}")


def _parsed(text: str, unit: str) -> float:
    if unit == "USD/h" and text.strip().endswith(("USD", "$")):
        unit = "USD"
    return units.parse(text, unit)


def _percent(text: str) -> float:
    try:
        return float(text.strip().rstrip("%")) / 100
    except ValueError:
        raise SpecError(f"is a number of percent, got {text!r}") from None


def unit_of(figure: str) -> str | None:
    """The unit that a figure's name ends in.

    >>> unit_of("ttft_p95_s"), unit_of("memory.weights_bytes"), unit_of("output_tokens_per_s"), unit_of("latency_s.mean")
    ('s', 'B', None, 's')
    """
    for part in reversed(figure.split(".")):  # of latency_s.mean the unit is in the outer name
        for ending, unit in _UNIT_OF:
            if f"_{part}".endswith(ending):
                return unit
    name = "_" + figure.rsplit(".", 1)[-1]
    if re.search(r"(_|^)(ttft|tpot|itl|e2e)(_p[0-9.]+|_mean)?$", name):
        return "s"
    return "USD" if "cost" in name or "price" in name else None


def check(rules: tuple[Rule, ...], case: str, answer: Mapping[str, Any] | None, error: str | None) -> list[Checked]:
    """Every rule held against the answer of its case."""
    found = []
    for rule in rules:
        if answer is None:
            found.append(Checked(case, rule, None, f"no answer: {error}"))
            continue
        _name, value, problem = look_up(answer, rule.figure)
        found.append(Checked(case, rule, value, problem))
    return found


def look_up(answer: Mapping[str, Any], figure: str) -> tuple[str, Any, str]:
    """(its full name, the value, why there is none) of a figure by its dotted name; the unit at its end may be left out.

    >>> look_up({"ttft_s": 0.2, "options": [{"gpu": "L4"}]}, "best.hardware")
    ('options.0.gpu', 'L4', '')
    """
    if figure == "target_met" and "target_met" not in answer:
        judged = any(key in answer for key in ("missed_targets", "fits", "options", "months", "at"))
        return (
            figure,
            target_met(answer) if judged else None,
            "" if judged else "an answer of this kind is not held against a target",
        )
    parts = figure.split(".")
    if parts[0] == "best" and isinstance(answer.get("options"), list) and answer["options"]:
        best = answer.get("cheapest")
        place = next((n for n, one in enumerate(answer["options"]) if best and one.get("option") == best), 0)
        parts = ["options", str(place), *parts[1:]]
    if parts[0] == "last" and isinstance(answer.get("months"), list) and answer["months"]:
        parts = ["months", str(len(answer["months"]) - 1), *parts[1:]]
    at: Any = answer
    way: list[str] = []
    for part in parts:
        if isinstance(at, Mapping):
            key = _key(at, part)
            if key is None:
                left_out = answer.get("fits") is False
                told = (
                    "it does not fit"
                    if left_out
                    else f"no figure is called {figure!r}; {did_you_mean(part, map(str, at))}"
                )
                return figure, None, told
            way.append(key)
            at = at[key]
        elif isinstance(at, list) and part.isdigit() and int(part) < len(at):
            way.append(part)
            at = at[int(part)]
        else:
            return figure, None, f"no figure is called {figure!r}"
    return ".".join(way), at, ""


def _key(at: Mapping[str, Any], part: str) -> str | None:
    if part in at:
        return part
    if part == "hardware":
        return next((name for name in ("gpu", "accelerator") if name in at), None)
    close = [
        name for name in at if name.startswith(f"{part}_") and unit_of(name) is not None and len(name) - len(part) <= 5
    ]
    return close[0] if len(close) == 1 else None


def target_met(answer: Mapping[str, Any]) -> bool:
    """Whether an answer keeps its limits: it fits, is stable, and misses none."""
    if answer.get("fits") is False or answer.get("unstable"):
        return False
    if "capacity_requests_per_s" in answer and "at" in answer:
        return bool(answer["capacity_requests_per_s"] > 0)
    return not answer.get("missed_targets")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _told(figure: str, value: Any) -> str:
    unit = unit_of(figure)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if _number(value) and unit is not None:
        return units.show(value, unit)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
