"""Where the time of a step goes: op by op, and side by side for several deployments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infersim import units
from infersim.errors import SpecError
from infersim.report.figures.style import MUTED, RESOURCES, WORDS, house, is_narrow, quantity_axis, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.predict.estimate import Estimate

OPS_SHOWN = 9


def step_of(answer: Mapping[str, Any], step: str) -> tuple[list[Mapping[str, Any]], float]:
    """The ops of a step and its seconds. SpecError where the answer has no such step."""
    found = answer.get(f"{step}_step")
    if found is None:
        known = [name.removesuffix("_step") for name in answer if name.endswith("_step")]
        raise SpecError(
            f"the answer has no {step!r} step; it has {' and '.join(known) or 'none, since it does not fit'}",
            field="step",
        )
    return found["ops"], found["seconds"]


def step_breakdown(answer: Estimate | Mapping[str, Any], *, step: str = "decode", ax: Axes | None = None) -> Axes:
    """Seconds of each op of a step, the longest on top, coloured by what bounds it; small ops are summed in the last bar.

    ``answer`` is an Estimate or its ``to_dict()``, ``step`` is ``decode`` or ``prefill``.
    """
    ops, seconds = step_of(told(answer), step)
    ranked = sorted(ops, key=lambda op: -op["seconds"])
    first = ranked if len(ranked) <= OPS_SHOWN + 1 else ranked[:OPS_SHOWN]
    rest = ranked[len(first) :]
    rows = [(op["name"], op["seconds"], RESOURCES[op["bound"]]) for op in first]
    if rest:
        rows.append((f"{len(rest)} smaller", sum(op["seconds"] for op in rest), MUTED))
    with house(ax) as axes:
        for place, (_, value, colour) in enumerate(reversed(rows)):
            axes.barh(place, value, color=colour, height=0.72)
            axes.annotate(f"{units.show(value, 's')}  {value / seconds:.0%}", (value, place), xytext=(4, 0), textcoords="offset points",
                          va="center", fontsize=8.5)  # fmt: skip
        axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
        axes.tick_params(axis="y", length=0)
        axes.set(
            xlabel=f"time in the {step} step of {units.show(seconds, 's')}",
            xlim=(0, max(value for _, value, _ in rows) * (1.45 if is_narrow(axes) else 1.22)),
        )
        axes.locator_params(axis="x", nbins=4 if is_narrow(axes) else 7)
        axes.grid(visible=False, axis="y")
        quantity_axis(axes.xaxis, "s")
        for bound, colour in RESOURCES.items():
            if any(op["bound"] == bound for op in first):
                axes.barh([0], [0], color=colour, label=WORDS[bound])
        _key_above(axes)
    return axes


def step_comparison(
    answers: Mapping[str, Estimate | Mapping[str, Any]], *, step: str = "decode", ax: Axes | None = None
) -> Axes:
    """The step of several deployments as stacked bars of what its time waits for; ``answers`` by name, the first on top."""
    if not answers:
        raise SpecError("a comparison of steps needs at least one answer", field="answers")
    with house(ax) as axes:
        names, longest = list(answers), 0.0
        for place, name in enumerate(reversed(names)):
            ops, seconds = step_of(told(answers[name]), step)
            left = 0.0
            for bound, colour in RESOURCES.items():
                value = sum(op["seconds"] for op in ops if op["bound"] == bound)
                axes.barh(
                    place, value, left=left, color=colour, height=0.65, label=WORDS[bound] if place == 0 else None
                )
                left += value
            axes.annotate(
                units.show(seconds, "s"),
                (left, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
            longest = max(longest, left)
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel=f"time of the {step} step, by what it waits for", xlim=(0, longest * 1.15))
        axes.locator_params(axis="x", nbins=4 if is_narrow(axes) else 7)
        axes.grid(visible=False, axis="y")
        quantity_axis(axes.xaxis, "s")
        _key_above(axes)
    return axes


def _key_above(axes: Axes) -> None:
    """What the colours mean, above the bars."""
    narrow = is_narrow(axes)
    axes.legend(loc="lower right" if narrow else "lower left", bbox_to_anchor=(1 if narrow else 0, 1), ncols=2 if narrow else 5,
                handlelength=0.8, columnspacing=1.0, borderaxespad=0.2)  # fmt: skip
