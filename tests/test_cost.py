"""Money: every formula against arithmetic done by hand, published economics, laws, and kind refusals."""

from __future__ import annotations

import functools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim import cost, estimate, plan
from infersim.cli.app import main
from infersim.errors import NoPlanError, SpecError
from infersim.planning.allocation import token_prices, usd_per_million
from infersim.planning.break_even import (
    accumulated,
    api_cost,
    break_even_month,
    break_even_rent,
    break_even_tokens,
    owned_by_month,
    rented_by_month,
)
from infersim.planning.cost import CostReport, what_if
from infersim.planning.ownership import annuity, colocation_per_year, energy_per_year, per_useful_hour, residual_share
from infersim.planning.power import carbon, device_power, energy_per_token, mean_power
from infersim.planning.terms import choice_terms, owned_parts, rented_parts
from infersim.predict.estimate import Estimate
from infersim.specs.economics import Figure, Ownership, Rental, load_site, ownership, power_terms, rental
from infersim.specs.library import load_accelerator, load_system, names

LLAMA = "meta-llama/Llama-3.1-8B"


@functools.lru_cache
def small(prefix_hit: float = 0.0) -> Estimate:
    return estimate(LLAMA, "H100-SXM", input_tokens=1000, output_tokens=250, prefix_hit=prefix_hit)


# -- golden cases, by hand ----------------------------------------------------------------------------------------------


def test_owned_node_of_eight_gpus() -> None:
    """
    8-GPU node 300,000 USD, a fifth left after 4 years, 8% interest, 10.2 kW at 75%, PUE 1.3, 0.08 USD/kWh, 5% maintenance:
      1.08^4 = 1.36049; capital charge (300,000 - 60,000 / 1.36049) x 0.08 / (1 - 1 / 1.36049) = 255,898 x 0.301921 =  77,261
      energy 10.2 x 0.75 x 1.3 x 8,760 x 0.08                                                                      =   6,969
      maintenance 0.05 x 300,000                                                                                   =  15,000
      sum 99,230 a year; / (8 x 8,760 h) = 1.416 USD per GPU and hour; at 60% use 2.360
    """
    charge = float(annuity(300_000, 60_000, 0.08, 4))
    energy = float(energy_per_year(10_200 * 0.75, 1.3, 0.08))
    assert charge == pytest.approx(77_261, abs=1)
    assert energy == pytest.approx(6_969, abs=1)
    total = charge + energy + 0.05 * 300_000
    assert total == pytest.approx(99_230, abs=1)
    assert float(per_useful_hour(total, 8, 1.0)) == pytest.approx(1.416, abs=5e-4)
    assert float(per_useful_hour(total, 8, 0.6)) == pytest.approx(2.360, abs=5e-4)


def test_annuity_without_interest_is_straight_line() -> None:
    """(100 - 20) / 4 = 20 a year."""
    assert float(annuity(100, 20, 0.0, 4)) == pytest.approx(20)


def test_colocation() -> None:
    """10.2 kW x 150 USD x 12 months = 18,360 USD."""
    assert float(colocation_per_year(10_200, 150)) == 18_360


def test_deepseek_economics() -> None:
    """
    Published by DeepSeek (2025-02): 226.75 nodes of 8 H800 at 2 USD an hour: 226.75 x 8 x 24 x 2 = 87,072 USD a day; 608B input tokens,
    342B of them from the cache at 0.14, 266B at 0.55, 168B output tokens at 2.19 USD per million:
    47,880 + 146,300 + 367,920 = 562,100 USD a day; margin 562,100 / 87,072 - 1 = 545%; all money over output tokens: 0.518.
    """
    a_day = 226.75 * 8 * 24 * 2
    assert a_day == 87_072
    earned = float(api_cost(1 / 86_400, 266e9, 342e9, 168e9, (0.55, 0.14, 2.19))) * 24
    assert earned == pytest.approx(562_100, abs=1)
    assert earned / a_day - 1 == pytest.approx(5.45, abs=0.01)
    assert float(usd_per_million(226.75 * 8 * 2, 168e9 / 86_400)) == pytest.approx(0.518, abs=5e-4)


