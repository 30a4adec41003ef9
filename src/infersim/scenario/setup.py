"""A scenario's setup as values: its sections read and checked, and every error at its line."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError, field_validator

from infersim.errors import SpecError, UnknownNameError, did_you_mean
from infersim.scenario import questions
from infersim.scenario.places import Fields, Place, get, place_of, put
from infersim.scenario.sections import Costs, FleetDemand, Limits, Load, Options, Search, Simulation
from infersim.scenario.text import parse, read_text
from infersim.specs.hardware import Accelerator
from infersim.specs.huggingface import from_config
from infersim.specs.model import ModelSpec
from infersim.specs.quantity import Spec
from infersim.specs.reading import fields_at
from infersim.specs.served import Placement, ServedModel

if TYPE_CHECKING:
    from infersim.scenario.sweeps.design import SweepSpec

Name = Annotated[str, Field(min_length=1, max_length=1000)]
SECTIONS: dict[str, type[Spec]] = {
    "deployment": Placement, "workload": Load, "cost": Costs, "simulate": Simulation, "plan": Search, "compare": Options,
    "fleet": FleetDemand,
}  # fmt: skip
"""Sections that are mappings of fields: a change of one lays the new fields over the old ones."""
OF_THE_FILE = ("infersim", "name", "description", "include", "what_if", "grid", "expect", "sweep")
"""Keys that are about the file, not about one case."""
FILES = ("model", "hardware", "deployment.engine", "deployment.system", "workload.trace", "cost.site", "fleet.profile")
"""Fields that may name a file, relative to the one they are written in."""
ENDINGS = (".yaml", ".yml", ".json", ".csv", ".jsonl", ".gz", ".txt", ".parquet")


class Setup(Spec):
    """One case of a scenario: a model on hardware, placed somehow, under a load, within limits, at a price; and what is asked of it."""

    question: str | None = None
    """estimate, simulate, capacity, plan, cost, compare, size, or one of a layer; by default what the sections ask for."""
    model: Name | ModelSpec | None = None
    """A bundled name, a file or folder, a Hugging Face id, or a model written out (a ``config.json`` as well)."""
    hardware: (
        Name | Accelerator | Annotated[tuple[Name | Accelerator, ...], Field(min_length=1, max_length=200)] | None
    ) = None
    """An accelerator: a bundled name, a file, or one written out; a list for a search or a comparison, ``all`` for every one."""
    deployment: Placement = Placement()
    workload: Load = Load()
    target: Limits | None = None
    cost: Costs = Costs()
    simulate: Simulation | None = None
    plan: Search | None = None
    compare: Options | None = None
    fleet: FleetDemand | None = None
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """Same seed, same result."""

    @field_validator("model", mode="before")
    @classmethod
    def _config(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and ("architectures" in given or "model_type" in given):
            return from_config(dict(given), name=str(given.get("_name_or_path") or "model written out"))
        return given

    @field_validator("deployment", "workload", "cost", mode="before")
    @classmethod
    def _nothing(cls, given: Any) -> Any:
        return {} if given is None else given

    @property
    def served(self) -> ServedModel:
        """The model on its hardware; SpecError where one is missing or hardware is a list."""
        for name in ("model", "hardware"):
            if getattr(self, name) is None:
                raise SpecError("is missing", field=name)
        if isinstance(self.hardware, tuple):
            raise SpecError("is a list: this question takes one accelerator", field="hardware")
        fields: dict[str, Any] = {"model": self.model, "hardware": self.hardware, "deployment": self.deployment}
        return ServedModel.model_construct(**fields, gpu_hour=self.cost.gpu_hour)

    @property
    def limits(self) -> tuple[Any, ...]:
        return self.target.limits if self.target is not None else ()


def read_setup(tree: Fields) -> tuple[Setup, dict[str, Spec]]:
    """The setup and the layers' sections that a tree holds. SpecError with file, line and field for everything that is wrong."""
    layers = questions.sections()
    own = {key: value for key, value in tree.items() if key not in layers and key not in OF_THE_FILE}
    own = Fields(own, places=tree.places)
    _refuse_flags(own)
    asked = own.get("question")
    if asked is not None and asked not in questions.known():
        raise error_at(
            own, ("question",), f"no question is called {asked!r}; {did_you_mean(str(asked), questions.known())}"
        )
    setup = _validated(Setup, own, ())
    found = {}
    for section in layers:
        if tree.get(section) is not None:
            kind = questions.LAYERS[layers[section]].load_spec()
            found[section] = _validated(kind, tree[section], (section,), tree)
    return setup, found


def check_sweep(tree: Mapping[str, Any]) -> SweepSpec:
    """The section ``sweep``; SpecError, with its line, where it is none."""
    from infersim.scenario.sweeps.design import SweepSpec

    found: SweepSpec = _validated(SweepSpec, tree["sweep"], ("sweep",), tree)
    return found


