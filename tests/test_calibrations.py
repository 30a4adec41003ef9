"""Shipped calibrations: every file loads, states its errors on unseen rows, and a broken one is refused kindly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infersim.calibrate.fit import Spread
from infersim.calibrate.measurements import KernelTable, fit_rows
from infersim.calibrate.sections import Section, fit_section, problem
from infersim.calibrate.write import write_calibration
from infersim.errors import SpecError
from infersim.machine import calibration
from infersim.machine.calibration import (
    POOLED,
    Calibration,
    ExpertShape,
    every_section,
    load_calibration,
    read_calibration,
)
from infersim.machine.kernels.base import Rates
from infersim.machine.kernels.gemm import GemmParameters, gemm_time
from infersim.machine.surface import Surface, SurfaceSum
from infersim.specs.library import load_accelerator, read_yaml, spec_folders

FILES = sorted(path for folder in spec_folders("calibrations") for path in folder.glob("*.yaml"))
MEASURED = [
    "A100-80GB-SXM",
    "H100-SXM",
    "H200-SXM",
    "B200-SXM",
    "B300-SXM",
    "GB200",
    "GB300",
    "L40S",
    "RTX-PRO-6000-Blackwell",
    "Arc-Pro-B60",
    "pooled-HBM",
    "pooled-GDDR",
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_loads(path: Path) -> None:
    found = read_calibration(path)
    assert path.stem == f"{found.accelerator}.{found.engine}"
    if found.accelerator not in calibration.POOLED.values():
        load_accelerator(found.accelerator)
    for kind, keys in found.sections.items():
        for key, section in keys.items():
            assert section["rows"] >= 10
            assert {"mean", "p50", "p90", "bias", "log_sd", "rows"} <= set(section["test_error"])
            assert calibration._parameters(kind, section, path, key)
            surface = found.surfaces.get((kind, key))
            if surface is not None:
                parts = surface.parts if isinstance(surface, SurfaceSum) else (surface,)
                assert sum(part.values.size for part in parts) <= 324
                assert all(np.all(np.abs(part.values) <= 1.3) for part in parts)


def test_every_measured_device_is_there() -> None:
    assert {path.stem.partition(".")[0] for path in FILES} == set(MEASURED)
    assert sum(path.stat().st_size + path.with_suffix(".npz").stat().st_size for path in FILES) < 3e6


RECORDED = {"gemm": 0.070, "attention": 0.086, "moe": 0.102, "mla": 0.086, "scan": 0.075, "collective": 0.114}
"""Mean absolute error over all unseen rows when the shipped files were made; a worse file must say so here."""


@pytest.mark.parametrize("kind", sorted(RECORDED))
def test_recorded_errors(kind: str) -> None:
    rows = [row for row in every_section() if row["kind"] == kind]
    total = sum(row["test_error"]["rows"] for row in rows)
    mean = sum(row["test_error"]["mean"] * row["test_error"]["rows"] for row in rows) / total
    assert mean <= RECORDED[kind]
    assert total > 1000


def test_a_lookup_says_where_it_stopped() -> None:
    levels = {
        ("H100-SXM", "Hopper", "vllm", "gemm", "bf16"): "measured",
        ("H100-SXM", "Hopper", "vllm", "gemm", "int8"): "same device",
        ("H20-SXM", "Hopper", "vllm", "gemm", "bf16"): "family",
        ("MI300X", "CDNA3", "vllm", "gemm", "bf16"): "default",
    }
    spreads = {}
    for (device, family, engine, kind, key), level in levels.items():
        fitted = load_calibration(device, family, engine).lookup(kind, key)
        assert fitted.level == level
        assert device in fitted.source or level in ("family", "default")
        spreads[level] = fitted.spread
    assert spreads["measured"] < spreads["family"]


def test_who_gets_a_surface() -> None:
    """The family shares those of products and attention; other kinds and classes of devices get parameters alone."""
    assert load_calibration("H20-SXM", "Hopper", "vllm").lookup("gemm", "bf16").surface is not None
    assert load_calibration("MI300X", "CDNA3", "vllm").lookup("gemm", "bf16").surface is None
    measured = load_calibration("H100-SXM", "Hopper", "vllm").lookup("moe", "bf16")
    stands_in = load_calibration("H20-SXM", "Hopper", "vllm").lookup("moe", "bf16")
    assert measured.surface is not None
    assert stands_in.surface is None
    assert stands_in.correction(1.0, 1.0, 1.0) == 1.0
    assert stands_in.parameters == measured.parameters


def _table(rates: Rates, truth: GemmParameters) -> KernelTable:
    m, n, k = (
        a.ravel() for a in np.meshgrid(2.0 ** np.arange(0, 13), 512.0 * np.arange(1, 20), 1024.0 * np.arange(1, 6))
    )
    seconds = gemm_time(
        m, n, k, weight_bytes=2, activation_bytes=2, output_bytes=2, rates=rates, parameters=truth, weights_in_l2=True
    )
    formats = {"weights": "bf16", "activations": "bf16"}
    return KernelTable("gemm", "H100-SXM", "vllm", "1", formats, "", {"m": m, "n": n, "k": k}, seconds, "made up")


def _fit() -> tuple[Section, GemmParameters]:
    h100 = load_accelerator("H100-SXM")
    rates = Rates(h100.peak_flops["bf16"], h100.memory.bandwidth, 132.0, h100.l2_cache or 0.0, h100.clock or 0.0)
    truth = GemmParameters(launch=4e-6, compute_efficiency=0.7, memory_efficiency=0.8, depth_step=7e-10, waves=0.4)
    table = _table(rates, truth)
    assert 0.1 < fit_rows(table).mean() < 0.5
    return fit_section(table, problem(table, h100)), truth


def test_a_fit_finds_the_parameters_that_made_its_data() -> None:
    section, truth = _fit()
    assert section.physical.mean < 0.02
    assert section.parameters.launch == pytest.approx(truth.launch, rel=0.1)
    assert section.parameters.memory_efficiency == pytest.approx(truth.memory_efficiency, rel=0.05)


def test_a_fit_is_repeatable() -> None:
    assert _fit()[0].parameters == _fit()[0].parameters


def test_what_is_written_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import Counter

    section, _ = _fit()
    path = write_calibration(tmp_path, "H100-SXM", "vllm", [section], Counter({"gemm: format x": 3}), date="2026-01-01")
    found = read_calibration(path)
    surface = found.surfaces["gemm", "bf16"]
    assert isinstance(section.surface, Surface)
    assert isinstance(surface, Surface)
    np.testing.assert_allclose(surface.values, section.surface.values, atol=6e-5)
    assert isinstance(section.physical, Spread)
    (tmp_path / "calibrations").mkdir()
    path.rename(tmp_path / "calibrations" / path.name)
    path.with_suffix(".npz").rename(tmp_path / "calibrations" / path.with_suffix(".npz").name)
    monkeypatch.setenv("INFERSIM_SPECS", str(tmp_path))
    calibration._lookup.cache_clear()
    own = Calibration("H100-SXM", "Hopper", "vllm").lookup("gemm", "bf16")
    calibration._lookup.cache_clear()
    assert own.parameters.launch == pytest.approx(section.parameters.launch, rel=1e-4)


BROKEN = [
    ("accelerator: X\nengine: vllm\n", "sections: is missing"),
    ("accelerator: X\nengine: vllm\nsections: {gem: {bf16: {}}}\n", "did you mean 'gemm'"),
    (
        "accelerator: X\nengine: vllm\nsections: {gemm: {bf16: {surfaces: [{axes: [m], shape: [4]}]}}}\n",
        "missing from the companion",
    ),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_broken_files_are_refused_kindly(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "X.vllm.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=said):
        read_calibration(path)


def test_wrong_parameters_are_named(tmp_path: Path) -> None:
    path = tmp_path / "X.vllm.yaml"
    for given, said in (({"lunch": 1e-6}, "did you mean 'launch'"), ({"launch": "fast"}, "must be a number")):
        with pytest.raises(SpecError, match=said):
            calibration._parameters("gemm", {"parameters": given}, path, "bf16")


def test_collectives_are_lent_by_link() -> None:
    """An A10 talks over PCIe, so it borrows from an L40S and not from the A100, of whose family it is."""
    a10, h20 = load_accelerator("A10"), load_accelerator("H20-SXM")
    over_pcie = load_calibration("A10", a10.architecture, "vllm", a10.host_link).lookup("collective", "all_reduce")
    over_nvlink = load_calibration("H20-SXM", h20.architecture, "vllm", h20.scale_up).lookup("collective", "all_reduce")
    assert over_pcie.level == over_nvlink.level == "same link"
    assert "on L40S" in over_pcie.source
    assert "on H100-SXM" in over_nvlink.source


def test_experts_take_the_kernels_of_the_nearest_measured_shape() -> None:
    """vLLM on H200 runs block-scaled experts in Triton, whole ones on other ranks in CUTLASS; SGLang on B200 runs
    MiniMax-M2.5's in Triton and DeepSeek-V3's in TensorRT-LLM's."""
    h200 = load_calibration("H200-SXM", "Hopper", "vllm")
    deepseek, minimax = ExpertShape(7168, 2048, 256), ExpertShape(3072, 1536, 256)
    assert "fp8_block.triton on" in h200.experts("fp8_block", deepseek).source
    assert "fp8_block on" in h200.experts("fp8_block", deepseek._replace(expert_parallel=True)).source
    b200 = load_calibration("B200-SXM", "Blackwell", "sglang")
    assert "fp8_block.triton on" in b200.experts("fp8_block", minimax).source
    assert "fp8_block on" in b200.experts("fp8_block", deepseek).source


