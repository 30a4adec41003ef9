"""``infersim simulate``: a stream of requests through an engine's scheduler, event by event."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.exits import ExitCode
from infersim.cli.output import emit, note_sources
from infersim.errors import SpecError

if TYPE_CHECKING:
    from infersim.serving.traces import Trace
    from infersim.serving.traffic import Traffic


def simulate(
    context: typer.Context,
    model: o.Model,
    gpu: o.Gpu,
    tp: o.Tp = 1,
    pp: o.Pp = 1,
    adp: o.AttentionDp = 1,
    ep: o.Ep = 1,
    cp: o.Cp = 1,
    replicas: o.Replicas = 1,
    routing: Annotated[
        str,
        o.option("round_robin, least_loaded, prefix_aware.", o.DEPLOYMENT,
                 values=complete.one_of("round_robin", "least_loaded", "prefix_aware")),
    ] = "least_loaded",
    precision: o.Precision = None,
    kv_cache: o.KvCache = None,
    engine: o.Engine = "vllm",
    system: o.System = None,
    speculative_config: o.SpeculativeConfig = None,
    mode: o.PredictionMode = o.Mode.calibrated,
    prefill_replicas: Annotated[
        int | None, o.option("Disaggregate: so many replicas for prompts; --replicas then decode.", o.DEPLOYMENT)
    ] = None,
    prefill_tp: Annotated[int | None, o.option("Tensor parallelism of those. Default: --tp.", o.DEPLOYMENT)] = None,
    prefill_gpu: Annotated[
        str | None, o.option("Their GPU. Default: --gpu.", o.DEPLOYMENT, values=complete.names_of("accelerators"))
    ] = None,
    transfer_overlap: Annotated[
        float, o.option("Share of a prompt's last chunk behind which layers are sent.", o.DEPLOYMENT)
    ] = 0.0,
    first_token: Annotated[
        str,
        o.option("Pool that sends the first token: decode or prefill.", o.DEPLOYMENT, values=complete.one_of("decode", "prefill")),
    ] = "decode",
    max_num_seqs: o.MaxNumSeqs = None,
    max_num_batched_tokens: o.MaxNumBatchedTokens = None,
    gpu_memory_utilization: o.GpuMemoryUtilization = None,
    num_gpu_blocks_override: Annotated[int | None, o.option("KV blocks per replica.", o.ENGINE)] = None,
    block_size: Annotated[int | None, o.option("Tokens per KV block.", o.ENGINE)] = None,
    max_model_len: o.MaxModelLen = None,
    enforce_eager: o.EnforceEager = False,
    chunked_prefill: Annotated[
        bool | None, o.option("Cut prompts to the token budget.", o.SCHEDULER, "--chunked-prefill/--no-chunked-prefill")
    ] = None,
    prefix_caching: Annotated[
        bool | None, o.option("Keep the KV of ended requests.", o.SCHEDULER, "--prefix-caching/--no-prefix-caching")
    ] = None,
    batching: Annotated[
        str, o.option("continuous, dynamic, static.", o.SCHEDULER, values=complete.one_of("continuous", "dynamic", "static"))
    ] = "continuous",
    scheduling_policy: Annotated[
        str, o.option("fcfs or priority.", o.SCHEDULER, values=complete.one_of("fcfs", "priority"))
    ] = "fcfs",
    preemption_mode: Annotated[
        str, o.option("recompute or swap.", o.SCHEDULER, values=complete.one_of("recompute", "swap"))
    ] = "recompute",
    swap_space: Annotated[str, o.option("Host memory per GPU for swapped caches.", o.SCHEDULER)] = "4 GiB",
    input_tokens: o.InputLengths = "1024",
    output_tokens: o.OutputLengths = "256",
    random_range_ratio: Annotated[
        float | None, o.option("Lengths uniform in [ratio x L, L] around plain --input and --output.", o.LOAD)
    ] = None,
    request_rate: Annotated[
        str | None,
        o.option(
            "Requests per second (inf: all at once); several by commas plot latency against load.", o.LOAD,
            "--request-rate", "-r",
        ),
    ] = None,
    burstiness: Annotated[float, o.option("Gamma shape of the gaps: 1 Poisson, less bursts.", o.LOAD)] = 1.0,
    concurrency: Annotated[
        int | None, o.option("Users in a closed loop, in place of a rate.", o.LOAD, "--concurrency", "-c")
    ] = None,
    num_requests: Annotated[
        int | None, o.option("Requests in all. Default: 1000, or ten rounds.", o.LOAD, "--num-requests", "-n")
    ] = None,
    prefix_tokens: Annotated[int, o.option("Shared tokens before every prompt (a system prompt).", o.LOAD)] = 0,
    prefix_groups: Annotated[int, o.option("Different shared prefixes, all equally likely.", o.LOAD)] = 1,
    turns: Annotated[str | None, o.option("Turns of a session whose context grows, as a length.", o.LOAD)] = None,
    think: Annotated[str, o.option("Mean pause between an answer and the next turn.", o.LOAD)] = "0 s",
    trace: Annotated[Path | None, o.option("Replay this trace instead.", o.LOAD, shown="FILE")] = None,
    trace_format: Annotated[
        str | None,
        o.option("azure, burstgpt, splitwise, vidur, mooncake, sharegpt, vllm, rows.", o.LOAD,
                 values=complete.one_of("azure", "burstgpt", "splitwise", "vidur", "mooncake", "sharegpt", "vllm", "rows")),
    ] = None,
    speedup: Annotated[float, o.option("Replay at so many times the pace.", o.LOAD)] = 1.0,
    target: o.Target = None,
    find_capacity: Annotated[
        bool, o.option("Search the highest rate that meets --target.", o.LOAD, "--capacity")
    ] = False,
    seed: o.Seed = 0,
    settled: Annotated[bool, o.option("Leave warm-up and drain out of the statistics.", o.OUTPUT, "--settled")] = False,
    sources: o.Sources = False,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
    output: Annotated[
        Path | None, o.option("Per-request records: .csv or .parquet.", o.OUTPUT, "--save", shown="FILE")
    ] = None,
    series: Annotated[
        Path | None,
        o.option("Sequences and KV blocks over time: .csv or .parquet.", o.OUTPUT, "--save-series", shown="FILE"),
    ] = None,
    benchmark: Annotated[
        Path | None, o.option("Summary in the fields of `vllm bench serve`: .json.", o.OUTPUT, shown="FILE")
    ] = None,
    detailed: Annotated[
        bool, o.option("Per-request lists in --benchmark, as vLLM's flag.", o.OUTPUT, "--save-detailed")
    ] = False,
    plot: Annotated[
        Path | None,
        o.option("Time series and distributions, or latency against load: .png, .svg, .pdf.", o.OUTPUT, shown="FILE"),
    ] = None,
) -> None:  # fmt: skip
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
        summary,
        summary_text,
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
        "system": system, "mode": mode.value, "knobs": knobs, "speculation": speculative_config,
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
        raise typer.Exit(search_capacity(model, gpu, traffics[0], limits, as_json, as_csv, seed, routing, deployment))  # type: ignore[arg-type]
    pool = None
    if prefill_replicas is not None:
        given = {"replicas": prefill_replicas, "tensor_parallel": prefill_tp, "gpu": prefill_gpu}
        pool = {name: value for name, value in given.items() if value is not None}
    results, interrupted = run_each(
        lambda traffic: with_progress(
            model, gpu, traffic, seed=seed, target=limits, routing=routing, speedup=speedup, prefill=pool,
            transfer_overlap=transfer_overlap, first_token=first_token, **deployment
        ),
        traffics,
    )  # fmt: skip
    left = (rates or [])[len(results) :]
    shown = [result.settled() if settled else result for result in results]
    first = traffics[0]
    comparison = compare(results[0], first) if isinstance(first, Trace) and first.measured else None
    answer, rows = summary(shown, left, comparison)
    emit(answer, lambda: summary_text(shown, comparison, sources), as_json=as_json, as_csv=as_csv, rows=rows)
    note_sources(results[0].deployment.sources)
    files.write(shown, rates or [])
    if interrupted:
        say_interrupted(results, left)
        raise typer.Exit(ExitCode.INTERRUPTED)
    if any(result.missed_targets or result.unstable or not result.completed for result in shown):
        raise typer.Exit(ExitCode.MISSED)


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
