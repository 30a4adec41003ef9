"""A workflow as a file says it: states, the chances of what follows each, and limits. YAML in, a checked value out.

    start: plan
    models: {api: {prices: {input: 3, cached_input: 0.3, output: 15}, ttft: 600 ms, tpot: 12 ms}}
    states:
      plan: {kind: llm, model: api, prefix_tokens: 2000, input_tokens: 300, output_tokens: 150, next: {search: 0.8, success: 0.2}}
      search: {kind: tool, time: {lognormal: {mean: 1.2 s, cv: 1}}, price: 0.005 USD, next: plan}
    limits: {max_turns: 20}

Tokens are those of one call: ``prefix_tokens`` stand at the start of every prompt and are the same for all tasks (system prompt, tools);
``input_tokens`` are new in this call (a question, the result of the tool before it). A call in the conversation sees everything that
was said before in it and adds its new and its output tokens; one with ``context: none`` sees its prefix and its new tokens alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from infersim.errors import SpecError, did_you_mean
from infersim.serving.durations import Duration, Kind
from infersim.serving.lengths import Lengths, as_lengths
from infersim.specs.api import ApiModel
from infersim.specs.quantity import Money, Quantity, Seconds, Spec
from infersim.specs.reading import read_yaml, validate
from infersim.specs.served import ServedModel
from infersim.specs.workload import Workload

SUCCESS, FAILURE = "success", "failure"
ENDS = (SUCCESS, FAILURE)
Share = Annotated[float, Field(ge=0, le=1)]
Chance = Annotated[float, Field(gt=0, le=1)]
PositiveMoney = Annotated[float, Quantity("USD")]


class OwnModel(ServedModel):
    """A model on hardware of one's own, at the load that it serves."""

    load: Workload = Workload(concurrency=8)
    """Requests under way while the agent's come."""


def _model_tag(given: Any) -> str:
    if isinstance(given, (str, ApiModel)) or (isinstance(given, dict) and "prices" in given):
        return "api"
    return "own"


Model = Annotated[Annotated[ApiModel, Tag("api")] | Annotated[OwnModel, Tag("own")], Discriminator(_model_tag)]


class _Step(Spec):
    """What every state has: what follows it, and how often a task may come here."""

    next: dict[str, Chance]
    """State that follows, or states and their chances; success and failure end a task."""
    max_visits: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Visits of a task; the next one ends it as a failure."""

    @field_validator("next", mode="before")
    @classmethod
    def _one_name(cls, given: Any) -> Any:
        return {given: 1.0} if isinstance(given, str) else given

    @field_validator("next")
    @classmethod
    def _whole(cls, chances: dict[str, float]) -> dict[str, float]:
        total = sum(chances.values())
        if abs(total - 1) > 1e-6:
            told = " + ".join(f"{chance:g}" for chance in chances.values())
            raise ValueError(f"chances of what follows must sum to 1, got {told or 'none'} = {total:g}")
        return {name: chance / total for name, chance in chances.items()}

    @property
    def targets(self) -> tuple[str, ...]:
        """All states that may follow."""
        return tuple(self.next)


class _Attempt(_Step):
    """A state that may fail: ``success`` is the chance of an attempt, ``retries`` how often it is made again; then ``on_failure``.

    ``duplicates`` is the chance that an attempt is made twice at once (a lost acknowledgement, a race): it costs, and takes no time.
    """

    success: Chance = 1.0
    """Chance that an attempt succeeds."""
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    """How often a failed attempt is made again."""
    on_failure: str = FAILURE
    """State that follows when all attempts have failed."""
    duplicates: Share = 0.0
    """Chance that an attempt is made twice at once; it costs, and takes no time."""

    @property
    def targets(self) -> tuple[str, ...]:
        return (*self.next, *(() if self.success == 1 else (self.on_failure,)))


class LlmCall(_Attempt):
    """A call of a language model; ``model`` names one of the workflow's, None is the deployment that the answer is asked for.

    Every attempt draws lengths anew; a failed one leaves nothing in the conversation, but its prompt is in the cache.
    """

    kind: Literal["llm"] = "llm"
    """A call of a language model."""
    model: str | None = None
    """One of the workflow's models; None: the deployment."""
    prefix_tokens: Annotated[int, Field(ge=0, le=10**8)] = 0
    """System prompt and tools, the same for every task."""
    input_tokens: Lengths
    """New tokens of the call's prompt."""
    output_tokens: Lengths
    """Tokens of its answer."""
    context: Literal["conversation", "none"] = "conversation"
    """conversation reads what was said before, none does not."""

    @field_validator("input_tokens", "output_tokens", mode="before")
    @classmethod
    def _lengths(cls, given: Any, info: Any) -> Any:
        return given if hasattr(given, "sample") else as_lengths(given, info.field_name)


