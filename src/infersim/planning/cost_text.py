"""A cost report as text that fits 80 columns."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from infersim import units
from infersim.specs.economics import Ownership

if TYPE_CHECKING:
    from infersim.planning.cost import CostReport, Ledger

WIDTH = 80


def cost_text(report: CostReport) -> str:
    """The whole report."""
    one, site = report.deployment, report.site
    how = "owned" if isinstance(report.terms, Ownership) else f"rented {report.terms.kind.replace('_', ' ')}"
    code = site.currency
    busy = " and ".join(f"{load.busy:.0%}" for load in report.loads)
    lines = textwrap.wrap(
        f"{one.describe()}: {report.devices} x {one.machine.accelerator.name} {how}, {site.name}", WIDTH
    )
    lines += [f"{report.request_rate:g} requests/s on average; devices at work {busy} of the time", ""]
    lines.append(_row("", f"{code}/year", "share", f"{code}/GPU/h"))
    for name, usd in report.parts.items():
        each = report.in_currency(usd / report.devices / 8760)
        lines.append(_row(name, f"{report.in_currency(usd):,.0f}", f"{usd / report.per_year:.0%}", f"{each:.3f}"))
    total = report.in_currency(report.per_year)
    lines += [_row("total", f"{total:,.0f}", "100%", f"{report.in_currency(report.hour.usd):.3f}"), ""]
    prices = [report.in_currency(price) for price in report.token_prices]
    lines.append(f"per request          {report.in_currency(report.per_request):.6g} {code}")
    if report.per_user_month is not None:
        lines.append(f"per user and month   {report.in_currency(report.per_user_month):.4g} {code}")
    told = f"input {prices[0]:.4g}, cached input {prices[1]:.4g}"
    if one.model.task == "generate":
        told += f", output {prices[2]:.4g}"
    lines.append(f"per million tokens   {told} {code}")
    lines.append(
        f"energy               {units.show(report.energy_per_token, 'J')} a token, {report.kwh_per_year:,.0f} kWh a year"
    )
    lines.append(
        f"carbon               {report.carbon_per_token * 1000:.3g} mg CO2e a token, {report.carbon_per_year:,.1f} t a year"
    )
    if report.ledger is not None:
        lines += ["", *_ledger_lines(report, report.ledger)]
    if report.api is not None:
        api = report.api
        per_hour = report.in_currency(api.per_hour)
        rate = f"from {api.break_even_rate:.3g} requests/s on" if math.isfinite(api.break_even_rate) else "at no load"
        lines += ["", f"an API at {', '.join(f'{p:g}' for p in api.prices)} USD per million (input, cached, output):",
                  f"  {per_hour:,.2f} {code}/h for this load, these devices {report.in_currency(report.per_hour):,.2f}",
                  f"  these devices are cheaper {rate}, if they can serve it;",
                  f"  at this load the API would have to charge {api.price_factor:.3g} times its prices"]  # fmt: skip
    return "\n".join(lines)


def _row(name: str, *cells: str) -> str:
    return f"{name:<32}" + "".join(f"{cell:>15}" for cell in cells)


def _ledger_lines(report: CostReport, ledger: Ledger) -> list[str]:
    code = report.site.currency
    rows = [_row("buy or rent, paid by month", "bought, net", "rented", "difference")]
    months = len(ledger.owned) - 1
    shown = sorted({1, *range(6, months + 1, 6), months} | ({ledger.break_even} if ledger.break_even else set()))
    for month in shown:
        owned, rented = (report.in_currency(float(series[month])) for series in (ledger.owned, ledger.rented))
        mark = "  <- break-even" if month == ledger.break_even else ""
        rows.append(_row(f"  {month}{mark}", f"{owned:,.0f}", f"{rented:,.0f}", f"{rented - owned:,.0f}"))
    if ledger.break_even is None:
        rows.append(f"buying has not paid off after {months} months")
    rent, equal = report.in_currency(ledger.rent), report.in_currency(ledger.equal_rent)
    rows.append(f"both cost the same at a rent of {equal:.2f} {code}/GPU/h (now {rent:.2f})")
    return rows
