"""The number formats that a model runs in on a device."""

from __future__ import annotations

from infersim.specs.hardware import Accelerator
from infersim.specs.model import ModelSpec
from infersim.specs.precision import Precision, number_format, precision


def resolve_precision(
    model: ModelSpec, name: str | Precision | None, kv_cache: str | None, accelerator: Accelerator
) -> Precision:
    """The formats to run in: the user's, else the checkpoint's; 16-bit types fall back to what the device has."""
    chosen = model.precision if name is None else precision(name)
    if name is None and chosen.compute == "bf16" and not {"bf16"} & set(accelerator.peak_flops):
        swap = {
            field: "fp16"
            for field in ("compute", "weights", "activations", "kv_cache")
            if getattr(chosen, field) == "bf16"
        }
        chosen = chosen.model_copy(update=swap | {"name": chosen.name.replace("bf16", "fp16")})
    if kv_cache is not None:
        label = f"{chosen.name or chosen.weights}, {kv_cache} KV cache"
        chosen = chosen.model_copy(update={"kv_cache": number_format(kv_cache).name, "name": label})
    return chosen
