"""Random small models, devices and batches for the laws."""

from __future__ import annotations

from hypothesis import strategies as st

from infersim.ops.transformer import Batch, Group
from infersim.specs.hardware import Accelerator, Link, Memory
from infersim.specs.model import (
    Attention,
    GatedDeltaNet,
    LatentAttention,
    Layer,
    Mamba2,
    MixtureOfExperts,
    Mlp,
    ModelSpec,
)
from infersim.specs.quantity import Source

SOURCES = (Source(of=("peak_flops", "memory", "scale_up", "host_link"), ref="made up for a test", status="assumed"),)


@st.composite
def mixers(draw: st.DrawFn) -> Attention | LatentAttention | Mamba2 | GatedDeltaNet:
    """Any kind of mixer with 8 or 16 heads."""
    heads = draw(st.sampled_from([8, 16]))
    kind = draw(st.sampled_from(["attention", "window", "mla", "mamba2", "gated_delta_net"]))
    if kind == "mla":
        return LatentAttention(num_heads=heads, q_lora_rank=draw(st.sampled_from([None, 128])), kv_lora_rank=64,
                               qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32)  # fmt: skip
    if kind == "mamba2":
        return Mamba2(num_heads=heads, head_dim=32, state_size=64, n_groups=8)
    if kind == "gated_delta_net":
        return GatedDeltaNet(num_key_heads=8, num_value_heads=heads, key_head_dim=32, value_head_dim=32)
    return Attention(
        num_heads=heads, num_kv_heads=draw(st.sampled_from([1, 2, 8])), head_dim=draw(st.sampled_from([32, 64])),
        window=draw(st.sampled_from([64, 1024])) if kind == "window" else None, qk_norm=draw(st.sampled_from(["none", "head"])),
    )  # fmt: skip


@st.composite
def models(draw: st.DrawFn) -> ModelSpec:
    """A small model of one or two kinds of layers."""
    feed_forwards = {"dense": Mlp(intermediate_size=draw(st.sampled_from([256, 1024])))}
    if draw(st.booleans()):
        feed_forwards["moe"] = MixtureOfExperts(  # type: ignore[assignment]
            num_experts=16, experts_per_token=draw(st.sampled_from([1, 2, 4])), intermediate_size=128,
            shared_intermediate_size=draw(st.sampled_from([0, 128])),
        )  # fmt: skip
    found = {f"m{i}": draw(mixers()) for i in range(draw(st.integers(1, 2)))}
    layers = [
        Layer(mixer=name, feed_forward=draw(st.sampled_from(sorted(feed_forwards))), count=draw(st.integers(1, 4)))
        for name in found
    ]
    return ModelSpec(
        name="random", hidden_size=256, vocab_size=draw(st.sampled_from([1000, 32000])), mixers=found,
        feed_forwards=feed_forwards, layers=tuple(layers), tie_word_embeddings=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def accelerators(draw: st.DrawFn) -> Accelerator:
    """A GPU with round figures."""
    bf16 = draw(st.sampled_from([50e12, 300e12, 2000e12]))
    return Accelerator(
        name="random", vendor="none", architecture=draw(st.sampled_from(["Hopper", "Ada", "Unheard-of"])),
        peak_flops={"bf16": f"{bf16} FLOP/s", "fp8": f"{2 * bf16} FLOP/s", "fp32": f"{bf16 / 16} FLOP/s"},
        memory=Memory(capacity="80 GB", bandwidth=f"{draw(st.sampled_from([0.3, 2, 8]))} TB/s"), l2_cache="50 MB",
        compute_units=draw(st.sampled_from([64, 132])), clock="1.5 GHz",
        scale_up=Link(name="link", bandwidth="100 GB/s", devices=8),
        host_link=Link(name="host", bandwidth="50 GB/s"), sources=SOURCES,
    )  # fmt: skip


@st.composite
def groups(draw: st.DrawFn) -> Group:
    """A prompt, a chunk or a decode group."""
    if draw(st.booleans()):
        return Group(float(draw(st.integers(1, 256))), 1.0, float(draw(st.integers(0, 8192))))
    return Group(float(draw(st.integers(1, 4))), float(draw(st.integers(1, 4096))), float(draw(st.integers(0, 4096))))


batches: st.SearchStrategy[Batch] = st.lists(groups(), min_size=1, max_size=3).map(tuple)
