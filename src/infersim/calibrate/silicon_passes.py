"""Read measured quantise passes from the aiconfigurator-core package, and count the kinds that no model here prices.

The package times two steps of turning activations into fp8: finding a scale (``compute_scale``) and writing the scaled matrix
(``scale_matrix``). Their sum is the pass of a dynamic scheme; the second alone that of a static one. They are passes launched on
their own; engines fuse them into the norm or activation before, so steps are not priced with these sections.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from infersim.calibrate.measurements import KernelTable
from infersim.calibrate.silicon_dense import newest
from infersim.calibrate.silicon_more import column, kernel_table

READ_BYTES, WRITTEN_BYTES = 2.0, 1.0
"""Per element: bf16 in, fp8 out."""

UNREAD = {
    "mla_bmm": "absorbed products of latent attention", "mhc": "hyper-connections", "msa": "sparse attention (MSA)",
    "kda": "Kimi delta attention", "sparse_attention": "sparse attention (DSA, compressed)", "mlp": "dense layers of wide EP",
}  # fmt: skip
"""Folders of kernels that no kernel model reads yet."""


def quantise_tables(base: Path, device: str, engine: str, left: Counter[str]) -> list[KernelTable]:
    """The static and the dynamic quantise pass of an engine, newest version; rows are counted by matrix rows and columns.

    An engine whose ``compute_scale`` is all zero runs both steps in one kernel, so its ``scale_matrix`` is the dynamic pass.
    """
    tables = []
    steps = (
        newest(base, f"quantize/{engine}/*/{name}_perf.parquet", "quantise", left)
        for name in ("scale_matrix", "computescale")
    )
    for (version, scaled), (_, found) in zip(*steps, strict=True):
        both = scaled.merge(found, on=["m", "k", "quant_dtype"], suffixes=("", "_scale"))
        left["quantise: one of its two steps alone"] += len(scaled) + len(found) - 2 * len(both)
        fp8 = both[both["quant_dtype"] == "fp8"]
        left["quantise: format"] += len(both) - len(fp8)
        if not len(fp8):
            continue
        rows, columns = column(fp8, "m"), column(fp8, "k")
        shape = {"rows": rows, "columns": columns, "bytes": rows * columns * (READ_BYTES + WRITTEN_BYTES)}
        scaling, finding = (column(fp8, name) * 1e-3 for name in ("latency", "latency_scale"))
        apart = np.median(finding) > 0
        if apart:
            tables.append(kernel_table("elementwise", device, engine, version, "quantise.static", shape, scaling))
        tables.append(
            kernel_table("elementwise", device, engine, version, "quantise.dynamic", shape, scaling + finding)
        )
    return tables


def count_unread(base: Path, engine: str, left: Counter[str]) -> None:
    """Count the rows of kernels that are not read, by what they are."""
    import pyarrow.parquet

    for folder, name in UNREAD.items():
        for path in sorted(base.glob(f"{folder}/{engine}/*/*.parquet")):
            left[f"{name}: no kernel model"] += pyarrow.parquet.read_metadata(path).num_rows
