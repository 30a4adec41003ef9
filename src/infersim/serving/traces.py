"""Recorded traffic as a value: what a trace file holds, ready to be replayed and compared with."""

from __future__ import annotations

import csv
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.errors import SpecError, did_you_mean
from infersim.serving.lengths import Pairs
from infersim.serving.sequence import Segment
from infersim.serving.trace_formats import FORMATS, Lines, guess_format

Times = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Trace:
    """A trace as read, one entry per request in order of arrival, and what was left out and why.

    Times count from the first arrival [s]; ``arrival`` is None where the trace has no times, ``first_token`` and ``finish``
    where nothing was measured, and NaN for a request of which it was not.
    """

    file: str
    format: str
    prompt: Counts = field(repr=False)
    output: Counts = field(repr=False)
    arrival: Times | None = field(repr=False, default=None)
    first_token: Times | None = field(repr=False, default=None)
    finish: Times | None = field(repr=False, default=None)
    prefixes: list[tuple[Segment, ...]] | None = field(repr=False, default=None)
    """Stretches of each prompt that others may share, where the trace tells."""
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether requests carry measured times to compare with."""
        return self.first_token is not None or self.finish is not None

    @property
    def duration(self) -> float:
        """From the first to the last arrival [s]."""
        return 0.0 if self.arrival is None else float(self.arrival[-1])

    @property
    def arrivals(self) -> None:
        """A trace has arrivals, but no process that makes them."""

    @property
    def num_requests(self) -> int:
        return len(self.prompt)

    @property
    def mean_input(self) -> float:
        return float(self.prompt.mean())

    @property
    def mean_output(self) -> float:
        return float(self.output.mean())

    def describe(self) -> dict[str, Any]:
        """What was read, for a summary."""
        return {"trace": self.file, "format": self.format, "num_requests": self.num_requests, "duration_s": self.duration,
                "mean_input_tokens": self.mean_input, "mean_output_tokens": self.mean_output, "left_out": self.left_out}  # fmt: skip

    def pairs(self) -> Pairs:
        """The lengths as a distribution of correlated pairs, to drive with other arrivals."""
        lengths = zip(self.prompt.tolist(), self.output.tolist(), strict=True)
        return Pairs(pairs=tuple((float(prompt), float(output)) for prompt, output in lengths))


def read_trace(path: str | Path, format: str | None = None) -> Trace:  # noqa: A002 - the word users know
    """A trace file in order of arrival. Raises SpecError with file and line for what cannot be read.

    Times must not fall; rows that a format marks as failed are left out and counted. About 25 bytes are kept per request.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "mine.csv")
    ...     _ = file.write_text("arrival_s,prompt_tokens,output_tokens\\n7,100,20\\n7.5,300,10\\n")
    ...     trace = read_trace(file)
    >>> trace.num_requests, trace.mean_input, trace.arrival.tolist()
    (2, 200.0, [0.0, 0.5])
    """
    path = Path(path)
    if not path.is_file():
        raise SpecError("no such file", file=path)
    if format is not None and format not in FORMATS:
        raise SpecError(f"no trace format is called {format!r}; {did_you_mean(format, FORMATS)}", field="format")
    lines = Lines(path)
    try:
        name = format or guess_format(path)
        return _collect(lines, name)
    except UnicodeDecodeError as error:
        raise SpecError("not a text file (UTF-8 expected)", file=path) from error
    except csv.Error as error:
        raise lines.error(f"is not CSV: {error}") from error
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror or error}", file=path) from error


def _collect(lines: Lines, name: str) -> Trace:
    """The rows of a file as columns."""
    nan = float("nan")
    arrival, first, finish = array("d"), array("d"), array("d")
    prompt, output = array("i"), array("i")
    prefixes: list[tuple[Segment, ...]] = []
    last = 0.0
    for row in FORMATS[name](lines):
        if row.arrival is not None:
            if row.arrival < last and name != "vllm":
                raise lines.error(f"arrives {last - row.arrival:g} s before the row above; sort the trace by time")
            last = row.arrival
            arrival.append(last)
        prompt.append(row.prompt)
        output.append(row.output)
        first.append(nan if row.first_token is None else row.first_token)
        finish.append(nan if row.finish is None else row.finish)
        if row.prefix or prefixes:
            prefixes += [()] * (len(prompt) - 1 - len(prefixes)) + [row.prefix]
    if not prompt:
        left = ", ".join(f"{count} {reason}" for reason, count in lines.left_out.items())
        raise SpecError("holds no request" + (f"; left out: {left}" if left else ""), file=lines.path)
    times = np.asarray(arrival) if len(arrival) else None
    order = slice(None) if times is None or np.all(np.diff(times) >= 0) else np.argsort(times, kind="stable")
    start = 0.0 if times is None else float(times.min())
    measured = [None if np.isnan(found).all() else (found - start)[order] for found in map(np.asarray, (first, finish))]
    return Trace(
        str(lines.path), name, np.asarray(prompt)[order], np.asarray(output)[order],
        None if times is None else (times - start)[order], measured[0], measured[1], prefixes or None, lines.left_out,
    )  # fmt: skip
