"""Search over documents: an embedding model for every query and a cross-encoder that reranks 50 passages. Which GPU, and what does a
thousand queries cost?

Both models only read: there is no decoding, a request is one pass. A reranker reads the query with every passage, so 50 passages
are 50 requests, and it is the reranker that the money goes to.
"""

import infersim

QUERIES = 20.0  # per second at the peak
PASSAGES = 50
GPUS = ["L4", "L40S", "H100-SXM"]
STAGES = {
    "embedding": ("BAAI/bge-large-en-v1.5", 64, QUERIES, "e2e_p95=50ms"),
    "reranking": ("BAAI/bge-reranker-large", 320, QUERIES * PASSAGES, "e2e_p95=300ms"),
}

print(f"{'GPU':<10} {'stage':<10} {'GPUs':>5} {'E2E':>8} {'USD/h':>7} {'USD per 1,000 queries':>22}")
totals = {}
for gpu in GPUS:
    totals[gpu] = 0.0
    for stage, (model, tokens, rate, target) in STAGES.items():
        option = infersim.plan(model, gpu, input_tokens=tokens, request_rate=rate, target=target, precision="fp16").best
        each = option.cost_per_hour / 3600 / QUERIES * 1000
        totals[gpu] += each
        print(
            f"{gpu:<10} {stage:<10} {option.devices:>5} {option.e2e * 1e3:>5.0f} ms {option.cost_per_hour:>7.2f} {each:>22.4f}"
        )

cheapest = min(totals, key=totals.get)
print(f"\nAnswer: {cheapest}, {totals[cheapest]:.4f} USD for a thousand queries with {PASSAGES} passages each.")
