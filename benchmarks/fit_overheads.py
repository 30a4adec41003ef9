"""Fit the engines' overheads to the shipped serving points, then the intervals around what is predicted with them, then which
errors go together.

Writes ``hardware_specs/overheads``, ``hardware_specs/intervals`` and ``hardware_specs/correlations``.

Run with ``python benchmarks/fit_overheads.py``; takes a few minutes. Only points on the fitting side of the split are used.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from infersim.specs.library import clear_cache
from infersim.validate.correlations import write_correlations
from infersim.validate.intervals import write_intervals
from infersim.validate.overheads import fit_all
from infersim.validate.serving import shipped_serving_points

SPECS = Path(__file__).resolve().parents[1] / "hardware_specs"


def main() -> None:
    """Print one line per engine."""
    today = datetime.now(UTC).date().isoformat()
    source = "measured serving points of aiconfigurator-core 0.12.0 (InferenceX and NVIDIA)"
    for folder in ("overheads", "intervals"):
        for old in (SPECS / folder).glob("*.yaml"):
            old.unlink()
    points = shipped_serving_points()
    for engine, fit in fit_all(points, SPECS / "overheads", date=today, source=source).items():
        print(engine, fit.rows // 2, "points", {name: f"{value:.3g}" for name, value in asdict(fit.parameters).items()})
    clear_cache()
    for path in write_intervals(SPECS / "intervals", points, date=today, source=source):
        print(path.read_text(encoding="utf-8"))
    clear_cache()
    print(write_correlations(SPECS / "correlations", points, date=today, source=source).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
