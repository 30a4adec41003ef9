"""``infersim cost``: what a fleet costs at a load, rented or owned, and against the alternatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from infersim.cli import options as o
from infersim.cli.output import emit, note_sources, sources_text
from infersim.errors import SpecError

if TYPE_CHECKING:
    from infersim.specs.economics import Ownership, Rental


def cost(
    model: o.Model,
    gpu: o.Gpu,
    request_rate: o.RequestRate,
    devices: Annotated[int | None, o.option("GPUs paid for. Default: one replica.", o.DEPLOYMENT)] = None,
    tp: o.Tp = 1,
    pp: o.Pp = 1,
    adp: o.AttentionDp = 1,
    ep: o.Ep = 1,
    precision: o.Precision = None,
    engine: o.Engine = "vllm",
    system: o.System = None,
    input_tokens: o.InputTokens = 1024,
    output_tokens: o.OutputTokens = 256,
    prefix_hit: o.PrefixHit = 0.0,
    requests_per_user: Annotated[float | None, o.option("Requests of a user in a month.", o.LOAD)] = None,
    growth: o.Growth = 0.0,
    months: Annotated[int | None, o.option("Show so many months: use of the GPUs and cost of a token.", o.LOAD)] = None,
    rent: o.Rent = None,
    buy: o.Buy = False,
    price: o.Price = None,
    provider: o.Provider = None,
    region: o.Region = None,
    device_price: Annotated[
        float | None, o.option("USD to buy one GPU, its share of the system included. Default: on file.", o.MONEY)
    ] = None,
    years: Annotated[float | None, o.option("Years of ownership.", o.MONEY)] = None,
    interest: Annotated[float | None, o.option("Cost of capital a year, as a share.", o.MONEY)] = None,
    residual: Annotated[float | None, o.option("Share of the price left after three years.", o.MONEY)] = None,
    colocation: Annotated[float | None, o.option("USD per kW and month; 0 in a room of your own.", o.MONEY)] = None,
    staff: Annotated[float | None, o.option("USD of staff per GPU and year.", o.MONEY)] = None,
    api: Annotated[
        str | None, o.option("An API for the same load: USD per million input,cached input,output.", o.MONEY)
    ] = None,
    site: o.SiteName = "us",
    electricity: Annotated[float | None, o.option("Per kWh, in the site's currency.", o.SITE)] = None,
    pue: Annotated[float | None, o.option("Power of the site over that of the devices.", o.SITE)] = None,
    currency_rate: Annotated[float | None, o.option("USD for one unit of the site's currency.", o.SITE)] = None,
    tax: Annotated[float | None, o.option("On all that is paid, as a share: 0.19.", o.SITE)] = None,
    sources: o.Sources = False,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """What a fleet costs: a year, a request, a token, in money, energy and carbon; when buying pays off.

    With --rent and --buy the first is set against the second, month by month. A mean load leaves devices waiting: they cost the same.

    Examples:

        infersim cost meta-llama/Llama-3.1-70B-Instruct --gpu H200-SXM --tp 2 --precision fp8 --devices 8 -r 8 --rent on_demand --buy

        infersim cost meta-llama/Llama-3.1-8B --gpu L40S -r 2 --api 0.1,0.05,0.3 --site germany --tax 0.19
    """
    from infersim.planning.cost import cost as price_of
    from infersim.predict.estimate import estimate
    from infersim.specs.economics import load_site, ownership, rental

    rented: Rental | None = None
    if rent is not None or not buy:
        rented = rental(kind=rent or "on_demand", provider=provider, region=region, per_hour=price)
    owned: Ownership | None = None
    if buy:
        owned = ownership(
            price=device_price, years=years, interest=interest, residual_after_3_years=residual, colocation_per_kw_month=colocation,
            staff_per_device_year=staff,
        )  # fmt: skip
    place = load_site(site, electricity=electricity, pue=pue, usd_per_currency=currency_rate, tax=tax)
    deployment = estimate(
        model, gpu, tensor_parallel=tp, pipeline_parallel=pp, attention_data_parallel=adp, expert_parallel=ep, precision=precision,
        engine=engine, system=system, input_tokens=input_tokens, output_tokens=output_tokens, prefix_hit=prefix_hit,
    )  # fmt: skip
    first = owned or rented
    assert first is not None
    report = price_of(
        deployment, request_rate=request_rate, devices=devices, terms=first, site=place,
        against=rented if owned is not None else None, api=read_api(api) if api else None, requests_per_user_month=requests_per_user,
    )  # fmt: skip
    over = []
    if months is not None:
        from infersim.planning.demand import Demand
        from infersim.planning.over_months import cost_over_months

        demand = Demand(request_rate, growth=growth / 100, months=months)
        over = cost_over_months(deployment, demand, devices=report.devices, terms=first, site=place)
    listed = [month.to_dict() for month in over]

    def text() -> str:
        lines = [str(report)]
        if over:
            lines.append(f"\n{'month':>5}{'requests/s':>12}{'used':>8}{place.currency:>14}{'per M tokens':>14}")
        for month in over:
            usd, each = (report.in_currency(amount) for amount in (month.usd, month.usd_per_million_tokens))
            lines.append(f"{month.month:>5}{month.mean_rate:>12.3g}{month.utilisation:>8.0%}{usd:>14,.0f}{each:>14.4g}")
        return "\n".join([*lines, *(["", sources_text(report.sources)] if sources else [])])

    answer = report.to_dict() | ({"months": listed} if listed else {})
    emit(answer, text, as_json=as_json, as_csv=as_csv, rows=listed or None)
    note_sources(report.sources)


def read_api(text: str) -> tuple[float, float, float]:
    """``0.5,0.25,1.5`` as prices of input, cached input and output; of two the cached input costs what input does.

    >>> read_api("0.5,1.5")
    (0.5, 0.5, 1.5)
    """
    try:
        given = [float(part) for part in text.split(",")]
    except ValueError:
        given = []
    if len(given) == 2:
        given.insert(1, given[0])
    if len(given) != 3 or min(given) < 0:
        raise SpecError(f"write USD per million input,cached input,output as 0.5,0.25,1.5, got {text!r}", field="--api")
    return given[0], given[1], given[2]
