"""Agents and state machines: what a workflow of model calls, tools and people takes, costs and fails at.

    spec        a workflow as YAML: states, chances, limits, cache, crowd
    markov      absorbing chains: visits, ends, means and variances, a growing context included
    unfold      a workflow as such a chain, guards and cache included; what is no plane in the lengths by its ``tangent``
    walk        the same by Monte Carlo, as arrays
    crowd       many tasks at once through the serving simulator
    answer      all of it in one value

``growth``, ``closed_loop``, ``residency`` and ``policies`` hold formulas that stand alone.
"""

from infersim.agents.answer import AgentAnswer, answer
from infersim.agents.spec import Workflow, read_workflow

__all__ = ["AgentAnswer", "Workflow", "answer", "read_workflow"]