def test_token_prices_by_device_time() -> None:
    """
    0.001 USD a second, 1 request/s of 1,000 fresh and 1,000 cached prompt tokens and 500 output tokens, 40% of the time prefill:
    prompts bear 400 USD per million requests, over 1,000 + 0.1 x 1,000 = 1,100 weighted tokens: 0.3636, cached 0.0364;
    outputs bear 600 over 500: 1.2.
    """
    prices = token_prices(1e-3, 1.0, 1000, 1000, 500, 0.4, 0.1)
    assert [float(price) for price in prices] == pytest.approx([0.36364, 0.036364, 1.2], rel=1e-4)


def test_residual_curve() -> None:
    """30% after 36 months: 0.3^(1/3) = 66.9% after a year, 0.3^(4/3) = 20.1% after four."""
    assert [float(residual_share(0.3, t)) for t in (0, 1, 3, 4)] == pytest.approx([1, 0.6694, 0.3, 0.2008], abs=1e-4)


def test_spot_interruptions() -> None:
    """2 USD/h, 0.15 interruptions a month of 15 minutes: 0.15 x 0.25 h / 730 h = 0.00514% lost: 17,520.9 USD for a year of useful hours."""
    parts = rented_parts({"rent.per_hour": 2.0, "rent.storage_and_network_share": 0.0, "rent.spot_interruptions_per_month": 0.15,
                          "rent.lost_minutes_per_interruption": 15.0})  # fmt: skip
    assert sum(float(usd) for usd in parts.values()) == pytest.approx(17_520 / (1 - 0.15 * 0.25 / 730))


def test_payments_with_interest() -> None:
    """Twelve payments of 1 at the ends of months, 10% a year: monthly 1.1^(1/12) - 1 = 0.797414%; (1.1 - 1) / 0.00797414 = 12.5405."""
    assert float(accumulated(12, 0.1)) == pytest.approx(12.5405, abs=1e-3)


def test_break_even_month_by_hand() -> None:
    """
    1,200 USD now, 10 a month to keep, worth nothing later, no interest; rent 60 a month:
    owned 1,200 + 10 m, rented 60 m: equal after 1,200 / 50 = 24 months.
    """
    owned, rented = owned_by_month(1200, 10, 1e-30, 0.0, 48), rented_by_month(60, 0.0, 48)
    assert break_even_month(owned, rented) == 24


def test_api_break_even_by_hand() -> None:
    """10,000 USD a month against 0.50 USD per million tokens: 20 billion tokens a month; with 0.10 for energy 25 billion."""
    assert float(break_even_tokens(10_000, 0.5)) == pytest.approx(20e9)
    assert float(break_even_tokens(10_000, 0.5, 0.1)) == pytest.approx(25e9)
    assert math.isinf(float(break_even_tokens(10_000, 0.1, 0.1)))


def test_energy_of_a_token() -> None:
    """600 W for 64 tokens every 7.5 ms: 0.0703 J. 0.24 Wh are 864 J; at 125 g/kWh 0.03 g (arXiv:2508.15734)."""
    assert float(energy_per_token(600, 64 / 0.0075)) == pytest.approx(0.0703, abs=1e-4)
    assert float(carbon(864, 125)) == pytest.approx(0.03)


MEASURED_WATTS = {
    ("H100-SXM", "meta-llama/Meta-Llama-3-8B"): (363, 404, 435, 455),
    ("H100-SXM", "meta-llama/Llama-2-7b-hf"): (367, 495, 550, 595),
    ("A100-40GB-SXM", "meta-llama/Meta-Llama-3-8B"): (229, 264, 279, 316),
    ("A100-40GB-SXM", "meta-llama/Llama-2-7b-hf"): (222, 293, 321, 344),
}


