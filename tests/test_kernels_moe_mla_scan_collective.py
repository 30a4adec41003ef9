"""Kernel models of experts, latent attention, scans and collectives: published values, laws, and measurements if installed."""

from __future__ import annotations

import importlib.util
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim import load_model
from infersim.machine.kernels.base import Rates
from infersim.machine.kernels.collective import PCIE, CollectiveParameters, collective_time, family_default
from infersim.machine.kernels.latent import LatentParameters, latent_attention_time
from infersim.machine.kernels.moe import MoeParameters, expert_load, moe_time
from infersim.machine.kernels.scan import ScanParameters, scan_time
from infersim.machine.machine import build_machine
from infersim.machine.network import Fabric, Path, least_time, ring_all_reduce_time
from infersim.ops.transformer import decode
from infersim.predict.step import predict_step
from infersim.routing import distinct_experts
from infersim.specs.deployment import Parallelism
from infersim.specs.hardware import Link
from infersim.specs.library import load_accelerator, load_engine
from infersim.specs.precision import precision

H100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132, l2_bytes=50e6)
FASTER = replace(H100, flops=2 * H100.flops, bandwidth=2 * H100.bandwidth)
NVLINK = Link(name="NVLink4", bandwidth="450 GB/s", devices=8)
SLOW = Link(name="PCIe4 x16", bandwidth="31.5 GB/s", devices=8, topology="pcie")
NETWORK = Link(name="InfiniBand NDR", bandwidth="50 GB/s", devices=8)
LATENT = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")


def moe(tokens, parallel=1, rates=H100, **options):
    return moe_time(
        tokens, 7168, 2048, 256, 8, expert_parallel=parallel, weight_bytes=1, activation_bytes=1, rates=rates,
        parameters=options.pop("parameters", MoeParameters()), **options,
    )  # fmt: skip


def latent(count, new, cached, rates=H100, **options):
    return latent_attention_time(
        count, new, cached, heads=128, **LATENT, rates=rates, parameters=LatentParameters(), **options
    )


def scan(sequences, new, rates=H100, **options):
    shape = {"heads": 64, "key_dim": 128, "value_dim": 128, "conv_channels": 12288, "conv_kernel": 4, "chunk": 64}
    return scan_time(
        sequences, new, kind="gated_delta_net", **shape, rates=rates, parameters=ScanParameters(), **options
    )


# --- golden values ---------------------------------------------------------------------------------------------------


def test_distinct_experts_of_deepseek_v3():
    """Uniform routing over 256 experts, 8 a token; 37.6 experts for five draft tokens."""
    found = distinct_experts(np.array([1.0, 2, 4, 5, 8, 16, 32, 64, 128]), 256, 8)
    assert found == pytest.approx([8, 15.75, 30.53, 37.6, 57.42, 101.96, 163.31, 222.44, 251.60], abs=0.03)


def test_expert_load_against_simulation():
    """The measuring harness's power law, drawn 10-40 times per case: busiest rank's pairs over the mean, experts touched."""
    cases = [  # tokens, experts, per token, ranks, simulated imbalance, simulated touched
        (64, 256, 8, 8, 1.29, 26.6), (1024, 256, 8, 8, 1.41, 30.1), (1024, 256, 8, 64, 3.45, 3.9), (256, 128, 8, 8, 1.49, 15.8),
        (1024, 512, 22, 8, 1.30, 61.6), (4096, 256, 8, 1, 1.0, 245.0), (16, 256, 8, 1, 1.0, 96.9),
    ]  # fmt: skip
    for tokens, experts, each, ranks, imbalance, touched in cases:
        pairs, found = expert_load(float(tokens), experts, each, ranks)
        assert pairs / (tokens * each / ranks) == pytest.approx(imbalance, rel=0.12)
        assert found == pytest.approx(touched, rel=0.12)


def test_balanced_routing_is_exact():
    pairs, touched = expert_load(np.array([8.0, 64.0, 4096.0]), 256, 8, 8, skew=0)
    assert pairs.tolist() == [8, 64, 4096]
    assert touched.tolist() == [8, 32, 32]


