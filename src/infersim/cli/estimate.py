"""``infersim estimate``: one deployment on one screen, or several GPUs side by side."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from infersim.cli import options as o
from infersim.cli.exits import ExitCode
from infersim.cli.output import emit, note


def estimate(
    model: o.Model,
    gpu: o.Gpus,
    tp: o.Tp = 1,
    pp: o.Pp = 1,
    adp: o.AttentionDp = 1,
    ep: o.Ep = 1,
    cp: o.Cp = 1,
    replicas: o.Replicas = 1,
    precision: o.Precision = None,
    kv_cache: o.KvCache = None,
    engine: o.Engine = "vllm",
    system: o.System = None,
    speculative_config: o.SpeculativeConfig = None,
    mode: o.PredictionMode = o.Mode.calibrated,
    max_num_seqs: o.MaxNumSeqs = None,
    max_num_batched_tokens: o.MaxNumBatchedTokens = None,
    gpu_memory_utilization: o.GpuMemoryUtilization = None,
    max_model_len: o.MaxModelLen = None,
    enforce_eager: o.EnforceEager = False,
    sampler: Annotated[
        str, o.option("greedy, temperature, top_p, top_k_top_p_sort ...; +penalties, +logprobs.", o.ENGINE)
    ] = "greedy",
    input_tokens: o.InputTokens = 1024,
    output_tokens: o.OutputTokens = 256,
    concurrency: Annotated[float, o.option("Users in a closed loop.", o.LOAD, "--concurrency", "-c")] = 1,
    prefix_hit: o.PrefixHit = 0.0,
    num_requests: Annotated[
        float | None,
        o.option("Of a run that starts with all users at once. Default: steady load.", o.LOAD, "--num-requests", "-n"),
    ] = None,
    fixed_lengths: Annotated[bool, o.option("All requests are alike.", o.LOAD, "--fixed-lengths")] = False,
    target: Annotated[str | None, o.option("Means: ttft=800ms,tpot=40ms; exit 1 where missed.", o.LOAD)] = None,
    price: o.Price = None,
    ops: Annotated[int, o.option("Ops shown per step.", o.OUTPUT, minimum=1)] = 5,
    sources: o.Sources = False,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Predict one deployment: does it fit, TTFT, TPOT, throughput, cost, and what bounds each part.

    Examples:

        infersim estimate meta-llama/Llama-3.1-70B --gpu H100-SXM --tp 4 --precision fp8 -i 2048 -o 256 -c 32

        infersim estimate ./my-model/config.json --gpu H100-SXM,H200-SXM,B200-SXM --json
    """
    from infersim.predict.estimate import estimate as predict
    from infersim.specs.deployment import EngineKnobs
    from infersim.specs.library import validate

    knobs = validate(EngineKnobs, {
        "max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens, "max_model_len": max_model_len,
        "gpu_memory_utilization": gpu_memory_utilization, "enforce_eager": enforce_eager,
    })  # fmt: skip
    answers = [
        predict(
            model, name, tensor_parallel=tp, pipeline_parallel=pp, attention_data_parallel=adp, expert_parallel=ep,
            context_parallel=cp, replicas=replicas, precision=precision, kv_cache=kv_cache, engine=engine, system=system,
            mode=mode.value, input_tokens=input_tokens, output_tokens=output_tokens, concurrency=concurrency,
            prefix_hit=prefix_hit, num_requests=num_requests, fixed_lengths=fixed_lengths,
            price_per_hour=price, target=target, sampler=sampler, knobs=knobs,
            speculation=speculative_config,
        )
        for name in o.by_commas(gpu)
    ]  # fmt: skip

    def screen() -> Any:
        from rich.console import Group
        from rich.text import Text

        from infersim.cli import render

        if len(answers) == 1:
            return render.estimate_screen(answers[0], rows=ops, sources=sources)
        return Group(Text(answers[0].model.name, style="bold"), render.comparison_table(answers))

    found = [answer.to_dict() for answer in answers] if as_json or as_csv else []
    emit(found[0] if len(found) == 1 else found, screen, as_json=as_json, as_csv=as_csv, rows=found)
    for answer in answers:
        for line in (*answer.extrapolations, *answer.sources):
            note(f"{answer.machine.accelerator.name}: {line}")
    if any(not answer.fits or answer.missed_targets for answer in answers):
        raise typer.Exit(ExitCode.MISSED)
