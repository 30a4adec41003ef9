"""Which number formats a checkpoint is stored in, from what its config says about quantisation."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from infersim.errors import UnsupportedError, did_you_mean
from infersim.specs.fields import ConfigReader
from infersim.specs.precision import Precision, Role, RolePrecision

COMPUTE_TYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "bf16"}
"""Type a checkpoint runs in: engines load 32-bit checkpoints in 16 bits unless told otherwise."""

METHODS = ("awq", "bitsandbytes", "compressed-tensors", "fbgemm_fp8", "fp8", "gptq", "modelopt", "mxfp4")

PROBES: dict[Role, tuple[str, ...]] = {
    "attention": (
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.o_proj",
        "model.layers.1.linear_attn.out_proj",
    ),
    "mlp": ("model.layers.1.mlp.gate_proj", "model.layers.1.mlp.down_proj"),
    "experts": ("model.layers.1.mlp.experts.0.gate_proj", "model.layers.1.block_sparse_moe.experts.0.w1"),
    "shared_expert": ("model.layers.1.mlp.shared_experts.gate_proj", "model.layers.1.mlp.shared_expert.gate_proj"),
    "router": ("model.layers.1.mlp.gate", "model.layers.1.mlp.router"),
    "lm_head": ("lm_head",),
    "tower": ("vision_tower.encoder.layers.1.mlp.fc1", "visual.blocks.1.mlp.linear_fc1"),
}
"""Module names that stand for a role when an exclusion list is read."""

ALL_LINEAR: tuple[Role, ...] = ("attention", "mlp", "experts", "shared_expert")


def compute_type(reader: ConfigReader) -> str:
    """bf16 or fp16: the type of everything that is not quantised; bf16 where the config does not say."""
    nested = reader.nested("text_config")
    name = reader.text("torch_dtype", "dtype") or (nested.text("torch_dtype", "dtype") if nested else "")
    return COMPUTE_TYPES.get(name.removeprefix("torch."), "bf16")


def checkpoint_precision(reader: ConfigReader, sidecar: dict[str, Any] | None = None) -> Precision:
    """The formats a checkpoint is stored and run in.

    ``sidecar`` is a separate ``hf_quant_config.json`` where the folder has one. Raises UnsupportedError for a method
    nobody here knows, SpecError for malformed fields.
    """
    compute = compute_type(reader)
    plain = Precision(name=compute, compute=compute, weights=compute, activations=compute, kv_cache=compute)
    nested = reader.nested("text_config")
    found = reader.nested("quantization_config") or (nested.nested("quantization_config") if nested else None)
    if found is None and sidecar is not None:
        inner = sidecar.get("quantization", sidecar)
        found = ConfigReader(
            {"quant_method": "modelopt", **inner} if isinstance(inner, dict) else {}, reader.file, "hf_quant_config."
        )
    if found is None:
        return plain
    method = found.text("quant_method", default="modelopt" if found.has("quant_algo") else "").lower()
    readers = {
        "fp8": _fp8, "fbgemm_fp8": _fp8, "awq": _integer, "gptq": _integer, "compressed-tensors": _compressed,
        "mxfp4": _mxfp4, "modelopt": _modelopt, "modelopt_fp4": _modelopt, "bitsandbytes": _bitsandbytes,
    }  # fmt: skip
    if method not in readers:
        raise UnsupportedError(
            f"{found.path}quant_method {method!r} is not one infersim can read; {did_you_mean(method, METHODS)}"
        )
    chosen = readers[method](found, compute)
    expert_type = reader.text("expert_dtype") or (found.text("expert_dtype") if found.has("expert_dtype") else "")
    if expert_type in ("fp4", "mxfp4"):
        roles = dict(chosen.roles) | {"experts": RolePrecision(weights="mxfp4", activations=chosen.activations)}
        chosen = chosen.model_copy(update={"roles": roles, "name": f"{chosen.name}, mxfp4 experts"})
    return chosen


def _precision(
    name: str, compute: str, weights: str, activations: str, excluded: list[str], kv_cache: str | None = None
) -> Precision:
    """A precision whose excluded roles stay at the compute type, and whose LM head follows the exclusions too."""
    kept = excluded_roles(excluded)
    plain = RolePrecision(weights=compute, activations=compute)
    roles: dict[Role, RolePrecision] = {role: plain for role in ALL_LINEAR if role in kept}
    return Precision(
        name=name, compute=compute, weights=weights, activations=activations, kv_cache=kv_cache or compute, roles=roles
    )


def excluded_roles(patterns: list[str]) -> set[Role]:
    """Roles whose every probe matches a pattern: globs, ``re:`` expressions, or parts of module names.

    >>> sorted(excluded_roles(["lm_head", "model.layers.*.self_attn*", "re:.*shared_experts.*"]))
    ['attention', 'lm_head', 'shared_expert']
    """
    tests = [_matcher(pattern) for pattern in patterns if isinstance(pattern, str)]
    found: set[Role] = set()
    for role, probes in PROBES.items():
        if any(any(test(probe) for test in tests) for probe in probes):
            found.add(role)
    return found


def _matcher(pattern: str) -> Any:
    if pattern.startswith("re:"):
        try:
            expression = re.compile(pattern[3:])
        except re.error:
            return lambda name: False
        return lambda name: expression.match(name) is not None
    plain = re.sub(r"(layers|blocks)\.\d+(\.|$)", r"\1.1\2", pattern)
    if "*" in plain:
        glob = re.compile(".*".join(re.escape(part) for part in plain.split("*")) + r"(\..*)?")
        return lambda name: glob.fullmatch(name) is not None
    tail = plain.rsplit(".", 1)[-1]
    if tail in (
        "self_attn",
        "mlp",
        "experts",
        "shared_experts",
        "shared_expert",
        "linear_attn",
        "visual",
        "vision_tower",
    ):
        return lambda name: plain in name
    return lambda name: name == plain or name.startswith(plain + ".")


def _texts(reader: ConfigReader, *names: str) -> list[str]:
    return [item for item in reader.listed(*names) or [] if isinstance(item, str)]


def _fp8(reader: ConfigReader, compute: str) -> Precision:
    """Per tensor, per row, or in blocks of 128 x 128 (32 x 32 counts as blocks too)."""
    blocks = reader.listed("weight_block_size")
    weights = "fp8_block" if blocks else "fp8"
    excluded = _texts(reader, "modules_to_not_convert", "ignored_layers", "exclude_modules")
    return _precision(weights, compute, weights, weights, excluded)


def _integer(reader: ConfigReader, compute: str) -> Precision:
    """GPTQ and AWQ: integer weights, a scale (and zero) per group, 16-bit activations."""
    bits = reader.size("bits", "w_bit", default=4)
    group = reader.size("group_size", "q_group_size", default=128, least=-1)
    zero = reader.flag("zero_point", default=False) or not reader.flag("sym", default=True)
    weights = integer_format(bits, group, zero=zero)
    excluded = _texts(reader, "modules_to_not_convert")
    return _precision(f"{reader.text('quant_method')} {weights}", compute, weights, compute, excluded)


def integer_format(bits: int, group: int, *, zero: bool = False) -> str:
    """The name of a group-wise integer weight format.

    >>> integer_format(4, 128), integer_format(4, 32), integer_format(8, 128), integer_format(4, 128, zero=True)
    ('int4', 'int4_g32', 'int8_weight', 'int4_zp')
    """
    if bits == 4:
        return {32: "int4_g32", 64: "int4_g64"}.get(group, "int4_zp" if zero else "int4")
    if bits in (3, 8):
        return "int3" if bits == 3 else "int8_weight"
    raise UnsupportedError(f"{bits}-bit integer weights are not a format infersim knows; it knows 3, 4 and 8 bits")


def _mxfp4(reader: ConfigReader, compute: str) -> Precision:
    """gpt-oss: experts in mxfp4, everything else in 16 bits; kernels expand to 16 bits where there is no fp4 unit."""
    expert = RolePrecision(weights="mxfp4", activations=compute)
    return Precision(name="mxfp4 experts", compute=compute, weights=compute, activations=compute, kv_cache=compute,
                     roles={"experts": expert})  # fmt: skip


def _bitsandbytes(reader: ConfigReader, compute: str) -> Precision:
    weights = "bnb_nf4" if reader.flag("load_in_4bit") else "int8_weight"
    return _precision(f"bitsandbytes {weights}", compute, weights, compute, [])


def _compressed(reader: ConfigReader, compute: str) -> Precision:
    """compressed-tensors: the format of each group of modules by type, bits and group size."""
    groups = reader.nested("config_groups")
    kv = reader.nested("kv_cache_scheme")
    kv_cache = "fp8" if kv is not None and kv.size("num_bits", default=16) == 8 else None
    excluded = _texts(reader, "ignore")
    found = []
    for name in groups or ():
        group = groups.nested(name) if groups else None
        stored = group.nested("weights") if group else None
        if group is None or stored is None:
            continue
        weights = _tensor_format(stored, group.text("format") or reader.text("format"))
        acting = group.nested("input_activations")
        activations = (
            weights
            if acting is not None and weights not in ("int4", "int4_g32", "int4_g64", "int8_weight")
            else compute
        )
        if acting is not None and weights == "int8_weight":
            weights = activations = "int8"
        if acting is not None and weights.startswith("int4"):
            activations = "fp8" if acting.text("type", default="int") == "float" else "int8"
        found.append((weights, activations, _texts(group, "targets")))
    if not found:
        raise reader.error("config_groups", "names no group with weights")
    weights, activations, _ = found[0]
    chosen = _precision(f"compressed-tensors {weights}", compute, weights, activations, excluded, kv_cache)
    roles = dict(chosen.roles)
    for other, acting_type, targets in found[1:]:
        for role in excluded_roles(targets):
            if role in ALL_LINEAR:
                roles[role] = RolePrecision(weights=other, activations=acting_type)
    return chosen.model_copy(update={"roles": roles})


def _tensor_format(stored: ConfigReader, packing: str) -> str:
    bits, kind = stored.size("num_bits"), stored.text("type", default="int")
    group = stored.maybe("group_size", least=-1)
    if kind == "float":
        if bits == 8:
            return "fp8_block" if stored.text("strategy") == "block" or stored.listed("block_structure") else "fp8"
        if bits == 4:
            return "mxfp4" if "mxfp4" in packing or group == 32 else "nvfp4"
        raise UnsupportedError(f"{bits}-bit float weights are not a format infersim knows; it knows 4 and 8 bits")
    return integer_format(bits, group or 128, zero=not stored.flag("symmetric", default=True))


ALGORITHMS = {"FP8": ("fp8", "fp8"), "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", "fp8"), "FP8_PB_WO": ("fp8_block", "fp8_block"),
              "FP8_BLOCK_SCALES": ("fp8_block", "fp8_block"), "NVFP4": ("nvfp4", "nvfp4"), "W4A16_NVFP4": ("nvfp4", ""),
              "NVFP4_AWQ": ("nvfp4", "nvfp4"), "W4A16_AWQ": ("int4", ""), "W4A8_AWQ": ("int4", "fp8"), "INT8_SQ": ("int8", "int8"),
              "W8A16": ("int8_weight", ""), "W4A16": ("int4", ""), "MXFP4": ("mxfp4", "mxfp4"), "MXFP8": ("mxfp8", "mxfp8"),
              "W4A16_MXFP4": ("mxfp4", ""), "W4A8_MXFP4_MXFP8": ("mxfp4", "mxfp8"), "W4A8_NVFP4_FP8": ("nvfp4", "fp8")}  # fmt: skip
"""ModelOpt's names of algorithms -> weights and activations ('' stays at the compute type)."""


