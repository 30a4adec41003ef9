"""What the suite measures: typed cases, and which of them a device is given.

A case is a value; its ``key`` names it in a result file, so that a suite taken up again runs nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

from infersim.errors import SpecError, did_you_mean
from infersim.specs.precision import FORMATS

SetName = Literal["tiny", "quick", "full"]


@dataclass(frozen=True)
class Case:
    """One thing to measure. ``kind`` is the table it belongs to."""

    kind: ClassVar[str]

    @property
    def key(self) -> str:
        """Kind and every field.

        >>> Gemm("fp32", 1, 1024, 512).key
        'gemm format=fp32 m=1 n=1024 k=512'
        """
        return " ".join([self.kind, *(f"{name}={value}" for name, value in asdict(self).items())])

    def record(self) -> dict[str, Any]:
        """The case as plain values; ``read_case`` gets it back."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Gemm(Case):
    """y (m x n) = x (m x k) W^T, W stored (n x k). ``cold``: a fresh W each time, read from memory; else the same one."""

    kind: ClassVar[str] = "gemm"
    format: str
    m: int
    n: int
    k: int
    cold: bool = True

    @property
    def key(self) -> str:
        return super().key.removesuffix(" cold=True")

    @property
    def flops(self) -> float:
        """2 m n k."""
        return 2.0 * self.m * self.n * self.k

    @property
    def moved(self) -> float:
        """Bytes with every operand moved once."""
        return FORMATS[self.format].bytes * (self.n * self.k + self.m * self.k + self.m * self.n)


@dataclass(frozen=True)
class Stream(Case):
    """One pass over ``bytes``: ``read`` sums them, ``copy`` copies half of them to the other half."""

    kind: ClassVar[str] = "stream"
    pattern: Literal["read", "copy"]
    bytes: int

    @property
    def moved(self) -> float:
        """Bytes read and written; a cache that fetches a line before writing it moves half as much again of a copy."""
        return float(self.bytes)


@dataclass(frozen=True)
class Attention(Case):
    """``count`` sequences of ``new`` tokens behind ``cached`` ones, over a cache that comes from memory."""

    kind: ClassVar[str] = "attention"
    format: str
    count: int
    new: int
    cached: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def phase(self) -> str:
        """prefill or decode: which kernel an engine takes."""
        return "decode" if self.new == 1 else "prefill"


@dataclass(frozen=True)
class Pass(Case):
    """A pass that only moves data: ``name`` and ``variant`` of the step's op. ``width`` is its width in elements: the hidden
    size of norm and embedding, the inner size of activation, the vocabulary of sampling, the head dimension of rotary."""

    kind: ClassVar[str] = "elementwise"
    format: str
    name: str
    variant: str
    sequences: int
    new: int
    width: int
    heads: int = 0
    kv_heads: int = 0

    @property
    def op(self) -> str:
        """The key of its calibration.

        >>> Pass("fp32", "norm", "rms", 1, 8, 512).op
        'norm.rms'
        """
        return f"{self.name}.{self.variant}" if self.variant else self.name

    @property
    def kernels(self) -> int:
        """Kernels the step's op is counted as."""
        return 2 if self.name in ("rotary and cache write", "sampling") else 1

    @property
    def moved(self) -> float:
        """Bytes as the step's op counts them.

        >>> Pass("fp32", "norm", "rms", 1, 8, 512).moved == 4 * 8 * 512 * 4
        True
        """
        element, tokens = FORMATS[self.format].bytes, float(self.sequences * self.new)
        if self.name == "norm":
            return 4 * tokens * self.width * element
        if self.name == "activation":
            return (3 if self.variant == "gated" else 2) * tokens * self.width * element
        if self.name == "rotary and cache write":
            rotated, written = (self.heads + self.kv_heads) * self.width, 2 * self.kv_heads * self.width
            return 2 * tokens * (rotated + written) * element
        if self.name == "embedding":
            return 2 * tokens * self.width * element
        return 4.0 * self.sequences * (self.width + 1)  # sampling: one pass over fp32 logits


@dataclass(frozen=True)
class Launch(Case):
    """The smallest kernel, ``eager`` (time to submit it) or inside a captured ``graph`` (time until the next may start)."""

    kind: ClassVar[str] = "launch"
    way: Literal["eager", "graph"]