def test_power_of_llm_inference_bench() -> None:
    """Mean GPU powers of LLM-Inference-Bench (vLLM, 1,024 tokens in and out, batch 1, 16, 32, 64): 10% off on average, none over 20%."""
    terms, off = power_terms(), []
    for (gpu, model), watts in MEASURED_WATTS.items():
        device = load_accelerator(gpu)
        idle = device.idle_power or load_accelerator("A100-80GB-SXM").idle_power
        for batch, measured in zip((1, 16, 32, 64), watts, strict=True):
            one = estimate(model, gpu, input_tokens=1024, output_tokens=1024, concurrency=batch, num_requests=batch)
            share = float(one._steady().prefill_share)
            mfu, mbu = (
                (1 - share) * float(getattr(one.decode_step, name)) + share * float(getattr(one.prefill_step, name))
                for name in ("mfu", "mbu")
            )
            found = device_power(idle, device.tdp, mfu, mbu, terms.compute.value, terms.memory.value)
            off.append(abs(float(found) / measured - 1))
    assert np.mean(off) < 0.10
    assert max(off) < 0.20


# -- laws ---------------------------------------------------------------------------------------------------------------

MONEY = st.floats(1, 1e6)
SHARE = st.floats(0.01, 0.99)


@given(MONEY, SHARE, st.floats(0, 0.3), st.floats(0.5, 10), st.floats(1, 3))
def test_dearer_hardware_and_dearer_money_never_cost_less(
    price: float, left: float, interest: float, years: float, more: float
) -> None:
    base = float(annuity(price, left * price, interest, years))
    assert float(annuity(price * more, left * price * more, interest, years)) >= base * (1 - 1e-9)
    assert float(annuity(price, left * price, interest + 0.01, years)) >= base * (1 - 1e-9)
    assert float(annuity(price, 0.0, interest, years)) >= base * (1 - 1e-9)


@given(MONEY, st.floats(0, 0.3), st.floats(0.5, 10))
def test_annuity_pays_the_capital_back(capital: float, interest: float, years: float) -> None:
    """The present value of the yearly payments is the capital (whole years)."""
    whole = max(round(years), 1)
    paid = float(annuity(capital, 0.0, interest, whole))
    assert sum(paid / (1 + interest) ** year for year in range(1, whole + 1)) == pytest.approx(capital, rel=1e-6)


@given(st.floats(1e-6, 1), st.floats(0.01, 100), st.floats(1, 1e5), st.floats(0, 1e5), st.floats(1, 1e4), SHARE, SHARE)
def test_token_prices_conserve_money(
    usd: float, rate: float, fresh: float, cached: float, output: float, prefill: float, cached_share: float
) -> None:
    prices = token_prices(usd, rate, fresh, cached, output, prefill, cached_share)
    earned = rate * (fresh * prices.input + cached * prices.cached_input + output * prices.output) / 1e6
    assert float(earned) == pytest.approx(usd, rel=1e-9)


@given(MONEY, st.floats(1, 1e4), SHARE, st.floats(0, 0.2), st.integers(12, 84), st.floats(0.1, 5))
def test_break_even_is_the_same_from_both_sides(
    capital: float, opex: float, left: float, interest: float, months: int, rent_factor: float
) -> None:
    """Before the month owning is dearer, in it not; at the rent that makes the last month equal, it is equal there."""
    owned = owned_by_month(capital, opex, left, interest, months)
    rented = rented_by_month(opex * rent_factor + capital / months, interest, months)
    month = break_even_month(owned, rented)
    if month is None:
        assert (owned[1:] > rented[1:]).all()
    else:
        assert owned[month] <= rented[month] * (1 + 1e-9)
        assert (owned[1:month] > rented[1:month]).all()
    equal = rented_by_month((opex * rent_factor + capital / months) * owned[-1] / rented[-1], interest, months)
    assert equal[-1] == pytest.approx(owned[-1])


