"""How often measured serving points keep targets that a plan gave a chance of so many percent.

Run with ``python benchmarks/chances.py``; takes a minute. The quantiles were fitted to the points of the first table; those of the
second only judge.
"""

from __future__ import annotations

from infersim.validate.chances import reliability, stated_and_kept
from infersim.validate.serving import shipped_serving_points


def main() -> None:
    """Print a table for each side of the split."""
    points = shipped_serving_points()
    for judging in (False, True):
        rows = stated_and_kept(points, judging=judging)
        score = ((rows[:, 0] - rows[:, 1]) ** 2).mean()
        print(
            f"\n{'points that only judge' if judging else 'points that the intervals were fitted to'}; Brier score {score:.3f}"
        )
        print(f"{'cases':>8}{'stated':>9}{'kept':>9}")
        for row in reliability(rows):
            print(f"{row.cases:>8,}{row.stated:>9.1%}{row.kept:>9.1%}")


if __name__ == "__main__":
    main()
