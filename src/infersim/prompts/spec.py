"""A prompt as a user describes it: what stands in it, in which order, how often it is the same; and where caches lie."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from infersim.errors import did_you_mean
from infersim.planning.allocation import TokenPrices
from infersim.prompts.api import load_api_cache
from infersim.specs.quantity import Bandwidth, Bytes, Seconds, Spec

Usd = Annotated[float, Field(ge=0, le=1e6)]


class Segment(Spec):
    """A stretch of a prompt: a system prompt, a tenant's rules, examples, documents, a user's profile, the question.

    ``variants`` different texts can stand there, the k-th most frequent in proportion to 1 / k^``skew``; ``unique`` is a new text
    in every request; ``conversation`` is what was said before in a conversation of ``turns`` turns, each ``think`` after the last on
    average, ``tokens`` its mean over all turns. ``within`` names a segment that follows from this one (a user belongs to
    one tenant). ``changes_every`` is how long a text stays as it is (a date, an index that is rebuilt). A segment that is not
    ``movable`` keeps its place.

    >>> Segment(name="question", tokens=200, variants="unique").unique
    True
    """

    name: str
    """Of the stretch, each its own."""
    tokens: Annotated[int, Field(ge=1, le=10**8)]
    """Its length."""
    variants: Annotated[int, Field(ge=1, le=10**7)] | Literal["unique", "conversation"] = 1
    """Different texts that can stand there; unique: new in every request; conversation: what was said before."""
    skew: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Zipf's exponent of how often each variant is used; 0: all equally."""
    within: str | None = None
    """Segment that follows from this one, as a tenant from a user."""
    changes_every: Seconds | None = None
    """How long a text stays as it is."""
    turns: Annotated[float, Field(gt=1, le=10**6)] | None = None
    """Turns of a conversation."""
    think: Seconds | None = None
    """Mean time between two turns."""
    movable: bool = True
    """Whether it may stand elsewhere in the prompt."""

    @field_validator("changes_every")
    @classmethod
    def _some_time(cls, given: float | None) -> float | None:
        if given == 0:
            raise ValueError("is a time above zero; a text that is new in every request has variants: unique")
        return given

    @model_validator(mode="after")
    def _a_conversation(self) -> Segment:
        given = self.turns is not None and bool(self.think)
        if (self.variants == "conversation") != given or (self.think is not None and self.variants != "conversation"):
            raise ValueError("turns and think (above zero) belong to variants: conversation, which needs both")
        return self

    @property
    def unique(self) -> bool:
        """Whether every request has a text of its own here."""
        return self.variants == "unique"

    @property
    def changes(self) -> float:
        """Changes of a text per second."""
        return 1.0 / self.changes_every if self.changes_every else 0.0


class Tier(Spec):
    """A cache behind the devices' memory: what it holds for one replica, and the rate at which each device is filled from it.

    ``bandwidth`` defaults to what large copies over the host link reach.
    """

    name: str
    """As tables show it."""
    capacity: Bytes
    """What it holds for one replica."""
    bandwidth: Bandwidth | None = None
    """Rate at which each device is filled; by default that of large copies over the host link."""
    latency: Seconds = 0.0
    """Before the first byte."""


class ApiTerms(Spec):
    """An API to compare with: a caching scheme on file, and USD per million input and output tokens."""

    scheme: str
    """A caching scheme on file, by name."""
    input_usd: Usd
    """USD per million input tokens."""
    output_usd: Usd
    """USD per million output tokens."""

    @property
    def prices(self) -> TokenPrices:
        """USD per million tokens of input, input found in the cache, and output; writing to the cache is not among them.

        >>> ApiTerms(scheme="openai-gpt-5", input_usd=1.25, output_usd=10.0).prices
        TokenPrices(input=1.25, cached_input=0.125, output=10.0)
        """
        return TokenPrices(self.input_usd, load_api_cache(self.scheme).read * self.input_usd, self.output_usd)


class PromptLayout(Spec):
    """A prompt of ``segments`` in their order, asked ``requests_per_second``, and the caches it may be found in.

    Without a rate the deployment's own closed loop sets it. ``cache`` overrides the memory for KV blocks of a replica, prefixes and
    running requests together. ``routing``: ``prefix_aware`` sends like prompts to one replica, ``random`` to any of them. Outputs are
    as long as the deployment's workload says.

    >>> layout = PromptLayout.model_validate({"segments": [
    ...     {"name": "system", "tokens": 1500}, {"name": "question", "tokens": 300, "variants": "unique"}]})
    >>> layout.tokens, layout.names
    (1800, ('system', 'question'))
    """

    segments: Annotated[tuple[Segment, ...], Field(min_length=1, max_length=10)]
    """Stretches of the prompt in their order."""
    requests_per_second: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Rate of requests; by default that of the deployment's closed loop."""
    cache: Bytes | None = None
    """Memory for KV blocks of a replica, in place of the device's."""
    tiers: tuple[Tier, ...] = ()
    """Caches behind the devices' memory, the fastest first."""
    routing: Literal["prefix_aware", "random"] = "prefix_aware"
    """prefix_aware sends like prompts to one replica, random to any."""
    apis: tuple[ApiTerms, ...] = ()
    """APIs to compare with."""

    @model_validator(mode="after")
    def _names_fit(self) -> PromptLayout:
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"segments need names of their own, got {', '.join(self.names)}")
        if sum(segment.variants == "conversation" for segment in self.segments) > 1:
            raise ValueError("a prompt has one conversation")
        for segment in self.segments:
            if segment.within is None:
                continue
            if segment.within not in self.names:
                raise ValueError(f"no segment is called {segment.within!r}; {did_you_mean(segment.within, self.names)}")
            if segment.name in self.within(segment.within) or segment.within == segment.name:
                raise ValueError(f"{segment.name} and {segment.within} lie within each other")
            outer = self[segment.within]
            if isinstance(outer.variants, str) or (
                not isinstance(segment.variants, str) and segment.variants < outer.variants
            ):
                raise ValueError(f"{segment.name} lies within {outer.name}, so it has at least as many variants")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(segment.name for segment in self.segments)

    @property
    def tokens(self) -> int:
        """Of the whole prompt."""
        return sum(segment.tokens for segment in self.segments)

    def __getitem__(self, name: str) -> Segment:
        return next(segment for segment in self.segments if segment.name == name)

    def within(self, name: str) -> tuple[str, ...]:
        """The segments that follow from a segment, the nearest first."""
        found: list[str] = []
        at = self[name].within
        while at is not None and at not in found and at in self.names:
            found.append(at)
            at = self[at].within
        return tuple(found)

    def ordered(self, names: tuple[str, ...]) -> PromptLayout:
        """The same prompt with its segments in another order."""
        return self.model_copy(update={"segments": tuple(self[name] for name in names)})


def read_layout(given: Any) -> PromptLayout:
    """A layout from a mapping; SpecError names the field that is wrong.

    >>> read_layout({"segments": [{"name": "system", "tokens": 800}]}).tokens
    800
    """
    from infersim.specs.library import validate

    return given if isinstance(given, PromptLayout) else validate(PromptLayout, given)
