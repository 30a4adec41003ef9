"""Number formats with their scales, and schemes that say which format each kind of tensor has.

A format's ``bits`` include its scales: 4-bit integers with a 16-bit scale per 128 weights are 4.125 bits. ``unit``
names the matrix unit (the key of ``Accelerator.peak_flops``) that multiplies two tensors of the format.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import field_validator, model_validator

from infersim.errors import SpecError, UnsupportedError, did_you_mean
from infersim.specs.hardware import Accelerator, MatrixUnit
from infersim.specs.quantity import Spec

Role = Literal["attention", "mlp", "experts", "shared_expert", "router", "embedding", "lm_head", "tower"]
"""What a weight is for. A scheme may quantise some roles and leave others."""

UNQUANTISED_ROLES: tuple[Role, ...] = ("router", "embedding", "lm_head", "tower")
"""Roles that quantised checkpoints keep in 16 bits unless they say otherwise."""


class NumberFormat(NamedTuple):
    """A way to store numbers: ``bits`` per element, scales included."""

    name: str
    bits: float
    unit: MatrixUnit | None
    """The matrix unit that multiplies it; None for storage-only formats, which are expanded to the activation's."""
    description: str

    @property
    def bytes(self) -> float:
        """Bytes per element, scales included."""
        return self.bits / 8


def scaled(element_bits: float, group: int, scale_bits: float = 16, zero_bits: float = 0) -> float:
    """Bits per element of a group-wise scaled format: b + (scale + zero) / group.

    >>> scaled(4, 128), scaled(4, 128, 16, 4), scaled(4, 16, 8), scaled(4, 32, 8), scaled(2, 32, 16, 16)
    (4.125, 4.15625, 4.5, 4.25, 3.0)
    """
    return element_bits + (scale_bits + zero_bits) / group


def _formats(*formats: NumberFormat) -> dict[str, NumberFormat]:
    return {number_format.name: number_format for number_format in formats}


FORMATS: dict[str, NumberFormat] = _formats(
    NumberFormat("fp32", 32, "fp32", "IEEE single"),
    NumberFormat("tf32", 32, "tf32", "single in memory, 19 bits in the matrix unit"),
    NumberFormat("bf16", 16, "bf16", "bfloat16"),
    NumberFormat("fp16", 16, "fp16", "IEEE half"),
    NumberFormat("fp8", 8, "fp8", "8-bit float, one scale per tensor, row or token"),
    NumberFormat("fp8_block", scaled(8, 128 * 128, 32), "fp8", "8-bit float, one fp32 scale per 128 x 128 block"),
    NumberFormat("mxfp8", scaled(8, 32, 8), "fp8", "OCP MX: 8-bit float, one power-of-two scale per 32"),
    NumberFormat("int8", 8, "int8", "8-bit integer, one scale per channel or token"),
    NumberFormat("nvfp4", scaled(4, 16, 8), "fp4", "4-bit float, one fp8 scale per 16 and one fp32 per tensor"),
    NumberFormat("mxfp4", scaled(4, 32, 8), "fp4", "OCP MX: 4-bit float, one power-of-two scale per 32"),
    NumberFormat("int8_weight", scaled(8, 128), None, "8-bit integer weights expanded to the activation's format"),
    NumberFormat("int4", scaled(4, 128), None, "4-bit integer weights, a 16-bit scale per 128 (GPTQ symmetric)"),
    NumberFormat("int4_g32", scaled(4, 32), None, "4-bit integer weights, a 16-bit scale per 32"),
    NumberFormat("int4_g64", scaled(4, 64), None, "4-bit integer weights, a 16-bit scale per 64"),
    NumberFormat("int4_zp", scaled(4, 128, 16, 4), None, "4-bit integer weights, scale and zero per 128 (AWQ, GPTQ)"),
    NumberFormat("int3", scaled(3, 128), None, "3-bit integer weights, a 16-bit scale per 128"),
    NumberFormat("int2_kivi", scaled(2, 32, 16, 16), None, "2-bit KV cache, scale and zero per 32 (KIVI)"),
    NumberFormat("bnb_nf4", scaled(4, 64, 8), None, "4-bit NormalFloat weights, an 8-bit scale per 64 (bitsandbytes)"),
    NumberFormat("q2_k", 2.625, None, "GGUF super-blocks of 256: 84 B"),
    NumberFormat("q3_k", 3.4375, None, "GGUF super-blocks of 256: 110 B"),
    NumberFormat("q4_0", 4.5, None, "GGUF blocks of 32: 18 B"),
    NumberFormat("q4_k", 4.5, None, "GGUF super-blocks of 256: 144 B"),
    NumberFormat("q4_k_m", 4.83, None, "GGUF mix: q4_k with q6_k in half of the value and down projections"),
    NumberFormat("q5_k", 5.5, None, "GGUF super-blocks of 256: 176 B"),
    NumberFormat("q6_k", 6.5625, None, "GGUF super-blocks of 256: 210 B"),
    NumberFormat("q8_0", 8.5, None, "GGUF blocks of 32: 34 B"),
)  # fmt: skip
"""Every number format by name. Check values: GGUF block sizes in llama.cpp's ggml-common.h; OCP MX specification 1.0."""


def number_format(name: str) -> NumberFormat:
    """The format called ``name``; SpecError with the nearest names where there is none.

    >>> number_format("nvfp4").bits
    4.5
    """
    try:
        return FORMATS[name]
    except (KeyError, TypeError):
        raise SpecError(f"no number format is called {name!r}; {did_you_mean(str(name), FORMATS)}") from None


class RolePrecision(Spec):
    """Formats of one role's weights and of the activations multiplied with them."""

    weights: str
    activations: str

    @field_validator("weights", "activations")
    @classmethod
    def _known(cls, name: str) -> str:
        return number_format(name).name


