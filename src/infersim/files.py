"""Files that infersim writes: whole or not at all, under names that every system takes, UTF-8."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infersim.errors import InferSimError, SpecError

RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)
"""Names of devices that Windows keeps, with any ending (learn.microsoft.com, Naming Files, Paths, and Namespaces)."""
LONGEST_NAME = 120
"""Characters of a name at most: systems allow 255 bytes, and folders, endings and other alphabets want their share."""


def replace_file(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in its place: never half a file.

    Raises SpecError where there is no such folder, InferSimError where the system refuses; an older file then stays as it was.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise SpecError(f"no such folder: {str(target.parent)!r}", file=target)
    temporary = target.with_name(f".{target.name}.{threading.get_native_id()}.partial")
    try:
        write(temporary)
        temporary.replace(target)
    except OSError as error:
        raise InferSimError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as UTF-8 with its own line ends, its folder included, whole or not at all."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InferSimError(f"{target.parent}: cannot be made: {error.strerror or error}") from error
    replace_file(target, lambda temporary: temporary.write_text(text, encoding="utf-8", newline=""))


def safe_file_name(name: str) -> str:
    """``name`` as the name of one file on Windows, macOS and Linux; equal names stay equal, a slash becomes ``--``.

    >>> safe_file_name("meta-llama/Llama-3.1-8B"), safe_file_name("ttft: p95 < 1 s?"), safe_file_name("aux.csv")
    ('meta-llama--Llama-3.1-8B', 'ttft_ p95 _ 1 s_', '_aux.csv')
    """
    found = re.sub(r'[<>:"|?*\x00-\x1f\x7f]', "_", re.sub(r"[/\\]", "--", name)).strip(" ").rstrip(". ")
    if len(found) > LONGEST_NAME:
        stem, dot, ending = found.rpartition(".")
        found = (
            f"{stem[: LONGEST_NAME - len(ending) - 1]}.{ending}" if dot and len(ending) < 10 else found[:LONGEST_NAME]
        )
    return f"_{found}" if not found or found.partition(".")[0].rstrip().lower() in RESERVED else found
