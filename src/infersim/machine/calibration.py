"""Which kernel parameters hold for a device under an engine, and how far they have been checked."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from infersim.machine.kernels.attention import AttentionParameters
from infersim.machine.kernels.collective import CollectiveParameters
from infersim.machine.kernels.elementwise import ElementwiseParameters
from infersim.machine.kernels.gemm import GemmParameters
from infersim.machine.kernels.latent import LatentParameters
from infersim.machine.kernels.moe import MoeParameters
from infersim.machine.kernels.scan import ScanParameters

DEFAULTS: dict[str, Any] = {
    "gemm": GemmParameters(), "attention": AttentionParameters(), "elementwise": ElementwiseParameters(),
    "mla": LatentParameters(), "moe": MoeParameters(), "scan": ScanParameters(), "collective": CollectiveParameters(),
}  # fmt: skip

DEFAULT_SPREAD = {
    "gemm": 0.2,
    "attention": 0.3,
    "elementwise": 0.3,
    "mla": 0.3,
    "moe": 0.3,
    "scan": 0.4,
    "collective": 0.4,
}
"""Standard deviation of the log error of the default parameters, by kind."""


@dataclass(frozen=True)
class Fitted:
    """Parameters of one kernel family, what they rest on, and the spread of their log error."""

    parameters: Any
    source: str
    spread: float


@dataclass(frozen=True)
class Calibration:
    """The kernel parameters of one device under one engine."""

    accelerator: str
    architecture: str
    engine: str

    def lookup(self, kind: str, key: str) -> Fitted:
        """Parameters of a kind of kernel for a number format."""
        return _default(kind)


@functools.lru_cache(maxsize=64)
def _default(kind: str) -> Fitted:
    return Fitted(
        DEFAULTS[kind], "family default: efficiencies reported for NVIDIA data-centre GPUs", DEFAULT_SPREAD[kind]
    )


@functools.lru_cache(maxsize=256)
def load_calibration(accelerator: str, architecture: str, engine: str) -> Calibration:
    """The calibration of an accelerator under an engine."""
    return Calibration(accelerator, architecture, engine)
