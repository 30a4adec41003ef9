"""What one call of a language model takes and costs: of one's own deployment at its load, or of an API. Everything broadcasts.

The layers above the engine (agents, RAG, cascades) are made of calls of other lengths than a deployment's mean request. A call keeps
the wait and the queue of the deployment's steady state; its own prefill and decoding are priced for its own lengths beside the
sequences that run:

    TTFT(I, C) = TTFT of the mean request + n M(I, C) - n M of the mean request      n chunks, M a step that carries one
    TPOT(I, O) = TPOT of the mean request + D(b - 1 at the mean context, 1 at I + O/2) - D(b at the mean context)
    device time = n (M - D) + (O - 1) (D / min(b, sequences of this length that the KV pool holds) + D with this sequence in it - D)

Money follows device time: the mean request costs what the deployment costs per request.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from infersim.errors import SpecError
from infersim.ops.base import Numbers
from infersim.ops.transformer import Group
from infersim.planning.allocation import TokenPrices
from infersim.predict.estimate import Estimate
from infersim.predict.step import predict_step


@dataclass(frozen=True)
class Call:
    """Times in seconds, money in USD; scalars or arrays of one shape."""

    ttft: Numbers
    tpot: Numbers
    e2e: Numbers
    usd: Numbers


class LanguageModel(Protocol):
    """Whatever answers calls: ``Deployed`` or ``Api``."""

    @property
    def name(self) -> str: ...

    @property
    def sources(self) -> list[str]: ...

    def call(self, input_tokens: Numbers, output_tokens: Numbers, cached_tokens: Numbers = 0.0) -> Call:
        """A call with a prompt of ``input_tokens``, of which ``cached_tokens`` are in the prefix cache, and ``output_tokens``."""


def _lengths(*given: Numbers) -> list[Any]:
    """Prompt, output and cached tokens as arrays of one shape; at least one prompt token is computed. SpecError where they are none."""
    prompt, output, cached = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in given))
    if not ((prompt >= 1).all() and (output >= 1).all() and (cached >= 0).all()):
        raise SpecError(
            "a call has a prompt and an output of at least one token each, and no fewer than zero cached ones"
        )
    return [prompt, output, np.minimum(cached, prompt - 1)]


@dataclass(frozen=True)
class Deployed:
    """A deployment of one's own at the load of its workload (its ``concurrency``).

    >>> from infersim import estimate
    >>> own = Deployed(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1000, output_tokens=200, concurrency=16))
    >>> mean = own.call(1000, 200)
    >>> bool(np.isclose(mean.ttft, own.deployment.ttft)), bool(np.isclose(mean.e2e, own.deployment.e2e))
    (True, True)
    >>> bool(own.call(4000, 200, cached_tokens=3500).ttft < own.call(4000, 200).ttft)
    True
    """

    deployment: Estimate

    @property
    def name(self) -> str:
        return self.deployment.describe()

    @property
    def sources(self) -> list[str]:
        return self.deployment.sources

    def call(self, input_tokens: Numbers, output_tokens: Numbers, cached_tokens: Numbers = 0.0) -> Call:
        """See ``LanguageModel.call``. Raises SpecError for lengths that are not at least one token, and for a call that is longer
        than the KV pool of a replica."""
        one, workload = self.deployment, self.deployment.workload
        prompt, output, cached = _lengths(input_tokens, output_tokens, cached_tokens)
        generates = one.model.task == "generate"
        longest = one.memory.longest_context()
        if generates and (prompt + output > longest).any():
            raise SpecError(
                f"a call of {float((prompt + output).max()):,.0f} tokens is longer than the {longest:,.0f} that the KV pool of "
                f"{one.describe()} holds"
            )
        mean_first, mean_added, mean_each, mean_busy = self._mean
        first, added, each, busy = self._parts(prompt, output, cached)
        host = (
            one.machine.engine.host.token * (prompt - workload.input_tokens)
            if one.machine.mode == "calibrated"
            else 0.0
        )
        ttft = np.maximum(one.ttft + first - mean_first + host, first)
        tpot = one.tpot + (each - mean_each) / one.tokens_per_step if generates else np.zeros_like(prompt)
        steps = np.maximum(output - 1, 0.0) if generates else np.zeros_like(prompt)
        usd = self.usd_per_request * (added + busy) / (mean_added + mean_busy)
        return Call(ttft[()], tpot[()], (ttft + steps * tpot)[()], usd[()])

    @property
    def usd_per_request(self) -> float:
        """What the mean request costs at the deployment's load [USD]; SpecError where no price is known."""
        spent = self.deployment.cost_per_second
        if spent is None:
            raise SpecError(
                f"no price of {self.deployment.machine.accelerator.name} is on file; give one, such as "
                "gpu_hour: 2.50 USD (--price 2.5)",
                field="gpu_hour",
            )
        return spent / self.deployment.requests_per_second

    @functools.cached_property
    def _mean(self) -> tuple[float, float, float, float]:
        workload = self.deployment.workload
        lengths = (workload.input_tokens, workload.output_tokens, workload.cached_tokens)
        first, added, each, busy = (float(part) for part in self._parts(*(np.asarray(value) for value in lengths)))
        return first, added, each, busy

    def _parts(self, prompt: Any, output: Any, cached: Any) -> tuple[Any, Any, Any, Any]:
        """Prefill beside the running decodes [s], what it adds to their steps [s], a decode step with this sequence in it [s], and
        the device time that its decoding takes [s]."""
        one, workload, engine = self.deployment, self.deployment.workload, self.deployment.machine.engine
        state = one.state
        assert state is not None
        stages, budget = (
            one.parallelism.pipeline,
            float(one.knobs.max_num_batched_tokens or one.machine.max_num_batched_tokens),
        )
        generates = one.model.task == "generate"
        running = max(float(state.running) / stages, 1.0)
        context = float(workload.input_tokens + workload.output_tokens / 2)
        fresh = prompt - cached
        chunked = (
            engine.enable_chunked_prefill
            if one.knobs.enable_chunked_prefill is None
            else one.knobs.enable_chunked_prefill
        )
        chunk = np.minimum(fresh, max(budget - running, budget / 8)) if chunked else fresh
        chunks = fresh / chunk
        shared = engine.mixed_batches if one.knobs.mixed_batches is None else one.knobs.mixed_batches

        def step(*batch: Group) -> Any:
            found = predict_step(one.model, one.parallelism, one.precision, batch, one.machine, sampler=one.sampler,
                                 eager=one.knobs.enforce_eager)  # fmt: skip
            return np.asarray(found.seconds)

        own = Group(np.ones_like(prompt), chunk, cached + (fresh - chunk) / 2, encode=0.0, source=0.0)
        if not generates:
            first = chunks * step(own)
            return first, first, np.zeros_like(first), np.zeros_like(first)
        others, decodes = Group(running - 1 or 1e-9, 1.0, context), Group(running, 1.0, context)
        alone = step(decodes)
        carried = step(own, decodes) if shared else step(own) + alone
        each = step(others, Group(np.ones_like(prompt), 1.0, prompt + output / 2))
        held = np.maximum(np.asarray(one.memory.max_sequences(prompt + output / 2), dtype=float), 1.0)
        beside = np.minimum(float(state.running), held)
        steps = np.maximum(output - 1, 0.0) / float(state.tokens_per_step)
        return chunks * carried, chunks * (carried - alone), each, steps * (alone / beside + each - alone) * stages


