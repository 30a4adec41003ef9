"""A plan as a person reads it in a terminal: the answer, why, the alternatives, what would flip it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from infersim.cli.render import plain_table
from infersim.units import show

if TYPE_CHECKING:
    from infersim.planning.options import Option, Plan


def plan_screen(plan: Plan, *, top: int, front: bool, sources: bool) -> RenderableType:
    """The whole answer."""
    best = plan.best
    parts: list[RenderableType] = [
        Text(_question(plan), style="bold"), Text(best.describe(), style="bold green"), *_figures(best),
        Padding(Text(best.why), (0, 0, 1, 2)), _options_table(plan, top), Text(),
    ]  # fmt: skip
    if plan.flips:
        parts.append(Text("What would change the answer, one thing at a time (closed form)", style="bold"))
        parts += [_item(line) for line in plan.flips]
    if front:
        parts += [Text(), _front_table(plan)]
    tried = plan.tried
    left = f", {tried.refused} cannot run" if tried.refused else ""
    parts.append(Text(
        f"\n{tried.candidates} deployments in {plan.seconds:.2g} s: {tried.too_large} do not fit{left}; "
        f"{sum(o.verified is not None for o in plan.options)} of those shown simulated (*)", style="dim",
    ))  # fmt: skip
    parts += [Text(f"put aside: {name}: {reason}", style="dim") for name, reason in list(tried.reasons.items())[:3]]
    if sources:
        parts += [Text(), Text("The best option rests on", style="bold"), *(_item(line) for line in plan.sources)]
    return Group(*parts)


def _item(line: str) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_row("-", Text(line))
    return table


def _question(plan: Plan) -> str:
    asked: dict[str, Any] = plan.question
    load = f"{asked['requests_per_s']:g} requests/s" if asked["requests_per_s"] else f"at most {asked['max_gpus']} GPUs"
    target = ", ".join(f"{name.removesuffix('_s')} {show(value, 's')}" for name, value in asked["target"].items())
    hit = f" ({asked['prefix_hit']:.0%} cached)" if asked["prefix_hit"] else ""
    lengths = f"{asked['input_tokens']:,.0f} tokens in{hit}, {asked['output_tokens']:,.0f} out"
    return f"{asked['model']}: {load}, {lengths}" + (f", {target}" if target else "")


def _figures(best: Option) -> list[RenderableType]:
    """Latencies of the best option: simulated where they were, else of the closed form with its interval."""
    lines = []
    if best.verified is not None:
        run = best.verified.settled()
        for metric in ("ttft", "tpot"):
            ps = "   ".join(f"p{p} {show(run.percentile(metric, p), 's')}" for p in (50, 95, 99))
            lines.append(
                f"{metric.upper()} mean {show(run.mean(metric), 's')}   {ps}   (simulated, {run.completed:,} requests)"
            )
    else:
        lines.append(
            f"TTFT {show(best.ttft, 's')}" + (f"   TPOT {show(best.tpot, 's')}" if best.tpot else "") + "   (means)"
        )
    for metric, value in (("ttft", best.ttft), ("tpot", best.tpot)):
        interval = best.interval(metric)
        if interval is not None and value > 0:
            lines.append(f"mean {metric.upper()} 90% interval {show(interval[0], 's')} - {show(interval[1], 's')}")
    money = []
    if best.cost_per_hour is not None:
        money = [f"{best.cost_per_hour:,.2f} USD/h", f"{best.cost_per_million_tokens:,.2f} USD per million {best.token_word}",
                 f"{best.price_per_hour:,.2f} USD per GPU and hour: {best.deployment.price_source.split(' (')[0]}"]  # fmt: skip
    speed = f"{best.tokens_per_second_per_gpu:,.0f} {best.token_word}/s per GPU"
    if math.isfinite(best.tokens_per_second_per_user):
        speed += f", {best.tokens_per_second_per_user:.0f} per user"
    lines += [speed, "   ".join(money[:2]), *money[2:]]
    return [Padding(Text(line), (0, 0, 0, 2)) for line in lines if line]


def _options_table(plan: Plan, top: int) -> Table:
    table = plain_table("", "option", "GPUs", "USD/h", "TTFT", "TPOT", "used", right=(0, 2, 3, 4, 5, 6))
    shown = list(plan.options[:top])
    shown += [option for option in plan.alternatives if option not in shown][: max(3, top // 2)]
    for option in shown:
        cost = f"{option.cost_per_hour:,.2f}" if option.cost_per_hour is not None else "-"
        tpot = show(option.tpot, "s", digits=2) if option.tpot else "-"
        number = f"{plan.options.index(option) + 1}{'*' if option.verified is not None else ''}"
        table.add_row(
            number, f"{option.describe()}\n  [dim]{option.bottleneck}[/dim]", str(option.devices), cost,
            show(option.ttft, "s", digits=2), tpot, f"{option.utilisation:.0%}",
        )  # fmt: skip
    return table


def _front_table(plan: Plan) -> Table:
    """The front, thinned to a dozen lines."""
    table = plain_table("Pareto front", "USD/Mtok", "tokens/s/user", "tokens/s/GPU", "TTFT", right=(1, 2, 3, 4))
    points = plan.front
    for index in sorted({round(i * (len(points) - 1) / 11) for i in range(12)}) if points else ():
        point = points[index]
        cost = f"{point.cost_per_million_tokens:,.2f}" if point.cost_per_million_tokens is not None else "-"
        label = f"{point.label.partition(' on ')[2]}, {point.concurrency:.0f} users"
        table.add_row(
            label, cost, f"{point.tokens_per_second_per_user:,.0f}", f"{point.tokens_per_second_per_gpu:,.0f}",
            show(point.ttft, "s", digits=2),
        )  # fmt: skip
    return table
