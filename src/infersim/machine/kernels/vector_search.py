"""Time of one query of a vector index on one core of a CPU, and the limit that memory sets to many.

What dominates was found by measuring: vectors stream from the level of memory that holds the whole index (private cache,
shared cache, memory), not from where a single one may lie; an inverted list costs a little beside its vectors; a graph's
vectors are read in no order, so each waits for its level once; and a queue of candidates is searched at every hop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, parameter

EDGE = 4.0
"""How sharply the private cache ends: a scan over more than it holds finds next to nothing in it."""

SHARED_EDGE = 2.0
"""How sharply the shared cache ends: other cores' data and hashing blur it."""


@dataclass(frozen=True)
class SearchParameters:
    """What a data sheet does not say about searching on a core; the defaults are those of one measured server core."""

    near: float = parameter(
        5.7e10, 2e9, 1e12, "rate of distances over vectors in the private cache", unit="B/s", log=True
    )
    shared: float = parameter(2.7e10, 1e9, 5e11, "the same from the shared cache", unit="B/s", log=True)
    memory: float = parameter(1.1e10, 5e8, 3e11, "the same from memory", unit="B/s", log=True)
    shared_cache: float = parameter(1.2e8, 4e6, 2e9, "share of the last-level cache that is there", unit="B", log=True)
    call: float = parameter(3e-6, 1e-7, 1e-2, "a call without any vector", unit="s", log=True)
    list: float = parameter(2.4e-7, 1e-9, 1e-5, "an inverted list beside its vectors", unit="s", log=True)
    scanned: float = parameter(8e-10, 1e-11, 1e-6, "a vector of an inverted list beside its bytes", unit="s", log=True)
    evaluation: float = parameter(
        1.9e-8, 1e-9, 1e-4, "a distance evaluation in a graph beside its bytes", unit="s", log=True
    )
    scattered: float = parameter(
        2.0e10, 1e9, 5e11, "rate of a graph's vectors beyond the private cache, read in no order", unit="B/s", log=True
    )
    memory_wait: float = parameter(1.2e-7, 1e-9, 1e-5, "waiting for memory, each vector of a graph", unit="s", log=True)
    candidate: float = parameter(8e-10, 1e-11, 1e-6, "searching a queue, per hop and place in it", unit="s", log=True)
    lookup: float = parameter(4e-10, 1e-11, 1e-7, "a lookup in a table of a product quantiser", unit="s", log=True)


@dataclass(frozen=True)
class Levels:
    """Shares of an index that are read from each level of memory."""

    private: Numbers
    shared: Numbers
    memory: Numbers


def levels(working_set: Numbers, private_cache: float, shared_cache: float) -> Levels:
    """Where the bytes of an index of ``working_set`` bytes come from when it is read again and again.

    >>> found = levels(1e6, 2 * 2**20, 100e6)
    >>> round(float(found.private), 2), round(float(levels(1e9, 2 * 2**20, 100e6).memory), 2)
    (0.95, 0.99)
    """
    size = np.maximum(np.asarray(working_set, dtype=float), 1.0)
    beyond = 1.0 / (1.0 + (private_cache / size) ** EDGE)
    memory = beyond / (1.0 + (shared_cache / size) ** SHARED_EDGE)
    return Levels(1.0 - beyond, beyond - memory, memory)


def byte_seconds(working_set: Numbers, private_cache: float, parameters: SearchParameters) -> Numbers:
    """Seconds of a byte of vectors whose distances a core computes, one after the other.

    >>> round(1 / float(byte_seconds(1e10, 2**21, SearchParameters())) / 1e9)  # all from memory
    11
    """
    p, found = parameters, levels(working_set, private_cache, parameters.shared_cache)
    return found.private / p.near + found.shared / p.shared + found.memory / p.memory


def flat_seconds(vectors: Numbers, stored: Numbers, *, private_cache: float, parameters: SearchParameters) -> Numbers:
    """Seconds of one query against every vector of ``stored`` bytes, on one core.

    >>> round(float(flat_seconds(1e5, 768 * 4, private_cache=2**21, parameters=SearchParameters())) * 1e3)
    26
    """
    return parameters.call + vectors * stored * byte_seconds(vectors * stored, private_cache, parameters)


