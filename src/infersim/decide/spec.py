"""A decision as a file asks for it: which question, of which models, with which assumptions changed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from infersim.errors import did_you_mean
from infersim.retrieval.spec import RetrievalSpec
from infersim.specs.api import AnyModel, ApiModel
from infersim.specs.quantity import Seconds, Spec

Kind = Literal["rag-vs-long-context", "cached-prompt", "finetune", "self-host-vs-api", "cascade"]
QUESTIONS: tuple[Kind, ...] = ("rag-vs-long-context", "cached-prompt", "finetune", "self-host-vs-api", "cascade")
NEEDS: dict[str, tuple[str, ...]] = {"self-host-vs-api": ("api",), "cascade": ("small",)}
"""Models that a question cannot do without, beside ``model`` or the scenario's deployment."""
TAKES: dict[str, tuple[str, ...]] = {
    "rag-vs-long-context": ("retrieval",), "cached-prompt": ("retrieval",), "finetune": ("tuned", "retrieval"), **NEEDS,
}  # fmt: skip
Number = Annotated[float, Field(allow_inf_nan=False)]
Range = Number | tuple[Number, Number] | tuple[Number, Number, Number]
"""A value, its 90% range, or both: low, base, high."""


class Decision(Spec):
    """One question. ``model`` is what the ways are compared on (None: the scenario's deployment): a served model, or an API.

    ``api`` is what own devices are set against; ``small`` goes first in a cascade, ``tuned`` is the model that is fine-tuned where it
    is another one. ``retrieval`` says what retrieval takes and costs in place of the assumptions about it. ``over`` is the assumption
    that the curves are drawn over, within ``span``. ``assume`` changes assumptions by name, ``success`` gives the chance that an
    answer is right, by way; costs are then of a right answer. A way whose mean TTFT is above ``ttft`` is out.

    >>> one = Decision.model_validate({"question": "rag-vs-long-context", "model": "3,0.3,15", "assume": {"corpus_tokens": 2e5}})
    >>> one.model.prices.output, one.assume["corpus_tokens"]
    (15.0, 200000.0)
    """

    question: Kind
    """What is to be decided."""
    model: AnyModel | None = None
    """What the ways are compared on; None: the deployment."""
    api: ApiModel | None = None
    """API that own devices are set against."""
    small: AnyModel | None = None
    """Model that goes first in a cascade."""
    tuned: AnyModel | None = None
    """Model that is fine-tuned, where it is another one."""
    retrieval: RetrievalSpec | None = None
    """What retrieval takes, in place of the assumptions about it."""
    over: str | None = None
    """Assumption that the curves are drawn over."""
    span: tuple[Number, Number] | None = None
    """Its lower and upper end."""
    assume: dict[str, Range] = {}
    """Assumptions by name: a value, or a 90% range."""
    success: dict[str, Range] = {}
    """Chance that an answer is right, by way; costs are then of a right answer."""
    ttft: Seconds | None = None
    """A way whose mean TTFT is above it is out."""

    @field_validator("question", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if isinstance(given, str) and given not in QUESTIONS:
            raise ValueError(f"there is none called {given!r}; {did_you_mean(given, QUESTIONS)}")
        return given

    @model_validator(mode="after")
    def _complete(self) -> Decision:
        for name in NEEDS.get(self.question, ()):
            if getattr(self, name) is None:
                raise ValueError(f"{self.question} needs {name}: another model to compare with")
        for name in ("api", "small", "tuned", "retrieval"):
            if getattr(self, name) is not None and name not in TAKES.get(self.question, ()):
                raise ValueError(f"{self.question} has no use for {name}")
        if self.span is not None and not 0 <= self.span[0] < self.span[1]:
            raise ValueError(f"span: goes from a lower to a higher value, got {self.span[0]:g} to {self.span[1]:g}")
        return self
