"""Read one spec file: YAML in, a spec out, and a kind sentence with file and field where it is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from infersim.errors import SpecError, did_you_mean
from infersim.specs.quantity import Spec

MAX_SPEC_BYTES = 4_000_000
"""A spec file larger than this is refused before it is read: no honest spec comes near."""

S = TypeVar("S", bound=Spec)
log = logging.getLogger(__name__)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; SpecError with file and line where it is not one."""
    if not path.is_file():
        raise SpecError("no such file", file=path)
    if path.stat().st_size > MAX_SPEC_BYTES:
        raise SpecError(
            f"{path.stat().st_size:,} bytes is too large for a spec (at most {MAX_SPEC_BYTES:,})", file=path
        )
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise SpecError("not a text file (UTF-8 expected)", file=path) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise SpecError(
            f"not valid YAML: {getattr(error, 'problem', None) or 'unreadable'}{where}", file=path
        ) from error
    except RecursionError as error:
        raise SpecError("not valid YAML: nested too deeply", file=path) from error
    log.debug("read %s", path)
    if not isinstance(data, dict):
        raise SpecError(f"should be a mapping of fields, found {type(data).__name__}", file=path)
    return data


def validate(kind: type[S], data: Any, *, file: str | Path | None = None) -> S:
    """``data`` as a spec of ``kind``; pydantic's report becomes one SpecError naming file, field and nearest key."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise SpecError(explain(error, kind), file=file) from error


def explain(error: ValidationError, kind: type[Spec]) -> str:
    """Pydantic's report in plain sentences, one per wrong field."""
    sentences = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown field; {did_you_mean(str(problem['loc'][-1]), fields_at(kind, problem['loc'][:-1]))}"
        elif problem["type"] == "missing":
            message = "is missing"
        elif problem["type"] not in ("value_error", "union_tag_invalid"):
            given = repr(problem["input"])
            message = f"{message}, got {given if len(given) < 60 else given[:57] + '...'}"
        sentences.append(f"{field}: {message}" if field else message)
    return "; ".join(sentences[:5]) + (f"; and {len(sentences) - 5} more" if len(sentences) > 5 else "")


def fields_at(kind: type[Spec], location: tuple[Any, ...]) -> list[str]:
    """Field names that are allowed at a place inside a spec, found by walking the annotations."""
    import typing

    def models(annotation: Any) -> Iterator[type[Spec]]:
        if isinstance(annotation, type) and issubclass(annotation, Spec):
            yield annotation
        for argument in typing.get_args(annotation):
            yield from models(argument)

    found: list[type[Spec]] = [kind]
    for part in location:
        if isinstance(part, str):
            deeper = [m for f in found if part in f.model_fields for m in models(f.model_fields[part].annotation)]
            tagged = [m for m in found if part == getattr(m.model_fields.get("kind"), "default", None)]
            found = deeper or tagged or found
    return [name for model in found for name in model.model_fields]
