"""What-ifs on one figure of a named spec: the spec is written out first, so that ``hardware.memory.bandwidth: 4 TB/s`` has a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infersim.scenario.places import Fields, get, put
from infersim.specs.quantity import Spec


def written_out(tree: Fields, path: tuple[str, ...]) -> Fields:
    """The tree with the spec written out that a path leads into, where there is only its name.

    >>> tree = written_out(Fields({"hardware": "H100-SXM"}), ("hardware", "memory", "bandwidth"))
    >>> tree["hardware"]["memory"]["bandwidth"]
    '3.35 TB/s'
    """
    for where, load in _LOADERS.items():
        if path[: len(where)] == where and len(path) > len(where):
            name = get(tree, where)
            if name is None and where[0] == "deployment":
                name = _usual(tree, where[1])
            if isinstance(name, str):
                spec = load()(name)
                tree = put(tree, where, spec.model_dump(mode="json"))
    return tree


def _usual(tree: Fields, field: str) -> str | None:
    """The engine or system that a scenario has without naming one."""
    from infersim.specs.library import default_system, load_accelerator
    from infersim.specs.served import Placement

    if field == "engine":
        return str(Placement.model_fields["engine"].default)
    gpu = tree.get("hardware")
    found = default_system(load_accelerator(gpu).name) if isinstance(gpu, str) else None
    return found.name if found is not None else None


def _accelerator() -> Callable[[str], Spec]:
    from infersim.specs.library import load_accelerator

    return load_accelerator


def _model() -> Callable[[str], Spec]:
    from infersim.specs.huggingface import load_model

    return load_model


def _system() -> Callable[[str], Spec]:
    from infersim.specs.library import load_system

    return load_system


def _engine() -> Callable[[str], Spec]:
    from infersim.specs.library import load_engine

    return load_engine


_LOADERS: dict[tuple[str, ...], Callable[[], Callable[[str], Any]]] = {
    ("hardware",): _accelerator, ("model",): _model, ("deployment", "system"): _system, ("deployment", "engine"): _engine,
}  # fmt: skip
