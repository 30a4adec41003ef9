"""What searching vectors needs to be told: indexes with their engine's habits, recall curves, rates measured on a machine.

Recall is data. A curve holds what somebody measured on one set of vectors; nothing here derives it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from infersim.specs.quantity import Bandwidth, Bytes, Money, Seconds, Source, Spec

IndexKind = Literal["flat", "ivf_flat", "ivf_pq", "hnsw", "diskann"]
Storage = Literal["fp32", "fp16", "int8", "binary"]
STORAGE_BYTES: dict[str, float] = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "binary": 1 / 8}
"""Bytes of an element as it is searched."""

Count = Annotated[int, Field(ge=1, le=10**12)]
Share = Annotated[float, Field(gt=0, le=1)]


class MemoryRule(Spec):
    """How an engine's memory exceeds the arithmetic: N (d b + ``per_vector`` + links) x ``factor``, or whole ``page``s.

    With a ``page``, no item of a vector and ``per_vector`` bytes straddles two of them.
    """

    per_vector: Annotated[float, Field(ge=0)] = 0.0
    """Bytes beside each vector: identifiers, payload headers."""
    per_link: Annotated[float, Field(ge=0)] = 4.0
    """Bytes of a link of a graph, of which each vector has 2 M."""
    factor: Annotated[float, Field(ge=1)] = 1.0
    """Headroom on all of it."""
    page: Bytes | None = None
    """Bytes of a page that no item straddles; None: no pages."""
    page_header: Annotated[float, Field(ge=0)] = 24.0
    """Bytes of a page's header."""


class ManagedPrice(Spec):
    """What a managed service charges; a part that is left out is not charged.

    ``read_unit_bytes`` says how many bytes of the searched set one read unit stands for, ``least_read_units`` the least of a query.
    """

    storage_gb_month: Money | None = None
    """Of a GB kept for a month."""
    million_read_units: Money | None = None
    """Of a million read units."""
    million_write_units: Money | None = None
    """Of a million write units."""
    read_unit_bytes: Bytes | None = None
    """Bytes of the searched set that a read unit stands for."""
    write_unit_bytes: Bytes | None = None
    """Bytes of a write unit."""
    least_read_units: Annotated[float, Field(ge=0)] = 0.0
    """Read units of a query, at least."""
    least_per_month: Money | None = None
    """Charged in a month at least."""
    unit_hour: Money | None = None
    """USD of a unit of capacity for an hour, where capacity is what is paid for ..."""
    unit_memory: Bytes | None = None
    """... each of which holds this much of the index ..."""
    least_units: Annotated[float, Field(ge=0)] = 0.0
    """... and of which there are this many at least."""
    region: str = ""
    """That prices hold in."""
    date: str = ""
    """Of the price."""


class VectorIndex(Spec):
    """A vector index under an engine: its kind, its parameters by the engine's defaults, and what the engine adds.

    ``request`` is spent on every query beside the search: parsing, planning, the network stack of a server. ``evaluation`` is what an
    engine adds to each distance evaluation, such as pinning a page of a row store. ``probes`` and ``ef_search`` are the knobs of recall.
    """

    name: str
    """Of the index."""
    aliases: tuple[str, ...] = ()
    """Other names."""
    engine: str
    """Library or service."""
    kind: IndexKind
    """How vectors are laid out."""
    storage: Storage = "fp32"
    """Format of an element as it is searched."""
    M: Annotated[int, Field(ge=2, le=1024)] = 16
    """Links of a graph's vertex, 2 M on the ground level."""
    ef_construction: Count = 100
    """Beam of building a graph."""
    ef_search: Count = 64
    """Beam of a query in a graph."""
    lists: Count | None = None
    """Inverted lists; None: the power of two next to 4 sqrt(N)."""
    probes: Count = 16
    """Inverted lists that a query looks at."""
    code_bytes: Count | None = None
    """Bytes of a product quantiser's code; None: d / 8."""
    degree: Count = 64
    """Links of a vertex of DiskANN."""
    beam_hops: Annotated[float, Field(gt=0)] = 20.0
    """Reads of 4 KiB that follow one another in a query of DiskANN."""
    rescore: Annotated[float, Field(ge=0)] = 0.0
    """Candidates per result whose whole vectors are compared again, where codes are searched; 0: none."""
    memory: MemoryRule = MemoryRule()
    """How the engine's memory exceeds the arithmetic."""
    request: Seconds = 0.0
    """Spent on every query beside the search."""
    evaluation: Seconds = 0.0
    """Added to each distance evaluation."""
    managed: ManagedPrice | None = None
    """Prices of a managed service."""
    notes: str = ""
    """For readers."""
    sources: tuple[Source, ...] = ()
    """What the figures rest on."""

    @model_validator(mode="after")
    def _goes_together(self) -> VectorIndex:
        if self.ef_construction < self.M and self.kind == "hnsw":
            raise ValueError(
                f"ef_construction {self.ef_construction} is below M {self.M}: a graph's beam must hold its links"
            )
        if self.lists is not None and self.probes > self.lists:
            raise ValueError(f"probes {self.probes} are more than the {self.lists} lists there are")
        return self

    @property
    def element_bytes(self) -> float:
        """Bytes of an element as it is searched."""
        return STORAGE_BYTES[self.storage]