def _modelopt(reader: ConfigReader, compute: str) -> Precision:
    """One algorithm for all layers, or a table of them by layer, of which each role takes the most frequent."""
    kv_name = (
        reader.text("kv_cache_quant_algo").upper() if isinstance(reader.raw("kv_cache_quant_algo")[1], str) else ""
    )
    scheme = reader.raw("kv_cache_scheme")[1]
    eight = isinstance(scheme, dict) and scheme.get("num_bits") == 8
    kv_cache = "fp8" if kv_name.startswith("FP8") or eight else "nvfp4" if kv_name.startswith("NVFP4") else None
    excluded = _texts(reader, "exclude_modules", "ignore", "modules_to_not_convert")
    layers = reader.nested("quantized_layers")
    name = reader.text("quant_algo", default="MIXED_PRECISION" if layers else "").upper()
    if name != "MIXED_PRECISION" or layers is None:
        weights, activations = _algorithm(reader, name)
        return _precision(f"modelopt {weights}", compute, weights, activations or compute, excluded, kv_cache)
    votes: dict[Role, Counter[str]] = {role: Counter() for role in ALL_LINEAR}
    for module in layers:
        entry = layers.nested(module)
        role = _role_of(module)
        if entry is not None and role in votes:
            votes[role][entry.text("quant_algo").upper()] += 1
    roles: dict[Role, RolePrecision] = {}
    for role, counts in votes.items():
        weights, activations = _algorithm(reader, counts.most_common(1)[0][0]) if counts else (compute, compute)
        roles[role] = RolePrecision(weights=weights, activations=activations or compute)
    return Precision(name="modelopt mixed", compute=compute, weights=compute, activations=compute, kv_cache=kv_cache or compute,
                     roles=roles)  # fmt: skip


def _algorithm(reader: ConfigReader, name: str) -> tuple[str, str]:
    if name not in ALGORITHMS:
        raise UnsupportedError(
            f"{reader.path}quant_algo {name!r} is not one infersim can read; {did_you_mean(name, ALGORITHMS)}"
        )
    return ALGORITHMS[name]


def _role_of(module: str) -> Role | None:
    """The role a module plays, from its name."""
    if any(part in module for part in ("visual", "vision")):
        return "tower"
    for part, role in (("shared_expert", "shared_expert"), ("experts", "experts"), ("attn", "attention"), ("mixer", "attention"),
                       ("mlp", "mlp"), ("lm_head", "lm_head")):  # fmt: skip
        if part in module:
            return role  # type: ignore[return-value]
    return None
