"""Memory of a device: what takes it, and the KV cache over context length and batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim import units
from infersim.errors import SpecError
from infersim.predict.memory import CacheRates
from infersim.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PINK,
    SKY,
    count_axis,
    house,
    is_narrow,
    quantity_axis,
    told,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.predict.estimate import Estimate

PARTS = (("weights_bytes", "weights", BLUE), ("draft_weights_bytes", "draft weights", SKY), ("activations_bytes", "activations", PINK),
         ("runtime_bytes", "runtime", GREY), ("cuda_graphs_bytes", "CUDA graphs", MUTED), ("kv_pool_bytes", "KV cache", GREEN))  # fmt: skip
BATCHES = (1, 4, 16, 64, 256)


def kv_memory(
    answer: Estimate | Mapping[str, Any],
    *,
    batches: Sequence[int] = BATCHES,
    longest: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """KV cache of one device over the context of each sequence, one line per number of sequences, and the room there is.

    ``answer`` is an Estimate or its ``to_dict()``; ``longest`` context drawn defaults to the longest that one sequence can have. The
    dot is the workload at its mean number of running sequences, their contexts half way through the output.
    """
    answer = told(answer)
    memory = answer["memory"]
    rates = CacheRates(
        memory["kv_bytes_per_token"], tuple((window["bytes_per_token"], window["tokens"]) for window in memory["kv_windows"]),
        memory["kv_bytes_per_sequence"],
    )  # fmt: skip
    block, pools, pool = memory["kv_block_tokens"], memory["kv_pools"], memory["kv_pool_bytes"]
    if pool <= 0:
        raise SpecError("has no KV pool to draw: the deployment does not fit", field="answer")
    end = longest or memory["longest_context_tokens"] or 2.0**17
    context = np.unique(np.ceil(np.geomspace(min(128.0, end / 4), max(end, 1024.0), 160) / block) * block)
    with house(ax) as axes:
        axes.set(xscale="log", yscale="log", xlabel="context of each sequence [tokens]", ylabel="KV cache per device",
                 xlim=(context[0], context[-1]), ylim=(pool / 3000, pool * 4))  # fmt: skip
        axes.fill_between(context, pool, pool * 4, color=ORANGE, alpha=0.12, linewidth=0)
        axes.axhline(pool, color=ORANGE, linewidth=1.2)
        axes.annotate(f"KV pool {units.show(pool, 'B', binary=True)}: above it, requests wait", (context[0], pool), xytext=(4, 4),
                      textcoords="offset points", color=ORANGE, fontsize=8)  # fmt: skip
        for number, batch in enumerate(batches):
            taken = batch / pools * np.asarray(rates.bytes(context, block_size=block))
            axes.plot(context, taken, color=BLUE, alpha=0.45 + 0.55 * number / max(len(batches) - 1, 1), linewidth=1.4)
            place = int(np.argmin(np.abs(np.log(taken / (pool / 2.2)))))
            if context[0] < context[place] < context[-1]:
                text = f"{batch}" if is_narrow(axes) or number else f"{batch} sequence"
                axes.annotate(
                    text,
                    (context[place], taken[place]),
                    xytext=(4, -8),
                    textcoords="offset points",
                    color=BLUE,
                    fontsize=8.5,
                )
        if answer.get("running_sequences"):
            workload = answer["workload"]
            tokens = workload["input_tokens"] + workload["output_tokens"] / 2
            each = answer["running_sequences"] / answer["parallelism"]["replicas"]
            taken = float(each / pools * rates.bytes(tokens, block_size=block))
            axes.plot([tokens], [taken], "o", color=INK, markersize=7)
            axes.annotate(
                f"this workload: {each:,.0f} running",
                (tokens, taken),
                xytext=(8, -3),
                textcoords="offset points",
                fontsize=8.5,
            )
        quantity_axis(axes.yaxis, "GiB")
        _binary_ticks(axes, pool)
        count_axis(axes.xaxis)
    return axes


def _binary_ticks(axes: Axes, pool: float) -> None:
    """Powers of eight in bytes, which read as 1 GiB, 8 GiB, 64 GiB."""
    low = int(np.floor(np.log2(pool / 3000) / 3))
    axes.set_yticks([8.0**power for power in range(low, low + 7) if pool / 3000 <= 8.0**power <= pool * 4])


def memory_parts(answer: Estimate | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """What takes the memory of a device, as one bar up to its capacity."""
    memory = told(answer)["memory"]
    parts = [(name, memory[key], colour) for key, name, colour in PARTS if memory.get(key)]
    with house(ax) as axes:
        left = 0.0
        for name, size, colour in parts:
            share = size / memory["capacity_bytes"]
            axes.barh(
                0,
                size,
                left=left,
                color=colour,
                height=0.6,
                label=f"{name} {units.show(size, 'B', binary=True)}, {share:.0%}",
            )
            left += size
        capacity = memory["capacity_bytes"]
        axes.axvline(capacity, color=INK, linewidth=1.2)
        end = units.show(capacity, "B", binary=True)
        axes.annotate(end, (capacity, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                      ha="center", va="bottom", fontsize=8.5)  # fmt: skip
        axes.set(
            xlabel="memory of one device",
            yticks=[],
            xlim=(0, 1.04 * max(left, memory["capacity_bytes"])),
            ylim=(-0.6, 0.6),
        )
        step = 2.0 ** np.ceil(np.log2(memory["capacity_bytes"] / (4 if is_narrow(axes) else 7)))
        axes.set_xticks(np.arange(0, memory["capacity_bytes"], step))
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        quantity_axis(axes.xaxis, "GiB")
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.02),
            ncols=1 if is_narrow(axes) else 3,
            handlelength=0.8,
            columnspacing=1.2,
        )
    return axes
