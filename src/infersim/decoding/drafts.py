"""Speculative decoding by published acceptance: what each table gives on a deployment, and up to which batch it pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import DoesNotFitError, InferSimError
from infersim.predict.estimate import Estimate
from infersim.predict.speculation import last_paying_batch, resolve_drafter, speculative_gain
from infersim.specs.library import names
from infersim.specs.speculation import AcceptanceTable, Speculation, load_acceptance

HEADS = ("eagle", "eagle3", "mtp", "ngram")
"""Methods that need no draft model of their own."""


@dataclass(frozen=True)
class DraftRow:
    """One table of acceptance on a deployment, at the number of drafts that is fastest at the deployment's batch."""

    table: AcceptanceTable
    drafts: int
    tokens_per_step: float
    alone: float
    """Speed-up of decoding with one sequence."""
    here: float
    """Speed-up at the deployment's running sequences."""
    break_even_batch: int | None
    """Sequences from which on drafts slow decoding down; None where they pay up to 1,024."""

    @property
    def status(self) -> str:
        """How far the acceptance was checked."""
        return self.table.sources[0].status

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {
            "table": self.table.name, "method": self.table.method, "measured_on": self.table.model, "task": self.table.task,
            "temperature": self.table.temperature, "measured": self.table.measured, "status": self.status,
            "num_speculative_tokens": self.drafts, "tokens_per_step": self.tokens_per_step, "speedup_alone": self.alone,
            "speedup_at_load": self.here, "break_even_batch": self.break_even_batch,
        }  # fmt: skip


def matching_tables(model: str) -> list[str]:
    """Published acceptance measured on a model, instruction-tuned or not, drafted in a chain without a draft model.

    >>> "eagle3/llama-3.1-8b/gsm8k-t1" in matching_tables("meta-llama/Llama-3.1-8B")
    True
    """
    tables = (load_acceptance(name) for name in names("acceptance"))
    return [
        one.name
        for one in tables
        if one.shape == "chain" and one.method in HEADS and _plain(one.model) == _plain(model)
    ]


def _plain(model: str) -> str:
    return model.rsplit("/", 1)[-1].lower().replace("-instruct", "").replace("meta-", "")


def speculation_table(
    deployment: Estimate, tables: Sequence[str] | None = None, *, most_drafts: int = 7
) -> list[DraftRow]:
    """Speed-up and break-even batch of published acceptance on a deployment, the fastest at its load first.

    ``tables`` are names of published acceptance, by default those measured on the deployment's model. Acceptance belongs to its
    task, temperature and draft and is taken as it was measured; tables that the deployment cannot draft by are left out.

    >>> from infersim import estimate
    >>> rows = speculation_table(estimate("meta-llama/Llama-3.1-8B", "H100-SXM"), ["eagle3/llama-3.1-8b/mt-bench"])
    >>> rows[0].drafts, round(rows[0].tokens_per_step, 2), rows[0].alone > 1.5
    (3, 2.6, True)
    """
    if deployment.state is None:
        raise DoesNotFitError(str(deployment), shortfall=deployment.memory.shortfall)
    (decodes,) = deployment.state.decode_batch
    batch, context = float(np.asarray(decodes.count)), float(np.asarray(decodes.cached))
    deployed = (deployment.model, deployment.parallelism, deployment.precision, deployment.machine)
    eager = deployment.knobs.enforce_eager
    rows = []
    for name in matching_tables(deployment.model.name) if tables is None else tables:
        table = load_acceptance(name)
        found: list[tuple[float, float, int, Any]] = []
        for drafts in _depths(table, most_drafts):
            try:
                config = Speculation.model_validate(
                    {"method": table.method, "num_speculative_tokens": drafts, "acceptance": name}
                )
                drafter = resolve_drafter(
                    deployment.model,
                    config,
                    deployment.precision,
                    deployment.machine.accelerator,
                    deployment.parallelism,
                )
            except (InferSimError, ValueError):
                continue
            gains = speculative_gain(
                *deployed, drafter, np.array([1.0, batch]), np.full(2, context), sampler=deployment.sampler, eager=eager
            )
            found.append((float(gains[1]), float(gains[0]), drafts, drafter))
        if found:
            here, alone, drafts, drafter = max(found, key=lambda one: one[0])
            last = last_paying_batch(*deployed, drafter, context, sampler=deployment.sampler, eager=eager)
            rows.append(DraftRow(table, drafts, 1.0 + sum(drafter.reached), alone, here, last))
    return sorted(rows, key=lambda row: -row.here)


def _depths(table: AcceptanceTable, most: int) -> list[int]:
    """Numbers of drafts that a chain was measured with, or that a rate is taken for: one where it is of the second token alone."""
    if table.shape != "chain" or table.method not in HEADS:
        return []
    if table.lengths is not None:
        return [depth for depth in table.lengths if depth <= most]
    if table.per_position is not None:
        return list(range(1, min(len(table.per_position), most) + 1))
    return [1] if table.method == "mtp" else list(range(1, most + 1))
