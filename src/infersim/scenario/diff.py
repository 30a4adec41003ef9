"""Two cases side by side: which figures differ, which settings make the difference, and which ops of a step."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infersim import units
from infersim.errors import InferSimError, SpecError, did_you_mean
from infersim.planning.between import OpDifference
from infersim.scenario.answers import answer, figures
from infersim.scenario.expect import unit_of
from infersim.scenario.named import written_out
from infersim.scenario.places import ONE_OF, Fields, drop, get, put
from infersim.scenario.result import RESULTS, run
from infersim.scenario.scenario import BASE, load_scenario, resolve

WIDTH = 80
MOST_CHANGES = 12
"""Changes told one by one; what comes after them is told together."""
OPS_SHOWN = 8
FIGURES_SHOWN = 14
MAIN = {
    "estimate": ("tpot_s", "ttft_s", "requests_per_s", "cost_per_million_output_tokens_usd"),
    "simulate": ("ttft_p95_s", "tpot_p95_s", "requests_per_s"), "capacity": ("capacity_requests_per_s",),
    "plan": ("best.cost_per_hour_usd",), "cost": ("per_year_usd",), "size": ("last.devices",),
    "compare": ("best.uncertainty.figures.usd_per_year.base",),
}  # fmt: skip
"""Figures whose difference is explained, by question."""
ASKED = ("workload.", "parallelism.", "target.", "traffic.", "question.")
"""Figures that only repeat what was asked."""
NOT_ASKED = ("infersim", "name", "description", "what_if", "grid", "expect", "sweep", "include")


@dataclass(frozen=True)
class Side:
    """One of the two cases."""

    label: str
    question: str
    setup: Mapping[str, Any]
    told: Mapping[str, Any] | None
    error: str | None
    deployment: Mapping[str, Any] | None
    """``Estimate.to_dict()`` of what runs, where there is one."""
    version: str = ""

    @property
    def figures(self) -> dict[str, float]:
        return figures(self.told) if self.told is not None else {}


@dataclass(frozen=True)
class Setting:
    """A setting that differs; None where one side does not state it."""

    path: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Part:
    """What a change of one setting (or of several that only go together) does to a figure."""

    path: str
    in_sequence: float
    """After the changes before it; these parts sum to the whole difference."""
    alone: float | None
    """By itself, from A; None where A with it alone cannot be answered."""


@dataclass(frozen=True)
class Explanation:
    """A figure's way from A to B, setting by setting."""

    figure: str
    a: float
    b: float
    parts: tuple[Part, ...]

    @property
    def difference(self) -> float:
        return self.b - self.a


