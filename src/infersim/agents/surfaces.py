"""Calls of a language model as quick functions: of an API directly, of a deployment from tables, so that a million calls take a second.

A deployment's call has a part of the prompt and a part of the decoding. The first is a function of the prompt and its cached share, kept
on a grid and interpolated linearly in both; the second (time and device time of a step) one of the mean context, prompt + output / 2.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from infersim.planning.calls import Deployed, LanguageModel

Array = Any
SHARES = np.array([0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 1.0])
NODES = 28


class Surface(Protocol):
    """Seconds and USD of calls, by prompt, output and cached tokens."""

    @property
    def longest(self) -> float:
        """Tokens that a call may have, prompt and output together."""

    def __call__(self, prompt: Array, output: Array, cached: Array) -> tuple[Array, Array]: ...


@dataclass(frozen=True)
class Direct:
    """An API: a few products a call."""

    model: LanguageModel
    longest: float = math.inf

    def __call__(self, prompt: Array, output: Array, cached: Array) -> tuple[Array, Array]:
        call = self.model.call(prompt, output, cached)
        return call.e2e, call.usd


@dataclass(frozen=True)
class Tabled:
    """A deployment, from tables over the lengths that it can hold."""

    model: Deployed
    longest: float
    prompts: Array
    first: Array
    """(prompts, shares): time to first token [s]."""
    paid: Array
    """(prompts, shares): what the prompt costs [USD]."""
    each: Array
    """By mean context: a step [s]."""
    busy: Array
    """By mean context: a step [USD]."""

    def __call__(self, prompt: Array, output: Array, cached: Array) -> tuple[Array, Array]:
        prompt = np.asarray(prompt, dtype=float)
        place = np.clip(np.searchsorted(self.prompts, prompt) - 1, 0, len(self.prompts) - 2)
        low, high = self.prompts[place], self.prompts[place + 1]
        up = (prompt - low) / (high - low)
        share = np.minimum(np.asarray(cached) / prompt, 1.0)
        column = np.clip(np.searchsorted(SHARES, share) - 1, 0, len(SHARES) - 2)
        right = (share - SHARES[column]) / (SHARES[column + 1] - SHARES[column])
        weights = ((1 - up) * (1 - right), (1 - up) * right, up * (1 - right), up * right)
        cells = ((place, column), (place, column + 1), (place + 1, column), (place + 1, column + 1))
        first = sum(weight * self.first[cell] for weight, cell in zip(weights, cells, strict=True))
        paid = sum(weight * self.paid[cell] for weight, cell in zip(weights, cells, strict=True))
        middle, steps = prompt + np.asarray(output) / 2, np.maximum(np.asarray(output) - 1, 0.0)
        each = np.interp(middle, self.prompts, self.each)
        return first + steps * each, paid + steps * np.interp(middle, self.prompts, self.busy)


def surface(model: LanguageModel) -> Surface:
    """The quick form of a model.

    >>> from infersim import estimate
    >>> own = Deployed(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1000, output_tokens=200, concurrency=16))
    >>> quick, exact = surface(own)(5000.0, 300.0, 4000.0), own.call(5000, 300, 4000)
    >>> bool(abs(quick[0] / exact.e2e - 1) < 0.01), bool(abs(quick[1] / exact.usd - 1) < 0.01)
    (True, True)
    """
    return _tables(model) if isinstance(model, Deployed) else Direct(model)


@functools.lru_cache(maxsize=64)
def _tables(model: Deployed) -> Tabled:
    """The tables of a deployment."""
    one = model.deployment
    longest = float(min(one.memory.longest_context(), one.model.max_position_embeddings or math.inf, one.knobs.max_model_len or math.inf,
                        1e8))  # fmt: skip
    prompts = np.unique(np.concatenate([[2.0], np.geomspace(16.0, max(longest - 2.0, 32.0), NODES)]))
    prompts = np.minimum(prompts, longest - 2.0)
    at, share = np.meshgrid(prompts, SHARES, indexing="ij")
    opened = model.call(at, 1.0, at * share)
    bare, step = model.call(prompts - 1, 1.0), model.call(prompts - 1, 2.0)
    return Tabled(model, longest, prompts, np.asarray(opened.ttft), np.asarray(opened.usd), np.asarray(step.tpot),
                  np.asarray(step.usd) - np.asarray(bare.usd))  # fmt: skip


def models_of(named: dict[str, LanguageModel], default: LanguageModel | None) -> dict[str | None, Surface]:
    """Surfaces by the names that calls use; None is the deployment that was asked about."""
    found: dict[str | None, Surface] = {name: surface(model) for name, model in named.items()}
    if default is not None:
        found[None] = surface(default)
    return found
