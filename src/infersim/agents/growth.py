"""Tokens of a conversation that grows turn by turn. Formulas broadcast."""

from __future__ import annotations

from infersim.ops.base import Numbers


def prompt_of_turn(turn: Numbers, first: Numbers, growth: Numbers) -> Numbers:
    """Prompt of turn i, counted from 1 [tokens]: S0 + (i - 1) delta.

    >>> prompt_of_turn(10, 2000, 500)
    6500
    """
    return first + (turn - 1) * growth


def prefilled_tokens(turns: Numbers, first: Numbers, growth: Numbers, *, cached: bool) -> Numbers:
    """Prompt tokens that ``turns`` calls compute: n S0 + delta n (n - 1) / 2 without a prefix cache, S0 + (n - 1) delta with a perfect one.

    The growth is what a turn adds, the output before it included; an engine that also keeps the cache of outputs computes less.

    >>> prefilled_tokens(10, 2000, 500, cached=False), prefilled_tokens(10, 2000, 500, cached=True)
    (42500.0, 6500)
    """
    if cached:
        return prompt_of_turn(turns, first, growth)
    return turns * first + growth * turns * (turns - 1) / 2
