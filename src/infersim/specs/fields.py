"""Read fields of a foreign config with their type checked, and say kindly what is wrong and where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infersim.errors import SpecError

LARGEST = 10**12
"""No honest size in a config is larger."""


@dataclass
class ConfigReader:
    """Typed access to a config. Several names mean: the first that is there and not null.

    ``warnings`` collects what had to be assumed; readers of nested configs share it.
    """

    config: dict[str, Any]
    file: str | Path | None = None
    path: str = ""
    warnings: list[str] = field(default_factory=list)

    def error(self, name: str, message: str) -> SpecError:
        """A SpecError about a field of this config."""
        return SpecError(message, field=self.path + name, file=self.file)

    def raw(self, *names: str) -> tuple[str, Any]:
        """(name, value) of the first field that is present and not null; (first name, None) where none is."""
        for name in names:
            value = self.config.get(name)
            if value is not None:
                return name, value
        return names[0], None

    def has(self, *names: str) -> bool:
        return self.raw(*names)[1] is not None

    def size(self, *names: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """A whole number from ``least`` to ``most``; SpecError where it is missing without a default."""
        name, value = self.raw(*names)
        if value is None:
            if default is not None:
                return default
            others = f" (or {', '.join(names[1:])})" if len(names) > 1 else ""
            raise self.error(name, f"is missing{others}")
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, f"must be a whole number, got {_shown(value)}")
        if not least <= value <= most:
            raise self.error(name, f"must be between {least} and {most:,}, got {_shown(value)}")
        return value

    def maybe(self, *names: str, least: int = 1, most: int = LARGEST) -> int | None:
        """A whole number, or None where it is not there."""
        return self.size(*names, least=least, most=most) if self.has(*names) else None

    def flag(self, *names: str, default: bool = False) -> bool:
        """True or false."""
        name, value = self.raw(*names)
        if value is None:
            return default
        if not isinstance(value, bool) and value not in (0, 1):
            raise self.error(name, f"must be true or false, got {_shown(value)}")
        return bool(value)

    def number(self, *names: str, default: float | None = None) -> float:
        """A finite number."""
        name, value = self.raw(*names)
        if value is None:
            if default is not None:
                return default
            raise self.error(name, "is missing")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.error(name, f"must be a number, got {_shown(value)}")
        return float(value)

    def text(self, *names: str, default: str = "") -> str:
        name, value = self.raw(*names)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error(name, f"must be text, got {_shown(value)}")
        return value

    def listed(self, *names: str) -> list[Any] | None:
        """A list, or None where it is not there."""
        name, value = self.raw(*names)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, got {_shown(value)}")
        return value

    def indices(self, *names: str) -> list[int] | None:
        """A list of whole numbers (layers, say), or None where it is not there."""
        found = self.listed(*names)
        if found is not None and not all(isinstance(item, int) and not isinstance(item, bool) for item in found):
            raise self.error(self.raw(*names)[0], f"must be a list of whole numbers, got {_shown(found)}")
        return found

    def per_layer(self, *names: str, layers: int) -> list[Any] | None:
        """A list with an entry for each of ``layers`` layers; longer ones carry draft layers at their end."""
        name, _ = self.raw(*names)
        found = self.listed(*names)
        if found is not None and len(found) < layers:
            raise self.error(name, f"has {len(found)} entries for {layers} layers")
        return None if found is None else found[:layers]

    def nested(self, *names: str) -> ConfigReader | None:
        """The reader of a nested config, or None where it is not there."""
        name, value = self.raw(*names)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(name, f"must be an object of fields, got {_shown(value)}")
        return ConfigReader(value, self.file, f"{self.path}{name}.", self.warnings)

    def __iter__(self) -> Iterator[str]:
        return iter(self.config)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
