"""Targets by name: service levels that a benchmark or a rule of thumb has set."""

from __future__ import annotations

from infersim.specs.library import find, read_yaml, validate
from infersim.specs.quantity import Source, Spec


class NamedTarget(Spec):
    """Limits as a user would write them, and who set them."""

    limits: str
    sources: tuple[Source, ...]


def in_full(text: str) -> str:
    """A target as limits: what has a slash and no equals sign is the name of one on file.

    >>> in_full("mlperf/llama-3.1-8b-interactive"), in_full("ttft=1s")
    ('ttft_p99=500ms,tpot_p99=30ms', 'ttft=1s')
    """
    if "/" not in text or "=" in text:
        return text
    path = find("targets", text.strip())
    return validate(NamedTarget, read_yaml(path), file=path).limits
