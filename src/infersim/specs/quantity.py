"""Field types that insist on a unit, and the origin of a figure. Used by every spec."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from infersim import units


class Spec(BaseModel):
    """A frozen value with exactly the fields it declares; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __hash__(self) -> int:
        """By name where there is one, else by value: cheap enough to be a cache key on every call."""
        name = self.__dict__.get("name")
        try:
            return hash((type(self), name or tuple(self.__dict__.values())))
        except TypeError:
            return hash(type(self))


def _quantity(unit: str, *, positive: bool = True) -> Any:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"{value!r} is not a quantity in {unit}; write for example {units.EXAMPLES[unit]!r}")
        number = units.parse(value if isinstance(value, str) else repr(value), unit)
        if number < 0 or (positive and number == 0):
            raise ValueError(f"must be {'positive' if positive else 'zero or more'}, got {value!r}")
        return number

    def write(value: float) -> str:
        return units.show(value, unit, digits=12)

    return Annotated[float, BeforeValidator(read), PlainSerializer(write, when_used="json")]


Bytes = _quantity("B")
Bandwidth = _quantity("B/s")
FlopRate = _quantity("FLOP/s")
Seconds = _quantity("s", positive=False)
Watts = _quantity("W")
Hertz = _quantity("Hz")
Money = _quantity("USD", positive=False)
MoneyRate = _quantity("USD/h", positive=False)


class Source(Spec):
    """Where figures come from: ``of`` names the fields, ``ref`` the document, ``status`` how far it was checked.

    ``checked``: at least two independent documents agree; ``stated``: one document; ``differs``: documents disagree
    and ``note`` says which was taken and why; ``unverified``: no document was found, carried over from memory;
    ``assumed``: a choice of ours, not a fact.
    """

    of: tuple[str, ...]
    ref: str
    status: Literal["checked", "stated", "differs", "unverified", "assumed"] = "stated"
    note: str = ""


def positive(value: float, name: str) -> float:
    """``value`` if it is finite and above zero, else a ValueError that names it."""
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return value
