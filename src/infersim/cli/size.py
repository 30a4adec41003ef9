"""``infersim size``: how large a fleet must be for a demand, with spares, growth and racks."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from infersim.cli.options import option as _option
from infersim.errors import SpecError

DEPLOYMENT, DEMAND, FLEET, OUTPUT = "Deployment", "Demand", "Fleet", "Output"


def size(
    model: Annotated[
        str, typer.Argument(help="Bundled name, Hugging Face id in the local cache, folder, or config.json.")
    ],
    gpu: Annotated[str, typer.Option("--gpu", "-g", help="Accelerator; several by commas where --plan chooses.")],
    plan: Annotated[bool, _option("Search the cheapest deployment for the peak first.", DEPLOYMENT, "--plan")] = False,
    tp: Annotated[int, _option("Tensor parallel degree.", DEPLOYMENT, "--tp")] = 1,
    pp: Annotated[int, _option("Pipeline stages.", DEPLOYMENT, "--pp")] = 1,
    adp: Annotated[int, _option("Attention data parallel degree.", DEPLOYMENT, "--attention-dp")] = 1,
    ep: Annotated[int, _option("Expert parallel degree.", DEPLOYMENT, "--ep")] = 1,
    precision: Annotated[str | None, _option("bf16, fp8, nvfp4 ... Default: the checkpoint's.", DEPLOYMENT)] = None,
    engine: Annotated[str, _option("vllm, sglang, trtllm.", DEPLOYMENT)] = "vllm",
    system: Annotated[str | None, _option("Node or rack the GPUs sit in.", DEPLOYMENT)] = None,
    capacity: Annotated[
        float | None, _option("Requests per second of one replica, measured. Default: predicted.", DEPLOYMENT)
    ] = None,
    input_tokens: Annotated[float, _option("Mean prompt length.", DEMAND, "--input", "-i")] = 1024,
    output_tokens: Annotated[float, _option("Mean output length.", DEMAND, "--output", "-o")] = 256,
    prefix_hit: Annotated[float, _option("Share of the prompt found in the prefix cache.", DEMAND)] = 0.0,
    users: Annotated[float | None, _option("Active users at the peak.", DEMAND)] = None,
    per_user: Annotated[
        float, _option("Requests of an active user in an hour.", DEMAND, "--requests-per-user-hour")
    ] = 20.0,
    request_rate: Annotated[
        float | None, _option("Requests per second at the peak, in place of users.", DEMAND, "--request-rate", "-r")
    ] = None,
    profile: Annotated[
        str, _option("Hours of a day: flat, day, day:1.8, 24 numbers by commas, or a trace file.", DEMAND)
    ] = "day",
    growth: Annotated[float, _option("Percent a month, compounded.", DEMAND)] = 0.0,
    months: Annotated[int, _option("Months planned for.", DEMAND)] = 1,
    target: Annotated[str, _option("ttft_p95=800ms,tpot_p95=40ms.", DEMAND)] = "",
    availability: Annotated[float, _option("Percent of the time that enough replicas are up.", FLEET)] = 99.9,
    headroom: Annotated[float, _option("Percent of a replica's capacity planned with.", FLEET)] = 100.0,
    autoscaled: Annotated[bool, _option("Also a fleet that follows the day's load.", FLEET, "--autoscale")] = False,
    rack_power: Annotated[float | None, _option("kW that a rack gives.", FLEET)] = None,
    repair_hours: Annotated[float | None, _option("From failure to service.", FLEET)] = None,
    sources: Annotated[bool, _option("List what the figures rest on.", OUTPUT, "--sources")] = False,
    as_json: Annotated[bool, _option("One JSON object.", OUTPUT, "--json")] = False,
) -> None:
    """Size a fleet: users or requests to replicas, spares, GPUs, nodes and racks, month by month.

    Examples:

        infersim size meta-llama/Llama-3.1-70B-Instruct --gpu H200-SXM --tp 2 --precision fp8 --users 2000
        --target ttft_p95=1s,tpot_p95=50ms --growth 8 --months 24

        infersim size meta-llama/Llama-3.1-8B --gpu L40S --plan -r 20 --profile day:1.8 --autoscale
    """
    from infersim.planning.demand import Demand, rate_of_users, read_profile
    from infersim.planning.fleet import size_fleet
    from infersim.planning.search import plan as search
    from infersim.predict.estimate import estimate
    from infersim.specs.economics import operations

    if (users is None) == (request_rate is None):
        raise SpecError("give the users at the peak, or the requests per second", field="--users")
    if users is not None and not (users > 0 and per_user > 0):
        raise SpecError(f"must be above 0, got {users:g} users of {per_user:g} requests an hour", field="--users")
    peak = request_rate if request_rate is not None else float(rate_of_users(users, per_user))
    known = operations(repair_hours=repair_hours)
    shares, told = read_profile(profile, known)
    demand = Demand(peak, shares, growth / 100, months, per_user if users is not None else None, told)
    what: Any
    if plan:
        last = float(demand.by_month().max())
        what = search(
            model, gpu, input_tokens=input_tokens, output_tokens=output_tokens, prefix_hit=prefix_hit, request_rate=last, target=target,
            precision=precision, engine=engine, max_gpus=100_000, pools="aggregated",
        ).best  # fmt: skip
    else:
        what = estimate(
            model, gpu, tensor_parallel=tp, pipeline_parallel=pp, attention_data_parallel=adp, expert_parallel=ep, precision=precision,
            engine=engine, system=system, input_tokens=input_tokens, output_tokens=output_tokens, prefix_hit=prefix_hit,
        )  # fmt: skip
    found = size_fleet(
        demand, what, target=target, replica_capacity=capacity, availability=availability / 100, headroom=headroom / 100,
        autoscaled=autoscaled, rack_kilowatts=rack_power, known=known,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False))
        return
    typer.echo(str(found))
    if sources:
        typer.echo("\n" + "\n".join(f"- {line}" for line in found.sources))
