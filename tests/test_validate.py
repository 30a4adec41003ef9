"""``infersim validate``: error tables, the shipped sample, the report, and the accuracy that is promised."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from infersim.calibrate.measurements import fit_rows, judges
from infersim.cli.app import main
from infersim.cli.validate import KERNEL_LABELS, error_screen
from infersim.errors import SpecError
from infersim.machine.calibration import every_section
from infersim.specs.library import measurement_file
from infersim.validate.comparison import Comparison, error_line, error_table, refusals, write_rows
from infersim.validate.kernels import compare_table
from infersim.validate.report import write_report
from infersim.validate.sample import read_sample, write_sample
from infersim.validate.serving import compare_serving, shipped_serving_points

EXPECTED = json.loads((Path(__file__).parent / "data" / "accuracy.json").read_text())
"""Figures of the shipped calibrations on the shipped measurements; ``benchmarks/store_accuracy.py`` writes them."""


@pytest.fixture(scope="module")
def kernels() -> list[Comparison]:
    return [one for table in read_sample() for one in compare_table(table)]


@pytest.fixture(scope="module")
def serving() -> list[Comparison]:
    return compare_serving([point for point in shipped_serving_points() if judges(point)], naive=False)


def test_kernel_accuracy_is_what_is_stored(kernels: list[Comparison]) -> None:
    found = {line.group[0]: line for line in error_table(kernels, ["kind"])}
    assert set(found) == set(EXPECTED["kernels"])
    for kind, stored in EXPECTED["kernels"].items():
        for name, value in stored.items():
            assert getattr(found[kind], name) == pytest.approx(value, abs=5e-4), (kind, name)


def test_serving_accuracy_is_what_is_stored(serving: list[Comparison]) -> None:
    found = {" ".join(line.group): line for line in error_table(serving, ["metric", "kind"])}
    for group, stored in EXPECTED["serving"].items():
        for name, value in stored.items():
            assert getattr(found[group], name) == pytest.approx(value, abs=1e-3), (group, name)


def test_every_kernel_beats_the_naive_roofline(kernels: list[Comparison]) -> None:
    for line in error_table(kernels, ["kind", "engine"]):
        assert line.mean < 0.5 * line.naive_mean
        assert line.physical_mean < 0.5 * line.naive_mean


def test_the_naive_roofline_counts_what_was_timed(kernels: list[Comparison]) -> None:
    """A bound that lies far above measured times counts work that did not run; caches explain a little of it, and all of it where
    a pass over a small matrix was timed again and again."""
    for kind in set(EXPECTED["kernels"]) - {"elementwise"}:
        ratios = [one.naive / one.measured for one in kernels if one.labels["kind"] == kind and one.naive is not None]
        assert np.mean(np.array(ratios) > 1.3) < 0.03


def test_the_sample_has_every_calibrated_section_and_is_small() -> None:
    tables = read_sample()
    drawn = {(table.device, table.engine, table.kind) for table in tables}
    assert {(row["accelerator"], row["engine"], row["kind"]) for row in every_section()} <= drawn
    files = ("kernels.npz", "serving_points.csv.gz")
    assert sum(measurement_file(name).stat().st_size for name in files) < 2e6


def test_no_row_of_the_sample_may_be_fitted() -> None:
    assert not any(fit_rows(table).any() for table in read_sample())


def test_a_table_fits_80_columns_with_every_label(kernels: list[Comparison]) -> None:
    lines = error_table(kernels, KERNEL_LABELS)[:40]
    screen = Console(width=80, record=True, file=io.StringIO())
    screen.print(error_screen(lines, KERNEL_LABELS, "kernels"))
    shown = screen.export_text()
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert all(f"{line.mean:.1%}" in shown for line in lines)


def test_rows_are_written_for_a_spreadsheet(tmp_path: Path, kernels: list[Comparison]) -> None:
    write_rows(tmp_path / "rows.csv", kernels)
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(kernels)
    for row, one in zip(rows, kernels, strict=True):
        assert float(row["measured_s"]) == one.measured
        assert (row["predicted_s"] == "") == (one.predicted is None) == bool(row["refusal"])


def test_the_sample_survives_its_file(tmp_path: Path) -> None:
    tables = read_sample()[:5]
    write_sample(tmp_path / "some.npz", tables)
    for mine, again in zip(tables, read_sample(tmp_path / "some.npz"), strict=True):
        assert (mine.kind, mine.device, dict(mine.formats), mine.kernel) == (
            again.kind,
            again.device,
            again.formats,
            again.kernel,
        )
        np.testing.assert_array_equal(mine.seconds, again.seconds)
        for axis, column in mine.shape.items():
            np.testing.assert_array_equal(column, again.shape[axis])
    (tmp_path / "broken.npz").write_bytes(b"not a zip file")
    with pytest.raises(SpecError, match=r"broken\.npz"):
        read_sample(tmp_path / "broken.npz")


@given(st.lists(st.tuples(st.floats(1e-6, 10), st.one_of(st.none(), st.floats(1e-6, 10))), min_size=1, max_size=30))
def test_error_lines_count_every_row(pairs: list[tuple[float, float | None]]) -> None:
    rows = [Comparison({"a": "x"}, measured, predicted, refusal="no") for measured, predicted in pairs]
    line = error_line(("x",), rows)
    answered = sum(predicted is not None for _, predicted in pairs)
    assert line.rows == len(pairs)
    assert line.answered == answered / len(pairs)
    assert sum(refusals(rows).values()) == len(pairs) - answered
    if answered:
        assert 0 <= line.median <= line.p90 * (1 + 1e-12) or answered < 10
        assert abs(line.bias) <= max(abs(one.error) for one in rows if one.predicted is not None)
    else:
        assert math.isnan(line.mean)


def test_report_stands_alone(tmp_path: Path, kernels: list[Comparison], serving: list[Comparison]) -> None:
    page = tmp_path / "report.html"
    write_report(page, {"kernels": kernels[:2000], "serving": serving[:200]})
    text = page.read_text()
    assert "http" not in text.replace("html", "")
    assert text.count("data:image/png;base64,") == 4
    assert "all kernels: off by" in text
    assert "naive roofline" in text
    for label in ("gemm", "tpot"):
        assert label in text
    write_report(tmp_path / "report.md", {"kernels": kernels[:500]})
    for picture in ("report-kernels-scatter.png", "report-kernels-errors.png"):
        assert (tmp_path / picture).read_bytes()[:4] == b"\x89PNG"
        assert f"]({picture})" in (tmp_path / "report.md").read_text()
    assert not list(tmp_path.glob(".*"))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def test_the_command_prints_tables_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", "kernels", "--by", "kind", "--by", "device", "--device", "h100-sxm") == 0
    shown = capsys.readouterr().out
    assert "H100-SXM" in shown
    assert "B200" not in shown
    assert run("validate", "kernels", "--json") == 0
    lines = json.loads(capsys.readouterr().out)["kernels"]["lines"]
    assert {line["group"][0] for line in lines} == set(EXPECTED["kernels"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--by", "modell"], ["modell", "did you mean 'model'"]),
        (["--report", "out.pdf"], ["out.pdf", ".html"]),
        (["--device", "H1000"], ["H1000", "H100"]),
        (["--measured", "nothing.csv"], ["nothing.csv"]),
        (["kernels", "--measured", "mine.csv"], ["--measured", "leave out 'kernels'"]),
        (["serving", "--all"], ["--all", "no kernels"]),
        (["--live", "--by", "model"], ["--by", "--live"]),
        (["--kind", "gem"], ["gem", "did you mean 'gemm'"]),
        (["kernels", "--device", "MI300X"], ["--device MI300X", "infersim calibrations"]),
    ],
)
def test_bad_input_gets_a_sentence(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", *arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    for word in words:
        assert word in said


RESULT = Path(__file__).parent / "data" / "load_tests" / "vllm_bench_serve.json"


def test_a_load_test_is_compared_once_it_is_told_what_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(
            "validate",
            "--measured",
            str(RESULT),
            "--device",
            "H100-SXM",
            "--engine",
            "vllm",
            "--precision",
            "fp8",
            "--json",
        )
        == 0
    )
    lines = json.loads(capsys.readouterr().out)["serving"]["lines"]
    assert {line["group"][0] for line in lines} == {"ttft", "tpot"}
    assert all(line["answered"] == 1 for line in lines)
    assert run("validate", "--measured", str(RESULT), "--engine", "vllm") == 2
    assert "add --gpu" in capsys.readouterr().err