def _validated(kind: type[Any], tree: Any, path: tuple[str, ...], whole: Any = None) -> Any:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise _told(error, kind, tree if whole is None else whole, path) from error
    except SpecError as error:
        raise located(error, tree if whole is None else whole) from error
    except RecursionError as error:
        raise error_at(tree, path, "nested too deeply") from error


WRONG_KIND = {"string_type", "model_type", "dict_type", "float_type", "int_type", "bool_type", "tuple_type", "list_type",
              "model_attributes_type", "dataclass_type", "mapping_type"}  # fmt: skip


class _Problem(typing.NamedTuple):
    path: tuple[str, ...]
    place: Place | None
    message: str
    wrong_kind: bool


def _told(error: ValidationError, kind: type[Spec], tree: Any, prefix: tuple[str, ...]) -> SpecError:
    """Pydantic's report as sentences at their lines, the first five."""
    problems = _without_echoes([_problem(one, kind, tree, prefix) for one in error.errors(include_url=False)])
    first, rest = problems[0], problems[1:]
    lines = [first.message]
    lines += [": ".join(str(part) for part in (one.place, ".".join(one.path), one.message) if part) for one in rest[:4]]
    if len(rest) > 4:
        lines.append(f"and {len(rest) - 4} more")
    return SpecError("\n".join(lines), field=".".join(first.path), file=str(first.place) if first.place else None)


