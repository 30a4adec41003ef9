"""Run what a page shows: its files are written, its commands and Python executed in order, what they print compared.

    python docs/_ext/blocks.py docs/tutorial.md     puts in what the commands print now

Blocks of a page share one folder and one Python namespace. ``console``: lines after ``$`` are commands, the others what they print;
``...`` stands for anything. A command must succeed unless the next one is ``$ echo $?``, which shows its exit code. ``python`` and
``pycon``: run, doctests compared. A ``code-block`` with a caption is a file of that name. A block whose first line is
``# not run: REASON`` is left alone.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
NOT_RUN = "# not run: "
SHELL = re.compile(r"[|<>;&$*`#]")
"""What needs a shell; all else is parsed as a shell would and run in this process, which is warm."""
PER_PROCESS = ("--specs", "--prices")
"""Options that change what the process knows."""
ELISION = re.compile(r"(?<!\.)\.\.\.(?!\.)")
"""Stands for anything; more dots than three are dots."""
VOLATILE = re.compile(r"(?<=deployments in )[\d.]+(?= s)|(?<=answered in )[\d.,]+ \w+(, [\d.,]+ a second)?")
"""What no two runs print alike."""
DOCTEST = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    kind: str
    """console, python, file or text."""
    body: str
    line: int
    name: str = ""
    """Of a file."""
    start: int = 0

    @property
    def not_run(self) -> str | None:
        """Why it is not run."""
        first = self.body.lstrip().partition("\n")[0]
        return first.removeprefix(NOT_RUN) if first.startswith(NOT_RUN) else None


@dataclass(frozen=True)
class Command:
    """A command of a console block, and what is shown of its output (None: nothing is shown)."""

    text: str
    shown: str | None
    start: int
    """Where the output stands in the block's body."""
    end: int


class MismatchError(AssertionError):
    """A block that does not do what the page says."""


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for found in FENCE.finditer(text):
        info, body, start = found["info"].strip(), found["body"], found.start("body")
        line = text.count("\n", 0, found.start()) + 1
        name = ""
        if info.startswith("{code-block}"):
            info = info.removeprefix("{code-block}").strip()
            options = re.match(r"(?::[a-z-]+:[^\n]*\n)+\n?", body)
            if options:
                caption = re.search(r":caption: *(\S+)", options[0])
                name = caption[1] if caption else ""
                body, start = body[options.end() :], start + options.end()
        if name:
            yield Block("file", body, line, name, start)
        else:
            kind = {"console": "console", "python": "python", "pycon": "python"}.get(info, "text")
            yield Block(kind, body, line, "", start)


def commands(body: str) -> list[Command]:
    """The commands of a console block; a line that ends in a backslash goes on."""
    found: list[Command] = []
    lines, at, place = body.splitlines(keepends=True), 0, 0
    while place < len(lines):
        if not lines[place].startswith("$ "):
            at += len(lines[place])
            place += 1
            continue
        text = lines[place][2:]
        at += len(lines[place])
        place += 1
        while text.rstrip("\n").endswith("\\"):
            text += lines[place]
            at += len(lines[place])
            place += 1
        start = at
        while place < len(lines) and not lines[place].startswith("$ "):
            at += len(lines[place])
            place += 1
        shown = body[start:at]
        found.append(Command(text.strip(), shown if shown.strip() else None, start, at))
    return found


def alike(shown: str, printed: str) -> bool:
    """Whether what is printed is what is shown: ends of lines aside, ``...`` standing for anything."""
    wanted, got = (trimmed(text) for text in (shown, printed))
    return re.fullmatch(".*?".join(re.escape(piece) for piece in ELISION.split(wanted)), got, re.DOTALL) is not None


def trimmed(text: str) -> str:
    """Without blanks at the ends of lines and without empty lines around."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def run_page(path: Path, folder: Path, *, skip: tuple[str, ...] = (), update: bool = False) -> str:
    """Run the blocks of a page in ``folder`` and return its text, with the outputs of now where ``update``.

    Commands that start with one of ``skip`` are left alone. Raises MismatchError with the page and line of what went wrong.
    """
    text = path.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__page__"}
    pieces, done = [], 0
    with _inside(folder):
        for block in blocks(text):
            if block.not_run is not None:
                continue
            where = f"{path.name}, line {block.line}"
            if block.kind == "file":
                (folder / block.name).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.name).write_text(block.body, encoding="utf-8")
            elif block.kind == "console":
                for start, end, printed in _console(block, where, skip, update):
                    pieces += [text[done : block.start + start], printed]
                    done = block.start + end
            elif block.kind == "python":
                _python(block, where, names)
    return "".join([*pieces, text[done:]])


def _console(block: Block, where: str, skip: tuple[str, ...], update: bool) -> Iterator[tuple[int, int, str]]:
    found = commands(block.body)
    code = 0
    for place, command in enumerate(found):
        if command.text.startswith(skip or ("\0",)):
            continue
        if command.text == "echo $?":
            printed = f"{code}\n"
        else:
            code, printed = run(command.text)
            asked = place + 1 < len(found) and found[place + 1].text == "echo $?"
            if code and not asked:
                raise MismatchError(f"{where}: exit code {code} of\n  {command.text}\n{printed}")
        if command.shown is None or alike(command.shown, printed):
            continue
        changes = VOLATILE.search(printed) is not None
        if not update or (ELISION.search(command.shown) and not changes):
            raise MismatchError(
                f"{where}: {command.text}\n--- shown\n{trimmed(command.shown)}\n--- printed\n{trimmed(printed)}"
            )
        yield command.start, command.end, VOLATILE.sub("...", trimmed(printed)) + "\n"


def run(command: str) -> tuple[int, str]:
    """(exit code, what a terminal would show) of a command in the current folder."""
    joined = command.replace("\\\n", " ")
    words = [] if SHELL.search(joined) else shlex.split(joined)
    if not words or words[0] != "infersim" or any(option in words for option in PER_PROCESS):
        done = subprocess.run(
            ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.returncode, done.stdout
    from infersim.cli.app import main

    screen, code = io.StringIO(), 0
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        try:
            main(words[1:])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, screen.getvalue()


def _python(block: Block, where: str, names: dict[str, Any]) -> None:
    if ">>>" not in block.body:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block.body, where, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(block.body, names, where, where, 0)
    said = io.StringIO()
    result = doctest.DocTestRunner(optionflags=DOCTEST).run(test, out=said.write, clear_globs=False)
    names |= test.globs
    if result.failed:
        raise MismatchError(f"{where}:\n{said.getvalue()}")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """In a folder, with a screen of 80 columns, the program of this Python first, and no specs of one's own."""
    before, home, called = dict(os.environ), Path.cwd(), sys.argv
    os.environ |= {"COLUMNS": "80", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{before.get('PATH', '')}"}
    os.environ.pop("INFERSIM_SPECS", None)
    os.chdir(folder)
    sys.argv = ["infersim"]
    try:
        yield
    finally:
        sys.argv = called
        os.chdir(home)
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    import tempfile

    for page in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as scratch:
            page.write_text(run_page(page.resolve(), Path(scratch), update=True), encoding="utf-8")
