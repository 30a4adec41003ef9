"""The JSON Schema of a scenario file, made from the models that read it: for editors, and for programs that write scenarios."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import json
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BeforeValidator, WrapValidator
from pydantic.json_schema import models_json_schema

from infersim.scenario import questions
from infersim.scenario.sections import RENTS, Costs, Limits, Search
from infersim.scenario.setup import SECTIONS, Setup
from infersim.serving.arrivals import Constant, Gamma, Profile
from infersim.specs.api import Prices
from infersim.specs.quantity import Spec
from infersim.specs.served import ServedModel

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]
LENGTHS = ("fixed", "uniform", "lognormal", "empirical")
ARRIVALS = ("closed", "gamma", "constant", "profile", "burst")
RATE: Json = {"anyOf": [{"type": "number", "exclusiveMinimum": 0},
                        {"type": "string", "pattern": r"^\s*[0-9.]+(e[-+]?[0-9]+)?\s*(/s|/min|/h|req/s|Hz)\s*$"}]}  # fmt: skip
_RULE: Json = {
    "anyOf": [{"type": ["boolean", "number", "null"]}, {"type": "string", "minLength": 1}, {"type": "array"}]
}


def scenario_schema() -> Json:
    """JSON Schema (draft 2020-12) of a scenario file, the sections of all layers included.

    >>> schema = scenario_schema()
    >>> schema["properties"]["deployment"]["$ref"], schema["additionalProperties"]
    ('#/$defs/Placement', False)
    """
    models: list[type[Spec]] = [Setup, *(layer.load_spec() for layer in questions.LAYERS.values())]
    sweep = sweep_spec()
    models += [sweep] if sweep is not None else []
    places, built = models_json_schema([(model, "validation") for model in models], ref_template="#/$defs/{model}")
    definitions: Json = built.get("$defs", {})
    for model in _reachable(models):
        _describe(model, definitions.get(_name(model, definitions), {}))
        if model.__module__ != Setup.__module__ and model not in SECTIONS.values():
            _loosen(model, definitions)
    _shorten(definitions)
    _own_forms(definitions)
    properties: Json = dict(definitions.pop(_name(Setup, definitions))["properties"])
    properties["question"] = {
        "enum": list(questions.known()),
        "description": properties["question"].get("description", ""),
    }
    for layer in questions.LAYERS.values():
        written_out = places[layer.load_spec(), "validation"]
        properties[layer.section] = {"anyOf": [written_out, {"type": "string", "pattern": r"\.ya?ml$"}]}
    case = _changes(properties)
    whole: Json = {
        "$schema": DRAFT, "title": "infersim scenario", "type": "object", "additionalProperties": False,
        "description": "What infersim run answers: a base case, what-ifs, grids, and what is expected of them.",
        "properties": _of_the_file(case, places[sweep, "validation"] if sweep is not None else {}) | properties,
        "examples": [{"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM", "workload": {"concurrency": 16}}],
        "$defs": definitions,
    }  # fmt: skip
    return whole


def _name(model: type[Spec], definitions: Json) -> str:
    """What pydantic calls a model in a schema: with its module where two models have one name."""
    whole = f"{model.__module__}.{model.__qualname__}".replace(".", "__")
    return whole if whole in definitions else model.__name__


def sweep_spec() -> type[Spec] | None:
    """The model of the section ``sweep``."""
    try:
        found: type[Spec] = questions.load("scenario.sweeps.design:SweepSpec")
    except ModuleNotFoundError:
        return None
    return found


def _of_the_file(case: Json, sweep: Json) -> Json:
    grid: Json = {
        "type": "object", "minProperties": 1, "propertyNames": {"pattern": _paths()},
        "additionalProperties": {"type": "array", "minItems": 1},
        "description": "Values by dotted path; one case for every combination.",
        "examples": [{"deployment.tensor_parallel": [1, 2, 4]}],
    }  # fmt: skip
    expect: Json = {
        "type": "object", "additionalProperties": _RULE,
        "properties": {"case": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _RULE},
                                "description": "The same by the name of a case."}},
        "description": "Figures of the answer by name, and what is expected of them: a value, '< 800 ms', '0.90 USD +- 5%', '1 .. 2'.",
        "examples": [{"target_met": True, "ttft_s": "< 800 ms", "cost_per_million_output_tokens_usd": "0.90 USD +- 5%"}],
    }  # fmt: skip
    change = {**case, "properties": {**case["properties"], "grid": grid, "expect": expect}}
    file: Json = {"type": "string", "minLength": 1}
    name = {"type": ["string", "number"], "pattern": r"^[^./\\#][^/\\#]*$", "maxLength": 200}
    change["properties"] |= {"name": name, "description": {"type": "string"}}
    return {
        "infersim": {"const": 1, "description": "The form of the file."},
        "name": {"type": "string", "pattern": r"^[^/\\]*$", "maxLength": 200, "description": "Of the scenario; by default the file's."},
        "description": {"type": "string"},
        "include": {"anyOf": [file, {"type": "array", "items": file, "minItems": 1}],
                    "description": "Files this one is laid on, relative to it; the later ones on the earlier."},
        "what_if": {"type": ["array", "null"], "items": change,
                    "description": "Cases: what each changes in the base, by dotted path.",
                    "examples": [[{"name": "two H200", "hardware": "H200-SXM", "deployment.tensor_parallel": 2}]]},
        "grid": grid, "expect": expect, "sweep": sweep,
    }  # fmt: skip


def _paths() -> str:
    names = [*Setup.model_fields, *questions.sections()]
    return rf"^({'|'.join(names)})(\.[^.\s]+)*$"


def _changes(properties: Json) -> Json:
    """A case: sections as they are, and anything by dotted path below them."""
    below = rf"^({'|'.join(properties)})(\.[^.\s]+)+$"
    return {
        "type": "object",
        "properties": dict(properties),
        "patternProperties": {below: {}},
        "additionalProperties": False,
    }


def _reachable(models: list[type[Spec]]) -> Iterator[type[Spec]]:
    """Every model that the models are made of."""
    seen: set[type[Spec]] = set()
    waiting = list(models)
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        yield model
        for field in model.model_fields.values():
            waiting += [one for one in _inside(field.annotation) if one not in seen]


def _inside(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for argument in get_args(annotation):
        yield from _inside(argument)


def _describe(model: type[Spec], schema: Json) -> None:
    """The docstrings of a model's fields as their descriptions."""
    docs = _field_docs(model)
    for name, field in schema.get("properties", {}).items():
        if name in docs and "description" not in field:
            field["description"] = docs[name]


