"""Recorded traffic: readers for the published trace formats and our own, one request a row, errors by file and line.

========== =====================================================================================================
format     columns or keys
========== =====================================================================================================
azure      CSV ``TIMESTAMP,ContextTokens,GeneratedTokens``, date and time (Azure LLM inference 2023 and 2024)
burstgpt   CSV ``Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type``, seconds; rows without a
           response are failures and are left out
splitwise  CSV ``arrived_at,num_prefill_tokens,num_decode_tokens``, seconds
mooncake   JSONL ``timestamp`` (ms), ``input_length``, ``output_length``, ``hash_ids`` (one per 512 prompt tokens)
sharegpt   JSON list of ``conversations``; tokens are counted as 4 characters each, and there are no times
vllm       JSON of ``vllm bench serve --save-detailed``: lengths, start times and measured latencies
rows       our own CSV or JSONL: ``arrival_s, prompt_tokens, output_tokens`` and, where measured, ``first_token_s``,
           ``finish_s``; ``cached_tokens`` and other columns of a result are read over, so a written result is a trace
========== =====================================================================================================
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from infersim.errors import SpecError, did_you_mean
from infersim.serving.lengths import MAX_TOKENS, Pairs
from infersim.serving.sequence import Segment

MOONCAKE_BLOCK = 512
CHARACTERS_PER_TOKEN = 4.0
"""Of English under common tokenisers; counted so where a trace holds text alone."""


@dataclass(frozen=True)
class TraceRow:
    """One request: seconds from the start of the trace (None where it has no times), tokens, shared stretches, measured times."""

    arrival: float | None
    prompt: int
    output: int
    prefix: tuple[Segment, ...] = ()
    first_token: float | None = None
    finish: float | None = None


@dataclass(frozen=True)
class Trace:
    """A trace as read: rows by arrival, what was left out, and why."""

    file: str
    format: str
    rows: tuple[TraceRow, ...]
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def has_times(self) -> bool:
        return self.rows[0].arrival is not None

    @property
    def measured(self) -> bool:
        """Whether rows carry first-token and finish times to compare with."""
        return any(row.first_token is not None for row in self.rows)

    @property
    def duration(self) -> float:
        """From the first to the last arrival [s]."""
        first, last = self.rows[0].arrival, self.rows[-1].arrival
        return 0.0 if first is None or last is None else last - first

    @property
    def arrivals(self) -> None:
        """A trace has arrivals, but no process that makes them."""

    @property
    def num_requests(self) -> int:
        return len(self.rows)

    @property
    def mean_input(self) -> float:
        return sum(row.prompt for row in self.rows) / len(self.rows)

    @property
    def mean_output(self) -> float:
        return sum(row.output for row in self.rows) / len(self.rows)

    def describe(self) -> dict[str, Any]:
        """What was read, for a summary."""
        return {"trace": self.file, "format": self.format, "num_requests": len(self.rows), "duration_s": self.duration,
                "mean_input_tokens": self.mean_input, "mean_output_tokens": self.mean_output, "left_out": self.left_out}  # fmt: skip

    def pairs(self) -> Pairs:
        """The lengths as a distribution of correlated pairs, to drive with other arrivals."""
        return Pairs(pairs=tuple((float(row.prompt), float(row.output)) for row in self.rows))


class _Lines:
    """Where a reader is, so that an error can say it, and what it has left out."""

    def __init__(self, path: Path) -> None:
        self.path, self.line = path, 0
        self.left_out: dict[str, int] = {}

    def error(self, message: str, field_name: str | None = None) -> SpecError:
        return SpecError(message, file=f"{self.path}, line {self.line}", field=field_name)

    def skip(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def tokens(self, value: Any, name: str, least: int = 1) -> int:
        """A whole number of tokens within reason."""
        number = self.number(value, name)
        if number != int(number) or not least <= number <= MAX_TOKENS:
            raise self.error(f"must be a whole number of tokens from {least} to {MAX_TOKENS:,}, got {value!r}", name)
        return int(number)

    def number(self, value: Any, name: str) -> float:
        if isinstance(value, bool) or value is None or value == "":
            raise self.error(f"is missing a number, got {value!r}", name)
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise self.error(f"must be a number, got {value!r}", name) from None
        if not math.isfinite(number):
            raise self.error(f"must be finite, got {value!r}", name)
        return number

    def seconds(self, value: Any, name: str) -> float:
        number = self.number(value, name)
        if number < 0:
            raise self.error(f"must be zero or more seconds, got {value!r}", name)
        return number

    def optional(self, row: dict[str, Any], name: str) -> float | None:
        """A measured time that may be absent."""
        value = row.get(name)
        return None if value in (None, "") else self.seconds(value, name)


def _csv_rows(lines: _Lines, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    with lines.path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        lines.line = 1
        names = [name.strip() for name in reader.fieldnames or ()]
        for name in needed:
            if name not in names:
                raise lines.error(
                    f"column {name!r} is missing; {did_you_mean(name, names)}" if names else "the file is empty"
                )
        reader.fieldnames = names
        for row in reader:
            lines.line = reader.line_num
            if None in row or None in row.values():
                raise lines.error(
                    f"has {'more' if None in row else 'fewer'} fields than the {len(names)} of the header"
                )
            yield row


def _json_lines(lines: _Lines, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    with lines.path.open(encoding="utf-8-sig") as file:
        for number, text in enumerate(file, 1):
            lines.line = number
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                raise lines.error(f"is not JSON: {error.msg} at column {error.colno}") from error
            if not isinstance(row, dict):
                raise lines.error(f"should be an object, found {type(row).__name__}")
            for name in needed:
                if name not in row:
                    raise lines.error(f"key {name!r} is missing; {did_you_mean(name, row)}")
            yield row


def _azure(lines: _Lines) -> Iterator[TraceRow]:
    start: datetime | None = None
    for row in _csv_rows(lines, ("TIMESTAMP", "ContextTokens", "GeneratedTokens")):
        text = row["TIMESTAMP"].strip()
        whole, dot, rest = text.partition(".")
        digits = "".join(character for character in rest if character.isdigit())
        try:
            time = datetime.fromisoformat(whole.split("+")[0])
        except ValueError:
            raise lines.error(
                f"must be a date and time such as 2023-11-16 18:15:46.68, got {text!r}", "TIMESTAMP"
            ) from None
        start = start or time
        seconds = (time - start).total_seconds() + (float(f"0.{digits[:9]}") if dot and digits else 0.0)
        prompt = lines.tokens(row["ContextTokens"], "ContextTokens")
        if lines.tokens(row["GeneratedTokens"], "GeneratedTokens", least=0) == 0:
            lines.skip("no generated tokens")
            continue
        yield TraceRow(seconds, prompt, int(row["GeneratedTokens"]))


def _burstgpt(lines: _Lines) -> Iterator[TraceRow]:
    for row in _csv_rows(lines, ("Timestamp", "Request tokens", "Response tokens")):
        seconds = lines.seconds(row["Timestamp"], "Timestamp")
        prompt, output = (lines.tokens(row[name], name, least=0) for name in ("Request tokens", "Response tokens"))
        if not output or not prompt:
            lines.skip("failed requests (no response tokens)" if not output else "no request tokens")
            continue
        yield TraceRow(seconds, prompt, output)


def _splitwise(lines: _Lines) -> Iterator[TraceRow]:
    names = ("arrived_at", "num_prefill_tokens", "num_decode_tokens")
    for row in _csv_rows(lines, names):
        prompt, output = (lines.tokens(row[name], name) for name in names[1:])
        yield TraceRow(lines.seconds(row[names[0]], names[0]), prompt, output)


def _mooncake(lines: _Lines) -> Iterator[TraceRow]:
    for row in _json_lines(lines, ("timestamp", "input_length", "output_length")):
        prompt, output = (lines.tokens(row[name], name) for name in ("input_length", "output_length"))
        identities = row.get("hash_ids", [])
        if not isinstance(identities, list):
            raise lines.error(f"should be a list, found {type(identities).__name__}", "hash_ids")
        prefix, left, path = [], prompt, 0
        for identity in identities:
            length = min(MOONCAKE_BLOCK, left)
            if length <= 0:
                break
            path = hash((path, identity))
            prefix.append((("block", path), length))
            left -= length
        yield TraceRow(lines.seconds(row["timestamp"], "timestamp") / 1e3, prompt, output, tuple(prefix))


def _sharegpt(lines: _Lines) -> Iterator[TraceRow]:
    data = _json_file(lines)
    if not isinstance(data, list):
        raise lines.error("should be a list of conversations")
    for number, entry in enumerate(data, 1):
        turns = entry.get("conversations") if isinstance(entry, dict) else None
        if not isinstance(turns, list):
            raise SpecError("has no list of 'conversations'", file=lines.path, field=f"entry {number}")
        if len(turns) < 2:
            lines.skip("conversations of fewer than two turns")
            continue
        texts = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2]]
        if not all(isinstance(text, str) and text for text in texts):
            lines.skip("turns without text")
            continue
        prompt, output = (max(1, math.ceil(len(str(text)) / CHARACTERS_PER_TOKEN)) for text in texts)
        yield TraceRow(None, prompt, output)


def _vllm(lines: _Lines) -> Iterator[TraceRow]:
    data = _json_file(lines)
    lists: dict[str, list[Any]] = {}
    for name in ("input_lens", "output_lens", "ttfts"):
        found = data.get(name) if isinstance(data, dict) else None
        if isinstance(found, list) and found:
            lists[name] = found
        else:
            raise SpecError("is missing: save the result with --save-detailed", file=lines.path, field=name)
    starts, latencies, gaps = (data.get(name) for name in ("start_times", "latencies", "itls"))
    count = len(lists["input_lens"])
    for name, values in {**lists, "start_times": starts, "latencies": latencies, "itls": gaps}.items():
        if values is not None and len(values) != count:
            raise SpecError(f"has {len(values)} entries, input_lens {count}", file=lines.path, field=name)
    first = min(starts) if starts else 0.0
    for number in range(count):
        lines.line = number + 1
        if lists["output_lens"][number] == 0:
            lines.skip("failed requests (no output)")
            continue
        arrival = float(starts[number]) - first if starts else None
        wait = lines.seconds(lists["ttfts"][number], "ttfts")
        took = latencies[number] if latencies else wait + sum(gaps[number]) if gaps else None
        begin = arrival or 0.0
        yield TraceRow(
            arrival, lines.tokens(lists["input_lens"][number], "input_lens"),
            lines.tokens(lists["output_lens"][number], "output_lens"), (), begin + wait,
            None if took is None else begin + lines.seconds(took, "latencies"),
        )  # fmt: skip


def _json_file(lines: _Lines) -> Any:
    try:
        return json.loads(lines.path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        lines.line = error.lineno
        raise lines.error(f"is not JSON: {error.msg} at column {error.colno}") from error


def _own(lines: _Lines) -> Iterator[TraceRow]:
    names = ("arrival_s", "prompt_tokens", "output_tokens")
    reader = _csv_rows if lines.path.suffix.lower() == ".csv" else _json_lines
    for row in reader(lines, names):
        arrival = lines.seconds(row["arrival_s"], "arrival_s")
        first, finish = lines.optional(row, "first_token_s"), lines.optional(row, "finish_s")
        if first is not None and not arrival <= first <= (math.inf if finish is None else finish):
            raise lines.error("must lie between arrival_s and finish_s", "first_token_s")
        prompt, output = (lines.tokens(row[name], name) for name in names[1:])
        yield TraceRow(arrival, prompt, output, (), first, finish)


FORMATS: dict[str, Callable[[_Lines], Iterator[TraceRow]]] = {
    "azure": _azure, "burstgpt": _burstgpt, "splitwise": _splitwise, "mooncake": _mooncake, "sharegpt": _sharegpt,
    "vllm": _vllm, "rows": _own,
}  # fmt: skip
MARKS = {
    "TIMESTAMP": "azure", "Response tokens": "burstgpt", "num_prefill_tokens": "splitwise", "hash_ids": "mooncake",
    "input_length": "mooncake", "conversations": "sharegpt", "input_lens": "vllm", "arrival_s": "rows",
}  # fmt: skip
"""A word that only one format has."""


def guess_format(path: Path) -> str:
    """The format of a trace by the first of MARKS in its first kilobytes, or in the whole of a JSON file."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        start = file.read(1 << 16 if path.suffix.lower() != ".json" else -1)
    if not start.strip():
        raise SpecError("the file is empty", file=path)
    for mark, name in MARKS.items():
        if mark in start:
            return name
    raise SpecError(
        f"is no trace we know; name its format ({', '.join(FORMATS)}) or give columns arrival_s, prompt_tokens, output_tokens",
        file=path,
    )


