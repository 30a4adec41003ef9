"""What a prompt layout costs at an API with a caching scheme: how far to cache, per request and per day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.prompts.api import ApiCache, load_api_cache
from infersim.prompts.layout import prefixes
from infersim.prompts.spec import ApiTerms, PromptLayout

DAY = 86400.0


@dataclass(frozen=True)
class ApiBill:
    """The cost of a layout at one API. Money in USD per request unless it says otherwise."""

    scheme: ApiCache
    names: tuple[str, ...]
    depth: int
    """Segments from the start that are cached; 0 where caching does not pay."""
    hits: tuple[float, ...]
    """Chance by segment that it is found."""
    read_tokens: float
    written_tokens: float
    plain_tokens: float
    input_usd: float
    """Per request, storage included."""
    uncached_input_usd: float
    output_usd: float
    requests_per_second: float

    @property
    def usd(self) -> float:
        return self.input_usd + self.output_usd

    @property
    def uncached_usd(self) -> float:
        return self.uncached_input_usd + self.output_usd

    @property
    def usd_per_day(self) -> float:
        return self.usd * self.requests_per_second * DAY

    @property
    def saving(self) -> float:
        """Share of the bill without a cache; negative where writing costs more than reading saves."""
        return 1.0 - self.usd / self.uncached_usd if self.uncached_usd else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units."""
        return {
            "scheme": self.scheme.name, "provider": self.scheme.provider, "date": self.scheme.date,
            "order": list(self.names), "cached_segments": self.depth, "hit_by_segment": list(self.hits),
            "read_tokens": self.read_tokens, "written_tokens": self.written_tokens, "plain_tokens": self.plain_tokens,
            "usd_per_request": self.usd, "uncached_usd_per_request": self.uncached_usd, "usd_per_day": self.usd_per_day,
            "uncached_usd_per_day": self.uncached_usd * self.requests_per_second * DAY,
            "saving_share": self.saving, "break_even_uses": self.scheme.break_even_uses,
        }  # fmt: skip


def api_bill(layout: PromptLayout, terms: ApiTerms, rate: float, output_tokens: float) -> ApiBill:
    """The bill where the cache is used as deep as is cheapest, a prefix marked after each segment that is cached.

    Hits follow from the rate of each prefix and the scheme's time to live, by Poisson arrivals. Below ``minimum_tokens`` nothing is
    cached; hits grow by ``increment`` tokens. A scheme with fewer ``breakpoints`` than segments marks the last ones, and a miss on a
    mark reads nothing before the mark ahead of it. Not counted: price steps by prompt length.

    >>> layout = PromptLayout.model_validate({"segments": [
    ...     {"name": "book", "tokens": 100000}, {"name": "question", "tokens": 100, "variants": "unique"}]})
    >>> bill = api_bill(layout, ApiTerms(scheme="anthropic-5m", input_usd=3.0, output_usd=15.0), rate=0.1, output_tokens=1.0)
    >>> round(bill.saving, 3), bill.depth
    (0.899, 1)
    """
    scheme = load_api_cache(terms.scheme)
    found = prefixes(layout)
    sizes = np.array([segment.tokens for segment in layout.segments], dtype=float)
    ends = np.cumsum(sizes)
    usable = np.where(ends >= scheme.minimum_tokens, ends // scheme.increment * scheme.increment, 0.0)
    hits = np.array([one.hit(scheme.hits, rate) for one in found])
    used = [one.used(rate) for one in found]
    kept = np.array([float((many * scheme.stored(each, changes)).sum()) for each, many, changes, _ in used])
    price = terms.input_usd / 1e6
    best: tuple[float, ApiBill] | None = None
    for depth in range(len(found) + 1):
        if depth and usable[depth - 1] == 0:
            continue
        first = max(0, depth - scheme.breakpoints) if scheme.breakpoints else 0
        parts = np.diff(usable[:depth], prepend=0.0)
        chance = hits[:depth].copy()
        if depth:  # segments before the first mark are found with it or not at all
            chance[:first] = hits[first] if first < depth else 0.0
        read = float((parts * chance).sum())
        written = float((parts * (1.0 - chance)).sum())
        plain = layout.tokens - read - written
        storage = float((parts * kept[:depth]).sum()) * scheme.storage / 1e6 / 3600.0 / rate
        cost = price * (read * scheme.read + written * scheme.write + plain) + storage
        if best is None or cost < best[0] * (1 - 1e-12):
            bill = ApiBill(
                scheme, layout.names, depth, (*chance.tolist(), *[0.0] * (len(found) - depth)), read, written, plain, cost,
                price * layout.tokens, terms.output_usd / 1e6 * output_tokens, rate,
            )  # fmt: skip
            best = (cost, bill)
    assert best is not None
    return best[1]
