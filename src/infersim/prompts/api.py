"""What APIs charge for cached input: schemes as data, and when a cached prefix pays."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from infersim.prompts.cache import hit_rate, hit_rate_from_write, kept_copies
from infersim.specs.library import find, read_yaml, validate
from infersim.specs.quantity import Seconds, Source, Spec

Numbers = Any


class ApiCache(Spec):
    """How a provider keeps and bills prefixes. Multiples are of the model's price of input tokens.

    ``write`` is paid for tokens put into the cache (1: as any input), ``read`` for tokens found there; ``ttl`` is how long they
    stay, from the last use or from their writing; ``increment`` the tokens by which hits grow; ``storage`` USD per million tokens
    and hour.
    """

    name: str
    provider: str
    write: Annotated[float, Field(ge=0)]
    read: Annotated[float, Field(ge=0, le=1)]
    ttl: Seconds
    refreshed_on_use: bool
    minimum_tokens: Annotated[int, Field(ge=1)]
    increment: Annotated[int, Field(ge=1)] = 1
    breakpoints: Annotated[int, Field(ge=1)] | None = None
    """Most prefixes of one prompt that may be marked for the cache; None: all are found."""
    storage: Annotated[float, Field(ge=0)] = 0.0
    date: Annotated[str, Field(pattern=r"^20\d\d(-[01]\d(-[0-3]\d)?)?$")]
    notes: str = ""
    sources: tuple[Source, ...]

    def hits(self, rate: Numbers, changes: Numbers = 0.0) -> Numbers:
        """Chance that a prefix used ``rate`` times a second, and replaced ``changes`` times a second, is found."""
        return (hit_rate if self.refreshed_on_use else hit_rate_from_write)(rate, self.ttl, changes)

    def stored(self, rate: Numbers, changes: Numbers = 0.0) -> Numbers:
        """Copies of a prefix that are kept, and paid for, on average."""
        a, misses = np.asarray(rate, dtype=float), 1.0 - np.asarray(self.hits(rate, changes))
        if not self.refreshed_on_use:
            return a * misses * self.ttl
        return kept_copies(rate, self.ttl, changes)

    @property
    def break_even_uses(self) -> float:
        """Uses within the time to live from which on the cache pays, the first included."""
        return break_even_uses(self.write, self.read)


def load_api_cache(name: str) -> ApiCache:
    """The scheme called ``name``, or the one in a YAML file.

    >>> round(load_api_cache("anthropic-5m").break_even_uses, 2), round(load_api_cache("anthropic-1h").break_even_uses, 2)
    (1.28, 2.11)
    """
    path = find("api_caching", name)
    return validate(ApiCache, read_yaml(path), file=path)


def cached_cost(uses: Numbers, write: float, read: float) -> Numbers:
    """What ``uses`` of a prefix cost with a cache that keeps it between them, in prices of its tokens as plain input.

    >>> float(cached_cost(10, 1.25, 0.1)), float(cached_cost(1, 1.25, 0.1))
    (2.15, 1.25)
    """
    return write + read * (np.asarray(uses, dtype=float) - 1.0)


def break_even_uses(write: float, read: float) -> float:
    """Uses at which caching costs what plain input does: (write - read) / (1 - read); infinite where reading is no cheaper.

    >>> round(break_even_uses(1.25, 0.1), 2), round(break_even_uses(2.0, 0.1), 2), break_even_uses(1.0, 0.5)
    (1.28, 2.11, 1.0)
    """
    return (write - read) / (1.0 - read) if read < 1 else math.inf


def storage_break_even_rate(usd_per_million_input: float, read: float, usd_per_million_hour: float) -> float:
    """Uses per second from which on a prefix is worth its storage: storage rate / (saving of a use). Tokens cancel.

    >>> round(3600 * storage_break_even_rate(0.30, 0.1, 1.00), 2)  # uses per hour
    3.7
    """
    saving = usd_per_million_input * (1.0 - read)
    return usd_per_million_hour / 3600.0 / saving if saving > 0 else math.inf


def few_shot_cost(examples: Numbers, tokens: Numbers, usd_per_million: float, read: float = 1.0) -> Numbers:
    """USD that so many examples of ``tokens`` each add to every request; ``read`` below 1 where they are found in a cache.

    >>> round(float(few_shot_cost(8, 150, 3.0)), 5), round(float(few_shot_cost(8, 150, 3.0, read=0.1)), 5)
    (0.0036, 0.00036)
    """
    return np.asarray(examples, dtype=float) * tokens * usd_per_million * read / 1e6


def compression_gain(tokens: Numbers, ratio: Numbers, usd_per_million: float, usd_compressing: Numbers) -> Numbers:
    """USD that compressing a prompt of ``tokens`` to 1 / ``ratio`` of them saves, the compressor's own cost taken off.

    Worth it where the compressor costs less than (1 - 1 / ratio) S p. A compressed prompt differs in every request, so a prefix
    that a cache would have kept is better left as it is. Source: LLMLingua, arXiv:2310.05736.

    >>> round(float(compression_gain(10_000, 4.0, 3.0, 0.005)), 4), round(float(compression_gain(10_000, 4.0, 3.0, 0.03)), 4)
    (0.0175, -0.0075)
    """
    return (1.0 - 1.0 / np.asarray(ratio, dtype=float)) * tokens * usd_per_million / 1e6 - usd_compressing
