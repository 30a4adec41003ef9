"""Matrix multiplications: dense layers and routed experts."""

from __future__ import annotations

from dataclasses import dataclass

from infersim.ops.base import MatrixOp, Numbers
from infersim.routing import distinct_experts


def gemm_flops(m: Numbers, n: Numbers, k: Numbers) -> Numbers:
    """FLOP of an (m x k) by (k x n) product: 2 m n k. Bias and activation are not counted.

    >>> gemm_flops(1, 4096, 4096)
    33554432
    """
    return m * (2 * n * k)


def gemm_bytes(
    m: Numbers, n: Numbers, k: Numbers, *, weight_bytes: float, activation_bytes: float, output_bytes: float = 2.0
) -> Numbers:
    """Bytes of an (m x k) by (k x n) product with each operand moved once [B]: w n k + a m k + o m n.

    >>> gemm_bytes(1, 4096, 4096, weight_bytes=2, activation_bytes=2)
    33570816.0
    """
    return weight_bytes * n * k + m * (activation_bytes * k + output_bytes * n)


@dataclass(frozen=True)
class Gemm(MatrixOp):
    """y = x W for ``m`` tokens, W of ``k`` rows and ``n`` columns; ``copies`` identical ones side by side."""

    m: Numbers
    n: float
    k: float
    copies: int = 1
    output_bytes: float = 2.0

    @property
    def flops(self) -> Numbers:
        return gemm_flops(self.m, self.copies * self.n, self.k)

    @property
    def bytes(self) -> Numbers:
        one = gemm_bytes(
            self.m, self.n, self.k, weight_bytes=self.weights.bytes, activation_bytes=self.activations.bytes,
            output_bytes=self.output_bytes,
        )  # fmt: skip
        return one if self.copies == 1 else self.copies * one


@dataclass(frozen=True)
class GroupedGemm(MatrixOp):
    """The routed experts of one layer on one device: both (or all three) products of every expert touched.

    ``tokens`` are those of all ranks that share the experts; each visits ``experts_per_token`` of ``num_experts``, which
    are dealt out to ``expert_parallel`` groups and cut among ``tensor_parallel`` ranks within a group. FLOP and bytes are
    the mean rank's; the busiest one is a matter of time, not of work.
    """

    tokens: Numbers
    hidden: float
    intermediate: float
    num_experts: int
    experts_per_token: int
    gated: bool
    tensor_parallel: int = 1
    expert_parallel: int = 1

    @property
    def matrices(self) -> int:
        return 3 if self.gated else 2

    @property
    def rows(self) -> Numbers:
        """Token-expert pairs that one rank computes."""
        return self.tokens * (self.experts_per_token / self.expert_parallel)

    @property
    def touched(self) -> Numbers:
        """Expected experts of one rank that get at least one token."""
        return distinct_experts(self.tokens, self.num_experts, self.experts_per_token) / self.expert_parallel

    @property
    def flops(self) -> Numbers:
        return gemm_flops(self.rows, self.matrices * self.intermediate / self.tensor_parallel, self.hidden)

    @property
    def bytes(self) -> Numbers:
        d, f = self.hidden, self.intermediate / self.tensor_parallel
        weights = self.touched * (self.matrices * d * f * self.weights.bytes)
        return weights + self.rows * ((d + f) * self.activations.bytes + ((self.matrices - 1) * f + d) * 2.0)
