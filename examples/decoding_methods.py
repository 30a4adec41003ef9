"""An assistant on one H100: what do sampling, a JSON grammar, beam search, a vote of eight, thinking and drafts cost an answer?

Every row is the closed loop of the same 32 users. Answers differ in length, so a vote waits for the longest of its eight; all of
them share the prompt's cache. Acceptance of drafts is published per task and taken as it was measured.
"""

import infersim
from infersim.decoding.answer import answer
from infersim.decoding.drafts import speculation_table

deployment = infersim.estimate(
    "meta-llama/Llama-3.1-8B-Instruct", "H100-SXM", input_tokens=1500, output_tokens=300, concurrency=32
)
found = answer(
    {
        "output_tokens": {"lognormal": {"mean": 300, "cv": 0.8}},
        "methods": [
            "greedy",
            {"name": "top-p, FlashInfer", "sampler": "top_p"},
            {"name": "top-p, PyTorch sort", "sampler": "top_p_sort"},
            {"name": "JSON, llguidance", "sampler": "top_p", "structured": "llguidance"},
            {"name": "JSON, llama.cpp on 16 threads", "structured": {"engine": "llama.cpp", "threads": 16}},
            {"beams": 4},
            {"sampler": "top_p", "answers": 8, "pick": "majority", "correct": 0.6},
            {"sampler": "top_p", "thinking": {"lognormal": {"mean": 1500, "cv": 1}}, "thinking_budget": 4000},
            {"speculation": "method=eagle3,num_speculative_tokens=3,acceptance=eagle3/llama-3.1-8b/mt-bench"},
        ],
    },
    deployment,
)
print(found)

vote = found["top_p, majority of 8"]
best, *_, worst = speculation_table(deployment)
print(
    f"\nAnswer: a vote of eight costs {vote.usd / found['greedy'].usd:.1f} answers, for its eight share prompt and batch;"
    f"\nit is right in {vote.chance_correct:.0%} of cases where one is in 60% and votes are independent. Drafts speed"
    f"\ndecoding up {worst.here:.1f} times ({worst.table.name}) to {best.here:.1f} times\n({best.table.name}): it is the task that decides."
)
