"""Calibrate vector search from a result file of ``infersim bench --backend faiss``: rates of a core, and counts of graphs.

Every row is fitted; the errors kept are those of cross-validation, whole indexes left out in turn. Counts are counted, not timed, so
a graph's are fitted by least squares on their logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.calibrate.fit import DIGITS, Spread, fit_parameters, spread
from infersim.calibrate.measurements import shape_hash
from infersim.calibrate.own_device import device_name
from infersim.errors import SpecError
from infersim.files import write_text
from infersim.machine.kernels.vector_search import SearchParameters, flat_seconds, graph_seconds, ivf_seconds
from infersim.microbench.cases import VectorSearch
from infersim.microbench.results import Measured, Results
from infersim.ops.vector_search import PQ_CENTROIDS, GraphWork, scanned_vectors, vector_bytes
from infersim.specs.quantity import Source
from infersim.specs.reading import validate
from infersim.specs.vector_search import SearchRates

Array = npt.NDArray[np.float64]

KINDS = ("flat", "ivf_flat", "ivf_pq", "hnsw")
FOLDS = 5
LEAST_ROWS = 8
PRIVATE_CACHE = 1024.0**2
"""A core's own cache where the system does not tell [B]; assumed."""


@dataclass(frozen=True)
class Search:
    """Timed searches as columns, one entry per case."""

    kind: Array
    """Place in ``KINDS``."""
    vectors: Array
    dimension: Array
    structure: Array
    knob: Array
    evaluations: Array
    hops: Array

    @property
    def columns(self) -> dict[str, Array]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def searches(entries: Sequence[Measured]) -> tuple[Search, Array]:
    """The timed searches among what was measured, with their seconds."""
    found = [(entry, entry.case) for entry in entries if isinstance(entry.case, VectorSearch)]

    def column(values: list[float]) -> Array:
        return np.array(values, dtype=float)

    table = Search(
        column([KINDS.index(case.index) for _, case in found]), column([case.vectors for _, case in found]),
        column([case.dimension for _, case in found]), column([case.structure for _, case in found]),
        column([case.knob for _, case in found]), column([entry.counts.get("evaluations", np.nan) for entry, _ in found]),
        column([entry.counts.get("hops", 0.0) for entry, _ in found]),
    )  # fmt: skip
    return table, column([entry.seconds for entry, _ in found])


