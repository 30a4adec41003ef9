"""Monte Carlo: many tasks at once take the workflow step by step, as arrays. The same seed gives the same tasks.

All tasks that wait at one state are moved together, so that the cost is a few array operations per state and length of the longest task.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.agents.spec import (
    FAILURE,
    SUCCESS,
    Branch,
    ConversationCache,
    Human,
    Limits,
    LlmCall,
    Parallel,
    Tool,
    Workflow,
)
from infersim.agents.surfaces import Surface
from infersim.errors import SpecError

METRICS = (
    "latency_s",
    "people_s",
    "elapsed_s",
    "usd",
    "calls",
    "tool_calls",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
)
"""What is added up along a task: time of calls and tools, time of people, both; money; attempts; tokens."""
ROW = {name: row for row, name in enumerate(METRICS)}
DONE, FAILED, STOPPED = 1, 2, 3
ENDS = {SUCCESS: DONE, FAILURE: FAILED}
MOST_RUNS, MOST_MOVES = 10_000_000, 200_000
TASKS_KEPT = 2_000
"""Tasks whose calls of the deployment are kept to draw traffic from."""
Array = npt.NDArray[np.float64]


@dataclass
class Turns:
    """Calls of the deployment, as the serving simulator takes them: new and output tokens, and the pause before each (NaN: the first)."""

    fresh: list[Array] = field(default_factory=list)
    output: list[Array] = field(default_factory=list)
    pause: list[Array] = field(default_factory=list)

    def add(self, fresh: Array, output: Array, pause: Array) -> None:
        self.fresh.append(fresh)
        self.output.append(output)
        self.pause.append(pause)


@dataclass(frozen=True)
class Walk:
    """Simulated tasks: one column per task in ``totals``, one row per metric."""

    totals: Array = field(repr=False)
    ends: npt.NDArray[np.int8] = field(repr=False)
    visits: Mapping[str, float]
    """Mean visits by state."""
    stopped: Mapping[str, float]
    """Share of the tasks that a limit ended, by limit."""
    critical: Mapping[str, Mapping[str, float]]
    """By parallel state: how often each branch was the last (or, where the first counts, the one waited for)."""
    own_calls: npt.NDArray[np.int64] = field(repr=False)
    """Calls of the deployment, by task."""
    turns: Turns = field(repr=False)
    prefix: float = 0.0
    """Mean prefix of the calls of the deployment [tokens]."""

    @property
    def runs(self) -> int:
        return len(self.ends)

    def of(self, metric: str) -> Array:
        """A metric of every task."""
        if metric not in ROW:
            from infersim.errors import did_you_mean

            raise SpecError(f"no metric is called {metric!r}; {did_you_mean(metric, METRICS)}", field="metric")
        row: Array = self.totals[ROW[metric]]
        return row

    @property
    def success(self) -> float:
        return float(np.mean(self.ends == DONE))

    def stopped_by(self, *limits: str) -> float:
        """Share of the tasks that one of these limits ended."""
        return sum(self.stopped.get(name, 0.0) for name in limits)


@dataclass(frozen=True)
class Rules:
    """What holds for every state of a workflow."""

    surfaces: Mapping[str | None, Surface]
    cache: ConversationCache
    limits: Limits


def walk(workflow: Workflow, surfaces: Mapping[str | None, Surface], *, runs: int = 20_000, seed: int = 0) -> Walk:
    """``runs`` tasks of a workflow. Raises SpecError where a task does not come to an end in 200,000 moves."""
    if isinstance(runs, bool) or not isinstance(runs, int) or not 1 <= runs <= MOST_RUNS:
        raise SpecError(f"is a whole number from 1 to {MOST_RUNS:,}, got {runs!r}", field="runs")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SpecError(f"must be a whole number from zero on, got {seed!r}", field="seed")
    tasks = _Tasks(workflow, Rules(surfaces, workflow.cache, workflow.limits), np.random.default_rng(seed), runs)
    tasks.context += workflow.task_tokens
    tasks.run()
    critical = {name: {branch: count / sum(counts.values()) for branch, count in counts.items()}
                for name, counts in tasks.critical.items()}  # fmt: skip
    return Walk(tasks.totals, tasks.ends, {name: count / runs for name, count in tasks.visits.items()},
                {name: count / runs for name, count in tasks.stopped.items()}, critical, tasks.own_calls, tasks.turns,
                tasks.prefixes / max(int(tasks.own_calls.sum()), 1))  # fmt: skip


def walk_branches(
    state: Parallel, rules: Rules, generator: np.random.Generator, count: int
) -> tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Totals, success and the branch that was waited for, of ``count`` visits of a parallel state."""
    inner = Rules(rules.surfaces, rules.cache, Limits())
    every = []
    for branch in state.branches.values():
        tasks = _Tasks(branch, inner, generator, count)
        tasks.run()
        every.append(tasks)
    totals = np.sum([tasks.totals for tasks in every], axis=0)
    times = np.array([tasks.totals[ROW["latency_s"]] for tasks in every])
    good = np.array([tasks.ends == DONE for tasks in every])
    if state.join == "all":
        success, waited, time = good.all(axis=0), times.argmax(axis=0), times.max(axis=0)
    else:
        success = good.any(axis=0)
        until = np.where(good | ~success, times, np.inf)
        waited = np.where(success, until.argmin(axis=0), times.argmax(axis=0))
        time = np.where(success, until.min(axis=0), times.max(axis=0))
    totals[ROW["latency_s"]] = totals[ROW["elapsed_s"]] = time
    return totals, np.asarray(success), waited