class Tool(_Attempt):
    """A tool, a search, an API: a time and a price per attempt."""

    kind: Literal["tool"] = "tool"
    """A tool, a search, an API."""
    time: Duration
    """Of an attempt."""
    price: Money = 0.0
    """Of an attempt."""


class Human(_Step):
    """Somebody reads, types, approves: time that is not the system's."""

    kind: Literal["human"] = "human"
    """Somebody reads, types, approves."""
    time: Duration
    """That a person takes."""


class Parallel(_Step):
    """Branches that run at the same time, each a workflow with a conversation of its own.

    ``join`` all: goes on when every branch has ended, fails where one has failed; first: goes on with the first branch that succeeds
    (the others run on and are paid for), fails where none does.
    """

    kind: Literal["parallel"] = "parallel"
    """Branches that run at the same time."""
    branches: Annotated[dict[str, Branch], Field(min_length=1)]
    """By name, each with states of its own."""
    join: Literal["all", "first"] = "all"
    """all: goes on when every branch has ended; first: with the first that succeeds."""
    on_failure: str = FAILURE
    """State that follows when the join fails."""

    @property
    def targets(self) -> tuple[str, ...]:
        return (*self.next, self.on_failure)

    @model_validator(mode="after")
    def _no_people(self) -> Parallel:
        for name, branch in self.branches.items():
            if any(isinstance(state, Human) for state in branch.states.values()):
                raise ValueError(
                    f"branches.{name}: people are asked before or after branches that run at once, not in them"
                )
        return self


State = Annotated[LlmCall | Tool | Human | Parallel, Field(discriminator="kind")]


class Branch(Spec):
    """States and where to start; ``success`` and ``failure`` end it."""

    start: str
    """First state."""
    states: Annotated[dict[str, State], Field(min_length=1)]
    """States by name."""

    @model_validator(mode="after")
    def _connected(self) -> Branch:
        known = [*self.states, *ENDS]
        for name in ENDS:
            if name in self.states:
                raise ValueError(f"states.{name}: {name} is an end, not a state")
        if self.start not in self.states:
            raise ValueError(f"start: no state is called {self.start!r}; {did_you_mean(self.start, self.states)}")
        for name, state in self.states.items():
            for target in (*state.targets, getattr(state, "on_failure", FAILURE)):
                if target not in known:
                    raise ValueError(
                        f"states.{name}.next: no state is called {target!r}; {did_you_mean(target, known)}"
                    )
        reached = self._reached()
        for name in self.states:
            if name not in reached:
                raise ValueError(f"states.{name}: no way leads to it from {self.start!r}")
        return self

    def _reached(self) -> set[str]:
        """States that a task can come to."""
        reached, front = {self.start}, [self.start]
        while front:
            for target in self.states[front.pop()].targets:
                if target not in reached and target in self.states:
                    reached.add(target)
                    front.append(target)
        return reached

    def endless(self) -> list[str]:
        """States from which no end can be reached and that no cap on visits leaves."""
        ending = {name for name, state in self.states.items() if state.max_visits or set(state.targets) & set(ENDS)}
        while True:
            more = {name for name, state in self.states.items() if name not in ending and set(state.targets) & ending}
            if not more:
                return [name for name in self.states if name not in ending]
            ending |= more

    def calls(self) -> Iterator[tuple[str, LlmCall]]:
        """All calls of language models, those of branches too, by the path of their state."""
        for name, state in self.states.items():
            if isinstance(state, LlmCall):
                yield name, state
            elif isinstance(state, Parallel):
                for branch, inner in state.branches.items():
                    yield from ((f"{name}.{branch}.{path}", call) for path, call in inner.calls())

    def pauses(self) -> Iterator[Kind]:
        """Times that a conversation waits for."""
        yield from (state.time for state in self.states.values() if isinstance(state, Tool | Human))


