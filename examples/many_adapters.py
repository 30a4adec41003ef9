"""500 customers, each with an adapter of their own, on one H100: what they cost a token, and how many should stay on the device."""

import infersim
from infersim.adapters import many, quantisation

deployment = infersim.estimate(
    "meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1500, output_tokens=250, concurrency=32
)

# Requests follow a Zipf law: the k-th customer asks in proportion to 1 / k.
told = many.answer({"count": 500, "skew": 1.0, "resident": 128, "training_tokens": 3e7}, deployment)
print(told)

# Fewer bits in the base model make room for more of both.
schemes = quantisation.answer({"schemes": ["fp8", "w4a16"]}, deployment)
print("\nresident beside 150 requests of the workload, by the format of the base model")
for row in schemes.rows:
    memory = row.deployment.memory
    room = memory.kv_pool - 150 * memory.rates.bytes(1750, block_size=memory.block_size)
    print(f"  {row.scheme:<6} {int(room / told.each):>5,} adapters   TPOT {row.deployment.tpot * 1e3:.1f} ms")