def ivf_seconds(
    vectors: Numbers,
    stored: Numbers,
    *,
    centroid: Numbers,
    lists: Numbers,
    probes: Numbers,
    scanned: Numbers,
    lookups: Numbers = 0.0,
    private_cache: float,
    parameters: SearchParameters,
) -> Numbers:
    """Seconds of one query of inverted lists, on one core: all centroids, then ``scanned`` vectors of ``stored`` bytes in
    ``probes`` lists, and ``lookups`` of a product quantiser for each.

    >>> at = dict(centroid=3072, lists=1024, private_cache=2**21, parameters=SearchParameters())
    >>> one, ten = (float(ivf_seconds(1e6, 3072, probes=n, scanned=n * 1e6 / 1024, **at)) for n in (1, 10))
    >>> 0.3e-3 < one < 0.5e-3 < ten < 4e-3
    True
    """
    p = parameters
    coarse = lists * centroid * byte_seconds(lists * centroid, private_cache, p)
    each = (
        p.scanned
        + lookups * p.lookup
        + np.where(np.asarray(lookups) > 0, 0.0, 1.0) * stored * byte_seconds(vectors * stored, private_cache, p)
    )
    return p.call + coarse + probes * p.list + scanned * each


def graph_seconds(
    vectors: Numbers,
    stored: Numbers,
    *,
    links: Numbers,
    ef: Numbers,
    hops: Numbers,
    evaluations: Numbers,
    private_cache: float,
    parameters: SearchParameters,
) -> Numbers:
    """Seconds of one query of an HNSW graph, on one core: every evaluation reads a vector of ``stored`` bytes from wherever the
    graph lies, every hop searches a queue of ``ef`` candidates. ``links`` bytes a vector count towards what the caches hold.

    >>> float(graph_seconds(1e6, 512, links=256, ef=64, hops=74, evaluations=1800, private_cache=2**21,
    ...                     parameters=SearchParameters())) * 1e3
    0.298
    """
    p, size = parameters, vectors * (stored + links)
    found = levels(size, private_cache, p.shared_cache)
    return p.call + evaluations * scattered_seconds(stored, found, p) + hops * ef * p.candidate


def scattered_seconds(stored: Numbers, found: Levels, parameters: SearchParameters) -> Numbers:
    """Seconds of the distance to one vector of ``stored`` bytes that nothing before it led to: prefetching starts anew with each,
    and what comes from memory is waited for.

    >>> close, far = (scattered_seconds(512, at, SearchParameters()) for at in (Levels(1, 0, 0), Levels(0, 0, 1)))
    >>> round(close * 1e9), round(far * 1e9)
    (28, 165)
    """
    p = parameters
    beyond = found.shared + found.memory
    return p.evaluation + stored * (found.private / p.near + beyond / p.scattered) + found.memory * p.memory_wait


def queries_per_second(
    seconds: Numbers, threads: Numbers, *, memory_bytes: Numbers = 0.0, bandwidth: float = float("inf")
) -> Numbers:
    """Queries that ``threads`` answer in a second, each alone in ``seconds``, up to what memory delivers:
    min(threads / seconds, bandwidth / bytes a query reads from memory).

    >>> float(queries_per_second(1e-3, 64)), float(queries_per_second(1e-3, 64, memory_bytes=20e6, bandwidth=460.8e9))
    (64000.0, 23040.0)
    """
    free = np.asarray(threads) / seconds
    limit = np.divide(
        bandwidth, memory_bytes, out=np.full(np.shape(memory_bytes), np.inf), where=np.asarray(memory_bytes) > 0
    )
    return np.minimum(free, limit)[()]


def roofline_seconds(flops: Numbers, moved: Numbers, *, peak: float, bandwidth: float, batch: Numbers = 1.0) -> Numbers:
    """Least seconds of a batch of queries that one pass over the vectors answers: max(batch FLOP / F, bytes / W).

    >>> n, d = 1e6, 768
    >>> one = dict(flops=2 * n * d, moved=n * d * 4)
    >>> cpu, h100 = roofline_seconds(**one, peak=7.37e12, bandwidth=200e9), roofline_seconds(**one, peak=66.9e12, bandwidth=3.35e12)
    >>> round(float(cpu) * 1e3, 1), round(float(h100) * 1e3, 2)
    (15.4, 0.92)
    """
    return np.maximum(np.asarray(batch) * flops / peak, moved / bandwidth)
