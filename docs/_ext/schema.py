"""The page of scenario fields, from the JSON Schema that ``infersim schema`` prints."""

from __future__ import annotations

import functools
from typing import Any

import glossary

from infersim.scenario.schema import scenario_schema

Json = dict[str, Any]
INTRODUCTION = """# Scenario fields

A scenario is a YAML file that [infersim run](commands.md) answers; [Ten minutes with infersim](../tutorial.md) writes one, and
`infersim init` starts one for you. Quantities carry their unit (`800 ms`, `2.5 USD`). An unknown field is an error that names the nearest.
This page is made from the schema that `infersim schema` prints, which editors use to complete and check.
"""
WRITTEN_OUT = ("ModelSpec", "Accelerator", "System", "EngineSpec", "Precision")
"""What usually is a name, and may be written out as in its own file."""
LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
GUARD = 1e5
"""Limits from here on only keep nonsense out."""


@functools.cache
def page() -> str:
    """Markdown: the fields of a scenario and of everything in it."""
    schema = scenario_schema()
    definitions = schema["$defs"]
    parts, seen = [INTRODUCTION, _table("The file", schema, definitions)], set(WRITTEN_OUT)
    parts += _below(_named(schema["properties"]), definitions, seen)
    parts.append(
        "## Written out\n\nWhat usually is a name may be written out in a scenario, with the fields of its own file.\n"
    )
    seen -= set(WRITTEN_OUT)
    parts += _below(list(WRITTEN_OUT), definitions, seen)
    return "\n".join(parts)


def heading(name: str) -> str:
    """What a definition is called on the page: where two have one name, with the package it comes from."""
    package, _, bare = name.removeprefix("infersim__").partition("__")
    return f"{bare.rsplit('__', 1)[-1]} of {package}" if bare else name


def _below(waiting: list[str], definitions: Json, seen: set[str]) -> list[str]:
    """A table for each definition that is named, and for those that they name."""
    tables = []
    while waiting:
        name = waiting.pop(0)
        found = definitions.get(name, {})
        if name in seen:
            continue
        seen.add(name)
        if "properties" in found or found.get("description"):
            tables.append(_table(name, found, definitions))
        waiting += _named(found)
    return tables


def _named(value: Any) -> list[str]:
    """Definitions that a schema refers to, in its order."""
    if isinstance(value, dict):
        own = [value["$ref"].rsplit("/", 1)[-1]] if isinstance(value.get("$ref"), str) else []
        return own + [name for key, one in value.items() if key != "$defs" for name in _named(one)]
    return [name for one in value for name in _named(one)] if isinstance(value, list) else []


def _table(title: str, schema: Json, definitions: Json) -> str:
    rows = [f"## {heading(title)}\n"]
    if schema.get("description"):
        rows.append(f"{_cell(schema['description'])}\n")
    if schema.get("properties"):
        rows += ["| field | value | default | meaning |", "|---|---|---|---|"]
    needed = set(schema.get("required", ()))
    for field, found in schema.get("properties", {}).items():
        default = "required" if field in needed else _value(found.get("default"))
        said = found.get("description") or _settings().get(field) or _first_sentence(found, definitions)
        meaning = _cell(said).replace("|", "\\|")
        rows.append(f"| `{field}` | {_kind(found)} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _first_sentence(found: Json, definitions: Json) -> str:
    """What the definition that a field refers to says first."""
    named = _named(found)
    return definitions.get(named[0], {}).get("description", "").partition(". ")[0] if named else ""


@functools.cache
def _settings() -> dict[str, str]:
    """Engine settings as the glossary has them."""
    return {entry["term"]: entry["meaning"] for entry in glossary.entries()["Engine settings"]}


def _kind(found: Json) -> str:
    if "$ref" in found:
        name = found["$ref"].rsplit("/", 1)[-1]
        return f"[{heading(name)}](#{heading(name).lower().replace(' ', '-')})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in found and found.get("type") != "object":
            kinds = [_kind(one) for one in found[several] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "const" in found:
        return f"`{found['const']}`"
    if "enum" in found:
        return ", ".join(f"`{value}`" for value in found["enum"])
    kind = found.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(dict.fromkeys(_kind({**found, "type": one}) for one in kind if one != "null"))
    if kind == "array":
        items = found.get("items", {})
        return f"list of {_kind(items)}" if items and "properties" not in items else "list"
    if kind == "object":
        inner = found.get("additionalProperties")
        return f"map to {_kind(inner)}" if isinstance(inner, dict) and inner and "anyOf" not in inner else "map"
    limits = [f"{sign} {found[key]:g}" for key, sign in LIMITS.items() if key in found and abs(found[key]) < GUARD]
    return f"{kind} {', '.join(limits)}".strip().replace("<", "&lt;")


def _value(value: Any) -> str:
    return "" if value in (None, "") or isinstance(value, dict | list) else f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("<", "&lt;")
