"""Every shipped accelerator and system: loads by every name, has a source for every figure, and is plausible."""

from __future__ import annotations

import pytest

from infersim.specs import library
from infersim.specs.hardware import figures
from infersim.specs.library import default_system, load_accelerator, load_system, names

ACCELERATORS, SYSTEMS = names("accelerators"), names("systems")


def test_there_are_enough() -> None:
    assert len(ACCELERATORS) >= 45
    assert len(SYSTEMS) >= 25
    vendors = {load_accelerator(name).vendor for name in ACCELERATORS}
    assert vendors >= {"NVIDIA", "AMD", "Intel", "Google", "AWS", "Apple", "Huawei"}
    assert any(load_accelerator(name).kind == "cpu" for name in ACCELERATORS)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_accelerator(name: str) -> None:
    spec = load_accelerator(name)
    assert spec.name == name
    assert not spec.unsourced()
    stated = figures(spec)
    for source in spec.sources:
        for claim in source.of:
            assert any(figure == claim or figure.startswith(claim + ".") for figure in stated), f"{claim} is not stated"
    peaks = spec.peak_flops
    if {"fp8", "bf16"} <= set(peaks):
        assert peaks["fp8"] >= peaks["bf16"]
    if {"fp4", "fp8"} <= set(peaks):
        assert peaks["fp4"] > peaks["fp8"]
    ridge = peaks.get("bf16", peaks.get("fp16", 0)) / spec.memory.bandwidth
    assert 10 < ridge < 1000
    assert spec.memory.capacity >= (spec.memory.usable or 0) * 0.9
    assert all(price.source for price in spec.prices)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_accelerator_has_one_home(name: str) -> None:
    homes = [system for system in SYSTEMS if name in load_system(system).default_for]
    assert len(homes) == 1
    home = default_system(name)
    assert home is not None
    assert home.name == homes[0]
    assert home.accelerator == name


@pytest.mark.parametrize("name", SYSTEMS)
def test_system(name: str) -> None:
    spec = load_system(name)
    assert spec.name == name
    accelerator = load_accelerator(spec.accelerator)
    if spec.devices_per_node > 1:
        assert spec.scale_up or accelerator.scale_up


def test_names_and_aliases_are_unique_and_found() -> None:
    for kind, load in (("accelerators", load_accelerator), ("systems", load_system)):
        seen: dict[str, str] = {}
        for name in names(kind):
            spec = load(name)
            for label in {name.lower(), *(alias.lower() for alias in spec.aliases)}:
                assert label not in seen, f"{label} names both {seen.get(label)} and {name}"
                seen[label] = name
                assert load(label.upper()).name == name


def test_files_are_tidy() -> None:
    for kind in ("accelerators", "systems", "engines"):
        for name, path in library.files(kind).items():
            text = path.read_text(encoding="utf-8")
            assert "\t" not in text
            assert len(text) < 8000
            assert f"name: {name}" in text


@pytest.mark.parametrize(("alias", "name"), [("h100", "H100-SXM"), ("a100_sxm", "A100-80GB-SXM"), ("b200_sxm", "B200-SXM"),
                                             ("gb200", "GB200"), ("l40s", "L40S"), ("v5e", "TPU-v5e")])  # fmt: skip
def test_names_people_type(alias: str, name: str) -> None:
    assert load_accelerator(alias).name == name


def test_common_accelerators_have_a_price() -> None:
    for name in ("A100-80GB-SXM", "H100-SXM", "H200-SXM", "B200-SXM", "L40S", "L4", "MI300X"):
        price = load_accelerator(name).price_per_hour
        assert price is not None
        assert 0.3 < (price.per_hour or 0) < 20
