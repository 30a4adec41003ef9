"""Which GPU serves a chat of Llama-3.1-8B fastest, and which cheapest? The physical limit first: no GPU can beat it."""

import infersim

GPUS = ["L40S", "A100-80GB-SXM", "H100-SXM", "H200-SXM", "B200-SXM", "MI300X"]

print(f"{'GPU':<15} {'TPOT':>8} {'tok/s/user':>11} {'tok/s/GPU':>10} {'USD/M out':>10}")
for gpu in GPUS:
    answer = infersim.estimate(
        "meta-llama/Llama-3.1-8B", gpu, input_tokens=1500, output_tokens=300, concurrency=32, mode="bound"
    )
    print(
        f"{gpu:<15} {answer.tpot * 1e3:>5.2f} ms {answer.tokens_per_second_per_user:>11.0f} "
        f"{answer.output_tokens_per_second_per_gpu:>10.0f} {answer.cost_per_million_output_tokens:>10.3f}"
    )
