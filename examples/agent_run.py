"""A coding agent on one H200: what a task takes and costs, what 60 at once do to each other, and what a lost prefix cache costs.

The workflow is a file; chances and lengths in it are assumed. The deployment is asked about at the load that 60 agents make of it.
"""

from pathlib import Path

import infersim
from infersim.agents import answer, read_workflow

workflow = read_workflow(Path(__file__).parent / "workflows" / "coding_agent.yaml")
load = {"input_tokens": 16_000, "output_tokens": 220, "concurrency": 16}
model, gpu = "Qwen/Qwen3-30B-A3B-Instruct-2507", "H200-SXM"

told = answer(workflow, infersim.estimate(model, gpu, precision="fp8_block", prefix_hit=0.93, **load))
print(told)

# The start of the prompt changes from turn to turn (a clock in it, say): nothing is found in the cache any more.
mutated = workflow.model_copy(update={"cache": workflow.cache.model_copy(update={"enabled": False}), "crowd": None})
lost = answer(mutated, infersim.estimate(model, gpu, precision="fp8_block", **load))
slower, dearer = (lost.mean(metric) / told.mean(metric) for metric in ("latency_s", "usd"))
print(f"with a prompt that changes at its start: {slower:.1f} times the time, {dearer:.1f} times the cost")
