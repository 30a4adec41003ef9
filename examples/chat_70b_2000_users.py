"""A chat of Llama-3.1-70B for 2,000 people at once: how many H200, and buy the nodes or rent them?

2,000 people have a conversation open. Each reads the answer and types for a while before the next turn, so far fewer requests are
under way than people are there: by Little's law the rate is users / (time of a turn).
"""

import infersim
from infersim.planning.uncertainty import monte_carlo
from infersim.specs.economics import rental

USERS = 2000
READ_AND_TYPE = 45.0  # seconds between an answer and the next question
ANSWER = 12.0  # seconds an answer takes to stream, about
MEAN_OF_PEAK = 0.45  # the mean load of a day over its peak
CHAT = {"input_tokens": 1200, "output_tokens": 300}
TARGET = "ttft_p95=1s,tpot_p95=50ms"

rate = USERS / (READ_AND_TYPE + ANSWER)
print(f"{USERS:,} users make {rate:.1f} requests/s at the peak\n")

# The cheapest H200 deployment of one kind of replica that keeps the target at the peak, checked by simulation.
found = infersim.plan(
    "meta-llama/Llama-3.1-70B-Instruct", "H200-SXM", request_rate=rate, target=TARGET, pools="aggregated", **CHAT
)
best = found.best
print(f"{best.describe()}\n{found.best.bottleneck} bounds it")

# The plan is made with the most likely figures. How likely is it to be enough, predictions and workload being what they are?
doubts = monte_carlo(best, request_rate=rate, target=TARGET, samples=1000)
print(f"{doubts.sentence}\n")

# Whole nodes are bought: eight GPUs each. The money is set against a one-year reservation, at the mean load.
nodes = -(-doubts.gpus_for(0.9) // 8)
report = infersim.cost(
    best.deployment,
    request_rate=rate * MEAN_OF_PEAK,
    devices=int(nodes) * 8,
    terms="buy",
    against=rental(kind="reserved_1y"),
)
print(report)

ledger = report.ledger
month = f"after {ledger.break_even} months" if ledger.break_even else "not within the life of the hardware"
print(
    f"\nAnswer: {nodes:.0f} nodes of 8 H200 serve the peak with nine chances in ten. At a reserved rent of"
    f"\n{ledger.rent:.2f} USD per GPU and hour buying them has paid off {month}; below {ledger.equal_rent:.2f} USD renting"
    "\nstays the cheaper way for as long as they live."
)