def test_latent_intensity_of_deepseek_v3():
    """Absorbed decode on 128 heads runs 241.8 FLOP per byte of bf16 cache: near the ridge of an H100 (295)."""
    cached, heads = 65535, 128
    flops = 2 * heads * (2 * 512 + 64) * (cached + 1)
    assert flops / ((cached + 1) * 576 * 2) == pytest.approx(241.8, abs=0.1)
    t = float(latent(64, 1, cached))
    assert 64 * flops / H100.flops < t < 2 * 64 * (cached + 1) * 1152 / H100.bandwidth


def test_ring_all_reduce_and_hierarchy():
    assert ring_all_reduce_time(512 * 2**20, 8, 450e9) == pytest.approx(2.088e-3, rel=1e-3)
    """4 GiB over four nodes of eight B200 took 22.05 ms: 0.75 GiB a device over 50 GB/s is 16.1 ms of it."""
    nvlink5 = Link(name="NVLink5", bandwidth="900 GB/s", devices=8)
    path = Path(8, 4, nvlink5, NETWORK)
    assert float(least_time("all_reduce", 2**32, path)) == pytest.approx(16.1e-3, rel=0.01)
    assert 1.61e-2 < float(collective_time("all_reduce", 2**32, path)) < 4.5e-2


def test_pcie_is_no_slow_nvlink():
    """Eight L40S reduce 16 MiB in 15.8 ms under vLLM, eight H100 in 92 us."""
    slow = float(collective_time("all_reduce", 2**24, Path(8, 1, SLOW, None)))
    fast = float(collective_time("all_reduce", 2**24, Path(8, 1, NVLINK, None)))
    assert slow > 15 * fast
    assert family_default(SLOW) is PCIE


def test_a_pair_of_a_mesh_talks_over_one_link():
    """Two of eight MI300X share one link of 64 GB/s, all eight use seven: 1 GiB takes at least 16.8 ms, and 4.2 ms."""
    mi300x = Fabric.of(load_accelerator("MI300X"), None)
    pair, whole = (float(least_time("all_reduce", 2**30, mi300x.path(n))) for n in (2, 8))
    assert pair == pytest.approx(16.8e-3, rel=0.01)
    assert whole == pytest.approx(4.19e-3, rel=0.01)


def test_engines_say_which_kernels_run_experts():
    """gpt-oss on one B200: TensorRT-LLM quantises activations to mxfp8 (207 us at 64 tokens, 891 us with bf16 ones);
    DeepSeek-R1 in NVFP4 on eight takes the low-latency kernels (110 us, 247 us by CUTLASS)."""

    def experts(model, scheme, tensor):
        machine = build_machine(load_accelerator("B200-SXM"), None, load_engine("trtllm"), devices=tensor)
        spec = load_model(model)
        chosen = precision(scheme) if scheme else spec.precision
        step = predict_step(spec, Parallelism(tensor=tensor), chosen, decode(64.0, 1000.0), machine)
        part = next(part for part in step.parts() if part.name == "experts")
        return float(part.seconds) / part.count, part.source

    seconds, source = experts("openai/gpt-oss-120b", "", 1)
    assert seconds == pytest.approx(207e-6, rel=0.25)
    assert "mxfp8" in source
    seconds, source = experts("deepseek-ai/DeepSeek-R1", "nvfp4", 8)
    assert seconds == pytest.approx(110e-6, rel=0.25)
    assert "low_latency" in source


# --- laws ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20000), st.sampled_from([1, 2, 8, 32, 64]), st.floats(1.01, 4))
def test_more_tokens_are_never_cheaper_for_experts(tokens, parallel, factor):
    smooth = MoeParameters(waves=0.0)
    few, many = (float(moe(t, parallel, parameters=smooth)) for t in (tokens, tokens * factor))
    assert many >= few * (1 - 1e-3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20000), st.sampled_from([1, 8, 64]))