def _problem(one: Any, kind: type[Spec], tree: Any, prefix: tuple[str, ...]) -> _Problem:
    place, path = place_of(tree, (*prefix, *one["loc"]))
    message = one["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if one["type"] == "extra_forbidden":
        key = str(one["loc"][-1])
        message = f"unknown field; {_suggestion(key, kind, one['loc'][:-1])}"
    elif one["type"] == "missing":
        name = str(one["loc"][-1])
        path = (*path, name) if not path or path[-1] != name else path
        message = "is missing"
    elif one["type"] in ("value_error", "union_tag_invalid", "union_tag_not_found"):
        inner = one.get("ctx", {}).get("error")
        if isinstance(inner, SpecError):
            message = inner.message.replace("Input should be", "should be")
            extra = [part for part in (inner.field or "").split(".") if part]
            if extra and extra[0] not in path:
                message = f"{inner.field}: {message}"
    else:
        message = f"{_plainly(message)}, got {_shown(one['input'])}"
    return _Problem(path, place, message, one["type"] in WRONG_KIND)


def _suggestion(key: str, kind: type[Spec], location: Sequence[Any]) -> str:
    if location:
        known = fields_at(kind, tuple(location))
    else:
        known = [*kind.model_fields, *(OF_THE_FILE + tuple(questions.sections()) if kind is Setup else ())]
    homes = [name for name, section in SECTIONS.items() if key in section.model_fields]
    if homes and kind is Setup and tuple(location)[:1] != (homes[0],) and key not in known:
        return f"it belongs under {homes[0]}: {homes[0]}.{key}"
    return did_you_mean(key, known) if known else "nothing is known by that name here"


def _plainly(message: str) -> str:
    """A sentence of pydantic in plainer words.

    >>> _plainly("Input should be a valid integer, unable to parse string as an integer")
    'should be a whole number'
    """
    words = {"Input should be": "should be", "a valid integer": "a whole number", "a valid number": "a number", "a valid string": "text",
             "a valid boolean": "true or false", "a valid dictionary": "a mapping of fields", "a valid tuple": "a list",
             "a valid list": "a list"}  # fmt: skip
    for word, plain in words.items():
        message = message.replace(word, plain)
    message = (
        message.split(" or instance of ")[0]
        .split(", unable to")[0]
        .split(", got a number with")[0]
        .split(" or an object to")[0]
    )
    return message.replace("a valid dictionary", "a mapping of fields")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping of fields"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    shown = repr(value)
    return shown if len(shown) < 60 else shown[:57] + "..."


def _without_echoes(problems: list[_Problem]) -> list[_Problem]:
    """Without what alternatives of a value say that the value was not meant to be."""
    kept: list[_Problem] = []
    for one in problems:
        better = any(
            other is not one
            and other.path[: len(one.path)] == one.path
            and (len(other.path) > len(one.path) or not other.wrong_kind)
            for other in problems
        )
        if not (one.wrong_kind and better) and (one.path, one.message) not in [(k.path, k.message) for k in kept]:
            kept.append(one)
    at: dict[tuple[str, ...], list[_Problem]] = {}
    for one in kept:
        at.setdefault(one.path, []).append(one)
    joined = []
    for found in at.values():
        kinds = [one for one in found if one.wrong_kind]
        if len(kinds) > 1:
            told = " or ".join(
                dict.fromkeys(one.message.split(", got ")[0].removeprefix("should be ") for one in kinds)
            )
            found = [kinds[0]._replace(message=f"should be {told}, got {kinds[0].message.split(', got ')[-1]}")]
        joined += found
    return joined


def _refuse_flags(tree: Fields) -> None:
    """SpecError for true or false where a number or a name is wanted: pydantic would take them for 1 and 0."""
    for section, kind in SECTIONS.items():
        below = tree.get(section)
        for name, value in below.items() if isinstance(below, Mapping) else ():
            field = kind.model_fields.get(name)
            if isinstance(value, bool) and field is not None and bool not in _alternatives(field.annotation):
                told = str(value).lower()
                raise error_at(tree, (section, name), f"is not a field to switch on or off, got {told}")
    if isinstance(tree.get("seed"), bool):
        raise error_at(tree, ("seed",), "is a whole number, got a switch")


def _alternatives(annotation: Any) -> set[Any]:
    found = {annotation}
    for part in typing.get_args(annotation):
        found |= _alternatives(part)
    return found | ({bool} if annotation is Any else set())


class Found(str):
    """A path from here: it was relative to a file, and is not to be moved again."""

    __slots__ = ()


def files_found(tree: Fields) -> Fields:
    """With paths that are relative to the file they were written in as paths from here."""
    for field in FILES:
        path = tuple(field.split("."))
        value = get(tree, path)
        if isinstance(value, str):
            moved = _from_its_file(value, place_of(tree, path)[0])
            if moved.endswith((".yaml", ".yml", ".csv")) and not Path(moved).expanduser().is_file():
                raise error_at(tree, path, f"no such file: {moved}")
            if moved != value:
                tree = put(tree, path, moved)
    for section in questions.sections():
        tree = section_written_out(tree, section)
    listed = tree.get("hardware")
    if isinstance(listed, list):
        for number, value in enumerate(listed):
            if isinstance(value, str):
                moved = _from_its_file(value, place_of(tree, ("hardware", number))[0])
                if moved != value:
                    tree = put(tree, ("hardware", str(number)), moved)
    return tree


def section_written_out(tree: Fields, section: str) -> Fields:
    """The tree with a layer's section read from its file, where there is the name of one."""
    value = tree.get(section)
    if not (isinstance(value, str) and value.endswith((".yaml", ".yml")) and section in questions.sections()):
        return tree
    path = Path(_from_its_file(value, place_of(tree, (section,))[0]))
    try:
        return put(tree, (section,), parse(read_text(path), path))
    except SpecError as error:
        raise error if error.file != path else error_at(tree, (section,), f"{path}: {error.message}") from None


def _from_its_file(value: str, place: Place | None) -> str:
    if isinstance(value, Found) or place is None or Path(value).is_absolute() or value.startswith("~"):
        return value
    named = value.endswith(ENDINGS) or value.startswith(("./", "../"))
    if not named and not (place.file.parent / value / "config.json").is_file():
        return value
    beside = str(place.file.parent / value)
    return Found(beside if beside.startswith(("/", ".")) else f"./{beside}")


def error_at(tree: Any, path: Sequence[Any], message: str) -> SpecError:
    """A SpecError at the place of a field."""
    place, _ = place_of(tree, path)
    return SpecError(message, field=".".join(str(part) for part in path), file=str(place) if place else None)


def located(error: SpecError, tree: Any, file: Path | None = None) -> SpecError:
    """The same error at the line that its field was written in, where it can be told, else with the scenario's file."""
    way = _way(error, tree)
    if way is None:
        return (
            error
            if error.file is not None or file is None
            else type(error)(error.message, field=error.field, file=file)
        )
    place, _ = place_of(tree, way)
    message = f"{error.file}: {error.message}" if error.file is not None else error.message
    return type(error)(message, field=".".join(map(str, way)), file=str(place) if place else file)


def _way(error: SpecError, tree: Any) -> tuple[Any, ...] | None:
    """The path of the field that an error is about."""
    named = [(*field.split("."),) for field in FILES]
    ways: list[tuple[Any, ...]] = [way for way in named if isinstance(get(tree, way), str)]
    ways += (
        [("hardware", number) for number, _ in enumerate(tree["hardware"])]
        if isinstance(tree.get("hardware"), list)
        else []
    )
    if error.file is not None:
        missing = [way for way in ways if error.message == "no such file" and _ends_so(error.file, get(tree, way))]
        return missing[0] if missing else None
    if not error.field:
        known = [way for way in ways if isinstance(error, UnknownNameError) and str(get(tree, way)) in error.message]
        return max(known, key=lambda way: len(str(get(tree, way)))) if known else None
    parts = tuple(error.field.split("."))
    tried: list[tuple[Any, ...]] = [parts, *((section, *parts) for section in SECTIONS), *_RENAMED.get(error.field, ())]
    return next((way for way in tried if get(tree, way) is not None), None)


def _ends_so(file: Any, given: str) -> bool:
    return str(file).endswith(given.removeprefix("./").removeprefix("../"))


_RENAMED: dict[str, tuple[tuple[str, ...], ...]] = {
    "price_per_hour": (("cost", "gpu_hour"),), "gpu": (("hardware",),), "gpus": (("hardware",),),
    "traffic.sessions": (("workload", "sessions"),), "own.price": (("cost", "terms"),), "input_tokens": (("workload",),),
}  # fmt: skip
"""Fields that functions call otherwise than a scenario does."""
