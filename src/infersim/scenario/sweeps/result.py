"""What a sweep has found, read from its folder a column at a time."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim import units
from infersim.errors import SpecError, did_you_mean
from infersim.scenario.sweeps.store import MANIFEST, read_manifest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SHOWN = (
    "ttft_s",
    "tpot_s",
    "ttft_p95_s",
    "tpot_p95_s",
    "e2e_s",
    "output_tokens_per_s_per_gpu",
    "tokens_per_s_per_user",
    "cost_per_million_output_tokens_usd",
)
"""Figures that a short table has, where there are some of them; else the first ones."""
ROWS = 8


@dataclass(frozen=True)
class SweepResult:
    """A sweep's folder and what is in it. ``print`` shows sizes, failures and the range of the main figures."""

    folder: Path
    points: int
    """Asked for."""
    fields: tuple[str, ...]
    """What was swept."""
    seconds: float | None = None
    """That this run took; None where the folder was only read."""
    answered_now: int = 0
    """Points that this run answered; the others were there before."""

    @property
    def parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    @functools.cached_property
    def figures(self) -> tuple[str, ...]:
        """The columns of figures, with units in their names."""
        import pyarrow.parquet as pq

        found: dict[str, None] = {}
        for part in self.parts:
            found |= dict.fromkeys(pq.read_schema(part).names)
        return tuple(name for name in found if name not in ("point", "error", *self.fields))

    @functools.cached_property
    def rows(self) -> int:
        """Points that have a row, answered or not."""
        import pyarrow.parquet as pq

        return sum(pq.read_metadata(part).num_rows for part in self.parts)

    @functools.cached_property
    def reasons(self) -> dict[str, int]:
        """Points without an answer by reason, the most frequent first."""
        counted: Counter[str] = Counter()
        for column in self._columns("error"):
            for one in column.drop_null().value_counts().to_pylist():
                counted[one["values"]] += one["counts"]
        return dict(counted.most_common())

    @property
    def failed(self) -> int:
        """Points without an answer."""
        return sum(self.reasons.values())

    def _columns(self, name: str) -> Iterator[pa.Array]:
        """A column, part by part."""
        import pyarrow.parquet as pq

        for part in self.parts:
            if name in pq.read_schema(part).names:
                yield pq.read_table(part, columns=[name]).column(0)

    def range(self, figure: str) -> tuple[float, float] | None:
        """The least and the most of a figure; None where no point has it."""
        import pyarrow.compute as pc

        self._known(figure)
        ends = [pc.min_max(column).as_py() for column in self._columns(figure)]
        least = [one["min"] for one in ends if one["min"] is not None]
        return (min(least), max(one["max"] for one in ends if one["max"] is not None)) if least else None

    def best(self, figure: str, *, highest: bool = False) -> dict[str, Any]:
        """The row of the point with the least of a figure, or the most of it. SpecError where no point has it."""
        import pyarrow.parquet as pq

        self._known(figure)
        best: tuple[float, Path, int] | None = None
        for part in self.parts:
            if figure in pq.read_schema(part).names:
                values = np.asarray(pq.read_table(part, columns=[figure]).column(0).to_numpy(), dtype=float)
                if np.isfinite(values).any():
                    worth = np.where(np.isfinite(values), -values if highest else values, np.inf)
                    row = int(np.argmin(worth))
                    if best is None or worth[row] < best[0]:
                        best = float(worth[row]), part, row
        if best is None:
            raise SpecError(f"no point has {figure!r}", file=self.folder)
        (found,) = pq.read_table(best[1]).slice(best[2], 1).to_pylist()
        return {name: value for name, value in found.items() if value is not None}

    def _known(self, figure: str) -> None:
        if figure not in self.figures:
            raise SpecError(f"no figure is called {figure!r}; {did_you_mean(figure, self.figures)}", file=self.folder)

    def to_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, or some of their columns, as an Arrow table, in the order of the points."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = None if columns is None else list(columns)
        names = (
            {}
            if wanted is None
            else {part: [n for n in wanted if n in pq.read_schema(part).names] for part in self.parts}
        )
        parts = [pq.read_table(part, columns=names.get(part)) for part in self.parts]
        return pa.concat_tables(parts, promote_options="default")

    def to_frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows, or some of their columns, as a pandas frame. SpecError where pandas is missing."""
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise SpecError("frames need pandas: pip install 'infersim[data]'") from error
        return self.to_table(columns).to_pandas()

    def to_dict(self) -> dict[str, Any]:
        """Sizes, reasons and the range of every figure."""
        return {
            "folder": str(self.folder), "points": self.points, "rows": self.rows, "failed": self.failed, "fields": list(self.fields),
            "seconds": self.seconds, "answered_now": self.answered_now, "reasons": self.reasons,
            "figures": {name: dict(zip(("least", "most"), found, strict=True)) for name in self.figures if (found := self.range(name))},
        }  # fmt: skip

    def __str__(self) -> str:
        done = f"{self.points:,} points" if self.rows == self.points else f"{self.rows:,} of {self.points:,} points"
        lines = [_cut(f"sweep of {done} over {', '.join(self.fields)}")]
        if self.seconds is not None:
            took = f" in {units.show(self.seconds, 's')}"
            rate = (
                f", {self.answered_now / self.seconds:,.0f} a second" if self.answered_now and self.seconds > 0 else ""
            )
            lines.append(f"{self.answered_now:,} answered{took}{rate}; {self.rows - self.answered_now:,} were there before"
                         if self.answered_now != self.rows else f"answered{took}{rate}")  # fmt: skip
        if self.failed:
            lines.append(f"{self.failed:,} have no answer; of these")
            lines += [_cut(f"{count:>12,}  {reason}") for reason, count in list(self.reasons.items())[:3]]
        known = [name for name in SHOWN if name in self.figures] or [
            name for name in self.figures if name != "target_met"
        ][:ROWS]
        ranges = {name: self.range(name) for name in known}
        lines += [f"{'figure':<40}{'least':>16}{'most':>16}"] if any(ranges.values()) else []
        lines += [
            f"{name[:40]:<40}{_told(name, found[0]):>16}{_told(name, found[1]):>16}"
            for name, found in ranges.items()
            if found
        ]
        return "\n".join([*lines, f"in {self.folder}"])


def read_result(folder: str | Path) -> SweepResult:
    """The sweep that a folder holds. SpecError where it holds none."""
    place = Path(folder)
    manifest = read_manifest(place / MANIFEST)
    return SweepResult(place, manifest["points"], tuple(manifest.get("fields", ())))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _told(name: str, value: float) -> str:
    if name.endswith("_s") and not name.endswith("per_s"):
        return units.show(value, "s")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
