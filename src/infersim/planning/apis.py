"""A model behind an API, ready to be called: its prices by how it bills cached prefixes, its speed as stated or as assumed."""

from __future__ import annotations

from infersim.planning.allocation import TokenPrices
from infersim.planning.calls import Api
from infersim.planning.known import knowledge
from infersim.prompts.api import load_api_cache
from infersim.specs.api import ApiModel

SPEEDS = ("ttft", "tpot", "prefill_rate")


def api_of(given: ApiModel, name: str | None = None) -> Api:
    """The model under ``name`` (None: its own); speed that nobody states is assumed, and its source says so.

    >>> api = api_of(ApiModel.model_validate({"prices": "3,15", "cache": "anthropic-5m"}))
    >>> round(api.prices.cached_input, 3), api.ttft, api.source
    (0.3, 0.5, 'given by the user; ttft, tpot, prefill_rate assumed')
    """
    common, prices = knowledge("language-model").assumptions, given.prices
    read = prices.input * load_api_cache(given.cache).read if given.cache else prices.input
    cached = prices.cached_input if prices.cached_input is not None else read
    stated = {speed: getattr(given, speed) for speed in SPEEDS}
    missing = [speed for speed, value in stated.items() if value is None]
    ttft, tpot, rate = (common[f"api_{speed}"].value if value is None else value for speed, value in stated.items())
    source = given.source + (f"; {', '.join(missing)} assumed" if missing else "")
    return Api(name or given.name, TokenPrices(prices.input, cached, prices.output), ttft, tpot, rate, source)
