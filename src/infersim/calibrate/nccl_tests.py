"""Read the text that nccl-tests print (``all_reduce_perf`` and its siblings; rccl-tests print the same).

Columns: size [B], count, type, reduction, root, then time [us], algorithm and bus bandwidth [GB/s] and errors, out of place and in
place. The out-of-place time counts. The operation is named by the program's own header or by the caller.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from infersim.calibrate.measurements import KernelTable, Reading
from infersim.errors import SpecError, did_you_mean

PROGRAMS = {
    "all_reduce": "all_reduce", "all_gather": "all_gather", "reduce_scatter": "reduce_scatter", "alltoall": "all_to_all",
    "sendrecv": "send_recv",
}  # fmt: skip
"""nccl-tests programs by the start of their names, and our kinds of collective."""


def read_nccl_tests(
    path: Path, *, device: str, version: str = "", operation: str | None = None, nodes: int = 1
) -> Reading:
    """The timings of one run as a table of collectives.

    ``operation`` (all_reduce, all_gather, reduce_scatter, all_to_all, send_recv) is needed where the text does not name its program;
    ranks are those that the header lists. Payloads follow ``ops.memory.Collective``: the whole buffer. Rows with wrong results or
    "N/A" times are counted and left out. Raises SpecError naming file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=path) from error
    kind = operation or _operation(lines)
    if kind is None or kind not in PROGRAMS.values():
        asked = (
            did_you_mean(str(kind), list(PROGRAMS.values()))
            if kind
            else "give operation=, the text does not name its program"
        )
        raise SpecError(f"no collective is called {kind!r}; {asked}", file=path)
    ranks = sum(1 for line in lines if re.match(r"#\s+Rank\s+\d+", line))
    if not ranks:
        found = next((match for line in lines if (match := re.search(r"nranks\s+(\d+)", line))), None)
        ranks = int(found[1]) if found else 0
    if ranks < 2:
        raise SpecError("lists fewer than two ranks in its header", file=path)
    payload: list[float] = []
    seconds: list[float] = []
    left: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if not cells or line.lstrip().startswith("#") or not cells[0].isdigit():
            continue
        if len(cells) < 8:
            raise SpecError(
                f"line {number} has {len(cells)} columns, fewer than size, count, type, redop, root, time and bandwidths",
                file=path,
            )
        offset = 5 if re.fullmatch(r"-?\d+", cells[4]) else 4  # some programs print no root
        time, wrong = cells[offset], cells[offset + 3] if len(cells) > offset + 3 else "0"
        if time == "N/A":
            left["no out-of-place time"] = left.get("no out-of-place time", 0) + 1
            continue
        if wrong not in ("0", "0e+00", "N/A"):
            left["wrong results"] = left.get("wrong results", 0) + 1
            continue
        try:
            value = float(time) * 1e-6
        except ValueError:
            raise SpecError(
                f"line {number}: the time must be a number of microseconds, got {time!r}", file=path
            ) from None
        if value <= 0 or int(cells[0]) == 0:
            left["nothing sent"] = left.get("nothing sent", 0) + 1
            continue
        payload.append(float(cells[0]))
        seconds.append(value)
    if not seconds:
        raise SpecError("holds no timings", file=path)
    shape = {
        "payload": np.array(payload),
        "devices": np.full(len(payload), float(ranks)),
        "nodes": np.full(len(payload), float(nodes)),
    }
    table = KernelTable(
        "collective", device, "nccl", version, {}, kind, shape, np.array(seconds), f"nccl-tests {path.name}"
    )
    return Reading(tables=(table,), left_out=left)


def _operation(lines: list[str]) -> str | None:
    """The collective whose program the text names."""
    for line in lines:
        for program, kind in PROGRAMS.items():
            if re.search(rf"\b{program}_perf\b", line):
                return kind
    return None
