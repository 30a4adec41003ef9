"""Pages made from the code when the documentation is built: commands, Python reference, glossary, scenario fields, accuracy.

They are written to ``generated/`` before Sphinx reads its pages, and only where they have changed.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygments.lexers.shell import BashSessionLexer
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import infersim

HERE = Path(__file__).resolve().parents[1]
ROOMS = {
    "specs": "Specs: hardware, models, formats, deployments, and the units they are written in",
    "ops": "Ops: the work of a step, which knows no machine",
    "machine": "Machine: kernel models and links, which know no model",
    "predict": "Predict: steps, memory, latency, intervals",
    "serving": "Serving: schedulers, events, traffic, queues",
    "planning": "Planning: search, sizing, cost, doubt",
    "scenario": "Scenario: files of questions",
    "calibrate": "Calibrate: fits to measurements",
    "microbench": "Microbench: measuring this machine",
    "validate": "Validate: predicted against measured",
    "report": "Report: pages and figures",
}
"""Packages of the reference, from the ground up; others follow under what they say of themselves."""
HIDDEN = ("cli",)
"""Its reference is the page of commands."""
ESCAPED = re.compile(r"[|*]|_(?=\W|$)(?=[^`]*(?:``[^`]*``[^`]*)*$)")
"""Characters that reStructuredText would read as markup."""
LITERAL = re.compile(r"(``[^`]+``)(\w?)")
"""A name, and a letter right behind it, as in the plural of one."""
GROUND = ("errors", "units", "mechanisms", "routing", "acceptance", "plot")
"""Modules that stand alone."""


def pages() -> Iterator[tuple[str, str]]:
    """(path below ``generated/``, text) of every page."""
    import accuracy
    import commands
    import glossary
    import schema

    yield "commands.md", commands.page()
    yield "glossary.md", glossary.page()
    yield "scenario.md", schema.page()
    yield from accuracy.pages(HERE / "generated")
    yield from reference()


def reference() -> Iterator[tuple[str, str]]:
    """The Python reference: what ``import infersim`` offers, then every module by package."""
    functions, classes = [], []
    for name in infersim.__all__:
        if not name.startswith("_"):
            (classes if isinstance(getattr(infersim, name), type) else functions).append(name)
    text = (
        _title("The public names", "=")
        + "What ``import infersim`` offers. Names are imported when they are first used.\n\n"
    )
    text += _title("Functions", "-") + "".join(f".. autofunction:: infersim.{name}\n\n" for name in functions)
    text += _title("Classes", "-") + "".join(f".. autoclass:: infersim.{name}\n\n" for name in classes)
    yield "python/infersim.rst", text
    yield "python/ground.rst", _modules("The ground: units, errors, counting", [f"infersim.{name}" for name in GROUND])
    rooms = [info.name for info in pkgutil.iter_modules(infersim.__path__) if info.ispkg and info.name not in HIDDEN]
    for room in sorted(rooms, key=lambda name: list(ROOMS).index(name) if name in ROOMS else len(ROOMS)):
        package = importlib.import_module(f"infersim.{room}")
        title = ROOMS.get(room) or (package.__doc__ or room.capitalize()).strip().partition("\n")[0].rstrip(".")
        found = [info.name for info in pkgutil.walk_packages(package.__path__, f"infersim.{room}.") if not info.ispkg]
        if found:
            yield f"python/{room}.rst", _modules(title, found)


def _modules(title: str, names: list[str]) -> str:
    parts = [_title(title, "=")]
    parts += [_title(f"``{name.removeprefix('infersim.')}``", "-") + f".. automodule:: {name}\n\n" for name in names]
    return "".join(parts)


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def write(app: Sphinx) -> None:
    """Write what has changed, and remove pages that are no longer made."""
    made = set()
    for name, text in pages():
        path = HERE / "generated" / name
        made.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in (HERE / "generated").rglob("*"):
        if path.suffix in (".md", ".rst") and path not in made:
            path.unlink()


def _apart(found: re.Match[str]) -> str:
    return f"{found[1]}\\ {found[2]}" if found[2] else found[1]


def plain_words(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with double backticks: bars and stars mean themselves, an indented block is shown as it stands."""
    shown: list[str] = []
    for place, line in enumerate(lines):
        above = lines[place - 1] if place else ""
        before = next((one for one in reversed(shown) if one.strip()), "")
        if (
            line.startswith("    ")
            and not above.strip()
            and not before.startswith((" ", ">>>"))
            and not before.endswith("::")
        ):
            shown += ["::", ""]
        in_block = line.startswith((" ", ">>>"))
        shown.append(line if in_block else LITERAL.sub(_apart, ESCAPED.sub(r"\\\g<0>", line)))
    lines[:] = shown


def nothing_remote(app: Sphinx, error: Exception | None) -> None:
    """Refuse pages that would load anything from elsewhere: they are read without a network, too."""
    if error is not None or app.builder.format != "html":
        return
    loads = re.compile(
        r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=[\"'](?:https?:)?//[^>]*>", re.IGNORECASE
    )
    found = [
        (page.name, tag)
        for page in Path(app.outdir).rglob("*.html")
        for tag in loads.findall(page.read_text(encoding="utf-8"))
    ]
    found += [
        (sheet.name, "url")
        for sheet in Path(app.outdir).rglob("*.css")
        if re.search(r"(?:@import|url\()\s*[\"']?https?:", sheet.read_text(encoding="utf-8"))
    ]
    if found:
        raise ExtensionError(f"loaded from elsewhere: {found[0]}, and {len(found) - 1} more")


class Console(BashSessionLexer):
    """Commands after a dollar sign; a line of output may begin with anything else."""

    name, aliases = "Console", ["console"]
    _ps1rgx = re.compile(r"^(\$ )(.*\n?)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the pages once Sphinx is set up and before it looks for them."""
    app.connect("builder-inited", write)
    app.add_lexer("console", Console)
    app.connect("build-finished", nothing_remote)
    app.connect("autodoc-process-docstring", plain_words)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
