"""The answer of the prompts layer: what caching a prompt is worth as it stands, and in the best order."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim import units
from infersim.predict.estimate import Estimate
from infersim.prompts.bill import ApiBill, api_bill
from infersim.prompts.cache import hit_rate
from infersim.prompts.layout import Prefix, best_order
from infersim.prompts.serving import (
    Caching,
    Point,
    caching,
    point,
    pool_hit_rate,
    pool_of,
    prefill_seconds,
    with_prompt,
)
from infersim.prompts.spec import PromptLayout, read_layout

SIZES = np.geomspace(0.02, 8.0, 18)
"""Cache sizes of the figure, as multiples of the pool there is."""


@dataclass(frozen=True)
class PromptAnswer:
    """A prompt layout on a deployment: without a cache, as it stands, and with its segments in the best order."""

    layout: PromptLayout
    deployment: Estimate
    uncached: Point
    uncached_prefill_seconds: float
    now: Caching
    best: Caching
    bills: tuple[tuple[ApiBill, ApiBill], ...]
    """At each API: as it stands, in the best order."""

    @property
    def requests_per_second(self) -> float:
        return self.layout.requests_per_second or self.now.at.requests_per_second

    @property
    def served(self) -> Estimate:
        """The deployment under this prompt, in the best order, with the hit rate that follows."""
        return with_prompt(self.deployment, self.layout.tokens, self.best.cached_tokens)

    @property
    def replica_usd_per_second(self) -> float | None:
        """Rent of one replica."""
        price = self.deployment.price_per_hour
        return None if price is None else price * self.deployment.parallelism.devices_per_replica / 3600.0

    def prefill_usd(self, seconds: float) -> float | None:
        """Rent of the devices for so many seconds of one replica's prefill [USD]."""
        rent = self.replica_usd_per_second
        return None if rent is None else rent * seconds

    @property
    def saved_seconds(self) -> float:
        """Device time that the cache saves of a prompt in the best order."""
        return self.uncached_prefill_seconds - self.best.prefill_seconds

    @property
    def saved_usd_per_day(self) -> float | None:
        """Rent of the device time that the cache saves in the best order."""
        each = self.prefill_usd(self.saved_seconds)
        return None if each is None else each * self.requests_per_second * 86400.0

    @property
    def cacheable(self) -> tuple[str, ...]:
        """The segments from the start that a later prompt can find, as the prompt stands."""
        found = []
        for segment in self.layout.segments:
            if segment.unique:
                break
            found.append(segment.name)
        return tuple(found)

    @functools.cached_property
    def curve(self) -> dict[str, list[float]]:
        """Hit rate against cache size, as it stands and in the best order; the size in tokens of one replica."""
        _, pool = pool_of(self.deployment, self.layout.tokens + self.deployment.workload.output_tokens)
        tokens = [float(pool * size) for size in SIZES]
        found = {"cache_tokens": tokens}
        for name, one in (("hit_rate", self.now), ("best_hit_rate", self.best)):
            layout, busy = self.layout.ordered(one.names), one.at.e2e if math.isfinite(one.at.e2e) else 0.0
            found[name] = [
                pool_hit_rate(layout, self.deployment, size, self.requests_per_second, busy) for size in tokens
            ]
        return found

    @property
    def sources(self) -> list[str]:
        """What the figures rest on."""
        found = [
            "hit rates: Che's approximation (Che, Tung and Wang, IEEE JSAC 20(7), 2002), Poisson arrivals, variants of segments "
            "independent; checked against the serving simulator to 2 points",
            "best order: exact over all orders at the cache time of the order given",
            "device time saved is priced at the deployment's rent; it is money only where the devices it frees are used or given back",
        ]
        for bill, _ in self.bills:
            refs = "; ".join(
                f"{', '.join(source.of)}: {source.ref} ({source.status})" for source in bill.scheme.sources
            )
            found.append(f"{bill.scheme.name}, {bill.scheme.date}: {refs}")
        knob, engine = self.deployment.knobs.enable_prefix_caching, self.deployment.machine.engine
        if not (engine.enable_prefix_caching if knob is None else knob):
            found.append(f"prefix caching is off in this deployment of {engine.name}; the figures are of it turned on")
        found += [f"tier {tier.name}: given by the user" for tier in self.layout.tiers]
        return found + self.deployment.sources

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units."""
        found: dict[str, Any] = {
            "deployment": self.deployment.describe(), "prompt_tokens": self.layout.tokens,
            "kv_tokens": float(self.deployment.memory.kv_tokens), "routing": self.layout.routing,
            "requests_per_s": self.requests_per_second, "cacheable_segments": list(self.cacheable),
            "uncached": {
                "ttft_s": _finite(self.uncached.ttft), "e2e_s": _finite(self.uncached.e2e),
                "prefill_device_s": self.uncached_prefill_seconds,
                "prefill_usd_per_request": self.prefill_usd(self.uncached_prefill_seconds),
            },
        }  # fmt: skip
        for name, one in (("now", self.now), ("best", self.best)):
            found[name] = {
                "order": list(one.names), "hit_rate": one.hit_rate, "cached_tokens": one.cached_tokens,
                "hit_by_segment": list(one.segment_hits), "ttft_s": _finite(one.ttft), "e2e_s": _finite(one.at.e2e),
                "prefill_device_s": one.prefill_seconds, "prefill_usd_per_request": self.prefill_usd(one.prefill_seconds),
                "tiers": [
                    {"name": tier.name, "share_of_tokens": tier.share, "keeps_unused_s": _finite(tier.keeps_seconds),
                     "reload_s": tier.reload_seconds, "recompute_s": tier.recompute_seconds, "reload_pays": tier.pays}
                    for tier in one.tiers
                ],
            }  # fmt: skip
        found["saved_device_s_per_request"] = self.saved_seconds
        found["saved_usd_per_day"] = self.saved_usd_per_day
        found["apis"] = [{"now": now.to_dict(), "best": best.to_dict()} for now, best in self.bills]
        found["figure"] = {"hit_rate_by_cache_size": self.curve, "before_and_after": self._before_and_after()}
        return found | {"sources": self.sources}

    def _before_and_after(self) -> dict[str, Any]:
        """TTFT and cost of a request: without a cache, as it stands, in the best order."""
        usd = [
            self.prefill_usd(s)
            for s in (self.uncached_prefill_seconds, self.now.prefill_seconds, self.best.prefill_seconds)
        ]
        series: dict[str, Any] = {
            "cases": ["no cache", "as it stands", "best order"],
            "ttft_s": [_finite(one) for one in (self.uncached.ttft, self.now.ttft, self.best.ttft)],
            "prefill_usd_per_request": usd,
        }
        for now, best in self.bills:
            series[f"{now.scheme.name}_usd_per_request"] = [now.uncached_usd, now.usd, best.usd]
        return series

    def __str__(self) -> str:
        head = f"{'':<14} {'hit rate':>9} {'TTFT':>10} {'prefill':>10} {'USD/1k requests':>16}"
        lines = [_short(self.deployment.describe()),
                 f"{self.layout.tokens:,} tokens a prompt, {self.requests_per_second:,.3g} requests/s", head]  # fmt: skip
        rows = (("no cache", 0.0, self.uncached.ttft, self.uncached_prefill_seconds),
                ("as it stands", self.now.hit_rate, self.now.ttft, self.now.prefill_seconds),
                ("best order", self.best.hit_rate, self.best.ttft, self.best.prefill_seconds))  # fmt: skip
        for name, hit, ttft, seconds in rows:
            usd = self.prefill_usd(seconds)
            lines.append(f"{name:<14} {hit:>9.1%} {_time(ttft):>10} {_time(seconds):>10} "
                         f"{'-' if usd is None else f'{1000 * usd:.4f}':>16}")  # fmt: skip
        lines.append(_short("best order: " + ", ".join(self.best.names)))
        for tier in self.best.tiers[1:]:
            verdict = "reload" if tier.pays else "recompute"
            lines.append(_short(
                f"{tier.name}: {tier.share:.1%} of tokens; reload {_time(tier.reload_seconds)}, "
                f"recompute {_time(tier.recompute_seconds)}: {verdict}"
            ))  # fmt: skip
        for now, best in self.bills:
            lines.append(
                f"{now.scheme.name:<16} {1000 * now.uncached_usd:.2f} uncached, {1000 * now.usd:.2f} as it stands, "
                f"{1000 * best.usd:.2f} best, USD/1k"
            )
        return "\n".join(lines)


def answer(spec: PromptLayout | Mapping[str, Any], deployment: Estimate) -> PromptAnswer:
    """What a prefix cache makes of a prompt on a deployment, how its segments are best ordered, and what APIs would charge.

    ``spec`` is a layout or a mapping of its fields. The deployment's workload gives output tokens and, where the layout states no
    rate, the users of the closed loop. Raises SpecError for bad input, DoesNotFitError where the deployment does not fit.

    >>> from infersim import estimate
    >>> found = answer({"requests_per_second": 4, "segments": [
    ...     {"name": "date", "tokens": 20, "changes_every": "1 min"}, {"name": "rules", "tokens": 3000},
    ...     {"name": "question", "tokens": 200, "variants": "unique", "movable": False}]},
    ...     estimate("meta-llama/Llama-3.1-8B", "H100-SXM"))
    >>> found.best.names, round(found.now.hit_rate, 2), round(found.best.hit_rate, 2)
    (('rules', 'date', 'question'), 0.93, 0.93)
    """
    layout = read_layout(dict(spec) if isinstance(spec, Mapping) else spec)
    now = caching(layout, deployment)
    rate = layout.requests_per_second or now.at.requests_per_second
    stay = now.tiers[-1].keeps_seconds + (now.at.e2e if math.isfinite(now.at.e2e) else 0.0)

    def chance(one: Prefix) -> float:
        return one.hit(lambda r, m: hit_rate(r, stay, m), rate)

    order = best_order(layout, chance)
    best = now if order == layout.names else caching(layout.ordered(order), deployment)
    if best.hit_rate < now.hit_rate:
        best = now
    bills = tuple(
        (api_bill(layout, terms, rate, deployment.workload.output_tokens),
         api_bill(layout.ordered(best.names), terms, rate, deployment.workload.output_tokens))
        for terms in layout.apis
    )  # fmt: skip
    return PromptAnswer(
        layout, deployment, point(deployment, layout.tokens, 0.0, layout.requests_per_second),
        prefill_seconds(deployment, layout.tokens), now, best, bills,
    )  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _time(seconds: float) -> str:
    return units.show(seconds, "s") if math.isfinite(seconds) else "overload"


def _short(line: str) -> str:
    return line if len(line) <= 80 else line[:77] + "..."
