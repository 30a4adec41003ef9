"""A list for terminals of any width: a line per thing, and more lines where one is too narrow. Nothing is ever cut or broken up."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

GAP = 2


class Listing:
    """Rows of a name and figures under headings. A name too long for its column stands on a line of its own above its figures.

    >>> listing = Listing("model", "parameters", right=(1,))
    >>> listing.add("meta-llama/Llama-3.1-8B", "8.03 B", below="bf16; llama")
    >>> print("\\n".join(line.plain for line in listing.lines(26)))
    model           parameters
    --------------------------
    meta-llama/Llama-3.1-8B
                        8.03 B
      bf16; llama
    """

    def __init__(self, *headings: str, right: Sequence[int] = (), caption: str = "") -> None:
        self.headings, self.right, self.caption = headings, frozenset(right), caption
        self._rows: list[tuple[tuple[str, ...], str, str]] = []

    def add(self, *cells: str, below: str = "", style: str = "") -> None:
        """Add a row: the name, then a cell for each of the other headings; ``below`` stands under them, wrapped."""
        self._rows.append((cells, below, style))

    def lines(self, width: int, rule: str = "-") -> list[Text]:
        """The listing laid out for so many columns."""
        columns = list(zip(self.headings, *(cells for cells, _, _ in self._rows), strict=True))
        widths = [max(map(len, column)) for column in columns]
        room = width - sum(widths[1:]) - GAP * (len(widths) - 1)
        widths[0] = min(widths[0], max(room, GAP))
        found = [Text(line, "bold") for line in self._row(self.headings, widths)]
        found.append(Text(rule * min(width, sum(widths) + GAP * (len(widths) - 1)), "dim"))
        for cells, below, style in self._rows:
            found += [Text(line, style) for line in self._row(cells, widths)]
            found += [Text(line, "dim") for line in self._wrapped(below, width, "  ")]
        return found + [
            Text(line, "italic") for part in self.caption.splitlines() for line in self._wrapped(part, width)
        ]

    def _row(self, cells: Sequence[str], widths: Sequence[int]) -> list[str]:
        name, *figures = cells
        if len(name) <= widths[0]:
            return [self._line(cells, widths)]
        return [name, *([self._line(("", *figures), widths)] if any(figures) else [])]

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        aligned = (
            cell.rjust(width) if index in self.right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return (" " * GAP).join(aligned).rstrip()

    @staticmethod
    def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
        return textwrap.wrap(
            text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines(options.max_width, "-" if options.ascii_only else "─"):
            line.no_wrap, line.overflow = True, "ignore"
            yield line
