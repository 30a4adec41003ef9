"""Every shipped accelerator and system: loads by every name, has a source for every figure, and is plausible."""

from __future__ import annotations

import functools

import pytest

from infersim.specs import library
from infersim.specs.hardware import Accelerator, Link, MatrixUnit, System, figures
from infersim.specs.library import default_system, load_accelerator, load_system, names

ACCELERATORS, SYSTEMS = names("accelerators"), names("systems")

RIDGES = {"A100-80GB-SXM": 153, "H100-SXM": 295, "H200-SXM": 206, "B200-SXM": 281}
"""bf16 FLOP per byte of memory traffic, worked out by hand from the data sheets."""

STEPS: tuple[tuple[MatrixUnit, MatrixUnit], ...] = (("bf16", "fp8"), ("fp8", "fp4"), ("fp32", "tf32"))
"""A format and a narrower one, which is at least as fast wherever both are there."""


@functools.cache
def texts(kind: str) -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8") for name, path in library.files(kind).items()}


def covered(figure: str, claims: set[str]) -> bool:
    return any(figure == claim or figure.startswith(claim + ".") for claim in claims)


def assert_claims_are_real(spec: Accelerator | System, known: list[str]) -> None:
    for source in spec.sources:
        assert source.of
        assert source.ref.strip()
        for claim in source.of:
            assert any(covered(figure, {claim}) for figure in known), f"{spec.name}: {claim} is not stated"


def test_there_are_enough() -> None:
    assert len(ACCELERATORS) >= 55
    assert len(SYSTEMS) >= 55
    vendors = {load_accelerator(name).vendor for name in ACCELERATORS}
    assert vendors >= {"NVIDIA", "AMD", "Intel", "Google", "AWS", "Apple", "Huawei"}
    assert any(load_accelerator(name).kind == "cpu" for name in ACCELERATORS)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_accelerator_states_its_sources(name: str) -> None:
    spec = load_accelerator(name)
    assert spec.name == name
    assert not spec.unsourced()
    assert_claims_are_real(spec, figures(spec))
    claims = [claim for source in spec.sources for claim in source.of]
    assert len(claims) == len(set(claims)), "one figure, one claim"
    for source in spec.sources:
        assert source.status != "differs" or source.note, "a disagreement is explained"


@pytest.mark.parametrize("name", ACCELERATORS)
def test_accelerator_is_plausible(name: str) -> None:
    spec = load_accelerator(name)
    peaks = spec.peak_flops
    for wide, narrow in STEPS:
        if wide in peaks and narrow in peaks:
            assert peaks[narrow] >= peaks[wide]
    if spec.kind == "gpu" and "bf16" in peaks:
        assert "fp16" in peaks
    if spec.architecture in ("Volta", "Turing"):
        assert "bf16" not in peaks
    best = peaks.get("bf16", peaks.get("fp16", 0.0))
    if spec.kind != "cpu":
        assert 10 < best / spec.memory.bandwidth < 2000
    assert 0.85 < (spec.memory.usable or spec.memory.capacity) / spec.memory.capacity < 1.12
    assert (spec.l2_cache or 0) < 1e9 < spec.memory.capacity
    for link in (spec.scale_up, spec.host_link):
        assert link is None or 1e9 < link.bandwidth < spec.memory.bandwidth
    assert spec.scale_up is None or spec.scale_up.devices > 1 or name == "GH200-96GB"


@pytest.mark.parametrize(("name", "ridge"), RIDGES.items())
def test_ridge_points(name: str, ridge: float) -> None:
    spec = load_accelerator(name)
    assert spec.peak_flops["bf16"] / spec.memory.bandwidth == pytest.approx(ridge, rel=0.01)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_accelerator_has_one_home(name: str) -> None:
    homes = [system for system in SYSTEMS if name in load_system(system).default_for]
    assert len(homes) == 1
    home = default_system(name)
    assert home is not None
    assert home.name == homes[0]
    assert home.accelerator == name


def same_link(one: Link, other: Link) -> bool:
    return (one.name, one.bandwidth, one.topology) == (other.name, other.bandwidth, other.topology)


@pytest.mark.parametrize("name", SYSTEMS)
def test_system(name: str) -> None:
    spec = load_system(name)
    assert spec.name == name
    accelerator = load_accelerator(spec.accelerator)
    claims = {claim for source in spec.sources for claim in source.of}
    assert_claims_are_real(spec, [*figures(spec), "devices_per_node"])
    assert "devices_per_node" in claims
    assert [figure for figure in figures(spec) if not covered(figure, claims)] == []
    link = spec.scale_up or accelerator.scale_up
    if spec.devices_per_node > 1:
        assert link is not None
        assert link.devices >= spec.devices_per_node
    if spec.default_for and spec.scale_up and accelerator.scale_up:
        assert same_link(spec.scale_up, accelerator.scale_up), "a default system has the accelerator's own link"
    if spec.scale_out:
        assert 1e9 < spec.scale_out.bandwidth <= 100e9
        assert link is None or spec.scale_out.bandwidth < 2 * link.bandwidth


def test_names_and_aliases_are_unique_and_found() -> None:
    for kind, load in (("accelerators", load_accelerator), ("systems", load_system)):
        seen: dict[str, str] = {}
        for name in names(kind):
            spec = load(name)
            for label in (name, *spec.aliases):
                assert label.lower() not in seen, f"{label} names both {seen.get(label.lower())} and {name}"
                seen[label.lower()] = name
        by_label = {label: library.find(kind, label.upper()).stem for label in seen}
        assert by_label == seen


@pytest.mark.parametrize(("alias", "name"), [
    ("h100", "H100-SXM"), ("H100-SXM5-80GB", "H100-SXM"), ("h100_sxm", "H100-SXM"), ("h100_pcie", "H100-PCIe"),
    ("h200_sxm", "H200-SXM"), ("a100_sxm", "A100-80GB-SXM"), ("a100_pcie", "A100-80GB-PCIe"), ("A100", "A100-80GB-SXM"),
    ("b200_sxm", "B200-SXM"), ("b300_sxm", "B300-SXM"), ("gb200", "GB200"), ("gb300", "GB300"), ("l4", "L4"),
    ("l40s", "L40S"), ("a30", "A30"), ("b60", "Arc-Pro-B60"), ("rtx_pro_6000_server", "RTX-PRO-6000-Blackwell"),
    ("v5e", "TPU-v5e"), ("trn2", "Trainium2"), ("4090", "RTX-4090"), ("MI300", "MI300X"), ("cpu", "EPYC-9654"),
])  # fmt: skip
def test_names_people_type(alias: str, name: str) -> None:
    assert load_accelerator(alias).name == name


def test_files_are_tidy() -> None:
    for kind in ("accelerators", "systems"):
        for name, text in texts(kind).items():
            assert "\t" not in text
            assert len(text) < 8000
            assert text.startswith(f"name: {name}\n")
            assert text.endswith("\n")
            assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize("name", ACCELERATORS)
def test_prices_have_an_origin(name: str) -> None:
    for price in load_accelerator(name).prices:
        assert price.source.strip()
        assert price.provider.strip()
        assert price.date is None or price.date[:2] == "20"
        if price.kind == "on_demand":
            assert 0.1 < (price.per_hour or 0) < 20


def test_common_accelerators_have_a_price() -> None:
    for name in ("A100-80GB-SXM", "H100-SXM", "H200-SXM", "B200-SXM", "L40S", "L4", "MI300X"):
        assert load_accelerator(name).price_per_hour is not None