class CurvePoint(Spec):
    """One measured point: the knob (``ef_search`` or ``probes``), the recall, and what else was measured beside it."""

    knob: Annotated[float, Field(gt=0)]
    """ef_search or probes."""
    recall: Annotated[float, Field(ge=0, le=1)]
    """Share of the true neighbours found."""
    evaluations: Annotated[float, Field(gt=0)] | None = None
    """Distance evaluations of a query."""
    latency: Seconds | None = None
    """Of a query."""
    queries_per_second: Annotated[float, Field(gt=0)] | None = None
    """As measured."""


class RecallCurve(Spec):
    """Recall over the knob of one index on one set of vectors, as somebody measured it."""

    name: str
    """Of the curve."""
    kind: IndexKind
    """Kind of the index."""
    engine: str
    """Library or service."""
    data: str
    """Data set."""
    vectors: Count
    """Of the data set."""
    dimension: Count
    """Elements of a vector."""
    M: Annotated[int, Field(ge=2)] | None = None
    """Of the graph."""
    ef_construction: Count | None = None
    """Of the graph."""
    lists: Count | None = None
    """Inverted lists."""
    top_k: Count = 10
    """Neighbours asked for."""
    build: Seconds | None = None
    """Time to build."""
    disk: Bytes | None = None
    """Bytes on disk."""
    points: Annotated[tuple[CurvePoint, ...], Field(min_length=1)]
    """Measured points, by rising knob."""
    date: str = ""
    """Of the measurement."""
    notes: str = ""
    """For readers."""
    sources: tuple[Source, ...] = ()
    """What it rests on."""

    @model_validator(mode="after")
    def _rises(self) -> RecallCurve:
        for before, after in zip(self.points, self.points[1:], strict=False):
            if after.knob <= before.knob:
                raise ValueError(f"points must be in the order of the knob, got {after.knob:g} after {before.knob:g}")
        return self


class GraphCounts(Spec):
    """The fitted counts of ``infersim.ops.vector_search.GraphWork``."""

    entry: float
    scale: float
    links: float
    hops: float
    size: float
    reach: float


class SearchRates(Spec):
    """How fast one core of a machine searches under one library, fitted to ``infersim bench``: see ``machine.kernels.vector_search``."""

    name: str
    device: str
    engine: str
    version: str = ""
    date: str = ""
    private_cache: Bytes
    near: Bandwidth
    shared: Bandwidth
    memory: Bandwidth
    shared_cache: Bytes
    call: Seconds
    list: Seconds
    scanned: Seconds
    evaluation: Seconds
    scattered: Bandwidth
    memory_wait: Seconds
    candidate: Seconds
    lookup: Seconds
    graph: GraphCounts
    imbalance: Annotated[float, Field(ge=1)] = 1.0
    """Vectors scanned over N probes / lists: larger lists are probed more often."""
    errors: dict[str, Any] = {}
    notes: str = ""
    sources: tuple[Source, ...] = ()