@dataclass(frozen=True)
class Diff:
    """Two cases and what lies between them.

    >>> asked = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM", "workload": {"concurrency": 16}}
    >>> found = diff(side_of(asked, "a"), side_of({**asked, "deployment": {"precision": "fp8"}}, "b"))
    >>> [setting.path for setting in found.settings], found.explanations[0].parts[0].path
    (['deployment.precision'], 'deployment.precision')
    """

    a: Side
    b: Side
    settings: tuple[Setting, ...]
    assumptions: tuple[Setting, ...]
    """Assumptions behind a cost or a comparison that differ."""
    explanations: tuple[Explanation, ...]
    ops: Mapping[str, tuple[OpDifference, ...]]
    """By step, the largest difference first; they sum to the difference of the step."""
    whole: Mapping[str, tuple[float, float]]
    """Seconds of each step."""
    note: str = ""
    others: tuple[tuple[str, str, float | None, float | None], ...] = ()
    """(case, figure, A, B) of the other cases that both have."""

    @property
    def figures(self) -> list[tuple[str, float | None, float | None]]:
        """(name, A, B) of every figure that differs, those that are asked for first."""
        one, two = self.a.figures, self.b.figures
        names = [*MAIN.get(self.a.question, ()), *one, *two]
        return [
            (name, one.get(name), two.get(name))
            for name in dict.fromkeys(names)
            if (name in one or name in two) and not _same(one.get(name), two.get(name)) and not name.startswith(ASKED)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; keys of seconds carry their unit."""
        return {
            "a": self.a.label, "b": self.b.label, "question_a": self.a.question, "question_b": self.b.question,
            "error_a": self.a.error, "error_b": self.b.error,
            "settings": [{"setting": one.path, "a": one.a, "b": one.b} for one in self.settings],
            "assumptions": [{"assumption": one.path, "a": one.a, "b": one.b} for one in self.assumptions],
            "figures": self.rows,
            "explained": [{"figure": one.figure, "a": one.a, "b": one.b, "difference": one.difference,
                           "parts": [{"setting": part.path, "in_sequence": part.in_sequence, "alone": part.alone} for part in one.parts]}
                          for one in self.explanations],
            "steps": [{"step": step, "a_s": a, "b_s": b, "ops": [
                {"op": op.op, "a_s": op.a, "b_s": op.b, "difference_s": op.difference, "bound_a": op.bound_a, "bound_b": op.bound_b}
                for op in self.ops[step]]} for step, (a, b) in self.whole.items()],
            "note": self.note,
            "other_cases": [{"case": case, "figure": name, "a": a, "b": b} for case, name, a, b in self.others],
        }  # fmt: skip

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One flat record per figure that differs."""
        return [{"figure": name, "a": a, "b": b, "difference": b - a if a is not None and b is not None else None}
                for name, a, b in self.figures]  # fmt: skip

    def __str__(self) -> str:
        lines = [f"a  {self.a.label}: {self.a.question}", f"b  {self.b.label}: {self.b.question}"]
        lines += [f"{name}: no answer: {side.error}" for name, side in (("a", self.a), ("b", self.b)) if side.error]
        if self.note:
            lines += textwrap.wrap(self.note, WIDTH)
        if not self.settings and not self.figures:
            return "\n".join([*lines, "the same settings, the same figures"])
        lines += _settings("settings", self.settings) + _settings("assumptions", self.assumptions)
        lines += _figures(self.figures)
        for one in self.explanations:
            lines += _explained(one)
        for step in self.whole:
            lines += _ops(step, self.whole[step], self.ops[step])
        return "\n".join([*lines, *_others(self.others)])


def between(a: str, b: str, figure: str | None = None) -> Diff:
    """What lies between two cases by their paths (``read_side``); where neither names a case, with the other cases of both."""
    one, two = read_side(a), read_side(b)
    found = diff(one, two, figure)
    if "#" in a or "#" in b:
        return found
    rows = []
    cases = [_cases(text) for text in (a, b)]
    for case in (name for name in cases[0] if name != BASE and name in cases[1]):
        sides = [read_side(f"{text}#{case}") for text in (a, b)]
        told = [side.figures for side in sides]
        shown = (
            [figure]
            if figure
            else [name for name in MAIN.get(sides[0].question, ()) if name in told[0] or name in told[1]][:2]
        )
        rows += [(case, name, told[0].get(name), told[1].get(name)) for name in shown]
    return replace(found, others=tuple(rows))


def _cases(text: str) -> list[str]:
    """The names of the cases of a scenario file or a results folder."""
    place = Path(text)
    return list(_read_results(place)[1]) if place.is_dir() else [one.case for one in load_scenario(place).cases]


def read_side(text: str) -> Side:
    """A case by the path of a scenario file or of a results folder; ``#`` and its name choose another than the base case."""
    path, _, case = text.rpartition("#") if "#" in text else (text, "", "")
    place = Path(path)
    if place.is_dir():
        return _of_results(place, case or BASE)
    scenario = load_scenario(place).only(case or BASE)
    return _answered(scenario, f"{place.stem}#{case}" if case else place.stem)


def side_of(setup: Mapping[str, Any], label: str) -> Side:
    """A case by its setup as a mapping."""
    return _answered(resolve(setup), label)


def _answered(scenario: Any, label: str) -> Side:
    (found,) = run(scenario, doubts=False).cases
    error = str(found.error) if found.error else None
    behind = _deployment(found.answer) if found.answer is not None else None
    return Side(
        label, found.question, found.setup, found.told, error, found.told if found.question == "estimate" else behind
    )


def _deployment(found: Any) -> Mapping[str, Any] | None:
    """The deployment behind an answer."""
    for name in ("deployment", "best", "at"):
        below = getattr(found, name, None)
        if below is not None:
            deeper = getattr(below, "deployment", None)
            told: Mapping[str, Any] = (deeper if deeper is not None else below).to_dict()
            return told
    return None


def _read_results(folder: Path) -> tuple[str, dict[str, Any]]:
    """The version that wrote a results folder, and its cases by name."""
    file = folder / RESULTS
    if not file.is_file():
        raise SpecError("holds no results.json; infersim run SCENARIO.yaml -o FOLDER writes it", file=folder)
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        cases = {str(one["name"]): one for one in told["cases"]}
        for one in cases.values():
            one["setup"], one["answer"], one["error"], one["question"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpecError(f"is not as infersim run writes it: {error}", file=file) from error
    return str(told.get("infersim", "")), cases


def _of_results(folder: Path, case: str) -> Side:
    version, cases = _read_results(folder)
    if case not in cases:
        raise SpecError(f"no case is called {case!r}; {did_you_mean(case, cases)}", file=folder)
    one = cases[case]
    behind = one["answer"] if one["question"] == "estimate" else (one.get("evidence") or {}).get("estimate")
    label = folder.name if case == BASE else f"{folder.name}#{case}"
    return Side(label, one["question"], one["setup"], one["answer"], one["error"], behind, version)


def diff(a: Side, b: Side, figure: str | None = None) -> Diff:
    """What lies between two cases. ``figure`` is explained in place of the usual ones.

    Settings are changed from A to B in the order of the scenario; what one does in sequence depends on that order, their sum does not.
    A change that cannot be answered by itself is joined to the next one.
    """
    start, end = _asked(a.setup), _asked(b.setup)
    known = [name for name in a.figures if name in b.figures]
    if figure is not None and figure not in known:
        raise SpecError(f"no figure of both is called {figure!r}; {did_you_mean(figure, known)}", field="figure")
    settings = tuple(_settings_between(start, end, ()))
    note = ""
    explanations: tuple[Explanation, ...] = ()
    if a.question != b.question:
        note = "different questions: settings and common figures are set side by side, and nothing is explained"
    elif settings and a.told is not None and b.told is not None:
        explanations = tuple(_explain(a, b, start, settings, figure))
    elif not settings and a.version != b.version:
        note = f"the same settings, answered by infersim {a.version or 'of now'} and {b.version or 'of now'}"
    whole, ops = _step_differences(a.deployment, b.deployment)
    return Diff(a, b, settings, _assumed(a.told, b.told), explanations, ops, whole, note)


def _asked(setup: Mapping[str, Any]) -> Fields:
    return Fields({key: value for key, value in setup.items() if key not in NOT_ASKED and value is not None})


def _settings_between(a: Any, b: Any, path: tuple[str, ...]) -> list[Setting]:
    """Where two setups differ, as deep as both go."""
    if a == b:
        return []
    if len(path) == 1 or path[:1] == ("deployment",):
        a, b = _alike(a, b, path), _alike(b, a, path)
    both = isinstance(a, Mapping) and isinstance(b, Mapping)
    if both and not (path and path[-1] in ONE_OF and set(a) != set(b)):
        keys = [*a, *(key for key in b if key not in a)]
        return [one for key in keys for one in _settings_between(a.get(key), b.get(key), (*path, str(key)))]
    if len(path) == 1 and (a is None) != (b is None) and isinstance(a if b is None else b, Mapping):
        given = a if b is None else b
        return [Setting(f"{path[0]}.{key}", a and given[key], b and given[key]) for key in given]
    return [Setting(".".join(path), a, b)]


def _alike(one: Any, other: Any, path: tuple[str, ...]) -> Any:
    """A name written out where the other side has its fields."""
    if (
        isinstance(one, str)
        and isinstance(other, Mapping)
        and path in (("hardware",), ("model",), ("deployment", "system"))
    ):
        if path == ("model",) and "layers" not in other:
            return one
        tree = put(Fields(), path, one)
        try:
            return get(written_out(tree, (*path, "x")), path)
        except InferSimError:
            return one
    return one


def _explain(a: Side, b: Side, start: Fields, settings: tuple[Setting, ...], figure: str | None) -> list[Explanation]:
    """The main figures from A to B."""
    first, last = a.figures, b.figures
    names = [figure] if figure is not None else [
        name for name in MAIN.get(a.question, ()) if name in first and name in last
    ] or [name for name in first if name in last and not _same(first[name], last[name])][:3]  # fmt: skip
    names = [name for name in names if not _same(first[name], last[name]) or figure is not None]
    if not names:
        return []
    groups: list[tuple[Setting, ...]] = [(one,) for one in settings[: MOST_CHANGES - 1]]
    groups += [settings[MOST_CHANGES - 1 :]] if len(settings) >= MOST_CHANGES else []
    alone = [_figures_of(_with(start, group)) if len(groups) > 1 else last for group in groups]
    parts: dict[str, list[Part]] = {name: [] for name in names}
    current, before = start, first
    joined: list[int] = []
    for number, group in enumerate(groups):
        current = _with(current, group)
        joined.append(number)
        after = last if number == len(groups) - 1 else _figures_of(current)
        if after is None or any(name not in after for name in names):
            continue
        told = " and ".join(_group_name(groups[place]) for place in joined)
        for name in names:
            by_itself = alone[joined[0]] if len(joined) == 1 else None
            change = by_itself[name] - first[name] if by_itself is not None and name in by_itself else None
            parts[name].append(Part(told, after[name] - before[name], change))
        before, joined = after, []
    return [Explanation(name, first[name], last[name], tuple(parts[name])) for name in names]


def _group_name(group: tuple[Setting, ...]) -> str:
    return group[0].path if len(group) == 1 else f"{len(group)} more settings"


def _with(tree: Fields, group: tuple[Setting, ...]) -> Fields:
    """The tree with settings as the other side has them."""
    for one in group:
        path = tuple(one.path.split("."))
        tree = drop(tree, path) if one.b is None else put(written_out(tree, path), path, one.b)
    return tree


def _figures_of(tree: Fields) -> dict[str, float] | None:
    """The figures of a setup; None where it cannot be answered."""
    try:
        return figures(answer(resolve(tree)))
    except InferSimError:
        return None


def _step_differences(
    a: Mapping[str, Any] | None, b: Mapping[str, Any] | None
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[OpDifference, ...]]]:
    whole: dict[str, tuple[float, float]] = {}
    ops: dict[str, tuple[OpDifference, ...]] = {}
    for step in ("decode", "prefill"):
        one, two = ((side or {}).get(f"{step}_step") for side in (a, b))
        if not one or not two or one == two:
            continue
        parts = [{op["name"]: op for op in side["ops"]} for side in (one, two)]
        rows = []
        for name in dict.fromkeys([*parts[0], *parts[1]]):
            pair = [side.get(name) for side in parts]
            times = [float(op["seconds"]) if op else 0.0 for op in pair]
            bounds = [str(op["bound"]) if op else "" for op in pair]
            rows.append(OpDifference(step, name, times[0], times[1], bounds[0], bounds[1]))
        whole[step] = (float(one["seconds"]), float(two["seconds"]))
        ops[step] = tuple(sorted(rows, key=lambda row: -abs(row.difference)))
    return whole, ops


def _assumed(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> tuple[Setting, ...]:
    known = []
    for told in (a, b):
        listed = (told or {}).get("assumptions")
        known.append({one["name"]: one.get("base") for one in listed if isinstance(one, Mapping) and "name" in one}
                     if isinstance(listed, list) else {})  # fmt: skip
    names = dict.fromkeys([*known[0], *known[1]])
    return tuple(
        Setting(name, known[0].get(name), known[1].get(name))
        for name in names
        if known[0].get(name) != known[1].get(name)
    )


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= 1e-9 * max(abs(a), abs(b))


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-" if name else "default"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown('', inner)}" for key, inner in value.items()) or "{}"
    if isinstance(value, list):
        return ", ".join(_shown("", inner) for inner in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    unit = unit_of(name)
    if unit in ("s", "B", "B/s", "FLOP/s", "W", "J"):
        return units.show(value, unit)
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def _change(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return ("+" if value >= 0 else "-") + _shown(name, abs(value))


def _settings(title: str, settings: tuple[Setting, ...]) -> list[str]:
    if not settings:
        return []
    widest = min(max(len(one.path) for one in settings) + 2, 40)
    missing = "" if title == "settings" else "-"  # a setting that is left out has its default
    lines = ["", title]
    for one in settings:
        told = f"  {one.path:<{widest}}{_shown(missing, one.a)} -> {_shown(missing, one.b)}"
        lines += textwrap.wrap(told, WIDTH, subsequent_indent=" " * (widest + 2), drop_whitespace=False)
    return lines


def _figures(rows: list[tuple[str, float | None, float | None]]) -> list[str]:
    if not rows:
        return []
    lines = ["", f"{'figures':<44}{'a':>12}{'b':>12}{'change':>11}"]
    for name, a, b in rows[:FIGURES_SHOWN]:
        ratio = f"{b / a - 1:+.1%}" if a and b is not None else "-"
        lines.append(f"  {name[:41]:<42}{_shown(name, a):>12}{_shown(name, b):>12}{ratio:>11}")
    if len(rows) > FIGURES_SHOWN:
        lines.append(f"  and {len(rows) - FIGURES_SHOWN} more: --json")
    return lines


def _others(rows: tuple[tuple[str, str, float | None, float | None], ...]) -> list[str]:
    if not rows:
        return []
    lines = ["", f"{'other cases':<54}{'a':>13}{'b':>13}"]
    last = ""
    for case, name, a, b in rows:
        lines += [f"  {case}"[:WIDTH]] if case != last else []
        last = case
        lines.append(f"    {name[:49]:<50}{_shown(name, a):>13}{_shown(name, b):>13}")
    return lines


def _explained(one: Explanation) -> list[str]:
    ends = f"{_shown(one.figure, one.a)} -> {_shown(one.figure, one.b)}"
    lines = ["", f"why {one.figure} differs: {ends}", f"  {'':<50}{'in sequence':>14}{'alone':>13}"]
    for part in one.parts:
        name = textwrap.shorten(part.path, 50, placeholder=" ...")
        lines.append(f"  {name:<50}{_change(one.figure, part.in_sequence):>14}{_change(one.figure, part.alone):>13}")
    lines.append(f"  {'sum':<50}{_change(one.figure, sum(part.in_sequence for part in one.parts)):>14}")
    return lines


def _ops(step: str, whole: tuple[float, float], ops: tuple[OpDifference, ...]) -> list[str]:
    a, b = whole
    lines = ["", f"{step} step, op by op: {units.show(a, 's')} -> {units.show(b, 's')}"]
    lines.append(f"  {'':<24}{'a':>12}{'b':>12}{'difference':>14}  bound by")
    for op in ops[:OPS_SHOWN]:
        bound = (
            op.bound_a or op.bound_b
            if op.bound_a == op.bound_b or not (op.bound_a and op.bound_b)
            else f"{op.bound_a} -> {op.bound_b}"
        )
        lines.append(
            f"  {op.op[:23]:<24}{_shown('_s', op.a):>12}{_shown('_s', op.b):>12}{_change('_s', op.difference):>14}  {bound}"[
                :WIDTH
            ]
        )
    rest = ops[OPS_SHOWN:]
    if rest:
        totals = sum(op.a for op in rest), sum(op.b for op in rest)
        lines.append(f"  {f'{len(rest)} other ops':<24}{_shown('_s', totals[0]):>12}{_shown('_s', totals[1]):>12}"
                     f"{_change('_s', totals[1] - totals[0]):>14}")  # fmt: skip
    lines.append(f"  {'sum':<24}{_shown('_s', a):>12}{_shown('_s', b):>12}{_change('_s', b - a):>14}")
    return lines