def read_trace(path: str | Path, format: str | None = None) -> Trace:  # noqa: A002 - the word users know
    """A trace file as rows in order of arrival. Raises SpecError with file and line for what cannot be read.

    Times must not fall; rows that a format marks as failed are left out and counted.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "mine.csv")
    ...     _ = file.write_text("arrival_s,prompt_tokens,output_tokens\\n0,100,20\\n0.5,300,10\\n")
    ...     trace = read_trace(file)
    >>> trace.num_requests, trace.mean_input, trace.duration
    (2, 200.0, 0.5)
    """
    path = Path(path)
    if not path.is_file():
        raise SpecError("no such file", file=path)
    if format is not None and format not in FORMATS:
        raise SpecError(f"no trace format is called {format!r}; {did_you_mean(format, FORMATS)}", field="format")
    name = format or guess_format(path)
    lines = _Lines(path)
    rows: list[TraceRow] = []
    try:
        for row in FORMATS[name](lines):
            if rows and row.arrival is not None and row.arrival < (rows[-1].arrival or 0.0) and name != "vllm":
                raise lines.error(
                    f"arrives {(rows[-1].arrival or 0) - row.arrival:g} s before the row above; sort the trace by time"
                )
            rows.append(row)
    except UnicodeDecodeError as error:
        raise SpecError("not a text file (UTF-8 expected)", file=path) from error
    except csv.Error as error:
        raise lines.error(f"is not CSV: {error}") from error
    if not rows:
        raise SpecError(f"holds no request{_why(lines.left_out)}", file=path)
    if rows[0].arrival is not None:
        rows.sort(key=lambda row: row.arrival or 0.0)
    return Trace(str(path), name, tuple(rows), lines.left_out)


def _why(left_out: dict[str, int]) -> str:
    return "; left out: " + ", ".join(f"{count} {reason}" for reason, count in left_out.items()) if left_out else ""
