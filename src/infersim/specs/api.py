"""A model behind an API as a file says it: what its tokens cost, how cached prefixes are billed, how fast it answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from infersim.specs.quantity import Seconds, Spec
from infersim.specs.served import ServedModel

UsdPerMillion = Annotated[float, Field(ge=0, le=1e6)]


class Prices(Spec):
    """USD per million tokens; ``input, cached input, output`` as a list or in one text as well, or without the cached input.

    >>> Prices.model_validate("3,0.3,15").cached_input, Prices.model_validate([3, 15]).three
    (0.3, (3.0, 3.0, 15.0))
    """

    input: UsdPerMillion
    cached_input: UsdPerMillion | None = None
    """Of a prompt token that is found in the provider's cache; None: as a fresh one, or as the caching scheme says."""
    output: UsdPerMillion

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if not isinstance(given, (str, list, tuple)):
            return given
        try:
            prices = [float(part) for part in (given.split(",") if isinstance(given, str) else given)]
        except (TypeError, ValueError):
            prices = []
        if len(prices) not in (2, 3):
            raise ValueError(f"write USD per million input,cached input,output as 3,0.3,15, got {given!r}")
        return {"input": prices[0], "cached_input": prices[1] if len(prices) == 3 else None, "output": prices[-1]}

    @property
    def three(self) -> tuple[float, float, float]:
        """Input, cached input and output."""
        return self.input, self.input if self.cached_input is None else self.cached_input, self.output


class ApiModel(Spec):
    """A model behind an API; its prices alone will do.

    ``prefill_rate`` [fresh prompt tokens/s] is what longer prompts add to the time to first token; speed that is left out is assumed.
    ``cache`` names the scheme by which
    cached prefixes are billed, ``context`` is the longest prompt and output together.

    >>> ApiModel.model_validate("3,0.3,15").prices.output
    15.0
    """

    name: str = "API"
    prices: Prices
    ttft: Seconds | None = None
    tpot: Seconds | None = None
    prefill_rate: Annotated[float, Field(gt=0, le=1e12)] | None = None
    cache: str | None = None
    context: Annotated[float, Field(ge=1, le=1e10)] | None = None
    source: str = "given by the user"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"prices": given} if isinstance(given, str) else given


def _kind(given: Any) -> str:
    if isinstance(given, (str, ApiModel)) or (isinstance(given, dict) and "prices" in given):
        return "an API"
    return "a served model"


AnyModel = Annotated[
    Annotated[ApiModel, Tag("an API")] | Annotated[ServedModel, Tag("a served model")], Discriminator(_kind)
]
"""A model on own devices, or behind an API: told by its ``prices``, or by prices in one text."""
