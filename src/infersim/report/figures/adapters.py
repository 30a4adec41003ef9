"""Number formats beside each other, and adapters against the room for requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim.errors import SpecError
from infersim.report.figures.style import BLUE, GREEN, INK, ORANGE, count_axis, house, is_narrow, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.adapters.many import AdaptersAnswer
    from infersim.adapters.quantisation import QuantisationAnswer


def scheme_comparison(answer: QuantisationAnswer | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Speed-ups of decode and prefill by scheme as bars, each with a tick at the most that bytes (decode) or Amdahl's law (prefill) allow.

    Schemes that the device cannot run are left out. ``answer`` is a QuantisationAnswer or its ``to_dict()``.
    """
    rows = [row for row in told(answer)["schemes"] if row["runs"] and row.get("decode_speedup")]
    if not rows:
        raise SpecError("has no scheme that runs, whose speed could be drawn", field="answer")
    with house(ax) as axes:
        places = np.arange(len(rows))[::-1]
        for offset, phase, colour, bound in (
            (0.2, "decode", BLUE, "bytes allow"),
            (-0.2, "prefill", ORANGE, "Amdahl allows"),
        ):
            gains, most = ([row[f"{phase}_{what}"] for row in rows] for what in ("speedup", "bound"))
            axes.barh(places + offset, gains, 0.36, color=colour, label=phase)
            axes.plot(
                most,
                places + offset,
                "|",
                color=INK,
                markersize=11,
                markeredgewidth=1.6,
                label=f"{phase}: {bound}" if offset > 0 else None,
            )
        axes.axvline(1.0, color=INK, linewidth=0.8)
        axes.set_yticks(places, [f"{row['scheme']}\n{row['weights_bytes'] / 1e9:.3g} GB" for row in rows])
        axes.tick_params(axis="y", length=0)
        top = max(
            max(row["decode_bound"], row["prefill_bound"], row["decode_speedup"], row["prefill_speedup"])
            for row in rows
        )
        axes.set(
            xlabel="speed-up of the same batch; ticks: the most that bytes or arithmetic allow", xlim=(0, 1.08 * top)
        )
        axes.grid(visible=False, axis="y")
        handles, labels = axes.get_legend_handles_labels()
        kept = [(handle, label) for handle, label in zip(handles, labels, strict=True) if ":" not in label]
        axes.legend(*zip(*kept, strict=True), loc="lower right")
        if is_narrow(axes):
            axes.set_xlabel("speed-up; ticks: the most possible")
    return axes


def adapters_and_room(answer: AdaptersAnswer | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Requests that fit on a replica (left) and requests that find their adapter there (right), over the adapters kept on the device."""
    answer = told(answer)
    curve = answer["trade_off"]
    with house(ax) as axes:
        axes.plot(curve["resident"], curve["max_sequences"], color=BLUE)
        axes.plot([answer["resident"]], [answer["max_sequences"]], "o", color=INK, zorder=4)
        axes.annotate(f"{answer['resident']:,} resident", (answer["resident"], answer["max_sequences"]), xytext=(7, 6),
                      textcoords="offset points", fontsize=8.5)  # fmt: skip
        axes.set(xlabel="adapters on the device", ylabel="requests that fit at once", xlim=(0, max(curve["resident"][-1], 1)),
                 ylim=(0, 1.1 * max(curve["max_sequences"])))  # fmt: skip
        axes.yaxis.label.set_color(BLUE)
        right = axes.twinx()
        right.plot(curve["resident"], 100 * np.asarray(curve["hit_rate"]), color=GREEN, linestyle="--")
        right.set_ylabel("requests whose adapter is there [%]", color=GREEN)
        right.set_ylim(0, 105)
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        count_axis(axes.xaxis)
        count_axis(axes.yaxis)
    return axes
