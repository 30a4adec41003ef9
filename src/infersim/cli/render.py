"""Results as a person reads them in a terminal: one screen, 80 columns, no arithmetic beyond shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infersim.cli.listing import Listing
from infersim.cli.output import console as console
from infersim.specs.hardware import current
from infersim.units import show

if TYPE_CHECKING:
    from infersim.predict.estimate import Estimate
    from infersim.predict.memory import MemoryReport
    from infersim.predict.step import StepTime
    from infersim.specs.hardware import Accelerator, System
    from infersim.specs.model import ModelSpec

BAR_WIDTH = 50
SHORT_BAR_WIDTH = 42
"""Of the bar behind "does not fit", so that its line keeps to 80 columns."""
PART_STYLES = {"weights": ("#", "blue"), "draft weights": ("%", "cyan"), "activations": ("=", "magenta"), "runtime": ("+", "red"),
               "CUDA graphs": ("+", "red"), "KV cache": ("-", "green")}  # fmt: skip


def plain_table(*columns: str, right: Sequence[int] = ()) -> Table:
    """A table without borders, with the columns numbered in ``right`` aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    return table


def memory_bar(memory: MemoryReport) -> Text:
    """The device's memory as a bar: # weights, = activations, + runtime and graphs, - KV cache, . free."""
    width = BAR_WIDTH if memory.fits else SHORT_BAR_WIDTH
    bar, used = Text("["), 0
    running = 0.0
    for name, size in memory.parts():
        running += size
        end = min(width, round(running / memory.capacity * width))
        mark, style = PART_STYLES[name]
        bar.append(mark * (end - used), style)
        used = max(used, end)
    bar.append("." * (width - used) + "] ")
    taken = min(running, memory.capacity) if memory.fits else running
    bar.append(f"{show(taken, 'B', binary=True)} of {show(memory.capacity, 'B', binary=True)}")
    return bar


def memory_legend(memory: MemoryReport) -> Text:
    """What the marks of the bar stand for, with sizes; two a line, which breaks nowhere else."""
    legend = Text()
    runtime = memory.runtime + memory.cuda_graphs
    draft = [("draft weights", memory.draft)] if memory.draft else []
    listed = (
        ("weights", memory.weights),
        *draft,
        ("activations", memory.activations),
        ("runtime", runtime),
        ("KV cache", memory.kv_pool),
    )
    for index, (name, size) in enumerate(listed):
        mark, style = PART_STYLES[name]
        legend.append(("  " if index == 0 else "\n  " if index % 2 == 0 else "   ") + mark, style)
        legend.append(f" {name:<13} {show(size, 'B', binary=True):>8}")
    return legend


def step_table(title: str, step: StepTime, rows: int) -> Table:
    """The longest ops of a step, what bounds each, and its work."""
    total = float(step.seconds)
    table = plain_table(f"{title} {show(total, 's')}", "time", "share", "bound", "FLOP/B", right=(1, 2, 4))
    parts = step.parts()
    for part in parts[:rows]:
        intensity = show_number(float(part.intensity)) if float(part.bytes) > 0 else ""
        table.add_row(
            part.name, show(float(part.seconds), "s"), f"{float(part.seconds) / total:.0%}", part.bound, intensity
        )
    rest = sum(float(part.seconds) for part in parts[rows:])
    if rest > 0:
        table.add_row(f"{len(parts) - rows} more", show(rest, "s"), f"{rest / total:.0%}", "", "")
    table.caption = f"MFU {float(step.mfu):.0%}   MBU {float(step.mbu):.0%}"
    table.caption_justify = "left"
    return table


NOTED_SHARE = 0.05
"""Share of a step outside the measured sizes from which the screen says so."""


