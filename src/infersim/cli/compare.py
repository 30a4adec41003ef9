"""``infersim compare``: deployments side by side for one load, with the doubt in the answer and what would change it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.exits import ExitCode
from infersim.cli.output import emit, note_sources, sources_text
from infersim.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from infersim.planning.comparison import Comparison

COUNTS = {"tp": "tensor_parallel", "pp": "pipeline_parallel", "attention_dp": "attention_data_parallel", "ep": "expert_parallel",
          "cp": "context_parallel"}  # fmt: skip
WORDS = {"precision": "precision", "kv_cache": "kv_cache", "engine": "engine", "system": "system", "mode": "mode"}
KNOBS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
SHOWN_CHANCES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.999)
KEYS = ("gpu", "name", "model", *COUNTS, *WORDS, *KNOBS, "gpu_memory_utilization", "price")


def compare(
    model: o.Model,
    options: Annotated[
        list[str],
        typer.Argument(
            help='Two or more, each in quotes: "H100-SXM tp=4 precision=fp8"; price= in USD per GPU and hour.',
            autocompletion=complete.names_of("accelerators"),
        ),
    ],
    request_rate: o.RequestRate,
    input_tokens: o.InputTokens = 1024,
    output_tokens: o.OutputTokens = 256,
    prefix_hit: o.PrefixHit = 0.0,
    target: o.Target = None,
    whole_nodes: Annotated[bool, o.option("Count whole nodes.", o.LOAD, "--whole-nodes")] = False,
    speculative_config: o.SpeculativeConfig = None,
    assume: Annotated[
        list[str] | None,
        o.option(
            "An assumption's 90% range: workload.input_tokens=800..1500, A.price.per_hour=2..2.5..4, or =2. Repeat.",
            o.DOUBT,
        ),
    ] = None,
    monte_carlo: Annotated[int, o.option("Samples drawn.", o.DOUBT, "--monte-carlo")] = 2000,
    seed: o.Seed = 0,
    tornado: Annotated[bool, o.option("How far each assumption moves each option.", o.DOUBT, "--tornado")] = False,
    figure: Annotated[
        str | None, o.option("Of the tornado: usd_per_year, gpus, usd_per_million_tokens, ttft, tpot ...", o.DOUBT)
    ] = None,
    chances: Annotated[bool, o.option("Numbers of GPUs with the chance of each.", o.DOUBT, "--chances")] = False,
    plot: Annotated[
        Path | None, o.option("Picture of chances and tornados: .png, .svg, .pdf.", o.OUTPUT, shown="FILE")
    ] = None,
    sources: o.Sources = False,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Set deployments side by side: GPUs needed, latency, cost, why they differ, how sure the choice is, what would flip it.

    Examples:

        infersim compare meta-llama/Llama-3.1-70B "H100-SXM tp=4 precision=fp8" "H200-SXM tp=2 precision=fp8" -r 20 -i 2000 -o 300
        --target ttft_p95=2s,tpot_p95=60ms --tornado

        infersim compare meta-llama/Llama-3.1-8B "H100-SXM" "L40S price=0.8" -r 50 --assume workload.input_tokens=800..1500
    """
    from infersim.planning.assumptions import read_assumption
    from infersim.planning.compare import compare as find

    told = [read_option(text) for text in options]
    common = {"input_tokens": input_tokens, "output_tokens": output_tokens, "prefix_hit": prefix_hit,
              "speculation": speculative_config}  # fmt: skip
    deployments = [_deployment(model, one, common) for one in told]
    given = [one.get("name") for one in told]
    if any(given) and not all(given):
        raise SpecError("name every option or none", field="name")
    found = find(
        *deployments, request_rate=request_rate, target=target, names=given if all(given) else None,  # type: ignore[arg-type]
        assumptions=dict(map(read_assumption, assume or ())), samples=monte_carlo, seed=seed, whole_nodes=whole_nodes,
    )  # fmt: skip
    answer = found.to_dict()
    if tornado and as_json:
        answer["tornados"] = {side.letter: found.tornado(side.letter, figure).to_dict() for side in found.sides}
    emit(
        answer,
        lambda: _text(found, tornado, figure, chances, sources),
        as_json=as_json,
        as_csv=as_csv,
        rows=answer["options"],
    )
    note_sources(found.sources)
    if plot is not None:
        from infersim.report.planning import plot_comparison

        plot_comparison(found, plot, figure)
    if all(side.figure("gpus") == float("inf") for side in found.sides):
        raise typer.Exit(ExitCode.MISSED)


