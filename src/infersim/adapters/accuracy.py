"""What number formats cost in accuracy, as published: read from a dated file, never computed."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from pydantic import Field

from infersim.specs.library import measurement_file
from infersim.specs.precision import precision
from infersim.specs.quantity import Spec
from infersim.specs.reading import read_yaml, validate


class AccuracyRecord(Spec):
    """One published finding about one or more schemes on one model or family."""

    schemes: Annotated[tuple[str, ...], Field(min_length=1)]
    model: str
    measure: str
    finding: str = ""
    baseline: float | None = None
    value: float | None = None
    change: float | None = None
    """Relative to the unquantised model; of a perplexity, up is worse."""
    change_low: float | None = None
    change_high: float | None = None
    ref: str
    date: Annotated[str, Field(pattern=r"^\d{4}(-\d{2})?$")]
    status: Literal["published", "measured", "vendor"]

    @property
    def words(self) -> str:
        """The finding in a line."""
        change = f"{self.change:+.2%} {self.measure}" if self.change is not None else self.measure
        return f"{change} ({self.model})" + (f": {self.finding}" if self.finding else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return self.model_dump(mode="json", exclude_none=True)


class _File(Spec):
    records: tuple[AccuracyRecord, ...]


@functools.lru_cache(maxsize=1)
def published_accuracy() -> tuple[AccuracyRecord, ...]:
    """Every finding on file."""
    path = measurement_file("quantisation_accuracy.yaml")
    return validate(_File, read_yaml(path), file=path).records


def accuracy_of(scheme: str) -> tuple[AccuracyRecord, ...]:
    """Findings about a scheme's weights and activations; what its KV cache adds is not in them.

    >>> [record.change for record in accuracy_of("q4_k_m")]
    [0.012, 0.0282]
    """
    name = precision(scheme).name.partition("+kv_")[0]
    return tuple(record for record in published_accuracy() if name in record.schemes)
