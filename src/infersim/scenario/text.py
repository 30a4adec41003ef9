"""YAML text as values with their places. Nothing is executed, nothing grows: events of the parser, one by one, within limits.

Words are read as YAML 1.2 has them: ``yes``, ``no``, ``on`` and ``off`` are words, ``1e12`` is a number, ``12:30`` and dates are text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from infersim.errors import SpecError
from infersim.scenario.places import Fields, Items, Place

MAX_BYTES = 2_000_000
"""A scenario file larger than this is refused before it is read."""
MAX_DEPTH = 40
MAX_VALUES = 100_000
"""Values of a file at most, each alias counted with all it stands for."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_FLOAT = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True, "TRUE": True,
                          "false": False, "False": False, "FALSE": False}  # fmt: skip


def read_text(path: Path) -> str:
    """The text of a scenario file; SpecError where it is none, or too large."""
    if path.is_dir():
        raise SpecError("is a folder, not a scenario file", file=path)
    if not path.is_file():
        raise SpecError("no such file", file=path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SpecError(f"{size:,} bytes is too large for a scenario (at most {MAX_BYTES:,})", file=path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError("not a text file (UTF-8 expected)", file=path) from error
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror or error}", file=path) from error


def parse(text: str, file: Path) -> Fields:
    """The mapping that a text holds. SpecError with line and column where it is not one, or beyond the limits.

    >>> parse("a: 1e3\\nb: {c: [off, 2]}", Path("s.yaml"))
    {'a': 1000.0, 'b': {'c': ['off', 2]}}
    >>> parse("a: 1\\na: 2", Path("s.yaml"))
    Traceback (most recent call last):
    infersim.errors.SpecError: s.yaml:2:1: a: is written twice, first in line 1
    """
    try:
        found = _Builder(file).build(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        told = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise SpecError(f"not valid YAML: {told}{_hint(text, mark)}", file=where) from error
    if found is None:
        raise SpecError("is empty; infersim init writes a scenario to start from", file=file)
    if not isinstance(found, Fields):
        told = "a list" if isinstance(found, Items) else "one value"
        raise SpecError(f"is a mapping of fields such as model: and hardware:, found {told}", file=file)
    return found


def _hint(text: str, mark: Any) -> str:
    """What the usual slips are, in a few words."""
    if mark is None:
        return ""
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "; indent with spaces, not tabs"
    if ": >" in line:
        return "; a rule that begins with > needs quotes"
    if line.count(": ") > 1 and "{" not in line:
        return "; a value with ': ' in it needs quotes"
    return ""


class _Builder:
    """Builds the tree of one document from the parser's events, without recursion."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.values = 0
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.done: Any = None

    def error(self, message: str, mark: Any, field: str | None = None) -> SpecError:
        return SpecError(message, file=str(self.place(mark)), field=field)

    def place(self, mark: Any) -> Place:
        return Place(self.file, mark.line + 1, mark.column + 1)

    def build(self, text: str) -> Any:
        stack: list[_Open] = []
        documents = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.error("is one document: write it without a second '---'", event.start_mark)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self.check_tag(event)
                if len(stack) >= MAX_DEPTH:
                    raise self.error(f"nested more than {MAX_DEPTH} deep", event.start_mark)
                stack.append(_Open(isinstance(event, yaml.MappingStartEvent), event, self.values))
                self.count(event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                ended = stack.pop()
                if ended.anchor:
                    self.anchors[ended.anchor] = (ended.value, self.values - ended.before)
                self.add(stack, ended.value, ended.event)
            elif isinstance(event, yaml.ScalarEvent):
                value = self.scalar(event)
                self.count(event)
                if event.anchor:
                    self.anchors[event.anchor] = (value, 1)
                self.add(stack, value, event)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self.anchors:
                    inside = any(one.anchor == event.anchor for one in stack)
                    told = "stands for itself" if inside else "stands for nothing: no anchor above is called so"
                    raise self.error(f"*{event.anchor} {told}", event.start_mark)
                value, size = self.anchors[event.anchor]
                self.count(event, size)
                self.add(stack, value, event)
        return self.done

    def count(self, event: Any, size: int = 1) -> None:
        self.values += size
        if self.values > MAX_VALUES:
            raise self.error(f"more than {MAX_VALUES:,} values, aliases counted out", event.start_mark)

    def check_tag(self, event: Any) -> None:
        plain = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:str", "!")
        if event.tag is not None and event.tag not in plain:
            shown = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self.error(f"tags such as {shown} are not read: write the value alone", event.start_mark)

    def scalar(self, event: Any) -> Any:
        self.check_tag(event)
        text: str = event.value
        if event.tag is not None or not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if len(text) > 60:
            return text
        if _INTEGER.fullmatch(text):
            return int(text.replace("_", ""))
        if _FLOAT.fullmatch(text):
            return float(text.replace("_", ""))
        return _SPECIAL.get(text.lower(), text)

    def add(self, stack: list[_Open], value: Any, event: Any) -> None:
        if not stack:
            self.done = value
            return
        top, place = stack[-1], self.place(event.start_mark)
        if isinstance(top.value, Items):
            top.value.append(value)
            top.value.places.append(place)
        elif top.key is None:
            top.key = (self.key(value, event), place)
        else:
            key, where = top.key
            top.key = None
            self.set(top.value, key, value, where)

    def key(self, value: Any, event: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(event, yaml.ScalarEvent) and event.value:  # a number or a word as a key
            return str(event.value)
        raise self.error("a key is a word", event.start_mark)

    def set(self, fields: Fields, key: str, value: Any, place: Place) -> None:
        if key == "<<":
            merged = value if isinstance(value, Items) else [value]
            if not all(isinstance(one, Fields) for one in merged):
                raise SpecError("merges mappings", file=str(place), field="<<")
            for one in merged:
                for name, inner in one.items():
                    if name not in fields:
                        fields[name] = inner
                        fields.places[name] = one.places.get(name, place)
                        fields.merged.add(name)
            return
        if key in fields and key not in fields.merged:
            first = fields.places[key].line
            raise SpecError(f"is written twice, first in line {first}", file=str(place), field=key)
        fields.merged.discard(key)
        fields[key] = value
        fields.places[key] = place


class _Open:
    """A mapping or list that has begun and not ended."""

    def __init__(self, mapping: bool, event: Any, before: int) -> None:
        self.value: Any = Fields() if mapping else Items()
        self.key: tuple[str, Place] | None = None
        self.anchor: str | None = event.anchor
        self.event = event
        self.before = before
