"""Llama-3.1-8B on consumer cards in the office, or on L40S in a data centre?

Bought cards are compared on the same terms: what they cost with network and upkeep, what they draw, what they then sell for. In a
room of one's own there is no colocation to pay. Vendors' terms may rule consumer cards out of data centres, and these have no ECC
memory: check both.
"""

import infersim
from infersim.specs.economics import load_site, ownership

LOAD = {"input_tokens": 1000, "output_tokens": 250, "request_rate": 8, "target": "ttft_p95=1s,tpot_p95=40ms"}
CARDS = ["RTX-4090", "RTX-5090", "L40S"]
OFFICE = load_site("germany", pue=1.1)  # no machine room: fans
ROOM = {"colocation_per_kw_month": 0.0, "network_share": 0.02}

print(f"{'card':<10} {'cards':>5} {'price':>9} {'TPOT':>8} {'USD/year':>9} {'of it energy':>13} {'USD/Mtok out':>13}")
years = {}
for card in CARDS:
    terms = ownership(**({} if card == "L40S" else ROOM))
    option = infersim.plan("meta-llama/Llama-3.1-8B", card, terms=terms, site=OFFICE, verify=1, **LOAD).best
    report = infersim.cost(option, request_rate=LOAD["request_rate"] / 2, terms=terms, site=OFFICE)  # half the peak
    price = next(item.base for item in report.assumptions if item.name == "own.price")
    years[card] = report.per_year
    print(
        f"{card:<10} {option.devices:>5} {price:>9,.0f} {option.tpot * 1e3:>5.1f} ms {report.per_year:>9,.0f} "
        f"{report.parts['electricity'] / report.per_year:>13.0%} {report.token_prices.output:>13.3f}"
    )

cheapest = min(years, key=years.get)
print(
    f"\nAnswer: {cheapest} at {years[cheapest]:,.0f} USD a year. The L40S cost {years['L40S'] / years[cheapest]:.1f} times that, "
    "for memory with\nECC, a warranty for servers, and a place in a data centre."
)
