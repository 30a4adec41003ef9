"""Low-rank adapters: W x + B (A x), A of r x inputs and B of outputs x r beside every linear layer that they adapt.

Sources: Hu et al., LoRA, arXiv:2106.09685; serving many at once: Punica, arXiv:2310.18547, and S-LoRA, arXiv:2311.03285.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from infersim.errors import SpecError, UnsupportedError
from infersim.ops.base import Numbers, Op
from infersim.ops.matmul import Gemm
from infersim.ops.memory import Elementwise
from infersim.prompts.cache import characteristic_time, items
from infersim.specs.deployment import Parallelism
from infersim.specs.model import MixtureOfExperts, ModelSpec, Projection
from infersim.specs.precision import FORMATS, number_format
from infersim.specs.quantity import Spec

Target = Literal["attention", "mlp", "shared_expert"]


class Adapter(Spec):
    """Shape of an adapter: its rank, the layers that it adapts, and its number format. Routed experts are left as they are.

    >>> Adapter(rank=16).bytes_per_parameter
    2.0
    """

    rank: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rank r of the two factors."""
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] = ("attention", "mlp")
    """Layers that are adapted."""
    format: str = "bf16"
    """Number format of an adapter's weights."""

    @property
    def bytes_per_parameter(self) -> float:
        return number_format(self.format).bytes


def adapted(model: ModelSpec, adapter: Adapter) -> Iterator[tuple[float, Projection]]:
    """(layers, projection) of every linear layer that is adapted. UnsupportedError where the model has none of them."""
    any_found = False
    for layer, mixers, block in model.blocks():
        projections = [p for mixer in mixers for p in mixer.projections(model.hidden_size)]
        if block is not None:
            projections += block.projections(model.hidden_size)
        for projection in projections:
            if projection.role in adapter.targets and not (
                isinstance(block, MixtureOfExperts) and projection.role == "experts"
            ):
                any_found = True
                yield float(layer.count), projection
    if not any_found:
        raise UnsupportedError(f"{model.name} has no {' or '.join(adapter.targets)} layers to adapt")


@functools.lru_cache(maxsize=256)
def adapter_parameters(model: ModelSpec, adapter: Adapter) -> int:
    """Parameters of one adapter: sum of r (inputs + outputs), each of the matrices that are fused in the model on its own, as PEFT counts.

    >>> from infersim import load_model
    >>> adapter_parameters(load_model("meta-llama/Llama-3.1-8B"), Adapter(rank=16))
    41943040
    """
    total = 0.0
    for layers, projection in adapted(model, adapter):
        total += (
            layers
            * projection.copies
            * sum(adapter.rank * (projection.inputs.size + part.size) for part in projection.outputs)
        )
    return round(total)


@functools.lru_cache(maxsize=256)
def adapter_bytes(model: ModelSpec, adapter: Adapter, parallelism: Parallelism | None = None) -> float:
    """Bytes of one adapter on one device: of column-cut layers A is whole and B cut, of row-cut ones A cut and B whole, as vLLM and S-LoRA
    place them; layers are dealt out over pipeline stages.

    >>> from infersim import load_model
    >>> llama = load_model("meta-llama/Llama-3.1-8B")
    >>> adapter_bytes(llama, Adapter()), adapter_bytes(llama, Adapter(), Parallelism(tensor=4)) / adapter_bytes(llama, Adapter())
    (83886080.0, 0.5125)
    """
    ranks, stages = (parallelism.tensor, parallelism.pipeline) if parallelism else (1, 1)
    total = 0.0
    for layers, projection in adapted(model, adapter):
        k, n = projection.local_shape(ranks)
        total += layers * projection.copies * adapter.rank * (len(projection.outputs) * k + n)
    return total * adapter.bytes_per_parameter / stages


