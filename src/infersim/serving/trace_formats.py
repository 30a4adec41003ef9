"""Readers of the published trace formats and our own: one request a row, errors by file and line.

========== =====================================================================================================
format     columns or keys
========== =====================================================================================================
azure      CSV ``TIMESTAMP,ContextTokens,GeneratedTokens``, date and time (Azure LLM inference 2023 and 2024)
burstgpt   CSV ``Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type``, seconds; rows without a
           response are failures and are left out
splitwise  CSV ``request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size``, seconds
vidur      CSV ``arrived_at,num_prefill_tokens,num_decode_tokens``, seconds (Vidur, Sarathi-Serve)
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
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from infersim.errors import SpecError, did_you_mean
from infersim.serving.arrivals import LONGEST_RUN
from infersim.serving.lengths import MAX_TOKENS
from infersim.serving.sequence import Segment

MOONCAKE_BLOCK = 512
CHARACTERS_PER_TOKEN = 4.0
"""Of English under common tokenisers; counted so where a trace holds text alone."""


class TraceRow(NamedTuple):
    """One request: its time [s] (None where the trace has none), tokens, shared stretches, measured times [s]."""

    arrival: float | None
    prompt: int
    output: int
    prefix: tuple[Segment, ...] = ()
    first_token: float | None = None
    finish: float | None = None


def shown(value: Any) -> str:
    """What was given, short enough for a message.

    >>> shown("x" * 1000)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."
    """
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


class Lines:
    """Where a reader is, so that an error can say it, and what it has left out."""

    def __init__(self, path: Path) -> None:
        self.path, self.line, self.unit = path, 0, "line"
        self.left_out: dict[str, int] = {}

    def error(self, message: str, field_name: str | None = None) -> SpecError:
        return SpecError(message, file=f"{self.path}, {self.unit} {self.line}", field=field_name)

    def skip(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def require(self, name: str, known: Mapping[str, Any] | list[str], what: str) -> None:
        """Raise with the nearest name where one is missing."""
        if name not in known:
            names = [one[:40] for one in known if isinstance(one, str) and one.isprintable()]
            raise self.error(f"{what} {name!r} is missing; {did_you_mean(name, names)}")

    def number(self, value: Any, name: str) -> float:
        if isinstance(value, bool) or value is None or value == "":
            raise self.error(f"is missing a number, got {value!r}", name)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise self.error(f"must be a number, got {shown(value)}", name) from None
        if not math.isfinite(number):
            raise self.error(f"must be finite, got {shown(value)}", name)
        return number

    def tokens(self, value: Any, name: str, least: int = 1) -> int:
        """A whole number of tokens within reason."""
        number = self.number(value, name)
        if not number.is_integer() or not least <= number <= MAX_TOKENS:
            raise self.error(
                f"must be a whole number of tokens from {least} to {MAX_TOKENS:,}, got {shown(value)}", name
            )
        return int(number)

    def seconds(self, value: Any, name: str, unit: float = 1.0) -> float:
        number = self.number(value, name) * unit
        if number < 0:
            raise self.error(f"must be zero or more, got {shown(value)}", name)
        if number > LONGEST_RUN:
            raise self.error(f"is {number:.3g} s, centuries: is it in another unit?", name)
        return number

    def optional(self, row: Mapping[str, Any], name: str) -> float | None:
        """A measured time that may be absent."""
        value = row.get(name)
        return None if value in (None, "") else self.seconds(value, name)

    def json(self, text: str) -> Any:
        """JSON from the line the reader is at on."""
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            self.line += error.lineno - 1
            raise self.error(f"is not JSON: {error.msg} at column {error.colno}") from error
        except (RecursionError, ValueError) as error:  # nested without end, or a number of thousands of digits
            raise self.error(f"is not JSON that can be read: {error}") from error


def _csv_rows(lines: Lines, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    with lines.path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        lines.line = 1
        names = [name.strip() for name in reader.fieldnames or ()]
        for name in needed:
            lines.require(name, names, "column")
        reader.fieldnames = names
        for row in reader:
            lines.line = reader.line_num
            if None in row or None in row.values():
                raise lines.error(
                    f"has {'more' if None in row else 'fewer'} fields than the {len(names)} of the header"
                )
            yield row


def _json_lines(lines: Lines, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    with lines.path.open(encoding="utf-8-sig") as file:
        for number, text in enumerate(file, 1):
            lines.line = number
            if not text.strip():
                continue
            row = lines.json(text.rstrip())
            if not isinstance(row, dict):
                raise lines.error(f"should be an object, found {type(row).__name__}")
            for name in needed:
                lines.require(name, row, "key")
            yield row


def _json_file(lines: Lines) -> Any:
    lines.line = 1
    return lines.json(lines.path.read_text(encoding="utf-8-sig"))


def _azure(lines: Lines) -> Iterator[TraceRow]:
    start: datetime | None = None
    for row in _csv_rows(lines, ("TIMESTAMP", "ContextTokens", "GeneratedTokens")):
        try:
            time = datetime.fromisoformat(row["TIMESTAMP"].strip())
        except ValueError:
            raise lines.error(
                f"must be a date and time such as 2023-11-16 18:15:46.68, got {shown(row['TIMESTAMP'])}", "TIMESTAMP"
            ) from None
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        start = start or time
        prompt = lines.tokens(row["ContextTokens"], "ContextTokens", least=0)
        output = lines.tokens(row["GeneratedTokens"], "GeneratedTokens", least=0)
        if not output or not prompt:
            lines.skip("no generated tokens" if not output else "no context tokens")
            continue
        yield TraceRow((time - start).total_seconds(), prompt, output)


def _burstgpt(lines: Lines) -> Iterator[TraceRow]:
    for row in _csv_rows(lines, ("Timestamp", "Request tokens", "Response tokens")):
        seconds = lines.seconds(row["Timestamp"], "Timestamp")
        prompt, output = (lines.tokens(row[name], name, least=0) for name in ("Request tokens", "Response tokens"))
        if not output or not prompt:
            lines.skip("failed requests (no response tokens)" if not output else "no request tokens")
            continue
        yield TraceRow(seconds, prompt, output)


def _three_columns(time: str, prompt: str, output: str) -> Callable[[Lines], Iterator[TraceRow]]:
    """A reader of CSV with seconds, prompt tokens and output tokens under these names."""

    def read(lines: Lines) -> Iterator[TraceRow]:
        for row in _csv_rows(lines, (time, prompt, output)):
            yield TraceRow(
                lines.seconds(row[time], time), lines.tokens(row[prompt], prompt), lines.tokens(row[output], output)
            )

    return read


def _mooncake(lines: Lines) -> Iterator[TraceRow]:
    whole: dict[int, Segment] = {}
    for row in _json_lines(lines, ("timestamp", "input_length", "output_length")):
        prompt, output = (lines.tokens(row[name], name) for name in ("input_length", "output_length"))
        identities = row.get("hash_ids", [])
        if not isinstance(identities, list) or any(type(identity) is not int for identity in identities):
            raise lines.error(f"should be a list of whole numbers, got {shown(identities)}", "hash_ids")
        if identities and not prompt // MOONCAKE_BLOCK <= len(identities) <= -(-prompt // MOONCAKE_BLOCK):
            raise lines.error(
                f"has {len(identities)} entries, but {prompt} tokens are {-(-prompt // MOONCAKE_BLOCK)} blocks of "
                f"{MOONCAKE_BLOCK}: hashes of another block size are not read",
                "hash_ids",
            )
        prefix, path = [], 0
        for place, identity in enumerate(identities):
            path = hash((path, identity))
            length = min(MOONCAKE_BLOCK, prompt - place * MOONCAKE_BLOCK)
            prefix.append(whole.setdefault(path, (path, length)) if length == MOONCAKE_BLOCK else (path, length))
        yield TraceRow(lines.seconds(row["timestamp"], "timestamp", 1e-3), prompt, output, tuple(prefix))


def _sharegpt(lines: Lines) -> Iterator[TraceRow]:
    data = _json_file(lines)
    if not isinstance(data, list):
        raise lines.error("should be a list of conversations")
    lines.unit = "conversation"
    for number, entry in enumerate(data, 1):
        lines.line = number
        turns = entry.get("conversations") if isinstance(entry, dict) else None
        if not isinstance(turns, list):
            raise lines.error("has no list of 'conversations'")
        if len(turns) < 2:
            lines.skip("conversations of fewer than two turns")
            continue
        texts = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2]]
        if not all(isinstance(text, str) and text for text in texts):
            lines.skip("turns without text")
            continue
        prompt, output = (max(1, math.ceil(len(str(text)) / CHARACTERS_PER_TOKEN)) for text in texts)
        yield TraceRow(None, prompt, output)


def _vllm(lines: Lines) -> Iterator[TraceRow]:
    data = _json_file(lines)
    if not isinstance(data, dict):
        raise lines.error(f"should be an object, found {type(data).__name__}")
    lists: dict[str, list[Any]] = {}
    for name in ("input_lens", "output_lens", "ttfts", "start_times", "latencies", "itls", "errors"):
        found = data.get(name)
        if isinstance(found, list) and found:
            lists[name] = found
        elif found is not None and found != []:
            raise SpecError(f"should be a list, found {type(found).__name__}", file=lines.path, field=name)
        elif name in ("input_lens", "output_lens", "ttfts"):
            raise SpecError("is missing: save the result with --save-detailed", file=lines.path, field=name)
    count = len(lists["input_lens"])
    for name, values in lists.items():
        if len(values) != count:
            raise SpecError(f"has {len(values)} entries, input_lens {count}", file=lines.path, field=name)
    lines.unit = "request"
    for number in range(count):
        lines.line = number + 1
        row = {name: values[number] for name, values in lists.items()}
        if row.get("errors") or row["output_lens"] == 0:
            lines.skip("failed requests")
            continue
        arrival = lines.seconds(row["start_times"], "start_times") if "start_times" in row else None
        wait = lines.seconds(row["ttfts"], "ttfts")
        took = lines.seconds(row["latencies"], "latencies") if "latencies" in row else None
        if took is None and "itls" in row:
            if not isinstance(row["itls"], list):
                raise lines.error(f"should be a list, found {type(row['itls']).__name__}", "itls")
            took = wait + sum(lines.seconds(gap, "itls") for gap in row["itls"])
        begin = arrival or 0.0
        yield TraceRow(
            arrival, lines.tokens(row["input_lens"], "input_lens"), lines.tokens(row["output_lens"], "output_lens"), (),
            begin + wait, None if took is None else begin + took,
        )  # fmt: skip


def _own(lines: Lines) -> Iterator[TraceRow]:
    names = ("arrival_s", "prompt_tokens", "output_tokens")
    with lines.path.open(encoding="utf-8-sig") as file:
        reader: Any = _json_lines if file.read(4096).lstrip().startswith("{") else _csv_rows
    for row in reader(lines, names):
        arrival = lines.seconds(row["arrival_s"], "arrival_s")
        first, finish = lines.optional(row, "first_token_s"), lines.optional(row, "finish_s")
        if first is not None and not arrival <= first <= (math.inf if finish is None else finish):
            raise lines.error("must lie between arrival_s and finish_s", "first_token_s")
        if finish is not None and finish < arrival:
            raise lines.error("must not lie before arrival_s", "finish_s")
        prompt, output = (lines.tokens(row[name], name) for name in names[1:])
        yield TraceRow(arrival, prompt, output, (), first, finish)


FORMATS: dict[str, Callable[[Lines], Iterator[TraceRow]]] = {
    "azure": _azure, "burstgpt": _burstgpt, "splitwise": _three_columns("arrival_timestamp", "prompt_size", "token_size"),
    "vidur": _three_columns("arrived_at", "num_prefill_tokens", "num_decode_tokens"), "mooncake": _mooncake,
    "sharegpt": _sharegpt, "vllm": _vllm, "rows": _own,
}  # fmt: skip
COLUMNS = {
    "TIMESTAMP": "azure", "Response tokens": "burstgpt", "token_size": "splitwise", "num_prefill_tokens": "vidur",
    "arrival_s": "rows",
}  # fmt: skip
"""A column that only one CSV format has."""
KEYS = {
    '"hash_ids"': "mooncake", '"input_length"': "mooncake", '"conversations"': "sharegpt", '"input_lens"': "vllm",
    '"request_throughput"': "vllm", '"arrival_s"': "rows",
}  # fmt: skip
"""A key that only one JSON format has."""


def guess_format(path: Path) -> str:
    """The format of a trace by its CSV header, or by the first of KEYS in its first 64 kB of JSON."""
    with path.open(encoding="utf-8-sig") as file:
        start = file.read(1 << 16).lstrip()
    if not start:
        raise SpecError("the file is empty", file=path)
    if start[0] in "{[":
        places = {start.find(key): name for key, name in KEYS.items() if key in start}
        if places:
            return places[min(places)]
    else:
        header = start.split("\n", 1)[0]
        for column, name in COLUMNS.items():
            if column in header:
                return name
    raise SpecError(
        f"is no trace we know; name its format ({', '.join(FORMATS)}) or give columns arrival_s, prompt_tokens, output_tokens",
        file=path,
    )
