"""Values that a shell completes: names of what is on file, found by file name alone, so that Tab answers at once.

Each takes what has been typed so far. A shell keeps what is typed, so the rest of a name is put behind it in whatever case; names
may be begun behind their slash, and of a list by commas the last part is completed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import typer

from infersim.errors import SpecError


def names_of(kind: str) -> Callable[[typer.Context, str], list[str]]:
    """What completes the name of a spec of a kind: ``accelerators``, ``systems``, ``engines``, ``models`` ..."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        from infersim.specs.library import add_spec_folder, names

        at: typer.Context | None = context
        while at is not None:  # folders that the line names so far, before the command or after it
            for folder in at.params.get("specs") or ():
                with contextlib.suppress(SpecError):
                    add_spec_folder(folder)
            at = at.parent  # type: ignore[assignment]
        return matching(incomplete, names(kind))

    return complete


def one_of(*words: str) -> Callable[[str], list[str]]:
    """What completes one of a few words."""

    def complete(incomplete: str) -> list[str]:
        return matching(incomplete, words)

    return complete


def precisions(incomplete: str) -> list[str]:
    """Schemes of number formats."""
    from infersim.specs.precision import SCHEMES

    return matching(incomplete, SCHEMES)


def cache_formats(incomplete: str) -> list[str]:
    """Number formats of a KV cache."""
    from infersim.specs.precision import FORMATS

    return matching(incomplete, FORMATS)


def matching(incomplete: str, known: Iterable[str]) -> list[str]:
    """Known names that begin with what was typed.

    >>> matching("H100-SXM,b2", ["B200-SXM", "H200-SXM"])
    ['H100-SXM,b200-SXM']
    >>> matching("llama-3", ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-2-7b"])
    ['llama-3.1-8B']
    """
    before, comma, typed = incomplete.rpartition(",")
    whole = [name for name in known if name.lower().startswith(typed.lower())]
    whole += [name.rsplit("/", 1)[-1] for name in known if typed and "/" in name and name not in whole
              and name.rsplit("/", 1)[-1].lower().startswith(typed.lower())]  # fmt: skip
    return [f"{before}{comma}{typed}{name[len(typed) :]}" for name in whole]
