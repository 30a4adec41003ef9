"""The four choices: retrieval or long context, prompt or weights, own devices or an API, a cascade or the large model.

Each function makes the ways of one question from language models; figures are per query. Money that is paid by the month is shared by
the month's queries. What is not counted is said at each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from infersim.adapters.training import training_cost
from infersim.agents import policies
from infersim.decide.choice import Choice, Figures, Values, Way
from infersim.decide.models import Priced
from infersim.errors import SpecError
from infersim.planning.assumptions import Assumption, Assumptions
from infersim.planning.calls import Deployed
from infersim.planning.known import Knowledge, knowledge
from infersim.planning.ownership import HOURS_PER_MONTH
from infersim.planning.service import capacity_of, service_curve
from infersim.retrieval.answer import RetrievalAnswer
from infersim.serving.target import Limit

MONTH = HOURS_PER_MONTH * 3600.0
"""Seconds of a month."""
STEPS = 1e4
"""Replicas up to which the steps of their number are looked at one by one, or nearly so."""


def _choice(
    known: Knowledge, models: Iterable[Priced], ways: Iterable[Way], *, without: tuple[str, ...] = (), **more: Any
) -> Choice:
    listed = list(models)
    items = (*known.items(without=without), *(item for model in listed for item in model.items))
    sources = tuple(dict.fromkeys(line for model in listed for line in model.sources))
    return Choice(known.title, known.over, Assumptions(items), tuple(ways), known.quality, sources, **more)


def retrieval_or_context(model: Priced, *, known_hit: bool = False, data: str = "rag-vs-long-context") -> Choice:
    """Passages of the corpus in the prompt, all of it, or all of it kept in a prefix cache.

    A cached corpus is found with the chance that the last question about it was less than its time to live ago and the corpus has not
    changed since (Poisson arrivals; questions that come in sessions hit more often). With ``known_hit`` that chance is the assumption
    ``hit_rate`` instead, and keeping the prefix is not charged. Own devices: a sequence that decodes holds the whole context by itself,
    also where several share it. Not counted: price steps by prompt length, building the retriever once.

    Source of the comparison: Li et al., Retrieval Augmented Generation or Long-Context LLMs?, arXiv:2407.16833.
    """
    known = knowledge(data)

    def prefix(v: Values) -> Any:
        return np.asarray(v["instruction_tokens"], dtype=float) + v["corpus_tokens"]

    def retrieval(v: Values) -> Figures:
        passages = np.asarray(v["retrieved_passages"], dtype=float) * v["passage_tokens"]
        fresh = np.minimum(passages, v["corpus_tokens"]) + v["instruction_tokens"] + v["question_tokens"]
        one = model.call(v, fresh, v["output_tokens"])
        embedded = (
            np.asarray(v["corpus_tokens"], dtype=float)
            * v["corpus_changes_per_month"]
            * v["embedding_usd_per_million"]
            / 1e6
        )
        monthly = (v["index_usd_per_month"] + embedded) / v["queries_per_month"]
        waited = v["retrieval_seconds"]
        return Figures(one.usd + v["retrieval_usd_per_query"] + monthly, one.ttft + waited, one.e2e + waited)

    def context(v: Values) -> Figures:
        one = model.call(v, prefix(v) + v["question_tokens"], v["output_tokens"])
        return Figures(one.usd, one.ttft, one.e2e)

    def cached(v: Values) -> Figures:
        if known_hit:
            hit, kept = v["hit_rate"], 0.0
        else:
            rate = np.asarray(v["queries_per_month"], dtype=float) / MONTH
            hit, kept = model.kept(v, prefix(v), rate, np.asarray(v["corpus_changes_per_month"], dtype=float) / MONTH)
        one = model.with_prefix(v, prefix(v), v["question_tokens"], v["output_tokens"], hit)
        return Figures(one.usd + kept, one.ttft, one.e2e)

    unused = ("cache_ttl",) if known_hit or model.scheme is not None else ()
    found = _choice(known, [model], (Way("RAG", retrieval), Way("long context, cached", cached), Way("long context", context)),
                    without=unused)  # fmt: skip
    if not known_hit:
        return found
    hit = knowledge("finetune").assumptions["hit_rate"].assumption("hit_rate")
    return replace(found, assumptions=found.assumptions.joined(Assumptions((hit,))))


def with_retrieval(choice: Choice, found: RetrievalAnswer) -> Choice:
    """The same choice with what a worked-out retrieval takes and costs: copies for its rate around the clock, and its charges.

    Its queries, its corpus and its passages become those of the choice. SpecError where a price in it is not known.
    """
    month, ingestion, spec = found.usd_per_month, found.ingestion, found.spec
    if month is None or ingestion.usd is None or ingestion.usd_per_month is None:
        raise SpecError("has hardware without a price on file; give gpu_hour or host_hour", field="retrieval")
    queries = spec.queries_per_second * MONTH
    charged = math.fsum(stage.charged for stage in found.stages)
    told = {
        "queries_per_month": queries, "corpus_tokens": spec.corpus.documents * spec.corpus.mean_tokens,
        "question_tokens": spec.query_tokens, "retrieved_passages": float(spec.top_k), "passage_tokens": spec.corpus.chunk,
        "retrieved_tokens": spec.top_k * spec.corpus.chunk, "corpus_changes_per_month": spec.corpus.changed_per_day * 365 / 12,
        "embedding_usd_per_million": ingestion.usd / ingestion.tokens * 1e6, "retrieval_seconds": found.seconds,
        "index_usd_per_month": month - charged * queries - ingestion.usd_per_month, "retrieval_usd_per_query": charged,
    }  # fmt: skip
    sources = tuple(dict.fromkeys((*choice.sources, *(f"retrieval: {line}" for line in found.sources))))
    known = choice.given({name: value for name, value in told.items() if name in choice.assumptions.names})
    return replace(known, sources=sources)


def tuning_usd(v: Values) -> Any:
    """USD that tuning takes once in a refresh period: tokens x runs x their price, and people's time for data and evaluation."""
    tokens = np.asarray(v["training_tokens"], dtype=float) * v["training_runs"]
    return tokens * v["training_usd_per_million"] / 1e6 + v["data_and_evaluation_usd"]


