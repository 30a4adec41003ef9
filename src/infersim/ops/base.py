"""What an op is: named work, repeated ``count`` times in a step, that knows its FLOP and bytes and no machine.

Shapes are floats or numpy arrays; everything derived from them broadcasts. All shapes are those of one device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from infersim.specs.precision import NumberFormat

Numbers = Any
"""A float or a numpy array of floats."""

CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"]


@dataclass(frozen=True)
class Op:
    """``name`` in breakdowns, ``count`` repetitions in one step (layers, usually)."""

    name: str
    count: float
    part: str = field(default="", kw_only=True)
    """What of the step it belongs to where that is not the model itself: "draft"."""

    @property
    def label(self) -> str:
        """The name in breakdowns, after what it is a part of."""
        return f"{self.part} {self.name}" if self.part else self.name

    @property
    def flops(self) -> Numbers:
        """FLOP of one repetition; a multiply-add is two."""
        return 0.0

    @property
    def bytes(self) -> Numbers:
        """Compulsory device-memory traffic of one repetition [B]: each operand moved once."""
        return 0.0


@dataclass(frozen=True)
class MatrixOp(Op):
    """An op that runs on a matrix unit: weights in one format meet activations in another."""

    weights: NumberFormat
    activations: NumberFormat
