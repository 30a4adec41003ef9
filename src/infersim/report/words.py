"""Values and deployments in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from infersim import units
from infersim.report.markup import NONE
from infersim.report.results import Case
from infersim.specs.deployment import Parallelism

Answer = Mapping[str, Any]
ENGINES = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM", "tgi": "TGI"}
METRICS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E"}


def seconds(value: float | None) -> str:
    """
    >>> seconds(0.0456), seconds(None)
    ('45.6 ms', '–')
    """
    return NONE if value is None else units.show(value, "s")


def number(value: float | None, digits: int = 3) -> str:
    """A count or a rate, with thousands separated.

    >>> number(12345.6), number(4.824), number(None), number(16.0)
    ('12,346', '4.82', '–', '16')
    """
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.{digits}g}"


def money(value: float | None) -> str:
    """USD with cents where cents count.

    >>> money(1.0723), money(0.00412), money(12345), money(None)
    ('1.07', '0.00412', '12,345', '–')
    """
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}" if abs(value) >= 0.1 else f"{value:.3g}"


def memory(value: float) -> str:
    return units.show(value, "B", binary=True)


def span(bounds: Any) -> str:
    """Bounds in seconds as text; empty where there are none.

    >>> span([0.05, 0.22])
    '50 ms to 220 ms'
    """
    return f"{seconds(bounds[0])} to {seconds(bounds[1])}" if bounds else ""


def layout(parallelism: Mapping[str, int]) -> str:
    return str(Parallelism.model_validate(dict(parallelism)))


def model(name: str) -> str:
    """A model's name without whose it is.

    >>> model("meta-llama/Llama-3.1-8B")
    'Llama-3.1-8B'
    """
    return name.rpartition("/")[2]


def engine(name: str) -> str:
    return ENGINES.get(name, name)


def formats(precision: Mapping[str, str]) -> str:
    """
    >>> formats({"weights": "fp8", "activations": "fp8", "kv_cache": "bf16"})
    'fp8 weights, bf16 KV cache'
    """
    return f"{precision['weights']} weights, {precision['kv_cache']} KV cache"


def estimate_deployment(answer: Answer) -> str:
    how = f"{layout(answer['parallelism'])}, {answer['precision']['weights']}, {engine(answer['engine'])}"
    return f"{answer['devices']} × {answer['accelerator']} ({how})"


def _fleet(answer: Answer, devices: int) -> str:
    """So many devices in replicas of the deployment that an answer is about."""
    ways, each = answer["parallelism"], answer["devices"] // answer["parallelism"]["replicas"]
    how = f"{layout({**ways, 'replicas': 1})}, {answer['precision']['weights']}, {engine(answer['engine'])}"
    copies = f"{devices // each} × " if devices > each else ""
    return f"{devices} × {answer['accelerator']} ({copies}{how})"


def spoken(sentence: str) -> str:
    """A sentence with the names of limits as a person says them, and a capital first.

    >>> spoken("ttft_p95 below 316 ms"), spoken("load above 17/s")
    ('TTFT p95 below 316 ms', 'Load above 17/s')
    """
    told = re.sub(r"\b(ttft|tpot|itl|e2e)_p([0-9.]+)\b", lambda found: f"{METRICS[found[1]]} p{found[2]}", sentence)
    return told[:1].upper() + told[1:]


def token_word(option: Answer) -> str:
    """Which tokens an option's cost is over: a model that generates none has no TPOT."""
    return "output tokens" if option["tpot_s"] else "tokens"


def option_deployment(option: Answer) -> str:
    """
    >>> one = {"tensor": 2}
    >>> option_deployment({"devices": 5, "gpu": "H100-SXM", "replicas": 1, "parallelism": one, "prefill_replicas": 3,
    ...     "prefill_parallelism": {"tensor": 1}, "precision": "fp8", "engine": "vllm"})
    '5 × H100-SXM as 3 × TP1 for prefill and 1 × TP2 for decode (fp8, vLLM)'
    """
    replicas = f"{option['replicas']} × {layout(option['parallelism'])}"
    if option["prefill_parallelism"]:
        replicas = f"{option['prefill_replicas']} × {layout(option['prefill_parallelism'])} for prefill and {replicas} for decode"
    return f"{option['devices']} × {option['gpu']} as {replicas} ({option['precision']}, {engine(option['engine'])})"


def deployment(case: Case) -> str:
    """The deployment that a case is about, in a line."""
    answer = case.answer or {}
    if case.question == "estimate":
        return estimate_deployment(answer)
    if case.question == "plan":
        return option_deployment(answer["options"][0])
    below = case.evidence.get("estimate")
    if case.question == "simulate" and below and not answer.get("prefill_pool"):
        return estimate_deployment(below)
    if case.question == "cost" and below and "prefill_estimate" not in case.evidence:
        return _fleet(below, answer["devices"])
    return str(answer.get("deployment", NONE))


def limit(name: str) -> str:
    """
    >>> limit("ttft_p95"), limit("tpot_s"), limit("tpot_p99_s")
    ('TTFT p95', 'mean TPOT', 'TPOT p99')
    """
    metric, _, percentile = name.removesuffix("_s").partition("_")
    word = METRICS.get(metric, metric)
    return f"{word} {percentile}" if percentile else f"mean {word}"
