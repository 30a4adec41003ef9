"""A support bot with a long prompt: in which order should its parts stand, what does the prefix cache then save, here and at an API?

The prompt opens with the time of day and the user's profile, so that hardly two prompts begin alike. The hit rate is an outcome:
popularity and size of each part, and how long the KV pool (and a host tier behind it) keeps what is not used.
"""

import infersim
from infersim.prompts.answer import answer
from infersim.prompts.spec import PromptLayout

deployment = infersim.estimate(
    "meta-llama/Llama-3.1-70B-Instruct", "H100-SXM", tensor_parallel=4, replicas=2, precision="fp8", output_tokens=250
)
layout = PromptLayout.model_validate({
    "requests_per_second": 3,
    "segments": [
        {"name": "time", "tokens": 20, "changes_every": "1 min"},
        {"name": "profile", "tokens": 400, "variants": 20000, "skew": 0.8, "within": "tenant"},
        {"name": "rules", "tokens": 2500},
        {"name": "tenant", "tokens": 4000, "variants": 300, "skew": 1.0},
        {"name": "examples", "tokens": 1600, "changes_every": "1 d"},
        {"name": "question", "tokens": 200, "variants": "unique", "movable": False},
    ],
    "tiers": [{"name": "host memory", "capacity": "500 GB"}],
    "apis": [
        {"scheme": "anthropic-5m", "input_usd": 3.0, "output_usd": 15.0},
        {"scheme": "openai-gpt-5", "input_usd": 1.25, "output_usd": 10.0},
    ],
})  # fmt: skip
found = answer(layout, deployment)
print(found)

now, best = found.bills[0]
print(
    f"\nAnswer: {found.best.hit_rate:.0%} of prompt tokens are found in the best order, {found.now.hit_rate:.0%} as it stands."
    f"\nThat saves {found.saved_seconds * 1e3:.0f} ms of a replica's time a request, {found.saved_usd_per_day:,.0f} USD a day in rent;"
    f"\nat the first API the day costs {best.usd_per_day:,.0f} USD in place of {now.usd_per_day:,.0f}, with {best.depth} segments cached."
)
