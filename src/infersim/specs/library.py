"""Find, read and list specs: a name or a path in, a spec out, and a kind sentence where there is none.

Looked through in this order: folders given to ``add_spec_folder``, those in the environment variable
``INFERSIM_SPECS`` (separated as PATH is), then the bundled ones. A folder holds ``accelerators/``, ``systems/``,
``engines/``, ``overheads/``, ``models/``, ``calibrations/`` and ``acceptance/``, each with one YAML file per thing, named
after it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from infersim.errors import SpecError, UnknownNameError, did_you_mean, nearest
from infersim.specs.engine import EngineSpec
from infersim.specs.hardware import Accelerator, System
from infersim.specs.model import ModelSpec
from infersim.specs.quantity import Spec

MAX_SPEC_BYTES = 4_000_000
"""A spec file larger than this is refused before it is read: no honest spec comes near."""

S = TypeVar("S", bound=Spec)
_added: list[Path] = []
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _bundled(kind: str) -> Path:
    """The folder of shipped specs of a kind, inside the wheel or beside the checkout."""
    package = Path(__file__).resolve().parents[1]
    home = {"models": Path("model_specs"), "acceptance": Path("workload_specs") / kind}.get(
        kind, Path("hardware_specs") / kind
    )
    inside, beside = package / home, package.parents[1] / home
    return inside if inside.is_dir() else beside


def measurement_file(name: str) -> Path:
    """A shipped file of measurements, inside the wheel or beside the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "measurements" / name
    return inside if inside.is_file() else package.parents[1] / "measurements" / name


