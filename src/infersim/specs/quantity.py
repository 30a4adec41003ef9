"""Field types that insist on a unit, and the origin of a figure. Used by every spec."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

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


class Quantity:
    """Annotation of a float field that is written with its unit: ``Annotated[float, Quantity("B/s")]``."""

    def __init__(self, unit: str, *, positive: bool = True) -> None:
        self.unit, self.positive = unit, positive

    def read(self, value: Any) -> float:
        """SI value of what a spec says; ValueError where the unit is missing or wrong."""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            example = units.EXAMPLES[self.unit]
            raise ValueError(f"{value!r} is not a quantity in {self.unit}; write for example {example!r}")
        number = units.parse(value if isinstance(value, str) else repr(value), self.unit)
        if number < 0 or (self.positive and number == 0):
            raise ValueError(f"must be {'positive' if self.positive else 'zero or more'}, got {value!r}")
        return number

    def write(self, value: float) -> str:
        """The value as a person writes it; ``read`` gets it back."""
        return units.show(value, self.unit, digits=12)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self.read,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(self.write, when_used="json"),
            json_schema_input_schema=core_schema.str_schema(),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Text: a number and one of the spellings of the unit."""
        spellings = "|".join(re.escape(name) for name in sorted(units.UNITS[self.unit], key=len, reverse=True))
        number = r"[+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
        return {
            "type": "string",
            "pattern": rf"^\s*{number}\s*({spellings})\s*$",
            "examples": [units.EXAMPLES[self.unit]],
        }


Bytes = Annotated[float, Quantity("B")]
Bandwidth = Annotated[float, Quantity("B/s")]
FlopRate = Annotated[float, Quantity("FLOP/s")]
Seconds = Annotated[float, Quantity("s", positive=False)]
Watts = Annotated[float, Quantity("W")]
Hertz = Annotated[float, Quantity("Hz")]
Kilograms = Annotated[float, Quantity("kg")]
Money = Annotated[float, Quantity("USD", positive=False)]
MoneyRate = Annotated[float, Quantity("USD/h", positive=False)]


class Source(Spec):
    """Where figures come from: ``of`` names the fields, ``ref`` the document, ``status`` how far it was checked.

    ``checked``: at least two independent documents agree; ``stated``: one document; ``differs``: documents disagree
    and ``note`` says which was taken and why; ``unverified``: no document was found, carried over from memory;
    ``assumed``: a choice of ours, not a fact.
    """

    of: tuple[str, ...]
    ref: str
    status: Literal["checked", "stated", "differs", "unverified", "fitted", "assumed"] = "stated"
    note: str = ""
