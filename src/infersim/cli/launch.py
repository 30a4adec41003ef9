"""``infersim launch``: a deployment as launch commands, manifests, and a load test with the figures expected of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infersim.cli import options as o
from infersim.cli.exits import ExitCode
from infersim.cli.output import emit


def launch(
    model: o.Model,
    gpu: o.GpuOrChoice,
    plan: Annotated[
        bool, o.option("Search first, and hand over the best option for --request-rate.", o.DEPLOYMENT, "--plan")
    ] = False,
    tp: o.Tp = 1,
    pp: o.Pp = 1,
    adp: o.AttentionDp = 1,
    ep: o.Ep = 1,
    replicas: o.Replicas = 1,
    precision: o.Precision = None,
    kv_cache: o.KvCache = None,
    engine: o.Engine = "vllm",
    system: o.System = None,
    speculative_config: o.SpeculativeConfig = None,
    max_num_seqs: o.MaxNumSeqs = None,
    max_num_batched_tokens: o.MaxNumBatchedTokens = None,
    gpu_memory_utilization: o.GpuMemoryUtilization = None,
    max_model_len: o.MaxModelLen = None,
    input_tokens: o.InputTokens = 1024,
    output_tokens: o.OutputTokens = 256,
    prefix_hit: o.PrefixHit = 0.0,
    concurrency: Annotated[
        float, o.option("Users in a closed loop, where no rate is given.", o.LOAD, "--concurrency", "-c")
    ] = 1,
    request_rate: Annotated[
        float | None, o.option("Requests per second of the load test.", o.LOAD, "--request-rate", "-r")
    ] = None,
    target: o.Target = None,
    folder: Annotated[
        Path | None, o.option("Write scripts, manifests and expected figures here.", o.OUTPUT, "--out", shown="FOLDER")
    ] = None,
    check: Annotated[
        Path | None,
        o.option(
            "A saved result of the load test: is the prediction right? Exit 1 where it is not.", o.OUTPUT, shown="FILE"
        ),
    ] = None,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Hand a deployment over: exact launch commands for vLLM, SGLang or TensorRT-LLM, Kubernetes manifests, and a load test.

    Examples:

        infersim launch meta-llama/Llama-3.1-70B-Instruct --gpu H100-SXM --tp 4 --precision fp8 -c 32 --out handover/

        infersim launch meta-llama/Llama-3.1-8B --gpu H100-SXM,L40S --plan -r 10 --target ttft_p95=1s --out handover/

        infersim launch meta-llama/Llama-3.1-8B --gpu L40S -c 16 --check infersim-check.json
    """
    from infersim.errors import SpecError
    from infersim.planning.handover.handover import hand_over
    from infersim.planning.handover.verify import check_result
    from infersim.planning.search import plan as search
    from infersim.predict.estimate import estimate
    from infersim.serving.target import read_limits
    from infersim.specs.deployment import EngineKnobs
    from infersim.specs.library import validate

    what: Any
    limits = read_limits(target) if target else ()
    if plan:
        if request_rate is None:
            raise SpecError("is needed for a plan", field="--request-rate")
        found = search(
            model, gpu, input_tokens=input_tokens, output_tokens=output_tokens, prefix_hit=prefix_hit, request_rate=request_rate,
            target=target or "", precision=precision, kv_cache=kv_cache, engine=engine, speculation=speculative_config,
        )  # fmt: skip
        what = found.best
    else:
        knobs = validate(EngineKnobs, {
            "max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens, "max_model_len": max_model_len,
            "gpu_memory_utilization": gpu_memory_utilization,
        })  # fmt: skip
        what = estimate(
            model, gpu, tensor_parallel=tp, pipeline_parallel=pp, attention_data_parallel=adp, expert_parallel=ep, replicas=replicas,
            precision=precision, kv_cache=kv_cache, engine=engine, system=system, input_tokens=input_tokens,
            output_tokens=output_tokens, prefix_hit=prefix_hit, concurrency=concurrency, knobs=knobs, speculation=speculative_config,
        )  # fmt: skip
        if request_rate is not None:
            from infersim.planning.handover.at_rate import at_rate

            what = at_rate(what, request_rate, limits)
    given = hand_over(what, limits=limits)
    if check is not None:
        verdicts = check_result(check, list(given.expected))
        heading = f"{'':<22} {'expected':>10} {'measured':>10}"
        emit([verdict.to_dict() for verdict in verdicts], lambda: "\n".join([heading, *map(str, verdicts)]),
             as_json=as_json, as_csv=as_csv)  # fmt: skip
        if any(verdict.inside is False for verdict in verdicts):
            raise typer.Exit(ExitCode.MISSED)
        return
    if folder is not None:
        given.write(folder)
    where = "" if folder is None else f"\n\nwritten to {folder}: {', '.join(sorted(given.files))}"
    answer = given.to_dict()
    emit(answer, lambda: f"{given}{where}", as_json=as_json, as_csv=as_csv, rows=answer["expected"])
