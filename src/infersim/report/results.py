"""Read a results folder: what was asked, every case's answer, what was expected, and the sweep beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infersim.errors import SpecError
from infersim.report.swept import Sweep, read_sweep
from infersim.scenario import questions

DRAWN = ("estimate", "simulate", "plan", "cost")
"""Questions whose answers a report knows; those of others tell themselves (``report.other``)."""


@dataclass(frozen=True)
class Case:
    """One case of a scenario: its answer as ``to_dict()`` tells it, or why there is none."""

    name: str
    question: str
    overrides: Mapping[str, Any]
    answer: Mapping[str, Any] | None
    error: str | None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What figures need beside the answer (``scenario.evidence``)."""
    text: str = ""
    """The answer as it is printed."""
    setup: Mapping[str, Any] = field(default_factory=dict)
    """The case as it was asked, after includes and changes."""


@dataclass(frozen=True)
class Results:
    """A results folder. ``cases`` in the scenario's order, the base case first."""

    folder: Path
    scenario: str
    version: str
    """Of the infersim that answered."""
    created: str
    cases: tuple[Case, ...]
    expect: tuple[Mapping[str, Any], ...]
    text: str
    """The scenario file as it was run; empty where the folder holds none."""
    sweep: Sweep | None

    @property
    def answered(self) -> list[Case]:
        return [case for case in self.cases if case.answer is not None]

    def of(self, question: str) -> list[Case]:
        """The answered cases of one kind of question."""
        return [case for case in self.answered if case.question == question]


def read_results(folder: str | Path) -> Results:
    """The results that ``infersim run`` wrote into ``folder``. SpecError where it holds none, or not in the form they are written in."""
    place = Path(folder)
    if not place.is_dir():
        raise SpecError("no such folder of results; infersim run SCENARIO.yaml -o FOLDER writes one", file=place)
    file, sweep = place / "results.json", place / "sweep"
    swept = read_sweep(sweep) if (sweep / "_manifest.json").is_file() else None
    told: Mapping[str, Any] = {"cases": []}
    if file.is_file():
        told = _read_json(file)
    elif swept is None:
        raise SpecError(
            "holds no results.json and no sweep; infersim run SCENARIO.yaml -o FOLDER writes them", file=place
        )
    cases = _list(told, "cases", file)
    scenario = place / "scenario.yaml"
    return Results(
        place, str(told.get("scenario") or place.resolve().name), str(told.get("infersim", "")), str(told.get("created", "")),
        tuple(_case(case, number, file) for number, case in enumerate(cases)), tuple(_list(told, "expect", file)),
        _text(scenario) if scenario.is_file() else "", swept,
    )  # fmt: skip


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"cannot be read: {getattr(error, 'strerror', None) or 'it is not text in UTF-8'}", file=path
        ) from error


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise SpecError(f"is not JSON: {error}", file=path) from error
    if not isinstance(found, dict):
        raise SpecError(f"is an object of cases, got {type(found).__name__}", file=path)
    cleaned: Mapping[str, Any] = _clean(found)
    return cleaned


def _clean(value: Any) -> Any:
    """The value without halves of characters and control characters, which JSON allows and neither a page nor a font knows.

    >>> _clean({"a": ["x\\ud800", 1.5, "line\\nend\\x00"]})
    {'a': ['x?', 1.5, 'line\\nend ']}
    """
    if isinstance(value, str):
        return "".join(c if c >= " " or c == "\n" else " " for c in value.encode("utf-8", "replace").decode("utf-8"))
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return value


def _list(told: Mapping[str, Any], key: str, file: Path) -> list[Any]:
    found = told.get(key) or []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise SpecError("is a list of objects", field=key, file=file)
    return found


def _case(told: Mapping[str, Any], number: int, file: Path) -> Case:
    place = f"cases[{number}]"
    question, answer, error = told.get("question"), told.get("answer"), told.get("error")
    if question not in questions.known():
        raise SpecError(
            f"is one of {', '.join(questions.known())}, got {question!r}", field=f"{place}.question", file=file
        )
    for key, value in (
        ("answer", answer),
        ("overrides", told.get("overrides")),
        ("evidence", told.get("evidence")),
        ("setup", told.get("setup")),
    ):
        if value is not None and not isinstance(value, dict):
            raise SpecError(f"is an object, got {type(value).__name__}", field=f"{place}.{key}", file=file)
    if answer is None and not error:
        raise SpecError("has neither an answer nor an error", field=place, file=file)
    return Case(
        str(told.get("name", f"case {number + 1}")), question, told.get("overrides") or {}, answer,
        None if error is None else str(error), told.get("evidence") or {},
        str(told.get("text") or ""), told.get("setup") or {},
    )  # fmt: skip
