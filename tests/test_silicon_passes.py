"""Quantise passes in the format of aiconfigurator-core: what is read, what is counted, and what a fit makes of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infersim.calibrate.sections import fit_tables
from infersim.calibrate.silicon_passes import count_unread, quantise_tables


def write(folder: Path, engine: str, finding: float, dtype: str = "fp8") -> None:
    """Passes that take 2 us or the bytes at 2 TB/s, the larger, and ``finding`` times that to find a scale."""
    rows, columns = (grid.ravel() for grid in np.meshgrid(2 ** np.arange(1, 16), 2 ** np.arange(7, 15)))
    seconds = np.maximum(2e-6, 3.0 * rows * columns / 2e12)
    place = folder / "quantize" / engine / "1.0"
    place.mkdir(parents=True)
    for name, share in (("scale_matrix", 1.0), ("computescale", finding)):
        table = pd.DataFrame({"m": rows, "k": columns, "quant_dtype": dtype, "latency": share * seconds * 1e3})
        table.to_parquet(place / f"{name}_perf.parquet")


def test_two_steps_make_a_static_and_a_dynamic_pass(tmp_path: Path) -> None:
    write(tmp_path, "vllm", 0.5)
    static, dynamic = quantise_tables(tmp_path, "H100-SXM", "vllm", Counter())
    assert (static.kernel, dynamic.kernel) == ("quantise.static", "quantise.dynamic")
    assert static.shape["bytes"] == pytest.approx(3 * static.shape["rows"] * static.shape["columns"])
    assert dynamic.seconds == pytest.approx(1.5 * static.seconds)
    (section, _) = fit_tables([static, dynamic], Counter())
    assert section.parameters.launch == pytest.approx(2e-6, rel=0.05)
    assert section.parameters.memory_efficiency == pytest.approx(2 / 3.35, rel=0.1)
    assert section.final.mean < 0.05


def test_a_scale_found_in_no_time_is_part_of_the_pass(tmp_path: Path) -> None:
    write(tmp_path, "sglang", 0.0)
    (only,) = quantise_tables(tmp_path, "H100-SXM", "sglang", Counter())
    assert only.kernel == "quantise.dynamic"


def test_rows_that_do_not_map_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "vllm", 0.5, dtype="int8")
    left: Counter[str] = Counter()
    assert not sum(len(table) for table in quantise_tables(tmp_path, "H100-SXM", "vllm", left))
    assert left["quantise: format"] == 15 * 8
    place = tmp_path / "mla_bmm" / "vllm" / "1.0"
    place.mkdir(parents=True)
    pd.DataFrame({"num_tokens": [1, 2, 3]}).to_parquet(place / "mla_bmm_perf.parquet")
    count_unread(tmp_path, "vllm", left)
    assert left["absorbed products of latent attention: no kernel model"] == 3