def test_int4_experts_of_any_group_borrow_from_int4() -> None:
    """Kimi-K2.5 keeps experts in 4 bits with groups of 32; the measured ones have groups of 128."""
    found = load_calibration("H200-SXM", "Hopper", "vllm").experts("int4_g32", ExpertShape(7168, 2048, 384))
    assert "as int4" in found.source


def test_stand_ins_differ_by_memory() -> None:
    stacked, flat = (
        load_calibration("X", "unknown", "vllm", memory=kind).lookup("gemm", "bf16") for kind in ("HBM3", "GDDR6")
    )
    assert stacked.parameters != flat.parameters
    assert "pooled-GDDR" in flat.source


def test_every_section_tells_its_range_and_its_spread_by_duration() -> None:
    """The sizes that were fitted, and the errors on unseen rows of short, middling and long kernels, which add up to all of them."""
    for folder in spec_folders("calibrations"):
        for path in sorted(folder.glob("*.yaml")):
            data = read_yaml(path)
            if data["accelerator"] in POOLED.values():
                continue
            for kind, sections in data["sections"].items():
                for key, section in sections.items():
                    where = f"{path.name} {kind} {key}"
                    assert all(low <= high for low, high in section["fitted_range"].values()), where
                    regimes = section["test_error_by_duration"]
                    assert sum(one["rows"] for one in regimes.values()) == section["test_error"]["rows"], where
                    mean = sum(one["rows"] * one["mean"] for one in regimes.values()) / section["test_error"]["rows"]
                    assert mean == pytest.approx(section["test_error"]["mean"], abs=2e-4), where