@dataclass(frozen=True)
class HostCopy(Case):
    """A copy between pinned host memory and the device."""

    kind: ClassVar[str] = "copy"
    direction: Literal["to_device", "to_host"]
    bytes: int


@dataclass(frozen=True)
class Collective(Case):
    """Communication among ``devices`` ranks of one node; ``payload`` as ``infersim.ops.memory.Collective`` counts it."""

    kind: ClassVar[str] = "collective"
    name: str
    payload: int
    devices: int


@dataclass(frozen=True)
class VectorSearch(Case):
    """One query for ``top_k`` neighbours among ``vectors``. ``structure`` is the number of lists of an inverted file or M of a graph,
    ``knob`` the lists probed or the beam of the search; both 0 where there are none."""

    kind: ClassVar[str] = "vector_search"
    index: Literal["flat", "ivf_flat", "ivf_pq", "hnsw"]
    vectors: int
    dimension: int
    structure: int = 0
    knob: int = 0
    top_k: int = 10


@dataclass(frozen=True)
class Encoder(Case):
    """One pass of a whole embedding model over ``sequences`` of ``tokens`` each. It judges; no calibration takes it."""

    kind: ClassVar[str] = "encoder"
    model: str
    format: str
    sequences: int
    tokens: int


KINDS: dict[str, type[Case]] = {
    c.kind: c for c in (Gemm, Stream, Attention, Pass, Launch, HostCopy, Collective, VectorSearch, Encoder)
}


def read_case(record: dict[str, Any]) -> Case:
    """The case a record describes; SpecError where it is none.

    >>> read_case(Gemm("fp32", 1, 1024, 512).record()) == Gemm("fp32", 1, 1024, 512)
    True
    """
    kind = record.get("kind")
    if kind not in KINDS:
        raise SpecError(f"no kind of case is called {kind!r}; {did_you_mean(str(kind), KINDS)}", field="case.kind")
    wanted = {f.name for f in fields(KINDS[kind])}
    given = {name: value for name, value in record.items() if name != "kind"}
    if set(given) != wanted:
        wrong = sorted(set(given) ^ wanted)
        raise SpecError(
            f"a {kind} case has the fields {', '.join(sorted(wanted))}; check {', '.join(wrong)}", field="case"
        )
    return KINDS[kind](**given)


WEIGHTS = {
    "tiny": ((256, 256), (1024, 256), (256, 1024)),
    "quick": ((512, 512), (1536, 512), (512, 1536), (768, 1024), (1024, 768), (4096, 512), (1024, 1024), (5120, 1024),
              (1024, 2816), (2048, 2048), (16384, 512), (32768, 1024)),
}  # fmt: skip
"""(n, k) of the products: what projections, feed-forwards and heads of small decoders have."""

LARGE_WEIGHTS = ((4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336), (8192, 8192), (10240, 8192), (57344, 8192),
                 (8192, 28672), (128256, 4096))  # fmt: skip
"""(n, k) of decoders of 8 and 70 billion parameters, for devices with the memory and the speed."""

HEADS = ((8, 8, 64), (16, 4, 64), (12, 12, 64), (16, 8, 128))
LARGE_HEADS = ((32, 8, 128), (64, 8, 128), (8, 1, 128), (32, 32, 128))


def cases(which: SetName, formats: tuple[str, ...], *, large: bool = False, copies: bool = False) -> tuple[Case, ...]:
    """The cases of a set for a device: ``large`` ones get bigger shapes, ``copies`` tells of memory of its own.

    The first of ``formats`` is measured in full, the others on products and attention.

    >>> len(cases("tiny", ("fp32",))) < 100 < len(cases("quick", ("fp32",)))
    True
    """
    found: list[Case] = []
    for index, name in enumerate(formats):
        found += [*_gemms(which, name, index, large), *_attentions(which, name, index, large)]
    found += [*_passes(which, formats[0], large), *_streams(which, large), *_launches(copies), *_copies(which, copies)]
    return tuple(found)


