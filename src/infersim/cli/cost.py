"""``infersim cost``: what a fleet costs at a load, rented or owned, and against the alternatives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from infersim.cli.options import option as _option
from infersim.errors import SpecError

if TYPE_CHECKING:
    from infersim.specs.economics import Ownership, Rental

DEPLOYMENT, LOAD, MONEY, SITE, OUTPUT = "Deployment", "Load", "Rent or buy", "Site", "Output"


def cost(
    model: Annotated[
        str, typer.Argument(help="Bundled name, Hugging Face id in the local cache, folder, or config.json.")
    ],
    gpu: Annotated[str, typer.Option("--gpu", "-g", help="Accelerator.")],
    request_rate: Annotated[float, _option("Requests per second on average.", LOAD, "--request-rate", "-r")],
    devices: Annotated[int | None, _option("GPUs paid for. Default: one replica.", DEPLOYMENT)] = None,
    tp: Annotated[int, _option("Tensor parallel degree.", DEPLOYMENT, "--tp")] = 1,
    pp: Annotated[int, _option("Pipeline stages.", DEPLOYMENT, "--pp")] = 1,
    adp: Annotated[int, _option("Attention data parallel degree.", DEPLOYMENT, "--attention-dp")] = 1,
    ep: Annotated[int, _option("Expert parallel degree.", DEPLOYMENT, "--ep")] = 1,
    precision: Annotated[str | None, _option("bf16, fp8, nvfp4 ... Default: the checkpoint's.", DEPLOYMENT)] = None,
    engine: Annotated[str, _option("vllm, sglang, trtllm.", DEPLOYMENT)] = "vllm",
    system: Annotated[str | None, _option("Node or rack the GPUs sit in.", DEPLOYMENT)] = None,
    input_tokens: Annotated[float, _option("Mean prompt length.", LOAD, "--input", "-i")] = 1024,
    output_tokens: Annotated[float, _option("Mean output length.", LOAD, "--output", "-o")] = 256,
    prefix_hit: Annotated[float, _option("Share of the prompt found in the prefix cache.", LOAD)] = 0.0,
    requests_per_user: Annotated[float | None, _option("Requests of a user in a month.", LOAD)] = None,
    rent: Annotated[
        str | None, _option("on_demand, reserved_1y, reserved_3y, spot: the default way to pay.", MONEY)
    ] = None,
    buy: Annotated[bool, _option("Own the GPUs.", MONEY, "--buy")] = False,
    price: Annotated[float | None, _option("Rent in USD per GPU and hour. Default: cheapest on file.", MONEY)] = None,
    provider: Annotated[str | None, _option("Whose rent, as `infersim prices` lists them.", MONEY)] = None,
    region: Annotated[str | None, _option("Where.", MONEY)] = None,
    device_price: Annotated[
        float | None, _option("USD to buy one GPU, its share of the system included. Default: on file.", MONEY)
    ] = None,
    years: Annotated[float | None, _option("Years of ownership.", MONEY)] = None,
    interest: Annotated[float | None, _option("Cost of capital a year, as a share.", MONEY)] = None,
    residual: Annotated[float | None, _option("Share of the price left after three years.", MONEY)] = None,
    colocation: Annotated[float | None, _option("USD per kW and month; 0 in a room of your own.", MONEY)] = None,
    staff: Annotated[float | None, _option("USD of staff per GPU and year.", MONEY)] = None,
    api: Annotated[
        str | None, _option("An API for the same load: USD per million input,cached input,output.", MONEY)
    ] = None,
    growth: Annotated[float, _option("Percent that the load grows a month, for --months.", LOAD)] = 0.0,
    months: Annotated[int | None, _option("Show so many months: use of the GPUs and cost of a token.", LOAD)] = None,
    site: Annotated[str, _option("us, germany, france, ireland, finland, sweden, or a YAML file.", SITE)] = "us",
    electricity: Annotated[float | None, _option("Per kWh, in the site's currency.", SITE)] = None,
    pue: Annotated[float | None, _option("Power of the site over that of the devices.", SITE)] = None,
    currency_rate: Annotated[float | None, _option("USD for one unit of the site's currency.", SITE)] = None,
    tax: Annotated[float | None, _option("On all that is paid, as a share: 0.19.", SITE)] = None,
    sources: Annotated[bool, _option("List what the figures rest on.", OUTPUT, "--sources")] = False,
    as_json: Annotated[bool, _option("One JSON object.", OUTPUT, "--json")] = False,
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
    if as_json:
        told = {"months": [month.to_dict() for month in over]} if over else {}
        typer.echo(json.dumps(report.to_dict() | told, indent=2, allow_nan=False))
        return
    typer.echo(str(report))
    if over:
        typer.echo(f"\n{'month':>5}{'requests/s':>12}{'used':>8}{place.currency:>14}{'per M tokens':>14}")
    for month in over:
        usd, each = (report.in_currency(amount) for amount in (month.usd, month.usd_per_million_tokens))
        typer.echo(f"{month.month:>5}{month.mean_rate:>12.3g}{month.utilisation:>8.0%}{usd:>14,.0f}{each:>14.4g}")
    if sources:
        typer.echo("\n" + "\n".join(f"- {line}" for line in report.sources))


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
