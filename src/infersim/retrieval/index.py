"""A vector index under an engine: what it holds, what a query does to it, how long that takes and how many there can be.

Work is counted by ``ops.vector_search``, turned into time by ``machine.kernels.vector_search``; an engine's habits are its preset's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from infersim.errors import DoesNotFitError, SpecError, UnsupportedError
from infersim.machine.kernels.vector_search import (
    SearchParameters,
    flat_seconds,
    graph_seconds,
    ivf_seconds,
    levels,
    queries_per_second,
    roofline_seconds,
    scattered_seconds,
)
from infersim.ops import vector_search as count
from infersim.ops.base import Numbers
from infersim.retrieval.checks import positive, share
from infersim.retrieval.corpus import candidates_to_fetch
from infersim.retrieval.recall import evaluations_at
from infersim.specs.hardware import Accelerator
from infersim.specs.library import files, load_accelerator, load_search_rates
from infersim.specs.vector_search import RecallCurve, SearchRates, VectorIndex

USUAL_RATES = "Intel-Xeon-1-core"
"""Rates of the core that stands in where a CPU was not measured; its caches and bandwidth are then those of the data sheet."""

DEVICE_CALL = 20e-6
"""Launches and copies of a query on an accelerator [s]; assumed."""

DISK_READ = 100e-6
"""A read of 4 KiB from an NVMe drive [s]; assumed."""

DISK_READS_PER_SECOND = 1e6
"""Reads of 4 KiB that a host's drives deliver in a second; assumed."""

LINKING = 1.25
"""Time of adding a vector to a graph over that of searching its place: the median of four graphs built by FAISS (1.16 to 1.5)."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that an index holds in memory and on disk."""

    memory: Numbers
    disk: Numbers = 0.0


@dataclass(frozen=True)
class QueryWork:
    """What one query does: FLOP and bytes of vectors read, distance evaluations, and how they come about."""

    flops: Numbers
    moved: Numbers
    evaluations: Numbers
    hops: Numbers = 0.0
    lookups: Numbers = 0.0


def index_footprint(index: VectorIndex, vectors: Numbers, dimension: int) -> Footprint:
    """Bytes of an index over ``vectors``, by the arithmetic of its kind and the engine's rule.

    >>> from infersim.specs.library import load_vector_index
    >>> float(index_footprint(load_vector_index("faiss-hnsw"), 1e6, 768).memory) / 1e9
    3.328
    """
    positive("vectors", vectors)
    rule, element = index.memory, index.element_bytes
    stored = count.vector_bytes(dimension, element)
    if rule.page is not None:
        item = stored + rule.per_vector
        return Footprint(count.paged_bytes(vectors, item, page=rule.page, header=rule.page_header))
    if index.kind == "flat":
        memory = count.flat_bytes(vectors, dimension, element)
    elif index.kind in ("ivf_flat", "ivf_pq"):
        code = _code(index, dimension) if index.kind == "ivf_pq" else stored
        memory = count.ivf_bytes(vectors, dimension, lists_of(index, vectors), code)
    elif index.kind == "hnsw":
        memory = vectors * (stored + 2.0 * index.M * rule.per_link)
    else:
        memory, disk = count.diskann_bytes(vectors, dimension, index.degree, _code(index, dimension))
        return Footprint((memory + vectors * rule.per_vector) * rule.factor, disk)
    memory = (memory + vectors * rule.per_vector) * rule.factor
    kept = vectors * count.vector_bytes(dimension) if index.rescore and (element < 4 or index.kind == "ivf_pq") else 0.0
    return Footprint(memory + kept)


def lists_of(index: VectorIndex, vectors: Numbers) -> Numbers:
    """Inverted lists of an index: those it says, or the power of two next to 4 sqrt(N)."""
    if index.lists is not None:
        return float(index.lists)
    return 2.0 ** np.round(np.log2(count.usual_lists(vectors)))


