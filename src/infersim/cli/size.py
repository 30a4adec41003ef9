"""``infersim size``: how large a fleet must be for a demand, with spares, growth and racks."""

from __future__ import annotations

from typing import Annotated, Any

from infersim.cli import options as o
from infersim.cli.output import emit, note_sources, sources_text
from infersim.errors import SpecError


def size(
    model: o.Model,
    gpu: o.GpuOrChoice,
    plan: Annotated[
        bool, o.option("Search the cheapest deployment for the peak first.", o.DEPLOYMENT, "--plan")
    ] = False,
    tp: o.Tp = 1,
    pp: o.Pp = 1,
    adp: o.AttentionDp = 1,
    ep: o.Ep = 1,
    precision: o.Precision = None,
    engine: o.Engine = "vllm",
    system: o.System = None,
    capacity: Annotated[
        float | None, o.option("Requests per second of one replica, measured. Default: predicted.", o.DEPLOYMENT)
    ] = None,
    input_tokens: o.InputTokens = 1024,
    output_tokens: o.OutputTokens = 256,
    prefix_hit: o.PrefixHit = 0.0,
    users: Annotated[float | None, o.option("Active users at the peak.", o.LOAD)] = None,
    per_user: Annotated[
        float, o.option("Requests of an active user in an hour.", o.LOAD, "--requests-per-user-hour")
    ] = 20.0,
    request_rate: Annotated[
        float | None, o.option("Requests per second at the peak, in place of users.", o.LOAD, "--request-rate", "-r")
    ] = None,
    profile: Annotated[
        str, o.option("Hours of a day: flat, day, day:1.8, 24 numbers by commas, or a trace file.", o.LOAD)
    ] = "day",
    growth: o.Growth = 0.0,
    months: Annotated[int, o.option("Months planned for.", o.LOAD)] = 1,
    target: o.Target = None,
    availability: Annotated[float, o.option("Percent of the time that enough replicas are up.", o.FLEET)] = 99.9,
    headroom: Annotated[float, o.option("Percent of a replica's capacity planned with.", o.FLEET)] = 100.0,
    autoscaled: Annotated[bool, o.option("Also a fleet that follows the day's load.", o.FLEET, "--autoscale")] = False,
    rack_power: Annotated[float | None, o.option("kW that a rack gives.", o.FLEET)] = None,
    repair_hours: Annotated[float | None, o.option("From failure to service.", o.FLEET)] = None,
    sources: o.Sources = False,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
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
    target = target or ""
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
    answer = found.to_dict()
    emit(answer, lambda: "\n\n".join([str(found), *([sources_text(found.sources)] if sources else [])]),
         as_json=as_json, as_csv=as_csv, rows=answer["months"])  # fmt: skip
    note_sources(found.sources)
