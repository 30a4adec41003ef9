"""A scenario: a base case, what-ifs and grids of them, and what is expected. From a file or from mappings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infersim.errors import SpecError, did_you_mean
from infersim.scenario import questions
from infersim.scenario.expect import Rule, read_rules
from infersim.scenario.named import written_out
from infersim.scenario.places import Fields, Items, Place, merge, put, split
from infersim.scenario.setup import (
    OF_THE_FILE,
    SECTIONS,
    Setup,
    check_sweep,
    error_at,
    files_found,
    read_setup,
    section_written_out,
)
from infersim.scenario.text import parse, read_text
from infersim.specs.quantity import Spec

if TYPE_CHECKING:
    from infersim.scenario.result import ScenarioResult

MAX_INCLUDES = 20
MAX_CASES = 1000
"""Cases of a scenario at most; a sweep takes more."""
BASE = "base"


@dataclass(frozen=True)
class Scenario:
    """One case with what it asks, and the cases that change it.

    >>> one = resolve({"model": "gpt2", "hardware": "L4"}, {"workload.concurrency": 8})
    >>> one.question, one.setup.workload.concurrency
    ('estimate', 8.0)
    """

    name: str
    """Of the scenario."""
    case: str
    """Of this case: ``base`` or what a change is called."""
    tree: Fields
    """Everything as it was written, after includes and changes."""
    setup: Setup
    layers: Mapping[str, Spec]
    """Sections of layers above the engine."""
    question: str
    why: str
    """Why this question is asked."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What this case changes in the base, by dotted path."""
    rules: tuple[Rule, ...] = ()
    """What is expected of its answer."""
    variants: tuple[Scenario, ...] = ()
    file: Path | None = None
    text: str = ""
    """The file as it was read."""

    @property
    def cases(self) -> tuple[Scenario, ...]:
        """The base case and every variant, in order."""
        return (self, *self.variants)

    @property
    def sweep(self) -> Any:
        """The section of a sweep as it was written; None where there is none."""
        return self.tree.get("sweep")

    def only(self, case: str) -> Scenario:
        """The scenario with one of its cases alone. SpecError where none is called so."""
        for one in self.cases:
            if one.case == case:
                return replace(one, variants=(), text=self.text, file=self.file)
        raise SpecError(
            f"no case is called {case!r}; {did_you_mean(case, [one.case for one in self.cases])}", field="case"
        )

    def run(self, *, progress: Callable[[str, int, int], None] | None = None, doubts: bool = True) -> ScenarioResult:
        """Answer every case. ``progress`` is told (case, how many are done, how many there are)."""
        from infersim.scenario.result import run

        return run(self, progress=progress, doubts=doubts)


def load_scenario(path: str | Path) -> Scenario:
    """The scenario in a YAML file, with every case checked. SpecError with file, line and field for what is wrong in it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "chat.yaml")
    ...     _ = file.write_text("{model: meta-llama/Llama-3.1-8B, hardware: H100-SXM, what_if: [{hardware: L40S}]}")
    ...     scenario = load_scenario(file)
    >>> result = scenario.run()
    >>> [case.name for case in result.cases], result.cases[1].answer.fits
    (['base', 'hardware L40S'], True)
    """
    file = Path(path)
    text = read_text(file)
    tree = _with_includes(parse(text, file), file, (file.resolve(),))
    return read_scenario(tree, file=file, text=text)


def read_scenario(tree: Mapping[str, Any], *, file: Path | None = None, text: str = "") -> Scenario:
    """The scenario that a mapping holds, in the form of a file; ``include`` is of files only."""
    whole = tree if isinstance(tree, Fields) else Fields(tree)
    if "include" in whole and file is None:
        raise error_at(whole, ("include",), "is of files: load_scenario reads them")
    if whole.get("infersim", 1) != 1:
        raise error_at(whole, ("infersim",), f"this infersim reads scenarios of form 1, got {whole['infersim']!r}")
    for key in ("name", "description"):
        if key in whole and not isinstance(whole[key], str):
            raise error_at(whole, (key,), f"is text, got {whole[key]!r}; put it in quotes")
    name = whole.get("name") or (file.stem if file is not None else "scenario")
    if "/" in name or "\\" in name or not name.isprintable() or len(name) > 200:
        raise error_at(whole, ("name",), f"is a short name without slashes, got {name!r}")
    base = replace(resolve(whole, {}), name=name, file=file, text=text)
    if whole.get("sweep") is not None:
        check_sweep(whole)
    named = {case: (changes, rules) for case, changes, rules in _variants(whole, base)}
    expected, by_case = read_rules(whole, ("expect",), named)
    variants = []
    for case, (changes, rules) in named.items():
        one = resolve(whole, changes)
        variants.append(
            replace(one, name=name, case=case, file=file, changes=changes, rules=(*rules, *by_case.get(case, ())))
        )
    return replace(base, variants=tuple(variants), rules=(*expected, *by_case.get(BASE, ())))


