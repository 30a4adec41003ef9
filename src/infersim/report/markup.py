"""HTML from values: whatever is not markup already is escaped, so nothing that a file says can become part of the page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

NONE = "–"
"""What a cell without a value says; on a phone such cells are left out."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element. Children are markup, lists of children, None (left out) or anything else as escaped text; attributes are escaped,
    ``class_`` is ``class``, underscores become hyphens, None and False are left out, True stands alone.

    >>> tag("p", "1 < 2 ", tag("b", "x"), class_='a"b', hidden=True)
    '<p class="a&quot;b" hidden>1 &lt; 2 <b>x</b></p>'
    """
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{told}>{join(children)}</{name}>")


def join(children: Iterable[Any]) -> Markup:
    """Children one after the other, escaped where they are not markup."""
    found: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            found.append(child)
        elif isinstance(child, list | tuple):
            found.append(join(child))
        else:
            found.append(html.escape(str(child)))
    return Markup("".join(found))


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numeric: Iterable[int] = (), caption: str | None = None
) -> Markup:
    """A table with headers; on a phone every row becomes a card, which takes its labels from ``data-label``.

    Columns numbered in ``numeric`` are aligned to the right with figures of one width. The first cell of a row is its header.
    """
    right = set(numeric)
    head = [
        tag("th", name, scope="col", role="columnheader", class_="n" if place in right else None)
        for place, name in enumerate(columns)
    ]
    body = []
    for row in rows:
        cells = [tag("th", row[0], scope="row", role="rowheader")]
        for place, cell in enumerate(row[1:], 1):
            kinds = ["n"] * (place in right) + ["none"] * (cell == NONE)
            cells.append(
                tag("td", tag("span", cell), role="cell", class_=" ".join(kinds) or None, data_label=columns[place])
            )
        body.append(tag("tr", cells, role="row"))
    return tag(
        "div",
        tag("table", tag("caption", caption) if caption else None, tag("thead", tag("tr", head, role="row"), role="rowgroup"),
            tag("tbody", body, role="rowgroup"), role="table"),
        class_="scroll",
    )  # fmt: skip


def pairs(rows: Iterable[tuple[str, Any]]) -> Markup:
    """Names and values as a description list."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows])


def slug(text: str) -> str:
    """A name for a link or a file: letters, digits and hyphens.

    >>> slug("two H200 / fp8!"), slug("***")
    ('two-h200-fp8', 'x')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"
