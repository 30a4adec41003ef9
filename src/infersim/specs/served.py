"""A model on hardware as a file says it: the model, the device, and how it is placed there. Bundled names, paths or inline specs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from infersim.specs.deployment import Degree, EngineKnobs, Parallelism
from infersim.specs.engine import EngineSpec
from infersim.specs.hardware import Accelerator, System
from infersim.specs.huggingface import from_config
from infersim.specs.model import ModelSpec
from infersim.specs.precision import Precision
from infersim.specs.quantity import Money, Spec
from infersim.specs.speculation import Speculation

PARALLEL = {
    "tensor_parallel": "tensor", "pipeline_parallel": "pipeline", "attention_data_parallel": "attention_data",
    "expert_parallel": "expert", "context_parallel": "context", "replicas": "replicas",
}  # fmt: skip
"""Fields of a placement that are degrees of parallelism, and what ``Parallelism`` calls them."""


class Placement(EngineKnobs):
    """How a model is placed: parallelism, number formats, engine, its knobs and drafts; what is left out is the engine's default.

    >>> one = Placement(tensor_parallel=4, precision="fp8", max_num_seqs=64)
    >>> one.parallelism.devices, one.knobs.max_num_seqs
    (4, 64)
    """

    tensor_parallel: Degree = 1
    """Devices that each layer is cut over."""
    pipeline_parallel: Degree = 1
    """Stages that layers are dealt out to."""
    attention_data_parallel: Degree = 1
    """Groups that each keep the attention of their own sequences."""
    expert_parallel: Degree = 1
    """Devices that experts are dealt out to."""
    context_parallel: Degree = 1
    """Devices that a context is cut over."""
    replicas: Degree = 1
    """Copies of the deployment."""
    precision: str | Precision | None = None
    """Name of a scheme, or formats of one's own; None takes the checkpoint's."""
    kv_cache: str | None = None
    """Number format of the KV cache."""
    engine: str | EngineSpec = "vllm"
    """Serving engine, by name or written out."""
    system: str | System | None = None
    """The node or rack; None takes the usual one."""
    mode: Literal["calibrated", "bound"] = "calibrated"
    """calibrated by measurements, or the bound of the data sheet."""
    speculative_config: Speculation | None = None
    """Drafts."""

    @property
    def parallelism(self) -> Parallelism:
        return Parallelism(**{name: getattr(self, field) for field, name in PARALLEL.items()})

    @property
    def knobs(self) -> EngineKnobs:
        return EngineKnobs.model_construct(**{name: getattr(self, name) for name in EngineKnobs.model_fields})


class ServedModel(Spec):
    """A model on hardware. ``model`` and ``hardware`` are bundled names, paths, or specs written out; a ``config.json`` of Hugging
    Face may be written out too. ``gpu_hour`` is the price of a device for an hour, by default the one on file.

    >>> ServedModel.model_validate({"model": "gpt2", "hardware": "L4", "gpu_hour": "0.8 USD"}).gpu_hour
    0.8
    """

    model: Annotated[str, Field(min_length=1)] | ModelSpec
    """Model by name or path, or written out."""
    hardware: Annotated[str, Field(min_length=1)] | Accelerator
    """Accelerator by name or path, or written out."""
    deployment: Placement = Placement()
    """How it is placed."""
    gpu_hour: Money | None = None
    """Price of a device for an hour; by default the one on file."""

    @field_validator("model", mode="before")
    @classmethod
    def _config(cls, given: Any) -> Any:
        if isinstance(given, dict) and ("architectures" in given or "model_type" in given):
            return from_config(given, name=str(given.get("_name_or_path") or "model written out"))
        return given
