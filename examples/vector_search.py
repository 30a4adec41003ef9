"""Search over two million passages: which index, what does it take in memory, milliseconds and dollars?

The queries and the corpus stay the same; only the index changes. Exact search costs a host per handful of queries, a graph costs
memory, codes cost recall, a managed service costs by what it searches. Recall is measured on one's own data, so none is shown.
"""

from infersim.retrieval.answer import answer
from infersim.retrieval.spec import RetrievalSpec

BASE = {
    "corpus": {"documents": 500_000, "document_tokens": 1_800, "changed_per_day": 0.01},
    "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4"},
    "queries_per_second": 3_000,
}
HOST = {"threads": 16, "host_hour": "0.80 USD"}  # a rented host of 16 cores; the price is an assumption of this example
INDEXES = {
    "exact": {"preset": "faiss-flat", **HOST},
    "binary codes, rescored": {"preset": "binary-rescored", **HOST},
    "inverted lists, 32 probed": {"preset": "faiss-ivf-flat", "probes": 32, **HOST},
    "the same, coded": {"preset": "faiss-ivf-pq", "probes": 32, **HOST},
    "graph, ef 64": {"preset": "faiss-hnsw", "ef_search": 64, **HOST},
    "PostgreSQL, ef 64": {"preset": "pgvector-hnsw", "ef_search": 64, **HOST},
    "Pinecone": {"preset": "pinecone-serverless"},
}

print(f"{'index':<27}{'memory':>9}{'search':>10}{'a host does':>13}{'hosts':>7}{'USD/month':>11}")
found = {}
for name, index in INDEXES.items():
    found[name] = one = answer(RetrievalSpec.model_validate(BASE | {"index": index}))
    search, month = one.stages[1], one.usd_per_month
    own = ("-", "-", "-")
    if one.spec.index.index.managed is None:
        own = (f"{search.seconds * 1e3:.2f} ms", f"{search.capacity:,.0f}/s", str(one.copies(search)))
    print(f"{name:<27}{one.memory_bytes / 1e9:>6.2f} GB{own[0]:>10}{own[1]:>13}{own[2]:>7}{month:>11,.0f}")

once = found["exact"].ingestion
hours, tokens = once.seconds / 3600, once.tokens / once.vectors
print(
    f"\n{once.vectors:,.0f} passages of {tokens:.0f} tokens: {hours:.1f} h on one L4, {once.usd:.2f} USD with every new model"
)
least = min(one.usd_per_month for one in found.values())
cheapest = [name for name, one in found.items() if one.usd_per_month == least]
thousand = found[cheapest[0]].usd_per_query * 1e3
print(f"Answer: {' or '.join(cheapest)}, {thousand:.4f} USD for a thousand queries.")