def show_number(value: float) -> str:
    """Three significant digits at most, no exponent for what a person meets.

    >>> show_number(1234.5), show_number(0.98765), show_number(12.34)
    ('1,234', '0.988', '12.3')
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def estimate_screen(answer: Estimate, *, rows: int = 5, sources: bool = False) -> RenderableType:
    """One deployment on one screen."""
    memory = answer.memory
    parts: list[RenderableType] = [Text(answer.describe(), style="bold")]
    parameters = f"{answer.model.total_parameters / 1e9:,.2f} B parameters"
    if answer.model.is_moe:
        parameters += f", {answer.model.active_parameters / 1e9:,.2f} B active"
    parts.append(Text(f"{parameters}; {_formats(answer)}", style="dim"))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in answer.model.warnings]
    verdict = Text("fits  " if answer.fits else "does not fit  ", style="bold green" if answer.fits else "bold red")
    parts += [Text(), Text.assemble(verdict, memory_bar(memory)), memory_legend(memory)]
    if not answer.fits:
        parts.append(
            Text(f"short by {show(memory.shortfall, 'B', binary=True)} per device; {answer.remedies}", style="bold")
        )
        return Group(*parts)
    parts.append(Text(_room(answer), style="dim"))
    parts += [Text(), _figures(answer)]
    if answer.drafter is not None:
        parts.append(Text(_drafts(answer), style="dim"))
    if answer.workload.num_requests is not None:
        run = f"means over a run of {answer.workload.num_requests:,.0f} requests that starts with all users at once"
        parts.append(Text(run, style="dim"))
    if answer.missed_targets:
        parts.append(Text("target missed: " + ", ".join(answer.missed_targets), style="bold red"))
    elif answer.target:
        parts.append(Text("target met", style="bold green"))
    parts.append(Text())
    if answer.tpot > 0:
        parts.append(step_table("decode step", answer.decode_step, rows))
    parts.append(step_table("prefill step", answer.prefill_step, rows))
    parts.append(Text(f"\nmode {answer.machine.mode}; {_basis(answer)}", style="dim"))
    far = max(step.extrapolated_share for step in answer.steps.values())
    if far > NOTED_SHARE:
        note = f"{far:.0%} of a step lies outside the sizes measured; its interval is wider"
        parts.append(Text(note if sources else f"{note} (--sources)", style="yellow"))
    if sources:
        parts += [Text(f"  {line}", style="dim") for line in [*answer.extrapolations, *answer.sources]]
    else:
        parts.append(Text("sources: --sources; all figures: --json", style="dim"))
    return Group(*parts)


def _formats(answer: Estimate) -> str:
    precision = answer.precision
    return f"weights {precision.weights}, activations {precision.activations}, KV cache {precision.kv_cache}"


def _room(answer: Estimate) -> str:
    memory, workload = answer.memory, answer.workload
    tokens = workload.longest_sequence(answer.model.task == "generate")
    sequences = float(memory.max_sequences(tokens))
    rate = memory.rates.per_token
    longest = memory.longest_context()
    held = f"{sequences:,.0f} x {tokens:,.0f} tokens" if sequences < 1e9 else "any number of sequences"
    alone = f"1 x {longest:,.0f}" if longest < 1e9 else "one of any length"
    return f"  KV cache {show(rate, 'B', binary=True)}/token a device; room for {held} or {alone}"


def _drafts(answer: Estimate) -> str:
    """What drafting does to decoding here."""
    assert answer.drafter is not None
    said = f"drafts: {answer.drafter.speculation}"
    if not answer.drafting:
        return f"{said}; off at this batch"
    limit = answer.break_even_batch
    until = f"slower from {limit:,} sequences on" if limit else "worth it up to 1,024 sequences"
    return f"{said}; decoding {answer.speculative_speedup:.2f} times as fast, {until}"


def _figures(answer: Estimate) -> Table:
    """Latency with intervals, throughput, cost."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify)
    assert answer.state is not None
    metrics = [("ttft", "TTFT")] + ([("tpot", "TPOT"), ("e2e", "E2E latency")] if answer.tpot > 0 else [])
    for name, label in metrics:
        interval = answer.interval(name)
        spread = f"90%: {show(interval.low, 's')} - {show(interval.high, 's')}" if interval else ""
        table.add_row(label, show(getattr(answer, name), "s"), spread)
    if answer.tpot > 0:
        table.add_row("per user", f"{answer.tokens_per_second_per_user:,.1f} tok/s", "output tokens while streaming")
        table.add_row(
            "per GPU", f"{answer.output_tokens_per_second_per_gpu:,.0f} tok/s",
            f"output; {show_number(answer.requests_per_second)} requests/s and {answer.total_tokens_per_second:,.0f} tok/s in all",
        )  # fmt: skip
    else:
        table.add_row(
            "throughput",
            f"{show_number(answer.requests_per_second)} req/s",
            f"{answer.total_tokens_per_second:,.0f} tok/s in all",
        )
    running, waiting = float(answer.state.running), float(answer.state.waiting)
    table.add_row(
        "running", f"{running:,.1f}", "sequences per replica" + (f"; {waiting:,.0f} wait for a slot" if waiting else "")
    )
    if answer.price_per_hour is None:
        table.add_row("cost", "-", "no price on file; give one with --price")
        return table
    output, both = answer.cost_per_million_output_tokens, answer.cost_per_million_tokens
    inputs = answer.cost_per_million_input_tokens
    if output is not None:
        split = f"USD per M output tokens, {inputs:,.3g} per M input (split by device time)"
        table.add_row("cost", f"{output:,.3g}", split)
    table.add_row("", f"{both:,.3g}", f"USD per M tokens at {answer.price_per_hour:g} USD/h per GPU")
    return table


