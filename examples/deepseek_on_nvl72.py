"""DeepSeek-V3 on 8-GPU nodes or on NVL72 racks? Experts spread over many GPUs want fast links between all of them."""

import infersim

LOAD = {"input_tokens": 2000, "output_tokens": 500, "request_rate": 20, "target": "ttft_p95=2s,tpot_p95=40ms"}
GPUS = ["H200-SXM", "B200-SXM", "GB200"]
PRICE_OF_RACK_HOUR = {"GB200": 9.00}  # USD per GPU and hour where no offer is on file: ask for your own

print(f"{'GPU':<10} {'GPUs':>5} {'USD/h':>8} {'TTFT':>8} {'TPOT':>8}  deployment")
best = {}
for gpu in GPUS:
    prices = {gpu: PRICE_OF_RACK_HOUR[gpu]} if gpu in PRICE_OF_RACK_HOUR else None
    found = infersim.plan("deepseek-ai/DeepSeek-V3", gpu, max_gpus=144, verify=1, prices=prices, **LOAD)
    best[gpu] = option = found.best
    layout = option.describe().partition(" (")[0]
    print(
        f"{gpu:<10} {option.devices:>5} {option.cost_per_hour:>8,.2f} {option.ttft * 1e3:>5.0f} ms "
        f"{option.tpot * 1e3:>5.1f} ms  {layout}"
    )

# One kind of replica for prompts and answers, or two? The same load, on the GPU that came out cheapest.
cheapest = min(best.values(), key=lambda option: option.cost_per_hour)
prices = {cheapest.gpu: cheapest.price_per_hour}
print(f"\non {cheapest.gpu}:")
for pools in ("aggregated", "disaggregated"):
    try:
        option = infersim.plan(
            "deepseek-ai/DeepSeek-V3", cheapest.gpu, max_gpus=144, verify=1, pools=pools, prices=prices, **LOAD
        ).best
        print(f"  {pools:<14} {option.devices:>4} GPUs, {option.bottleneck} bounds it")
    except infersim.InferSimError as error:
        print(f"  {pools:<14} {error}")

dearest = max(best.values(), key=lambda option: option.cost_per_hour)
print(
    f"\nAnswer: {cheapest.devices} x {cheapest.gpu} at {cheapest.cost_per_hour:,.2f} USD an hour; "
    f"{dearest.devices} x {dearest.gpu} cost {dearest.cost_per_hour / cheapest.cost_per_hour:.1f}\ntimes as much."
)