@dataclass(frozen=True)
class Api:
    """A model behind an API: what its tokens cost and how fast it answers, as measured or promised.

    ``prices`` in USD per million tokens; ``ttft`` [s] of a short prompt, ``prefill_rate`` [fresh prompt tokens/s] what longer ones add,
    ``tpot`` [s].

    >>> api = Api("an API", TokenPrices(3.0, 0.3, 15.0), ttft=0.5, tpot=0.01, prefill_rate=10_000)
    >>> call = api.call(4000, 101, cached_tokens=2000)
    >>> round(float(call.ttft), 3), round(float(call.e2e), 3), round(float(call.usd), 6)
    (0.7, 1.7, 0.008115)
    """

    name: str
    prices: TokenPrices
    ttft: float
    tpot: float
    prefill_rate: float = float("inf")
    source: str = "given by the user"

    @property
    def sources(self) -> list[str]:
        return [f"{self.name}: {self.source}"]

    def call(self, input_tokens: Numbers, output_tokens: Numbers, cached_tokens: Numbers = 0.0) -> Call:
        """See ``LanguageModel.call``."""
        prompt, output, cached = _lengths(input_tokens, output_tokens, cached_tokens)
        fresh = prompt - cached
        ttft = self.ttft + fresh / self.prefill_rate
        tpot = np.full_like(ttft, self.tpot)
        usd = (
            fresh * self.prices.input + (prompt - fresh) * self.prices.cached_input + output * self.prices.output
        ) / 1e6
        return Call(ttft[()], tpot[()], (ttft + np.maximum(output - 1, 0.0) * tpot)[()], usd[()])
