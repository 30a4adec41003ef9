"""How tokens are drafted ahead and verified, in the words of vLLM's ``--speculative-config``; and published acceptance."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator

from infersim.acceptance import expected_tokens, rate_of_length, reached_by
from infersim.errors import SpecError
from infersim.specs.library import find, names, read_yaml, validate
from infersim.specs.quantity import Source, Spec

Method = Literal["draft_model", "eagle", "eagle3", "mtp", "ngram"]
Share = Annotated[float, Field(ge=0, le=1)]
Drafts = Annotated[int, Field(ge=1, le=1024)]
Depth = Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=128)]
Shares = Annotated[tuple[Share, ...], Field(min_length=1, max_length=128)]


class AcceptanceTable(Spec):
    """One published measurement of how far drafts are accepted. It holds for its task, temperature and shape of draft only.

    Just one of ``per_position`` (share of drafts accepted at least that far), ``lengths`` (mean tokens a step by number of
    drafts) and ``rate`` (of each draft given those before it) is stated.
    """

    name: str
    method: Method
    model: str
    draft: str
    task: str
    temperature: float | None
    shape: Literal["chain", "tree"] = "chain"
    per_position: Shares | None = None
    lengths: dict[Annotated[int, Field(ge=1)], Annotated[float, Field(ge=1)]] | None = None
    rate: Share | None = None
    measured: str
    """When: year, month or day."""
    notes: str = ""
    sources: tuple[Source, ...]

    @model_validator(mode="after")
    def _one_figure(self) -> AcceptanceTable:
        _just_one(self, ("per_position", "lengths", "rate"))
        if self.per_position is not None:
            _falls(self.per_position, "per_position")
        return self

    def reached(self, depth: int) -> tuple[float, ...]:
        """Probability that at least 1, 2, ... ``depth`` drafts are accepted; SpecError beyond what was measured."""
        if self.rate is not None:
            return reached_by([self.rate] * depth)
        if self.per_position is not None:
            if depth > len(self.per_position):
                raise SpecError(
                    f"{self.name} was measured with {len(self.per_position)} drafts, not {depth}; take fewer, or give "
                    "acceptance yourself",
                    field="num_speculative_tokens",
                )
            return self.per_position[:depth]
        assert self.lengths is not None
        if depth not in self.lengths:
            measured = ", ".join(map(str, self.lengths))
            raise SpecError(
                f"{self.name} was measured with {measured} drafts, not {depth}", field="num_speculative_tokens"
            )
        return reached_by([rate_of_length(self.lengths[depth], depth)] * depth)


def load_acceptance(name: str) -> AcceptanceTable:
    """The published acceptance called ``name``, or the one in a YAML file.

    >>> load_acceptance("eagle3/llama-3.1-8b/mt-bench").per_position
    (0.7296, 0.5208, 0.3545)
    """
    path = find("acceptance", name)
    return validate(AcceptanceTable, read_yaml(path), file=path)


class Speculation(Spec):
    """Speculative decoding: who drafts, how many tokens, and how far they are accepted.

    Acceptance depends on task, temperature and shape of the draft and is never derived: give ``acceptance`` (one rate, or
    one per position, each given that those before it were accepted, or the name of a published table),
    ``acceptance_per_position`` (vLLM's metric: share of drafts accepted at least that far), or ``acceptance_length`` (mean
    tokens a step). ``tree`` has the number of nodes of each level; acceptance is then by level, of whichever node is right.

    >>> config = Speculation.model_validate('{"method": "ngram", "num_speculative_tokens": 4, "acceptance": 0.8}')
    >>> round(config.tokens_per_step, 4), config.verified
    (3.3616, 5)
    >>> Speculation.model_validate("method=eagle,tree=[4,8,8],acceptance=0.7").num_speculative_tokens
    20
    """

    method: Method
    num_speculative_tokens: Drafts
    """Drafts that a step verifies; nodes of the tree where there is one."""
    acceptance: Share | Shares | str | None = None
    acceptance_per_position: Shares | None = None
    acceptance_length: Annotated[float, Field(ge=1)] | None = None
    tree: Depth | None = None
    model: str | None = None
    """The draft model's name; for eagle and mtp a head described as a model, in place of one made of the target's layer."""
    draft_layers: Annotated[int, Field(ge=1, le=128)] = 1
    """Layers of an eagle or mtp head."""
    draft_vocab_size: Annotated[int, Field(ge=1, le=10**8)] | None = None
    """Vocabulary of a head with output weights of its own (EAGLE-3); None shares the target's."""
    draft_tensor_parallel_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Ranks that share a draft model: the target's, or 1."""
    disable_by_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Steps with so many decoding sequences or more run plainly, without drafts."""
    prompt_lookup_max: Annotated[int, Field(ge=1)] | None = None
    prompt_lookup_min: Annotated[int, Field(ge=1)] | None = None
    """Longest and shortest n-gram looked up. What they find is in the acceptance; no figure depends on them."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        given = _read(given) if isinstance(given, str) else given
        if not isinstance(given, dict):
            return given
        found = dict(given)
        if "method" not in found and "model" in found:
            found["method"] = "draft_model"
        if str(found.get("method", "")).endswith("_mtp"):
            found["method"] = "mtp"
        for name in ("acceptance", "acceptance_per_position", "tree"):
            if isinstance(found.get(name), list):
                found[name] = tuple(found[name])
        if found.get("tree") and "num_speculative_tokens" not in found:
            found["num_speculative_tokens"] = sum(width for width in found["tree"] if isinstance(width, int))
        return found

    @field_validator("acceptance", mode="wrap")
    @classmethod
    def _acceptance(cls, given: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(given)
        except ValidationError:
            raise ValueError(
                f"a rate from 0 to 1, a list of one for each draft, or the name of a published table, got {given!r}"
            ) from None

    @model_validator(mode="after")
    def _agrees(self) -> Speculation:
        if self.tree is not None and sum(self.tree) != self.num_speculative_tokens:
            raise ValueError(
                f"a tree of {sum(self.tree)} nodes is not {self.num_speculative_tokens} speculative tokens"
            )
        if self.method == "draft_model" and self.model is None:
            raise ValueError("method draft_model needs the name of the draft model, for example model=Qwen/Qwen3-0.6B")
        if self.method == "ngram" and (self.model or self.tree):
            raise ValueError("method ngram drafts a chain without a model; leave model and tree out")
        if self.draft_tensor_parallel_size is not None and self.method != "draft_model":
            raise ValueError("draft_tensor_parallel_size belongs to method draft_model; heads are cut as the target is")
        if self.draft_vocab_size is not None and self.method in ("draft_model", "ngram"):
            raise ValueError(f"draft_vocab_size belongs to eagle and mtp heads, not to {self.method}")
        try:
            _just_one(self, ("acceptance", "acceptance_per_position", "acceptance_length"))
        except ValueError as error:
            tables = [name for name in names("acceptance") if name.startswith(self.method + "/")]
            more = f" and {len(tables) - 8} more" if len(tables) > 8 else ""
            known = f"; published for {self.method}: {', '.join(tables[:8])}{more}" if tables else ""
            raise ValueError(f"{error}{known}") from None
        for name in ("acceptance", "acceptance_per_position"):
            rates = getattr(self, name)
            if isinstance(rates, tuple) and len(rates) != self.depth:
                raise ValueError(f"{name} has {len(rates)} positions where a draft has {self.depth}")
        if self.acceptance_per_position is not None:
            _falls(self.acceptance_per_position, "acceptance_per_position")
        if self.acceptance_length is not None and self.acceptance_length > self.depth + 1:
            raise ValueError(
                f"acceptance_length {self.acceptance_length:g} is more than the {self.depth + 1} tokens of a step"
            )
        return self

    @property
    def depth(self) -> int:
        """Drafts that follow one another: most that can be accepted in a step."""
        return len(self.tree) if self.tree is not None else self.num_speculative_tokens

    @property
    def verified(self) -> int:
        """Tokens of a sequence that the target model computes in a step."""
        return self.num_speculative_tokens + 1

    @property
    def table(self) -> AcceptanceTable | None:
        """The published table that acceptance is taken from."""
        if not isinstance(self.acceptance, str):
            return None
        found = load_acceptance(self.acceptance)
        shape = "chain" if self.tree is None else "tree"
        if found.shape != shape:
            raise SpecError(f"{found.name} was measured on a {found.shape}, not on a {shape}", field="acceptance")
        return found

    @property
    def reached(self) -> tuple[float, ...]:
        """Probability that at least 1, 2, ... drafts are accepted."""
        table = self.table
        if table is not None:
            return table.reached(self.depth)
        if self.acceptance_per_position is not None:
            return self.acceptance_per_position
        if self.acceptance_length is not None:
            return reached_by([rate_of_length(self.acceptance_length, self.depth)] * self.depth)
        rates = self.acceptance
        return reached_by(rates if isinstance(rates, tuple) else [float(rates)] * self.depth)  # type: ignore[arg-type]

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step with drafts yields on average."""
        return expected_tokens(self.reached)

    def __str__(self) -> str:
        """As in a report.

        >>> str(Speculation(method="mtp", num_speculative_tokens=1, acceptance=0.85))
        'mtp, 1 draft, 1.85 tokens a step'
        """
        drafts = f"{self.num_speculative_tokens} draft{'s' if self.num_speculative_tokens > 1 else ''}"
        shape = f" in a tree of {self.depth} levels" if self.tree else ""
        return f"{self.method}, {drafts}{shape}, {self.tokens_per_step:.2f} tokens a step"


def _read(text: str) -> Any:
    """A JSON object, or ``key=value,key=value`` with values as JSON has them or bare words."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not a JSON object: {error.msg} at character {error.pos}") from None
    found: dict[str, Any] = {}
    for part in re.split(r",(?![^\[]*\])", text):
        name, equals, value = part.partition("=")
        if not equals or not value.strip():
            raise ValueError(
                f"write method=eagle3,num_speculative_tokens=3,acceptance=0.7 or a JSON object, got {part!r}"
            )
        try:
            found[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            found[name.strip()] = value.strip()
    return found


def _just_one(spec: Spec, fields: tuple[str, ...]) -> None:
    stated = [name for name in fields if getattr(spec, name) is not None]
    if len(stated) != 1:
        raise ValueError(f"give one of {', '.join(fields)}, not {' and '.join(stated) or 'none'}")


def _falls(shares: tuple[float, ...], name: str) -> None:
    if any(later > before for before, later in pairwise(shares)):
        raise ValueError(f"{name} is the share of drafts accepted at least that far, which cannot rise: {list(shares)}")
