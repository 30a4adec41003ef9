"""Which number formats a checkpoint is stored in, from what its config says about quantisation."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from infersim.errors import UnsupportedError, did_you_mean
from infersim.specs.fields import ConfigReader
from infersim.specs.precision import Precision, Role, RolePrecision

COMPUTE_TYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "bf16"}
"""Type a checkpoint runs in: engines load 32-bit checkpoints in 16 bits unless told otherwise."""

METHODS = (
    "auto-round",
    "awq",
    "bitsandbytes",
    "compressed-tensors",
    "fbgemm_fp8",
    "fp8",
    "gptq",
    "modelopt",
    "mxfp4",
    "quark",
)

MODULES: dict[Role, tuple[tuple[str, ...], ...]] = {
    "attention": (
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj"),
        ("self_attn.q_b_proj", "self_attn.kv_b_proj", "self_attn.o_proj"),
        ("attn.wq_b", "attn.wo_b"),
        ("linear_attn.in_proj_qkv", "linear_attn.out_proj"),
        ("linear_attn.in_proj_qkvz", "linear_attn.out_proj"),
        ("mixer.in_proj", "mixer.out_proj"),
        ("mixer.q_proj", "mixer.o_proj"),
    ),
    "mlp": (("mlp.gate_proj", "mlp.down_proj"), ("mlp.up_proj", "mlp.down_proj"), ("ffn.w1", "ffn.w2"), ("mlp.fc1", "mlp.fc2")),
    "experts": (
        ("mlp.experts.0.gate_proj", "mlp.experts.0.down_proj"),
        ("mlp.experts.0.up_proj", "mlp.experts.0.down_proj"),
        ("block_sparse_moe.experts.0.w1", "block_sparse_moe.experts.0.w2"),
        ("ffn.experts.0.w1", "ffn.experts.0.w2"),
        ("mixer.experts.0.up_proj", "mixer.experts.0.down_proj"),
        ("feed_forward.experts.0.gate_proj", "feed_forward.experts.0.down_proj"),
    ),
    "shared_expert": (
        ("mlp.shared_experts.gate_proj", "mlp.shared_experts.down_proj"),
        ("mlp.shared_expert.gate_proj", "mlp.shared_expert.down_proj"),
        ("ffn.shared_experts.w1", "ffn.shared_experts.w2"),
        ("mixer.shared_experts.up_proj", "mixer.shared_experts.down_proj"),
        ("feed_forward.shared_expert.gate_proj", "feed_forward.shared_expert.down_proj"),
    ),
    "router": (("mlp.gate",), ("mlp.router",), ("block_sparse_moe.gate",), ("ffn.gate",), ("feed_forward.router",), ("router.proj",)),
}  # fmt: skip
"""Names that the modules of a role have inside a layer; each group belongs to one way of naming them."""

EXPERTS_BESIDE_MLP: dict[Role, tuple[tuple[str, ...], ...]] = {
    "experts": (("experts.0.gate_proj", "experts.0.down_proj"),),
    "shared_expert": (("mlp.gate_proj", "mlp.down_proj"),),
}
"""The same where the routed experts stand beside ``mlp`` instead of inside it (Gemma 4)."""

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
    if method not in READERS:
        raise UnsupportedError(
            f"{found.path}quant_method {method!r} is not one infersim can read; {did_you_mean(method, METHODS)}"
        )
    chosen = READERS[method](found, compute, _excluder(nested or reader))
    experts = _expert_precision(reader, found, chosen)
    if experts is not None:
        roles = dict(chosen.roles) | {"experts": experts}
        chosen = chosen.model_copy(update={"roles": roles, "name": f"{chosen.name}, {experts.weights} experts"})
    return chosen


Excluder = Callable[[list[str]], set[Role]]
"""Says which roles a list of module names or patterns covers."""


def _excluder(reader: ConfigReader) -> Excluder:
    """``excluded_roles`` for the layers of one model."""
    layers = min(reader.size("num_hidden_layers", "n_layer", "num_layers", default=4), 1000)
    beside = reader.text("model_type").startswith("gemma4") and reader.flag("enable_moe_block")
    dense = min(reader.size("first_k_dense_replace", default=0, least=0), layers)
    modules = EXPERTS_BESIDE_MLP if beside else None
    return functools.partial(excluded_roles, layers=layers, dense=dense, modules=modules)


def _expert_precision(reader: ConfigReader, found: ConfigReader, chosen: Precision) -> RolePrecision | None:
    """The format of the routed experts where a config states it apart (DeepSeek-V4)."""
    if isinstance(found.raw("moe_quant_algo")[1], str):
        weights, activations = _algorithm(found, found.text("moe_quant_algo").upper())
        return RolePrecision(weights=weights, activations=activations or chosen.compute)
    stated = reader.text("expert_dtype") or found.text("expert_dtype")
    return RolePrecision(weights="mxfp4", activations=chosen.activations) if stated in ("fp4", "mxfp4") else None


def _precision(
    name: str, compute: str, weights: str, activations: str, kept: set[Role], kv_cache: str | None = None
) -> Precision:
    """A precision whose excluded roles stay at the compute type, as the LM head and the router do anyway."""
    plain = RolePrecision(weights=compute, activations=compute)
    roles: dict[Role, RolePrecision] = {role: plain for role in ALL_LINEAR if role in kept}
    return Precision(
        name=name, compute=compute, weights=weights, activations=activations, kv_cache=kv_cache or compute, roles=roles
    )


def excluded_roles(
    patterns: list[str],
    *,
    layers: int = 4,
    dense: int = 0,
    modules: dict[Role, tuple[tuple[str, ...], ...]] | None = None,
) -> set[Role]:
    """Roles that an exclusion list names in most of the layers that have them; the LM head and towers by themselves.

    Patterns are module names (or parts of them), globs, or ``re:`` expressions. ``dense`` is the number of layers at the
    start that have a dense block and no experts, where a model has such.

    >>> sorted(excluded_roles(["lm_head", "model.layers.*.self_attn*", "re:.*shared_experts.*"]))
    ['attention', 'lm_head', 'shared_expert']
    >>> excluded_roles(["model.layers.0.self_attn.o_proj", "model.layers.1*"], layers=8)
    set()
    """  # fmt: skip
    general, by_layer = _sorted_patterns(patterns)
    found: set[Role] = set()
    for role, schemes in (MODULES | (modules or {})).items():
        places = range(layers)
        if dense and role != "attention":
            places = range(dense) if role == "mlp" else range(dense, layers)
        hits = 0
        for place in places:
            tests = general + by_layer.get(place, [])
            names = {name: f"layers.{place}.{name}" for scheme in schemes for name in scheme}
            matched = {name for name, full in names.items() if any(test(full) for test in tests)}
            hits += any(matched.issuperset(scheme) for scheme in schemes)
        if 2 * hits > len(places) > 0:
            found.add(role)
    if any(test("lm_head") or test("head") for test in general):
        found.add("lm_head")
    if any(
        test(name) for test in general for name in ("vision_tower.layers.1", "visual.blocks.1", "vision_model.layers.1")
    ):
        found.add("tower")
    return found


_PREFIX = re.compile(r"^((model|language_model|backbone|transformer)\.)+")
_LAYER = re.compile(r"^layers\.(\d+)(?=\.|$)")

Test = Callable[[str], bool]


def _sorted_patterns(patterns: list[str]) -> tuple[list[Test], dict[int, list[Test]]]:
    """Tests that hold for any layer, and those of one layer (there may be hundreds)."""
    general: list[Test] = []
    by_layer: dict[int, list[Test]] = {}
    for pattern in patterns:
        plain = pattern if pattern.startswith("re:") else _PREFIX.sub("", pattern)
        layer = _LAYER.match(plain)
        if layer and len(layer[1]) < 6:
            by_layer.setdefault(int(layer[1]), []).append(_matcher(plain))
        else:
            general.append(_matcher(plain))
    return general, by_layer


def _matcher(pattern: str) -> Test:
    """Whether a module (without its model's prefix) is meant by a pattern or lies below a module that is."""
    if pattern.startswith("re:"):
        try:
            expression = re.compile(pattern[3:])
        except re.error:
            return lambda name: False
        return lambda name: any(expression.match(prefix + name) for prefix in ("model.", "language_model.model.", ""))
    if "*" in pattern:
        glob = re.compile(".*".join(re.escape(part) for part in pattern.split("*")) + r"(\..*)?")
        return lambda name: glob.fullmatch(name) is not None or glob.fullmatch("model." + name) is not None
    if "." not in pattern:
        return lambda name: pattern in name.split(".")
    return lambda name: name == pattern or name.startswith(pattern + ".") or name.endswith("." + pattern)


def _texts(reader: ConfigReader, *names: str) -> list[str]:
    return [item for item in reader.listed(*names) or [] if isinstance(item, str)]


def _fp8(reader: ConfigReader, compute: str, excluded: Excluder) -> Precision:
    """Per tensor, per row, or in blocks of 128 x 128 (32 x 32 counts as blocks too)."""
    blocks = reader.listed("weight_block_size")
    weights = "fp8_block" if blocks else "fp8"
    kept = excluded(_texts(reader, "modules_to_not_convert", "ignored_layers", "exclude_modules"))
    return _precision(weights, compute, weights, weights, kept)


def _integer(reader: ConfigReader, compute: str, excluded: Excluder) -> Precision:
    """GPTQ and AWQ: integer weights, a scale (and zero) per group, 16-bit activations."""
    bits = reader.size("bits", "w_bit", default=4)
    group = reader.size("group_size", "q_group_size", default=128, least=-1)
    zero = reader.flag("zero_point", default=False) or not reader.flag("sym", default=True)
    weights = integer_format(bits, group, zero=zero)
    kept = excluded(_texts(reader, "modules_to_not_convert"))
    return _precision(f"{reader.text('quant_method')} {weights}", compute, weights, compute, kept)


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


def _mxfp4(reader: ConfigReader, compute: str, excluded: Excluder) -> Precision:
    """gpt-oss: experts in mxfp4, everything else in 16 bits; kernels expand to 16 bits where there is no fp4 unit."""
    expert = RolePrecision(weights="mxfp4", activations=compute)
    return Precision(name="mxfp4 experts", compute=compute, weights=compute, activations=compute, kv_cache=compute,
                     roles={"experts": expert})  # fmt: skip


def _bitsandbytes(reader: ConfigReader, compute: str, excluded: Excluder) -> Precision:
    weights = "bnb_nf4" if reader.flag("load_in_4bit") else "int8_weight"
    kept = excluded(_texts(reader, "llm_int8_skip_modules"))
    return _precision(f"bitsandbytes {weights}", compute, weights, compute, kept)


def _quark(reader: ConfigReader, compute: str, excluded: Excluder) -> Precision:
    """AMD Quark: one global format; its 4-bit floats come in groups of 32 (OCP MX)."""
    scheme = reader.nested("global_quant_config")
    stored = scheme.nested("weight") if scheme else None
    if scheme is None or stored is None:
        raise reader.error("global_quant_config", "is missing, or names no weights")
    formats = {"fp8_e4m3": "fp8", "fp4": "mxfp4", "int8": "int8", "int4": "int4", "uint4": "int4_zp"}
    kind = stored.text("dtype")
    if kind not in formats:
        known = did_you_mean(kind, formats)
        raise UnsupportedError(f"{stored.path}dtype {kind!r} is not a format infersim knows; {known}")
    weights = formats[kind]
    acting = scheme.nested("input_tensors") is not None and not weights.startswith("int4")
    kept = excluded(_texts(reader, "exclude"))
    return _precision(f"quark {weights}", compute, weights, weights if acting else compute, kept)


def _compressed(reader: ConfigReader, compute: str, excluded: Excluder) -> Precision:
    """compressed-tensors: the format of each group of modules by type, bits and group size."""
    groups = reader.nested("config_groups")
    kv = reader.nested("kv_cache_scheme")
    kv_cache = "fp8" if kv is not None and kv.size("num_bits", default=16) == 8 else None
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
    kept = excluded(_texts(reader, "ignore"))
    chosen = _precision(f"compressed-tensors {weights}", compute, weights, activations, kept, kv_cache)
    roles = dict(chosen.roles)
    for other, acting_type, targets in found[1:]:
        for role in excluded(targets):
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


def _modelopt(reader: ConfigReader, compute: str, excluded: Excluder) -> Precision:
    """One algorithm for all layers, or a table of them by layer, of which each role takes the most frequent."""
    kv_name = (
        reader.text("kv_cache_quant_algo").upper() if isinstance(reader.raw("kv_cache_quant_algo")[1], str) else ""
    )
    scheme = reader.raw("kv_cache_scheme")[1]
    eight = isinstance(scheme, dict) and scheme.get("num_bits") == 8
    kv_cache = "fp8" if kv_name.startswith("FP8") or eight else "nvfp4" if kv_name.startswith("NVFP4") else None
    layers = reader.nested("quantized_layers")
    name = reader.text("quant_algo", default="MIXED_PRECISION" if layers else "").upper()
    if name != "MIXED_PRECISION" or layers is None:
        weights, activations = _algorithm(reader, name)
        kept = excluded(_texts(reader, "exclude_modules", "ignore", "modules_to_not_convert"))
        return _precision(f"modelopt {weights}", compute, weights, activations or compute, kept, kv_cache)
    votes: dict[Role, Counter[str]] = {role: Counter() for role in (*ALL_LINEAR, "lm_head")}
    for module in layers:
        entry = layers.nested(module)
        role = _role_of(module)
        if entry is not None and role in votes:
            votes[role][entry.text("quant_algo").upper()] += 1
    roles: dict[Role, RolePrecision] = {}
    for role, counts in votes.items():
        if counts:
            weights, activations = _algorithm(reader, counts.most_common(1)[0][0])
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


READERS: dict[str, Callable[[ConfigReader, str, Excluder], Precision]] = {
    "fp8": _fp8, "fbgemm_fp8": _fp8, "awq": _integer, "gptq": _integer, "auto-round": _integer, "intel/auto-round": _integer,
    "compressed-tensors": _compressed, "compressed_tensors": _compressed, "mxfp4": _mxfp4, "modelopt": _modelopt,
    "modelopt_fp4": _modelopt, "modelopt_mixed": _modelopt, "bitsandbytes": _bitsandbytes, "quark": _quark,
}  # fmt: skip
"""How each ``quant_method`` is read."""