ANYTHING: Json = {}
"""Short forms that a validator turns into what a field holds; whether they are right, it says."""


def _loosen(model: type[Spec], definitions: Json) -> None:
    """Leave room for short forms wherever a validator sees what is given before the field does; what is known stays for editors."""
    name = _name(model, definitions)
    schema = definitions.get(name)
    if schema is None or model.__module__.startswith("infersim.specs.model"):
        return
    decorators = model.__pydantic_decorators__
    early = {
        field
        for one in decorators.field_validators.values()
        if one.info.mode in ("before", "wrap")
        for field in one.info.fields
    }
    early |= {
        field for field, info in model.model_fields.items() if _sees_early([*info.metadata, *get_args(info.annotation)])
    }
    for field, told in schema.get("properties", {}).items():
        if field in early or "discriminator" in json.dumps(told):
            schema["properties"][field] = {"anyOf": [told, ANYTHING], "description": told.get("description", "")}
    if any(one.info.mode in ("before", "wrap") for one in decorators.model_validators.values()):
        definitions[name] = {"anyOf": [schema, ANYTHING], "description": schema.get("description", "")}


def _sees_early(parts: Iterable[Any]) -> bool:
    return any(isinstance(part, BeforeValidator | WrapValidator) or _sees_early(get_args(part)) for part in parts)


