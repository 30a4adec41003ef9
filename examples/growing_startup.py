"""A start-up grows by 10% a month. Rent on demand, reserve, or buy, and when?

Every month's peak asks for so many replicas. Rented ones follow the month; reserved ones are paid for a year; bought ones are paid
at once and sold in the end. Nobody knows that growth goes on, so what matters is the month from which each way is the cheaper one.
"""

import math

import infersim
from infersim.planning.break_even import break_even_month, owned_by_month, rented_by_month
from infersim.planning.prices import choose_price, price_per_device
from infersim.specs.economics import ownership

GROWTH, MONTHS, FIRST_PEAK = 1.10, 24, 3.0  # per month; requests/s in the first month
HOURS = 730.0
CHAT = {"input_tokens": 1500, "output_tokens": 350, "target": "ttft_p95=1s,tpot_p95=40ms"}

# What one kind of replica serves, once: the plan for the last month says how many requests a GPU takes.
peak = FIRST_PEAK * GROWTH ** (MONTHS - 1)
option = infersim.plan("Qwen/Qwen3-32B", "H100-SXM", request_rate=peak, pools="aggregated", verify=1, **CHAT).best
replica = option.deployment.parallelism.devices_per_replica
each = option.capacity / option.replicas
print(f"{option.describe()}: {each:.2f} requests/s a replica\n")

gpus = [replica * math.ceil(FIRST_PEAK * GROWTH**month / each) for month in range(MONTHS)]
device = infersim.load_accelerator("H100-SXM")
demand, reserved = (choose_price(device, kind).per_hour for kind in ("on_demand", "reserved_1y"))
rented = [count * HOURS * demand for count in gpus]
by_year = [max(gpus[year : year + 12]) * HOURS * reserved for year in (0, 12) for _ in range(12)]
print(f"{'month':>5} {'requests/s':>11} {'GPUs':>5} {'on demand':>11} {'reserved':>11}   USD so far")
for month in (0, 5, 11, 17, 23):
    print(
        f"{month + 1:>5} {FIRST_PEAK * GROWTH**month:>11.1f} {gpus[month]:>5} {sum(rented[: month + 1]):>11,.0f} "
        f"{sum(by_year[: month + 1]):>11,.0f}"
    )

# A GPU that is needed from now on: after how many months would it have been better to buy it?
terms = ownership()
price = price_per_device(device, infersim.load_system("HGX-H100")).purchase
report = infersim.cost(option, request_rate=peak / 2, terms=terms)
running = sum(report.hour.parts[name] for name in ("maintenance", "staff", "colocation", "electricity")) / 12
owned = owned_by_month(
    price * 1.145, running, terms.residual_after_3_years.value, terms.interest.value, 48, resale=price
)
answers = {name: break_even_month(owned, rented_by_month(rent * HOURS, terms.interest.value, 48))
           for name, rent in (("on demand", demand), ("reserved", reserved))}  # fmt: skip

steady = gpus[0]
print(
    f"\nAnswer: {steady} GPUs are needed from the first month on: bought, each has paid off after {answers['on demand']} months"
    f"\nagainst {demand:.2f} USD on demand and after {answers['reserved']} against {reserved:.2f} USD reserved. Rent what growth"
    f"\nadds until it has stayed for as long; over {MONTHS} months renting on demand costs {sum(rented):,.0f} USD,\n"
    f"reserving a year ahead {sum(by_year):,.0f}."
)