def adapter_ops(
    model: ModelSpec, parallelism: Parallelism, adapter: Adapter, tokens: Numbers, distinct: float
) -> list[Op]:
    """The ops that ``tokens`` of ``distinct`` adapters add to a step on one device: two products per linear layer, shrink and expand, which
    take the parts of fused layers in one launch as vLLM's kernels do; and once a layer, the weights of the adapters beyond the first.

    Not counted: sorting tokens by adapter, and under tensor parallelism the gathering of the shrunk activations.

    >>> from infersim import load_model
    >>> ops = adapter_ops(load_model("meta-llama/Llama-3.1-8B"), Parallelism(), Adapter(), 32.0, 8.0)
    >>> work, moved = (sum(float(op.count * getattr(op, name)) for op in ops) for name in ("flops", "bytes"))
    >>> work / 32 / 41943040, bool(moved > 8 * 83886080)
    (2.0, True)
    """
    form = FORMATS[adapter.format]
    ops: list[Op] = []
    weights = 0.0
    for layers, projection in adapted(model, adapter):
        k, n = projection.local_shape(parallelism.tensor)
        parts = len(projection.outputs)
        named, copies = projection.name, projection.copies
        ops.append(
            Gemm(f"{named} shrink", layers, form, form, tokens, float(adapter.rank * parts), k, copies, part="LoRA")
        )
        ops.append(Gemm(f"{named} expand", layers, form, form, tokens, n, float(adapter.rank), copies, part="LoRA"))
        weights += layers * copies * adapter.rank * (parts * k + n)
    if distinct > 1:
        each = (distinct - 1) * weights * form.bytes / model.num_layers
        ops.append(Elementwise("other adapters", float(model.num_layers), each, 0.0, fusible=False, part="LoRA"))
    return ops


def popularity(count: int, skew: float = 0.0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Share of the requests that each of ``count`` adapters gets, the most popular first: in proportion to 1 / k^skew (Zipf), 0: equal.

    >>> popularity(3, 1.0).round(3).tolist()
    [0.545, 0.273, 0.182]
    """
    if count < 1 or skew < 0:
        raise SpecError(
            f"needs at least one adapter and a skew from 0 on, got {count!r} and {skew!r}", field="adapters"
        )
    weights = 1.0 / np.arange(1, count + 1) ** float(skew)
    return np.asarray(weights / weights.sum())


def distinct_adapters(shares: Numbers, sequences: Numbers) -> Numbers:
    """Mean number of different adapters among so many sequences: sum over adapters of 1 - (1 - p)^B; A (1 - (1 - 1/A)^B) if all are equal.

    >>> round(float(distinct_adapters(popularity(100), 32)), 3), float(distinct_adapters(popularity(100), 1))
    (27.502, 1.0)
    """
    batch = np.asarray(sequences, dtype=float)
    # one minus a power of one minus a small share, with all its digits
    with np.errstate(divide="ignore"):
        left = np.log1p(-np.asarray(shares, dtype=float))
    return -np.expm1(batch[..., None] * left).sum(axis=-1)[()]


def resident_hit_rate(shares: Numbers, resident: int) -> float:
    """Share of the requests whose adapter is among the ``resident`` most popular ones, kept on the device.

    >>> resident_hit_rate(popularity(100), 25)
    0.25
    """
    return float(np.sort(np.asarray(shares))[::-1][: max(resident, 0)].sum())


def recent_hit_rate(shares: Numbers, resident: int) -> float:
    """The same where the ``resident`` most recently used ones are kept, as engines do: by Che's approximation.

    >>> round(recent_hit_rate(popularity(100), 25), 3), round(recent_hit_rate(popularity(100, 1.0), 25), 2)
    (0.25, 0.62)
    """
    if resident >= np.size(shares):
        return 1.0
    wanted = items(shares, 1.0)
    return wanted.hit_share(characteristic_time(wanted, float(resident)))


def swap_seconds(adapter_bytes: Numbers, host_bandwidth: Numbers) -> Numbers:
    """Time to bring an adapter to the device over the host link [s].

    >>> round(swap_seconds(83_886_080, 55e9) * 1e3, 2)
    1.53
    """
    return adapter_bytes / host_bandwidth
