"""``infersim init``: a scenario file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infersim.cli import options as o
from infersim.cli.output import tell
from infersim.errors import SpecError


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("scenario.yaml"),
    force: Annotated[bool, o.option("Write over a file that is there.", o.OUTPUT, "--force")] = False,
) -> None:
    """Write a scenario to start from, with a word on every section; it runs as it is.

    Examples:

        infersim init

        infersim init chat.yaml
    """
    from infersim.files import replace_file
    from infersim.scenario.starter import STARTER

    if file.suffix.lower() not in (".yaml", ".yml"):
        raise SpecError(f"a scenario is a .yaml file, got {file.name!r}", field="FILE")
    if file.exists() and not (force and file.is_file()):
        raise SpecError("is there already; --force writes over it", file=file)
    replace_file(file, lambda temporary: temporary.write_text(STARTER, encoding="utf-8"))
    tell(f"wrote {file}; infersim run {file} answers it")
