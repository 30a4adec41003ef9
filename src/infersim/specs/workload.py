"""What is asked of a deployment: lengths, load, shared prefixes, and the target it must meet."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from infersim.specs.quantity import Seconds, Spec


class Workload(Spec):
    """A steady closed loop: ``concurrency`` users, each sending the next request when the last has ended.

    Lengths are means in tokens. ``prefix_hit`` is the share of the prompt whose KV cache is already there. ``num_requests``
    makes it a benchmark run of that many requests, which starts with one of every user at once (``vllm bench serve
    --max-concurrency C --num-prompts N``): the burst weighs on the means of a short run. None is a load that never ends.
    ``fixed_lengths`` says that all requests are alike: an engine that runs prompts before decodes then keeps all users in step,
    and every wave of requests is a burst.

    >>> Workload(input_tokens=2000, prefix_hit=0.75).cached_tokens
    1500.0
    """

    input_tokens: Annotated[float, Field(ge=1, le=1e8)] = 1024.0
    """Mean prompt length."""
    output_tokens: Annotated[float, Field(ge=1, le=1e8)] = 256.0
    """Mean output length."""
    concurrency: Annotated[float, Field(ge=1, le=1e7)] = 1.0
    """Users, each sending the next request when the last has ended."""
    prefix_hit: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the prompt whose KV cache is already there."""
    num_requests: Annotated[float, Field(ge=1, le=1e12)] | None = None
    """Requests of a benchmark run; None: a load that never ends."""
    fixed_lengths: bool = False
    """Whether all requests are alike."""

    @property
    def burst_share(self) -> float:
        """Share of the requests that belong to the burst at the start.

        >>> Workload(concurrency=64, num_requests=640).burst_share
        0.1
        """
        return 0.0 if self.num_requests is None else min(self.concurrency / self.num_requests, 1.0)

    @property
    def cached_tokens(self) -> float:
        """Prompt tokens that need no prefill; at least one token is always computed."""
        return min(self.input_tokens * self.prefix_hit, self.input_tokens - 1)

    def longest_sequence(self, generates: bool) -> float:
        """Tokens of a request at its end: the prompt, and the output where the model generates one."""
        return self.input_tokens + (self.output_tokens if generates else 0)


class Target(Spec):
    """Service levels a deployment must meet, as means.

    >>> Target.model_validate("ttft=800ms").ttft
    0.8
    """

    ttft: Seconds | None = None
    tpot: Seconds | None = None
    e2e: Seconds | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        from infersim.specs.targets import in_full

        pairs = [part.partition("=") for part in in_full(given).split(",") if part.strip()]
        for name, equals, value in pairs:
            if not equals or not value.strip():
                raise ValueError(f"write a target as ttft=800ms,tpot=40ms, got {name!r}")
        return {name.strip(): value.strip() for name, _, value in pairs}

    def missed(self, *, ttft: float, tpot: float, e2e: float) -> list[str]:
        """Names of the metrics that are above their target.

        >>> Target.model_validate("ttft=800ms,tpot=40ms").missed(ttft=0.5, tpot=0.05, e2e=9.0)
        ['tpot']
        """
        values = {"ttft": ttft, "tpot": tpot, "e2e": e2e}
        return [name for name, limit in self if limit is not None and values[name] > limit]
