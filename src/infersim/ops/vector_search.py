"""What an index of vectors holds and what a query does to it: bytes, distance evaluations, FLOP. No time enters here.

N vectors of d elements of b bytes. A distance evaluation is 2 d FLOP, one multiply-add per element.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.errors import SpecError
from infersim.ops.base import Numbers

ID_BYTES = 8.0
"""An identifier beside each vector in an inverted list: 64 bits in FAISS."""

LINK_BYTES = 4.0
"""A link of an HNSW graph: 32 bits in FAISS and hnswlib."""

PQ_CENTROIDS = 256.0
"""Centroids of a product quantiser's part, named by one byte."""


def vector_bytes(dimension: Numbers, element: Numbers = 4.0) -> Numbers:
    """Bytes of one vector: d b, in whole bytes.

    >>> float(vector_bytes(768)), float(vector_bytes(1024, 1 / 8))
    (3072.0, 128.0)
    """
    return np.ceil(np.asarray(dimension) * element)


def distance_flops(evaluations: Numbers, dimension: Numbers) -> Numbers:
    """FLOP of distance evaluations: 2 d each.

    >>> distance_flops(1e6, 768)
    1536000000.0
    """
    return 2.0 * evaluations * dimension


def flat_bytes(vectors: Numbers, dimension: Numbers, element: Numbers = 4.0) -> Numbers:
    """Bytes of a flat index: N d b. Identifiers are the places.

    >>> float(flat_bytes(1e6, 768))
    3072000000.0
    """
    return vectors * vector_bytes(dimension, element)


def ivf_bytes(vectors: Numbers, dimension: Numbers, lists: Numbers, code: Numbers | None = None) -> Numbers:
    """Bytes of inverted lists: N (code + 8), and the centroids in fp32. ``code`` is d x 4 where nothing is quantised.

    Unused room at the ends of growing lists, and a quantiser's codebook, are not counted.

    Source: FAISS wiki, Guidelines to choose an index.

    >>> float(ivf_bytes(1e6, 768, 4096)) / 1e9
    3.0926
    """
    per_vector = vector_bytes(dimension) if code is None else code
    return vectors * (per_vector + ID_BYTES) + lists * vector_bytes(dimension)


def hnsw_bytes(
    vectors: Numbers, dimension: Numbers, M: Numbers, element: Numbers = 4.0, *, upper: bool = False
) -> Numbers:
    """Bytes of an HNSW graph and its vectors: N (d b + 8 M), 2 M links of 4 bytes on the ground level.

    ``upper`` adds the levels above, M links for each of N / (M - 1) further places: a sum of powers of 1 / M.

    Sources: FAISS wiki, Guidelines to choose an index (4 d + 8 M); Malkov, Yashunin 2016, arXiv:1603.09320, section 4.2.3.

    >>> float(hnsw_bytes(1, 768, 32)), float(hnsw_bytes(1e6, 768, 32)) / 1e9
    (3328.0, 3.328)
    """
    links = 2.0 * M * LINK_BYTES + (M * LINK_BYTES / (M - 1.0) if upper else 0.0)
    return vectors * (vector_bytes(dimension, element) + links)


def headroom_bytes(
    vectors: Numbers, dimension: Numbers, *, per_vector: Numbers, factor: Numbers, element: Numbers = 4.0
) -> Numbers:
    """Bytes as engines' sizing guides have it: N (d b + overhead) x factor.

    Source: ScyllaDB Cloud, Vector Search sizing: N (d b + 16 m) x 1.2.

    >>> float(headroom_bytes(1e6, 768, per_vector=16 * 16, factor=1.2)) / 1e9
    3.9936
    """
    return vectors * (vector_bytes(dimension, element) + per_vector) * factor


def paged_bytes(vectors: Numbers, item: Numbers, *, page: float = 8192.0, header: float = 24.0) -> Numbers:
    """Bytes of items in pages that none may straddle: ceil(N / floor((page - header) / item)) pages.

    The index of a row store: PostgreSQL has pages of 8 KiB with a header of 24 bytes. Links that lie in items of their own are
    not counted. Raises SpecError where an item is larger than a page.

    >>> float(paged_bytes(550_000, 1024 * 4)) / 2**20  # pgvector, one vector of 4 KiB a page
    4296.9
    """
    fit = np.floor((page - header) / np.asarray(item))
    if np.any(fit < 1):
        raise SpecError(f"an item of {np.max(item):g} bytes does not fit a page of {page:g}", field="dimension")
    return np.ceil(vectors / fit) * page


