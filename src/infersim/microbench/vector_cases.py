"""Which vector searches are measured to calibrate, and which others only to judge. No size or parameter is in both."""

from __future__ import annotations

from typing import Literal

from infersim.microbench.cases import SetName, VectorSearch

Graph = tuple[int, int, int, tuple[int, ...]]
"""Vectors, dimension, lists or M, knobs."""

BEAMS = (16, 64, 256)
FLAT: dict[SetName, tuple[tuple[int, int], ...]] = {
    "tiny": ((1000, 32), (4000, 32), (1000, 128)),
    "quick": ((2000, 64), (8000, 64), (50_000, 64), (4000, 384), (16_000, 384), (40_000, 384), (100_000, 384), (160_000, 128),
              (10_000, 768), (300_000, 64)),
}  # fmt: skip
LISTS: dict[SetName, tuple[Graph, ...]] = {
    "tiny": ((4000, 32, 16, (1, 4)), (1000, 128, 8, (2,))),
    "quick": ((8000, 64, 64, (1, 8, 64)), (50_000, 64, 256, (1, 8, 64)), (16_000, 384, 128, (1, 8, 64)),
              (100_000, 384, 256, (1, 8, 64)), (160_000, 128, 512, (1, 8, 64)), (10_000, 768, 64, (1, 8))),
}  # fmt: skip
CODES: dict[SetName, tuple[Graph, ...]] = {
    "tiny": ((4000, 32, 16, (4,)),),
    "quick": ((50_000, 64, 256, (8, 64)), (100_000, 384, 256, (8, 64))),
}
GRAPHS: dict[SetName, tuple[Graph, ...]] = {
    "tiny": ((1000, 32, 8, (16, 32)), (4000, 32, 8, (16, 32))),
    "quick": ((2000, 64, 16, BEAMS), (8000, 64, 32, BEAMS), (50_000, 64, 16, BEAMS), (4000, 384, 16, BEAMS), (16_000, 384, 32, BEAMS),
              (28_000, 384, 16, BEAMS), (10_000, 768, 16, BEAMS)),
}  # fmt: skip
MORE_GRAPHS: tuple[Graph, ...] = ((160_000, 128, 16, BEAMS), (100_000, 384, 32, BEAMS))

Kind = Literal["flat", "ivf_flat", "ivf_pq", "hnsw"]


def calibrating(which: SetName) -> tuple[VectorSearch, ...]:
    """The cases of ``infersim bench --backend faiss``; those of one index stand together.

    >>> len(calibrating("tiny")), len(calibrating("quick"))
    (11, 52)
    """
    base: SetName = "tiny" if which == "tiny" else "quick"
    found = [VectorSearch("flat", n, d) for n, d in FLAT[base]]
    graphs = (*GRAPHS[base], *(MORE_GRAPHS if which == "full" else ()))
    for kind, several in (("ivf_flat", LISTS[base]), ("ivf_pq", CODES[base]), ("hnsw", graphs)):
        found += _cases(kind, several)  # type: ignore[arg-type]
    return tuple(found)


def judging() -> tuple[VectorSearch, ...]:
    """Cases that no calibration sees: other numbers of vectors, dimensions, lists, links, probes and beams.

    >>> {kind: sum(case.index == kind for case in judging()) for kind in ("flat", "ivf_flat", "hnsw")}
    {'flat': 12, 'ivf_flat': 13, 'hnsw': 14}
    """
    sizes = ((5000, 96), (25_000, 96), (100_000, 96), (6000, 256), (30_000, 256), (80_000, 256), (12_000, 512), (60_000, 512),
             (3000, 1024), (20_000, 1024), (200_000, 192), (15_000, 48))  # fmt: skip
    found = [VectorSearch("flat", n, d) for n, d in sizes]
    found += _cases("ivf_flat", (
        (25_000, 96, 100, (2, 20)), (100_000, 96, 316, (4, 40)), (30_000, 256, 200, (3, 24)), (80_000, 256, 400, (6, 48)),
        (60_000, 512, 150, (2, 16)), (20_000, 1024, 96, (2, 12)), (200_000, 192, 450, (12,)),
    ))  # fmt: skip
    found += _cases("hnsw", (
        (5000, 96, 12, (24, 100)), (25_000, 96, 24, (40, 160)), (70_000, 96, 14, (24, 100)), (6000, 256, 20, (40, 160)),
        (30_000, 256, 20, (24, 100)), (12_000, 512, 24, (40, 160)), (3000, 1024, 12, (24, 100)),
    ))  # fmt: skip
    return tuple(found)


def _cases(kind: Kind, several: tuple[Graph, ...]) -> list[VectorSearch]:
    return [VectorSearch(kind, n, d, structure, knob) for n, d, structure, knobs in several for knob in knobs]
