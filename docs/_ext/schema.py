"""The page of scenario fields, from the JSON Schema of the model that reads them."""

from __future__ import annotations

import functools
from typing import Any

import glossary
from pydantic import BaseModel
from sphinx.pycode import ModuleAnalyzer

from infersim.specs.quantity import Spec

OF_THE_FILE = {
    "infersim": ("`1`", "Form of the file."),
    "name": ("text", "Of the scenario; by default the file's name."),
    "description": ("text", "For people."),
    "include": ("path or list", "Files whose fields stand under those of this one."),
    "what_if": ("list", "Cases that change the base: a name, and values at dotted paths; `grid:` makes a case of every combination."),
    "grid": ("map", "Values by dotted path: every combination is a case."),
    "expect": ("map", "Figures by their names in JSON: `true`, `< 30 ms`, `1..2 s`, `40 ms +- 10%`; below a case's name, of that case."),
    "sweep": ("map", "Many points, run by shards."),
}  # fmt: skip
"""Keys about the file, which no model holds."""
SPEC_FILES = ("model", "layouts", "towers", "traits", "hardware", "engine", "precision", "quantity")
SPEC_MODULES = {f"infersim.specs.{name}" for name in SPEC_FILES}
"""Models of spec files, which a scenario may hold written out."""
LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
GUARD = 1e5
"""Limits from here on only keep nonsense out."""
INTRODUCTION = """# Scenario fields

A scenario is a YAML file that [infersim run](commands.md) answers; [Ten minutes with infersim](../tutorial.md) writes one.
Quantities carry their unit (`800 ms`, `2.5 USD`). An unknown field is an error that names the nearest one.
This page is made from the models that read the file.

## About the file

| field | value | meaning |
|---|---|---|
"""


def page() -> str:
    """Markdown: the fields of a scenario and of everything in it."""
    from infersim.scenario import questions, setup

    unknown = set(setup.OF_THE_FILE) ^ set(OF_THE_FILE)
    if unknown:
        raise ValueError(f"keys of a scenario file without a word on this page: {', '.join(sorted(unknown))}")
    rows = [f"| `{field}` | {kind} | {meaning} |" for field, (kind, meaning) in OF_THE_FILE.items()]
    text = INTRODUCTION + "\n".join(rows) + "\n\n" + tables(setup.Setup, "One case")
    for name, layer in questions.LAYERS.items():
        text += "\n" + tables(layer.load_spec(), f"{layer.section}: the question {name}")
    return text


def tables(model: type[BaseModel], title: str) -> str:
    """One table of fields for the model and for each model that it is made of; those of spec files come last."""
    schema = model.model_json_schema(mode="validation")
    classes = {found.__name__: found for found in (model, *_below(Spec))}
    waiting, seen, own, specs = _named(schema), set(), [_table(title, schema, model)], []
    while waiting:
        name = waiting.pop(0)
        found = schema["$defs"].get(name, {})
        if name in seen or "properties" not in found:
            continue
        seen.add(name)
        kind = classes.get(name)
        of_a_file = kind is not None and kind.__module__ in SPEC_MODULES
        (specs if of_a_file else own).append(_table(name, found, kind))
        waiting += _named(found)
    return "\n".join([*own, *specs])


def _below(kind: type) -> list[type]:
    return [found for one in kind.__subclasses__() for found in (one, *_below(one))]


def _named(value: Any) -> list[str]:
    """Definitions that a schema refers to, in its order; its own definitions aside."""
    if isinstance(value, dict):
        own = [value["$ref"].rsplit("/", 1)[-1]] if isinstance(value.get("$ref"), str) else []
        return own + [name for key, one in value.items() if key != "$defs" for name in _named(one)]
    return [name for one in value for name in _named(one)] if isinstance(value, list) else []


def _table(title: str, schema: dict[str, Any], kind: type | None) -> str:
    rows = [f"## {title}\n"]
    if schema.get("description"):
        rows.append(f"{_summary(schema['description'])}\n")
    rows += ["| field | value | default | meaning |", "|---|---|---|---|"]
    needed = set(schema.get("required", ()))
    for field, found in schema.get("properties", {}).items():
        default = "required" if field in needed else _value(found.get("default"))
        meaning = _summary(found.get("description") or _documented(kind, field) or _knobs().get(field, "")).replace(
            "|", "\\|"
        )
        rows.append(f"| `{field}` | {_kind(found)} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _documented(kind: type | None, field: str) -> str:
    """The words below a field in its class, or in the class it is inherited from."""
    for one in kind.__mro__ if kind is not None else ():
        if one.__module__.startswith("infersim."):
            found = ModuleAnalyzer.for_module(one.__module__).find_attr_docs().get((one.__qualname__, field))
            if found:
                return " ".join(found)
    return ""


@functools.cache
def _knobs() -> dict[str, str]:
    """Engine settings as the glossary has them."""
    return {entry["term"]: entry["meaning"] for entry in glossary.entries()["Engine settings"]}


def _kind(found: dict[str, Any]) -> str:
    if "$ref" in found:
        name = found["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in found:
            kinds = [_kind(one) for one in found[several] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "const" in found:
        return f"`{found['const']}`"
    if "enum" in found:
        return ", ".join(f"`{value}`" for value in found["enum"])
    kind = found.get("type", "any")
    if kind == "array":
        return f"list of {_kind(found.get('items', {}))}" if found.get("items") else "list"
    if kind == "object":
        inner = found.get("additionalProperties")
        return f"map to {_kind(inner)}" if isinstance(inner, dict) and inner else "map"
    limits = [f"{sign} {found[key]:g}" for key, sign in LIMITS.items() if key in found and abs(found[key]) < GUARD]
    return f"{kind} {', '.join(limits)}".strip().replace("<", "&lt;")


def _value(value: Any) -> str:
    return "" if value in (None, "") or isinstance(value, dict | list) else f"`{value}`"


def _summary(text: str) -> str:
    """A docstring's words without its doctests."""
    return " ".join(text.split(">>>")[0].split()).replace("``", "`").replace("<", "&lt;")
