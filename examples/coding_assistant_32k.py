"""A coding assistant sends 32k tokens of repository with every question. What is it worth that most of them were sent before?

The prefix cache keeps what prompts share: with a hit rate of 90% a prompt of 32,000 tokens costs the prefill of 3,200. The rate is
an outcome of how prompts are laid out (what is stable first) and of how much memory is left for the cache.
"""

import infersim

MODEL, GPU = "Qwen/Qwen3-32B", "H100-SXM"
LOAD = {"input_tokens": 32_000, "output_tokens": 400, "request_rate": 2.0, "target": "ttft_p95=5s,tpot_p95=60ms"}
MONTH = 730.0  # hours

print(f"{'hit rate':>8} {'GPUs':>5} {'TTFT':>8} {'TPOT':>8} {'USD/month':>10}  bounded by")
costs = {}
for hit in (0.0, 0.5, 0.9):
    option = infersim.plan(MODEL, GPU, prefix_hit=hit, max_gpus=256, verify=1, pools="aggregated", **LOAD).best
    costs[hit] = option.cost_per_hour * MONTH
    print(
        f"{hit:>8.0%} {option.devices:>5} {option.ttft:>6.2f} s {option.tpot * 1e3:>5.1f} ms {costs[hit]:>10,.0f}  "
        f"{option.bottleneck}"
    )

requests = LOAD["request_rate"] * MONTH * 3600
saved = costs[0.0] - costs[0.9]
print(
    f"\nAnswer: a prompt layout that reaches 90% saves {saved:,.0f} USD of {costs[0.0]:,.0f} a month, "
    f"{saved / requests * 1000:.2f} USD\nfor every thousand questions."
)