def _basis(answer: Estimate) -> str:
    if answer.machine.mode == "bound":
        return "the physical limit: data-sheet peaks, communication hidden, no overheads"
    levels = sorted({source.split(":")[0] for step in answer.steps.values() for source in step.sources if source})
    return f"kernel models: {', '.join(levels)}; engine {answer.machine.engine.name} {answer.machine.engine.version}"


def comparison_table(answers: Sequence[Estimate]) -> Listing:
    """Several deployments side by side."""
    listing = Listing("GPU", "fits", "TTFT", "TPOT", "tok/s/user", "tok/s/GPU", "USD/M out", right=(2, 3, 4, 5, 6))
    for answer in answers:
        name = f"{answer.devices} x {answer.machine.accelerator.name}"
        if not answer.fits:
            short = f"short by {show(answer.memory.shortfall, 'B', binary=True)} per device; {answer.remedies}"
            listing.add(name, "no", "", "", "", "", "", below=short)
            continue
        cost = answer.cost_per_million_output_tokens
        missed = f"misses {', '.join(answer.missed_targets)}" if answer.missed_targets else ""
        listing.add(
            name, "yes", show(answer.ttft, "s"), show(answer.tpot, "s") if answer.tpot else "-",
            f"{answer.tokens_per_second_per_user:,.1f}" if answer.tpot else "-",
            f"{answer.output_tokens_per_second_per_gpu:,.0f}", "-" if cost is None else f"{cost:,.3g}", below=missed,
        )  # fmt: skip
    return listing


SHORT_FORMATS = 14
"""Characters of formats that stand beside a model; longer ones stand below it."""


def models_table(models: Sequence[ModelSpec]) -> Listing:
    """A line per model."""
    listing = Listing("model", "parameters", "active", "layers", "hidden", "formats", right=(1, 2, 3, 4))
    for model in models:
        active = f"{model.active_parameters / 1e9:,.2f} B" if model.is_moe else ""
        formats = model.precision.name or model.precision.weights
        long = len(formats) > SHORT_FORMATS
        listing.add(
            model.name, f"{model.total_parameters / 1e9:,.2f} B", active, str(model.num_layers), str(model.hidden_size),
            "" if long else formats, below=formats if long else "",
        )  # fmt: skip
    return listing


def model_screen(model: ModelSpec) -> RenderableType:
    """One model in full."""
    from infersim.predict.memory import cache_rates
    from infersim.specs.deployment import Parallelism

    table = Table(box=None, pad_edge=False, show_header=False)
    rates = cache_rates(model, Parallelism(), model.precision)
    rows = [
        ("architecture", model.architecture or "-"), ("task", model.task),
        ("parameters", f"{model.total_parameters:,} ({model.active_parameters:,} active)"),
        ("hidden size", f"{model.hidden_size:,}"), ("vocabulary", f"{model.vocab_size:,}"),
        ("context", f"{model.max_position_embeddings:,} tokens" if model.max_position_embeddings else "not stated"),
        ("formats", f"weights {model.precision.weights}, activations {model.precision.activations}"),
        ("KV cache", f"{show(rates.per_token, 'B', binary=True)}/token" + "".join(
            f" + {show(rate, 'B', binary=True)}/token up to {window:,.0f}" for rate, window in rates.windows)
            + (f" + {show(rates.per_sequence, 'B')} per sequence" if rates.per_sequence else "")),
    ]  # fmt: skip
    for layer in model.layers:
        parts = [name for name in (layer.mixer, layer.cross_attention, layer.feed_forward) if name]
        rows.append((f"{layer.count} layers", " + ".join(parts)))
    for name, spec in (*model.mixers.items(), *model.feed_forwards.items()):
        fields = {k: v for k, v in spec.model_dump(exclude_defaults=True, exclude_none=True).items() if k != "kind"}
        rows.append((f"  {name}", f"{spec.kind}: " + ", ".join(f"{key} {value}" for key, value in fields.items())))
    rows += [("source", source.ref) for source in model.sources]
    for row in rows:
        table.add_row(*row)
    return Group(Text(model.name, style="bold"), table)


