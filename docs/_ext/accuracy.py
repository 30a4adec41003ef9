"""The page of accuracy: ``infersim validate`` run while the pages are built, its screen and its report."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from infersim.cli.app import main

INTRODUCTION = """# Accuracy

Made by `infersim validate` when these pages were built, from the measurements that ship with infersim {version}. Nothing on this page
was typed by hand. [Read an interval](../howto/read_an_interval.md) tells what the intervals mean, [kernel models](../physics/kernels.md)
what was fitted.

```text
$ infersim validate
{screen}
```
"""


def pages(folder: Path) -> Iterator[tuple[str, str]]:
    """The page, and its pictures beside it."""
    from infersim import __version__

    folder.mkdir(parents=True, exist_ok=True)
    report, screen = folder / "report.md", io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        main(["validate", "--report", str(report)])
    _, _, *rest = report.read_text(encoding="utf-8").split("\n\n")  # without its title and the day it was made
    report.unlink()
    lines = "\n".join(line.rstrip() for line in screen.getvalue().strip().splitlines())
    yield "accuracy.md", INTRODUCTION.format(version=__version__, screen=lines) + "\n" + "\n\n".join(rest)