class Limits(Spec):
    """Guards: what ends a task as a failure. ``max_turns`` counts calls of language models, retries included,
    those of parallel branches not."""

    max_turns: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Calls of language models, retries included."""
    max_cost: PositiveMoney | None = None
    """Cost of a task."""
    max_time: Annotated[Seconds, Field(gt=0)] | None = None
    """Time of calls and tools; that of people does not count."""


class ConversationCache(Spec):
    """What the prefix cache of the model finds. ``lifetime``: how long a conversation stays in it while nobody calls (the TTL of an
    API, Che's characteristic time of a pool); None: for ever. ``shared_prefix``: whether the system prompt is there from other tasks.
    Where the start of the prompt changes from call to call, nothing is found: ``enabled: false``.
    """

    enabled: bool = True
    """Whether prefixes are found at all."""
    lifetime: Seconds | None = None
    """How long a conversation stays while nobody calls; None: for ever."""
    shared_prefix: bool = True
    """Whether the system prompt is there from other tasks."""


class Crowd(Spec):
    """Tasks under way at once on the deployment, each starting its next one ``think`` after the last."""

    sessions: Annotated[int, Field(ge=1, le=100_000)]
    """Tasks under way at once."""
    think: Seconds = 0.0
    """Pause before a session's next task."""


class Workflow(Branch):
    """An agent: states, models, limits, cache, and how many tasks run at once.

    >>> one = Workflow.model_validate({"start": "loop", "states": {"loop": {"kind": "tool", "time": "1 s",
    ...                                "next": {"loop": 0.8, "success": 0.2}}}})
    >>> one.states["loop"].time.mean
    1.0
    """

    name: str = "workflow"
    """As tables show it."""
    models: dict[str, Model] = {}
    """Models that states may call, by name: own ones, or APIs."""
    task_tokens: Annotated[int, Field(ge=0, le=10**8)] = 0
    """Tokens of the conversation before the first call, after the prefix: the task itself, a document."""
    cache: ConversationCache = ConversationCache()
    """What the prefix cache finds."""
    limits: Limits = Limits()
    """What ends a task as a failure."""
    crowd: Crowd | None = None
    """Tasks at once on the deployment, simulated."""

    @model_validator(mode="after")
    def _complete(self) -> Workflow:
        for path, call in self.calls():
            if call.model is not None and call.model not in self.models:
                hint = did_you_mean(call.model, self.models) if self.models else "the workflow names no models"
                raise ValueError(f"states.{path}.model: no model is called {call.model!r}; {hint}")
        self._ends(self, "states")
        return self

    def _ends(self, branch: Branch, place: str) -> None:
        endless = branch.endless()
        calls = {name for name, state in branch.states.items() if isinstance(state, LlmCall)}
        capped = self.limits.max_turns is not None and branch is self
        if endless and not (capped and calls):
            raise ValueError(
                f"{place}.{endless[0]}: never comes to an end; let it lead to success or failure, or set max_visits or limits.max_turns"
            )
        for name, state in branch.states.items():
            if isinstance(state, Parallel):
                for inner, states in state.branches.items():
                    self._ends(states, f"{place}.{name}.branches.{inner}.states")


Parallel.model_rebuild()
Branch.model_rebuild()
Workflow.model_rebuild()


def read_workflow(path: str | Path) -> Workflow:
    """The workflow in a YAML file; SpecError with file and field where it is none."""
    file = Path(path).expanduser()
    return validate(Workflow, read_yaml(file), file=file)


def as_workflow(given: Workflow | dict[str, Any] | str | Path) -> Workflow:
    """A workflow, a mapping that is one, or the path of a file."""
    if isinstance(given, Workflow):
        return given
    if isinstance(given, dict):
        return validate(Workflow, given)
    if isinstance(given, str | Path):
        return read_workflow(given)
    raise SpecError(f"a workflow is a mapping or a file, got {type(given).__name__}", field="workflow")