def accelerators_table(accelerators: Sequence[Accelerator]) -> Listing:
    """A line per accelerator."""
    listing = Listing(
        "accelerator", "family", "memory", "bandwidth", "16-bit", "8-bit", "4-bit", "USD/h", right=(2, 3, 4, 5, 6, 7),
        caption="dense peaks in TFLOP/s",
    )  # fmt: skip
    for accelerator in accelerators:
        peaks = accelerator.peak_flops
        eight, price = peaks.get("fp8") or peaks.get("int8"), accelerator.price_per_hour
        listing.add(
            accelerator.name, accelerator.architecture, show(accelerator.memory.capacity, "B"),
            show(accelerator.memory.bandwidth, "B/s"), _rate(peaks.get("bf16") or peaks.get("fp16")), _rate(eight),
            _rate(peaks.get("fp4")), f"{price.per_hour:.2f}" if price and price.per_hour is not None else "-",
        )  # fmt: skip
    return listing


def _rate(flops: float | None) -> str:
    return "-" if flops is None else show_number(flops / 1e12)


def accelerator_screen(accelerator: Accelerator) -> RenderableType:
    """One accelerator in full, with the source of every figure."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("vendor", f"{accelerator.vendor} {accelerator.architecture}")
    for kind, rate in accelerator.peak_flops.items():
        ridge = f"ridge {rate / accelerator.memory.bandwidth:,.0f} FLOP/B"
        table.add_row(f"{kind} peak", f"{show(rate, 'FLOP/s', digits=4)}, {ridge}")
    memory = accelerator.memory
    table.add_row("memory", f"{show(memory.capacity, 'B')} at {show(memory.bandwidth, 'B/s')}")
    for label, value, unit in (
        ("L2 cache", accelerator.l2_cache, "B"),
        ("clock", accelerator.clock, "Hz"),
        ("TDP", accelerator.tdp, "W"),
        ("idle", accelerator.idle_power, "W"),
        ("embodied CO2e", accelerator.embodied_carbon, "kg"),
    ):
        if value is not None:
            table.add_row(label, show(value, unit))
    if accelerator.compute_units:
        table.add_row("compute units", str(accelerator.compute_units))
    for label, link in (("scale-up", accelerator.scale_up), ("host link", accelerator.host_link)):
        if link:
            table.add_row(label, f"{link.name}, {show(link.bandwidth, 'B/s')} per direction, {link.devices} devices")
    for sold in dict.fromkeys(price.kind for price in accelerator.prices):
        going = current(price for price in accelerator.prices if price.kind == sold)
        ends = dict.fromkeys(f"{price.amount:,.{0 if sold == 'purchase' else 2}f}" for price in (going[0], going[-1]))
        unit = "USD" if sold == "purchase" else "USD/h"
        table.add_row(sold.replace("_", " "), f"{' to '.join(ends)} {unit}, see `infersim prices {accelerator.name}`")
    if accelerator.notes:
        table.add_row("notes", accelerator.notes)
    for source in accelerator.sources:
        note = f" ({source.note})" if source.note else ""
        table.add_row(f"source [{source.status}]".replace("[", "\\["), f"{', '.join(source.of)}: {source.ref}{note}")
    return Group(Text(accelerator.name, style="bold"), table)


def calibrations_table(rows: Sequence[dict[str, Any]]) -> Listing:
    """A line per section, the largest mean error first, and the mean over all rows of each kind below."""
    listing = Listing(
        "device, engine, kernel, key", "test rows", "mean", "median", "p90", "bias", "form alone", right=range(1, 7)
    )
    for row in sorted(rows, key=lambda row: -row["test_error"]["mean"]):
        error, alone = row["test_error"], row["test_error_without_surface"]
        listing.add(
            f"{row['accelerator']} {row['engine']} {row['kind']} {row['key']}", f"{error['rows']:,}", f"{error['mean']:.1%}",
            f"{error['p50']:.1%}", f"{error['p90']:.1%}", f"{error['bias']:+.1%}", f"{alone['mean']:.1%}",
        )  # fmt: skip
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        count = sum(row["test_error"]["rows"] for row in of_kind)
        mean, alone = (
            sum(row[n]["mean"] * row[n]["rows"] for row in of_kind) / count
            for n in ("test_error", "test_error_without_surface")
        )
        lines.append(f"{kind}: mean error {mean:.1%} over {count:,} unseen rows ({alone:.1%} without surfaces)")
    listing.caption = "\n".join(lines)
    return listing


def systems_table(systems: Sequence[System]) -> Listing:
    """A line per node or rack, its links below."""
    listing = Listing("system", "accelerator", "per node", right=(2,))
    for spec in systems:
        links = ((label, link) for label, link in (("scale-up", spec.scale_up), ("scale-out", spec.scale_out)) if link)
        listing.add(
            spec.name, spec.accelerator, str(spec.devices_per_node),
            below="; ".join(f"{label}: {link.name}, {show(link.bandwidth, 'B/s')}" for label, link in links),
        )  # fmt: skip
    return listing
