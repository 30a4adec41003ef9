"""Run cases in rounds, keep every timing as soon as it is taken, and take up an interrupted file where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from infersim.errors import SpecError, UnsupportedError
from infersim.microbench import results as file
from infersim.microbench.backends import Backend, NumpyBackend, Prepared
from infersim.microbench.cases import Case, SetName, cases, collective_cases
from infersim.microbench.environment import conditions, environment, last_level_cache
from infersim.microbench.results import Results, Row
from infersim.microbench.timing import Timing, measure
from infersim.microbench.vector_cases import calibrating

TARGET = {"tiny": 0.003, "quick": 0.06, "full": 0.25}
"""Seconds of samples of one case in one round, by set."""

SEARCH_TARGET = {"tiny": 0.003, "quick": 0.03, "full": 0.1}
"""The same for vector search, whose indexes take their time to be built."""

ROUNDS = {"tiny": 1, "quick": 3, "full": 5}
"""Rounds over all cases, by set: a disturbance of some seconds then spoils one timing of a case, not all."""

BUDGET = {"tiny": 60.0, "quick": 100.0, "full": float("inf")}
"""After this long no timing of a second or later round is begun, by set [s]: on a busy machine fewer rounds must do."""

CONDITIONS_EVERY = 10.0
"""Clocks and temperatures are read this often [s]."""

Progress = Callable[[int, int, str], None]
"""Told after each timing: how many are done, of how many, and what."""


@dataclass(frozen=True)
class Outcome:
    """What a run of the suite gave: results, timings taken by this run, and whether it was interrupted."""

    results: Results
    taken: int
    interrupted: bool = False
    left: int = 0
    """Timings of later rounds that were left to another run, as time was up."""


def open_backend(name: str = "auto", device: str = "auto", threads: int | None = None) -> Backend:
    """The backend called ``name`` on ``device``; ``auto`` takes torch where it is installed and its best device.

    Raises UnsupportedError naming the extra where torch is needed and not there, SpecError for a device it does not have.
    """
    if name not in ("auto", "torch", "numpy", "faiss"):
        raise SpecError(f"must be auto, torch, numpy or faiss, got {name!r}", field="backend")
    if name == "faiss":
        return _open_faiss(device, threads)
    try:
        if name == "numpy":
            raise ImportError
        import torch
    except ImportError as error:
        if name == "torch" or device not in ("auto", "cpu"):
            raise UnsupportedError(
                "PyTorch is not installed; pip install 'infersim[bench]', or --backend numpy"
            ) from error
        return NumpyBackend(last_level_cache("cpu"))
    from infersim.microbench.torch_backend import TorchBackend

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    there["xpu"] = hasattr(torch, "xpu") and torch.xpu.is_available()
    if device == "auto":
        device = next(known for known in ("cuda", "xpu", "mps", "cpu") if there[known])
    if device not in there:
        raise SpecError(f"must be auto, {', '.join(there)}, got {device!r}", field="device")
    if not there[device]:
        usable = ", ".join(known for known, found in there.items() if found)
        raise UnsupportedError(f"PyTorch {torch.__version__} finds no {device} device here; it has {usable}")
    if threads:
        torch.set_num_threads(threads)
    return TorchBackend(device, last_level_cache(device))


def _open_faiss(device: str, threads: int | None) -> Backend:
    """FAISS on one thread of the CPU; UnsupportedError naming the extra where it is not installed."""
    from infersim.microbench.faiss_backend import FaissBackend

    if device not in ("auto", "cpu"):
        raise UnsupportedError(f"vector search is measured on the CPU, not on {device}")
    if threads not in (None, 1):
        raise SpecError(
            f"vector search is measured on one thread, not on {threads}; rates are of a core", field="threads"
        )
    return FaissBackend()


def suite_cases(backend: Backend, which: SetName) -> tuple[Case, ...]:
    """The cases of a set for a backend."""
    if backend.name == "faiss":
        return calibrating(which)
    own_memory = backend.device == "cuda"
    return cases(which, backend.formats, large=own_memory, copies=own_memory)


def target_of(backend: Backend, which: SetName) -> float:
    """Seconds of samples of one case in one round."""
    return (SEARCH_TARGET if backend.name == "faiss" else TARGET)[which]


def new_results(backend: Backend, which: SetName, threads: int | None = None) -> Results:
    """Results without rows, for the machine at hand."""
    settings = {"set": which, "target_s": target_of(backend, which), "rounds": ROUNDS[which]}
    return Results(backend.name, backend.device, backend.version, environment(backend.device, threads), settings)


def run_suite(
    backend: Backend,
    path: Path | None = None,
    *,
    which: SetName = "quick",
    chosen: Sequence[Case] | None = None,
    rounds: int | None = None,
    ranks: int = 1,
    threads: int | None = None,
    budget: float | None = None,
    progress: Progress = lambda done, total, what: None,
) -> Outcome:
    """Measure the cases of a set (or those ``chosen``), ``rounds`` times each, and keep the timings in a file.

    A file that is there already is taken up: what it holds is not run again. SpecError where it is of another machine,
    library or set. Ctrl-C ends the run and keeps what was measured. ``ranks`` above 1 adds collectives among them. After the
    seconds of the set no timing of a later round is begun; a ``budget`` stands in for them and runs from the second round on.
    """
    everything = suite_cases(backend, which) if chosen is None else tuple(chosen)
    turns = rounds or ROUNDS[which]
    found = new_results(backend, which, 1 if backend.name == "faiss" else threads)
    if path is not None:
        found = _taken_up(path, found)
        file.begin(path, found)
    rows = list(found.rows)
    done, failed = found.done(), set(found.failed)
    todo = [(turn, case) for turn in range(turns) for case in everything if (case.key, turn) not in done]
    groups = collective_cases(which, ranks) if ranks > 1 else ()
    missing = [case for case in groups if (case.key, 0) not in done]
    total, taken, stopped = len(todo) + len(missing), 0, False
    try:
        for row in chain(_timings(backend, todo, failed, which, budget), _collectives(backend, missing, ranks)):
            rows.append(row)
            taken += 1
            if path is not None:
                file.append(path, [row])
            progress(taken, total, row.case.key)
    except KeyboardInterrupt:
        stopped = True
    found = replace(found, rows=tuple(rows))
    done = found.done()
    left = sum((case.key, turn) not in done and case.key not in failed for turn, case in todo)
    return Outcome(found, taken, stopped, left)


def _taken_up(path: Path, new: Results) -> Results:
    """What a file holds already; SpecError where it cannot be continued here."""
    if not path.exists():
        return new
    old = file.read_results(path)
    for name, before, now in (
        ("backend", old.backend, new.backend), ("device", old.device, new.device), ("version", old.version, new.version),
        ("settings", old.settings, new.settings),
        ("environment.device_name", old.environment.get("device_name"), new.environment.get("device_name")),
        ("environment.threads", old.environment.get("threads"), new.environment.get("threads")),
    ):  # fmt: skip
        if before != now:
            raise SpecError(
                f"holds {before!r}, this run has {now!r}; name another file with --out", field=name, file=path
            )
    return old


def _timings(
    backend: Backend, todo: Sequence[tuple[int, Case]], failed: set[str], which: SetName, budget: float | None
) -> Iterator[Row]:
    """One row per case and round, as long as there is time; a case that cannot run is tried once."""
    begun, read, later = time.perf_counter(), float("-inf"), False
    for turn, case in todo:
        if case.key in failed:
            continue
        if turn and budget is not None and not later:
            begun, later = time.perf_counter(), True
        if turn and time.perf_counter() - begun > (budget or BUDGET[which]):
            return
        try:
            prepared = backend.prepare(case)
            timing = _timed(backend, prepared, target_of(backend, which))
        except (UnsupportedError, MemoryError) as error:
            failed.add(case.key)
            yield Row(case, turn, None, str(error) or "not enough memory")
            continue
        told = None
        if time.perf_counter() - read > CONDITIONS_EVERY:
            told, read = conditions(backend.device), time.perf_counter()
        yield Row(case, turn, timing, conditions=told, counts=prepared.counts)


def _timed(backend: Backend, prepared: Prepared, target: float) -> Timing:
    return measure(
        lambda calls: backend.time(prepared, calls), target=target, least_calls=backend.least_calls(prepared)
    )


def _collectives(backend: Backend, missing: Sequence[Case], ranks: int) -> Iterator[Row]:
    if missing:
        from infersim.microbench.collectives import measure_collectives

        yield from measure_collectives(missing, ranks, backend.device)
