"""A workflow as an absorbing chain: every state once per attempt, per count that a guard keeps, and per state of the cache.

Guards are exact this way (the chain is as long as they allow); what depends on the money or time spent so far is not a matter of states
and is left to simulation. A pause that is longer than the cache keeps a conversation is a state of its own, so that what is found in the
cache afterwards and how long the task took go together as they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from infersim.agents.markov import Chain, Charges
from infersim.agents.moments import mean_and_variance
from infersim.agents.spec import FAILURE, SUCCESS, Human, Limits, LlmCall, Parallel, Tool, Workflow
from infersim.agents.tangent import tangent
from infersim.agents.walk import METRICS, ROW, Rules, walk_branches
from infersim.errors import SpecError
from infersim.serving.durations import Part, split

MOST_NODES = 60_000
STOP = "limit"
"""The end of tasks that a guard stops."""
ENDS = {SUCCESS: 0, FAILURE: 1, STOP: 2}
BRANCH_RUNS = 20_000


class Node(NamedTuple):
    """A state as the chain knows it."""

    state: str
    part: int = 0
    """Which of the state's parts happens: a short or a long pause, branches that succeed or fail."""
    attempt: int = 0
    warm: bool = False
    """Whether the conversation is in the cache."""
    turn: int = 0
    """Calls so far, where a guard counts them."""
    seen: tuple[int, ...] = ()
    """Visits so far of the states with a cap."""


class Share(NamedTuple):
    """A part of a state: its chance, mean and mean square of each metric, whether the conversation outlives it, and whether it succeeds."""

    chance: float
    mean: Any
    square: Any
    warm: bool
    good: bool | None
    """None: by the state's chance of success."""


@dataclass(frozen=True)
class Unfolded:
    """The chain, its nodes, and what visits to them pay by metric."""

    chain: Chain
    nodes: list[Node]
    charges: dict[str, Charges]

    def by_state(self, values: Any) -> dict[str, float]:
        """Sums over the nodes of each state."""
        found: dict[str, float] = {}
        for node, value in zip(self.nodes, values, strict=True):
            found[node.state] = found.get(node.state, 0.0) + float(value)
        return found

    def visits(self) -> dict[str, float]:
        """Mean visits by state: attempts after the first are not visits."""
        first = [node.attempt == 0 for node in self.nodes]
        return self.by_state(self.chain.visits * np.asarray(first))

    def spent(self, metric: str) -> dict[str, float]:
        """Mean of a metric by the state that pays it; the sum over states is the mean of a task."""
        pay = self.charges[metric]
        return self.by_state(self.chain.visits * (pay.a + pay.b * self.chain.contexts[0]))


def unfold(workflow: Workflow, rules: Rules, seed: int = 0) -> Unfolded:
    """The chain of a workflow. Raises SpecError where guards make it longer than MOST_NODES."""
    builder = _Builder(workflow, rules, seed)
    builder.build()
    return builder.finish()


