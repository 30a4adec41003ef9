"""Decoding algorithms as a user describes them: how tokens are chosen, how many sequences answer, what drafts or constrains them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from infersim.errors import SpecError
from infersim.ops.sampling import sampling_passes
from infersim.serving.lengths import Lengths, as_lengths
from infersim.specs.quantity import Seconds, Spec
from infersim.specs.speculation import Speculation

Share = Annotated[float, Field(ge=0, le=1)]
Sequences = Annotated[int, Field(ge=1, le=1024)]


class Structured(Spec):
    """Output held to a grammar. ``engine`` names a measured grammar engine; ``mask`` and ``compile`` override its times.

    ``threads`` fill the masks of a step; ``overlapped`` hides that behind the device's step. ``forced`` is the share of tokens that
    the grammar leaves no choice of and jump-forward decoding appends; ``retokenised`` tokens a step are computed anew where they
    join. ``new_grammars`` is the share of requests whose grammar has to be compiled first.
    """

    engine: str
    """A measured grammar engine, by name or a YAML file."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads that fill the masks of a step."""
    overlapped: bool = True
    """Whether the host fills masks while the device computes."""
    forced: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of tokens that the grammar leaves no choice of, appended without a step."""
    retokenised: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Tokens a step that are computed anew where forced ones join."""
    new_grammars: Share = 0.0
    """Share of requests whose grammar has to be compiled first."""
    mask: Seconds | None = None
    """Time for one mask, in place of the engine's."""
    compile: Seconds | None = None
    """Time to compile a grammar, in place of the engine's."""


