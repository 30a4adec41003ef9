"""Cases side by side in at most 80 columns: one line each, the figures of their question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from infersim import units
from infersim.scenario import questions
from infersim.scenario.expect import target_met, unit_of

if TYPE_CHECKING:
    from infersim.scenario.result import CaseResult

WIDTH = 80
Column = tuple[str, Callable[[Mapping[str, Any]], Any]]


def _of(*keys: Any) -> Callable[[Mapping[str, Any]], Any]:
    def show(told: Any) -> Any:
        for key in keys:
            told = told[key]
        return told

    return show


def _seconds(*keys: Any) -> Callable[[Mapping[str, Any]], Any]:
    read = _of(*keys)
    return lambda told: None if (value := read(told)) is None else units.show(value, "s")


def _met(told: Mapping[str, Any]) -> Any:
    if told.get("unstable"):
        return "overloaded"
    if told.get("fits") is False:
        return "does not fit"
    limits = told.get("target") or told.get("goodput_requests_per_s") or told.get("missed_targets")
    return ("met" if target_met(told) else "missed") if limits else None


COLUMNS: dict[str, tuple[Column, ...]] = {
    "estimate": (("TTFT", _seconds("ttft_s")), ("TPOT", _seconds("tpot_s")), ("tok/s/GPU", _of("output_tokens_per_s_per_gpu")),
                 ("USD/M out", _of("cost_per_million_output_tokens_usd")), ("target", _met)),
    "simulate": (("TTFT p95", _seconds("ttft_p95_s")), ("TPOT p95", _seconds("tpot_p95_s")), ("req/s", _of("requests_per_s")),
                 ("tok/s/GPU", _of("output_tokens_per_s_per_gpu")), ("target", _met)),
    "capacity": (("req/s", _of("capacity_requests_per_s")), ("TTFT p95", _seconds("at", "ttft_p95_s")),
                 ("TPOT p95", _seconds("at", "tpot_p95_s"))),
    "plan": (("best", lambda told: f"{told['options'][0]['devices']} x {told['options'][0]['gpu']}"),
             ("USD/h", _of("options", 0, "cost_per_hour_usd")), ("TTFT", _seconds("options", 0, "ttft_s")),
             ("TPOT", _seconds("options", 0, "tpot_s"))),
    "cost": (("GPUs", _of("devices")), ("USD/year", _of("per_year_usd")), ("USD/M out", _of("per_million_output_tokens_usd")),
             ("t CO2e/year", _of("carbon_t_per_year"))),
    "compare": (("cheapest", lambda told: next(one["name"] for one in told["options"] if one["option"] == told["cheapest"])),),
    "size": (("GPUs", lambda told: max(month["devices"] for month in told["months"])),
             ("replicas", lambda told: max(month["replicas"] for month in told["months"])), ("used", _of("utilisation"))),
}  # fmt: skip


def compared(cases: Sequence[CaseResult]) -> list[str]:
    """One table per question."""
    lines: list[str] = []
    for question in dict.fromkeys(case.question for case in cases):
        shown = [case for case in cases if case.question == question]
        lines += ([""] if lines else []) + _table(shown, COLUMNS.get(question) or _layer(question) or _generic(shown))
    return lines


def _layer(question: str) -> tuple[Column, ...]:
    """The figures that a layer above the engine has chosen."""
    layer = questions.LAYERS.get(question)
    if layer is None:
        return ()
    return tuple((title, _figure(name)) for title, name in layer.compared)


def _figure(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """Reads a figure by its dotted name; times and bytes are shown with their unit, which a name or the one above it ends in."""
    keys = name.split(".")
    unit = next((found for key in reversed(keys[-2:]) if (found := unit_of(key)) in ("s", "B")), None)
    read = _of(*(int(key) if key.isdigit() else key for key in keys))
    return lambda told: units.show(value, unit) if (value := read(told)) is not None and unit else value


def _generic(cases: Sequence[CaseResult]) -> tuple[Column, ...]:
    """The first figures of an answer of another kind."""
    from infersim.scenario.answers import figures

    every = [figures(case.told) for case in cases if case.told is not None]
    names = list(dict.fromkeys(name for found in every for name in found if _tells(name, every)))

    def column(name: str) -> Column:
        unit = unit_of(name)
        short = " ".join(name.split(".")[-2:])

        def show(told: Mapping[str, Any]) -> Any:
            value = figures(told).get(name)
            return None if value is None else units.show(value, "s") if unit == "s" else value

        return (short[:16], show)

    return tuple(column(name) for name in names[:4])


def _tells(name: str, every: Sequence[Mapping[str, float]]) -> bool:
    """Whether the cases differ in a figure that is no end of an interval."""
    return not name.endswith((".low", ".high")) and len({one.get(name) for one in every}) > 1


def _table(cases: Sequence[CaseResult], columns: tuple[Column, ...]) -> list[str]:
    rows = [[_cell(show, case) for _, show in columns] for case in cases]
    used = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    widths = [max(len(columns[place][0]), *(len(row[place]) for row in rows)) + 2 for place in used]
    room = max(WIDTH - sum(widths), 16)
    longest = min(max(len(case.name) for case in cases), room)
    lines = [
        f"{'case':<{longest}}"
        + "".join(f"{columns[place][0]:>{width}}" for place, width in zip(used, widths, strict=True))
    ]
    for case, row in zip(cases, rows, strict=True):
        if case.error is not None:
            lines.append(
                _cut(f"{_cut(case.name, longest):<{longest}}  {getattr(case.error, 'message', case.error)}", WIDTH)
            )
        else:
            cells = "".join(f"{row[place]:>{width}}" for place, width in zip(used, widths, strict=True))
            lines.append(f"{_cut(case.name, longest):<{longest}}{cells}".rstrip())
    return lines


def _cell(show: Callable[[Mapping[str, Any]], Any], case: CaseResult) -> str:
    if case.told is None:
        return ""
    try:
        value = show(case.told)
    except (KeyError, IndexError, TypeError, StopIteration):  # a deployment that does not fit has no latencies
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return (
        "" if value is None else f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    )


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."
