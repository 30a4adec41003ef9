"""``infersim plan``: which GPUs, how many and how set up, for a load within targets."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Any

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.output import emit, note_sources, progress
from infersim.errors import SpecError


def plan(
    model: o.Model,
    gpu: o.MaybeGpus = None,
    every: Annotated[bool, o.option("Look at every bundled GPU.", o.SEARCH, "--all")] = False,
    input_tokens: o.InputLengths = "1024",
    output_tokens: o.OutputLengths = "256",
    prefix_hit: o.PrefixHit = 0.0,
    request_rate: Annotated[
        float | None,
        o.option("Requests per second. Without: the most that --max-gpus serve.", o.LOAD, "--request-rate", "-r"),
    ] = None,
    target: o.Target = None,
    precision: Annotated[
        str | None,
        o.option(
            "Formats tried, by commas. Default: the checkpoint's, and fp8 beside 16 bits.",
            o.DEPLOYMENT,
            values=complete.precisions,
        ),
    ] = None,
    kv_cache: o.KvCache = None,
    engine: Annotated[
        str,
        o.option(
            "Engines tried: vllm, sglang, trtllm or tgi, by commas.", o.DEPLOYMENT, values=complete.names_of("engines")
        ),
    ] = "vllm",
    speculative_config: Annotated[
        str | None,
        o.option(
            "Drafts tried beside none: vLLM's JSON, or its fields: 'method=eagle3, num_speculative_tokens=3, acceptance=0.7'.",
            o.DEPLOYMENT,
        ),
    ] = None,
    mode: o.PredictionMode = o.Mode.calibrated,
    max_gpus: Annotated[int, o.option("Accelerators at most.", o.SEARCH)] = 64,
    pools: Annotated[
        str,
        o.option(
            "aggregated, disaggregated or both.",
            o.SEARCH,
            values=complete.one_of("aggregated", "disaggregated", "both"),
        ),
    ] = "both",
    verify: Annotated[int, o.option("How many of the best are simulated under Poisson arrivals.", o.SEARCH)] = 2,
    seed: o.Seed = 0,
    price: Annotated[
        list[str] | None, o.option("USD per GPU and hour in place of those on file: H100-SXM=2.10,L40S=0.90.", o.MONEY)
    ] = None,
    rent: o.Rent = None,
    buy: o.Buy = False,
    site: o.SiteName = "us",
    top: Annotated[int, o.option("Options shown.", o.OUTPUT)] = 8,
    front: Annotated[bool, o.option("Show the Pareto front as well.", o.OUTPUT, "--front")] = False,
    sources: o.Sources = False,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Search the deployments that serve a load within its targets, cheapest first, and say why.

    Examples:

        infersim plan meta-llama/Llama-3.1-70B-Instruct --gpu H100-SXM,H200-SXM,B200-SXM -i 1000 -o 300 -r 20
        --target ttft_p95=800ms,tpot_p95=40ms

        infersim plan deepseek-ai/DeepSeek-V3 --gpu H200-SXM --max-gpus 32 --engine sglang --target tpot_p95=50ms
    """
    from infersim.cli.simulate import read_lengths
    from infersim.planning.search import plan as search

    if bool(gpu) == every:
        raise SpecError("name accelerators with --gpu, or look at every one with --all", field="--gpu")
    names = None if every else o.by_commas(gpu)
    with progress("plan") if names is None or len(names) > 3 else nullcontext() as advance:
        found = search(
            model, names, input_tokens=read_lengths(input_tokens, "--input"),
            output_tokens=read_lengths(output_tokens, "--output"), prefix_hit=prefix_hit, request_rate=request_rate,
            target=target or "", max_gpus=max_gpus, precision=precision, kv_cache=kv_cache,
            engine=o.by_commas([engine], "--engine", "engine"), pools=pools, prices=read_prices(price or []),
            terms="buy" if buy else rent or "on_demand", site=site, speculation=speculative_config, mode=mode.value,
            verify=verify, seed=seed,
            progress=None if advance is None else lambda what, done, total: advance(done, total, what),
        )  # fmt: skip
    answer = found.to_dict()

    def screen() -> Any:
        from infersim.cli.render_plan import plan_screen

        return plan_screen(found, top=top, front=front, sources=sources)

    emit(answer, screen, as_json=as_json, as_csv=as_csv, rows=answer["options"])
    note_sources(found.sources)


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
