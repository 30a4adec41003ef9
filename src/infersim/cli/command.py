"""What every command does beside its own work: the options of any command, a quiet end on a closed pipe, timings."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from infersim.cli import options
from infersim.cli.exits import ExitCode
from infersim.cli.output import manner, note

EXAMPLE_WIDTH = 75
"""Columns of an example's line in a help text of 80, less the backslash that ends it."""


def build(name: str, panel: str) -> Any:
    """The command of the function ``name`` in ``infersim.cli.name``, with the options of any command."""
    function = getattr(importlib.import_module(f"infersim.cli.{name}"), name)
    alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    alone.command(name=name, rich_help_panel=panel)(with_general_options(function))
    return typer.main.get_command(alone)


def with_general_options(function: Callable[..., None]) -> Callable[..., None]:
    """The function as a command that takes --specs, --prices, -q, -v and --color as well, which users type on either side of it."""
    own = inspect.signature(function, eval_str=True)
    general = inspect.signature(apply, eval_str=True)

    @functools.wraps(function)
    def command(**given: Any) -> None:
        manner.running = True
        started = time.perf_counter()
        try:
            apply(**{name: given.pop(name) for name in general.parameters})
            function(**given)
            sys.stdout.flush()
        except BrokenPipeError:
            silence()
            raise typer.Exit(ExitCode.ANSWERED) from None
        except KeyboardInterrupt as stopped:  # which typer ends without a word
            typer.echo("; ".join(["interrupted", *getattr(stopped, "__notes__", ())]), err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        finally:
            note(f"{time.perf_counter() - started:.2f} s")

    parameters = [*own.parameters.values(), *general.parameters.values()]
    parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    command.__signature__ = own.replace(parameters=[p.replace(kind=p.KEYWORD_ONLY) for p in parameters])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    command.__doc__ = help_text(function)
    return command


def examples(function: Callable[..., None]) -> list[str]:
    """The worked examples of a command: the paragraphs under ``Examples:`` in its docstring, a line each."""
    _, _, below = inspect.cleandoc(function.__doc__ or "").partition("\nExamples:\n")
    return [" ".join(paragraph.split()) for paragraph in below.split("\n\n") if paragraph.strip()]


def help_text(function: Callable[..., None]) -> str:
    """The docstring as Markdown whose examples can be copied into a shell: none is cut but behind a backslash."""
    above, heading, _ = inspect.cleandoc(function.__doc__ or "").partition("\nExamples:\n")
    if not heading:
        return above
    shown = []
    for example in examples(function):
        lines = [""]
        words = shlex.split(example, posix=False)
        for place, word in enumerate(words):
            pair = [
                word,
                *(words[place + 1 : place + 2] if word.startswith("-") else []),
            ]  # an option stays with its value
            if lines[-1] and len(lines[-1]) + len(" ".join(pair)) > EXAMPLE_WIDTH:
                lines.append("")
            lines[-1] += f"{' ' if lines[-1] else ''}{word}"
        escaped = (re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", line) for line in lines)
        shown.append(f" {chr(92) * 2}  \n".join(escaped))  # a backslash, then Markdown's hard line break
    return "\n\n".join([above, "Examples:", *shown])


def apply(
    specs: options.SpecFolder = None,
    price_files: options.PriceFiles = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = None,
) -> None:
    """Do what the options of any command ask for, given before the command or after it."""
    manner.quiet |= quiet
    manner.color = color if color is not None else manner.color
    if verbose and not manner.verbose:
        manner.verbose = True
        _follow_library()
    for folder in reversed(specs or ()):
        from infersim.specs.library import add_spec_folder

        add_spec_folder(folder)
    for path in price_files or ():
        from infersim.specs.library import add_price_file

        add_price_file(path)


def _follow_library() -> None:
    """Pass on what the library logs: the files it reads and what it falls back on."""
    import logging

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    log = logging.getLogger("infersim")
    if not log.handlers:
        log.addHandler(Notes())
    log.setLevel(logging.DEBUG)


def silence() -> None:
    """Let what is left of standard output go nowhere: who read it has gone away, which is no error."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
