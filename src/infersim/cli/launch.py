"""``infersim launch``: a deployment as launch commands, manifests, and a load test with the figures expected of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from infersim.cli.options import option as _option

DEPLOYMENT, LOAD, OUTPUT = "Deployment", "Load", "Output"


def launch(
    model: Annotated[
        str, typer.Argument(help="Bundled name, Hugging Face id in the local cache, folder, or config.json.")
    ],
    gpu: Annotated[str, typer.Option("--gpu", "-g", help="Accelerator; several by commas where --plan chooses.")],
    plan: Annotated[
        bool, _option("Search first, and hand over the best option for --request-rate.", LOAD, "--plan")
    ] = False,
    tp: Annotated[int, _option("Tensor parallel degree.", DEPLOYMENT, "--tp")] = 1,
    pp: Annotated[int, _option("Pipeline stages.", DEPLOYMENT, "--pp")] = 1,
    adp: Annotated[int, _option("Attention data parallel degree.", DEPLOYMENT, "--attention-dp")] = 1,
    ep: Annotated[int, _option("Expert parallel degree.", DEPLOYMENT, "--ep")] = 1,
    replicas: Annotated[int, _option("Copies.", DEPLOYMENT, "--replicas", "--dp")] = 1,
    precision: Annotated[str | None, _option("bf16, fp8, nvfp4 ... Default: the checkpoint's.", DEPLOYMENT)] = None,
    kv_cache: Annotated[str | None, _option("Format of the KV cache.", DEPLOYMENT)] = None,
    engine: Annotated[str, _option("vllm, sglang, trtllm.", DEPLOYMENT)] = "vllm",
    system: Annotated[str | None, _option("Node or rack the GPUs sit in.", DEPLOYMENT)] = None,
    max_num_seqs: Annotated[int | None, _option("Sequences per replica at most.", DEPLOYMENT)] = None,
    max_num_batched_tokens: Annotated[int | None, _option("Tokens per step at most.", DEPLOYMENT)] = None,
    gpu_memory_utilization: Annotated[float | None, _option("Share of memory the engine may take.", DEPLOYMENT)] = None,
    max_model_len: Annotated[int | None, _option("Longest sequence served.", DEPLOYMENT)] = None,
    speculative_config: Annotated[str | None, _option("Drafts, as infersim estimate takes them.", DEPLOYMENT)] = None,
    input_tokens: Annotated[float, _option("Mean prompt length.", LOAD, "--input", "-i")] = 1024,
    output_tokens: Annotated[float, _option("Mean output length.", LOAD, "--output", "-o")] = 256,
    prefix_hit: Annotated[float, _option("Share of the prompt found in the prefix cache.", LOAD)] = 0.0,
    concurrency: Annotated[
        float, _option("Users of the load test, where no rate is given.", LOAD, "--concurrency", "-c")
    ] = 1,
    request_rate: Annotated[
        float | None, _option("Requests per second of the load test.", LOAD, "--request-rate", "-r")
    ] = None,
    target: Annotated[str, _option("ttft_p95=800ms,tpot_p95=40ms.", LOAD)] = "",
    folder: Annotated[
        Path | None, _option("Write scripts, manifests and expected figures here.", OUTPUT, "--out")
    ] = None,
    check: Annotated[
        Path | None,
        _option("A saved result of the load test: is the prediction right? Exit 1 where it is not.", OUTPUT),
    ] = None,
    as_json: Annotated[bool, _option("One JSON object.", OUTPUT, "--json")] = False,
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
            target=target, precision=precision, kv_cache=kv_cache, engine=engine, speculation=speculative_config,
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
        typer.echo(f"{'':<22} {'expected':>10} {'measured':>10}")
        for verdict in verdicts:
            typer.echo(str(verdict))
        if any(verdict.inside is False for verdict in verdicts):
            raise typer.Exit(1)
        return
    if folder is not None:
        given.write(folder)
    if as_json:
        typer.echo(json.dumps(given.to_dict(), indent=2, allow_nan=False))
        return
    typer.echo(str(given))
    if folder is not None:
        typer.echo(f"\nwritten to {folder}: {', '.join(sorted(given.files))}")