@given(st.floats(10, 1000), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_power_lies_between_idle_and_tdp(idle: float, mfu: float, mbu: float, busy: float) -> None:
    tdp = idle * 8
    at_work = float(device_power(idle, tdp, mfu, mbu, 1.33, 0.82))
    assert idle <= at_work <= tdp * (1 + 1e-12)
    assert idle <= float(mean_power(idle, at_work, busy)) <= at_work * (1 + 1e-12)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 8), st.floats(1.01, 3))
def test_a_higher_load_costs_less_a_request_and_more_energy(rate: float, more: float) -> None:
    """On the same devices: the money is the same, so a request bears less of it; power never falls."""
    low, high = (
        cost(small(), request_rate=r, devices=4, terms=rental(per_hour=2.0)) for r in (rate, min(rate * more, 20))
    )
    assert high.per_hour == low.per_hour
    assert high.per_request <= low.per_request * (1 + 1e-9)
    assert high.watts >= low.watts * (1 - 1e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 10), st.floats(0, 1), st.floats(0, 0.5))
def test_cost_scales_with_price_and_tax(price: float, factor: float, tax: float) -> None:
    site = load_site("us", tax=tax)
    dear, cheap = (cost(small(), request_rate=1, terms=rental(per_hour=p), site=site) for p in (price, price * factor))
    assert cheap.per_year <= dear.per_year
    assert dear.per_hour == pytest.approx(price * (1 + tax))


def report(**given_terms: object) -> CostReport:
    return cost(small(0.5), request_rate=4, devices=2, terms=ownership(price=30_000), **given_terms)  # type: ignore[arg-type]


def test_parts_sum_to_the_whole() -> None:
    found = report()
    assert sum(found.parts.values()) == pytest.approx(found.per_year)
    prices, workload = found.token_prices, found.deployment.workload
    earned = 4 * (500 * prices.input + 500 * prices.cached_input + workload.output_tokens * prices.output) / 1e6
    assert earned == pytest.approx(found.per_hour / 3600)


def test_report_by_hand() -> None:
    """
    Two devices of 30,000 USD, defaults: residual 0.3^(4/3) = 0.20083; annuity at 8% over 4 years 0.301921:
    hardware (30,000 - 6,024.9 / 1.36049) x 0.301921 = 7,720.6; network and installation 0.145 x 30,000 x 0.301921 = 1,313.4;
    maintenance 1,500; staff 500; colocation: (10.2 kW / 8 = 1,275 W) x 200 x 12 / 1,000 = 3,060; electricity by its power.
    """
    parts = {name: usd / 2 for name, usd in report().parts.items()}
    assert parts["hardware"] == pytest.approx(7_720.6, abs=1)
    assert parts["network and installation"] == pytest.approx(1_313.4, abs=1)
    assert (parts["maintenance"], parts["staff"]) == (1_500, 500)
    assert parts["colocation"] == pytest.approx(3_060)
    watts = report().watts / 2
    assert parts["electricity"] == pytest.approx(watts / 1000 * 1.3 * 8760 * 0.0806)


def test_each_assumption_moves_the_cost_its_way() -> None:
    found = report()
    base = found.hour.usd
    for name, up in {"own.price": 1, "own.interest": 1, "own.residual_after_3_years": -1, "own.staff_per_device_year": 1, "site.pue": 1,
                     "site.electricity": 1, "own.availability": -1, "own.network_share": 1}.items():  # fmt: skip
        value = next(item.base for item in found.assumptions if item.name == name)
        assert (what_if(found, {name: value * 1.01}) - base) * up > 0, name
    with pytest.raises(SpecError, match=r"no assumption is called 'own.prices'; did you mean 'own.price'"):
        what_if(found, {"own.prices": 1})


