"""A corpus of 150,000 tokens: into the prompt whole, kept in a cache, or retrieved? And from how many questions on does it change?

At an API the answer hangs on how often a cached prefix is found before it expires, and so on how often somebody asks. On own devices
a cached prefix holds memory instead. Costs decide nothing about quality: the last lines say what nobody has measured yet.
"""

import textwrap

from infersim.decide.answer import answer

api = {"prices": {"input": 3.0, "output": 15.0}, "cache": "anthropic-5m", "context": 1_000_000}
corpus = {"corpus_tokens": 150_000, "corpus_changes_per_month": 1}

asked = {"question": "rag-vs-long-context", "model": api, "assume": corpus}
by_size = answer(asked)
print(f"{'at an API':<24}{'USD/query':>10}{'TTFT':>9}")
for name, one in zip(by_size.names, by_size.at, strict=True):
    print(f"{name:<24}{float(one.usd):>10.4f}{float(one.ttft):>7.1f} s")

print("\nretrieval is the cheaper one from a corpus of so many tokens on:")
for queries in (1_000, 10_000, 100_000, 1_000_000):
    found = answer({**asked, "assume": {**corpus, "queries_per_month": queries}})
    points = [f"{point.value:,.0f}" for point in found.break_evens if found.names[point.above] == "RAG"]
    print(f"{queries:>10,} questions a month {points[-1] if points else 'none':>10}")

own = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H200-SXM", "deployment": {"precision": "fp8"}}
found = answer({**asked, "model": own, "assume": {"corpus_tokens": 100_000}})
print(f"\non one H200 with 100,000 tokens: {found.best}, but")
for line in (*(turn.sentence() for turn in found.turns[:2]), f"not known: {found.missing_evidence[1]}"):
    print(textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="    "))
