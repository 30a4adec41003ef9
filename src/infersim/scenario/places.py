"""Values that know where they were written: mappings and lists with a file, line and column for every entry.

A tree is never changed in place: ``put`` and ``merge`` copy what lies on the way and share the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infersim.errors import SpecError


class Place(NamedTuple):
    """A place in a file; lines and columns from 1."""

    file: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Fields(dict[str, Any]):
    """A mapping; ``places`` says where each key was written."""

    def __init__(self, *args: Any, places: Mapping[str, Place] | None = None) -> None:
        super().__init__(*args)
        self.places: dict[str, Place] = dict(places or {})
        self.merged: set[str] = set()
        """Keys that a YAML merge (``<<``) brought, which one written out may replace."""

    def copy(self) -> Fields:
        return Fields(self, places=self.places)


class Items(list[Any]):
    """A list; ``places`` says where each entry was written."""

    def __init__(self, *args: Any, places: Sequence[Place] = ()) -> None:
        super().__init__(*args)
        self.places = list(places)


Parts = tuple[str, ...]
ONE_OF = ("arrivals", "input_tokens", "output_tokens", "turns", "tokens", "terms", "against")
"""Fields whose one key says which kind of value they hold: another kind replaces it as a whole."""


def split(path: str) -> Parts:
    """``"deployment.tensor_parallel"`` in its parts.

    >>> split("workload.arrivals.poisson")
    ('workload', 'arrivals', 'poisson')
    """
    parts = tuple(path.split("."))
    if not all(part.strip() == part and part for part in parts):
        raise SpecError(f"is a path such as deployment.tensor_parallel, got {path!r}")
    return parts


def get(tree: Any, path: Sequence[Any]) -> Any:
    """The value at a path; None where there is none."""
    for part in path:
        if isinstance(tree, Mapping):
            tree = tree.get(part)
        elif isinstance(tree, list) and str(part).isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree


def place_of(tree: Any, path: Sequence[Any]) -> tuple[Place | None, Parts]:
    """The place of the deepest entry on the way that is there, and the path down to it. Parts that a tree does not have are passed
    over: they are names of alternatives that a validator tried.

    >>> place_of({"a": {"b": 1}}, ("a", "Kind", "b"))
    (None, ('a', 'b'))
    """
    found: Place | None = None
    way: list[str] = []
    for part in path:
        if isinstance(tree, Mapping) and part in tree:
            found = tree.places.get(part, found) if isinstance(tree, Fields) else found
            tree = tree[part]
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            found = tree.places[part] if isinstance(tree, Items) and part < len(tree.places) else found
            tree = tree[part]
        else:
            continue
        way.append(str(part))
    return found, tuple(way)


def put(tree: Mapping[str, Any], path: Parts, value: Any, place: Place | None = None) -> Fields:
    """A copy of the tree with ``value`` at a path. What is no mapping on the way becomes one.

    >>> put({"a": 1, "b": {"c": 2, "d": 3}}, ("b", "c"), 9)
    {'a': 1, 'b': {'c': 9, 'd': 3}}
    >>> put({"arrivals": {"gamma": {"rate": 1}}}, ("arrivals", "poisson"), 2)
    {'arrivals': {'poisson': 2}}
    """
    first, rest = path[0], path[1:]
    copied = tree.copy() if isinstance(tree, Fields) else Fields(tree)
    if not rest:
        copied[first] = value
    else:
        below = tree.get(first)
        if isinstance(below, list):
            copied[first] = _put_item(below, rest, value, place)
        else:
            kept = below if isinstance(below, Mapping) and not _other_kind(first, below, rest[0]) else Fields()
            copied[first] = put(kept, rest, value, place)
    if place is not None and (not rest or first not in copied.places):
        copied.places[first] = place
    return copied


def drop(tree: Mapping[str, Any], path: Parts) -> Fields:
    """A copy of the tree without what is at a path.

    >>> drop({"a": {"x": 1, "y": 2}}, ("a", "x"))
    {'a': {'y': 2}}
    """
    above = get(tree, path[:-1])
    if not isinstance(above, Mapping) or path[-1] not in above:
        return tree if isinstance(tree, Fields) else Fields(tree)
    left = Fields(
        {key: value for key, value in above.items() if key != path[-1]}, places=getattr(above, "places", None)
    )
    return put(tree, path[:-1], left) if len(path) > 1 else left


def _put_item(tree: list[Any], path: Parts, value: Any, place: Place | None) -> Items:
    first, rest = path[0], path[1:]
    if not (first.isdigit() and int(first) < len(tree)):
        raise SpecError(f"is an entry of a list of {len(tree)}: a number from 0 to {len(tree) - 1}, got {first!r}")
    copied, index = Items(tree, places=getattr(tree, "places", ())), int(first)
    if rest:
        below = tree[index]
        copied[index] = put(below if isinstance(below, Mapping) else Fields(), rest, value, place)
    else:
        copied[index] = value
        if place is not None and index < len(copied.places):
            copied.places[index] = place
    return copied


def _other_kind(field: str, below: Mapping[str, Any], key: str) -> bool:
    return field in ONE_OF and "kind" not in below and key != "kind" and key not in below


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Fields:
    """``base`` with ``over`` laid on it, mapping by mapping; lists and kinds of things are replaced.

    >>> merge({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2]})
    {'a': {'x': 1, 'y': 3}, 'b': [2]}
    """
    found = base.copy() if isinstance(base, Fields) else Fields(base)
    for key, value in over.items():
        below = found.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            replaced = key in ONE_OF and ("kind" in value or set(below) != set(value))
            value = value if replaced else merge(below, value)
        found[key] = value
        if isinstance(over, Fields) and key in over.places:
            found.places[key] = over.places[key]
    return found


def plain(tree: Any) -> Any:
    """The tree as ordinary mappings and lists."""
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return tree