def _field_docs(model: type[Any]) -> dict[str, str]:
    """The text under each field of a class and of those it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__[: model.__mro__.index(Spec)] if Spec in model.__mro__ else ()):
        try:
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, SyntaxError, TypeError, ValueError):
            continue
        lines = body.body if isinstance(body, ast.ClassDef) else []
        for line, after in itertools.pairwise(lines):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(after, ast.Expr):
                text = after.value.value if isinstance(after.value, ast.Constant) else None
                if isinstance(text, str):
                    found[line.target.id] = " ".join(text.split())
    return found


def _shorten(schema: Any) -> None:
    """Without titles that repeat names, and with descriptions that end before their examples in Python."""
    if isinstance(schema, list):
        for one in schema:
            _shorten(one)
    elif isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        if schema.get("type") == "string" and isinstance(schema.get("default"), int | float):
            del schema["default"]  # a quantity in SI, which a file writes with its unit
        if isinstance(schema.get("description"), str):
            schema["description"] = " ".join(schema["description"].split(">>>")[0].split()).replace("``", "`")
        for one in schema.values():
            _shorten(one)


def _own_forms(definitions: Json) -> None:
    """The forms that validators take before the models see them."""
    named = functools.partial(_name, definitions=definitions)
    _replace(definitions, LENGTHS, lambda old: {"anyOf": [{"type": "number", "minimum": 1}, *_one_key(old["discriminator"]["mapping"])],
                                                "examples": [1024, {"lognormal": {"mean": 1200, "p99": 8000}}]})  # fmt: skip
    _replace(definitions, ARRIVALS, _arrivals)
    for rated in (Gamma, Constant):
        definitions[named(rated)]["properties"]["rate"] = {**RATE, "description": "Requests per second."}
    definitions[named(Profile)]["properties"]["rates"]["items"] = {
        "anyOf": [{"type": "number", "minimum": 0}, RATE["anyOf"][1]]
    }
    limits = definitions[named(Limits)]
    quantity = {
        "type": "string",
        "pattern": r"^\s*[0-9.]+(e[-+]?[0-9]+)?\s*(s|ms|us|ns|min|h|d)\s*$",
        "examples": ["800 ms"],
    }
    limit = r"^(ttft|tpot|itl|e2e)(_(p[0-9]+(\.[0-9]+)?|mean|median))?$"
    definitions[named(Limits)] = {
        "anyOf": [
            {"type": "object", "propertyNames": {"pattern": limit}, "additionalProperties": quantity, "minProperties": 1},
            {"type": "string", "pattern": "="},
        ],
        "description": limits.get("description", ""), "examples": [{"ttft_p95": "800 ms", "tpot_p95": "40 ms"}],
    }  # fmt: skip
    one_of = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False,
              "properties": {name: {"type": ["object", "null"]} for name in ("buy", *RENTS)}}  # fmt: skip
    terms: Json = {"anyOf": [{"enum": ["buy", *RENTS]}, one_of, {"type": "null"}]}
    costs = definitions[named(Costs)]["properties"]
    for name in ("terms", "against"):
        costs[name] = {**terms, "description": costs[name].get("description", "")}
    costs["site"] = {
        "anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}],
        "description": costs["site"].get("description", ""),
    }
    prices = definitions[named(Prices)]["anyOf"][0]
    three = {"type": "string", "pattern": r"^[^,]+(,[^,]+){1,2}$", "examples": ["3,0.3,15"]}
    definitions[named(Prices)] = {"anyOf": [prices, three], "description": prices.get("description", "")}
    search = definitions[named(Search)]["properties"]
    for name in ("precision", "engine"):
        search[name] = {
            "anyOf": [{"type": "string", "minLength": 1}, *search[name]["anyOf"]],
            "description": search[name].get("description", ""),
        }
    config: Json = {"type": "object", "anyOf": [{"required": ["architectures"]}, {"required": ["model_type"]}],
                    "description": "A config.json of Hugging Face written out."}  # fmt: skip
    for owner in (named(Setup), named(ServedModel)):
        if owner in definitions:
            definitions[owner]["properties"]["model"]["anyOf"].append(config)
    for section, model in SECTIONS.items():
        if section in ("deployment", "workload", "cost"):
            field = definitions[named(Setup)]["properties"][section]
            definitions[named(Setup)]["properties"][section] = {"$ref": f"#/$defs/{named(model)}", **({"description": field["description"]}
                                                           if "description" in field else {})}  # fmt: skip


def _replace(schema: Any, kinds: tuple[str, ...], form: Any) -> None:
    """Another form for every choice by ``kind`` among these kinds."""
    if isinstance(schema, list):
        for one in schema:
            _replace(one, kinds, form)
    elif isinstance(schema, dict):
        for key, one in schema.items():
            mapping = one.get("discriminator", {}).get("mapping", {}) if isinstance(one, dict) else {}
            if mapping and set(mapping) == set(kinds):
                kept = {name: one[name] for name in ("description", "default") if name in one}
                schema[key] = form(one) | kept
            else:
                _replace(one, kinds, form)
        for key in ("anyOf", "oneOf"):
            for place, one in enumerate(schema.get(key, ()) if isinstance(schema.get(key), list) else ()):
                mapping = one.get("discriminator", {}).get("mapping", {}) if isinstance(one, dict) else {}
                if mapping and set(mapping) == set(kinds):
                    schema[key][place] = form(one)


def _one_key(mapping: dict[str, str]) -> list[Json]:
    return [_one_key_of(kind, {"$ref": where}) for kind, where in mapping.items()]


def _one_key_of(key: str, form: Json) -> Json:
    return {"type": "object", "properties": {key: form}, "required": [key], "additionalProperties": False}


def _arrivals(old: Json) -> Json:
    mapping = dict(old["discriminator"]["mapping"])
    short: Json = {
        "poisson": {"anyOf": [*RATE["anyOf"], _one_key_of("rate", RATE)]},
        "gamma": {"anyOf": [*RATE["anyOf"], {"$ref": mapping["gamma"]}]},
        "constant": {"anyOf": [*RATE["anyOf"], {"$ref": mapping["constant"]}]},
        "closed": {"anyOf": [{"type": "integer", "minimum": 1}, {"$ref": mapping["closed"]}]},
        "profile": {"$ref": mapping["profile"]},
        "burst": {"type": ["object", "null"], "maxProperties": 0},
    }  # fmt: skip
    named = [_one_key_of(kind, form) for kind, form in short.items()]
    kinds = [{"allOf": [{"$ref": where}, {"required": ["kind"]}]} for where in mapping.values()]
    return {"anyOf": [{"const": "burst"}, *named, *kinds], "examples": [{"poisson": "6 /s"}, {"closed": 32}]}
