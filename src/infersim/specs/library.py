"""Find, read and list specs: a name or a path in, a spec out, and a kind sentence where there is none.

Looked through in this order: folders given to ``add_spec_folder``, those in the environment variable
``INFERSIM_SPECS`` (separated as PATH is), then the bundled ones. A folder holds ``accelerators/``, ``systems/``,
``engines/``, ``overheads/``, ``models/``, ``calibrations/``, ``acceptance/``, ``api_caching/``, ``decisions/``, ``grammar_engines/``,
``targets/``, ``vector_indexes/``, ``recall_curves/`` and ``search_rates/``, each with one YAML file per thing, named after it, and
``prices/`` with tables of prices, each of which stands in for later ones of the same hardware and kind.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from infersim.errors import SpecError, UnknownNameError, did_you_mean, nearest
from infersim.specs.engine import EngineSpec
from infersim.specs.hardware import Accelerator, Price, System
from infersim.specs.model import ModelSpec
from infersim.specs.price_tables import PriceRow, by_hardware, layered, read_price_table
from infersim.specs.reading import explain as explain
from infersim.specs.reading import read_yaml as read_yaml
from infersim.specs.reading import validate as validate
from infersim.specs.vector_search import RecallCurve, SearchRates, VectorIndex

AcceleratorOrSystem = TypeVar("AcceleratorOrSystem", Accelerator, System)
RETRIEVAL = ("vector_indexes", "recall_curves", "search_rates")
_added: list[Path] = []
_price_files: list[Path] = []
derived_caches: list[Callable[[], None]] = []
"""What else ``clear_cache`` empties: caches of what was made of specs."""


OF_WORKLOADS = ("acceptance", "api_caching", "decisions", "grammar_engines", "targets")
"""Kinds of specs that tell of what is asked, not of what answers."""


def _bundled(kind: str) -> Path:
    """The folder of shipped specs of a kind, inside the wheel or beside the checkout."""
    package = Path(__file__).resolve().parents[1]
    home = Path("model_specs") if kind == "models" else Path("hardware_specs") / kind
    if kind in OF_WORKLOADS:
        home = Path("workload_specs") / kind
    if kind in RETRIEVAL:
        home = Path("retrieval_specs") / kind
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


def add_price_file(path: str | Path) -> list[PriceRow]:
    """Prices of a CSV or YAML file in place of those on file for the same hardware and kind, from now on.

    Returns the rows by the names they have here. Raises SpecError on a file that cannot be read or names no hardware.
    """
    rows = read_named_prices(path)
    if Path(path) not in _price_files:
        _price_files.insert(0, Path(path))
    clear_cache()
    return rows


def looked_into() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Folders of specs and tables of prices that stand before the bundled ones, for another process to ``look_into``."""
    own = [folder.resolve() for _, folder in own_folders()]
    return tuple(map(str, own)), tuple(str(path.resolve()) for path in _price_files)


def look_into(folders: tuple[str, ...], price_files: tuple[str, ...]) -> None:
    """Look where another process looks, and nowhere else. SpecError where this machine does not have what that one has."""
    if (folders, price_files) == looked_into():
        return
    for missing in (path for path in (*folders, *price_files) if not Path(path).exists()):
        raise SpecError("this machine has no such folder or file; put it where every worker sees it", file=missing)
    os.environ.pop("INFERSIM_SPECS", None)
    _added[:], _price_files[:] = map(Path, folders), map(Path, price_files)
    clear_cache()


def clear_cache() -> None:
    """Forget every spec read so far, so that changed files are read again."""
    for forget in derived_caches:
        forget()
    _shipped_prices.cache_clear()
    _own_prices.cache_clear()
    load_accelerator.cache_clear()
    load_system.cache_clear()
    load_bundled_model.cache_clear()
    load_engine.cache_clear()
    load_vector_index.cache_clear()
    load_recall_curve.cache_clear()
    load_search_rates.cache_clear()
    default_system.cache_clear()


def own_folders() -> list[tuple[str, Path]]:
    """The user's folders of specs, the first one winning, each with who named it: ``--specs`` or ``INFERSIM_SPECS``."""
    listed = (Path(part).expanduser() for part in os.environ.get("INFERSIM_SPECS", "").split(os.pathsep) if part)
    return [*(("--specs", folder) for folder in _added), *(("INFERSIM_SPECS", folder) for folder in listed)]


