"""Questions over 200,000 documents at 20 a second: what does a RAG pipeline need for a first word within 450 ms, and what is in the way?

Every stage is sized together for the 95th percentile of TTFT. Then the prompt is made longer and shorter: passages by chunk size. What
is found by fewer or smaller passages is for your own evaluation to say; what they cost is here.
"""

import infersim
from infersim.rag.answer import answer
from infersim.rag.sweep import sweep

pipeline = {
    "retrieval": {
        "corpus": {"documents": 200_000, "document_tokens": 2000, "chunk": 512, "overlap": 64, "changed_per_day": 0.01},
        "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4"},
        "index": {"preset": "faiss-hnsw", "host_hour": "1 USD"},
        "reranker": {"model": "BAAI/bge-reranker-v2-m3", "hardware": "L40S", "candidates": 30},
        "top_k": 8, "queries_per_second": 20,
    },
    "system_tokens": 500, "output_tokens": 300, "target": "ttft_p95=450ms",
}  # fmt: skip
generator = infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM", precision="fp8")

found = answer(pipeline, generator)
print(found, end="\n\n")

swept = sweep(pipeline, generator, passages=[2, 4, 8], chunks=[128, 256, 448])
print(swept)