class _Builder:
    def __init__(self, workflow: Workflow, rules: Rules, seed: int) -> None:
        self.workflow, self.rules = workflow, rules
        self.generator = np.random.default_rng([seed, 7])
        self.limits: Limits = rules.limits
        self.capped = [name for name, state in workflow.states.items() if state.max_visits]
        self.talks = any(isinstance(s, LlmCall) and s.context == "conversation" for s in workflow.states.values())
        self.keeps = not (rules.cache.enabled and self.talks) or rules.cache.lifetime is None
        self.parts = {name: self._parts(state) for name, state in workflow.states.items()}
        self.places: dict[Node, int] = {}
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int, float, bool]] = []
        self.endings: list[tuple[int, int, float]] = []

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _parts(self, state: Any) -> list[Share]:
        """What may happen at a state, in disjoint parts."""
        if isinstance(state, LlmCall):
            return [Share(1.0, None, None, True, None)]
        if isinstance(state, Parallel):
            return self._branches(state)
        every = split(state.time, self.rules.cache.lifetime) if not self.keeps else (split(state.time, np.inf)[0],)  # type: ignore[arg-type]
        return [self._pause(state, part, warm=number == 0) for number, part in enumerate(every) if part.chance > 0]

    def _pause(self, state: Tool | Human, part: Part, *, warm: bool) -> Share:
        mean, square = np.zeros(len(METRICS)), np.zeros(len(METRICS))
        for metric in ("people_s" if isinstance(state, Human) else "latency_s", "elapsed_s"):
            mean[ROW[metric]], square[ROW[metric]] = part.mean, part.square
        if isinstance(state, Tool):
            p = state.duplicates
            for metric, amount in (("usd", state.price), ("tool_calls", 1.0)):
                mean[ROW[metric]], square[ROW[metric]] = amount * (1 + p), amount**2 * (1 + 3 * p)
        return Share(part.chance, mean, square, warm, None)

    def _branches(self, state: Parallel) -> list[Share]:
        """Moments of branches that run at once, by simulation: how the longest of them ends is no sum."""
        totals, good, _ = walk_branches(state, self.rules, self.generator, BRANCH_RUNS)
        warm = np.ones(len(good), dtype=bool)
        if not self.keeps:
            warm = totals[ROW["latency_s"]] < (self.rules.cache.lifetime or 0.0)
        found = []
        for succeeds in (True, False):
            for stays in (True, False):
                rows = (good == succeeds) & (warm == stays)
                if rows.any():
                    some = totals[:, rows]
                    found.append(Share(float(rows.mean()), some.mean(axis=1), (some**2).mean(axis=1), stays, succeeds))
        return found

    # -- nodes and edges -----------------------------------------------------------------------------------------------

    def _enter(
        self, name: str, warm: bool, turn: int, seen: tuple[int, ...], attempt: int = 0
    ) -> list[tuple[Node | int, float]]:
        """Where a task lands that goes to a state: its parts, or the end that a guard makes."""
        if name in (SUCCESS, FAILURE):
            return [(ENDS[name], 1.0)]
        state = self.workflow.states[name]
        if attempt == 0 and state.max_visits:
            place = self.capped.index(name)
            if seen[place] == state.max_visits:
                return [(ENDS[STOP], 1.0)]
            seen = (*seen[:place], seen[place] + 1, *seen[place + 1 :])
        if isinstance(state, LlmCall) and self.limits.max_turns is not None:
            if turn == self.limits.max_turns:
                return [(ENDS[STOP], 1.0)]
            turn += 1
        return [
            (Node(name, number, attempt, warm, turn, seen), part.chance) for number, part in enumerate(self.parts[name])
        ]

    def _place(self, node: Node) -> int:
        if node not in self.places:
            if len(self.nodes) == MOST_NODES:
                raise SpecError(
                    f"guards and caps on visits make more than {MOST_NODES:,} states; lower them, or set fewer",
                    field="limits",
                )
            self.places[node] = len(self.nodes)
            self.nodes.append(node)
        return self.places[node]

    def build(self) -> None:
        self.first = self._enter(self.workflow.start, False, 0, (0,) * len(self.capped))
        for node, _ in self.first:
            assert isinstance(node, Node)
            self._place(node)
        done = 0
        while done < len(self.nodes):
            self._leave(done, self.nodes[done])
            done += 1

    def _leave(self, place: int, node: Node) -> None:
        """Edges out of a node."""
        state, part = self.workflow.states[node.state], self.parts[node.state][node.part]
        talks = isinstance(state, LlmCall) and state.context == "conversation"
        warm = (True if talks else node.warm and part.warm) and self.rules.cache.enabled
        success = getattr(state, "success", 1.0) if part.good is None else float(part.good)
        leads: list[tuple[str, float, int, bool]] = [
            (name, success * chance, 0, talks) for name, chance in state.next.items()
        ]
        if success < 1:
            again = node.attempt < getattr(state, "retries", 0)
            target = node.state if again else state.on_failure  # type: ignore[union-attr]
            leads.append((target, 1 - success, node.attempt + 1 if again else 0, False))
        for name, chance, attempt, grows in leads:
            for target, share in self._enter(name, warm, node.turn, node.seen, attempt):
                if chance * share <= 0:
                    continue
                if isinstance(target, Node):
                    self.edges.append((place, self._place(target), chance * share, grows))
                else:
                    self.endings.append((place, target, chance * share))

    # -- charges -------------------------------------------------------------------------------------------------------

    def finish(self) -> Unfolded:
        from scipy.sparse import csr_matrix

        count = len(self.nodes)
        table = np.array(self.edges, dtype=float).reshape(-1, 4)
        rows, columns = table[:, 0].astype(int), table[:, 1].astype(int)
        chances, grows = table[:, 2], table[:, 3] > 0

        def matrix(which: Any) -> Any:
            return csr_matrix((chances[which], (rows[which], columns[which])), shape=(count, count))

        ends = np.zeros((count, len(ENDS)))
        for place, end, chance in self.endings:
            ends[place, end] += chance
        start = np.zeros(count)
        for node, chance in self.first:
            assert isinstance(node, Node)
            start[self.places[node]] += chance
        D, DD = np.zeros(count), np.zeros(count)
        for name, state in self.workflow.states.items():
            if isinstance(state, LlmCall) and state.context == "conversation":
                (i, vi), (o, vo) = mean_and_variance(state.input_tokens), mean_and_variance(state.output_tokens)
                at = self._nodes_of(name)
                D[at], DD[at] = i + o, vi + vo + (i + o) ** 2
        chain = Chain(matrix(grows), matrix(~grows), ends, start, float(self.workflow.task_tokens), D, DD)
        return Unfolded(chain, self.nodes, self._charges(chain))

    def _nodes_of(self, name: str) -> Any:
        return np.array([place for place, node in enumerate(self.nodes) if node.state == name], dtype=int)

    def _charges(self, chain: Chain) -> dict[str, Charges]:
        table = np.zeros((len(METRICS), 7, len(self.nodes)))
        context, spread = chain.contexts
        for name, state in self.workflow.states.items():
            at = self._nodes_of(name)
            if not len(at):  # a guard ends every task before it
                continue
            if isinstance(state, LlmCall):
                warm = np.array([self.nodes[place].warm for place in at])
                for metric, values in self._call(state, context[at], spread[at], warm).items():
                    table[ROW[metric]][:, at] = values
            else:
                parts = self.parts[name]
                which = [self.nodes[place].part for place in at]
                table[:, 0, at] = np.array([parts[part].mean for part in which]).T
                table[:, 2, at] = np.array([parts[part].square for part in which]).T
        return {metric: Charges(*table[ROW[metric]]) for metric in METRICS}

    def _call(self, state: LlmCall, context: Any, spread: Any, warm: Any) -> Mapping[str, Any]:
        """Rows of charges of a call at nodes with these contexts; what is no plane in the lengths is taken at its tangent."""
        talks = state.context == "conversation"
        (i, vi), (o, vo) = mean_and_variance(state.input_tokens), mean_and_variance(state.output_tokens)
        D, k = i + o, context if talks else np.zeros_like(context)
        prefix, cache = float(state.prefix_tokens), self.rules.cache
        quick = self.rules.surfaces[state.model]

        def priced(k: Any, i: Any, o: Any) -> Any:
            """Seconds, USD, prompt, cached and output tokens."""
            prompt = prefix + k + i
            found = prefix * float(cache.shared_prefix)
            cached = np.where(warm & talks, prompt - i, found) if cache.enabled else np.zeros_like(prompt)
            cached, held = np.minimum(cached, prompt - 1), np.minimum(prompt, quick.longest - o)
            seconds, usd = quick(held, o, np.minimum(cached, held - 1))
            return np.stack([seconds, usd, prompt, cached, o])

        level, (xk, xi, xo) = tangent(priced, (k, i, o), (spread**2 if talks else 0.0, vi, vo), (0.0, 1.0, 1.0))
        a, b = level - xk * k, xk  # X = a + b k, a = x0 + xi I + xo O in the mean
        noise, with_growth = xi**2 * vi + xo**2 * vo, xi * vi + xo * vo
        rows = {"latency_s": 0, "elapsed_s": 0, "usd": 1, "prompt_tokens": 2, "cached_tokens": 3, "output_tokens": 4}
        found: dict[str, Any] = {}
        for metric, row in rows.items():
            A, B, p = a[row], b[row], 0.0 if metric.endswith("_s") else state.duplicates
            once, twice = 1 + p, 1 + 3 * p  # mean and mean square of 1, or of 2 with chance p
            found[metric] = np.stack([once * A, once * B, twice * (A * A + noise[row]), twice * A * B, twice * B * B,
                                      once * (A * D + with_growth[row]), once * B * D])  # fmt: skip
        ones, none, p = np.ones_like(k), np.zeros_like(k), state.duplicates
        found["calls"] = np.stack([(1 + p) * ones, none, (1 + 3 * p) * ones, none, none, (1 + p) * D * ones, none])
        return found