def add_spec_folder(folder: str | Path) -> None:
    """Look into ``folder`` first from now on. Raises SpecError where it is not a folder.

    >>> add_spec_folder("/no/such/folder")
    Traceback (most recent call last):
    infersim.errors.SpecError: no such folder of specs: '/no/such/folder'
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise SpecError(f"no such folder of specs: {str(folder)!r}")
    if path not in _added:
        _added.insert(0, path)
    clear_cache()


def clear_cache() -> None:
    """Forget every spec read so far, so that changed files are read again."""
    load_accelerator.cache_clear()
    load_system.cache_clear()
    load_bundled_model.cache_clear()
    load_engine.cache_clear()
    default_system.cache_clear()


def spec_folders(kind: str) -> list[Path]:
    """The folders that hold specs of a kind, the first one winning."""
    own = [
        *_added,
        *(Path(part).expanduser() for part in os.environ.get("INFERSIM_SPECS", "").split(os.pathsep) if part),
    ]
    return [folder / kind for folder in own if (folder / kind).is_dir()] + [_bundled(kind)]


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
            message = f"unknown field; {did_you_mean(str(problem['loc'][-1]), _fields_at(kind, problem['loc'][:-1]))}"
        elif problem["type"] == "missing":
            message = "is missing"
        elif problem["type"] not in ("value_error", "union_tag_invalid"):
            given = repr(problem["input"])
            message = f"{message}, got {given if len(given) < 60 else given[:57] + '...'}"
        sentences.append(f"{field}: {message}" if field else message)
    return "; ".join(sentences[:5]) + (f"; and {len(sentences) - 5} more" if len(sentences) > 5 else "")


def _fields_at(kind: type[Spec], location: tuple[Any, ...]) -> list[str]:
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


def names(kind: str) -> list[str]:
    """The names of all specs of a kind, sorted: ``accelerators``, ``systems``, ``engines`` or ``models``.

    >>> names("engines")
    ['sglang', 'tgi', 'trtllm', 'vllm']
    """
    return sorted(files(kind), key=str.lower)


def files(kind: str) -> dict[str, Path]:
    """Name -> file of every spec of a kind; ``--`` in a file name stands for ``/``."""
    found: dict[str, Path] = {}
    for folder in spec_folders(kind):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem.replace("--", "/"), path)
    return found


_ALIASES = re.compile(r"^aliases:\s*\[(.*?)\]", re.MULTILINE | re.DOTALL)


def find(kind: str, name: str) -> Path:
    """The file of the spec called ``name`` (case does not matter; aliases count; a path is taken as it is)."""
    noun = kind.rstrip("s")
    if not isinstance(name, str) or not name.strip():
        raise UnknownNameError(f"a name of {noun} is needed, got {name!r}")
    if name.endswith((".yaml", ".yml")) and Path(name).expanduser().is_file():
        return Path(name).expanduser()
    known = files(kind)
    by_key = {known_name.lower(): path for known_name, path in known.items()}
    if name.lower() in by_key:
        return by_key[name.lower()]
    for known_name, path in known.items():
        if "/" in known_name and known_name.lower().rsplit("/", 1)[-1] == name.lower():
            return path
    aliases: dict[str, Path] = {}
    for path in known.values():
        match = _ALIASES.search(path.read_text(encoding="utf-8"))
        for alias in match[1].split(",") if match else ():
            aliases.setdefault(alias.strip().strip("'\"").lower(), path)
    if name.lower() in aliases:
        return aliases[name.lower()]
    listed = f"see `infersim {'models' if kind == 'models' else 'hardware'}`"
    if kind == "acceptance":
        listed = f"known: {', '.join(known)}"
    hint = did_you_mean(name, known) if nearest(name, known) else listed
    raise UnknownNameError(f"no {noun} is called {name!r}; {hint}")


@functools.lru_cache(maxsize=256)
def load_accelerator(name: str) -> Accelerator:
    """The accelerator called ``name``, or the one in a YAML file.

    >>> load_accelerator("h100-sxm").memory.capacity
    80000000000.0
    """
    path = find("accelerators", name)
    return validate(Accelerator, read_yaml(path), file=path)


@functools.lru_cache(maxsize=256)
def load_system(name: str) -> System:
    """The system called ``name``, or the one in a YAML file.

    >>> load_system("HGX-H100").devices_per_node
    8
    """
    path = find("systems", name)
    return validate(System, read_yaml(path), file=path)


@functools.lru_cache(maxsize=256)
def load_bundled_model(name: str) -> ModelSpec:
    """The model whose YAML file is called ``name`` (or given by path); Hugging Face configs are `load_model`'s job.

    >>> load_bundled_model("llama-3.1-8b").hidden_size
    4096
    """
    path = find("models", name)
    return validate(ModelSpec, read_yaml(path), file=path)


@functools.lru_cache(maxsize=64)
def load_engine(name: str) -> EngineSpec:
    """The engine called ``name``, or the one in a YAML file; overheads fitted to measurements replace its assumed ones.

    >>> load_engine("vllm").block_size
    16
    """
    path = find("engines", name)
    data = read_yaml(path)
    fitted = files("overheads").get(str(data.get("name")))
    if fitted is None:
        return validate(EngineSpec, data, file=path)
    measured = read_yaml(fitted)
    merged = data | {
        "host": data.get("host", {}) | measured.get("host", {}),
        **{name: measured[name] for name in ("launch_gap",) if name in measured},
        "sources": [*data.get("sources", []), *measured.get("sources", [])],
    }
    return validate(EngineSpec, merged, file=fitted)


@functools.lru_cache(maxsize=256)
def default_system(accelerator: str) -> System | None:
    """The system an accelerator is placed in where the user names none; None where no spec claims it.

    >>> default_system("H100-SXM").name
    'HGX-H100'
    """
    claim = re.compile(rf"^default_for:\s*\[(?:[^\]]*[\s,\"'])?{re.escape(accelerator)}[\s,\"'\]]", re.MULTILINE)
    for path in files("systems").values():
        if claim.search(path.read_text(encoding="utf-8").replace("default_for: [", "default_for: [ ")):
            return validate(System, read_yaml(path), file=path)
    return None