def spec_folders(kind: str) -> list[Path]:
    """The folders that hold specs of a kind, the first one winning."""
    return [folder / kind for _, folder in own_folders() if (folder / kind).is_dir()] + [_bundled(kind)]


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


def read_named_prices(path: str | Path) -> list[PriceRow]:
    """The rows of a price table, each with the name its hardware has here."""
    rows = []
    for row in read_price_table(path):
        try:
            home = find("accelerators", row.hardware)
        except UnknownNameError as error:
            try:
                home = find("systems", row.hardware)
            except UnknownNameError:
                raise SpecError(error.message, file=path, field="hardware") from error
        rows.append(row.model_copy(update={"hardware": home.stem}))
    return rows


@functools.cache
def _shipped_prices() -> dict[str, tuple[Price, ...]]:
    return by_hardware(row for path in sorted(_bundled("prices").glob("*.csv")) for row in read_price_table(path))


@functools.cache
def _own_prices() -> list[dict[str, tuple[Price, ...]]]:
    """Prices of the user's tables: files given first, then those in folders of specs."""
    folders = spec_folders("prices")[:-1]
    return [
        by_hardware(read_named_prices(path))
        for path in (*_price_files, *(p for f in folders for p in sorted(f.glob("*.csv"))))
    ]


def _priced(spec: AcceleratorOrSystem) -> AcceleratorOrSystem:
    """The spec with its prices: of each kind those in the user's tables, else those it states itself, else the shipped ones."""
    own = (table.get(spec.name, ()) for table in _own_prices())
    prices = layered(*own, spec.prices, _shipped_prices().get(spec.name, ()))
    return spec.model_copy(update={"prices": prices}) if prices else spec


_ALIASES = re.compile(r"^aliases:\s*\[(.*?)\]", re.MULTILINE | re.DOTALL)


def find(kind: str, name: str) -> Path:
    """The file of the spec called ``name`` (case does not matter; aliases count; a path is taken as it is)."""
    noun = {"vector_indexes": "vector index", "search_rates": "set of search rates"}.get(
        kind, kind.rstrip("s").replace("_", " ")
    )
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
    listed = f"see `infersim {'models' if kind == 'models' else 'hardware'}`, or name a file of yours"
    if kind in ("sites", "launch", *OF_WORKLOADS, *RETRIEVAL):
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
    return _priced(validate(Accelerator, read_yaml(path), file=path))


@functools.lru_cache(maxsize=256)
def load_system(name: str) -> System:
    """The system called ``name``, or the one in a YAML file.

    >>> load_system("HGX-H100").devices_per_node
    8
    """
    path = find("systems", name)
    return _priced(validate(System, read_yaml(path), file=path))


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
def load_vector_index(name: str) -> VectorIndex:
    """The vector index called ``name``, or the one in a YAML file.

    >>> load_vector_index("faiss-hnsw").kind
    'hnsw'
    """
    path = find("vector_indexes", name)
    return validate(VectorIndex, read_yaml(path), file=path)


@functools.lru_cache(maxsize=256)
def load_recall_curve(name: str) -> RecallCurve:
    """The recall curve called ``name``, or the one in a YAML file.

    >>> load_recall_curve("pgvector-hnsw-550k-1024").points[0].recall
    0.73
    """
    path = find("recall_curves", name)
    return validate(RecallCurve, read_yaml(path), file=path)


@functools.lru_cache(maxsize=64)
def load_search_rates(name: str) -> SearchRates:
    """The search rates called ``name``, or those in a YAML file."""
    path = find("search_rates", name)
    return validate(SearchRates, read_yaml(path), file=path)


@functools.lru_cache(maxsize=256)
def default_system(accelerator: str) -> System | None:
    """The system an accelerator is placed in where the user names none; None where no spec claims it.

    >>> default_system("H100-SXM").name
    'HGX-H100'
    """
    claim = re.compile(rf"^default_for:\s*\[(?:[^\]]*[\s,\"'])?{re.escape(accelerator)}[\s,\"'\]]", re.MULTILINE)
    for path in files("systems").values():
        if claim.search(path.read_text(encoding="utf-8").replace("default_for: [", "default_for: [ ")):
            return _priced(validate(System, read_yaml(path), file=path))
    return None
