"""``infersim plan``: which GPUs, how many and how set up, for a load within targets."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.cli.options import option as _option
from infersim.errors import SpecError

if TYPE_CHECKING:
    from infersim.planning.options import Plan

LOAD, SPACE, MONEY, OUTPUT = "Load", "Search", "Money", "Output"


def plan(
    model: Annotated[
        str, typer.Argument(help="Bundled name, Hugging Face id in the local cache, folder, or config.json.")
    ],
    gpu: Annotated[
        list[str] | None, _option("Accelerators looked at; repeat or separate by commas.", SPACE, "--gpu", "-g")
    ] = None,
    every: Annotated[bool, _option("Look at every bundled GPU.", SPACE, "--all")] = False,
    input_tokens: Annotated[
        str, _option("Prompt length: 1024, uniform:819-1024, lognormal:mean=1000,p99=6000.", LOAD, "--input", "-i")
    ] = "1024",
    output_tokens: Annotated[str, _option("Output length, in the same words.", LOAD, "--output", "-o")] = "256",
    prefix_hit: Annotated[float, _option("Share of the prompt found in the prefix cache.", LOAD)] = 0.0,
    request_rate: Annotated[
        float | None,
        _option("Requests per second. Without: the most that --max-gpus serve.", LOAD, "--request-rate", "-r"),
    ] = None,
    target: Annotated[str, _option("ttft_p95=800ms,tpot_p95=40ms; means without a percentile.", LOAD)] = "",
    max_gpus: Annotated[int, _option("Accelerators at most.", SPACE)] = 64,
    precision: Annotated[
        str | None, _option("Formats tried, by commas. Default: the checkpoint's, and fp8 beside 16 bits.", SPACE)
    ] = None,
    kv_cache: Annotated[str | None, _option("Format of the KV cache.", SPACE)] = None,
    engine: Annotated[str, _option("vllm, sglang, trtllm, by commas.", SPACE)] = "vllm",
    pools: Annotated[str, _option("aggregated, disaggregated or both.", SPACE)] = "both",
    speculative_config: Annotated[
        str | None,
        _option(
            "Drafts tried beside none: vLLM's JSON or method=eagle3,num_speculative_tokens=3,acceptance=0.7.", SPACE
        ),
    ] = None,
    price: Annotated[
        list[str] | None, _option("USD per GPU and hour in place of those on file: H100-SXM=2.10,L40S=0.90.", MONEY)
    ] = None,
    rent: Annotated[str, _option("on_demand, reserved_1y, reserved_3y or spot.", MONEY)] = "on_demand",
    buy: Annotated[bool, _option("Rank by the cost of owning the GPUs.", MONEY, "--buy")] = False,
    site: Annotated[str, _option("Where owned GPUs stand: us, germany ... or a YAML file.", MONEY)] = "us",
    verify: Annotated[int, _option("How many of the best are simulated under Poisson arrivals.", SPACE)] = 2,
    seed: Annotated[int, _option("Of the simulation.", SPACE)] = 0,
    mode: Annotated[str, typer.Option(help="calibrated: kernel models; bound: the physical limit.")] = "calibrated",
    top: Annotated[int, _option("Options shown.", OUTPUT)] = 8,
    front: Annotated[bool, _option("Show the Pareto front as well.", OUTPUT, "--front")] = False,
    sources: Annotated[bool, _option("List what the best option rests on.", OUTPUT, "--sources")] = False,
    as_json: Annotated[bool, _option("Everything as one JSON object.", OUTPUT, "--json")] = False,
    as_csv: Annotated[bool, _option("The options as CSV.", OUTPUT, "--csv")] = False,
) -> None:
    """Search the deployments that serve a load within its targets, cheapest first, and say why.

    Examples:

        infersim plan meta-llama/Llama-3.1-70B-Instruct --gpu H100-SXM,H200-SXM,B200-SXM -i 1000 -o 300 -r 20
        --target ttft_p95=800ms,tpot_p95=40ms

        infersim plan deepseek-ai/DeepSeek-V3 --gpu H200-SXM --max-gpus 32 --engine sglang --target tpot_p95=50ms
    """
    from infersim.cli.simulate import read_lengths

    if bool(gpu) == every:
        raise SpecError("name accelerators with --gpu, or look at every one with --all", field="--gpu")
    names = None if every else [name.strip() for part in gpu or () for name in part.split(",") if name.strip()]
    found = _with_progress(
        model, names, input_tokens=read_lengths(input_tokens, "--input"),
        output_tokens=read_lengths(output_tokens, "--output"), prefix_hit=prefix_hit, request_rate=request_rate, target=target,
        max_gpus=max_gpus, precision=precision, kv_cache=kv_cache, engine=[e.strip() for e in engine.split(",")], pools=pools,
        prices=read_prices(price or []), terms="buy" if buy else rent, site=site, speculation=speculative_config,
        mode=mode, verify=verify, seed=seed,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    elif as_csv:
        typer.echo(found.to_csv(), nl=False)
    else:
        from infersim.cli.render import console
        from infersim.cli.render_plan import plan_screen

        console().print(plan_screen(found, top=top, front=front, sources=sources))


def read_prices(given: list[str]) -> dict[str, float]:
    """``H100-SXM=2.10,L40S=0.90`` as prices by accelerator.

    >>> read_prices(["h100=2.10,L40S=0.90"])
    {'H100-SXM': 2.1, 'L40S': 0.9}
    """
    from infersim.specs.library import load_accelerator

    found = {}
    for part in ",".join(given).split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        try:
            amount = float(value) if equals else -1.0
        except ValueError:
            amount = -1.0
        if not 0 <= amount < float("inf"):
            raise SpecError(f"write USD per GPU and hour as H100-SXM=2.10, got {part.strip()!r}", field="--price")
        found[load_accelerator(name).name] = amount
    return found


def _with_progress(model: str, gpus: list[str] | None, **options: Any) -> Plan:
    """Search, with a bar on standard error where a person watches and there is much to look at."""
    from infersim.planning.search import plan as search

    if not sys.stderr.isatty() or (gpus is not None and len(gpus) < 4):
        return search(model, gpus, **options)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        advance: Callable[[str, int, int], None] = lambda what, done, total: bar.update(  # noqa: E731
            task, description=what, completed=done, total=total
        )
        return search(model, gpus, progress=advance, **options)
