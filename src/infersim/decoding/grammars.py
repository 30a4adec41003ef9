"""Structured output: what masking the vocabulary costs a step, and what forced tokens save."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from infersim.specs.library import find, read_yaml, validate
from infersim.specs.quantity import Seconds, Source, Spec

Numbers = Any


class GrammarEngine(Spec):
    """A measured grammar engine: one thread's time for the mask of one sequence and step, and to compile a grammar once.

    ``mask`` and ``compile`` are means over schemas and tokens; their tails are long, so medians and 99th percentiles stand beside
    them. A step waits for the sum over its sequences, of which the mean is the mean times their number.
    """

    name: str
    version: str
    mask: Seconds
    mask_p50: Seconds | None = None
    mask_p99: Seconds | None = None
    compile: Seconds
    compile_p50: Seconds | None = None
    compile_p99: Seconds | None = None
    vocab_size: Annotated[int, Field(ge=1)]
    """Of the tokeniser it was measured with."""
    date: str
    notes: str = ""
    sources: tuple[Source, ...]


def load_grammar_engine(name: str) -> GrammarEngine:
    """The grammar engine called ``name``, or the one in a YAML file.

    >>> load_grammar_engine("llguidance").mask
    4.7e-05
    """
    path = find("grammar_engines", name)
    return validate(GrammarEngine, read_yaml(path), file=path)


def mask_bytes(vocab_size: Numbers, sequences: Numbers = 1) -> Numbers:
    """Bytes of the masks of a step that go to the device: a bit for each token of the vocabulary and sequence.

    >>> float(mask_bytes(131072)), float(mask_bytes(131072, 64))
    (16384.0, 1048576.0)
    """
    return np.ceil(np.asarray(vocab_size) / 32) * 4.0 * sequences


def mask_seconds(engine_mask: Numbers, sequences: Numbers, threads: int = 1) -> Numbers:
    """Host time to fill the masks of a step: sequences go to ``threads`` in turn [s].

    >>> round(float(mask_seconds(47e-6, 64)) * 1e3, 3), round(float(mask_seconds(47e-6, 64, threads=8)) * 1e3, 3)
    (3.008, 0.376)
    """
    return np.asarray(engine_mask) * sequences / np.minimum(np.asarray(sequences, dtype=float), threads)


def exposed_seconds(host: Numbers, device: Numbers, overlapped: bool = True) -> Numbers:
    """Host time of a step that shows: what lies beyond the device's own step where the two overlap, else all of it [s].

    >>> round(float(exposed_seconds(0.008, 0.005)), 6), float(exposed_seconds(0.003, 0.005)), float(exposed_seconds(0.003, 0.005, False))
    (0.003, 0.0, 0.003)
    """
    host = np.asarray(host, dtype=float)
    return np.maximum(host - device, 0.0) if overlapped else host


def jump_forward_steps(tokens: Numbers, forced: Numbers) -> Numbers:
    """Decode steps of ``tokens`` of which a share ``forced`` follows from the grammar and is appended without one: G (1 - forced).

    The forced tokens are prefilled beside the next step; text that is tokenised anew where they join adds to them. Source: SGLang,
    jump-forward decoding, LMSYS, 2024-02-05.

    >>> float(jump_forward_steps(200, 0.25))
    150.0
    """
    return np.asarray(tokens, dtype=float) * (1.0 - np.asarray(forced))


def tokens_per_jump(forced: Numbers, retokenised: Numbers = 0.0) -> Numbers:
    """Tokens that a step of jump-forward decoding computes for a sequence: 1 / (1 - forced), and those tokenised anew.

    >>> round(float(tokens_per_jump(0.25)), 3), round(float(tokens_per_jump(0.25, retokenised=0.1)), 3)
    (1.333, 1.433)
    """
    return 1.0 / (1.0 - np.asarray(forced, dtype=float)) + retokenised