class _Tasks:
    """Tasks under way in one workflow or branch."""

    def __init__(self, branch: Branch, rules: Rules, generator: np.random.Generator, count: int) -> None:
        self.branch, self.rules, self.generator = branch, rules, generator
        self.totals = np.zeros((len(METRICS), count))
        self.ends = np.zeros(count, dtype=np.int8)
        self.context, self.warm = np.zeros(count), np.zeros(count, dtype=bool)
        self.turn, self.attempt = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self.seen = {name: np.zeros(count, dtype=np.int64) for name, state in branch.states.items() if state.max_visits}
        self.visits: Counter[str] = Counter()
        self.stopped: Counter[str] = Counter()
        self.critical: dict[str, Counter[str]] = defaultdict(Counter)
        self.own_calls, self.turns, self.prefixes = np.zeros(count, dtype=np.int64), Turns(), 0.0
        self.since = np.full(count, np.nan)
        """Elapsed time at the end of the last call of the deployment."""
        self.waiting: dict[str, list[Any]] = defaultdict(list)
        self.waiting[branch.start].append(np.arange(count))

    def run(self) -> None:
        moves = 0
        while self.waiting:
            name = max(self.waiting, key=lambda state: sum(map(len, self.waiting[state])))
            parts = self.waiting.pop(name)
            self._visit(name, np.concatenate(parts) if len(parts) > 1 else parts[0])
            moves += 1
            if moves > MOST_MOVES:
                raise SpecError(
                    f"a task does not come to an end in {MOST_MOVES:,} moves; set limits.max_turns or max_visits",
                    field="states",
                )

    def _stop(self, tasks: Any, limit: str) -> None:
        if len(tasks):
            self.ends[tasks] = STOPPED
            self.stopped[limit] += len(tasks)

    def _visit(self, name: str, tasks: Any) -> None:
        state = self.branch.states[name]
        new = tasks if not self.attempt.any() else tasks[self.attempt[tasks] == 0]
        if name in self.seen:
            self.seen[name][new] += 1
            over = self.seen[name][tasks] > (state.max_visits or 0)
            self._stop(tasks[over], f"max_visits of {name}")
            tasks, new = tasks[~over], new[self.seen[name][new] <= (state.max_visits or 0)]
        if isinstance(state, LlmCall):
            if self.rules.limits.max_turns is not None:
                over = self.turn[tasks] >= self.rules.limits.max_turns
                self._stop(tasks[over], "max_turns")
                tasks, new = tasks[~over], new[self.turn[new] < self.rules.limits.max_turns]
            self.visits[name] += len(new)
            success, tasks = self._call(state, tasks)
        elif isinstance(state, Tool):
            self.visits[name] += len(new)
            success = self._tool(state, tasks)
        elif isinstance(state, Human):
            self.visits[name] += len(new)
            time = state.time.sample(self.generator, len(tasks))
            self._add(tasks, people_s=time, elapsed_s=time)
            self._cool(tasks, time)
            success = np.ones(len(tasks), dtype=bool)
        else:
            self.visits[name] += len(new)
            totals, success, waited = walk_branches(state, self.rules, self.generator, len(tasks))
            self.totals[:, tasks] += totals
            self._cool(tasks, totals[ROW["latency_s"]])
            names = list(state.branches)
            self.critical[name].update(
                {names[which]: int(count) for which, count in enumerate(np.bincount(waited, minlength=len(names)))}
            )
        tasks, success = self._within_limits(tasks, success)
        self._go_on(name, state, tasks, success)

    def _add(self, tasks: Any, **more: Any) -> None:
        for metric, values in more.items():
            self.totals[ROW[metric], tasks] += values

    def _cool(self, tasks: Any, time: Array) -> None:
        if self.rules.cache.lifetime is not None:
            self.warm[tasks] &= time < self.rules.cache.lifetime

    def _twice(self, chance: float, count: int) -> Any:
        return 1.0 + (self.generator.random(count) < chance) if chance else 1.0

    def _call(self, state: LlmCall, tasks: Any) -> tuple[Any, Any]:
        """Calls of a language model; returns which succeed, and the tasks whose call the model can hold."""
        talks = state.context == "conversation"
        fresh = state.input_tokens.sample(self.generator, len(tasks)).astype(float)
        output = state.output_tokens.sample(self.generator, len(tasks)).astype(float)
        prompt = state.prefix_tokens + fresh + (self.context[tasks] if talks else 0.0)
        quick = self.rules.surfaces[state.model]
        over = prompt + output > quick.longest
        if over.any():
            self._stop(tasks[over], "context")
            tasks, fresh, output, prompt = tasks[~over], fresh[~over], output[~over], prompt[~over]
        found = state.prefix_tokens * float(self.rules.cache.shared_prefix)
        cached = np.where(self.warm[tasks], prompt - fresh, found) if talks else np.full(len(tasks), found)
        cached = np.minimum(cached, prompt - 1) if self.rules.cache.enabled else np.zeros(len(tasks))
        if state.model is None and talks:
            kept = tasks < TASKS_KEPT
            if kept.any():
                pause = self.totals[ROW["elapsed_s"], tasks[kept]] - self.since[tasks[kept]]
                self.turns.add(fresh[kept], output[kept], pause)
            self.own_calls[tasks] += 1
            self.prefixes += state.prefix_tokens * len(tasks)
        seconds, usd = quick(prompt, output, cached)
        twice = self._twice(state.duplicates, len(tasks))
        self._add(tasks, latency_s=seconds, elapsed_s=seconds, usd=usd * twice, calls=twice, prompt_tokens=prompt * twice,
                  cached_tokens=cached * twice, output_tokens=output * twice)  # fmt: skip
        success = self._succeeds(state.success, len(tasks))
        self.turn[tasks] += 1
        if talks:
            self.context[tasks] += (fresh + output) * success
            self.warm[tasks] = True
            if state.model is None:
                self.since[tasks] = self.totals[ROW["elapsed_s"], tasks]
        return success, tasks

    def _tool(self, state: Tool, tasks: Any) -> Any:
        time = state.time.sample(self.generator, len(tasks))
        twice = self._twice(state.duplicates, len(tasks))
        self._add(tasks, latency_s=time, elapsed_s=time, usd=state.price * twice, tool_calls=twice)
        self._cool(tasks, time)
        return self._succeeds(state.success, len(tasks))

    def _succeeds(self, chance: float, count: int) -> Any:
        return np.ones(count, dtype=bool) if chance == 1 else self.generator.random(count) < chance

    def _within_limits(self, tasks: Any, success: Any) -> tuple[Any, Any]:
        for limit, metric, most in (
            ("max_cost", "usd", self.rules.limits.max_cost),
            ("max_time", "latency_s", self.rules.limits.max_time),
        ):
            if most is not None:
                over = self.totals[ROW[metric], tasks] > most
                self._stop(tasks[over], limit)
                tasks, success = tasks[~over], success[~over]
        return tasks, success

    def _go_on(self, name: str, state: Any, tasks: Any, success: Any) -> None:
        """Draw what follows of those that succeeded; the others try again or give up."""
        failed = tasks[~success]
        if len(failed):
            self.attempt[failed] += 1
            again = self.attempt[failed] <= getattr(state, "retries", 0)
            if again.any():
                self.waiting[name].append(failed[again])
            self._enter(state.on_failure, failed[~again])
        moved, targets = tasks[success], list(state.next)
        if len(targets) == 1:
            self._enter(targets[0], moved)
            return
        edges = np.cumsum([state.next[target] for target in targets])[:-1]
        chosen = np.searchsorted(edges, self.generator.random(len(moved)), side="right")
        for which, target in enumerate(targets):
            self._enter(target, moved[chosen == which])

    def _enter(self, target: str, tasks: Any) -> None:
        if not len(tasks):
            return
        self.attempt[tasks] = 0
        if target in ENDS:
            self.ends[tasks] = ENDS[target]
        else:
            self.waiting[target].append(tasks)
