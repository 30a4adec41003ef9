"""Vision towers beside a language model, from their nested configs: blocks, patch embedding, projector."""

from __future__ import annotations

from typing import Any

from infersim.specs.fields import ConfigReader
from infersim.specs.model import Attention, Layer, Mlp, Tower


def read(outer: ConfigReader) -> dict[str, dict[str, Any] | None]:
    """The towers of a config by name; empty for a language model alone.

    Counted: encoder blocks, and what is known of patch embedding, positions and projector for the family; where a family is
    not known a plain encoder is assumed and a warning says so.
    """
    vision = outer.nested("vision_config")
    if vision is None or not vision.has("hidden_size", "vt_hidden_size", "embed_dim") or not _layers(vision):
        return {}
    return {"vision": vision_tower(vision, outer).model_dump()}


def _layers(vision: ConfigReader) -> int | None:
    return vision.maybe("num_hidden_layers", "depth", "vt_num_hidden_layers")


def vision_tower(vision: ConfigReader, outer: ConfigReader) -> Tower:
    """One tower. Widths under their many names; biases and norms by family."""
    kind = vision.text("model_type")
    hidden = vision.size(
        *(
            ("embed_dim", "hidden_size")
            if kind.startswith("qwen2_vl")
            else ("hidden_size", "vt_hidden_size", "embed_dim")
        )
    )
    heads = vision.size("num_attention_heads", "num_heads", "vt_num_attention_heads")
    width = vision.size("intermediate_size", "vt_intermediate_size", default=4 * hidden)
    head_dim = vision.maybe("head_dim") or hidden // heads
    text = outer.nested("text_config")
    target = text.size("hidden_size", default=hidden) if text else hidden
    gated = kind in ("pixtral", "gemma4_vision", "glm5_next_vision") or kind.startswith("qwen2_5")
    plain = kind in ("pixtral", "gemma4_vision")
    layered = kind not in ("pixtral", "gemma4_vision", "glm5_next_vision") and not kind.startswith("qwen2_5")
    attention = Attention(
        num_heads=heads, num_kv_heads=heads, head_dim=head_dim, causal=False, qkv_bias=not plain, o_bias=not plain,
        qk_norm="head" if kind in ("gemma4_vision", "glm5_next_vision") else "none",
    )  # fmt: skip
    return Tower(
        kind="vision", hidden_size=hidden, norm="layer" if layered else "rms",
        norms_per_layer=4 if kind == "gemma4_vision" else 2, mixers={"attention": attention},
        feed_forwards={"mlp": Mlp(intermediate_size=width, gated=gated, bias=not plain)},
        layers=(Layer(mixer="attention", feed_forward="mlp", count=_layers(vision) or 1),),
        other_parameters=_other(vision, outer, kind, hidden, target),
        tokens_per_item=outer.maybe("mm_tokens_per_image", "vision_soft_tokens_per_image"),
    )  # fmt: skip


def _other(vision: ConfigReader, outer: ConfigReader, kind: str, hidden: int, target: int) -> int:
    """Patch embedding, positions, norms outside the blocks, and projector; checked against transformers 5 where it is there."""
    channels, patch = (
        vision.size("in_channels", "in_chans", "num_channels", default=3),
        vision.size("patch_size", default=14),
    )
    nested = vision.nested("img_token_compression_config") or vision
    frames = nested.size("temporal_patch_size", "patch_temporal", default=1)
    pixels = channels * patch * patch * frames * hidden
    merged = hidden * vision.size("spatial_merge_size", "merge_size", default=2) ** 2
    out = vision.size("out_hidden_size", default=target)
    if kind.startswith(("qwen3_vl", "qwen3_5")):
        merger = merged * merged + merged + merged * out + out
        deep = len(vision.listed("deepstack_visual_indexes") or [])
        rows = vision.size("num_position_embeddings", default=2304)
        return pixels + hidden + rows * hidden + merger + 2 * hidden + deep * (merger + 2 * merged)
    if kind.startswith("qwen2_5"):
        return pixels + hidden + merged * merged + merged + merged * out + out
    if kind.startswith("qwen2_vl"):
        return pixels + 2 * hidden + merged * merged + merged + merged * target + target
    if kind == "clip_vision_model" and nested is not vision:
        projected = vision.size("projection_dim", default=target)
        return pixels + 2 * hidden + (hidden + 6 * projected) * projected + 4 * projected
    if kind.startswith(("siglip", "clip")):
        rows = (vision.size("image_size", default=224) // patch) ** 2
        return pixels + hidden + rows * hidden + 2 * hidden + hidden * target + hidden
    if kind == "pixtral":
        return pixels + 2 * hidden + hidden * 4 * hidden + hidden * target + target * target
    if kind == "gemma4_vision":
        return pixels + 2 * vision.size("position_embedding_size", default=10240) * hidden + hidden * target
    if kind == "muse_glimmer_vision":
        rows = vision.size("pos_emb_height", default=32) * vision.size("pos_emb_width", default=32)
        inner = outer.size("projector_hidden_size", default=4096)
        return pixels + rows * hidden + 4 * hidden + merged * inner + inner * inner + inner * target
    if kind == "glm5_next_vision":
        inner = vision.size("projection_intermediate_size", default=target)
        return pixels + hidden + out * out + 2 * out + 3 * out * inner + merged * out + out + hidden
    if kind == "llama4_vision_model":
        rows = (vision.size("image_size", default=336) // patch) ** 2 + 1
        inner, wide = vision.size("projector_output_dim", default=4096), vision.size("intermediate_size")
        return pixels + (rows + 5) * hidden + (wide + inner) * inner + inner * target
    if vision.has("init_pos_emb_height"):
        rows = vision.size("init_pos_emb_height") * vision.size("init_pos_emb_width", default=64)
        return pixels + hidden + rows * hidden + 4 * hidden + merged * merged + merged + merged * target + target
    vision.warnings.append(
        f"vision tower {kind or 'without a type'!r} is not known: counted as a plain encoder with one projection"
    )
    return pixels + hidden * target
