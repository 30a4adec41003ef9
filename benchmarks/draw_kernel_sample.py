"""Draw the sample of measured kernels that ships: test rows of every table of the installed aiconfigurator-core package.

Run with ``python benchmarks/draw_kernel_sample.py`` (needs ``infersim[silicon]``) after ``infersim calibrate``.
"""

from __future__ import annotations

from pathlib import Path

from infersim.calibrate.silicon_more import FOLDERS
from infersim.calibrate.write import device_tables
from infersim.machine.calibration import ENGINES
from infersim.validate.sample import SAMPLE, draw, write_sample

TARGET = Path(__file__).resolve().parents[1] / "measurements" / SAMPLE


def main() -> None:
    """Print what was drawn."""
    drawn = [part for device in FOLDERS for engine in ENGINES for part in draw(device_tables(device, engine)[0])]
    write_sample(TARGET, drawn)
    print(f"{len(drawn)} tables, {sum(map(len, drawn)):,} rows, {TARGET.stat().st_size / 1e6:.2f} MB in {TARGET}")


if __name__ == "__main__":
    main()
