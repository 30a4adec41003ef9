"""Vision towers beside a language model, from their nested configs: blocks, patch embedding, projector.

``FAMILIES`` says what the blocks of a family look like, and names the short function that counts what is around them.
Counts were checked against the models of transformers 5 where it has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from infersim.specs.fields import ConfigReader
from infersim.specs.model import Attention, Layer, Mlp, Tower

CLIP_LARGE_336: dict[str, Any] = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
    "num_hidden_layers": 24, "image_size": 336, "patch_size": 14,
}  # fmt: skip
"""openai/clip-vit-large-patch14-336, which some configs (Phi-3.5-vision) name instead of describing a tower."""


class Around(NamedTuple):
    """What the count of the weights around the blocks needs."""

    vision: ConfigReader
    outer: ConfigReader
    hidden: int
    target: int
    """Width of the language model."""

    @property
    def patches(self) -> int:
        """Weights of the patch embedding, without a bias."""
        channels = self.vision.size("in_channels", "in_chans", "num_channels", default=3)
        patch = _side(self.vision, "patch_size", 14)
        return (
            channels
            * patch
            * patch
            * self.vision.size("temporal_patch_size", "patch_temporal", default=1)
            * self.hidden
        )

    @property
    def grid(self) -> int:
        """Patches of a square image of the configured size."""
        return (_side(self.vision, "image_size", 224) // _side(self.vision, "patch_size", 14)) ** 2

    @property
    def merged(self) -> int:
        """Width of neighbouring patches side by side."""
        return self.hidden * self.vision.size("spatial_merge_size", "merge_size", default=2) ** 2

    @property
    def out(self) -> int:
        return self.vision.size("out_hidden_size", default=self.target)


def _side(reader: ConfigReader, name: str, default: int) -> int:
    """The side of a square that is given once or as [height, width]."""
    sides = reader.indices(name) if isinstance(reader.raw(name)[1], list) else None
    if sides is None:
        return reader.size(name, default=default)
    if not sides or min(sides) < 1:
        raise reader.error(name, f"must be positive, got {sides}")
    return max(sides)


def _linear(inputs: int, outputs: int) -> int:
    """Weights and biases of a linear layer."""
    return (inputs + 1) * outputs


def _qwen3(a: Around) -> int:
    merger = _linear(a.merged, a.merged) + _linear(a.merged, a.out)
    deep = len(a.vision.listed("deepstack_visual_indexes") or [])
    rows = a.vision.size("num_position_embeddings", default=2304)
    return a.patches + a.hidden + rows * a.hidden + merger + 2 * a.hidden + deep * (merger + 2 * a.merged)


def _qwen2_5(a: Around) -> int:
    return a.patches + a.hidden + _linear(a.merged, a.merged) + _linear(a.merged, a.out)


def _qwen2(a: Around) -> int:
    out = a.vision.size("hidden_size", default=a.target)  # here the output's width; embed_dim is the tower's own
    return a.patches + 2 * a.hidden + _linear(a.merged, a.merged) + _linear(a.merged, out)


def _clip(a: Around) -> int:
    """CLIP with a two-layer projector (LLaVA); with a class embedding and norms before and after."""
    if a.vision.nested("img_token_compression_config"):
        return _minimax_m3(a)
    tower = a.patches + (a.grid + 2) * a.hidden + 4 * a.hidden
    if a.outer is a.vision:
        return tower
    if a.outer.nested("img_processor"):  # Phi-3-vision: two by two patches, and two learned separators
        return tower + _linear(4 * a.hidden, a.target) + _linear(a.target, a.target) + 8 * a.hidden
    return tower + _linear(a.hidden, a.target) + _linear(a.target, a.target)


def _minimax_m3(a: Around) -> int:
    nested = a.vision.nested("img_token_compression_config") or a.vision
    frames = nested.size("temporal_patch_size", default=1)
    projected = a.vision.size("projection_dim", default=a.target)
    return a.patches * frames + 2 * a.hidden + (a.hidden + 6 * projected) * projected + 4 * projected


def _siglip(a: Around) -> int:
    """SigLIP; beside a language model with Gemma 3's projector and its norm."""
    tower = a.patches + a.hidden + a.grid * a.hidden + 2 * a.hidden
    if a.outer is not a.vision:
        return tower + a.hidden * a.target + a.hidden
    width = a.vision.size("intermediate_size")
    head = _linear(a.hidden, width) + _linear(width, a.hidden) + 4 * _linear(a.hidden, a.hidden) + 3 * a.hidden
    return tower + (head if a.vision.flag("vision_use_head", default=True) else 0)


def _pixtral(a: Around) -> int:
    return a.patches + 2 * a.hidden + a.hidden * 4 * a.hidden + a.hidden * a.target + a.target * a.target


def _gemma4(a: Around) -> int:
    return a.patches + 2 * a.vision.size("position_embedding_size", default=10240) * a.hidden + a.hidden * a.target


def _muse(a: Around) -> int:
    rows = a.vision.size("pos_emb_height", default=32) * a.vision.size("pos_emb_width", default=32)
    inner = a.outer.size("projector_hidden_size", default=4096)
    return a.patches + rows * a.hidden + 4 * a.hidden + a.merged * inner + inner * inner + inner * a.target


def _glm5(a: Around) -> int:
    inner, out = a.vision.size("projection_intermediate_size", default=a.target), a.out
    return a.patches + a.hidden + out * out + 2 * out + 3 * out * inner + a.merged * out + out + a.hidden


