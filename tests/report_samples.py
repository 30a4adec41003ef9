"""Results folders as ``infersim run`` writes them, with real answers, for the tests of reports."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from infersim import Traffic, __version__, estimate, plan, simulate
from infersim.scenario.evidence import evidence
from infersim.serving.arrivals import poisson

MODEL = "meta-llama/Llama-3.1-8B"
HOSTILE = "<script>alert('x')</script> & \"q\" $\\frac{1}"
"""A name that is markup, an attribute's end and a formula all at once."""


def case(name: str, question: str, answer: Any, **overrides: Any) -> dict[str, Any]:
    """A case as a results file holds it."""
    return {"name": name, "question": question, "overrides": overrides, "answer": answer.to_dict(), "error": None, "seconds": 0.01,
            "evidence": evidence(answer)}  # fmt: skip


def write(
    folder: Path,
    cases: list[dict[str, Any]],
    *,
    expect: list[dict[str, Any]] | None = None,
    text: str = "",
    name: str = "chat",
) -> Path:
    """A results folder."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "infersim": __version__,
        "scenario": name,
        "created": "2026-11-24T04:10:00Z",
        "cases": cases,
        "expect": expect or [],
    }
    (folder / "results.json").write_text(json.dumps(told, allow_nan=False), encoding="utf-8")
    if text:
        (folder / "scenario.yaml").write_text(text, encoding="utf-8")
    return folder


@functools.cache
def estimates() -> list[dict[str, Any]]:
    """A base case, one that is cheaper, one that does not fit, and one without an answer, under a hostile name."""
    load: dict[str, Any] = {
        "input_tokens": 1000,
        "output_tokens": 200,
        "concurrency": 16,
        "target": "ttft=800ms,tpot=40ms",
    }
    failed: dict[str, Any] = {
        "name": HOSTILE,
        "question": "estimate",
        "overrides": {"hardware": HOSTILE},
        "answer": None,
    }
    failed |= {"error": f"no GPU is called {HOSTILE}", "seconds": 0.0}
    return [
        case("base", "estimate", estimate(MODEL, "H100-SXM", **load)),
        case(HOSTILE, "estimate", estimate(MODEL, "L40S", **load), hardware="L40S"),
        case("70B", "estimate", estimate("meta-llama/Llama-3.1-70B", "L40S", **load), model="meta-llama/Llama-3.1-70B"),
        failed,
    ]


@functools.cache
def runs() -> list[dict[str, Any]]:
    """One deployment at two rates, and at one that it cannot keep up with."""
    found = []
    for rate in (2.0, 8.0, 200.0):
        traffic = Traffic(
            arrivals=poisson(rate), input_tokens=1000, output_tokens=100, num_requests=1500 if rate > 100 else 200
        )
        result = simulate(MODEL, "L40S", traffic, target="ttft_p95=800ms,tpot_p95=40ms")
        found.append(case(f"{rate:g} requests/s", "simulate", result))
    return found


@functools.cache
def plans() -> list[dict[str, Any]]:
    """A plan over two GPUs."""
    return [
        case(
            "base",
            "plan",
            plan(MODEL, ["H100-SXM", "L40S"], request_rate=10, target="ttft_p95=800ms,tpot_p95=40ms", verify=1),
        )
    ]


@functools.cache
def costs() -> list[dict[str, Any]]:
    """The same GPUs rented, beside an API and owning; and bought."""
    from infersim.planning.cost import cost
    from infersim.specs.economics import ownership, rental

    one = estimate(MODEL, "H100-SXM", input_tokens=1000, output_tokens=200)
    rented = cost(one, request_rate=5, terms="on_demand", against=ownership(), api=(0.05, 0.02, 0.1))
    bought = cost(one, request_rate=5, terms="buy", against=rental(kind="on_demand"))
    return [case("rent", "cost", rented), case("buy", "cost", bought, **{"cost.terms": "buy"})]


def sweep(folder: Path) -> Path:
    """A sweep of 48 points in two parts, some of which do not fit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for tensor in (1, 4, 8):
        for users in (1, 2, 4, 8, 16, 32, 64, 128):
            for tokens in (512, 4096):
                one = estimate(
                    "meta-llama/Llama-3.1-70B",
                    "H100-SXM",
                    tensor_parallel=tensor,
                    concurrency=users,
                    input_tokens=tokens,
                )
                row: dict[str, Any] = {"point": len(rows), "deployment.tensor_parallel": tensor, "workload.concurrency": users,
                                       "workload.input_tokens": tokens, "error": None if one.fits else "does not fit"}  # fmt: skip
                fits = one.fits
                row |= {"ttft_s": one.ttft if fits else None, "tpot_s": one.tpot if fits else None,
                        "output_tokens_per_s_per_gpu": one.output_tokens_per_second_per_gpu if fits else None}  # fmt: skip
                rows.append(row)
    (folder / "sweep").mkdir(parents=True, exist_ok=True)
    for number, part in enumerate((rows[:20], rows[20:])):
        pq.write_table(pa.Table.from_pylist(part), folder / "sweep" / f"part-{number:05d}.parquet")
    (folder / "sweep" / "_manifest.json").write_text(
        json.dumps({"design": "grid", "points": len(rows)}), encoding="utf-8"
    )
    return folder
