"""What latencies mean: TPOT is a mean over a request's tokens, ITL one over all tokens of all requests."""

from __future__ import annotations

import numpy as np
import pytest

from infersim.serving.columns import Columns
from infersim.serving.records import Records


def _columns(*requests: tuple[float, float, int]) -> Columns:
    """Of requests that arrive at zero, by first token, finish and output tokens."""
    records = Records()
    for first, finish, output in requests:
        number = records.new(0.0, 100, output)
        records.first_token[number], records.finish[number] = first, finish
    return Columns(records)


def test_tpot_leaves_the_first_token_out() -> None:
    """vLLM's definition: TTFT 0.2 s, E2E 10.2 s, 501 tokens: (10.2 - 0.2) / 500 = 20 ms."""
    found = _columns((0.2, 10.2, 501))
    assert found["ttft_s"].tolist() == [0.2]
    assert found["e2e_s"].tolist() == [10.2]
    assert found["tpot_s"] == pytest.approx([0.020])


def test_mean_tpot_and_mean_itl_differ_where_outputs_do() -> None:
    """Two tokens 100 ms apart and 101 tokens 10 ms apart: mean TPOT 55 ms, mean ITL 1.1 s / 101 = 10.9 ms."""
    found = _columns((0.5, 0.6, 2), (0.5, 1.5, 101))
    assert float(found["tpot_s"].mean()) == pytest.approx(0.055)
    gaps = found["finish_s"] - found["first_token_s"], found["output_tokens"] - 1
    assert float(gaps[0].sum() / gaps[1].sum()) == pytest.approx(0.0109, abs=5e-5)


def test_a_request_of_one_token_has_no_tpot() -> None:
    assert np.isnan(_columns((0.5, 0.5, 1))["tpot_s"]).all()
