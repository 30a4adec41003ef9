"""What a steady state means for users and for the purse: latencies, throughput and cost, of one point or of arrays of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.ops.base import Numbers
from infersim.predict.latency import SteadyState


@dataclass(frozen=True)
class Figures:
    """Figures of a deployment under load, all replicas together unless they say per GPU or per user; everything broadcasts.

    Times in seconds, rates per second, money in USD.

    >>> from infersim import estimate
    >>> loop = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", replicas=2, price_per_hour=3.6)
    >>> loop.figures.cost_per_second
    0.002
    """

    state: SteadyState
    """Of one replica."""
    devices: int
    replicas: int
    generates: bool
    input_tokens: Numbers
    output_tokens: Numbers
    price_per_hour: Numbers | None
    """USD per device and hour."""

    @property
    def requests_per_second(self) -> Numbers:
        return self.state.requests_per_second * self.replicas

    @property
    def output_tokens_per_second(self) -> Numbers:
        return self.requests_per_second * (self.output_tokens if self.generates else 0.0)

    @property
    def total_tokens_per_second(self) -> Numbers:
        """Prompt and output tokens per second."""
        return self.requests_per_second * self.input_tokens + self.output_tokens_per_second

    @property
    def output_tokens_per_second_per_gpu(self) -> Numbers:
        return self.output_tokens_per_second / self.devices

    @property
    def tokens_per_second_per_user(self) -> Numbers:
        """1 / TPOT: the speed one user sees while tokens stream; infinite where none do."""
        tpot = np.asarray(self.state.tpot)
        return np.divide(1.0, tpot, out=np.full(tpot.shape, np.inf), where=tpot > 0)[()]

    @property
    def cost_per_second(self) -> Numbers | None:
        return None if self.price_per_hour is None else self.price_per_hour * self.devices / 3600

    @property
    def cost_per_million_tokens(self) -> Numbers | None:
        """USD per million prompt and output tokens together."""
        return None if self.cost_per_second is None else 1e6 * self.cost_per_second / self.total_tokens_per_second

    @property
    def cost_per_million_input_tokens(self) -> Numbers | None:
        """USD per million prompt tokens; money is split by the share of device time that prefill takes."""
        if self.cost_per_second is None:
            return None
        share = self.state.prefill_share if self.generates else 1.0
        return 1e6 * self.cost_per_second * share / (self.requests_per_second * self.input_tokens)

    @property
    def cost_per_million_output_tokens(self) -> Numbers | None:
        """USD per million output tokens; money is split by the share of device time that prefill takes."""
        if self.cost_per_second is None or not self.generates:
            return None
        return 1e6 * self.cost_per_second * (1 - self.state.prefill_share) / self.output_tokens_per_second

    def to_dict(self) -> dict[str, Any]:
        """Every figure under a name that carries its unit; those that cannot be had are None."""
        state = self.state
        return {
            "ttft_s": state.ttft, "tpot_s": state.tpot, "e2e_s": state.e2e,
            "requests_per_s": self.requests_per_second,
            "output_tokens_per_s": self.output_tokens_per_second,
            "total_tokens_per_s": self.total_tokens_per_second,
            "output_tokens_per_s_per_gpu": self.output_tokens_per_second_per_gpu,
            "tokens_per_s_per_user": self.tokens_per_second_per_user,
            "running_sequences": state.running, "waiting_requests": state.waiting,
            "prefill_time_share": state.prefill_share,
            "price_per_gpu_hour_usd": self.price_per_hour,
            "cost_per_million_tokens_usd": self.cost_per_million_tokens,
            "cost_per_million_input_tokens_usd": self.cost_per_million_input_tokens,
            "cost_per_million_output_tokens_usd": self.cost_per_million_output_tokens,
        }  # fmt: skip
