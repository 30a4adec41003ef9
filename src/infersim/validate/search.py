"""Vector search predicted and measured on the machine at hand: calibrated on some searches, judged on others.

The two share no index: ``microbench.vector_cases`` keeps them apart by vectors, dimension, lists or links, probes and beam. Of the
searches that judge nothing enters the prediction, not even how many vectors a graph looked at.
"""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from infersim.calibrate.fit import Spread, spread
from infersim.calibrate.own_search import KINDS, calibrate_search, predicted_counts, searches, seconds_of
from infersim.errors import SpecError
from infersim.microbench.cases import SetName, VectorSearch
from infersim.microbench.results import Results, read_results
from infersim.microbench.suite import open_backend, run_suite
from infersim.microbench.vector_cases import calibrating, judging
from infersim.ops.vector_search import GraphWork
from infersim.retrieval.index import parameters_of
from infersim.specs.library import measurement_file
from infersim.specs.vector_search import SearchRates
from infersim.units import show

MEASURED = "vector_search_xeon.jsonl"
"""Searches measured once on a server core, calibrating and judging ones, in ``measurements/``."""


LIVE_ROUNDS = 8
"""Rounds over all searches; the least of the rounds' medians counts."""

LIVE_BUDGET = 240.0
"""No timing is begun this long after the second round [s]."""


@dataclass(frozen=True)
class SearchRow:
    """One search that judges. Seconds; evaluations as counted and as predicted."""

    case: VectorSearch
    measured: float
    noise: float
    predicted: float
    counted: float
    """Predicted from the evaluations that were counted: what is left is the error of the time alone."""
    evaluations: float
    expected_evaluations: float
    recall: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class SearchReport:
    """Every search that judges, and the rates they were predicted with."""

    rates: SearchRates
    calibrated: int
    rows: tuple[SearchRow, ...]

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(row.case.index for row in self.rows))

    def errors(self, kind: str | None = None) -> Spread:
        """Errors over all rows or those of a kind of index."""
        chosen = [row for row in self.rows if kind in (None, row.case.index)]
        return spread(np.array([row.predicted for row in chosen]), np.array([row.measured for row in chosen]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values with units in their keys."""
        from dataclasses import asdict

        rows = [
            asdict(row.case) | {
                "measured_s": row.measured, "noise": row.noise, "predicted_s": row.predicted, "predicted_from_counts_s": row.counted,
                "error": row.error, "evaluations": row.evaluations, "expected_evaluations": row.expected_evaluations, "recall": row.recall,
            }
            for row in self.rows
        ]  # fmt: skip
        return {
            "device": self.rates.device, "engine": f"{self.rates.engine} {self.rates.version}", "calibrated_on": self.calibrated,
            "errors": {kind: asdict(self.errors(kind)) for kind in self.kinds}, "rows": rows,
        }  # fmt: skip

    def __str__(self) -> str:
        ran = f"{self.rates.device}, one thread, {self.rates.engine} {self.rates.version}"
        columns = f"{'index':<9}{'vectors':>8}{'d':>6}{'M, lists':>9}{'knob':>6}{'recall':>8}"
        lines = [
            f"{ran}: calibrated on {self.calibrated} searches, none of those below among them",
            "",
            f"{columns}{'predicted':>11}{'measured':>11}{'error':>7}",
        ]
        for row in self.rows:
            case = row.case
            lines.append(
                f"{case.index:<9}{case.vectors:>8}{case.dimension:>6}{case.structure or '':>9}{case.knob or '':>6}{row.recall:>8.3f}"
                f"{show(row.predicted, 's'):>11}{show(row.measured, 's'):>11}{row.error:>+7.0%}"
            )
        lines.append("")
        for kind in self.kinds:
            found = self.errors(kind)
            lines.append(
                f"{kind:<9}{found.rows:>4} searches   median {found.p50:.1%}   mean {found.mean:.1%}   bias {found.bias:+.1%}"
            )
        return "\n".join(lines)


def split(results: Results) -> tuple[Results, Results]:
    """The rows that calibrate and those that judge; SpecError where either are missing."""
    keys = {case.key for case in judging()}
    parts = [tuple(row for row in results.rows if (row.case.key in keys) is judges) for judges in (False, True)]
    if not all(parts):
        raise SpecError(
            "needs searches that calibrate and searches that judge; `infersim validate retrieval --live` takes both"
        )
    return replace(results, rows=parts[0]), replace(results, rows=parts[1])


def judge(results: Results, rates: SearchRates | None = None) -> SearchReport:
    """Calibrate on the rows that calibrate, unless ``rates`` are given, and predict those that judge."""
    seen, unseen = split(results)
    rates = rates or calibrate_search(seen, judged=False)
    entries = unseen.measured()
    table, seconds = searches(entries)
    parameters, private = parameters_of(rates), rates.private_cache
    expected = predicted_counts(table, GraphWork(**rates.graph.model_dump()), rates.imbalance)
    predicted, counted = (
        seconds_of(expected.columns, parameters, private),
        seconds_of(table.columns, parameters, private),
    )
    rows = tuple(
        SearchRow(
            entry.case, float(seconds[i]), entry.spread, float(predicted[i]), float(counted[i]), float(table.evaluations[i]),
            float(expected.evaluations[i]), float(entry.counts.get("recall", np.nan)),
        )
        for i, entry in enumerate(entries) if isinstance(entry.case, VectorSearch)
    )  # fmt: skip
    in_order = sorted(
        rows, key=lambda row: (KINDS.index(row.case.index), row.case.vectors, row.case.dimension, row.case.knob)
    )
    return SearchReport(rates, len(seen.measured()), tuple(in_order))


@functools.cache
def shipped_report() -> SearchReport:
    """The same on the file of measurements that ships: what it says does not depend on the machine it runs on."""
    return judge(read_results(measurement_file(MEASURED)))


def run_search(
    *,
    which: SetName = "quick",
    results: Path | None = None,
    rounds: int | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> SearchReport:
    """Measure both kinds of searches in turns on this machine, then judge. ``results`` keeps the file, and one that is complete is not
    run again. Raises UnsupportedError naming the extra where FAISS is not installed."""
    backend = open_backend("faiss")
    with tempfile.TemporaryDirectory() as scratch:
        file = results or Path(scratch) / "search.jsonl"
        chosen = [*calibrating(which), *judging()]
        random.Random(0).shuffle(chosen)  # whatever else the machine does then meets both alike
        run = run_suite(
            backend,
            file,
            which=which,
            chosen=chosen,
            rounds=rounds or LIVE_ROUNDS,
            budget=LIVE_BUDGET,
            progress=progress,
        )
        if run.interrupted:
            raise KeyboardInterrupt
        return judge(run.results)
