"""What it takes to train a model further: full fine-tuning, LoRA on 16-bit weights, QLoRA on 4-bit ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from infersim import units
from infersim.adapters.lora import Adapter, adapter_parameters
from infersim.errors import SpecError, did_you_mean
from infersim.specs.hardware import Accelerator
from infersim.specs.huggingface import load_model
from infersim.specs.library import load_accelerator
from infersim.specs.model import ModelSpec
from infersim.specs.precision import FORMATS

Method = Literal["full", "lora", "qlora"]
METHODS: tuple[Method, ...] = ("full", "lora", "qlora")
FLOP_PER_PARAMETER = {"full": 6.0, "lora": 4.0, "qlora": 4.0}
"""Forward 2, gradients of activations 2, gradients of weights 2: an adapter leaves the last out."""
RECOMPUTED = 2.0
"""A second forward pass where activations are computed again."""
ADAM_BYTES = 16.0
"""Per trained parameter: weight and gradient in 16 bits, master weight and two moments of Adam in 32 (ZeRO, arXiv:1910.02054)."""
USABLE = 0.9
MFU = 0.4
"""Assumed share of peak that training reaches; well-tuned runs report 0.35 to 0.55."""


def training_flops(
    parameters: float,
    tokens: float,
    method: Method = "full",
    *,
    adapter_parameters: float = 0.0,
    recompute: bool = False,
) -> float:
    """FLOP of a training run: 6 P D full, 4 P D + 6 P_adapter D with adapters; 2 P D more where activations are computed again.

    Attention scores are not counted: a few percent at contexts of a few thousand tokens. Source: Kaplan et al., arXiv:2001.08361.

    >>> f"{training_flops(8.03e9, 3e7):.3e}"
    '1.445e+18'
    """
    again = RECOMPUTED if recompute else 0.0
    return tokens * ((FLOP_PER_PARAMETER[method] + again) * parameters + (6.0 + again) * adapter_parameters)


def training_bytes(parameters: float, method: Method = "full", *, adapter_parameters: float = 0.0) -> float:
    """Weights, gradients and optimiser states [B]: 16 P full; 2 P + 16 P_adapter LoRA; about 0.52 P + 16 P_adapter QLoRA (NormalFloat with
    8-bit scales, arXiv:2305.14314). Activations are not in it.

    >>> training_bytes(8.03e9) / 1e9, round(training_bytes(8.03e9, "lora", adapter_parameters=41_943_040) / 1e9, 2)
    (128.48, 16.73)
    """
    if method == "full":
        return ADAM_BYTES * parameters
    return FORMATS["bf16" if method == "lora" else "bnb_nf4"].bytes * parameters + ADAM_BYTES * adapter_parameters


def checkpointed_bytes(model: ModelSpec, tokens: float) -> float:
    """Activations that a pass over ``tokens`` keeps where each layer's are computed again: its input in 16 bits, 2 s d L [B].

    Logits and the workspace of one layer are not counted. Source: Korthikanti et al., arXiv:2205.05198.
    """
    return 2.0 * tokens * model.hidden_size * model.num_layers


@dataclass(frozen=True)
class TrainingCost:
    """One run of training. ``gpu_hours`` are of all devices together."""

    model: str
    accelerator: str
    method: Method
    tokens: float
    flops: float
    state_bytes: float
    activation_bytes: float
    devices: int
    """That hold the states and the activations of one micro-batch each, the states dealt out among them."""
    gpu_hours: float
    usd: float | None
    mfu: float
    trained_parameters: float
    source: str

    @property
    def memory_bytes(self) -> float:
        """Of all devices together."""
        return self.state_bytes + self.devices * self.activation_bytes

    @property
    def sources(self) -> list[str]:
        return [f"training: {self.mfu:.0%} of peak, assumed unless given", self.source]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; keys carry units."""
        return {"model": self.model, "accelerator": self.accelerator, "method": self.method, "tokens": self.tokens, "flop": self.flops,
                "memory_bytes": self.memory_bytes, "devices": self.devices, "gpu_hours": self.gpu_hours, "usd": self.usd, "mfu": self.mfu,
                "trained_parameters": self.trained_parameters, "sources": self.sources}  # fmt: skip

    def __str__(self) -> str:
        money = "" if self.usd is None else f", {self.usd:,.2f} USD"
        size = units.show(self.memory_bytes, "B", binary=True)
        return f"train {self.method:<6}{self.gpu_hours:>11.3g} GPU hours on {self.devices} x {self.accelerator}{money}, {size}"


def training_cost(
    model: ModelSpec | str,
    tokens: float,
    method: Method = "full",
    gpu: Accelerator | str = "H100-SXM",
    *,
    mfu: float = MFU,
    adapter: Adapter | None = None,
    usd_per_gpu_hour: float | None = None,
    micro_batch_tokens: float = 4096.0,
    recompute: bool = False,
) -> TrainingCost:
    """What a run over ``tokens`` (all epochs together) takes. ``mfu``: share of the 16-bit peak; the price defaults to the one on file.

    Experts count as far as a token visits them in FLOP, and whole in memory. QLoRA's expansion of weights is not counted.
    Raises SpecError for bad input.

    >>> runs = [training_cost("meta-llama/Llama-3.1-8B", 3e7, method) for method in ("full", "lora")]
    >>> [round(run.gpu_hours, 2) for run in runs], [run.devices for run in runs]
    ([1.01, 0.68], [2, 1])
    """
    if method not in METHODS:
        raise SpecError(f"no method is called {method!r}; {did_you_mean(str(method), METHODS)}", field="method")
    for name, value in (("tokens", tokens), ("mfu", mfu), ("micro_batch_tokens", micro_batch_tokens)):
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise SpecError(f"must be above 0, got {value!r}", field=name)
    if mfu > 1:
        raise SpecError(f"is a share of peak up to 1, got {mfu!r}", field="mfu")
    spec = load_model(model) if isinstance(model, str) else model
    device = load_accelerator(gpu) if isinstance(gpu, str) else gpu
    trained = 0 if method == "full" else adapter_parameters(spec, adapter or Adapter())
    flops = training_flops(spec.active_parameters, tokens, method, adapter_parameters=trained, recompute=recompute)
    states = training_bytes(spec.total_parameters, method, adapter_parameters=trained)
    activations = checkpointed_bytes(spec, micro_batch_tokens)
    room = USABLE * (device.memory.usable or device.memory.capacity) - activations
    if room <= 0:
        raise SpecError(
            f"activations of {micro_batch_tokens:,.0f} tokens alone overfill {device.name}", field="micro_batch_tokens"
        )
    peak = device.peak_flops.get("bf16") or device.peak_flops.get("fp16") or device.peak_flops["fp32"]
    hours = flops / (mfu * peak) / 3600
    price = device.price_per_hour
    rate = usd_per_gpu_hour if usd_per_gpu_hour is not None else price.amount if price else None
    source = (
        "price: given by the user"
        if usd_per_gpu_hour is not None
        else f"price: {price.origin()}"
        if price
        else "no price on file"
    )
    return TrainingCost(
        spec.name, device.name, method, float(tokens), flops, states, activations, max(1, math.ceil(states / room)), hours,
        None if rate is None else rate * hours, mfu, float(trained or spec.total_parameters), source,
    )  # fmt: skip