class Precision(Spec):
    """Which format every tensor has.

    ``weights`` and ``activations`` hold for all linear layers except the roles in ``roles``; router, embedding, LM
    head and vision towers stay at ``compute`` unless ``roles`` names them. ``compute`` is the 16-bit (or 32-bit) type
    of everything that is not quantised.
    """

    name: str = ""
    compute: str = "bf16"
    weights: str = "bf16"
    activations: str = "bf16"
    kv_cache: str = "bf16"
    roles: dict[Role, RolePrecision] = {}

    @field_validator("compute", "weights", "activations", "kv_cache")
    @classmethod
    def _known(cls, name: str) -> str:
        return number_format(name).name

    @model_validator(mode="after")
    def _compute_is_plain(self) -> Precision:
        if self.compute not in ("bf16", "fp16", "fp32"):
            raise ValueError(f"compute must be bf16, fp16 or fp32, got {self.compute!r}")
        return self

    def of(self, role: Role) -> tuple[NumberFormat, NumberFormat]:
        """Formats of the weights of a role and of the activations they meet.

        >>> [number_format.name for number_format in SCHEMES["fp8"].of("lm_head")]
        ['bf16', 'bf16']
        """
        if role in self.roles:
            chosen = self.roles[role]
            return FORMATS[chosen.weights], FORMATS[chosen.activations]
        if role in UNQUANTISED_ROLES:
            return FORMATS[self.compute], FORMATS[self.compute]
        return FORMATS[self.weights], FORMATS[self.activations]


def _schemes(*schemes: Precision) -> dict[str, Precision]:
    return {scheme.name: scheme for scheme in schemes}


SCHEMES: dict[str, Precision] = _schemes(
    Precision(name="bf16"),
    Precision(name="fp16", compute="fp16", weights="fp16", activations="fp16", kv_cache="fp16"),
    Precision(name="fp32", compute="fp32", weights="fp32", activations="fp32", kv_cache="fp32"),
    Precision(name="fp8", weights="fp8", activations="fp8"),
    Precision(name="fp8_block", weights="fp8_block", activations="fp8_block"),
    Precision(name="mxfp8", weights="mxfp8", activations="mxfp8"),
    Precision(name="int8", weights="int8", activations="int8"),
    Precision(name="w8a16", weights="int8_weight"),
    Precision(name="w4a16", weights="int4"),
    Precision(name="w4a16_g32", weights="int4_g32"),
    Precision(name="w4a16_g64", weights="int4_g64"),
    Precision(name="awq", weights="int4_zp"),
    Precision(name="w4a8", weights="int4", activations="fp8"),
    Precision(name="nvfp4", weights="nvfp4", activations="nvfp4"),
    Precision(name="w4a16_nvfp4", weights="nvfp4"),
    Precision(name="mxfp4", weights="mxfp4", activations="mxfp4"),
    Precision(name="w4a16_mxfp4", weights="mxfp4"),
    Precision(name="w4a8_mxfp4", weights="mxfp4", activations="mxfp8"),
    Precision(name="bnb_nf4", weights="bnb_nf4"),
    *(Precision(name=name, compute="fp16", weights=name, activations="fp16", kv_cache="fp16",
                roles={"lm_head": RolePrecision(weights="q6_k" if name != "q8_0" else "q8_0", activations="fp16")})
      for name in ("q2_k", "q3_k", "q4_0", "q4_k", "q4_k_m", "q5_k", "q6_k", "q8_0")),
)  # fmt: skip
"""Named schemes. The KV cache stays at the compute type; add a suffix to quantise it: ``fp8+kv_fp8``."""

ALIASES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "w8a8": "int8", "w8a8_int8": "int8",
           "w8a8_fp8": "fp8", "int4": "w4a16", "gptq": "w4a16", "w4": "w4a16", "fp4": "nvfp4", "fp8_e4m3": "fp8"}  # fmt: skip


def precision(name: str | Precision) -> Precision:
    """The scheme called ``name``; ``+kv_FORMAT`` sets the KV cache's format.

    >>> precision("fp8").weights, precision("fp8+kv_fp8").kv_cache
    ('fp8', 'fp8')
    """
    if isinstance(name, Precision):
        return name
    if not isinstance(name, str):
        raise SpecError(f"precision is a name such as 'fp8', got {name!r}")
    base, _, kv = name.lower().partition("+kv_")
    base = ALIASES.get(base, base)
    if base not in SCHEMES:
        raise SpecError(f"no precision is called {name!r}; {did_you_mean(base, SCHEMES)}", field="precision")
    scheme = SCHEMES[base]
    return scheme.model_copy(update={"name": name.lower(), "kv_cache": number_format(kv).name}) if kv else scheme


def matrix_unit(weights: NumberFormat, activations: NumberFormat, accelerator: Accelerator) -> MatrixUnit:
    """The unit that multiplies ``weights`` with ``activations`` on ``accelerator``.

    Weights that are stored in fewer bits than the activations are expanded to the activation's format, so the
    activation's unit decides. Raises UnsupportedError naming what the device can do.
    """
    unit = activations.unit
    if unit in accelerator.peak_flops:
        return unit
    if unit in ("bf16", "fp16"):  # the other 16-bit type runs at the same rate; fp32 is the last resort
        for fallback in ("fp16", "bf16", "fp32"):
            if fallback in accelerator.peak_flops:
                return fallback
    usable = [name for name, scheme in SCHEMES.items() if FORMATS[scheme.activations].unit in accelerator.peak_flops]
    raise UnsupportedError(
        f"{accelerator.name} has no {unit} unit for {weights.name} weights with {activations.name} activations; "
        f"it supports {', '.join(usable)}"
    )
