"""The questions a scenario can ask. Those of the engine are answered in ``scenario.answers``; every layer above it adds one line here.

A layer's ``spec`` is a pydantic ``Spec`` that becomes an optional section of a scenario under ``section``. Its ``answer`` is a function
of that spec which takes what it needs by name: ``deployment`` (the ``Estimate`` of the scenario's model on its hardware under its
workload, None where the scenario names none), ``limits`` (of the target), ``workload``, ``seed``. What it returns is a frozen result
with ``to_dict()``, ``str()`` and ``sources``. ``headline`` makes the sentence that a report begins with,
``figures`` its pictures of ``(answer as dict, prefix)``. Each is written ``module:name`` and imported when it is first used. ``compared``
are the figures that cases are set side by side in: heading and dotted name in the answer.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from infersim.specs.quantity import Spec

ENGINE = ("estimate", "simulate", "capacity", "plan", "cost", "compare", "size")


class Question(NamedTuple):
    """A question of a layer above the engine; ``module:name`` of infersim each."""

    section: str
    spec: str
    answer: str
    figures: str = ""
    headline: str = ""
    compared: tuple[tuple[str, str], ...] = ()

    def load_spec(self) -> type[Spec]:
        found: type[Spec] = load(self.spec)
        return found

    def load_answer(self) -> Callable[..., Any]:
        found: Callable[..., Any] = load(self.answer)
        return found


LAYERS: dict[str, Question] = {
    "decoding": Question(
        "decoding",
        "decoding.spec:DecodingSpec",
        "decoding.answer:answer",
        "report.layers:decoding_pictures",
        "report.layer_headlines:decoding",
        (
            ("first method", "methods.0.method"),
            ("TTFT", "methods.0.ttft_s"),
            ("TPOT", "methods.0.tpot_s"),
            ("E2E", "methods.0.e2e_s"),
            ("USD", "methods.0.usd_per_answer"),
        ),
    ),
    "prompts": Question(
        "prompts",
        "prompts.spec:PromptLayout",
        "prompts.answer:answer",
        "report.layers:prompt_pictures",
        "report.layer_headlines:prompts",
        (
            ("hits now", "now.hit_rate"),
            ("hits best", "best.hit_rate"),
            ("TTFT now", "now.ttft_s"),
            ("TTFT best", "best.ttft_s"),
            ("USD/day saved", "saved_usd_per_day"),
        ),
    ),
    "quantisation": Question(
        "quantisation",
        "adapters.quantisation:QuantisationSpec",
        "adapters.quantisation:answer",
        "report.agents:quantisation_pictures",
        "report.layer_headlines:quantisation",
        (
            ("scheme", "schemes.1.scheme"),
            ("decode", "schemes.1.decode_speedup"),
            ("prefill", "schemes.1.prefill_speedup"),
            ("TPOT", "schemes.1.tpot_s"),
            ("USD/M", "schemes.1.usd_per_million_tokens"),
        ),
    ),
    "adapters": Question(
        "adapters",
        "adapters.many:AdaptersSpec",
        "adapters.many:answer",
        "report.agents:adapter_pictures",
        "report.layer_headlines:adapters",
        (
            ("resident", "resident"),
            ("hits", "hit_rate"),
            ("TTFT", "ttft_s"),
            ("TPOT", "tpot_s"),
            ("sequences", "max_sequences"),
        ),
    ),
    "agents": Question(
        "agents",
        "agents.spec:Workflow",
        "agents.answer:answer",
        "report.agents:agent_pictures",
        "report.layer_headlines:agents",
        (
            ("success", "ends.success"),
            ("time", "elapsed_s.mean"),
            ("time p95", "elapsed_s.p95"),
            ("USD", "usd.mean"),
            ("USD p95", "usd.p95"),
        ),
    ),
    "retrieval": Question(
        "retrieval",
        "retrieval.spec:RetrievalSpec",
        "retrieval.answer:answer",
        "report.layers:retrieval_pictures",
        "report.layer_headlines:retrieval",
        (
            ("index", "search.index"),
            ("query", "latency_s"),
            ("queries/s", "capacity_per_s"),
            ("bytes", "memory_bytes"),
            ("USD/month", "usd_per_month"),
        ),
    ),
    "rag": Question(
        "rag",
        "rag.spec:Pipeline",
        "rag.answer:answer",
        "report.rag:rag_pictures",
        "report.layer_headlines:rag",
        (
            ("TTFT", "ttft_s"),
            ("TTFT p95", "ttft_p95_s"),
            ("queries/s", "capacity_queries_per_s"),
            ("USD/query", "usd_per_query"),
            ("USD/month", "usd_per_month"),
        ),
    ),
    "decide": Question(
        "decide",
        "decide.spec:Decision",
        "decide.answer:answer",
        "report.rag:decision_pictures",
        "report.layer_headlines:decide",
        (
            ("best", "best"),
            ("own value", "your_value"),
            ("break-even", "break_evens.0.value"),
            ("USD first way", "ways.0.usd_per_query"),
            ("second", "ways.1.usd_per_query"),
        ),
    ),
}
"""By the name of the question."""


def load(where: str) -> Any:
    """What ``module:name`` of infersim stands for.

    >>> load("units:show")(0.04, "s")
    '40 ms'
    """
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(f"infersim.{module}"), name)


def sections() -> dict[str, str]:
    """Section -> question of every layer."""
    return {layer.section: name for name, layer in LAYERS.items()}


def known() -> tuple[str, ...]:
    """The names of all questions."""
    return (*ENGINE, *LAYERS)