def _code(index: VectorIndex, dimension: int) -> float:
    return float(index.code_bytes or max(dimension // 8, 1))


def query_work(
    index: VectorIndex,
    vectors: Numbers,
    dimension: int,
    *,
    graph: count.GraphWork,
    imbalance: float = 1.0,
    curve: RecallCurve | None = None,
) -> QueryWork:
    """What one query does. Evaluations of a graph are those of the ``curve`` where it tells them, else as ``graph`` has them."""
    stored, whole = count.vector_bytes(dimension, index.element_bytes), count.vector_bytes(dimension)
    again = index.rescore
    if index.kind == "flat":
        return QueryWork(count.distance_flops(vectors + again, dimension), vectors * stored + again * whole, vectors)
    if index.kind in ("ivf_flat", "ivf_pq"):
        lists = lists_of(index, vectors)
        seen = count.scanned_vectors(vectors, lists, index.probes, imbalance)
        if index.kind == "ivf_flat":
            return QueryWork(
                count.distance_flops(lists + seen + again, dimension),
                lists * whole + (seen + again) * whole,
                lists + seen,
            )
        parts = _code(index, dimension)
        flops, lookups = count.pq_operations(vectors, dimension, lists, index.probes, parts)
        return QueryWork(
            flops + count.distance_flops(again, dimension),
            (lists + again) * whole + seen * parts,
            lists + seen,
            lookups=lookups * imbalance,
        )
    if index.kind == "hnsw":
        hops = graph.hops_of(vectors, index.ef_search)
        told = None if curve is None else evaluations_at(curve, index.ef_search)
        seen = graph.evaluations(vectors, index.M, index.ef_search) if told is None else told
        links = hops * 2.0 * index.M * index.memory.per_link
        return QueryWork(
            count.distance_flops(seen + again, dimension), seen * stored + again * whole + links, seen, hops=hops
        )
    hops = index.beam_hops
    return QueryWork(
        count.distance_flops(hops * index.degree, dimension), hops * 4096.0, hops * index.degree, hops=hops
    )


def _built_with(index: VectorIndex) -> tuple[int, int]:
    """Links of a node, and the beam with which its place in the graph is searched."""
    return (index.M, index.ef_construction) if index.kind == "hnsw" else (index.degree, 2 * index.degree)


def build_work(index: VectorIndex, vectors: Numbers, dimension: int, *, graph: count.GraphWork) -> Numbers:
    """FLOP of building an index: k-means on up to 256 vectors a list and the assignment of all of them, or for a graph the search
    for every vector's place with a beam of ``ef_construction``.

    Choosing among the links found, and a product quantiser's own k-means, are not counted.

    >>> from infersim.specs.library import load_vector_index
    >>> work = count.GraphWork(0.73, 5.0, 0.38, 0.907, 0.068, 1.17)
    >>> f"{float(build_work(load_vector_index('faiss-hnsw'), 1e6, 768, graph=work)):.1e}"
    '2.5e+12'
    """
    if index.kind == "flat":
        return np.zeros_like(np.asarray(vectors, dtype=float))
    if index.kind in ("ivf_flat", "ivf_pq"):
        lists = lists_of(index, vectors)
        train = np.minimum(256.0 * lists, vectors)
        return count.train_flops(dimension, lists, train) + count.distance_flops(vectors * lists, dimension)
    links, beam = _built_with(index)
    return count.distance_flops(vectors * graph.evaluations(vectors, links, beam), dimension)


@dataclass(frozen=True)
class SearchTime:
    """How long a query takes on hardware, and how many there can be. Seconds, queries per second, bytes.

    ``alone`` is a query that meets an idle machine; ``busy`` is what it takes of one thread (of a CPU) or of the device.
    """

    index: VectorIndex
    hardware: str
    threads: int
    alone: Numbers
    busy: Numbers
    queries_per_second: Numbers
    work: QueryWork
    footprint: Footprint
    build: Numbers
    """Seconds of building the index on all threads."""
    bound: str
    """What caps the queries: threads, memory bandwidth, compute, disk."""
    sources: tuple[str, ...]


def parameters_of(rates: SearchRates) -> SearchParameters:
    """The kernel parameters that rates hold."""
    return SearchParameters(**{field.name: getattr(rates, field.name) for field in fields(SearchParameters)})


def rates_for(
    accelerator: Accelerator, name: str | None = None
) -> tuple[SearchRates, SearchParameters, tuple[str, ...]]:
    """Rates of searching on a core of a CPU: those named, those measured on it, or those of a usual core with the caches and the
    bandwidth of this one's data sheet; and where they come from."""
    known = name or (accelerator.name if accelerator.name in files("search_rates") else USUAL_RATES)
    rates = load_search_rates(known)
    measured = name is not None or known == accelerator.name
    parameters = parameters_of(rates)
    origin = f"search rates {rates.name}: {'; '.join(source.ref for source in rates.sources)}"
    if measured:
        return rates, parameters, (origin,)
    parameters = replace(
        parameters,
        shared_cache=accelerator.l2_cache or parameters.shared_cache,
        memory=min(parameters.memory, accelerator.memory.bandwidth),
    )
    return (
        rates,
        parameters,
        (f"{accelerator.name} was not measured: {origin}, with its own cache (assumed)",),
    )


def search_time(
    index: VectorIndex,
    vectors: Numbers,
    dimension: int,
    hardware: str | Accelerator = "EPYC-9654",
    *,
    top_k: Numbers = 10,
    threads: int | None = None,
    batch: int = 1,
    selectivity: Numbers = 1.0,
    filtered: str = "after",
    curve: RecallCurve | None = None,
    rates: str | None = None,
) -> SearchTime:
    """Time and rate of queries of an index on a CPU or, for flat and inverted lists, on an accelerator. On a CPU a query has one
    thread to itself.

    ``filtered`` "before" searches exactly among the ``selectivity`` share of the vectors that pass; "after" finds k / selectivity
    candidates first. ``batch`` queries are handed over together: what a call costs is shared, and an accelerator reads flat vectors
    once for all of them. Raises SpecError for bad numbers, UnsupportedError for a graph on an accelerator, DoesNotFitError.

    >>> from infersim.specs.library import load_vector_index
    >>> found = search_time(load_vector_index("faiss-hnsw"), 1e6, 768, "EPYC-9654", threads=16)
    >>> bool(1e-4 < found.alone < 1e-3), found.bound
    (True, 'threads')
    """
    positive("vectors", vectors)
    positive("dimension", dimension)
    positive("top_k", top_k)
    positive("batch", batch)
    share("selectivity", selectivity)
    if filtered not in ("before", "after"):
        raise SpecError(f"is 'before' or 'after' the search, got {filtered!r}", field="filtered")
    accelerator = load_accelerator(hardware) if isinstance(hardware, str) else hardware
    footprint = index_footprint(index, vectors, dimension)
    if index.managed is None:
        _check_room(footprint, accelerator)
    looked = index
    if np.any(np.asarray(selectivity) < 1):
        looked, vectors = _filtered(index, vectors, top_k, selectivity, filtered)
    if index.rescore:
        looked = looked.model_copy(update={"rescore": index.rescore * float(np.max(top_k))})
    on = _on_cpu if accelerator.kind == "cpu" else _on_device
    return on(looked, vectors, dimension, accelerator, threads, batch, curve, rates, footprint)


def _check_room(footprint: Footprint, accelerator: Accelerator) -> None:
    room, needed = accelerator.memory.usable or accelerator.memory.capacity, float(np.max(footprint.memory))
    if needed > room:
        raise DoesNotFitError(
            f"the index needs {needed / 1e9:,.1f} GB of memory and {accelerator.name} has {room / 1e9:,.0f} GB; int8 or binary codes, "
            "ivf_pq or diskann need less",
            shortfall=needed - room,
        )


def _filtered(
    index: VectorIndex, vectors: Numbers, top_k: Numbers, selectivity: Numbers, filtered: str
) -> tuple[VectorIndex, Numbers]:
    """What is really searched: an exact scan of what passes, or the same index with a beam that holds enough candidates."""
    if filtered == "before":
        return index.model_copy(update={"kind": "flat"}), vectors * selectivity
    if index.kind in ("hnsw", "diskann"):
        beam = np.maximum(index.ef_search, candidates_to_fetch(top_k, selectivity))
        return index.model_copy(update={"ef_search": beam}), vectors
    return index, vectors


def _on_cpu(
    index: VectorIndex, vectors: Numbers, dimension: int, accelerator: Accelerator, threads: int | None, batch: int,
    curve: RecallCurve | None, named: str | None, footprint: Footprint,
) -> SearchTime:  # fmt: skip
    measured, parameters, sources = rates_for(accelerator, named)
    cores = accelerator.compute_units or 1
    used = threads or cores
    if used > cores:
        raise SpecError(f"{accelerator.name} has {cores} cores, not {used}", field="threads")
    graph = count.GraphWork(**measured.graph.model_dump())
    work = query_work(index, vectors, dimension, graph=graph, imbalance=measured.imbalance, curve=curve)
    alone = core_seconds(index, vectors, dimension, work, parameters, measured.private_cache)
    alone = alone + work.evaluations * index.evaluation
    per_query = alone - (1.0 - 1.0 / batch) * parameters.call
    size = vectors * count.vector_bytes(dimension, index.element_bytes)
    from_memory = work.moved * levels(size, measured.private_cache, parameters.shared_cache).memory
    occupied = per_query + index.request
    rate = queries_per_second(occupied, used, memory_bytes=from_memory, bandwidth=accelerator.memory.bandwidth)
    bound = "threads" if np.all(rate >= 0.999 * used / occupied) else "memory bandwidth"
    build = _build_seconds(index, vectors, dimension, graph, parameters, measured.private_cache) / used
    if index.kind == "diskann":
        alone = alone + work.hops * DISK_READ
        reads = DISK_READS_PER_SECOND / work.hops
        rate, bound = np.minimum(rate, reads), "disk" if np.all(reads < rate) else bound
        limits = f"{DISK_READ * 1e6:g} us each, {DISK_READS_PER_SECOND:,.0f} in a second"
        sources = (*sources, f"disk reads of 4 KiB: {limits} (assumed)")
    return SearchTime(
        index, accelerator.name, used, (alone + index.request)[()], occupied[()], rate, work, footprint, build, bound,
        (*sources, *_index_sources(index), *_curve_sources(curve)),
    )  # fmt: skip


def core_seconds(
    index: VectorIndex,
    vectors: Numbers,
    dimension: int,
    work: QueryWork,
    parameters: SearchParameters,
    private_cache: float,
) -> Numbers:
    """Seconds of one query on one core, by the kind of the index."""
    stored, whole = count.vector_bytes(dimension, index.element_bytes), count.vector_bytes(dimension)
    at = {"private_cache": private_cache, "parameters": parameters}
    size = vectors * stored
    if index.kind == "flat":
        seconds = flat_seconds(vectors, stored, **at)  # type: ignore[arg-type]
    elif index.kind in ("ivf_flat", "ivf_pq"):
        lists = lists_of(index, vectors)
        coded = _code(index, dimension) if index.kind == "ivf_pq" else 0.0
        centroids = lists + (count.PQ_CENTROIDS if coded else 0.0)
        seconds = ivf_seconds(
            vectors, coded or whole, centroid=whole, lists=centroids, probes=np.minimum(index.probes, lists),
            scanned=work.evaluations - lists, lookups=coded, **at,  # type: ignore[arg-type]
        )  # fmt: skip
    else:
        links = 2.0 * index.M * index.memory.per_link
        beam = index.ef_search if index.kind == "hnsw" else 2.0 * index.degree
        coded = stored if index.kind == "hnsw" else _code(index, dimension)
        seconds = graph_seconds(
            vectors, coded, links=links, ef=beam, hops=work.hops, evaluations=work.evaluations, **at,  # type: ignore[arg-type]
        )  # fmt: skip
    if index.rescore:
        far = levels(vectors * whole, private_cache, parameters.shared_cache)
        seconds = seconds + index.rescore * scattered_seconds(whole, far, parameters)
    return seconds + 0.0 * size


def _build_seconds(
    index: VectorIndex,
    vectors: Numbers,
    dimension: int,
    graph: count.GraphWork,
    parameters: SearchParameters,
    private_cache: float,
) -> Numbers:
    """Seconds of building on one core: a graph is searched for every vector's place, and links are chosen among what was found;
    k-means and assignment compute distances over centroids in the private cache, at twice the rate of single queries (measured: 26 to
    31 GFLOP/s on a core of 30 GB/s). Codes of a product quantiser are not counted."""
    if index.kind in ("hnsw", "diskann"):
        links, beam = _built_with(index)
        asked = index.model_copy(update={"ef_search": beam, "M": links, "kind": "hnsw", "rescore": 0.0})
        work = query_work(asked, vectors, dimension, graph=graph)
        return LINKING * vectors * core_seconds(asked, vectors, dimension, work, parameters, private_cache)
    return build_work(index, vectors, dimension, graph=graph) / parameters.near


def _on_device(
    index: VectorIndex, vectors: Numbers, dimension: int, accelerator: Accelerator, threads: int | None, batch: int,
    curve: RecallCurve | None, named: str | None, footprint: Footprint,
) -> SearchTime:  # fmt: skip
    if index.kind in ("hnsw", "diskann"):
        raise UnsupportedError(
            f"{index.kind} is not priced on {accelerator.name}; use flat, ivf_flat or ivf_pq there, or a CPU such as EPYC-9654"
        )
    if named is not None or threads is not None:
        raise SpecError(
            f"is of a CPU; {accelerator.name} is a {accelerator.kind}", field="rates" if named else "threads"
        )
    idle = count.GraphWork(0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    work = query_work(index, vectors, dimension, graph=idle)
    unit = {"int8": "int8", "fp16": "fp16"}.get(index.storage, "fp32")
    peaks = accelerator.peak_flops
    peak = peaks.get(unit) or peaks.get("fp32") or max(peaks.values()) / 16  # type: ignore[call-overload]
    once = index.kind == "flat"
    batch_seconds = roofline_seconds(
        work.flops,
        work.moved * (1.0 if once else batch),
        peak=peak,
        bandwidth=accelerator.memory.bandwidth,
        batch=batch,
    )
    alone = DEVICE_CALL + roofline_seconds(work.flops, work.moved, peak=peak, bandwidth=accelerator.memory.bandwidth)
    busy = (DEVICE_CALL + batch_seconds) / batch
    bound = "compute" if np.all(np.asarray(batch) * work.flops / peak >= batch_seconds * 0.999) else "memory bandwidth"
    build = build_work(index, vectors, dimension, graph=idle) / peak
    bounds = (
        f"{accelerator.name}: data sheet, no efficiency enters (a bound)",
        f"a call of {DEVICE_CALL * 1e6:g} us (assumed)",
    )
    sources = (*bounds, *_index_sources(index), *_curve_sources(curve))
    return SearchTime(
        index, accelerator.name, 1, (alone + index.request)[()], (busy + index.request)[()], (1.0 / busy)[()], work, footprint, build,
        bound, sources,
    )  # fmt: skip


def _index_sources(index: VectorIndex) -> tuple[str, ...]:
    return tuple(f"{index.name}: {', '.join(source.of)} {source.status} ({source.ref})" for source in index.sources)


def _curve_sources(curve: RecallCurve | None) -> tuple[str, ...]:
    return () if curve is None else tuple(f"recall of {curve.name}: {source.ref}" for source in curve.sources)


def with_replicas(found: SearchTime, replicas: int) -> SearchTime:
    """The same index on ``replicas`` hosts that share the queries."""
    return replace(found, queries_per_second=found.queries_per_second * replicas)
