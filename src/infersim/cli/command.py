"""What every command does beside its own work: the options of any command, a quiet end on a closed pipe, timings."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from infersim.cli import options
from infersim.cli.exits import ExitCode
from infersim.cli.output import manner, note


def add(app: typer.Typer, function: Callable[..., None], *, panel: str | None = None, name: str | None = None) -> None:
    """Register a function as a command of its name, with the options of any command."""
    app.command(name=name or function.__name__, rich_help_panel=panel)(with_general_options(function))


def with_general_options(function: Callable[..., None]) -> Callable[..., None]:
    """The function as a command that takes --specs, --prices, -q, -v and --color as well, which users type on either side of it."""
    own = inspect.signature(function, eval_str=True)
    general = inspect.signature(apply, eval_str=True)

    @functools.wraps(function)
    def command(**given: Any) -> None:
        apply(**{name: given.pop(name) for name in general.parameters})
        started = time.perf_counter()
        try:
            function(**given)
            sys.stdout.flush()
        except BrokenPipeError:
            silence()
            raise typer.Exit(ExitCode.ANSWERED) from None
        finally:
            note(f"{time.perf_counter() - started:.2f} s")

    parameters = [*own.parameters.values(), *general.parameters.values()]
    parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    command.__signature__ = own.replace(parameters=[p.replace(kind=p.KEYWORD_ONLY) for p in parameters])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return command


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
