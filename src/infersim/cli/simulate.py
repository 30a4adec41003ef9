"""``infersim simulate``: a stream of requests through an engine's scheduler, event by event."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.errors import SpecError

if TYPE_CHECKING:
    from infersim.serving.result import ServingResult
    from infersim.serving.traces import Trace
    from infersim.serving.traffic import Traffic

DEPLOYMENT, TRAFFIC, OUTPUT = "Deployment", "Traffic", "Output"


def _option(help: str, panel: str, *names: str) -> Any:  # noqa: A002 - typer's own word
    return typer.Option(*names, help=help, rich_help_panel=panel)


def simulate(
    model: Annotated[
        str, typer.Argument(help="Bundled name, Hugging Face id in the local cache, folder, or config.json.")
    ],
    gpu: Annotated[str, typer.Option("--gpu", "-g", help="Accelerator.")],
    tp: Annotated[int, _option("Tensor parallel degree.", DEPLOYMENT, "--tp")] = 1,
    pp: Annotated[int, _option("Pipeline stages.", DEPLOYMENT, "--pp")] = 1,
    adp: Annotated[int, _option("Attention data parallel degree.", DEPLOYMENT, "--attention-dp")] = 1,
    ep: Annotated[int, _option("Expert parallel degree.", DEPLOYMENT, "--ep")] = 1,
    cp: Annotated[int, _option("Context parallel degree.", DEPLOYMENT, "--cp")] = 1,
    replicas: Annotated[int, _option("Copies behind a router.", DEPLOYMENT, "--replicas", "--dp")] = 1,
    routing: Annotated[str, _option("round_robin, least_loaded, prefix_aware.", DEPLOYMENT)] = "least_loaded",
    precision: Annotated[str | None, _option("bf16, fp8, nvfp4 ... Default: the checkpoint's.", DEPLOYMENT)] = None,
    kv_cache: Annotated[str | None, _option("Format of the KV cache.", DEPLOYMENT)] = None,
    engine: Annotated[str, _option("vllm, sglang, trtllm, tgi.", DEPLOYMENT)] = "vllm",
    system: Annotated[str | None, _option("Node or rack the GPUs sit in.", DEPLOYMENT)] = None,
    max_num_seqs: Annotated[int | None, _option("Sequences per replica at most.", DEPLOYMENT)] = None,
    max_num_batched_tokens: Annotated[int | None, _option("Tokens per step at most.", DEPLOYMENT)] = None,
    gpu_memory_utilization: Annotated[float | None, _option("Share of memory the engine takes.", DEPLOYMENT)] = None,
    num_gpu_blocks_override: Annotated[int | None, _option("KV blocks per replica.", DEPLOYMENT)] = None,
    block_size: Annotated[int | None, _option("Tokens per KV block.", DEPLOYMENT)] = None,
    max_model_len: Annotated[int | None, _option("Longest sequence served.", DEPLOYMENT)] = None,
    chunked_prefill: Annotated[
        bool | None, _option("Cut prompts to the token budget.", DEPLOYMENT, "--chunked-prefill/--no-chunked-prefill")
    ] = None,
    prefix_caching: Annotated[
        bool | None, _option("Keep the KV of ended requests.", DEPLOYMENT, "--prefix-caching/--no-prefix-caching")
    ] = None,
    batching: Annotated[str, _option("continuous, dynamic, static.", DEPLOYMENT)] = "continuous",
    scheduling_policy: Annotated[str, _option("fcfs or priority.", DEPLOYMENT)] = "fcfs",
    enforce_eager: Annotated[bool, _option("No CUDA graphs.", DEPLOYMENT, "--enforce-eager")] = False,
    input_tokens: Annotated[
        str,
        _option(
            "Prompt length: 1024, uniform:819-1024, lognormal:mean=1000,p99=6000 (or cv=1).", TRAFFIC, "--input", "-i"
        ),
    ] = "1024",
    output_tokens: Annotated[str, _option("Output length, in the same words.", TRAFFIC, "--output", "-o")] = "256",
    random_range_ratio: Annotated[
        float | None, _option("Lengths uniform in [ratio x L, L] around plain --input and --output.", TRAFFIC)
    ] = None,
    request_rate: Annotated[
        str | None,
        _option("Requests per second (inf: all at once); several by commas plot latency against load.", TRAFFIC),
    ] = None,
    burstiness: Annotated[float, _option("Gamma shape of the gaps: 1 Poisson, less bursts.", TRAFFIC)] = 1.0,
    concurrency: Annotated[
        int | None, _option("Users in a closed loop, in place of a rate.", TRAFFIC, "--concurrency", "-c")
    ] = None,
    num_requests: Annotated[
        int | None, _option("Requests in all. Default: 1000, or ten rounds.", TRAFFIC, "--num-requests", "-n")
    ] = None,
    prefix_tokens: Annotated[int, _option("Shared tokens before every prompt (a system prompt).", TRAFFIC)] = 0,
    prefix_groups: Annotated[int, _option("Different shared prefixes, all equally likely.", TRAFFIC)] = 1,
    turns: Annotated[str | None, _option("Turns of a session whose context grows, as a length.", TRAFFIC)] = None,
    think: Annotated[str, _option("Mean pause between an answer and the next turn.", TRAFFIC)] = "0 s",
    trace: Annotated[Path | None, _option("Replay this trace instead.", TRAFFIC)] = None,
    trace_format: Annotated[
        str | None, _option("azure, burstgpt, splitwise, mooncake, sharegpt, vllm, rows.", TRAFFIC)
    ] = None,
    speedup: Annotated[float, _option("Replay at so many times the pace.", TRAFFIC)] = 1.0,
    target: Annotated[str | None, _option("ttft_p95=800ms,tpot=40ms: exit 1 where missed.", TRAFFIC)] = None,
    find_capacity: Annotated[
        bool, _option("Search the highest rate that meets --target.", TRAFFIC, "--capacity")
    ] = False,
    seed: Annotated[int, _option("Same seed, same result.", TRAFFIC)] = 0,
    mode: Annotated[str, typer.Option(help="calibrated: kernel models; bound: the physical limit.")] = "calibrated",
    settled: Annotated[bool, _option("Leave warm-up and drain out of the statistics.", OUTPUT, "--settled")] = False,
    as_json: Annotated[bool, _option("The summary as one JSON object.", OUTPUT, "--json")] = False,
    output: Annotated[Path | None, _option("Per-request records: .csv or .parquet.", OUTPUT, "--save")] = None,
    benchmark: Annotated[Path | None, _option("Summary in the fields of `vllm bench serve`.", OUTPUT)] = None,
    plot: Annotated[
        Path | None, _option("Time series and distributions, or latency against load: .png, .svg, .pdf.", OUTPUT)
    ] = None,
) -> None:
    """Simulate serving: requests arrive, the engine's scheduler forms batches, and every step is priced.

    Examples:

        infersim simulate meta-llama/Llama-3.1-8B --gpu H100-SXM --request-rate 10 -n 5000 --target ttft_p95=800ms

        infersim simulate meta-llama/Llama-3.1-70B-Instruct -g H100-SXM --tp 4 --trace AzureLLMInferenceTrace_conv.csv
    """
    from infersim.serving.compare import compare
    from infersim.serving.target import read_limits
    from infersim.specs.deployment import EngineKnobs
    from infersim.specs.library import validate

    knobs = validate(EngineKnobs, {
        "max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens, "max_model_len": max_model_len,
        "gpu_memory_utilization": gpu_memory_utilization, "num_gpu_blocks_override": num_gpu_blocks_override,
        "block_size": block_size, "enable_chunked_prefill": chunked_prefill, "enable_prefix_caching": prefix_caching,
        "batching": batching, "scheduling_policy": scheduling_policy, "enforce_eager": enforce_eager,
    })  # fmt: skip
    deployment = {
        "tensor_parallel": tp, "pipeline_parallel": pp, "attention_data_parallel": adp, "expert_parallel": ep,
        "context_parallel": cp, "replicas": replicas, "precision": precision, "kv_cache": kv_cache, "engine": engine,
        "system": system, "mode": mode, "knobs": knobs,
    }  # fmt: skip
    limits = read_limits(target) if target is not None else ()
    rates = read_rates(request_rate)
    points: list[float | None] = [*rates] if rates else [None]
    if trace is not None:
        from infersim.serving.traces import read_trace

        if concurrency is not None or request_rate is not None:
            raise SpecError(
                "a trace brings its own arrivals: leave --request-rate and --concurrency out", field="--trace"
            )
        traffics: list[Traffic | Trace] = [read_trace(trace, trace_format)]
    else:
        traffics = [
            build_traffic(input_tokens, output_tokens, random_range_ratio, rate, burstiness, concurrency, num_requests,
                          prefix_tokens, prefix_groups, turns, think)
            for rate in points
        ]  # fmt: skip
    if find_capacity:
        _capacity(model, gpu, traffics[0], limits, seed, deployment, as_json)
        return
    results = [
        _with_progress(
            model, gpu, traffic, as_json, seed=seed, target=limits, routing=routing, speedup=speedup, **deployment
        )
        for traffic in traffics
    ]
    shown = [result.settled() if settled else result for result in results]
    comparison = None
    if trace is not None and traffics[0].measured:  # type: ignore[union-attr]
        comparison = compare(results[0], traffics[0])  # type: ignore[arg-type]
    _save(shown, rates or [], output, benchmark, plot)
    if as_json:
        found = [result.to_dict() for result in shown]
        if comparison is not None:
            found[0]["measured"] = [vars(row) | {"error": row.error} for row in comparison.rows]
        typer.echo(json.dumps(found[0] if len(found) == 1 else found, indent=2, allow_nan=False))
    else:
        for result in shown:
            typer.echo(str(result))
            for line in result.bottlenecks:
                typer.echo(f"  {line}")
            if result.goodput is not None:
                typer.echo(
                    f"  goodput {result.goodput:.2f} requests/s; missed: {', '.join(result.missed_targets) or 'none'}"
                )
        if comparison is not None:
            typer.echo(str(comparison))
    if any(result.interrupted for result in results):
        raise typer.Exit(130)
    if any(result.missed_targets or result.unstable for result in shown):
        raise typer.Exit(1)


def read_rates(text: str | None) -> list[float] | None:
    """``"2,4,inf"`` as rates; None where none is given."""
    if text is None:
        return None
    rates = []
    for part in text.split(","):
        try:
            rates.append(float(part))
        except ValueError:
            raise SpecError(f"must be requests per second or inf, got {part!r}", field="--request-rate") from None
        if not rates[-1] > 0:
            raise SpecError(f"must be above zero, got {part!r}", field="--request-rate")
    return rates


def read_lengths(text: str, field: str) -> Any:
    """``1024``, ``uniform:819-1024`` or ``lognormal:mean=1000,p99=6000`` as a distribution."""
    from infersim.serving.lengths import as_lengths

    kind, colon, rest = text.strip().partition(":")
    try:
        if not colon:
            return as_lengths(float(kind), field)
        if kind == "uniform":
            low, dash, high = rest.partition("-")
            return as_lengths({"uniform": {"low": float(low), "high": float(high if dash else low)}}, field)
        pairs = (pair.partition("=") for pair in rest.split(","))
        return as_lengths({kind: {name.strip(): float(value) for name, _, value in pairs}}, field)
    except ValueError as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(
            f"write 1024, uniform:819-1024 or lognormal:mean=1000,p99=6000, got {text!r}", field=field
        ) from None


def build_traffic(
    input_tokens: str, output_tokens: str, ratio: float | None, rate: float | None, burstiness: float,
    concurrency: int | None, num_requests: int | None, prefix_tokens: int, prefix_groups: int, turns: str | None, think: str,
) -> Traffic:  # fmt: skip
    """The options of the command as traffic."""
    from infersim.serving.lengths import Fixed, uniform_by_ratio
    from infersim.serving.traffic import Traffic
    from infersim.specs.library import validate

    if rate is not None and concurrency is not None:
        raise SpecError("give a rate or a number of users, not both", field="--request-rate")
    lengths = [read_lengths(input_tokens, "--input"), read_lengths(output_tokens, "--output")]
    if ratio is not None:
        if not all(isinstance(found, Fixed) for found in lengths):
            raise SpecError("spreads plain lengths; give --input and --output as numbers", field="--random-range-ratio")
        lengths = [uniform_by_ratio(found.tokens, ratio) for found in lengths]
    if rate is None:
        users = 1 if concurrency is None else concurrency
        arrivals: dict[str, Any] = {"kind": "closed", "concurrency": users}
        count = num_requests or 10 * max(users, 10)
    else:
        arrivals = (
            {"kind": "burst"} if rate == float("inf") else {"kind": "gamma", "rate": rate, "burstiness": burstiness}
        )
        count = num_requests or 1000
    fields: dict[str, Any] = {
        "input_tokens": lengths[0],
        "output_tokens": lengths[1],
        "arrivals": arrivals,
        "num_requests": count,
    }
    if prefix_tokens:
        fields["prefixes"] = {"tokens": prefix_tokens, "groups": prefix_groups}
    if turns is not None:
        fields["sessions"] = {"turns": read_lengths(turns, "--turns"), "think": think}
    return validate(Traffic, fields)


def _with_progress(model: str, gpu: str, traffic: Traffic | Trace, quiet: bool, **options: Any) -> ServingResult:
    """Simulate, with a bar on standard error where a person watches and it takes a while."""
    import sys

    from infersim.serving.simulate import simulate as run

    if quiet or not sys.stderr.isatty() or traffic.num_requests < 200_000:
        return run(model, gpu, traffic, **options)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        "requests", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task("", total=traffic.num_requests)
        advance: Callable[[int, int], None] = lambda drawn, total: bar.update(task, completed=drawn)  # noqa: E731
        return run(model, gpu, traffic, progress=advance, **options)


def _save(
    results: list[ServingResult], rates: list[float], records: Path | None, benchmark: Path | None, plot: Path | None
) -> None:
    """Write the files that were asked for."""
    if len(results) > 1 and (records or benchmark):
        raise SpecError("records and benchmark files are of one run: give one rate", field="--request-rate")
    if records is not None:
        if records.suffix.lower() not in (".csv", ".parquet"):
            raise SpecError(f"records end in .csv or .parquet, got {str(records)!r}", field="--save")
        (results[0].write_csv if records.suffix.lower() == ".csv" else results[0].write_parquet)(records)
    if benchmark is not None:
        results[0].write_benchmark(benchmark, detailed=True)
    if plot is not None:
        from infersim.report.serving import plot_load, plot_run

        if len(results) > 1:
            plot_load(list(zip(rates, results, strict=True)), plot)
        else:
            plot_run(results[0], plot)


def _capacity(
    model: str, gpu: str, traffic: Traffic | Trace, limits: Any, seed: int, deployment: dict[str, Any], as_json: bool
) -> None:
    """Search and print the highest rate that meets the target."""
    from infersim.predict.estimate import estimate
    from infersim.serving.arrivals import poisson
    from infersim.serving.capacity import capacity
    from infersim.serving.traffic import Traffic

    if not isinstance(traffic, Traffic):
        raise SpecError("is a search over rates; a trace has its own", field="--capacity")
    if not limits:
        raise SpecError("needs a --target to meet", field="--capacity")
    if traffic.arrivals.kind == "closed":
        count = max(traffic.num_requests, 1000)
        traffic = traffic.model_copy(update={"arrivals": poisson(1.0), "num_requests": count})
    resolved = estimate(model, gpu, input_tokens=traffic.mean_input, output_tokens=traffic.mean_output, **deployment)
    found = capacity(resolved, traffic, limits, seed=seed)
    if as_json:
        typer.echo(json.dumps({"capacity_requests_per_s": found.rate, "missed_at_requests_per_s": found.missed_at,
                               "trials": found.trials, "at": found.at.to_dict()}, indent=2, allow_nan=False))  # fmt: skip
    elif found.rate:
        typer.echo(f"{found.rate:.3g} requests/s meet the target, {found.missed_at:.3g} do not ({found.trials} trials)")
        typer.echo(str(found.at.settled()))
    else:
        typer.echo(f"the target is missed even at {found.missed_at:.3g} requests/s")
    if not found.rate:
        raise typer.Exit(1)