def test_experts_respect_the_roofline(tokens, parallel):
    pairs, touched = expert_load(float(tokens), 256, 8, parallel)
    t = float(moe(tokens, parallel))
    assert t >= 6 * pairs * 7168 * 2048 / H100.flops
    assert t >= touched * 3 * 7168 * 2048 / H100.bandwidth
    assert float(moe(tokens, parallel, rates=FASTER)) <= t


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 512), st.integers(0, 100_000), st.integers(1, 8192))
def test_latent_attention_laws(count, cached, new):
    t = float(latent(count, 1, cached))
    assert float(latent(count, 1, 2 * cached + 1)) >= t * (1 - 1e-6)
    assert float(latent(count, 1, cached, rates=FASTER)) <= t
    assert t >= count * (cached + 1) * 1152 / H100.bandwidth
    prompt = float(latent(1, new + 16, 0))
    assert prompt >= 2 * 128 * 320 * (new + 16) * (new + 17) / 2 / H100.flops
    assert float(latent(1, new + 16, cached)) >= prompt * (1 - 1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1024), st.integers(1, 32768))
def test_scan_laws(sequences, new):
    t = float(scan(sequences, new))
    assert float(scan(sequences + 1, new)) >= t
    assert float(scan(sequences, new, rates=FASTER)) <= t
    assert t >= sequences * 2 * 64 * 128 * 128 * 4 / H100.bandwidth


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.floats(1, 1e10),
    st.floats(1.0, 10),
    st.sampled_from([2, 4, 8]),
    st.sampled_from([1, 2, 4]),
)
def test_collective_laws(kind, payload, factor, inside, nodes):
    path = Path(inside, nodes, NVLINK, NETWORK if nodes > 1 else None)
    t = float(collective_time(kind, payload, path))
    assert t >= float(least_time(kind, payload, path))
    assert float(collective_time(kind, payload * factor, path)) >= t * (1 - 1e-9)
    assert float(collective_time(kind, 0.0, path)) == 0.0


def test_arrays_equal_numbers():
    tokens = np.array([1.0, 30.0, 5000.0])
    assert moe(tokens) == pytest.approx([float(moe(t)) for t in tokens])
    new = np.array([1.0, 4.0, 300.0])
    assert latent(4, new, 100.0) == pytest.approx([float(latent(4, t, 100.0)) for t in new])
    assert scan(4, new) == pytest.approx([float(scan(4, t)) for t in new])
    path = Path(8, 1, NVLINK, None)
    assert collective_time("all_reduce", tokens, path) == pytest.approx(
        [float(collective_time("all_reduce", t, path)) for t in tokens]
    )


def test_a_faster_link_is_never_slower():
    sizes = np.geomspace(256, 1e9, 40)
    slow, fast = (Link(name="x", bandwidth=b, devices=8) for b in ("300 GB/s", "450 GB/s"))
    for kind in KINDS:
        assert np.all(
            collective_time(kind, sizes, Path(8, 1, fast, None)) <= collective_time(kind, sizes, Path(8, 1, slow, None))
        )


@pytest.mark.parametrize("kind", [MoeParameters, LatentParameters, ScanParameters, CollectiveParameters])
def test_defaults_lie_within_their_bounds(kind):
    for one in fields(kind):
        assert one.metadata["low"] <= one.default <= one.metadata["high"], one.name
        assert one.metadata["meaning"]


# --- measurements ----------------------------------------------------------------------------------------------------

measured = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None, reason="no measurements installed"
)


@measured
def test_fit_of_one_device_meets_its_bars_and_repeats():
    from infersim.calibrate.sections import fit_tables, section_key
    from infersim.calibrate.silicon_more import more_tables

    tables, left = more_tables("H200-SXM", "sglang")
    keys = {("moe", "fp8_block"), ("mla", "fp8.decode"), ("scan", "kda"), ("collective", "all_gather")}
    chosen = [table for table in tables if (table.kind, section_key(table)) in keys]
    assert len(chosen) == 4
    assert sum(left.values()) > 0
    first, second = (list(fit_tables(chosen, left)) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert one.parameters == two.parameters
        assert np.array_equal(one.surface.values, two.surface.values)
        assert one.final.mean < 0.12, (one.kind, one.key)
        assert one.physical.mean < 0.24, (one.kind, one.key)


@measured
def test_rows_left_out_are_counted():
    from infersim.calibrate.silicon_more import more_tables

    tables, left = more_tables("L40S", "trtllm")
    assert left["experts: format w4afp8 is not modelled"] > 0
    assert all(len(table) and np.all(table.seconds > 0) for table in tables)
