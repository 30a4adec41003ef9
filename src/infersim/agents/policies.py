"""Prices of closing the gap between what was typed and what was meant: routers, cascades, questions, rewriting, judges, retries.

Each is one formula over costs of any kind, USD or seconds. Everything broadcasts.
"""

from __future__ import annotations

import math

from infersim.errors import SpecError
from infersim.ops.base import Numbers


def router(share_small: Numbers, small: Numbers, large: Numbers, decide: Numbers = 0.0) -> Numbers:
    """Mean cost where a classifier (``decide``) sends a share a of the calls to the small model: c_r + a c_s + (1 - a) c_l.

    Source: RouteLLM, arXiv:2406.18665.

    >>> router(0.7, 1.0, 10.0, 0.1)
    3.8
    """
    return decide + share_small * small + (1 - share_small) * large


def cascade(accepted: Numbers, small: Numbers, large: Numbers, check: Numbers = 0.0) -> Numbers:
    """Mean cost where the small model answers first and a share 1 - a is then asked of the large one: c_s + check + (1 - a) c_l.

    Source: FrugalGPT, arXiv:2305.05176.

    >>> cascade(0.7, 1.0, 10.0)
    4.0
    """
    return small + check + (1 - accepted) * large


def cascade_break_even(small: Numbers, large: Numbers, check: Numbers = 0.0) -> Numbers:
    """Accepted share above which a cascade is cheaper than the large model alone: a > (c_s + check) / c_l.

    >>> cascade_break_even(1.0, 10.0)
    0.1
    """
    return (small + check) / large


def act_and_retry(answer: Numbers, fits: Numbers) -> Numbers:
    """Mean cost of answering until an answer fits, each with chance q: c / q.

    >>> act_and_retry(1.0, 0.5)
    2.0
    """
    return answer / fits


def clarify_first(ask: Numbers, answer: Numbers, fits: Numbers = 1.0) -> Numbers:
    """Mean cost of a clarifying turn and then answering until an answer fits: c_ask + c / q.

    >>> clarify_first(0.2, 1.0)
    1.2
    """
    return ask + act_and_retry(answer, fits)


def clarifying_gain(ask: Numbers, answer: Numbers, *, unasked: Numbers, asked: Numbers) -> Numbers:
    """What asking first saves: c (1 / q_no - 1 / q_yes) - c_ask; ask where it is above zero.

    >>> round(float(clarifying_gain(0.2, 1.0, unasked=0.6, asked=0.9)), 3)
    0.356
    """
    return act_and_retry(answer, unasked) - clarify_first(ask, answer, asked)


def rewritten_retrieval(rewrite: Numbers, search: Numbers, queries: int = 1, *, together: bool = True) -> Numbers:
    """Time or cost of retrieval after a model has written the query anew: rewrite + search, ``queries`` of them.

    Query rewriting has one query, HyDE (arXiv:2212.10496) searches with a made-up document, multi-query with several. Searches run
    ``together`` where times are meant; costs add up (``together=False``).

    >>> rewritten_retrieval(0.4, 0.05, 4), round(rewritten_retrieval(0.4, 0.05, 4, together=False), 3)
    (0.45, 0.6)
    """
    if queries < 1:
        raise SpecError(f"must be at least one, got {queries!r}", field="queries")
    return rewrite + search * (1 if together else queries)


def judge_cost(fraction: Numbers, judgement: Numbers) -> Numbers:
    """Cost per answer of judging a ``fraction`` of them.

    >>> judge_cost(0.05, 0.02)
    0.001
    """
    return fraction * judgement


def judge_sample_size(share: float, half_width: float, z: float = 1.959964) -> int:
    """Judgements that tell a share p within +-e at 95%: z^2 p (1 - p) / e^2, rounded up.

    >>> judge_sample_size(0.8, 0.02)
    1537
    """
    if not (0 <= share <= 1 and half_width > 0 and z > 0):
        raise SpecError(f"needs a share from 0 to 1 and a half width above 0, got {share!r} and {half_width!r}")
    return math.ceil(z**2 * share * (1 - share) / half_width**2)


def attempts(success: Numbers, most: Numbers = math.inf) -> Numbers:
    """Mean attempts until one succeeds, at most so many: (1 - (1 - p)^k) / p; 1 / p without a cap (structured output, tools).

    >>> attempts(0.8), round(float(attempts(0.8, 2)), 6)
    (1.25, 1.2)
    """
    return (1 - (1 - success) ** most) / success


def duplicated(chance: Numbers) -> Numbers:
    """Factor on the cost of calls that are made twice with a chance: 1 + p.

    >>> duplicated(0.05)
    1.05
    """
    return 1 + chance