def test_buy_against_rent_at_the_equal_rent() -> None:
    found = report(against=rental(per_hour=3.0)).ledger
    assert found is not None
    again = report(against=rental(per_hour=found.equal_rent)).ledger
    assert again is not None
    assert again.owned[-1] == pytest.approx(again.rented[-1])
    below = report(against=rental(per_hour=found.equal_rent * 0.99)).ledger
    assert below is not None
    assert below.owned[-1] > below.rented[-1]


def test_api_at_the_break_even_rate_costs_the_same() -> None:
    found = cost(small(), request_rate=4, devices=2, terms=rental(per_hour=2.0), api=(0.1, 0.05, 0.4))
    assert found.api is not None
    rate = found.api.break_even_rate
    assert float(api_cost(rate, 1000, 0, 250, (0.1, 0.05, 0.4))) == pytest.approx(found.per_hour)
    assert found.api.price_factor * found.api.per_hour == pytest.approx(found.per_hour)


def test_currency_and_tax_are_inputs() -> None:
    euro = cost(
        small(), request_rate=1, terms=rental(per_hour=2.16), site=load_site("germany", usd_per_currency=1.08, tax=0.19)
    )
    assert euro.in_currency(euro.per_hour) == pytest.approx(2.0 * 1.19)
    assert "EUR/year" in str(euro)


def test_two_pools_cost_what_their_devices_cost() -> None:
    option = plan(LLAMA, "H100-SXM", request_rate=30, target="tpot_p95=12ms", pools="disaggregated", verify=0).best
    found = cost(option, request_rate=30, terms=rental(per_hour=2.0))
    assert found.devices == option.devices
    assert found.per_hour == pytest.approx(2.0 * option.devices)
    assert 0 < found.token_prices.input < found.token_prices.output * 10


def test_owned_terms_are_a_choice_of_compare() -> None:
    """The hourly cost of a comparison is that of the report."""
    from infersim.planning.outcome import Choice
    from infersim.planning.uncertainty import monte_carlo

    found = report()
    machine = found.deployment.machine
    watts, most = found.watts / found.devices, found.loads[0].provisioned_watts
    hourly, terms = choice_terms(machine.accelerator, ownership(price=30_000), load_site("us"), system=machine.system, watts=watts,
                                 provisioned_watts=most)  # fmt: skip
    assert float(hourly({item.name: item.base for item in terms})) == pytest.approx(found.hour.usd)
    drawn = monte_carlo(Choice(small(), hourly=hourly, terms=terms), request_rate=10, samples=200)
    assert drawn.outcome.usd_per_hour.min() > 0


def test_cost_over_months_of_growth() -> None:
    """The devices cost the same every month; a token costs less as more of them are made; the month that is too much is named."""
    from infersim.planning.demand import Demand, sinusoid
    from infersim.planning.over_months import cost_over_months

    demand = Demand(6.0, sinusoid(1.5), growth=0.1, months=6)
    found = cost_over_months(small(), demand, devices=2, terms=rental(per_hour=2.0))
    assert found[0].mean_rate == pytest.approx(4.0)
    assert {round(month.usd, 6) for month in found} == {2 * 2.0 * 730}
    assert found[-1].usd_per_million_tokens == pytest.approx(found[0].usd_per_million_tokens / 1.1**5)
    assert found[0].usd_per_million_tokens == pytest.approx(float(usd_per_million(4.0, 4.0 * 250)))
    with pytest.raises(NoPlanError, match=r"month \d+: .* serve at most"):
        cost_over_months(small(), Demand(5.0, growth=1.0, months=12), devices=1)
    with pytest.raises(SpecError, match="one for each of 6 months"):
        cost_over_months(small(), demand, devices=[1, 2])


def test_parts_broadcast() -> None:
    values = {item.name: item.base for item in report().assumptions}
    parts = owned_parts({**values, "own.price": np.array([10_000.0, 20_000.0])}, 500.0, 1000.0)
    assert float(parts["hardware"][1]) == pytest.approx(2 * float(parts["hardware"][0]))  # type: ignore[index]