def _text(found: Comparison, tornado: bool, figure: str | None, chances: bool, sources: bool) -> str:
    lines = [str(found)]
    for side in found.sides:
        lines.append("\n" + textwrap.fill(f"{side.letter}  {side.uncertain.sentence}", 80, subsequent_indent="   "))
        if chances:
            for gpus in dict.fromkeys(filter(None, map(side.uncertain.gpus_for, SHOWN_CHANCES))):
                chance = side.uncertain.chance(gpus)
                lines.append(f"   {gpus:>7,} GPUs  {chance!s:>5}  ({chance.low:.1%} - {chance.high:.1%})")
        if tornado:
            lines.append(f"\n{found.tornado(side.letter, figure)}")
    lines.append("")
    notes = {side.letter: side.uncertain.notes() for side in found.sides}
    for note in dict.fromkeys(note for listed in notes.values() for note in listed):
        owners = "".join(letter for letter, listed in notes.items() if note in listed)
        said = note if len(owners) == len(notes) else f"{owners}: {note}"
        lines.append(textwrap.fill(said, 80, subsequent_indent="  ", break_on_hyphens=False))
    if sources:
        lines += [f"\n{found.assumed()}\n", sources_text(found.sources)]
    else:
        lines.append("assumptions and sources: --sources; all figures: --json")
    return "\n".join(lines)


def read_option(text: str) -> dict[str, str]:
    """``"H100-SXM tp=4, precision=fp8"`` as words by key; the GPU may stand without a key.

    >>> read_option("H100-SXM tp=4, precision=fp8")
    {'gpu': 'H100-SXM', 'tp': '4', 'precision': 'fp8'}
    """
    found: dict[str, str] = {}
    for word in text.replace(",", " ").split():
        key, equals, value = word.partition("=")
        if not equals:
            key, value = "gpu", word
        key = key.lower().replace("-", "_")
        if key not in KEYS:
            raise SpecError(f"no setting of an option is called {key!r}; {did_you_mean(key, KEYS)}", field=text)
        if not value or key in found:
            raise SpecError(f"{key} is given {'twice' if value else 'no value'}", field=text)
        found[key] = value
    if "gpu" not in found:
        raise SpecError('names no GPU; write an option as "H100-SXM tp=4 precision=fp8"', field=text or "option")
    return found


def _deployment(model: str, told: dict[str, str], common: dict[str, Any]) -> Any:
    """The estimate of one replica of an option."""
    from infersim.predict.estimate import estimate
    from infersim.specs.deployment import EngineKnobs
    from infersim.specs.library import validate

    def number(key: str, kind: type[int] | type[float]) -> Any:
        try:
            return kind(told[key])
        except ValueError:
            raise SpecError(f"is a {'whole ' if kind is int else ''}number, got {told[key]!r}", field=key) from None

    knobs = {key: number(key, int) for key in KNOBS if key in told}
    if "gpu_memory_utilization" in told:
        knobs["gpu_memory_utilization"] = number("gpu_memory_utilization", float)
    chosen: dict[str, Any] = {WORDS[key]: told[key] for key in WORDS if key in told}
    chosen |= {COUNTS[key]: number(key, int) for key in COUNTS if key in told}
    if "price" in told:
        chosen["price_per_hour"] = number("price", float)
    return estimate(told.get("model", model), told["gpu"], knobs=validate(EngineKnobs, knobs), **chosen, **common)