class DecodingMethod(Spec):
    """One way to decode. A bare string is a sampler.

    ``beams`` above one is beam search, ``answers`` draws so many from one prompt: all of them, their ``majority``, or the ``best`` by a
    judge that is not counted here. ``copied_cache`` keeps a copy of the prompt's cache for each sequence, where paged ones share
    it. ``thinking`` tokens come before the answer, cut at ``thinking_budget``. ``correct`` is the chance that one answer is right.
    ``step_factor`` is what other kernels make of a decode step's time, as measured: batch-invariant ones, for answers that repeat
    to the bit, take up to twice as long.

    >>> DecodingMethod.model_validate("top_p+logprobs").label
    'top_p+logprobs'
    >>> DecodingMethod(sampler="temperature", answers=8, pick="majority").label
    'temperature, majority of 8'
    """

    name: str | None = None
    """Shown in tables; by default made of the fields."""
    sampler: str = "greedy"
    """greedy, temperature, top_k, top_p ..., with +logprobs or +penalties."""
    beams: Sequences = 1
    """Width of beam search; 1: none."""
    answers: Sequences = 1
    """Answers drawn from one prompt."""
    pick: Literal["all", "majority", "best"] = "all"
    """What is made of several answers: all are returned, the majority, or the best by a judge."""
    copied_cache: bool = False
    """Every sequence has a copy of the prompt's cache."""
    structured: Structured | None = None
    """Grammar that the output is held to."""
    speculation: Speculation | None = None
    """Drafts."""
    thinking: Lengths | None = None
    """Lengths of thinking before the answer [tokens]."""
    thinking_budget: Annotated[float, Field(ge=0, le=1e8)] | None = None
    """Tokens at which thinking is cut."""
    correct: Share | None = None
    """Chance that one answer is right."""
    step_factor: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """What other kernels make of a decode step's time, as measured."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"sampler": given}
        if isinstance(given, dict) and isinstance(given.get("structured"), str):
            return given | {"structured": {"engine": given["structured"]}}
        return given

    @field_validator("thinking", mode="before")
    @classmethod
    def _lengths(cls, given: Any) -> Any:
        return given if given is None or hasattr(given, "sample") else as_lengths(given, "thinking")

    @field_validator("sampler")
    @classmethod
    def _a_sampler(cls, given: str) -> str:
        try:
            sampling_passes(given)
        except SpecError as error:
            raise ValueError(error.message) from None
        return given

    @model_validator(mode="after")
    def _goes_together(self) -> DecodingMethod:
        if self.beams > 1 and self.answers > 1:
            raise ValueError("beam search gives one answer: leave beams or answers at 1")
        if self.beams > 1 and self.speculation is not None:
            raise ValueError("engines do not draft for beam search: leave beams at 1 or speculation out")
        if self.pick != "all" and self.answers == 1:
            raise ValueError(f"pick {self.pick} needs several answers, for example answers: 8")
        if self.answers > 1 and self.sampler.split("+")[0] == "greedy":
            raise ValueError(f"{self.answers} greedy answers are all the same; take sampler temperature or top_p")
        if self.thinking_budget is not None and self.thinking is None:
            raise ValueError("thinking_budget needs thinking, the lengths that it cuts")
        if self.speculation is not None and self.structured is not None and self.structured.forced:
            raise ValueError("drafts and jump-forward decoding both skip steps: leave forced at 0 or speculation out")
        return self

    @property
    def sequences(self) -> int:
        """Sequences that decode for one request."""
        return self.beams * self.answers

    @property
    def engine_sampler(self) -> str:
        """The sampler with all that is done beside it."""
        extras = (["beams"] if self.beams > 1 else []) + (["mask"] if self.structured else [])
        return "+".join([self.sampler, *(extra for extra in extras if extra not in self.sampler.split("+"))])

    @property
    def label(self) -> str:
        """What a table calls it."""
        if self.name:
            return self.name
        parts = [self.sampler] if self.beams == 1 else [f"beam search, width {self.beams}"]
        if self.answers > 1:
            parts.append(
                {
                    "all": f"{self.answers} answers",
                    "majority": f"majority of {self.answers}",
                    "best": f"best of {self.answers}",
                }[self.pick]
            )
        if self.structured:
            parts.append(self.structured.engine)
            parts += ["jump-forward"] if self.structured.forced else []
        if self.speculation:
            parts.append(f"{self.speculation.method} {self.speculation.num_speculative_tokens}")
        if self.thinking:
            parts.append("thinking")
        if self.step_factor != 1.0:
            parts.append(f"step x {self.step_factor:g}")
        if self.copied_cache:
            parts.append("copied cache")
        return ", ".join(parts)


STANDARD: tuple[DecodingMethod, ...] = (
    DecodingMethod(),
    DecodingMethod(sampler="temperature"),
    DecodingMethod(sampler="top_k_top_p"),
    DecodingMethod(sampler="top_k_top_p_sort"),
    DecodingMethod(sampler="temperature", structured=Structured(engine="llguidance")),
    DecodingMethod(beams=4),
    DecodingMethod(sampler="temperature", answers=8, pick="majority"),
)


class DecodingSpec(Spec):
    """Decoding algorithms to compare on one deployment. ``output_tokens`` is the length of an answer, a number or a distribution;
    by default the mean of the deployment's workload, every answer alike. ``acceptance_tables`` names published acceptance by which
    speculative decoding is compared, or says ``matching`` for those measured on the deployment's model.

    >>> spec = DecodingSpec.model_validate({"methods": ["greedy", {"beams": 4}], "output_tokens": {"uniform": {"low": 1, "high": 399}}})
    >>> [method.label for method in spec.methods], spec.output_tokens.mean
    (['greedy', 'beam search, width 4'], 200.0)
    """

    methods: Annotated[tuple[DecodingMethod, ...], Field(min_length=1, max_length=64)] = STANDARD
    """Methods, side by side."""
    output_tokens: Lengths | None = None
    """Length of an answer; by default the workload's mean."""
    acceptance_tables: tuple[str, ...] | Literal["matching"] = ()
    """Published acceptance to compare drafts by, or those measured on this model."""

    @field_validator("output_tokens", mode="before")
    @classmethod
    def _lengths(cls, given: Any) -> Any:
        return given if given is None or hasattr(given, "sample") else as_lengths(given, "output_tokens")

    @model_validator(mode="after")
    def _labels_differ(self) -> DecodingSpec:
        labels = [method.label for method in self.methods]
        twice = {label for label in labels if labels.count(label) > 1}
        if twice:
            raise ValueError(f"methods need names of their own: {', '.join(sorted(twice))} stands there twice")
        return self