def seconds_of(table: Mapping[str, Array], parameters: SearchParameters, private_cache: float) -> Array:
    """Seconds of every search by the kernel models of its kind, from the evaluations and hops of the table."""
    at: dict[str, Any] = {"private_cache": private_cache, "parameters": parameters}
    kind, n = table["kind"], table["vectors"]
    stored, lists = vector_bytes(table["dimension"]), np.maximum(table["structure"], 1.0)
    seen = table["evaluations"]
    flat = flat_seconds(n, stored, **at)
    probes = np.minimum(table["knob"], lists)
    plain = ivf_seconds(n, stored, centroid=stored, lists=lists, probes=probes, scanned=seen, **at)
    code = np.maximum(table["dimension"] // 8, 1.0)
    coded = ivf_seconds(
        n, code, centroid=stored, lists=lists + PQ_CENTROIDS, probes=probes, scanned=seen, lookups=code, **at
    )
    graph = graph_seconds(n, stored, links=8.0 * lists, ef=table["knob"], hops=table["hops"], evaluations=seen, **at)
    return np.select([kind == place for place in range(len(KINDS))], [flat, plain, coded, graph])


def fit_graph(table: Search) -> GraphWork:
    """How many hops and evaluations graphs take, from those counted: least squares on logarithms.

    Raises SpecError where no two sizes, beams and links were counted.
    """
    from scipy.optimize import least_squares

    rows = table.kind == KINDS.index("hnsw")
    n, M, ef = table.vectors[rows], table.structure[rows], table.knob[rows]
    entry = float(np.median((table.hops[rows] - ef) / np.log(n))) if rows.any() else 0.0
    if len(n) < LEAST_ROWS or len(np.unique(n)) < 2 or len(np.unique(ef)) < 2:
        raise SpecError(
            "holds too few graphs to tell how searches grow; run `infersim bench --backend faiss` again", field="hnsw"
        )
    counted = np.log(table.evaluations[rows])

    def off(free: Array) -> Array:
        scale, links, hops, size, reach = free
        work = GraphWork(entry, float(np.exp(scale)), links, hops, size, float(np.exp(reach)))
        found: Array = np.log(work.evaluations(n, M, ef)) - counted
        return found

    start = np.array([1.6, 0.4, 0.9, 0.07, 0.2])
    bounds = ([-5.0, 0.0, 0.3, 0.0, -2.5], [8.0, 1.0, 1.2, 0.4, 3.0])
    found = least_squares(off, start, bounds=bounds, loss="soft_l1", f_scale=0.1).x
    scale, links, hops, size, reach = (
        float(f"{value:.{DIGITS}g}") for value in (np.exp(found[0]), *found[1:4], np.exp(found[4]))
    )
    return GraphWork(float(f"{entry:.{DIGITS}g}"), scale, links, hops, size, reach)


def predicted_counts(table: Search, graph: GraphWork, imbalance: float) -> Search:
    """The same searches with evaluations and hops as the fitted counts have them, not as they were counted."""
    hnsw, flat = table.kind == KINDS.index("hnsw"), table.kind == KINDS.index("flat")
    lists = np.maximum(table.structure, 1.0)
    M, ef = np.where(hnsw, table.structure, 16.0), np.where(hnsw, table.knob, 16.0)
    listed = scanned_vectors(table.vectors, lists, table.knob, imbalance)
    seen = np.select([hnsw, flat], [graph.evaluations(table.vectors, M, ef), table.vectors], listed)
    hops = np.where(hnsw, graph.hops_of(table.vectors, ef), 0.0)
    return Search(table.kind, table.vectors, table.dimension, table.structure, table.knob, seen, hops)


def list_imbalance(table: Search) -> float:
    """Vectors scanned over N probes / lists, the median over searches that probe at most half of the lists."""
    lists = np.maximum(table.structure, 1.0)
    rows = ((table.kind == 1) | (table.kind == 2)) & (table.knob <= lists / 2)
    if not rows.any():
        return 1.0
    each = table.evaluations * lists / (table.vectors * np.maximum(table.knob, 1.0))
    return max(float(np.median(each[rows])), 1.0)


def _held(table: Search) -> tuple[str, ...]:
    """Parameters that nothing in the table speaks of; they keep the family's value."""
    kinds = set(table.kind.astype(int).tolist())
    groups = {
        "list": {1, 2},
        "scanned": {1, 2},
        "lookup": {2},
        "evaluation": {3},
        "scattered": {3},
        "memory_wait": {3},
        "candidate": {3},
    }
    return tuple(name for name, needed in groups.items() if not kinds & needed)


def fit_search(table: Search, seconds: Array, private_cache: float) -> SearchParameters:
    """The parameters under which the kernel models come closest to measured seconds."""

    def time(columns: Mapping[str, Array], parameters: SearchParameters) -> Array:
        return seconds_of(columns, parameters, private_cache)

    return fit_parameters(
        time, SearchParameters(), table.columns, seconds, hold=_held(table), prior=0.02, evaluations=200
    ).parameters


def _take(table: Search, rows: npt.NDArray[np.bool_]) -> Search:
    return Search(**{name: column[rows] for name, column in table.columns.items()})


def cross_validated(table: Search, seconds: Array, private_cache: float) -> dict[str, Spread]:
    """Errors by kind on indexes left out in turn; their counts are predicted too."""
    columns = {name: table.columns[name] for name in ("kind", "vectors", "dimension", "structure")}
    fold = shape_hash(columns) % np.uint64(FOLDS)
    found = np.zeros(len(seconds))
    for each in sorted(set(fold.tolist())):
        out = fold == each
        seen = _take(table, ~out)
        parameters = fit_search(seen, seconds[~out], private_cache)
        unseen = predicted_counts(_take(table, out), fit_graph(seen), list_imbalance(seen))
        found[out] = seconds_of(unseen.columns, parameters, private_cache)
    return {
        kind: spread(found[rows], seconds[rows])
        for place, kind in enumerate(KINDS)
        if (rows := table.kind == place).any()
    }


def calibrate_search(results: Results, *, name: str | None = None, judged: bool = True) -> SearchRates:
    """Rates of searching on a core of the machine that a result file is of. ``name`` is that of the CPU's spec, where there is one.
    ``judged`` adds the errors of cross-validation.

    Raises SpecError where the file holds too few searches.
    """
    table, seconds = searches(results.measured())
    if len(seconds) < LEAST_ROWS:
        raise SpecError(
            f"holds {len(seconds)} timed searches, at least {LEAST_ROWS} are needed; run `infersim bench --backend faiss` again",
            field="vector_search",
        )
    private = float(results.environment.get("cache_bytes", {}).get("L2", PRIVATE_CACHE))
    graph, parameters = fit_graph(table), fit_search(table, seconds, private)
    device, date = str(results.environment.get("device_name", "device")), str(results.environment.get("date", ""))[:10]
    ran = f"infersim bench, {results.backend} {results.version}, one thread of {device}, {date}"
    units = {field.name: field.metadata["unit"] for field in fields(SearchParameters)}
    stated = {key: f"{float(f'{value:.{DIGITS}g}')!r} {units[key]}" for key, value in asdict(parameters).items()}
    errors = {}
    if judged:
        errors = {kind: asdict(found) for kind, found in cross_validated(table, seconds, private).items()}
    sources = (
        Source(of=tuple(stated), ref=ran, status="fitted"),
        Source(of=("graph", "imbalance"), ref=f"{ran}: counted", status="fitted"),
        Source(of=("private_cache",), ref="the operating system"),
    )
    notes = f"Fitted to {len(seconds)} searches."
    if judged:
        notes += f" Errors are of {FOLDS}-fold cross-validation, whole indexes left out."
    return validate(SearchRates, {
        "name": name or device_name(results), "device": device, "engine": results.backend, "version": results.version, "date": date,
        "private_cache": f"{private!r} B", **stated, "graph": asdict(graph), "imbalance": round(list_imbalance(table), 4),
        "errors": errors, "notes": notes, "sources": sources,
    })  # fmt: skip


def write_rates(folder: Path, rates: SearchRates) -> Path:
    """Write rates into a folder that ``--specs`` takes; returns the file."""
    import yaml

    path = folder / "search_rates" / f"{rates.name}.yaml"
    plain = rates.model_dump(mode="json", exclude_defaults=True)
    write_text(path, yaml.safe_dump(plain, sort_keys=False, width=120))
    return path
