"""What is sent to a deployment, as a value: lengths, arrivals, shared prefixes and sessions."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator, model_validator

from infersim.serving.arrivals import LONGEST_RUN, Arrivals, ClosedLoop, as_arrivals
from infersim.serving.durations import ExponentialTime, Pause
from infersim.serving.lengths import Fixed, Integers, Lengths, Pairs, as_lengths, uniform_by_ratio
from infersim.specs.quantity import Spec


class SharedPrefixes(Spec):
    """Prefixes that many prompts start with: system prompts, few-shot examples, documents.

    There are ``groups`` of them, each with a length drawn once; a prompt takes one with probability ``share``, the k-th most
    popular in proportion to 1 / k^``skew``. The prefix comes before the drawn input tokens, as ``--random-prefix-len`` has it.
    """

    groups: Annotated[int, Field(ge=1, le=10**6)] = 1
    tokens: Lengths
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    skew: Annotated[float, Field(ge=0, le=10)] = 0.0

    @field_validator("tokens", mode="before")
    @classmethod
    def _lengths(cls, given: Any) -> Any:
        return as_lengths(given, "prefixes.tokens") if not hasattr(given, "sample") else given

    @property
    def weights(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Chance of each group, the most popular first."""
        popularity = 1.0 / np.arange(1, self.groups + 1) ** self.skew
        return np.asarray(popularity / popularity.sum())


class Sessions(Spec):
    """Conversations and agent loops: every turn's prompt is all that was said before and ``input_tokens`` new ones.

    ``think`` is the time between an answer and the next turn: a mean, of an exponential time, or a distribution (the tools of an
    agent); zero where nothing lies between. The first turn brings ``first_tokens`` in place of the traffic's input tokens, so that
    turn i of a session whose answers stay short has a prompt of about first + (i - 1) x input tokens.
    A session ends early where its next prompt would be longer than ``max_context``.
    """

    turns: Lengths
    think: Pause = ExponentialTime.model_construct(mean=0.0)
    first_tokens: Lengths | None = None
    max_context: Annotated[int, Field(ge=1)] | None = None

    @field_validator("turns", "first_tokens", mode="before")
    @classmethod
    def _lengths(cls, given: Any, info: Any) -> Any:
        return given if given is None or hasattr(given, "sample") else as_lengths(given, f"sessions.{info.field_name}")


class Traffic(Spec):
    """A stream of ``num_requests`` requests. Lengths are distributions in tokens; a plain number is a fixed length.

    ``pairs`` draws input and output together, in place of the two. ``priorities`` are drawn evenly, lower ones served first
    where the engine's scheduling policy is priority.

    >>> Traffic(input_tokens=1000, output_tokens={"lognormal": {"mean": 250, "cv": 1}}, arrivals=ClosedLoop(concurrency=8)).mean_output
    250.0
    """

    input_tokens: Lengths = Fixed(tokens=1024)
    output_tokens: Lengths = Fixed(tokens=256)
    pairs: Pairs | None = None
    arrivals: Arrivals = ClosedLoop(concurrency=1)
    num_requests: Annotated[int, Field(ge=1, le=10**9)] = 1000
    prefixes: SharedPrefixes | None = None
    sessions: Sessions | None = None
    priorities: Annotated[int, Field(ge=1, le=1000)] = 1

    @field_validator("input_tokens", "output_tokens", mode="before")
    @classmethod
    def _lengths(cls, given: Any, info: Any) -> Any:
        return as_lengths(given, info.field_name) if not hasattr(given, "sample") else given

    @field_validator("arrivals", mode="before")
    @classmethod
    def _arrivals(cls, given: Any) -> Any:
        return as_arrivals(given)

    @model_validator(mode="after")
    def _users(self) -> Traffic:
        if isinstance(self.arrivals, ClosedLoop) and self.arrivals.ramp and self.arrivals.concurrency == 1:
            raise ValueError("a ramp needs more than one user")
        rate = getattr(self.arrivals, "rate", math.inf)
        if self.num_requests / rate > LONGEST_RUN:
            raise ValueError(f"{self.num_requests} requests at {rate:g} a second take centuries: raise the rate")
        return self

    @property
    def mean_input(self) -> float:
        """Mean prompt of a first turn, the shared prefix included [tokens]."""
        own = self.pairs.mean[0] if self.pairs else self.input_tokens.mean
        if self.sessions is not None and self.sessions.first_tokens is not None:
            own = self.sessions.first_tokens.mean
        return own + (self.prefixes.tokens.mean * self.prefixes.share if self.prefixes else 0.0)

    @property
    def mean_output(self) -> float:
        return self.pairs.mean[1] if self.pairs else self.output_tokens.mean

    def describe(self) -> dict[str, Any]:
        """The whole of it as plain values, for a summary."""
        found: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return found

    def lengths(self, generator: np.random.Generator, count: int) -> tuple[Integers, Integers]:
        """Input and output lengths of so many requests."""
        if self.pairs is not None:
            return self.pairs.sample(generator, count)
        return self.input_tokens.sample(generator, count), self.output_tokens.sample(generator, count)


def benchmark_traffic(
    input_tokens: int, output_tokens: int, concurrency: int, *, range_ratio: float = 0.8, rounds: int = 10
) -> Traffic:
    """The closed loop of the InferenceX client: ``rounds`` x concurrency random prompts, lengths uniform in
    [ratio x L, L], a burst of ``concurrency`` at the start, every ended request replaced at once.

    >>> traffic = benchmark_traffic(1024, 1024, 64)
    >>> traffic.num_requests, traffic.input_tokens.low, traffic.arrivals.concurrency
    (640, 819.0, 64)
    """
    return Traffic(
        input_tokens=uniform_by_ratio(input_tokens, range_ratio), output_tokens=uniform_by_ratio(output_tokens, range_ratio),
        arrivals=ClosedLoop(concurrency=concurrency), num_requests=max(1, math.ceil(rounds * concurrency)),
    )  # fmt: skip
