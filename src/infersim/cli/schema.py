"""``infersim schema``: the JSON Schema of scenario files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from infersim.cli import options as o
from infersim.cli.output import tell
from infersim.errors import SpecError


def schema(
    output: Annotated[Path | None, o.option("Write it to this .json file.", o.OUTPUT, "--output", "-o")] = None,
) -> None:
    """Print the JSON Schema (draft 2020-12) of scenario files: editors complete and check with it.

    Examples:

        infersim schema -o scenario.schema.json
    """
    from infersim.files import replace_file
    from infersim.scenario.schema import scenario_schema

    text = json.dumps(scenario_schema(), indent=2, allow_nan=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.suffix.lower() != ".json":
        raise SpecError(f"a schema is a .json file, got {output.name!r}", field="--output")
    replace_file(output, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    tell(f"wrote {output}")
