"""Is this installation sound? Versions, extras, specs that do not load, calibrations, and what accelerator this machine has."""

from __future__ import annotations

import difflib
import importlib.metadata
import platform
import re
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infersim._version import __version__
from infersim.errors import InferSimError, SpecError, did_you_mean
from infersim.specs import library
from infersim.specs.hardware import Accelerator, System
from infersim.specs.quantity import Spec
from infersim.specs.reading import read_yaml, validate

PACKAGES = ("numpy", "scipy", "pydantic", "pyyaml", "matplotlib", "typer", "rich")
WIDTH = 80


def _accelerator(path: Path) -> None:
    validate(Accelerator, read_yaml(path), file=path)


def _system(path: Path) -> None:
    library.find("accelerators", validate(System, read_yaml(path), file=path).accelerator)


def _engine(path: Path) -> None:
    library.load_engine(str(path))


def _overheads(path: Path) -> None:
    if str(read_yaml(path).get("name", path.stem)) not in library.names("engines"):
        raise SpecError(
            f"no engine is called {path.stem!r}; {did_you_mean(path.stem, library.names('engines'))}", file=path
        )
    library.load_engine(path.stem)


def _model(path: Path) -> None:
    library.load_bundled_model(str(path))


def _calibration(path: Path) -> None:
    from infersim.machine.calibration import POOLED, check_calibration

    named = check_calibration(path).accelerator
    if named not in POOLED.values():
        library.find("accelerators", named)


def _acceptance(path: Path) -> None:
    from infersim.specs.speculation import load_acceptance

    load_acceptance(str(path))


def _prices(path: Path) -> None:
    library.read_named_prices(path)


def _site(path: Path) -> None:
    from infersim.specs.economics import load_site

    load_site(str(path))


def _economics(path: Path) -> None:
    from infersim.specs import economics

    kinds: dict[str, type[Spec]] = {"ownership": economics.Ownership, "rental": economics.Rental, "power": economics.PowerTerms,
             "operations": economics.Operations}  # fmt: skip
    if path.stem not in kinds:
        raise SpecError(f"no terms are called {path.stem!r}; {did_you_mean(path.stem, kinds)}", file=path)
    validate(kinds[path.stem], read_yaml(path), file=path)


def _launch(path: Path) -> None:
    from infersim.planning.handover.flags import load_flags

    load_flags(str(path))


def _target(path: Path) -> None:
    from infersim.serving.target import read_limits
    from infersim.specs.targets import NamedTarget

    read_limits(validate(NamedTarget, read_yaml(path), file=path).limits)


def _decision(path: Path) -> None:
    from infersim.planning.known import knowledge

    knowledge(str(path))


def _grammar_engine(path: Path) -> None:
    from infersim.decoding.grammars import load_grammar_engine

    load_grammar_engine(str(path))


def _api_cache(path: Path) -> None:
    from infersim.prompts.api import load_api_cache

    load_api_cache(str(path))


READERS: dict[str, Callable[[Path], object]] = {
    "accelerators": _accelerator, "systems": _system, "engines": _engine, "overheads": _overheads, "models": _model,
    "calibrations": _calibration, "acceptance": _acceptance, "prices": _prices, "sites": _site, "economics": _economics,
    "launch": _launch, "intervals": read_yaml, "correlations": read_yaml,
    "targets": _target, "decisions": _decision, "grammar_engines": _grammar_engine, "api_caching": _api_cache,
    "vector_indexes": lambda path: library.load_vector_index(str(path)), "recall_curves": lambda path: library.load_recall_curve(str(path)),
    "search_rates": lambda path: library.load_search_rates(str(path)),
}  # fmt: skip
"""What reads a spec of each kind, and raises where it cannot be used. A new kind of spec is a line here."""


@dataclass(frozen=True)
class Broken:
    """A file or folder that cannot be used, and why."""

    path: str
    error: str


@dataclass(frozen=True)
class Specs:
    """Specs of a kind in one place: ``bundled``, ``--specs`` or ``INFERSIM_SPECS``."""

    kind: str
    origin: str
    folder: str
    files: int
    broken: int


@dataclass(frozen=True)
class Extra:
    """Optional packages: what is missing of them."""

    name: str
    missing: tuple[str, ...]

    @property
    def pip(self) -> str:
        """The line that installs it."""
        return f"pip install 'infersim[{self.name}]'"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"extra": self.name, "installed": not self.missing, "missing": list(self.missing), "pip": self.pip}


