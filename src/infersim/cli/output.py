"""How commands answer. A new command needs ``emit`` for its answer, ``tell`` for what it did, ``note`` for what -v adds.

==============  =======================================================================================
``emit``        the answer: text for a person, or what --json or --csv print; standard output
``say``         text for a person alone; standard output, nothing with --quiet
``tell``        what happened on the way (a file written, rows left out); standard error, nothing with --quiet
``note``        sources, files read, fallbacks, timings; standard error, only with --verbose
``progress``    a bar on standard error where a person watches
``console``     rich's console: 80 columns and no colours where nobody watches
==============  =======================================================================================

Errors are raised (``infersim.errors``), never printed; ``raise typer.Exit(ExitCode.MISSED)`` ends a command whose answer is no.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import typer

from infersim.errors import SpecError
from infersim.tables import plain, to_csv

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPED_WIDTH = 80


@dataclass
class Manner:
    """What -q, -v, --color and --no-color asked for."""

    quiet: bool = False
    verbose: bool = False
    color: bool | None = None
    """None leaves it to the environment and the terminal."""
    running: bool = False
    """Whether a command is at work, which then says by itself that it was interrupted."""


manner = Manner()


def emit(
    answer: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    text: Callable[[], RenderableType | str],
    *,
    as_json: bool,
    as_csv: bool,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Print ``answer`` as JSON, its ``rows`` as CSV, or ``text()`` for a person.

    ``rows`` are the records inside the answer that CSV has a line for (options, months ...), the same ones as in the JSON; without
    them an answer that is a list has a line per item, and any other is one line.
    """
    if as_json and as_csv:
        raise SpecError("give one of --json and --csv", field="--csv")
    if as_json:
        import json

        typer.echo(json.dumps(plain(answer), indent=2, allow_nan=False))
    elif as_csv:
        if rows is None:
            rows = [answer] if isinstance(answer, Mapping) else answer
        typer.echo(to_csv(plain(rows)), nl=False)
    elif not manner.quiet:
        say(text())


def say(*parts: RenderableType | str) -> None:
    """Print what a person reads, unless --quiet. Text is printed as it is; anything else is rich's to lay out."""
    if manner.quiet:
        return
    for part in parts:
        if isinstance(part, str):
            typer.echo(part)
        else:
            console().print(part)


def tell(text: str) -> None:
    """Say on standard error what happened, unless --quiet."""
    if not manner.quiet:
        typer.echo(text, err=True)


def note(text: str) -> None:
    """Say on standard error what only --verbose asks for."""
    if manner.verbose:
        typer.echo(text, err=True)


def sources_text(sources: Iterable[str]) -> str:
    """What figures rest on as a list for a person, 80 columns wide."""
    import textwrap

    wrapped = (textwrap.fill(f"- {line}", PIPED_WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
               for line in sources)  # fmt: skip
    return "\n".join(wrapped)


def note_sources(sources: Iterable[str]) -> None:
    """What figures rest on, for --verbose."""
    for line in sources:
        note(f"source: {line}")


def coloured(stream: TextIO) -> bool:
    """Whether to colour what goes to a stream: the option, else NO_COLOR, FORCE_COLOR, TERM=dumb, else whether a person watches.

    Both variables count where they are not empty (no-color.org, force-color.org), and NO_COLOR wins.
    """
    if manner.color is not None:
        return manner.color
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM", "").lower() not in ("dumb", "unknown") and stream.isatty()


def console(*, stderr: bool = False) -> Console:
    """A console of the terminal's width; of 80 columns, or COLUMNS, where the output is no terminal."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    colour, watched = coloured(stream), stream.isatty()
    width = None if watched or os.environ.get("COLUMNS", "").isdigit() else PIPED_WIDTH
    system: Any = ("auto" if watched else "standard") if colour else None
    return Screen(
        stderr=stderr,
        highlight=False,
        width=width,
        color_system=system,
        force_terminal=watched or colour,
        no_color=False,
    )


@contextmanager
def progress(title: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error, and what to tell it: done, total, and on what it is at work. Nothing with --quiet or in a pipe."""
    if manner.quiet or not sys.stderr.isatty():
        yield lambda done, total, what="": None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, what="")
        yield lambda done, total, what="": bar.update(task, completed=done, total=total, what=what[:40])


def utf8_where_piped() -> None:
    """Write UTF-8 into pipes and files whatever the system's code page is; what a terminal cannot show is spelt out, not an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is None or (stream.encoding or "").lower().replace("-", "") == "utf8":
            continue
        if stream.isatty() or os.environ.get("PYTHONIOENCODING"):
            reconfigure(errors="backslashreplace")
        else:
            reconfigure(encoding="utf-8")
