"""Write the accuracy of the shipped calibrations on the shipped measurements to ``tests/data/accuracy.json``.

Run with ``python benchmarks/store_accuracy.py`` after a calibration has changed; the tests then hold the figures fast.
"""

from __future__ import annotations

import json
from pathlib import Path

from infersim.calibrate.measurements import judges
from infersim.validate.comparison import error_table
from infersim.validate.kernels import compare_table
from infersim.validate.sample import read_sample
from infersim.validate.serving import compare_serving, shipped_serving_points

TARGET = Path(__file__).resolve().parents[1] / "tests" / "data" / "accuracy.json"


def main() -> None:
    """Print what is stored."""
    kernels = [one for table in read_sample() for one in compare_table(table)]
    serving = compare_serving([point for point in shipped_serving_points() if judges(point)], naive=False)
    answered = [one for one in serving if one.predicted is not None]
    names = ("rows", "answered", "median", "mean", "bias", "physical_mean", "naive_mean")
    stored = {
        "kernels": {
            line.group[0]: {n: round(getattr(line, n), 5) for n in names} for line in error_table(kernels, ["kind"])
        },
        "serving": {
            " ".join(line.group): {n: round(getattr(line, n), 5) for n in ("rows", "median", "mean", "bias")}
            for line in error_table(answered, ["metric", "kind"])
        },
    }
    TARGET.write_text(json.dumps(stored, indent=1) + "\n")
    print(TARGET.read_text())


if __name__ == "__main__":
    main()