@dataclass(frozen=True)
class Calibrated:
    """A calibration on file: of which device under which engine, of what day, and what it was fitted to."""

    accelerator: str
    engine: str
    date: str
    data: str
    origin: str


@dataclass(frozen=True)
class Seen:
    """An accelerator of this machine, the spec that its driver's name means, and the engines it was calibrated under."""

    name: str
    count: int
    memory_bytes: int | None
    driver: str | None
    told_by: str
    spec: str | None
    calibrated_under: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What ``examine`` found; ``healthy`` where nothing is broken.

    >>> examine().healthy
    True
    """

    versions: dict[str, str | None]
    extras: tuple[Extra, ...]
    specs: tuple[Specs, ...]
    broken: tuple[Broken, ...]
    notes: tuple[str, ...]
    calibrations: tuple[Calibrated, ...]
    accelerators: tuple[Seen, ...]

    @property
    def healthy(self) -> bool:
        """Whether every package that is needed is there and every spec loads. A missing extra is no illness."""
        return not self.broken

    def to_dict(self) -> dict[str, Any]:
        """Plain values; keys carry units."""
        return {
            "healthy": self.healthy, "versions": self.versions, "extras": [extra.to_dict() for extra in self.extras],
            "specs": [asdict(found) for found in self.specs], "broken": [asdict(found) for found in self.broken],
            "notes": list(self.notes), "calibrations": [asdict(found) for found in self.calibrations],
            "accelerators": [asdict(found) | {"calibrated_under": list(found.calibrated_under)} for found in self.accelerators],
        }  # fmt: skip

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {version or 'missing'}" for name, version in self.versions.items())
        lines = ["healthy" if self.healthy else f"{len(self.broken)} broken", "", *_wrapped(shown)]
        for extra in self.extras:
            state = "installed" if not extra.missing else f"not installed ({', '.join(extra.missing)}): {extra.pip}"
            lines += _wrapped(f"{extra.name}: {state}", "  ")
        lines.append("")
        for origin, folder in dict.fromkeys((found.origin, str(Path(found.folder).parent)) for found in self.specs):
            here = [found for found in self.specs if (found.origin, str(Path(found.folder).parent)) == (origin, folder)]
            lines += _wrapped(f"{origin}: {', '.join(f'{found.files} {found.kind}' for found in here)}; {folder}")
        for problem in self.broken:
            lines += _wrapped(
                f"broken: {problem.error}"
                if problem.path in problem.error
                else f"broken: {problem.path}: {problem.error}"
            )
        lines += [line for note in self.notes for line in _wrapped(f"note: {note}")]
        stacks: dict[tuple[str, str], list[str]] = {}
        for found in self.calibrations:
            stacks.setdefault((found.engine, found.date), []).append(found.accelerator)
        lines.append("")
        for (engine, date), devices in sorted(stacks.items()):
            lines += _wrapped(f"calibrated under {engine}, {date}: {', '.join(devices)}")
        lines.append("")
        for seen in self.accelerators:
            said = f"{seen.count} x {seen.name} ({seen.told_by})"
            if seen.spec is None:
                lines += _wrapped(
                    f"{said}: no spec of that name; `infersim bench` and `infersim calibrate --from` make one"
                )
            else:
                under = (
                    f"calibrated under {', '.join(seen.calibrated_under)}"
                    if seen.calibrated_under
                    else "not calibrated"
                )
                lines += _wrapped(f"{said}: {seen.spec}, {under}")
        return "\n".join([*lines, *([] if self.accelerators else ["accelerator: none seen"])])


def examine() -> Diagnosis:
    """Look at the whole installation: every spec file is read, own folders before the bundled ones."""
    broken = [
        Broken(name, "is needed and not installed: pip install infersim")
        for name in PACKAGES
        if _version_of(name) is None
    ]
    specs: list[Specs] = []
    notes: list[str] = []
    homes: list[tuple[str, Path, list[tuple[str, Path]]]] = []
    for origin, folder in library.own_folders():
        if not folder.is_dir():
            broken.append(Broken(str(folder), f"{origin} names it, and there is no such folder"))
            continue
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        homes.append((origin, folder, [(path.name, path) for path in inside]))
    homes.append(("bundled", Path(), [(kind, library.spec_folders(kind)[-1]) for kind in READERS]))
    for origin, _, kinds in homes:
        for kind, folder in kinds:
            if kind not in READERS:
                _unknown(kind, folder, broken, notes)
                continue
            found = sorted(folder.glob("*.csv" if kind == "prices" else "*.yaml"))
            problems = [problem for path in found if (problem := _problem(kind, path)) is not None]
            problems += [Broken(str(path), "is not read: name it .yaml") for path in sorted(folder.glob("*.yml"))]
            if origin == "bundled" and not found:
                problems.append(Broken(str(folder), f"the bundled {kind} are not there: install infersim again"))
            specs.append(Specs(kind, origin, str(folder), len(found), len(problems)))
            broken += problems
    return Diagnosis(
        _versions(), _extras(), tuple(specs), tuple(broken), tuple(notes), _calibrations(broken), _accelerators(broken)
    )


def _unknown(kind: str, folder: Path, broken: list[Broken], notes: list[str]) -> None:
    if difflib.get_close_matches(kind, READERS, n=1, cutoff=0.8):
        broken.append(
            Broken(
                str(folder),
                f"no kind of spec is called {kind!r}, so nothing in it is read; {did_you_mean(kind, READERS)}",
            )
        )
    else:
        notes.append(f"{folder}: no kind of spec; known: {', '.join(READERS)}")


def _problem(kind: str, path: Path) -> Broken | None:
    try:
        READERS[kind](path)
    except (InferSimError, OSError, KeyError, TypeError, AttributeError) as error:
        return Broken(str(path), str(error) if isinstance(error, InferSimError | OSError) else f"misses {error}")
    return None


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {
        "infersim": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return found | {name: _version_of(name) for name in PACKAGES}


def _extras() -> tuple[Extra, ...]:
    """The extras that the installed package declares, but for that of its own tests."""
    try:
        told = importlib.metadata.requires("infersim") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return ()
    needed: dict[str, list[str]] = {}
    for line in told:
        match = re.fullmatch(r"([\w.-]+)[^;]*;.*\bextra\s*==\s*['\"]([\w-]+)['\"].*", line)
        if match and match[2] != "test":
            needed.setdefault(match[2], []).append(match[1])
    return tuple(Extra(name, tuple(p for p in packages if _version_of(p) is None)) for name, packages in needed.items())


def _calibrations(broken: list[Broken]) -> tuple[Calibrated, ...]:
    """Calibrations that can be used, the first one of a device and engine winning as in every lookup."""
    from infersim.machine.calibration import POOLED, read_calibration

    useless = {problem.path for problem in broken}
    origins = {str(folder / "calibrations"): origin for origin, folder in library.own_folders()}
    found: dict[str, Calibrated] = {}
    for folder in library.spec_folders("calibrations"):
        for path in sorted(folder.glob("*.yaml")):
            if str(path) in useless or path.stem in found:
                continue
            file = read_calibration(path)
            if file.accelerator not in POOLED.values():
                origin = origins.get(str(folder), "bundled")
                found[path.stem] = Calibrated(file.accelerator, file.engine, file.date, file.data, origin)
    return tuple(found.values())


def _accelerators(broken: list[Broken]) -> tuple[Seen, ...]:
    from infersim.machine.calibration import ENGINES, LIBRARIES, calibration_file
    from infersim.microbench.environment import accelerators_seen
    from infersim.specs.driver_names import accelerator_called

    found = []
    for seen in accelerators_seen():
        try:
            spec = accelerator_called(seen["name"], seen["memory_bytes"])
            engines = [
                name
                for name in (*ENGINES, *LIBRARIES)
                if spec is not None and calibration_file(spec.name, name) is not None
            ]
        except InferSimError:  # a spec or calibration of the user's own that is listed as broken
            if not broken:
                raise
            spec, engines = None, []
        found.append(Seen(**seen, spec=spec.name if spec else None, calibrated_under=tuple(engines)))
    return tuple(found)


def _wrapped(text: str, indent: str = "") -> list[str]:
    wrapper = textwrap.TextWrapper(WIDTH, indent, f"{indent}  ", break_on_hyphens=False, break_long_words=False)
    return wrapper.wrap(text)