# -- what ships, and refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("sites"))
def test_every_site_loads_with_sources(name: str) -> None:
    site = load_site(name)
    assert site.pue.value >= 1
    assert all(figure.source for figure in site.figures().values())


def test_every_default_has_a_range_and_a_source() -> None:
    for terms in (ownership(), rental(), power_terms()):
        for figure in terms.figures().values():
            assert figure.low <= figure.value <= figure.high
            assert len(figure.source) >= 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cost(small(), request_rate=0), "request_rate: must be above 0, got 0"),
        (lambda: cost(small(), request_rate=1, devices=0), "devices: is a multiple of the 1 of a replica, got 0"),
        (lambda: cost(small(), request_rate=1e6), "serve at most .* requests/s, not 1e"),
        (lambda: cost(small(), request_rate=1, site="germny"), "no site is called 'germny'; did you mean 'germany'"),
        (lambda: cost(small(), request_rate=1, terms="on_demnd"), "kind: Input should be"),
        (lambda: cost(small(), request_rate=1, cached_share=2), "cached_share: is a share"),
        (lambda: cost(small(), request_rate=1, against=rental()), "one of each is needed"),
        (lambda: cost(small(), request_rate=1, api=(1, -1, 1)), "api: needs USD per million"),
        (lambda: ownership(interest=-0.1), "low <= value <= high"),
        (lambda: ownership(yeers=3), "unknown field; did you mean 'years'"),
        (lambda: load_site("us", pue=0.9), "no site draws less than its devices"),
    ],
)
def test_bad_input_is_answered_kindly(make: object, message: str) -> None:
    with pytest.raises((SpecError, NoPlanError), match=message):
        make()  # type: ignore[operator]


def test_no_purchase_price_asks_for_one() -> None:
    one = estimate(LLAMA, "MI355X", input_tokens=100, output_tokens=10)
    if any(price.kind == "purchase" for price in load_accelerator("MI355X").prices):
        pytest.skip("a price of MI355X is on file by now")
    with pytest.raises(SpecError, match="--device-price 30000"):
        cost(one, request_rate=0.1, terms="buy")


def test_figures_are_plain_numbers_or_whole() -> None:
    assert Figure.model_validate(3).status == "given"
    with pytest.raises(ValueError, match="low <= value"):
        Figure(value=1, low=2, high=3, source="x", status="assumed")
    assert isinstance(ownership(), Ownership)
    assert isinstance(rental(kind="spot"), Rental)
    assert load_system("HGX-H100").power_beside(700.0) == pytest.approx(4600)
    assert float(break_even_rent(99_230, 8)) == pytest.approx(1.416, abs=5e-4)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("cost", LLAMA, "--gpu", "H200-SXM", "-r", "4", "--devices", "8")
    code, out, _ = run(
        capsys,
        *arguments,
        "--rent",
        "on_demand",
        "--buy",
        "--api",
        "0.1,0.3",
        "--requests-per-user",
        "600",
        "--sources",
    )
    assert code == 0
    for words in (
        "hardware",
        "electricity",
        "break-even",
        "per million tokens",
        "carbon",
        "an API",
        "per user and month",
        "own.years",
    ):
        assert words in out
    assert max(len(line) for line in out.split("\n\n- ")[0].splitlines()) <= 80
    _, out, _ = run(capsys, *arguments, "--json")
    assert json.loads(out)["per_hour_usd"] > 0
    code, out, _ = run(capsys, *arguments, "--growth", "10", "--months", "3")
    assert (code, len(out.splitlines()[-3:])) == (0, 3)
    assert "per M tokens" in out
    assert run(capsys, *arguments, "--api", "cheap")[0] == 2
    assert run(capsys, "cost", LLAMA, "--gpu", "H200-SXM", "-r", "4000")[0] == 1
