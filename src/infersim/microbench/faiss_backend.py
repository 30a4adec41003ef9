"""FAISS on one thread of a CPU: indexes of made-up vectors, searched by one query at a time.

The vectors lie near a surface of 24 dimensions, as embeddings do: a Gaussian of 24 elements, projected to d, with a fifth as much
noise, normalised. Times hardly depend on it; how many vectors a graph looks at does.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from infersim.errors import UnsupportedError
from infersim.microbench.backends import Prepared
from infersim.microbench.cases import Case, VectorSearch

LATENT = 24
NOISE = 0.3
QUERIES = 400
COUNTED, JUDGED = 200, 50
"""Queries whose distance evaluations are counted, and whose recall is taken."""

EF_CONSTRUCTION = 40
TRAINED = 64
"""Vectors a list that k-means sees."""


class FaissBackend:
    """Builds an index once and keeps it for further rounds and knobs."""

    name, device = "faiss", "cpu"
    formats: tuple[str, ...] = ("fp32",)

    def __init__(self) -> None:
        try:
            import faiss
        except ImportError as error:
            raise UnsupportedError("FAISS is not installed; pip install 'infersim[retrieval]'") from error
        self.faiss, self.version = faiss, str(faiss.__version__)
        self._threads = faiss.omp_get_max_threads()
        self._data: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._indexes: dict[tuple[str, int, int, int], Any] = {}
        self._truth: dict[tuple[int, int, int], Any] = {}
        self._counts: dict[str, dict[str, float]] = {}
        self._next = 0
        faiss.omp_set_num_threads(1)

    def time(self, prepared: Prepared, calls: int) -> float:
        """Time of the thread itself: what other processes take of its core does not count, what they take of its caches does."""
        call, first = prepared.call, self._next
        self._next += calls
        begun = time.thread_time()
        for number in range(first, first + calls):
            call(number)
        return time.thread_time() - begun

    def least_calls(self, prepared: Prepared) -> int:
        return 1

    def prepare(self, case: Case) -> Prepared:
        if not isinstance(case, VectorSearch):
            raise UnsupportedError(f"FAISS does not run {case.key}")
        _, queries = self._vectors(case.vectors, case.dimension)
        index, top_k = self._index(case), case.top_k
        self._turn(index, case)
        if case.key not in self._counts:
            self._counts[case.key] = self._counted(case, index, queries)
            self._turn(index, case)
        return Prepared(lambda number: index.search(queries[number % QUERIES : number % QUERIES + 1], top_k), QUERIES,
                        counts=self._counts[case.key])  # fmt: skip

    def _vectors(self, count: int, dimension: int) -> tuple[Any, Any]:
        if (count, dimension) not in self._data:
            random = np.random.default_rng(0)
            projection = random.standard_normal((LATENT, dimension), dtype=np.float32) / np.float32(LATENT**0.5)
            made = random.standard_normal((count + QUERIES, LATENT), dtype=np.float32) @ projection
            made += np.float32(NOISE) * random.standard_normal(made.shape, dtype=np.float32)
            made /= np.linalg.norm(made, axis=1, keepdims=True)
            self._data[count, dimension] = (made[:count], made[count:])
        return self._data[count, dimension]

    def _index(self, case: VectorSearch) -> Any:
        key = (case.index, case.vectors, case.dimension, case.structure)
        if key not in self._indexes:
            faiss, (vectors, _) = self.faiss, self._vectors(case.vectors, case.dimension)
            faiss.omp_set_num_threads(self._threads)
            try:
                self._indexes[key] = self._built(case, vectors)
            finally:
                faiss.omp_set_num_threads(1)
        return self._indexes[key]

    def _built(self, case: VectorSearch, vectors: Any) -> Any:
        faiss, d = self.faiss, case.dimension
        if case.index == "hnsw":
            index = faiss.IndexHNSWFlat(d, case.structure)
            index.hnsw.efConstruction = EF_CONSTRUCTION
        elif case.index == "flat":
            index = faiss.IndexFlatL2(d)
        else:
            coarse = faiss.IndexFlatL2(d)
            pq = case.index == "ivf_pq"
            index = (
                faiss.IndexIVFPQ(coarse, d, case.structure, d // 8, 8)
                if pq
                else faiss.IndexIVFFlat(coarse, d, case.structure)
            )
            index.cp.niter, index.cp.max_points_per_centroid = 6, TRAINED
            if pq:
                index.pq.cp.niter, index.pq.cp.max_points_per_centroid = 4, TRAINED
            index.train(vectors)
        index.add(vectors)
        return index

    def _turn(self, index: Any, case: VectorSearch) -> None:
        if case.index == "hnsw":
            index.hnsw.efSearch = case.knob
        elif case.index != "flat":
            index.nprobe = case.knob

    def _counted(self, case: VectorSearch, index: Any, queries: Any) -> dict[str, float]:
        """Distance evaluations and hops of a query, and recall against an exact search, as means over the queries."""
        if case.index == "flat":
            return {"evaluations": float(case.vectors), "recall": 1.0}
        kept: Any = self.faiss.cvar
        stats = kept.hnsw_stats if case.index == "hnsw" else kept.indexIVF_stats
        stats.reset()
        _, found = index.search(queries[:COUNTED], case.top_k)
        counts = {"evaluations": stats.ndis / COUNTED}
        if case.index == "hnsw":
            counts["hops"] = stats.nhops / COUNTED
        truth = self._exact(case, queries)
        hits = sum(
            len(set(one) & set(other)) for one, other in zip(found[:JUDGED].tolist(), truth.tolist(), strict=True)
        )
        return counts | {"recall": hits / truth.size}

    def _exact(self, case: VectorSearch, queries: Any) -> Any:
        key = (case.vectors, case.dimension, case.top_k)
        if key not in self._truth:
            flat = self._index(VectorSearch("flat", case.vectors, case.dimension))
            self._truth[key] = flat.search(queries[:JUDGED], case.top_k)[1]
        return self._truth[key]