def prompt_or_weights(model: Priced, tuned: Priced | None = None) -> Choice:
    """Instructions and examples in the prompt, retrieved passages in the prompt, or a fine-tuned model with a short prompt.

    ``tuned`` is the model that is tuned, by default the same one. Training, data and evaluation are paid once in every refresh period:
    N* = C / (c_prompt - c_tuned) queries in that period. A model on own devices is trained by
    LoRA on devices of its kind. Not counted: the people who write prompts.

    Sources: Hu et al., LoRA, arXiv:2106.09685; Ovadia et al., Fine-Tuning or Retrieval?, arXiv:2312.05934.
    """
    known, after = knowledge("finetune"), tuned or model

    def prompting(v: Values) -> Figures:
        one = model.with_prefix(
            v, np.asarray(v["prompt_tokens"], dtype=float), v["question_tokens"], v["output_tokens"], v["hit_rate"]
        )
        return Figures(one.usd, one.ttft, one.e2e)

    def retrieval(v: Values) -> Figures:
        fresh = np.asarray(v["short_prompt_tokens"], dtype=float) + v["retrieved_tokens"] + v["question_tokens"]
        one = model.call(v, fresh, v["output_tokens"])
        usd = one.usd + v["retrieval_usd_per_query"] + np.asarray(v["index_usd_per_month"]) / v["queries_per_month"]
        return Figures(usd, one.ttft + v["retrieval_seconds"], one.e2e + v["retrieval_seconds"])

    def weights(v: Values) -> Figures:
        one = after.call(
            v, np.asarray(v["short_prompt_tokens"], dtype=float) + v["question_tokens"], v["output_tokens"]
        )
        monthly = tuning_usd(v) / v["refresh_months"] + v["tuned_hosting_usd_per_month"]
        return Figures(one.usd * v["tuned_price_factor"] + monthly / v["queries_per_month"], one.ttft, one.e2e)

    models = [model] if after is model else [model, after]
    found = _choice(known, models, (Way("prompting", prompting), Way("RAG", retrieval), Way("fine-tuning", weights)))
    if not isinstance(after.model, Deployed):
        return found
    one = after.model.deployment
    run = training_cost(one.model, 1e6, "lora", one.machine.accelerator, usd_per_gpu_hour=one.price_per_hour)
    price, told = float(run.usd or 0.0), "; ".join(run.sources)
    own = Assumption.around("training_usd_per_million", price, 0.5 * price, 3.0 * price, unit="USD/M tokens",
                            source=f"LoRA on {run.accelerator}: {told}; range assumed")  # fmt: skip
    return found.given({own.name: own})


