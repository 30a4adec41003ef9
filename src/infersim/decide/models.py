"""A language model in a decision: its prices are assumptions, and what it cannot read costs what no money buys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.ops.base import Numbers
from infersim.planning.allocation import TokenPrices
from infersim.planning.apis import SPEEDS, api_of
from infersim.planning.assumptions import Assumption
from infersim.planning.calls import Api, Call, Deployed
from infersim.planning.known import knowledge
from infersim.predict.deploy import deploy
from infersim.predict.estimate import Estimate
from infersim.prompts.api import ApiCache, load_api_cache
from infersim.prompts.cache import hit_rate
from infersim.specs.api import ApiModel
from infersim.specs.huggingface import load_model
from infersim.specs.served import ServedModel
from infersim.specs.workload import Workload

Values = Mapping[str, Any]
FALL, RISE = 2.0, 1.2
"""Range of an API's price: half of it to a fifth more; assumed, as prices have fallen."""
PRICES = ("input_price", "cached_input_price", "output_price")
LOAD = Workload(concurrency=8)
"""What own devices serve beside a call where nobody says it; assumed."""
REMEMBERED = 512
"""Calls that are kept at most."""
RENT = 1.5
"""Range of a rent: this factor to both sides; assumed."""


@dataclass(frozen=True)
class Priced:
    """A model whose calls are priced by assumptions; their names begin with ``prefix``."""

    model: Deployed | Api
    prefix: str
    items: tuple[Assumption, ...]
    context: float
    """Longest prompt and output together [tokens]."""
    scheme: ApiCache | None = None
    memory: dict[Any, Call] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def sources(self) -> list[str]:
        found = list(self.model.sources)
        if isinstance(self.model, Deployed):
            users = self.model.deployment.workload.concurrency
            found.append(f"{self.name}: calls priced by device time beside a closed loop of {users:g} users")
        if self.scheme is not None:
            found += [f"{self.scheme.name}: {source.ref} ({source.status})" for source in self.scheme.sources]
        return found

    def call(self, values: Values, prompt: Numbers, output: Numbers, cached: Numbers = 0.0) -> Call:
        """A call at these assumptions; infinite where it is longer than the model reads. Lengths below one token count as one."""
        prompt, output, cached = (np.asarray(value, dtype=float) for value in (prompt, output, cached))
        prompt, output = np.maximum(prompt, 1.0), np.maximum(output, 1.0)
        over = prompt + output > self.context
        room = np.minimum(prompt, max(self.context - 2.0, 1.0)) if np.any(over) else prompt
        made = np.minimum(output, np.maximum(self.context - room, 1.0)) if np.any(over) else output
        if isinstance(self.model, Api):
            model: Deployed | Api = replace(
                self.model, ttft=values[self.prefix + "api_ttft"], tpot=1.0, prefill_rate=values[self.prefix + "api_prefill_rate"],
                prices=TokenPrices(*(values[self.prefix + name] for name in PRICES)),
            )  # fmt: skip
            one = model.call(room, made, cached)
            tpot = np.asarray(values[self.prefix + "api_tpot"], dtype=float)
            e2e, usd = one.ttft + np.maximum(made - 1.0, 0.0) * tpot, np.asarray(one.usd, dtype=float)
        else:
            one = self._remembered(room, made, cached)
            tpot, e2e = np.asarray(one.tpot), np.asarray(one.e2e)
            usd = one.usd * self._money(values)
        ttft, tpot, e2e, usd, over = np.broadcast_arrays(one.ttft, tpot, e2e, usd, over)
        return Call(*(np.where(over, np.inf, part)[()] for part in (ttft, tpot, e2e, usd)))

    def _remembered(self, *lengths: Any) -> Call:
        """A call on own devices; those of the same lengths are priced once."""
        key = tuple((length.shape, length.tobytes()) for length in lengths)
        if key not in self.memory:
            if len(self.memory) >= REMEMBERED:
                self.memory.clear()
            self.memory[key] = self.model.call(*lengths)
        return self.memory[key]

    def _money(self, values: Values) -> Any:
        """Price of an hour over the one that calls are priced at, and hours paid over hours used."""
        assert isinstance(self.model, Deployed)
        hour = self.model.deployment.price_per_hour
        share = np.asarray(values[self.prefix + "gpu_hour"], dtype=float) / hour if hour else 1.0
        return share / np.maximum(values[self.prefix + "gpu_utilisation"], 1e-9)

    def with_prefix(self, values: Values, prefix: Numbers, fresh: Numbers, output: Numbers, hit: Numbers) -> Call:
        """The mean of calls whose first ``prefix`` tokens are found in a cache with chance ``hit``; a miss writes them there."""
        found = self.call(values, prefix + fresh, output, prefix)
        missed = self.call(values, prefix + fresh, output)
        write = 0.0
        if self.scheme is not None:
            write = (
                np.asarray(prefix) * np.asarray(values[self.prefix + "input_price"]) * (self.scheme.write - 1.0) / 1e6
            )
        h = np.asarray(hit, dtype=float)
        ttft, tpot, e2e = (
            h * getattr(found, name) + (1 - h) * getattr(missed, name) for name in ("ttft", "tpot", "e2e")
        )
        return Call(ttft, tpot, e2e, h * found.usd + (1 - h) * (missed.usd + write))

    def kept(self, values: Values, prefix: Numbers, rate: Numbers, changes: Numbers) -> tuple[Any, Any]:
        """(chance that a prefix asked for ``rate`` times a second is found, USD that keeping it costs per use).

        An API bills by its scheme; without one, and on own devices, a prefix stays for ``cache_ttl`` after its last use. On own
        devices keeping it costs its share of the KV pool for that time.
        """
        a = np.asarray(rate, dtype=float)
        if self.scheme is not None:
            enough = np.asarray(prefix) >= self.scheme.minimum_tokens
            hits = np.where(enough, self.scheme.hits(a, changes), 0.0)
            copies = np.where(enough, self.scheme.stored(a, changes), 0.0)
            return hits, copies / a * self.scheme.storage * np.asarray(prefix) / 1e6 / 3600.0
        hits = hit_rate(a, values["cache_ttl"], changes)
        if isinstance(self.model, Api):
            return hits, 0.0
        one = self.model.deployment
        hour = np.asarray(values[self.prefix + "gpu_hour"], dtype=float) * one.parallelism.devices_per_replica
        there = -np.expm1(-a * np.asarray(values["cache_ttl"]))
        return hits, there / a * hour / 3600.0 * np.minimum(np.asarray(prefix) / float(one.memory.kv_tokens), 1.0)


