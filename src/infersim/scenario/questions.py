"""The questions a scenario can ask. Those of the engine are answered in ``scenario.answers``; every layer above it adds one line here.

A layer's ``spec`` is a pydantic ``Spec`` that becomes an optional section of a scenario under ``section``. Its ``answer`` is a function
of that spec which takes what it needs by name: ``deployment`` (the ``Estimate`` of the scenario's model on its hardware under its
workload, None where the scenario names none), ``limits`` (of the target), ``workload``, ``seed``. What it returns is a frozen result
with ``to_dict()``, ``str()`` and ``sources``. ``figures`` makes pictures for a report of ``(answer as dict, prefix)``. Each is written
``module:name`` and imported when it is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from infersim.specs.quantity import Spec

ENGINE = ("estimate", "simulate", "capacity", "plan", "cost", "compare", "size")


class Question(NamedTuple):
    """A question of a layer above the engine; ``module:name`` each."""

    section: str
    spec: str
    answer: str
    figures: str = ""

    def load_spec(self) -> type[Spec]:
        found: type[Spec] = load(self.spec)
        return found

    def load_answer(self) -> Callable[..., Any]:
        found: Callable[..., Any] = load(self.answer)
        return found


LAYERS: dict[str, Question] = {
    "decoding": Question("decoding", "infersim.decoding.spec:DecodingSpec", "infersim.decoding.answer:answer"),
    "prompts": Question("prompts", "infersim.prompts.spec:PromptLayout", "infersim.prompts.answer:answer"),
    "adapters": Question(
        "adapters", "infersim.adapters.many:AdaptersSpec", "infersim.adapters.many:answer", "infersim.report.layers:adapter_pictures",
    ),
    "quantisation": Question(
        "quantisation", "infersim.adapters.quantisation:QuantisationSpec", "infersim.adapters.quantisation:answer",
        "infersim.report.layers:scheme_pictures",
    ),
    "agents": Question("agents", "infersim.agents.spec:Workflow", "infersim.agents.answer:answer", "infersim.report.layers:agent_pictures"),
    "retrieval": Question("retrieval", "infersim.retrieval.spec:RetrievalSpec", "infersim.retrieval.answer:answer"),
    "rag": Question("rag", "infersim.rag.spec:Pipeline", "infersim.rag.answer:answer", "infersim.report.rag:rag_pictures"),
    "decide": Question("decide", "infersim.decide.spec:Decision", "infersim.decide.answer:answer", "infersim.report.rag:decision_pictures"),
}  # fmt: skip
"""By the name of the question."""


def load(where: str) -> Any:
    """What ``module:name`` stands for.

    >>> load("infersim.units:show")(0.04, "s")
    '40 ms'
    """
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def sections() -> dict[str, str]:
    """Section -> question of every layer."""
    return {layer.section: name for name, layer in LAYERS.items()}


def known() -> tuple[str, ...]:
    """The names of all questions."""
    return (*ENGINE, *LAYERS)
