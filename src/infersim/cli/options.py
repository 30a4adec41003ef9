"""How commands declare their options: a help text and the panel it stands in."""

from __future__ import annotations

from typing import Any

import typer


def option(help: str, panel: str, *names: str) -> Any:  # noqa: A002 - typer's own word
    """A typer option of a panel; without names it takes those of its parameter."""
    return typer.Option(*names, help=help, rich_help_panel=panel)
