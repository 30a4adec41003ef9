"""The page of commands, from the application itself."""

from __future__ import annotations

import importlib
import inspect
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from infersim.cli.app import PANELS, app
from infersim.cli.exits import MEANING
from infersim.cli.options import GENERAL

INTRODUCTION = """# Commands

Made from the program itself: what stands here is what `infersim COMMAND --help` says.

| exit code | means |
|---|---|
{codes}

Bad input is one sentence on standard error: what was given, where, and what would be right.

Tables go to standard output, progress and complaints to standard error. Output that is not a terminal has no colours; `--json`,
where a command has it, prints one JSON document whose keys carry units (see [files and fields](../reference/files.md)).
"""


def page() -> str:
    """Markdown: one section a command, one table a panel of options."""
    codes = "\n".join(f"| {code:d} | {said} |" for code, said in MEANING.items())
    parts = [INTRODUCTION.format(codes=codes)]
    if app.registered_callback is not None:
        parts += [
            "## infersim\n",
            "Options that stand before the command.\n",
            *_tables(app.registered_callback.callback),
        ]
    for name in sorted(PANELS):
        callback = getattr(importlib.import_module(f"infersim.cli.{name}"), name)
        parts += [f"## infersim {name}\n", _help(inspect.getdoc(callback) or ""), *_tables(callback)]
    return "\n".join(parts)


def _help(text: str) -> str:
    """A docstring as Markdown: examples become blocks of text."""
    lines, block = [], False
    for line in text.replace("\b", "").strip().splitlines():
        code = line.strip().startswith("infersim ")
        if code and not block:
            lines.append("```text")
        elif block and not code and line.strip():
            lines.append("```\n")
        elif block and not code:
            continue
        block = code or (block and not line.strip())
        lines.append(line.strip() if code else line.replace("``", "`"))
    return "\n".join([*lines, "```"] if block else lines) + "\n"


def _tables(callback: Any, *, general: bool = False) -> list[str]:
    panels: dict[str, list[str]] = {}
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, *found = get_args(hints.get(name)) or (hints.get(name),)
        info = next((one for one in found if isinstance(one, OptionInfo | ArgumentInfo)), None)
        if info is None or info.hidden:
            continue
        argument = isinstance(info, ArgumentInfo)
        flag = kind in (bool, bool | None)
        panel = info.rich_help_panel or ("Arguments" if argument else "Options")
        if panel == GENERAL and not general:
            continue
        cells = (
            _names(name, info, flag),
            "" if flag else (info.metavar or _kind(kind)),
            _default(parameter),
            _cell(info.help or ""),
        )
        panels.setdefault(panel, []).append(f"| {' | '.join(cells)} |")
    head = "| name | value | default | what it does |\n|---|---|---|---|\n"
    return [f"**{panel}**\n\n{head}" + "\n".join(rows) + "\n" for panel, rows in panels.items()]


def _names(name: str, info: OptionInfo | ArgumentInfo, flag: bool) -> str:
    if isinstance(info, ArgumentInfo):
        return f"`{name.upper()}`"
    dashed = name.replace("_", "-")
    first = (
        info.default if isinstance(info.default, str) else ""
    )  # the first name, where the default is the function's own
    given = [
        part for declared in (first, *(info.param_decls or ())) for part in declared.split("/") if part.startswith("-")
    ]
    return ", ".join(f"`{one}`" for one in given or ([f"--{dashed}", f"--no-{dashed}"] if flag else [f"--{dashed}"]))


def _kind(kind: Any) -> str:
    options = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) is list:
        return f"{_kind(options[0])}, several"
    if options:
        return " or ".join(_kind(one) for one in options)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{one.value}`" for one in kind)
    return {str: "text", int: "integer", float: "number"}.get(kind, getattr(kind, "__name__", str(kind)).lower())


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    value = getattr(parameter.default, "value", parameter.default)
    plain = isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != ""
    return f"`{value}`" if plain else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`").replace("<", "&lt;")