def _gemms(which: SetName, name: str, index: int, large: bool) -> Iterator[Gemm]:
    shapes = WEIGHTS["tiny" if which == "tiny" else "quick"]
    if large:
        shapes = (*shapes[:: 2 if which == "quick" else 1], *LARGE_WEIGHTS)
    rows = {"tiny": (1, 8, 64), "quick": (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 512)}.get(
        which, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
    )
    if large:
        rows = tuple(sorted({*rows, 1024, 2048, 4096, 8192}))
    budget = 1e14 if large else 5e9 if which == "quick" else 5e10
    for place, (n, k) in enumerate(shapes):
        for step, m in enumerate(rows):
            thin = which == "quick" and m > 1 and (index or (n * k > 4e6 and n <= 8 * k)) and (step + place) % 2
            if 2.0 * m * n * k > budget or thin or (n > 16 * k and m > 16):
                continue
            yield Gemm(name, m, n, k)
    n, k = shapes[0]
    yield Gemm(name, 1, n, k, cold=False)
    yield Gemm(name, 64, n, k, cold=False)


def _attentions(which: SetName, name: str, index: int, large: bool) -> Iterator[Attention]:
    if which == "tiny":
        for new, cached in ((1, 64), (1, 256), (32, 0), (128, 0)):
            for count in (1, 4):
                yield Attention(name, count, new, cached, 4, 2, 32)
        return
    heads = LARGE_HEADS if large else HEADS
    counts = (1, 2, 4, 8, 16, 32, 64, 128) if large else (1, 2, 4, 8, 16)
    lengths = (127, 511, 1023, 2047, 4095, 8191, 16383) if large else (63, 127, 255, 511, 1023, 2047)
    prompts = (128, 512, 1024, 2048, 4096, 8192) if large else (16, 32, 64, 128, 256, 512, 1024)
    every = 1 if which == "full" else 3 if index == 0 else 6
    grid = [
        (c, 1, cached, h)
        for h in heads
        for c in counts
        for cached in lengths
        if c * cached <= (4e5 if large else 1.7e4)
    ]
    grid += [
        (c, new, 0, h) for h in heads for c in (1, 2, 4, 8) for new in prompts if c * new <= (2e4 if large else 1100)
    ]
    for place, (count, new, cached, (H, K, d)) in enumerate(grid):
        if place % every == 0:
            yield Attention(name, count, new, cached, H, K, d)


def _passes(which: SetName, name: str, large: bool) -> Iterator[Pass]:
    tokens: tuple[tuple[int, int], ...] = ((1, 1), (8, 1), (1, 64), (1, 512))
    if which != "tiny":
        tokens = (*tokens, (1, 16), (32, 1), (4, 64), (1, 128), (4, 256))
    if large:
        tokens = (*tokens, (256, 1), (1, 4096), (4, 4096))
    scale = 4 if large else 1
    for sequences, new in tokens:
        for variant in ("rms", "layer"):
            yield Pass(name, "norm", variant, sequences, new, 1024 * scale)
        for variant in ("gated", "plain"):
            yield Pass(name, "activation", variant, sequences, new, 3072 * scale)
        for variant in ("rotary", "learned"):
            yield Pass(name, "rotary and cache write", variant, sequences, new, 64, 16 * scale, 4 * scale)
        yield Pass(name, "embedding", "", sequences, new, 1024 * scale)
    for sequences in (1, 4, 16) if which == "tiny" else (1, 2, 4, 8, 16, 64):
        yield Pass(name, "sampling", "", sequences, 1, 32768 * scale)


def _streams(which: SetName, large: bool) -> Iterator[Stream]:
    top = 33 if large else 28 if which == "full" else 27
    sizes = (14, 20, 26) if which == "tiny" else (*range(14, top, 2 if which == "quick" else 1), top)
    for power in sizes:
        for pattern in ("read", "copy"):
            yield Stream(pattern, 2**power)


def _launches(graphs: bool) -> Iterator[Launch]:
    yield Launch("eager")
    if graphs:
        yield Launch("graph")


def _copies(which: SetName, copies: bool) -> Iterator[HostCopy]:
    for power in (12, 16, 20, 24, 28) if copies and which != "tiny" else (12, 20) if copies else ():
        yield HostCopy("to_device", 2**power)
        yield HostCopy("to_host", 2**power)


def collective_cases(which: SetName, devices: int) -> tuple[Collective, ...]:
    """Payloads from 1 KiB up, for every kind of collective.

    >>> len(collective_cases("tiny", 2))
    4
    """
    powers = (10, 20) if which == "tiny" else range(10, 29, 3) if which == "quick" else range(10, 31)
    kinds = (
        ("all_reduce", "all_gather")
        if which == "tiny"
        else ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
    )
    return tuple(Collective(kind, 2**power, devices) for kind in kinds for power in powers)
