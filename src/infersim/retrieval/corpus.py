"""From documents to vectors: how many passages there are, what embedding them takes, how fresh the index is.

Nothing here knows a device: what embeds a passage comes from the same ops as every other model.
"""

from __future__ import annotations

from infersim.ops.base import Numbers
from infersim.retrieval.checks import np_ceil, positive, share


def passages(document_tokens: Numbers, chunk: Numbers, overlap: Numbers = 0.0) -> Numbers:
    """Passages that a document is cut into: ceil((length - overlap) / (chunk - overlap)), at least one.

    Every passage but the last holds ``chunk`` tokens, and each begins ``chunk - overlap`` after the one before. Raises SpecError
    where the overlap is not below the chunk.

    >>> float(passages(2000, 512, 64)), float(passages(100, 512, 64))
    (5.0, 1.0)
    """
    positive("chunk", chunk)
    if overlap < 0 or overlap >= chunk:
        from infersim.errors import SpecError

        raise SpecError(
            f"must be at least 0 and less than the chunk of {chunk:g} tokens, got {overlap:g}", field="overlap"
        )
    return np_ceil((document_tokens - overlap) / (chunk - overlap), least=1.0)


def passage_tokens(document_tokens: Numbers, chunk: Numbers, overlap: Numbers = 0.0) -> Numbers:
    """Tokens of all passages of a document: its own, and the overlap once more for every passage after the first.

    >>> float(passage_tokens(2000, 512, 64))
    2256.0
    """
    return document_tokens + (passages(document_tokens, chunk, overlap) - 1.0) * overlap


def encoder_flops(parameters: Numbers, tokens: Numbers, *, layers: Numbers, width: Numbers) -> Numbers:
    """FLOP of one bidirectional pass: 2 P S + 4 L d S^2, the attention term without a causal half.

    ``parameters`` without embeddings, ``width`` heads x head dimension. Embedding rows, norms, activations and pooling are not
    counted.

    Source: Kaplan et al. 2020, arXiv:2001.08361, for the first term.

    >>> f"{encoder_flops(85e6, 512, layers=12, width=768):.3g}"  # BERT base
    '9.67e+10'
    """
    return 2.0 * parameters * tokens + 4.0 * layers * width * tokens * tokens


def cross_encoder_flops(parameters: Numbers, pairs: Numbers, query_tokens: Numbers, passage: Numbers) -> Numbers:
    """FLOP of scoring ``pairs`` of a query and a passage: 2 P k' (q + c). Attention scores are not counted.

    >>> f"{cross_encoder_flops(300e6, 50, 38, 512):.3g}"
    '1.65e+13'
    """
    return 2.0 * parameters * pairs * (query_tokens + passage)


def late_interaction_flops(query_tokens: Numbers, document_tokens: Numbers, width: Numbers) -> Numbers:
    """FLOP of the sum of maximal similarities of one query with documents of ``document_tokens`` in all: 2 q T d.

    The maxima themselves, one comparison for 2 d FLOP, are not counted. Source: Khattab, Zaharia 2020, arXiv:2004.12832.

    >>> f"{late_interaction_flops(32, 1000 * 180, 128):.3g}"
    '1.47e+09'
    """
    return 2.0 * query_tokens * document_tokens * width


def late_interaction_bytes(document_tokens: Numbers, width: Numbers, element: Numbers = 2.0) -> Numbers:
    """Bytes of the vectors of documents, one per token: T d b.

    >>> late_interaction_bytes(1000 * 180, 128)
    46080000.0
    """
    return document_tokens * width * element


def freshness_lag(batch_period: Numbers, embedding: Numbers, insertion: Numbers, *, mean: bool = False) -> Numbers:
    """Seconds from a change of a document until it can be found: the wait for the next batch, embedding, insertion.

    The longest wait is a whole ``batch_period``, the ``mean`` one half of it.

    >>> freshness_lag(3600.0, 30.0, 12.0), freshness_lag(3600.0, 30.0, 12.0, mean=True)
    (3642.0, 1842.0)
    """
    return batch_period * (0.5 if mean else 1.0) + embedding + insertion


def pipeline_rate(*stages: float) -> float:
    """Rate of stages that work at the same time on different items: that of the slowest.

    >>> pipeline_rate(1200.0, 310.0, 5000.0)
    310.0
    """
    for rate in stages:
        positive("stage", rate)
    return min(stages)


def candidates_to_fetch(top_k: Numbers, selectivity: Numbers) -> Numbers:
    """Candidates that a search must return so that ``top_k`` of them pass a filter applied afterwards: k / selectivity.

    As if the filter were independent of the distance; where it is not, more are needed.

    >>> float(candidates_to_fetch(10, 0.05))
    200.0
    """
    share("selectivity", selectivity)
    return np_ceil(top_k / selectivity)
