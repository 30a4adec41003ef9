"""The accelerator that a driver's name for a device means."""

from __future__ import annotations

import re

from infersim.errors import UnknownNameError
from infersim.specs.hardware import Accelerator
from infersim.specs.library import load_accelerator

MAKERS = re.compile(r"^(NVIDIA|AMD|Intel\(R\)|Intel|Apple|Tesla|Instinct)\s+", re.IGNORECASE)
EXTRAS = re.compile(r"[ -](\d+ ?GB?|HBM\w*|Generation|Edition|Server|Workstation|OAM|VF)$", re.IGNORECASE)
"""Last words that drivers add and that tell no device from another, where the memory agrees."""
SAME_MEMORY = 0.1
"""Drivers show up to a tenth less memory than data sheets: error correction and firmware take some."""


def accelerator_called(told: str, memory: float | None = None) -> Accelerator | None:
    """The accelerator on file that a driver calls ``told``, with ``memory`` [B] where it tells; None where that is not clear.

    A name is taken without its maker, then without what drivers add to it, as long as the memory fits.

    >>> [accelerator_called(name).name for name in ("NVIDIA H100 80GB HBM3", "Tesla T4", "NVIDIA RTX 6000 Ada Generation")]
    ['H100-SXM', 'T4', 'RTX-6000-Ada']
    >>> accelerator_called("NVIDIA GeForce RTX 4090 Laptop GPU") is None, accelerator_called("Tesla V100-SXM2-16GB", 16e9).name
    (True, 'V100-16GB-SXM2')
    """
    name = told.strip()
    while MAKERS.match(name):
        name = MAKERS.sub("", name, count=1)
    whole = name
    while True:
        found = _on_file(re.sub(r"\s+", "-", name))
        if found is not None and (memory is None or abs(memory / found.memory.capacity - 1) <= SAME_MEMORY):
            return found
        shorter = EXTRAS.sub("", name, count=1)
        if shorter == name or not shorter:
            break
        name = shorter
    size = re.search(r"(\d+) ?GB?\b", whole)  # drivers put the memory last, names here before the form
    if size is None:
        return None
    rest = re.sub(r"[ -]?\d+ ?GB?\b", "", whole)
    first, _, form = re.sub(r"\s+", "-", rest.strip()).partition("-")
    found = _on_file("-".join(part for part in (first, f"{size[1]}GB", form) if part))
    return (
        found
        if found is not None and (memory is None or abs(memory / found.memory.capacity - 1) <= SAME_MEMORY)
        else None
    )


def _on_file(name: str) -> Accelerator | None:
    try:
        return load_accelerator(name)
    except UnknownNameError:
        return None