def _llama4(a: Around) -> int:
    inner, wide = a.vision.size("projector_output_dim", default=4096), a.vision.size("intermediate_size")
    return a.patches + (a.grid + 1 + 5) * a.hidden + (wide + inner) * inner + inner * a.target


def _moonvit(a: Around) -> int:
    rows = a.vision.size("init_pos_emb_height") * a.vision.size("init_pos_emb_width", default=64)
    return (
        a.patches
        + a.hidden
        + rows * a.hidden
        + 4 * a.hidden
        + _linear(a.merged, a.merged)
        + _linear(a.merged, a.target)
    )


def _unknown(a: Around) -> int:
    kind = a.vision.text("model_type") or "without a type"
    a.vision.warnings.append(f"vision tower {kind!r} is not known: counted as a plain encoder with one projection")
    return a.patches + a.hidden * a.target


class VisionFamily(NamedTuple):
    """The blocks of a family of towers."""

    around: Callable[[Around], int]
    norm: Literal["rms", "layer"] = "layer"
    norms: int = 2
    gated: bool = False
    biased: bool = True
    qk_norm: Literal["none", "head"] = "none"
    width: tuple[str, ...] = ("hidden_size", "vt_hidden_size", "embed_dim")


FAMILIES: dict[str, VisionFamily] = {
    "qwen3_vl": VisionFamily(_qwen3), "qwen3_5": VisionFamily(_qwen3),
    "qwen2_5_vl": VisionFamily(_qwen2_5, norm="rms", gated=True),
    "qwen2_vl": VisionFamily(_qwen2, width=("embed_dim", "hidden_size")),
    "siglip": VisionFamily(_siglip), "clip": VisionFamily(_clip),
    "pixtral": VisionFamily(_pixtral, norm="rms", gated=True, biased=False),
    "gemma4": VisionFamily(_gemma4, norm="rms", norms=4, gated=True, biased=False, qk_norm="head"),
    "glm5_next": VisionFamily(_glm5, norm="rms", gated=True, qk_norm="head"),
    "muse_glimmer": VisionFamily(_muse), "llama4": VisionFamily(_llama4), "moonvit": VisionFamily(_moonvit),
}  # fmt: skip
"""Families by the beginning of their model_type."""


def family(vision: ConfigReader) -> VisionFamily:
    """The family of a tower, by its type or, where it has none, by the names of its fields."""
    kind = vision.text("model_type")
    found = next((known for name, known in FAMILIES.items() if kind.startswith(name)), None)
    if found is None and vision.has("init_pos_emb_height"):
        found = FAMILIES["moonvit"]
    if found is None and not kind and vision.has("fullatt_block_indexes"):
        found = FAMILIES["qwen2_5_vl"]
    return found or VisionFamily(_unknown)


def read(outer: ConfigReader) -> dict[str, dict[str, Any] | None]:
    """The towers of a config by name; empty for a language model alone.

    Counted: encoder blocks, and what is known of patch embedding, positions and projector for the family; where a family is
    not known a plain encoder is assumed and a warning says so.
    """
    vision = outer.nested("vision_config")
    named = outer.nested("img_processor")
    if vision is None and named is not None and named.text("name") == CLIP_LARGE_336["model_type"]:
        vision = ConfigReader(CLIP_LARGE_336, outer.file, "img_processor.", outer.warnings)
    if vision is None or not is_tower(vision):
        return {}
    text = outer.nested("text_config", "llm_config", "language_config") or outer
    return {"vision": vision_tower(vision, outer, text.maybe("hidden_size")).model_dump()}


def is_tower(reader: ConfigReader) -> bool:
    """Whether a config has the sizes of an encoder's blocks."""
    return reader.has("hidden_size", "vt_hidden_size", "embed_dim") and _layers(reader) is not None


def _layers(vision: ConfigReader) -> int | None:
    return vision.maybe("num_hidden_layers", "depth", "vt_num_hidden_layers", most=10_000)


def vision_tower(vision: ConfigReader, outer: ConfigReader, target: int | None = None) -> Tower:
    """One tower; ``target`` is the width of the language model it feeds."""
    known = family(vision)
    hidden = vision.size(*known.width)
    heads = vision.size("num_attention_heads", "num_heads", "vt_num_attention_heads")
    width = vision.size(
        "intermediate_size", "vt_intermediate_size", default=int(hidden * vision.number("mlp_ratio", default=4.0))
    )
    inner = vision.maybe("qkv_hidden_size") or hidden
    if not vision.has("head_dim") and inner % heads:
        raise vision.error(
            "num_attention_heads", f"{heads} does not divide the hidden size {inner}, and there is no head_dim"
        )
    norm, biased = known.norm, known.biased
    if vision.text("norm_type").startswith("rms"):
        norm = "rms"
    attention = Attention(
        num_heads=heads, num_kv_heads=heads, head_dim=vision.maybe("head_dim") or inner // heads, causal=False,
        qkv_bias=vision.flag("attn_bias", default=biased), o_bias=vision.flag("attn_bias", default=biased), qk_norm=known.qk_norm,
    )  # fmt: skip
    block = Mlp(intermediate_size=width, gated=known.gated, bias=vision.flag("linear_bias", default=biased))
    return Tower(
        kind="vision", hidden_size=hidden, norm=norm, norms_per_layer=known.norms, mixers={"attention": attention},
        feed_forwards={"mlp": block}, layers=(Layer(mixer="attention", feed_forward="mlp", count=_layers(vision) or 1),),
        other_parameters=known.around(Around(vision, outer, hidden, target or hidden)),
        tokens_per_item=outer.maybe("mm_tokens_per_image", "vision_soft_tokens_per_image"),
    )  # fmt: skip
