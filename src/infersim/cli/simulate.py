"""``infersim simulate``: a stream of requests through an engine's scheduler, event by event."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.cli.options import option as _option
from infersim.errors import SpecError

if TYPE_CHECKING:
    from infersim.serving.traces import Trace
    from infersim.serving.traffic import Traffic

DEPLOYMENT, SCHEDULER, TRAFFIC, OUTPUT = "Deployment", "Scheduler", "Traffic", "Output"


def simulate(
    context: typer.Context,
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
    speculative_config: Annotated[
        str | None,
        _option("Drafts: vLLM's JSON or method=eagle3,num_speculative_tokens=3,acceptance=0.7.", DEPLOYMENT),
    ] = None,
    max_num_seqs: Annotated[int | None, _option("Sequences per replica at most.", DEPLOYMENT)] = None,
    max_num_batched_tokens: Annotated[int | None, _option("Tokens per step at most.", DEPLOYMENT)] = None,
    gpu_memory_utilization: Annotated[float | None, _option("Share of memory the engine takes.", DEPLOYMENT)] = None,
    num_gpu_blocks_override: Annotated[int | None, _option("KV blocks per replica.", DEPLOYMENT)] = None,
    block_size: Annotated[int | None, _option("Tokens per KV block.", DEPLOYMENT)] = None,
    max_model_len: Annotated[int | None, _option("Longest sequence served.", DEPLOYMENT)] = None,
    chunked_prefill: Annotated[
        bool | None, _option("Cut prompts to the token budget.", SCHEDULER, "--chunked-prefill/--no-chunked-prefill")
    ] = None,
    prefix_caching: Annotated[
        bool | None, _option("Keep the KV of ended requests.", SCHEDULER, "--prefix-caching/--no-prefix-caching")
    ] = None,
    batching: Annotated[str, _option("continuous, dynamic, static.", SCHEDULER)] = "continuous",
    scheduling_policy: Annotated[str, _option("fcfs or priority.", SCHEDULER)] = "fcfs",
    prefill_replicas: Annotated[
        int | None, _option("Disaggregate: so many replicas for prompts; --replicas then decode.", DEPLOYMENT)
    ] = None,
    prefill_tp: Annotated[int | None, _option("Tensor parallelism of those. Default: --tp.", DEPLOYMENT)] = None,
    prefill_gpu: Annotated[str | None, _option("Their GPU. Default: --gpu.", DEPLOYMENT)] = None,
    transfer_overlap: Annotated[
        float, _option("Share of a prompt's last chunk behind which layers are sent.", DEPLOYMENT)
    ] = 0.0,
    first_token: Annotated[str, _option("Pool that sends the first token: decode or prefill.", DEPLOYMENT)] = "decode",
    preemption_mode: Annotated[str, _option("recompute or swap.", SCHEDULER)] = "recompute",
    swap_space: Annotated[str, _option("Host memory per GPU for swapped caches.", SCHEDULER)] = "4 GiB",
    enforce_eager: Annotated[bool, _option("No CUDA graphs.", SCHEDULER, "--enforce-eager")] = False,
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
        str | None, _option("azure, burstgpt, splitwise, vidur, mooncake, sharegpt, vllm, rows.", TRAFFIC)
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
    series: Annotated[
        Path | None, _option("Sequences and KV blocks over time: .csv or .parquet.", OUTPUT, "--save-series")
    ] = None,
    benchmark: Annotated[Path | None, _option("Summary in the fields of `vllm bench serve`: .json.", OUTPUT)] = None,
    detailed: Annotated[
        bool, _option("Per-request lists in --benchmark, as vLLM's flag.", OUTPUT, "--save-detailed")
    ] = False,
    plot: Annotated[
        Path | None, _option("Time series and distributions, or latency against load: .png, .svg, .pdf.", OUTPUT)
    ] = None,
) -> None:
    """Simulate serving: requests arrive, the engine's scheduler forms batches, and every step is priced.

    Examples:

        infersim simulate meta-llama/Llama-3.1-8B --gpu H100-SXM --request-rate 10 -n 5000 --target ttft_p95=800ms

        infersim simulate meta-llama/Llama-3.1-70B-Instruct -g H100-SXM --tp 4 --trace AzureLLMInferenceTrace_conv.csv
    """
    from infersim.cli.simulate_run import (
        Files,
        run_each,
        say_interrupted,
        search_capacity,
        show,
        summary_json,
        with_progress,
    )  # fmt: skip
    from infersim.serving.compare import compare
    from infersim.serving.target import read_limits
    from infersim.serving.traces import Trace, read_trace
    from infersim.specs.deployment import EngineKnobs
    from infersim.specs.library import validate

    _refuse_contradictions(context, trace is not None, find_capacity)
    knobs = validate(EngineKnobs, {
        "max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens, "max_model_len": max_model_len,
        "gpu_memory_utilization": gpu_memory_utilization, "num_gpu_blocks_override": num_gpu_blocks_override,
        "block_size": block_size, "enable_chunked_prefill": chunked_prefill, "enable_prefix_caching": prefix_caching,
        "batching": batching, "scheduling_policy": scheduling_policy, "enforce_eager": enforce_eager,
        "preemption_mode": preemption_mode, "swap_space": swap_space,
    })  # fmt: skip
    deployment = {
        "tensor_parallel": tp, "pipeline_parallel": pp, "attention_data_parallel": adp, "expert_parallel": ep,
        "context_parallel": cp, "replicas": replicas, "precision": precision, "kv_cache": kv_cache, "engine": engine,
        "system": system, "mode": mode, "knobs": knobs, "speculation": speculative_config,
    }  # fmt: skip
    limits = read_limits(target) if target is not None else ()
    rates = read_rates(request_rate)
    files = Files(output, series, benchmark, detailed, plot)
    files.check(rates or [])
    traffics: list[Traffic | Trace]
    if trace is not None:
        traffics = [read_trace(trace, trace_format)]
    else:
        points: list[float | None] = [*rates] if rates else [1.0 if find_capacity else None]
        traffics = [
            build_traffic(input_tokens, output_tokens, random_range_ratio, rate, burstiness, concurrency, num_requests,
                          prefix_tokens, prefix_groups, turns, think)
            for rate in points
        ]  # fmt: skip
    if find_capacity:
        if not limits:
            raise SpecError("needs a --target to meet", field="--capacity")
        raise typer.Exit(search_capacity(model, gpu, traffics[0], limits, as_json, seed, routing, deployment))  # type: ignore[arg-type]
    pool = None
    if prefill_replicas is not None:
        given = {"replicas": prefill_replicas, "tensor_parallel": prefill_tp, "gpu": prefill_gpu}
        pool = {name: value for name, value in given.items() if value is not None}
    results, interrupted = run_each(
        lambda traffic: with_progress(
            model, gpu, traffic, as_json, seed=seed, target=limits, routing=routing, speedup=speedup, prefill=pool,
            transfer_overlap=transfer_overlap, first_token=first_token, **deployment
        ),
        traffics,
    )  # fmt: skip
    left = (rates or [])[len(results) :]
    shown = [result.settled() if settled else result for result in results]
    first = traffics[0]
    comparison = compare(results[0], first) if isinstance(first, Trace) and first.measured else None
    if as_json:
        typer.echo(summary_json(shown, left, comparison))
    else:
        show(shown, comparison)
    files.write(shown, rates or [])
    if interrupted:
        say_interrupted(results, left)
        raise typer.Exit(130)
    if any(result.missed_targets or result.unstable or not result.completed for result in shown):
        raise typer.Exit(1)


def _refuse_contradictions(context: typer.Context, trace: bool, capacity: bool) -> None:
    """SpecError for options that were given and that the others make meaningless."""

    def given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    def refuse(why: str, *names: str) -> None:
        for name in filter(given, names):
            flags = next(parameter.opts for parameter in context.command.params if parameter.name == name)
            raise SpecError(why, field=max(flags, key=len))

    own = ("request_rate", "concurrency", "burstiness", "num_requests", "input_tokens", "output_tokens",
           "random_range_ratio", "prefix_tokens", "prefix_groups", "turns", "think")  # fmt: skip
    if trace:
        refuse("a trace brings its own requests and arrivals: leave it out", *own)
        refuse("is a search over rates; a trace has its own", "find_capacity")
    else:
        refuse("is about a --trace", "trace_format", "speedup")
    if capacity:
        refuse("the search for a capacity sets the rate itself: leave it out", "request_rate", "concurrency")
        refuse("is of one run, not of a search for a capacity", "output", "series", "benchmark", "plot")
        refuse("a capacity is searched for one pool: leave it out, or use infersim.capacity", "prefill_replicas")
    if not given("prefill_replicas"):
        refuse("is about a pool for prompts: give --prefill-replicas", "prefill_tp", "prefill_gpu", "transfer_overlap",
               "first_token")  # fmt: skip
    if given("concurrency"):
        refuse("give a rate or a number of users, not both", "request_rate")
    if not (given("request_rate") or capacity or trace):
        refuse("shapes the gaps of arrivals with a --request-rate", "burstiness")
    if not given("turns"):
        refuse("is the pause between --turns", "think")
    if not given("prefix_tokens"):
        refuse("is the number of prefixes of --prefix-tokens", "prefix_groups")


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
            raise SpecError(str(error), field=field) from None
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

    lengths = [read_lengths(input_tokens, "--input"), read_lengths(output_tokens, "--output")]
    if ratio is not None:
        if not all(isinstance(found, Fixed) for found in lengths):
            raise SpecError("spreads plain lengths; give --input and --output as numbers", field="--random-range-ratio")
        lengths = [uniform_by_ratio(found.tokens, ratio) for found in lengths]
    if rate is None:
        users = 1 if concurrency is None else concurrency
        arrivals: dict[str, Any] = {"kind": "closed", "concurrency": users}
        count = 10 * max(users, 10) if num_requests is None else num_requests
    else:
        arrivals = (
            {"kind": "burst"} if rate == float("inf") else {"kind": "gamma", "rate": rate, "burstiness": burstiness}
        )
        count = 1000 if num_requests is None else num_requests
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