def diskann_bytes(vectors: Numbers, dimension: Numbers, degree: Numbers, code: Numbers) -> tuple[Numbers, Numbers]:
    """(memory, disk) bytes of DiskANN: codes in memory; whole vectors in fp32 with ``degree`` links of 4 bytes on disk.

    Disk sectors are not rounded. Source: Subramanya et al., DiskANN, NeurIPS 2019.

    >>> [float(part) / 1e9 for part in diskann_bytes(1e9, 128, 64, 32)]
    [32.0, 768.0]
    """
    return vectors * code, vectors * (vector_bytes(dimension) + LINK_BYTES * degree)


def scanned_vectors(vectors: Numbers, lists: Numbers, probes: Numbers, imbalance: Numbers = 1.0) -> Numbers:
    """Vectors that a query looks at in the ``probes`` nearest of ``lists`` inverted lists: N nprobe / nlist x imbalance.

    ``imbalance`` is 1 for lists of one size; larger lists are probed more often. Never more than all vectors.

    >>> float(scanned_vectors(1e6, 4096, 16))
    3906.25
    """
    return np.minimum(vectors * (np.minimum(probes, lists) / lists) * imbalance, vectors)


def ivf_flops(vectors: Numbers, dimension: Numbers, lists: Numbers, probes: Numbers) -> Numbers:
    """FLOP of a query of an unquantised IVF index: 2 d (nlist + N nprobe / nlist).

    >>> float(ivf_flops(1e6, 768, 4096, 16)) / 1e6
    12.3
    """
    return distance_flops(lists + scanned_vectors(vectors, lists, probes), dimension)


def pq_operations(
    vectors: Numbers, dimension: Numbers, lists: Numbers, probes: Numbers, parts: Numbers
) -> tuple[Numbers, Numbers]:
    """(FLOP, table lookups) of a query of an IVF index with product quantisation in ``parts`` parts.

    FLOP: 2 nlist d for the coarse quantiser and 2 x 256 d for one table of distances, which m parts of d / m elements share.
    Lookups: m for each vector scanned. Tables made anew for each list, as residuals by L2 need, are not counted.

    Source: Jegou, Douze, Schmid 2011, Product quantization for nearest neighbor search.

    >>> [float(part) for part in pq_operations(1e6, 128, 1024, 8, 16)]
    [327680.0, 125000.0]
    """
    flops = distance_flops(lists + PQ_CENTROIDS, dimension)
    return flops, scanned_vectors(vectors, lists, probes) * parts


def train_flops(dimension: Numbers, lists: Numbers, train: Numbers, iterations: Numbers = 10.0) -> Numbers:
    """FLOP of k-means for the lists: 2 x iterations x n_train x nlist x d, the assignments alone.

    >>> float(train_flops(768, 4096, 256 * 4096, 10)) / 1e12
    66.0
    """
    return 2.0 * iterations * train * lists * dimension


def usual_lists(vectors: Numbers, factor: float = 4.0) -> Numbers:
    """Lists that are usual for N vectors: ``factor`` x sqrt(N), with 4 to 16 as the factor.

    Source: FAISS wiki, Guidelines to choose an index.

    >>> float(usual_lists(1e6))
    4000.0
    """
    return np.maximum(np.ceil(factor * np.sqrt(vectors)), 1.0)


@dataclass(frozen=True)
class GraphWork:
    """How much of an HNSW graph a query sees, as counted on graphs of one kind of data: fitted counts, no time.

    hops H = ef + ``entry`` ln N; evaluations g / (1 + g / (``reach`` N)) with g = ``scale`` M^``links`` H^``hops`` N^``size``: each hop
    follows its links, but ever more of what they lead to was seen before. Never more than the 2 M links of every hop, nor than N.

    >>> float(GraphWork(0.73, 5.0, 0.38, 0.907, 0.068, 1.17).evaluations(1e6, 16, 64).round())
    1818.0
    """

    entry: float
    scale: float
    links: float
    hops: float
    size: float
    reach: float

    def hops_of(self, vectors: Numbers, ef: Numbers) -> Numbers:
        """Vertices whose links are followed."""
        return ef + self.entry * np.log(vectors)

    def evaluations(self, vectors: Numbers, M: Numbers, ef: Numbers) -> Numbers:
        """Distance evaluations of one query."""
        hops = self.hops_of(vectors, ef)
        free = self.scale * np.power(M, self.links) * np.power(hops, self.hops) * np.power(vectors, self.size)
        found = free / (1.0 + free / (self.reach * np.asarray(vectors)))
        return np.minimum(np.minimum(found, hops * 2.0 * M), vectors)