def check_generates(given: ServedModel | Estimate, field: str) -> None:
    """Raises SpecError for a model that reads only."""
    model = load_model(given.model) if isinstance(given.model, str) else given.model
    if model.task != "generate":
        raise SpecError(f"{model.name} does not generate text; give a model that does", field=field)


def priced(given: ServedModel | ApiModel | Estimate, prefix: str = "", *, workload: Workload | None = None) -> Priced:
    """A model with its prices as assumptions. ``workload`` is the load of a served model that is not deployed yet.

    >>> one = priced(ApiModel.model_validate("3,0.3,15"))
    >>> values = {item.name: item.base for item in one.items}
    >>> round(float(one.call(values, 200_000, 1).usd), 3), round(float(one.call(values, 200_000, 1, 200_000).usd), 3)
    (0.6, 0.06)
    """
    common = knowledge("language-model").assumptions
    if isinstance(given, ApiModel):
        api = api_of(given)
        items = [
            _around(prefix + name, float(price), FALL, RISE, "USD/M tokens", f"{api.sources[0]}; range assumed")
            for name, price in zip(PRICES, api.prices, strict=True)
        ]
        for speed in SPEEDS:
            item, value = common[f"api_{speed}"].assumption(f"{prefix}api_{speed}"), getattr(given, speed)
            items.append(item if value is None else Assumption.certain(item.name, value, unit=item.unit, status="fact"))
        scheme = load_api_cache(given.cache) if given.cache else None
        return Priced(api, prefix, tuple(items), given.context or float("inf"), scheme)
    check_generates(given, f"{prefix}model")
    one = given if isinstance(given, Estimate) else deploy(given, workload or LOAD)
    if not one.fits:
        one.ttft  # noqa: B018 - raises DoesNotFitError with what is short and what would fit
    if one.price_per_hour is None:
        raise SpecError(
            f"no price of {one.machine.accelerator.name} is on file; give one, such as "
            "gpu_hour: 2.50 USD (--price 2.5)",
            field="gpu_hour",
        )
    known = (one.memory.longest_context(), one.model.max_position_embeddings, one.knobs.max_model_len)
    longest = min(float(length) for length in known if length)
    rent = _around(prefix + "gpu_hour", one.price_per_hour, RENT, RENT, "USD/h", f"{one.price_source}; range assumed")
    return Priced(
        Deployed(one), prefix, (rent, common["gpu_utilisation"].assumption(prefix + "gpu_utilisation")), longest
    )


def _around(name: str, base: float, down: float, up: float, unit: str, source: str) -> Assumption:
    if base == 0:
        return Assumption.certain(name, 0.0, unit=unit, source=source, status="fact")
    return Assumption.around(name, base, base / down, base * up, unit=unit, source=source, status="fact")