def own_or_api(own: Priced, api: Priced, *, limits: tuple[Limit, ...] = ()) -> Choice:
    """Replicas of one's own for the busiest hour, paid around the clock, or an API that is paid by the token.

    A replica serves what its closed form says within ``limits``; lengths are those of the deployment's workload, so ``input_tokens``
    and ``output_tokens`` move what the API charges and the rate of a replica in proportion to its device time. Latency of own replicas
    is that of the deployment's workload. Not counted: interest, growth (see ``infersim cost`` and ``infersim size``).
    """
    if not isinstance(own.model, Deployed):
        raise SpecError("is a model on own devices, not an API", field="model")
    known, one = knowledge("self-host-vs-api"), own.model.deployment
    single = replace(one, parallelism=one.parallelism.model_copy(update={"replicas": 1}))
    most = float(capacity_of(service_curve(single), limits).rate)
    if most <= 0:
        raise SpecError(f"{one.describe()} meets no load within the target", field="target")
    devices, mean = one.parallelism.devices_per_replica, one.workload
    timed = replace(own, model=Deployed(replace(one, price_per_hour=1.0)), memory={})
    usual = float(timed.model.call(mean.input_tokens, mean.output_tokens, mean.cached_tokens).usd)

    def alone(v: Values) -> Any:
        """A call at these lengths; its ``usd`` at one USD an hour is its device time."""
        prompt = np.asarray(v["input_tokens"], dtype=float)
        unpriced = {**v, own.prefix + "gpu_hour": 1.0, own.prefix + "gpu_utilisation": 1.0}
        return timed.call(unpriced, prompt, v["output_tokens"], prompt * v["hit_rate"])

    def hosting(v: Values) -> Figures:
        call, busiest = alone(v), np.asarray(v["queries_per_month"], dtype=float) / MONTH * v["peak_to_mean"]
        needed = np.ceil(busiest * call.usd / (most * usual * np.asarray(v["capacity_factor"])) * (1 - 1e-12))
        hours = (needed + np.ceil(v["spare_replicas"])) * devices * HOURS_PER_MONTH * v[own.prefix + "gpu_hour"]
        return Figures((hours + v["operation_usd_per_month"]) / v["queries_per_month"], call.ttft, call.e2e)

    def buying(v: Values) -> Figures:
        prompt = np.asarray(v["input_tokens"], dtype=float)
        call = api.call(v, prompt, v["output_tokens"], prompt * v["hit_rate"])
        return Figures(call.usd, call.ttft, call.e2e)

    def steps(v: Values) -> Any:
        """Loads at which one more replica is needed, from both sides."""
        each = most * v["capacity_factor"] * usual / float(alone(v).usd) / v["peak_to_mean"] * MONTH
        edges = np.unique(np.round(np.geomspace(1, STEPS, 300))) * each
        return np.concatenate([edges * (1 - 1e-9), edges * (1 + 1e-9)])

    paid = replace(own, items=tuple(item for item in own.items if not item.name.endswith("gpu_utilisation")))
    found = _choice(known, [paid, api], (Way("own devices", hosting), Way("API", buying)), knots=steps)
    told: dict[str, Any] = {"hit_rate": mean.prefix_hit}
    for name in ("input_tokens", "output_tokens"):
        figure, base = known.assumptions[name], float(getattr(mean, name))
        told[name] = (max(base * figure.low / figure.value, 1.0), base, base * figure.high / figure.value)
    return found.given({name: value for name, value in told.items() if name != found.over})


def cascade(small: Priced, large: Priced) -> Choice:
    """Every query to the small model, and again to the large one where a judge refuses the answer: c_s + c_j + (1 - a) c_l.

    It pays where a > (c_s + c_j) / c_l. The large model reads the question afresh. Not counted: wrong answers that the judge accepts.

    Source: Chen, Zaharia, Zou, FrugalGPT, arXiv:2305.05176.
    """
    known = knowledge("cascade")

    def alone(v: Values) -> Figures:
        one = large.call(v, v["input_tokens"], v["output_tokens"])
        return Figures(one.usd, one.ttft, one.e2e)

    def both(v: Values) -> Figures:
        first, second = (model.call(v, v["input_tokens"], v["output_tokens"]) for model in (small, large))
        accepted, wait = np.asarray(v["acceptance"], dtype=float), v["judge_seconds"]
        usd = policies.cascade(accepted, first.usd, second.usd, v["judge_usd"])
        return Figures(
            usd, *(policies.cascade(accepted, first.e2e, seconds, wait) for seconds in (second.ttft, second.e2e))
        )

    return _choice(known, [small, large], (Way("large model", alone), Way("small first", both)))
