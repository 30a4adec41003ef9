"""The result file of the suite: JSON lines, the first one says where and how, each other one holds one timing.

Lines are appended and flushed, so that whatever stops the suite leaves a file that can be read and taken up again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infersim.errors import SpecError
from infersim.files import write_text
from infersim.microbench.cases import Case, read_case
from infersim.microbench.timing import Timing

SCHEMA = "infersim-bench/1"


@dataclass(frozen=True)
class Row:
    """One timing of a case in one round, or why there is none."""

    case: Case
    round: int
    timing: Timing | None
    error: str = ""
    conditions: Mapping[str, float] | None = None
    """Clocks and temperatures beside it, where they were read."""
    counts: Mapping[str, float] | None = None
    """What the case counts beside its time: distance evaluations, recall."""


@dataclass(frozen=True)
class Measured:
    """A case over all rounds: the least of the rounds' medians, and how far they lie apart."""

    case: Case
    seconds: float
    spread: float
    """The largest of the rounds' medians over the least, less one."""
    rounds: int
    counts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """A result file as read: backend, device and environment, and its rows."""

    backend: str
    device: str
    version: str
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Row, ...] = ()

    @property
    def failed(self) -> dict[str, str]:
        """Key of each case that could not be run, and why."""
        return {row.case.key: row.error for row in self.rows if row.timing is None}

    def done(self) -> set[tuple[str, int]]:
        """What need not be run again: key and round."""
        return {(row.case.key, row.round) for row in self.rows}

    def measured(self) -> list[Measured]:
        """One entry per case that was timed, in the order of the file.

        Other work on the machine only ever makes a kernel slower, so the least of the rounds' medians is taken.
        """
        rounds: dict[Case, list[float]] = defaultdict(list)
        for row in self.rows:
            if row.timing is not None:
                rounds[row.case].append(row.timing.seconds)
        counts = {row.case: row.counts for row in self.rows if row.counts}
        return [
            Measured(case, min(found), max(found) / min(found) - 1, len(found), counts.get(case, {}))
            for case, found in rounds.items()
        ]

    def header(self) -> dict[str, Any]:
        """The first line of the file."""
        return {
            "schema": SCHEMA,
            "backend": self.backend,
            "device": self.device,
            "version": self.version,
            "environment": dict(self.environment),
            "settings": dict(self.settings),
        }


def row_record(row: Row) -> dict[str, Any]:
    """A row as plain values, times in seconds."""
    record: dict[str, Any] = {"case": row.case.record(), "round": row.round}
    if row.timing is None:
        return record | {"error": row.error}
    timing = asdict(row.timing)
    record |= {"seconds_s": timing.pop("seconds"), "least_s": timing.pop("least"), **timing}
    record |= {"counts": dict(row.counts)} if row.counts else {}
    return record | ({"conditions": dict(row.conditions)} if row.conditions else {})


def begin(path: Path, results: Results) -> None:
    """Write a new file with the header and whatever rows there are; it replaces an older one only when complete."""
    write_text(path, _lines([results.header(), *map(row_record, results.rows)]))


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows at the end of a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_lines(map(row_record, rows)))


def _lines(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)


def read_results(path: str | Path) -> Results:
    """The results in a file; a last line cut off by an interruption is left out. SpecError naming file and line otherwise."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise SpecError("no such file of measurements; `infersim bench` makes one", file=path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise SpecError("not a text file (UTF-8 expected)", file=path) from error
    whole, cut = lines[:-1], lines[-1]
    if cut and not whole:
        raise SpecError(f"is not a result file of `infersim bench` (schema {SCHEMA})", file=path)
    records = [_record(text, number, path) for number, text in enumerate(whole, 1) if text.strip()]
    if not records or records[0].get("schema") != SCHEMA:
        given = records[0].get("schema") if records else None
        raise SpecError(
            f"must be {SCHEMA!r}, got {given!r}; `infersim bench` makes such files", field="schema", file=path
        )
    head = records[0]
    try:
        results = Results(
            str(head["backend"]),
            str(head["device"]),
            str(head["version"]),
            dict(head["environment"]),
            dict(head["settings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(f"the first line lacks {error}", file=path) from error
    rows = [_row(record, number, path) for number, record in enumerate(records[1:], 2)]
    return replace(results, rows=tuple(rows))


def _record(text: str, number: int, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(f"line {number}: not valid JSON: {error.msg}", file=path) from error
    if not isinstance(record, dict):
        raise SpecError(f"line {number}: should be an object, found {type(record).__name__}", file=path)
    return record


def _row(record: Mapping[str, Any], number: int, path: Path) -> Row:
    try:
        case, turn = read_case(record["case"]), int(record["round"])
        if "error" in record:
            return Row(case, turn, None, str(record["error"]))
        seconds, least, spread = (float(record[name]) for name in ("seconds_s", "least_s", "spread"))
        timing = Timing(seconds, least, spread, int(record["samples"]), int(record["calls"]))
    except SpecError as error:
        raise SpecError(f"line {number}: {error}", file=path) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError(
            f"line {number}: a timing needs case, round and seconds_s; trouble with {error}", file=path
        ) from error
    if not 0 < timing.seconds < 1e6:
        raise SpecError(f"line {number}: must be a positive time, got {timing.seconds}", field="seconds_s", file=path)
    return Row(case, turn, timing, conditions=record.get("conditions"), counts=record.get("counts"))
