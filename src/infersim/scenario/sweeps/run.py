"""Run a sweep into a folder, or take it up again where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from infersim._version import __version__
from infersim.errors import SpecError, UnknownNameError
from infersim.scenario.places import Fields, plain
from infersim.scenario.scenario import Scenario, resolve
from infersim.scenario.setup import OF_THE_FILE, check_sweep
from infersim.scenario.sweeps.backends import answered, check_backend
from infersim.scenario.sweeps.design import SweepSpec
from infersim.scenario.sweeps.result import SweepResult
from infersim.scenario.sweeps.solve import ARRAYS, Task, takes_arrays
from infersim.scenario.sweeps.store import open_store
from infersim.specs.library import looked_into
from infersim.specs.reading import validate

ARRAY_CHUNK = 32_768
"""Points of a chunk where they are answered in array passes ..."""
CHUNKS = {"estimate": 1024, "simulate": 16, "capacity": 2, "plan": 2, "compare": 4}
"""... and where each is a scenario of its own, by question: a few seconds' work, which is what an interruption loses."""
LAYER_CHUNK = 16


def run_sweep(
    scenario: Scenario | Mapping[str, Any],
    design: SweepSpec | Mapping[str, Any] | None = None,
    folder: str | Path = "sweep",
    *,
    backend: str = "processes",
    workers: int | None = None,
    address: str | None = None,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Answer ``scenario`` at every point of ``design`` (by default its own section ``sweep``), into Parquet files in ``folder``.

    ``backend``: ``processes`` (one per core, or ``workers`` of them), ``serial``, or a cluster: ``dask`` or ``ray`` at ``address``, on
    this machine where there is none. A run that was interrupted goes on where it stopped, unless ``resume`` is false: then the folder is
    begun anew. A point that cannot be answered says why in the column ``error``; the others go on. ``progress`` is told (points
    that are done, points of the sweep).

    Raises SpecError for a design or a folder that will not do, before any point is answered.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     found = run_sweep({"model": "gpt2", "hardware": "L4", "workload": {"input_tokens": 128}},
    ...                       {"grid": {"workload.concurrency": [1, 8, 64]}}, place, backend="serial")
    ...     found.rows, found.failed, bool(found.to_frame()["tpot_s"].is_monotonic_increasing)
    (3, 0, True)
    """
    check_backend(backend, workers, address)
    base = scenario.tree if isinstance(scenario, Scenario) else Fields(scenario)
    spec = read_design(base, design)
    check_store()
    case = Fields(
        {key: value for key, value in base.items() if key not in OF_THE_FILE}, places=getattr(base, "places", None)
    )
    task = Task(case, spec, __version__, *looked_into())
    store = open_store(Path(folder), _manifest(task), resume=resume)
    started, done, before = time.perf_counter(), 0, store.done()
    for chunk in before:
        first, last = store.bounds(chunk)
        done += last - first
    now = 0
    if progress is not None:
        progress(done, spec.size)
    missing = ((chunk, *store.bounds(chunk)) for chunk in range(store.chunks) if chunk not in before)
    left = store.chunks - len(before)
    if backend == "processes" and left < 2:
        backend = "serial"  # one chunk alone needs no processes
    try:
        if left:
            with closing(answered(task, missing, backend=backend, workers=workers, address=address)) as parts:
                for chunk, rows in parts:
                    store.write(chunk, rows)
                    now += rows.num_rows
                    if progress is not None:
                        progress(done + now, spec.size)
    except KeyboardInterrupt as stopped:
        stopped.add_note(f"{done + now:,} of {spec.size:,} points are in {folder}; the same command goes on from there")
        raise
    return SweepResult(Path(folder), spec.size, spec.fields, time.perf_counter() - started, now)


def read_design(
    scenario: Scenario | Mapping[str, Any], given: SweepSpec | Mapping[str, Any] | None = None
) -> SweepSpec:
    """The design of a sweep over a scenario, by default the one in its section ``sweep``. SpecError for whatever is wrong with it."""
    base = scenario.tree if isinstance(scenario, Scenario) else scenario
    spec = given if isinstance(given, SweepSpec) else _own_design(base) if given is None else validate(SweepSpec, given)
    _check_fields(base, spec)
    return spec


def _own_design(base: Mapping[str, Any]) -> SweepSpec:
    if base.get("sweep") is None:
        raise SpecError(
            "is missing: say what is swept, such as grid: {workload.concurrency: [1, 8, 64]}", field="sweep"
        )
    return check_sweep(base)


def _check_fields(base: Mapping[str, Any], spec: SweepSpec) -> None:
    """SpecError where a scenario has no such field, whatever the others are: that is a slip of the pen, not a point without an answer."""
    resolve(base, {})
    for field, value in spec.point(0).items():
        try:
            resolve(base, {field: value})
        except SpecError as error:
            if error.message.startswith(REFUSED):
                raise UnknownNameError(error.message, field=field, file=error.file) from error


REFUSED = ("unknown field", "is about the whole file", "is a path such as")
"""How errors begin that are of a field and not of its value."""


def check_store() -> None:
    """SpecError where what stores the points is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise SpecError("sweeps are stored with pyarrow: pip install 'infersim[data]'") from error


def _manifest(task: Task) -> dict[str, Any]:
    """What the sweep is, for people and for a run that takes it up again."""
    import hashlib
    import json

    spec = task.spec
    design = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"chunk_points"})
    told: dict[str, Any] = json.loads(json.dumps({"scenario": plain(task.base), "sweep": design}, default=str))
    given = {field: column.unit for field, column in spec.columns(0, 1).items() if column.unit}
    files = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in task.price_files]
    return {
        "infersim": __version__, "points": spec.size, "chunk_points": spec.chunk_points or _chunk_points(task), "fields": list(spec.fields),
        "units": given, "specs": [*task.spec_folders, *task.price_files, *files], **told,
    }  # fmt: skip


def _chunk_points(task: Task) -> int:
    """So many points that a chunk takes a few seconds at most, and a small sweep still has work for several workers."""
    spec = task.spec
    try:
        case = resolve(task.base, spec.point(0))
    except SpecError:
        return CHUNKS["estimate"]
    if takes_arrays(case) and any(field in ARRAYS for field in spec.fields):
        return min(ARRAY_CHUNK, max(ARRAY_CHUNK // 4, -(-spec.size // 16)))
    return CHUNKS.get(case.question, CHUNKS["estimate"] if case.question in ("cost", "size") else LAYER_CHUNK)
