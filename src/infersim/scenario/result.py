"""The answers of a scenario's cases, what was expected of them, and the folder they are kept in."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infersim._version import __version__
from infersim.errors import DoesNotFitError, InferSimError, NoPlanError, SpecError
from infersim.scenario.answers import answer, figures
from infersim.scenario.evidence import evidence
from infersim.scenario.expect import Checked, check, target_met
from infersim.scenario.places import plain
from infersim.scenario.scenario import Scenario
from infersim.scenario.setup import Found
from infersim.scenario.summary import compared
from infersim.tables import to_csv

RESULTS, SCENARIO, FIGURES = "results.json", "scenario.yaml", "figures.csv"


@dataclass(frozen=True)
class CaseResult:
    """One case: its answer, or why there is none."""

    name: str
    question: str
    why: str
    """Why this question was asked."""
    changes: Mapping[str, Any]
    setup: Mapping[str, Any]
    """The case as it was asked, after includes and changes."""
    answer: Any
    error: InferSimError | None
    seconds: float
    evidence: Mapping[str, Any]
    checked: tuple[Checked, ...] = ()
    told: Mapping[str, Any] | None = None
    """``answer.to_dict()``."""

    def to_dict(self) -> dict[str, Any]:
        """As a results folder holds it."""
        return {
            "name": self.name, "question": self.question, "why": self.why, "overrides": dict(self.changes), "setup": dict(self.setup),
            "answer": self.told, "text": str(self.answer) if self.answer is not None else "",
            "error": str(self.error) if self.error is not None else None, "seconds": self.seconds, "evidence": dict(self.evidence),
        }  # fmt: skip

    @property
    def figures(self) -> dict[str, float]:
        """Its figures under flat names with units; none where there is no answer."""
        return figures(self.told) if self.told is not None else {}

    @property
    def good(self) -> bool:
        """It has an answer that fits and meets its target."""
        return self.told is not None and target_met(self.told)


@dataclass(frozen=True)
class ScenarioResult:
    """What came out of a scenario; ``cases`` in its order, the base case first.

    >>> from infersim.scenario.scenario import read_scenario
    >>> asked = {"model": "meta-llama/Llama-3.1-8B", "hardware": "L40S", "grid": {"workload.concurrency": [1, 8]}}
    >>> found = read_scenario(asked).run()
    >>> [case.name for case in found.cases], found.good
    (['base', 'concurrency 1', 'concurrency 8'], True)
    """

    scenario: Scenario
    cases: tuple[CaseResult, ...]
    created: str

    @property
    def checked(self) -> tuple[Checked, ...]:
        """Every expectation and what was found."""
        return tuple(one for case in self.cases for one in case.checked)

    @property
    def good(self) -> bool:
        """Every expectation is met; without any, the base case has an answer that fits and meets its target."""
        return all(one.met for one in self.checked) if self.checked else self.cases[0].good

    @property
    def exit_code(self) -> int:
        """0 as expected, 1 not, 2 where the base case could not be asked."""
        error = self.cases[0].error
        if error is not None and not isinstance(error, DoesNotFitError | NoPlanError):
            return 2
        return 0 if self.good else 1

    def case(self, name: str) -> CaseResult:
        """A case by its name. SpecError where none is called so."""
        from infersim.errors import did_you_mean

        for one in self.cases:
            if one.name == name:
                return one
        raise SpecError(
            f"no case is called {name!r}; {did_you_mean(name, [one.name for one in self.cases])}", field="case"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, as ``results.json`` holds it."""
        return {
            "infersim": __version__, "scenario": self.scenario.name, "created": self.created,
            "cases": [case.to_dict() for case in self.cases], "expect": [one.to_dict() for one in self.checked],
        }  # fmt: skip

    def to_csv(self) -> str:
        """One row per case: its name, question and error, and its figures."""
        return to_csv(self.rows)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One flat record per case."""
        return [{"case": case.name, "question": case.question, "error": str(case.error) if case.error else None, **case.figures}
                for case in self.cases]  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write ``results.json``, ``scenario.yaml`` and ``figures.csv`` into a folder, each whole or not at all.

        The folder is made where it is not there. SpecError where it is there and holds something else.
        """
        place = check_folder(folder)
        place.mkdir(parents=True, exist_ok=True)
        from infersim.files import replace_file

        texts = {
            SCENARIO: self.scenario.text, FIGURES: self.to_csv(),
            RESULTS: json.dumps(_finite(self.to_dict()), indent=1, allow_nan=False, default=str),
        }  # fmt: skip
        for name, text in texts.items():
            if text:
                replace_file(place / name, functools.partial(_write, text))
        return place

    def __str__(self) -> str:
        first = self.cases[0]
        lines = [f"{self.scenario.name}: {_word(first.question)} ({first.why})", ""]
        lines.append(str(first.answer) if first.answer is not None else f"no answer: {first.error}")
        if len(self.cases) > 1:
            lines += ["", *compared(self.cases)]
        if self.checked:
            lines += ["", *(str(one) for one in self.checked)]
        return "\n".join(lines)


def run(
    scenario: Scenario, *, progress: Callable[[str, int, int], None] | None = None, doubts: bool = True
) -> ScenarioResult:
    """Answer every case of a scenario. A case that cannot be answered says why; the others go on. ``doubts``: with what a report
    draws beside the answers (curves over load, tornados), which takes longer."""
    found = []
    for number, case in enumerate(scenario.cases):
        if progress is not None:
            progress(case.case, number, len(scenario.cases))
        found.append(_run_case(case, doubts))
    if progress is not None:
        progress("done", len(found), len(found))
    return ScenarioResult(scenario, tuple(found), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _run_case(case: Scenario, doubts: bool) -> CaseResult:
    started = time.perf_counter()
    found, error, told, beside = None, None, None, {}
    try:
        found = answer(case)
        told = _finite(found.to_dict())
    except InferSimError as problem:
        found, error = None, problem
    seconds = time.perf_counter() - started
    if found is not None and doubts:
        beside = _finite(evidence(found))
    checked = tuple(check(case.rules, case.case, told, str(error) if error else None))
    kept = {
        key: value for key, value in case.tree.items() if key not in ("what_if", "grid", "expect", "sweep", "include")
    }
    return CaseResult(
        case.case,
        case.question,
        case.why,
        case.changes,
        _from_anywhere(plain(kept)),
        found,
        error,
        seconds,
        beside,
        checked,
        told,
    )


def _from_anywhere(value: Any) -> Any:
    """With paths of files that were found beside the scenario as absolute ones."""
    if isinstance(value, dict):
        return {key: _from_anywhere(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_from_anywhere(inner) for inner in value]
    return str(Path(value).resolve()) if isinstance(value, Found) else value


def check_folder(folder: str | Path) -> Path:
    """The folder as a path; SpecError where it is a file, or there and no results folder."""
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise SpecError("is a file, not a folder", file=place)
    if place.is_dir() and not ((place / RESULTS).is_file() or (place / "sweep").is_dir()) and any(place.iterdir()):
        raise SpecError("is a folder with other things in it: name a new one, or one of results", file=place)
    return place


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _finite(value: Any) -> Any:
    """Plain JSON values: numbers that are not finite are None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if value is None or isinstance(value, str | int):
        return value
    return _finite(value.item()) if hasattr(value, "item") else str(value)


def _word(question: str) -> str:
    return {"estimate": "closed form", "simulate": "simulation", "capacity": "search for the capacity", "size": "size of a fleet",
            "compare": "comparison"}.get(question, question)  # fmt: skip
