"""What a workflow takes and costs: closed form, simulation and, under load, the serving simulator, in one value."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infersim import units
from infersim.agents.crowd import CrowdAnswer, together
from infersim.agents.residency import Residency, residency_on
from infersim.agents.spec import LlmCall, OwnModel, Workflow, as_workflow
from infersim.agents.surfaces import models_of
from infersim.agents.unfold import ENDS, STOP, Unfolded, unfold
from infersim.agents.walk import METRICS, Rules, Walk, walk
from infersim.errors import DoesNotFitError, SpecError
from infersim.planning.apis import api_of
from infersim.planning.calls import Deployed, LanguageModel
from infersim.predict.deploy import deploy
from infersim.predict.estimate import Estimate
from infersim.predict.interval import Interval
from infersim.specs.api import ApiModel

PERCENTS = (50, 90, 95, 99)
BINS = 48
WIDTH = 80


@dataclass(frozen=True)
class AgentAnswer:
    """Figures of one task. Times in seconds, money in USD, tokens of all calls together.

    ``latency_s`` is the time of calls and tools, ``people_s`` that of people, ``elapsed_s`` both. Means and standard deviations are those
    of the Markov chain, exact for what the spec says (a deployment's times at their tangent), unless a limit on money, time or context
    was met: then they are the simulated tasks'. Percentiles are always theirs.
    """

    workflow: Workflow
    models: Mapping[str, LanguageModel]
    deployment: Estimate | None
    unfolded: Unfolded = field(repr=False)
    walk: Walk = field(repr=False)
    seed: int = 0
    crowd: CrowdAnswer | None = None
    residency: Residency | None = None
    """Of the deployment's conversations over the mean pause."""
    pause: float = 0.0
    """Mean pause between calls of the deployment [s]."""

    # -- figures -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def closed_form(self) -> bool:
        """Whether means and standard deviations are the chain's."""
        return self.walk.stopped_by("max_cost", "max_time", "context") == 0

    @functools.cached_property
    def chain(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of every metric by the chain, limits on money, time and context aside."""
        found = {}
        for metric in METRICS:
            mean, variance = self.unfolded.chain.moments(self.unfolded.charges[metric])
            found[metric] = (mean, variance**0.5)
        return found

    def mean(self, metric: str) -> float:
        """Mean of a task."""
        simulated = self.walk.of(metric)
        return self.chain[metric][0] if self.closed_form else float(simulated.mean())

    def sd(self, metric: str) -> float:
        """Standard deviation from task to task."""
        simulated = self.walk.of(metric)
        return self.chain[metric][1] if self.closed_form else float(simulated.std())

    def percentile(self, metric: str, percent: float) -> float:
        """Of simulated tasks."""
        return float(np.percentile(self.walk.of(metric), percent))

    def interval(self, metric: str = "latency_s", percent: int = 90) -> Interval | None:
        """The 50% or 90% interval of a mean time (``latency_s``, ``elapsed_s``): the doubt of the deployments' predictions, call by call in
        proportion; chances, lengths, tools and APIs are taken as given. None where nothing of it is predicted with an interval."""
        if metric not in ("latency_s", "elapsed_s"):
            raise SpecError(f"an interval is kept for latency_s and elapsed_s, not for {metric!r}", field="metric")
        spent, low, high = self.unfolded.spent(metric), 0.0, 0.0
        for name, state in self.workflow.states.items():
            model = self.models.get(state.model or "deployment") if isinstance(state, LlmCall) else None
            doubt = model.deployment.interval("e2e", percent) if isinstance(model, Deployed) else None
            if doubt is not None and isinstance(model, Deployed):
                low += spent[name] * (doubt.low / model.deployment.e2e - 1)
                high += spent[name] * (doubt.high / model.deployment.e2e - 1)
        if low == high == 0:
            return None
        scale = self.mean(metric) / (sum(spent.values()) or 1.0)
        return Interval(self.mean(metric) + scale * low, self.mean(metric) + scale * high, percent)

    @property
    def success(self) -> float:
        """Share of the tasks that end well."""
        return float(self.unfolded.chain.ending[0]) if self.closed_form else self.walk.success

    @property
    def ends(self) -> dict[str, float]:
        """How tasks end: success, failure, or stopped by a limit."""
        if self.closed_form:
            return {name: float(self.unfolded.chain.ending[column]) for name, column in ENDS.items()}
        stopped = sum(self.walk.stopped.values())
        return {"success": self.walk.success, "failure": 1 - self.walk.success - stopped, STOP: stopped}

    @property
    def usd_per_success(self) -> float:
        """What a task that ends well costs, those that do not included [USD]."""
        return self.mean("usd") / self.success if self.success > 0 else float("inf")

    @property
    def cached_share(self) -> float:
        """Share of the prompt tokens that the cache holds."""
        prompt = self.mean("prompt_tokens")
        return self.mean("cached_tokens") / prompt if prompt else 0.0

    @functools.cached_property
    def states(self) -> list[dict[str, Any]]:
        """By state: visits, and its parts of the mean latency and cost of a task (the chain's), largest part of the latency first."""
        visits, seconds, usd = self.unfolded.visits(), self.unfolded.spent("elapsed_s"), self.unfolded.spent("usd")
        rows = [
            {"state": name, "kind": state.kind, "visits": visits.get(name, 0.0), "elapsed_s": seconds.get(name, 0.0),
             "usd": usd.get(name, 0.0), "waited_for": dict(self.walk.critical.get(name, {}))}
            for name, state in self.workflow.states.items()
        ]  # fmt: skip
        return sorted(rows, key=lambda row: -row["elapsed_s"])

    @property
    def critical_path(self) -> list[str]:
        """States by their part of a task's time, the longest first; of parallel branches the one mostly waited for."""
        found = []
        for row in self.states:
            branches = row["waited_for"]
            found.append(row["state"] + (f" ({max(branches, key=branches.get)})" if branches else ""))
        return found

    @property
    def sources(self) -> list[str]:
        found = [f"{name}: {source}" for name, model in self.models.items() for source in model.sources]
        found.append(f"workflow {self.workflow.name}: chances, lengths and times as given")
        if any(state.kind == "parallel" for state in self.workflow.states.values()):
            found.append("parallel branches: moments of 20,000 simulated visits")
        return list(dict.fromkeys(found))

    # -- out -----------------------------------------------------------------------------------------------------------

    def distribution(self, metric: str) -> dict[str, Any]:
        """Shares of simulated tasks between edges, up to the 99.5th percentile, for a picture."""
        values = self.walk.of(metric)
        end = float(np.percentile(values, 99.5))
        low = float(values.min())
        edges = np.linspace(low, end if end > low else low + max(abs(low), 1.0) * 1e-3, BINS + 1)
        counts, _ = np.histogram(values, edges)
        return {"edges": edges.tolist(), "share": (counts / len(values)).tolist()}

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units."""
        figures = {
            metric: {"mean": self.mean(metric), "sd": self.sd(metric)}
            | {f"p{p}": self.percentile(metric, p) for p in PERCENTS}
            for metric in METRICS
        }
        return {
            "workflow": self.workflow.name, "deployment": self.deployment.describe() if self.deployment else None,
            "models": {name: model.name for name, model in self.models.items()}, "closed_form": self.closed_form,
            "simulated_tasks": self.walk.runs, "seed": self.seed, "ends": self.ends, "stopped_by": dict(self.walk.stopped),
            "intervals": {metric: None if found is None else {"low": found.low, "high": found.high, "percent": found.percent}
                          for metric in ("latency_s", "elapsed_s") for found in (self.interval(metric),)},
            "usd_per_success": self.usd_per_success if self.success > 0 else None, "cached_share": self.cached_share,
            **figures, "states": self.states, "critical_path": self.critical_path,
            "distribution": {metric: self.distribution(metric) for metric in ("elapsed_s", "latency_s", "usd", "calls")},
            "crowd": self.crowd.to_dict() if self.crowd else None, "pause_s": self.pause,
            "residency": dict(self.residency.to_dict()) if self.residency else None, "sources": self.sources,
        }  # fmt: skip

    def __str__(self) -> str:
        ends = ", ".join(f"{name} {share:.1%}" for name, share in self.ends.items() if share > 5e-5)
        calls = f"{self.mean('calls'):.3g} model calls and {self.mean('tool_calls'):.3g} tool calls a task"
        lines = [f"{self.workflow.name}: {ends}", calls]
        lines.append(f"{'of a task':<14}{'mean':>11}{'sd':>11}{'p50':>11}{'p95':>11}{'p99':>11}")
        shown = [("latency", "latency_s"), ("with people", "elapsed_s"), ("cost [USD]", "usd"), ("prompt tokens", "prompt_tokens"),
                 ("output tokens", "output_tokens")]  # fmt: skip
        for name, metric in shown:
            if metric == "elapsed_s" and self.mean("people_s") == 0:
                continue
            figures = [self.mean(metric), self.sd(metric), *(self.percentile(metric, p) for p in (50, 95, 99))]
            lines.append(f"{name:<14}" + "".join(f"{_shown(metric, value):>11}" for value in figures))
        lines.append(f"{self.cached_share:.0%} of the prompt tokens cached; {self.usd_per_success:.4g} USD per success")
        doubt = self.interval("latency_s")
        if doubt is not None:
            lines.append(
                f"90% interval of the mean latency: {units.show(doubt.low, 's')} to {units.show(doubt.high, 's')}"
            )
        lines.append(f"{'state':<20}{'visits':>8}{'time':>10}{'':>6}{'USD':>12}")
        whole, paid = sum(row["elapsed_s"] for row in self.states) or 1.0, sum(row["usd"] for row in self.states) or 1.0
        lines += [
            f"{row['state'][:19]:<20}{row['visits']:>8.3g}{units.show(row['elapsed_s'], 's'):>10}{row['elapsed_s'] / whole:>6.0%}"
            f"{row['usd']:>12.3g}{row['usd'] / paid:>6.0%}"
            for row in self.states
        ]
        if self.crowd is not None:
            lines += self.crowd.lines()
        if self.residency is not None:
            lines.append(
                f"KV cache over a mean pause of {units.show(self.pause, 's')}: {self.residency.best} wastes least"
            )
        if not self.closed_form:
            lines.append(f"means of {self.walk.runs:,} simulated tasks: a limit on money, time or context was met")
        return "\n".join(
            part
            for line in lines
            for part in (textwrap.wrap(line, WIDTH, subsequent_indent="  ") if len(line) > WIDTH else [line])
        )


def _shown(metric: str, value: float) -> str:
    if metric == "usd":
        return f"{value:.3g}"
    return units.show(value, "s") if metric.endswith("_s") else f"{value:,.0f}"


def language_models(
    workflow: Workflow, deployment: Estimate | None
) -> tuple[dict[str, LanguageModel], Deployed | None]:
    """The models that a workflow names, ready to be called, and the deployment."""
    named: dict[str, LanguageModel] = {}
    for name, told in workflow.models.items():
        if isinstance(told, ApiModel):
            if told.ttft is not None and told.prefill_rate is None:  # a stated TTFT is that of the workflow's prompts
                told = told.model_copy(update={"prefill_rate": float("inf")})
            named[name] = api_of(told, name)
        elif isinstance(told, OwnModel):
            named[name] = _fitting(deploy(told, told.load))
    own = None if deployment is None else _fitting(deployment)
    for path, call in workflow.calls():
        if call.model is None and own is None:
            known = f", one of {', '.join(workflow.models)}" if workflow.models else " of the workflow's"
            raise SpecError(f"there is no deployment to run on; name a model{known}", field=f"states.{path}.model")
    return named, own


def _fitting(deployment: Estimate) -> Deployed:
    if not deployment.fits:
        raise DoesNotFitError(
            f"{deployment.describe()} does not fit; {deployment.remedies}", shortfall=deployment.memory.shortfall
        )
    return Deployed(deployment)


def answer(
    spec: Workflow | dict[str, Any] | str | Path,
    deployment: Estimate | None = None,
    *,
    runs: int = 20_000,
    seed: int = 0,
) -> AgentAnswer:
    """What tasks of a workflow take and cost. ``spec``: a workflow, a mapping, or a YAML file; ``deployment``: what calls without a model
    of their own run on, at its load. ``runs`` tasks are simulated for percentiles; the same seed gives the same ones.

    >>> told = answer({"start": "try", "states": {"try": {"kind": "tool", "time": "2 s", "price": "0.01 USD",
    ...                                                   "next": {"try": 0.8, "success": 0.2}}}})
    >>> told.mean("latency_s"), told.sd("tool_calls") ** 2, round(told.mean("usd"), 6)
    (10.0, 20.0, 0.05)
    """
    workflow = as_workflow(spec)
    named, own = language_models(workflow, deployment)
    rules = Rules(models_of(named, own), workflow.cache, workflow.limits)
    walked = walk(workflow, rules.surfaces, runs=runs, seed=seed)
    unfolded = unfold(workflow, rules, seed)
    models: dict[str, LanguageModel] = dict(named) if own is None else {**named, "deployment": own}
    first = AgentAnswer(workflow, models, deployment, unfolded, walked, seed)
    if own is None or not walked.own_calls.any():
        if workflow.crowd is not None:
            raise SpecError("no call of the workflow runs on a deployment that a crowd could share", field="crowd")
        return first
    seconds, lengths, context = _own_part(first, own)
    pauses = np.concatenate(walked.turns.pause)
    pause = float(np.nanmean(pauses)) if (~np.isnan(pauses)).any() else 0.0
    kept = residency_on(own, pause, context) if pause > 0 else None
    crowd = None
    if workflow.crowd is not None:
        crowd = together(
            own.deployment,
            walked,
            workflow.crowd,
            workflow.task_tokens,
            own_seconds=seconds,
            lengths=lengths,
            seed=seed,
        )
    return AgentAnswer(workflow, models, deployment, unfolded, walked, seed, crowd, kept, pause)


def _own_part(found: AgentAnswer, own: Deployed) -> tuple[float, tuple[float, float, float], float]:
    """Seconds of a task's calls of the deployment; mean prompt, output and cached tokens of one; mean context after it."""
    names = [name for name, state in found.workflow.states.items()
             if isinstance(state, LlmCall) and state.model is None and state.context == "conversation"]  # fmt: skip
    seconds, prompt, output, cached, calls = (
        sum(found.unfolded.spent(metric)[name] for name in names)
        for metric in ("latency_s", "prompt_tokens", "output_tokens", "cached_tokens", "calls")
    )
    calls = max(calls, 1e-9)
    return seconds, (prompt / calls, output / calls, cached / calls), (prompt + output) / calls
