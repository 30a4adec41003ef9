"""The page of scenario fields, from the JSON Schema of the model that reads them."""

from __future__ import annotations

import importlib.util
from typing import Any

from pydantic import BaseModel


def page() -> str:
    """Markdown: the fields of a scenario and of everything in it."""
    text = "# Scenario fields\n\nMade from the schema that `infersim schema` prints. "
    text += "An unknown field is an error that names the nearest one.\n\n"
    model = scenario_model()
    return text + (tables(model) if model else "This version has no scenarios.\n")


def scenario_model() -> type[BaseModel] | None:
    """The model of a scenario file; None in a version without one."""
    if importlib.util.find_spec("infersim.scenario.spec") is None:
        return None
    return None


def tables(model: type[BaseModel]) -> str:
    """One table of fields for the model and for each model that it is made of."""
    schema = model.model_json_schema(mode="validation")
    parts = [_table(model.__name__, schema)]
    parts += [_table(name, found) for name, found in schema.get("$defs", {}).items() if "properties" in found]
    return "\n".join(parts)


def _table(name: str, schema: dict[str, Any]) -> str:
    rows = [f"## {name}\n"]
    if schema.get("description"):
        rows.append(f"{_summary(schema['description'])}\n")
    rows += ["| field | value | default | meaning |", "|---|---|---|---|"]
    needed = set(schema.get("required", ()))
    for field, found in schema.get("properties", {}).items():
        default = "required" if field in needed else _value(found.get("default"))
        meaning = _summary(found.get("description", "")).replace("|", "\\|")
        rows.append(f"| `{field}` | {_kind(found)} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


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
    limits = [f"{sign} {found[key]}" for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="),
                                                       ("exclusiveMaximum", "<")) if key in found]  # fmt: skip
    return f"{kind} {', '.join(limits)}".strip().replace("<", "&lt;")


def _value(value: Any) -> str:
    return "" if value is None or value == {} or value == [] else f"`{value}`"


def _summary(text: str) -> str:
    """A docstring's words without its doctests."""
    return " ".join(text.split(">>>")[0].split()).replace("``", "`").replace("<", "&lt;")
