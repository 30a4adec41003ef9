"""The Pareto front of a search: speed for one user against throughput of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infersim.errors import SpecError
from infersim.report.figures.style import FAINT, INK, SERIES, house, is_narrow, label_points, short_count, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.planning.options import Plan

MARKERS = "osD^vP"


def pareto(plan: Plan | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Operating points that no other beats in user speed, GPU throughput and cost together, by GPU; the options chosen are ringed.

    ``plan`` is a Plan or its ``to_dict()``. Up and to the right is better. A point below the outline of the others is there for its cost.
    """
    plan = told(plan)
    points = [point for point in plan["pareto_front"] if point["tokens_per_s_per_user"]]
    if not points:
        raise SpecError("the plan has no Pareto front to draw", field="pareto_front")
    with house(ax) as axes:
        gpus = list(dict.fromkeys(point["gpu"] for point in points))
        for number, gpu in enumerate(gpus):
            own = [point for point in points if point["gpu"] == gpu]
            colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
            axes.scatter([point["tokens_per_s_per_user"] for point in own], [point["tokens_per_s_per_gpu"] for point in own],
                         s=18, color=colour, marker=marker, linewidths=0, alpha=0.85, label=gpu, zorder=3)  # fmt: skip
        outline = _outline([(point["tokens_per_s_per_user"], point["tokens_per_s_per_gpu"]) for point in points])
        axes.plot(*zip(*outline, strict=True), color=FAINT, linewidth=2.5, zorder=1)
        chosen = [option for option in plan["options"] if option["tokens_per_s_per_user"]][
            : 2 if is_narrow(axes) else 3
        ]
        for option in chosen:
            axes.scatter(option["tokens_per_s_per_user"], option["tokens_per_s_per_gpu"], s=75, facecolors="none", edgecolors=INK,
                         linewidths=1.2, zorder=4)  # fmt: skip
        axes.set(
            xlabel="speed for one user [tokens/s]",
            ylabel="throughput [tokens/s per GPU]",
            xlim=(0, None),
            ylim=(0, None),
        )
        axes.yaxis.set_major_formatter(lambda value, _: short_count(value))
        labels = [(option["tokens_per_s_per_user"], option["tokens_per_s_per_gpu"],
                   f"option {number}" + ("" if is_narrow(axes) else f": {option['devices']} x {option['gpu']}"), INK)
                  for number, option in enumerate(chosen, 1)]  # fmt: skip
        label_points(axes, labels)
        axes.legend(loc="upper right", handletextpad=0.2)
    return axes


def _outline(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both coordinates, from the left.

    >>> _outline([(1, 5), (2, 3), (1.5, 2), (3, 1)])
    [(1, 5), (2, 3), (3, 1)]
    """
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, reverse=True):
        if not found or y > found[-1][1]:
            found.append((x, y))
    return found[::-1]