def resolve(base: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Scenario:
    """One case: ``base``, a scenario's mapping, with values put at dotted paths. Without variants and expectations.

    SpecError, with its line where the mappings came from a file, for whatever is wrong.
    """
    tree = base if isinstance(base, Fields) else Fields(base)
    changes = overrides or {}
    for path, value in changes.items():
        tree = _changed(tree, path, value, changes.places.get(path) if isinstance(changes, Fields) else None)
    tree = files_found(tree)
    setup, layers = read_setup(tree)
    question, why = _asked(setup, layers, tree)
    return Scenario(
        str(tree.get("name") or "scenario"), BASE, tree, setup, layers, question, why, plain_changes(changes)
    )


def plain_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    from infersim.scenario.places import plain

    found: dict[str, Any] = plain(changes)
    return found


def _changed(tree: Fields, path: str, value: Any, place: Place | None) -> Fields:
    try:
        parts = split(path)
        if parts[0] in OF_THE_FILE:
            raise SpecError("is about the whole file, not about one case")
        if parts[0] in SECTIONS and len(parts) == 1 and isinstance(value, Mapping):
            below = tree.get(parts[0])
            value = merge(below, value) if isinstance(below, Mapping) else value
        else:
            tree = written_out(section_written_out(tree, parts[0]), parts)
        return put(tree, parts, value, place)
    except SpecError as error:
        if error.file is not None:
            raise
        raise SpecError(error.message, field=path, file=str(place) if place else None) from error


def _asked(setup: Setup, layers: Mapping[str, Spec], tree: Fields) -> tuple[str, str]:
    """The question a setup asks, and why."""
    if setup.question is not None:
        for name, layer in questions.LAYERS.items():
            if name == setup.question and layer.section not in layers:
                raise error_at(tree, ("question",), f"asks about a section {layer.section}: write it")
        return setup.question, "as asked"
    names = questions.sections()
    if len(layers) > 1:
        told = " or ".join(f"question: {names[section]}" for section in layers)
        raise error_at(tree, (list(layers)[-1],), f"there are several questions in one: write {told}")
    if layers:
        (section,) = layers
        return names[section], f"there is a section {section}"
    if setup.fleet is not None:
        return "size", "there is a section fleet"
    if setup.plan is not None:
        return "plan", "there is a section plan"
    if setup.compare is not None:
        return "compare", "there is a section compare"
    if isinstance(setup.hardware, tuple):
        return "plan", "hardware is a list"
    if setup.cost.asks:
        return "cost", "the section cost says how a load is paid for"
    if setup.workload.open:
        drawn = "a trace" if setup.workload.trace else "sessions" if setup.workload.sessions else "arrivals"
        return "simulate", f"the workload has {drawn}"
    if setup.simulate is not None:
        return "simulate", "there is a section simulate"
    if setup.target is not None and setup.target.percentiles:
        return "simulate", "the target limits percentiles"
    return "estimate", "a steady load of mean requests"


def _with_includes(tree: Fields, file: Path, trail: tuple[Path, ...]) -> Fields:
    """The tree laid on those of the files it includes, the later ones on the earlier."""
    if "include" not in tree:
        return tree
    given = tree["include"]
    listed = Items([given], places=[tree.places["include"]]) if isinstance(given, str) else given
    if not isinstance(listed, Items) or not listed or not all(isinstance(one, str) and one for one in listed):
        raise error_at(tree, ("include",), "is a file or a list of files")
    found = Fields()
    for number, name in enumerate(listed):
        place = listed.places[number]
        path = file.parent / name
        real = path.resolve()
        if real in trail:
            told = " includes ".join(one.name for one in (*trail[trail.index(real) :], real))
            raise SpecError(f"files that include each other: {told}", field="include", file=str(place))
        if len(trail) >= MAX_INCLUDES:
            raise SpecError(f"more than {MAX_INCLUDES} files deep", field="include", file=str(place))
        try:
            text = read_text(path)
        except SpecError as error:
            raise SpecError(f"{name}: {error.message}", field="include", file=str(place)) from error
        found = merge(found, _with_includes(parse(text, path), path, (*trail, real)))
    rest = tree.copy()
    del rest["include"]
    return merge(found, rest)


Variant = tuple[str, Fields, tuple[Rule, ...]]


def _variants(tree: Fields, base: Scenario) -> Iterator[Variant]:
    """Every case but the base: (name, changes, rules). The grid of the whole comes after the what-ifs."""
    seen = {BASE}
    for one in itertools.chain(_what_ifs(tree), _of_grid(tree.get("grid"), tree, "", Fields())):
        case, changes, rules = one
        if case in seen:
            raise SpecError(f"two cases are called {case!r}", field="what_if", file=_first_place(changes, tree))
        seen.add(case)
        if len(seen) > MAX_CASES:
            raise SpecError(
                f"more than {MAX_CASES} cases: a sweep takes as many", field="grid", file=_first_place(changes, tree)
            )
        yield case, changes, rules


def _first_place(changes: Fields, tree: Fields) -> str | None:
    places = [*changes.places.values(), *tree.places.values()]
    return str(places[0]) if places else None


def _what_ifs(tree: Fields) -> Iterator[Variant]:
    given = tree.get("what_if")
    if given is None:
        return
    if not isinstance(given, list):
        raise error_at(
            tree, ("what_if",), "is a list of cases such as - {name: two GPUs, deployment.tensor_parallel: 2}"
        )
    for number, entry in enumerate(given):
        where = ("what_if", number)
        if not isinstance(entry, Mapping):
            raise error_at(tree, where, "is a case such as {name: two GPUs, deployment.tensor_parallel: 2}")
        fields = entry if isinstance(entry, Fields) else Fields(entry)
        changes = Fields({key: value for key, value in fields.items() if key not in ("name", "grid", "expect", "description")},
                         places=fields.places)  # fmt: skip
        name = _case_name(fields, tree, where, changes)
        rules, by_case = read_rules(tree, (*where, "expect"), ())
        if by_case:
            raise error_at(tree, (*where, "expect"), "is of this case: leave case out")
        if "grid" in fields:
            if rules:
                raise error_at(
                    tree, (*where, "expect"), "is of one case: write those of a grid under expect: {case: ...}"
                )
            yield from _of_grid(fields["grid"], fields, f"{name}: " if name else "", changes)
        elif not changes:
            raise error_at(
                tree,
                where,
                f"changes nothing: give a path such as deployment.tensor_parallel: 2 beside the name {name!r}",
            )
        else:
            yield name, changes, rules


def _case_name(fields: Fields, tree: Fields, where: tuple[Any, ...], changes: Fields) -> str:
    name = fields.get("name")
    if name is None:
        return "" if "grid" in fields else ", ".join(_told(path, value) for path, value in changes.items())
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        raise error_at(tree, (*where, "name"), f"is text, got {name!r}")
    text = str(name)
    if not text.strip() or not text.isprintable() or len(text) > 200:
        raise error_at(tree, (*where, "name"), f"is a short name in one line, got {text[:50]!r}")
    if any(bad in text for bad in ("/", "\\", "#")) or text.startswith("."):
        raise error_at(tree, (*where, "name"), f"is a name without slashes, '#' and a dot in front, got {text!r}")
    return text


def _of_grid(grid: Any, tree: Fields, prefix: str, changes: Fields) -> Iterator[Variant]:
    """One case for every combination of the values."""
    if grid is None:
        return
    if not isinstance(grid, Mapping) or not grid:
        raise error_at(tree, ("grid",), "is values by path, such as {deployment.tensor_parallel: [1, 2, 4]}")
    for path, values in grid.items():
        if not isinstance(values, list) or not values:
            raise error_at(tree, ("grid", path), "is a list of values")
        if path in changes:
            raise error_at(tree, ("grid", path), "is changed beside the grid too")
    combinations = math.prod(len(values) for values in grid.values())
    if combinations > MAX_CASES:
        raise error_at(
            tree, ("grid",), f"has {combinations:,} combinations, more than {MAX_CASES}: a sweep takes as many"
        )
    short = _short_paths(list(grid))
    places = grid.places if isinstance(grid, Fields) else {}
    for chosen in itertools.product(*grid.values()):
        told = ", ".join(_told(short[path], value) for path, value in zip(grid, chosen, strict=True))
        combined = Fields({**changes, **dict(zip(grid, chosen, strict=True))}, places={**changes.places, **places})
        yield prefix + told, combined, ()


def _short_paths(paths: list[str]) -> dict[str, str]:
    """The last part of each path, or as many as tell it from the others.

    >>> _short_paths(["deployment.tensor_parallel", "workload.arrivals.poisson"])
    {'deployment.tensor_parallel': 'tensor_parallel', 'workload.arrivals.poisson': 'poisson'}
    """
    found = {}
    for path in paths:
        parts = path.split(".")
        for count in range(1, len(parts) + 1):
            short = ".".join(parts[-count:])
            if sum(other == short or other.endswith(f".{short}") for other in paths) == 1:
                break
        found[path] = short
    return found


def _told(path: str, value: Any) -> str:
    """A change in words, as a name of a case without slashes."""
    if isinstance(value, Mapping):
        shown = str(value.get("name") or ", ".join(f"{key} {_word(inner)}" for key, inner in list(value.items())[:4]))
    else:
        shown = _word(value)
    return f"{path} {shown}"[:120]


def _word(value: Any) -> str:
    text = (
        {True: "true", False: "false"}.get(value, str(value))
        if isinstance(value, bool)
        else "none"
        if value is None
        else str(value)
    )
    text = " ".join(text.split())
    return (
        text.replace(" /s", " a second")
        .replace("/s", " a second")
        .replace("/", "-")
        .replace("\\", "-")
        .replace("#", "-")
    )
