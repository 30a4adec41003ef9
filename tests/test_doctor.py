"""What ``infersim doctor`` finds sound, and what it finds broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infersim.cli.app import main
from infersim.doctor import READERS, Diagnosis, examine
from infersim.specs import library
from infersim.specs.driver_names import accelerator_called

GIB = 2**30


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of specs that the environment names."""
    monkeypatch.setenv("INFERSIM_SPECS", str(tmp_path))
    library.clear_cache()
    yield tmp_path
    monkeypatch.delenv("INFERSIM_SPECS")
    library.clear_cache()


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def errors(found: Diagnosis) -> dict[str, str]:
    return {Path(problem.path).name: problem.error for problem in found.broken}


def test_a_sound_installation_is_healthy() -> None:
    found = examine()
    assert found.healthy
    assert not found.broken
    told = found.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told["versions"]) >= {"infersim", "python", "platform", "numpy", "scipy", "pydantic"}
    counts = {entry["kind"]: entry["files"] for entry in told["specs"]}
    for kind in ("accelerators", "systems", "engines", "models"):
        assert counts[kind] == len(library.names(kind))
    assert {"H100-SXM", "L40S"} <= {entry["accelerator"] for entry in told["calibrations"] if entry["engine"] == "vllm"}
    assert all(entry["date"] != "no date" for entry in told["calibrations"])
    assert max(map(len, str(found).splitlines())) <= 80
    assert {extra["extra"] for extra in told["extras"]} >= {"hub", "data", "bench", "prices"}
    assert all(extra["pip"] == f"pip install 'infersim[{extra['extra']}]'" for extra in told["extras"])


def test_everything_broken_is_named_with_its_error(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = {kind: next(iter(library.files(kind).values())) for kind in ("accelerators", "models")}
    put(own / "accelerators" / "Good.yaml", shipped["accelerators"].read_text(encoding="utf-8"))
    put(own / "accelerators" / "Half.yaml", "name: Half\n")
    put(own / "accelerators" / "Text.yaml", "just words\n")
    put(own / "accelerators" / "Other.yml", "name: Other\n")
    put(
        own / "systems" / "Box.yaml",
        "name: Box\naccelerator: Nothing\ndevices_per_node: 8\nsources: [{of: [node], ref: mine}]\n",
    )
    put(own / "models" / "binary.yaml", "")
    (own / "models" / "binary.yaml").write_bytes(b"\x80\x81")
    put(own / "calibrations" / "Good.vllm.yaml", "accelerator: L40S\nengine: vllm\nsections: {gem: {}}\n")
    put(own / "prices" / "mine.csv", "hardware,kind,usd_per_hour\nNothing,spot,1\n")
    put(own / "economics" / "rents.yaml", "kind: spot\n")
    put(own / "model" / "x.yaml", "a: 1\n")
    put(own / "pictures" / "x.png", "")
    found = examine()
    told = errors(found)
    assert set(told) == {"Half.yaml", "Text.yaml", "Other.yml", "Box.yaml", "binary.yaml", "Good.vllm.yaml", "mine.csv", "rents.yaml",
                         "model"}  # fmt: skip
    assert "vendor: is missing" in told["Half.yaml"]
    assert "mapping" in told["Text.yaml"]
    assert "name it .yaml" in told["Other.yml"]
    assert "Nothing" in told["Box.yaml"]
    assert "not a text file" in told["binary.yaml"]
    assert "did you mean 'gemm'" in told["Good.vllm.yaml"]
    assert "hardware" in told["mine.csv"]
    assert "did you mean 'rental'" in told["rents.yaml"]
    assert "did you mean 'models'" in told["model"]
    assert any("pictures" in note for note in found.notes)
    counts = {(entry.kind, entry.origin): (entry.files, entry.broken) for entry in found.specs}
    assert counts["accelerators", "INFERSIM_SPECS"] == (3, 3)
    assert not found.healthy
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--json"])
    assert stopped.value.code == 1
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_a_folder_that_is_not_there_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("infersim.doctor.READERS", {"engines": READERS["engines"]})
    monkeypatch.setenv("INFERSIM_SPECS", str(tmp_path / "gone"))
    assert "INFERSIM_SPECS names it" in errors(examine())["gone"]


@pytest.mark.parametrize(("shown", "spec", "engines"), [
    ("NVIDIA H100 80GB HBM3, 81559, 550.54\nNVIDIA H100 80GB HBM3, 81559, 550.54", "H100-SXM", ("vllm", "sglang", "trtllm")),
    ("NVIDIA GeForce RTX 4090, 24564, 550.54", "RTX-4090", ()), ("NVIDIA T1000, 4096, 470", None, ()), ("", None, ()),
])  # fmt: skip
def test_what_nvidia_smi_shows_is_matched(
    monkeypatch: pytest.MonkeyPatch, shown: str, spec: str | None, engines: tuple[str, ...]
) -> None:
    monkeypatch.setattr("infersim.doctor.READERS", {"engines": READERS["engines"]})
    monkeypatch.setattr("infersim.microbench.environment._torch_devices", list)
    monkeypatch.setattr("infersim.microbench.environment._run", lambda *_: shown)
    found = examine()
    if not shown:
        assert found.accelerators == ()
        assert "accelerator: none seen" in str(found)
        return
    (seen,) = found.accelerators
    assert (seen.spec, seen.calibrated_under, seen.told_by) == (spec, engines, "nvidia-smi")
    assert seen.count == shown.count("NVIDIA")
    assert seen.memory_bytes == int(shown.split(",")[1]) * 2**20
    assert ("no spec of that name" in str(found)) == (spec is None)


DRIVERS: list[tuple[str, float, str | None]] = [
    ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40GB-SXM"), ("NVIDIA A100-SXM4-80GB", 79.3, "A100-80GB-SXM"),
    ("NVIDIA A100 80GB PCIe", 79.3, "A100-80GB-PCIe"), ("NVIDIA A100-PCIE-40GB", 39.4, "A100-40GB-PCIe"),
    ("NVIDIA H100 PCIe", 79.2, "H100-PCIe"), ("NVIDIA H100 NVL", 93.1, "H100-NVL"), ("NVIDIA H200", 139.8, "H200-SXM"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 95, "RTX-PRO-6000-Blackwell"), ("NVIDIA GH200 144G HBM3e", 143, "GH200-144GB"),
    ("AMD Instinct MI300X VF", 191, "MI300X"), ("Tesla V100-SXM2-32GB", 31.7, "V100-32GB-SXM2"), ("Tesla V100-PCIE-16GB", 15.8, None),
    ("NVIDIA GeForce RTX 3090 Ti", 23.7, None), ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.8, None), ("", 1.0, None),
]  # fmt: skip


@pytest.mark.parametrize(("told", "memory", "expected"), DRIVERS)
def test_names_of_drivers(told: str, memory: float, expected: str | None) -> None:
    found: Any = accelerator_called(told, memory * GIB)
    assert (found.name if found else None) == expected


def test_another_size_of_memory_is_another_device() -> None:
    assert accelerator_called("NVIDIA H100 80GB HBM3", 40 * GIB) is None


def test_every_folder_of_shipped_specs_is_read() -> None:
    root = Path(__file__).parents[1]
    kinds = {
        folder.name
        for home in ("hardware_specs", "workload_specs", "retrieval_specs")
        for folder in (root / home).iterdir()
    }
    assert kinds | {"models"} == set(READERS)
