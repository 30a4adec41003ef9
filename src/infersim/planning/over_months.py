"""What a fleet costs as its load grows: the same devices, or those that each month takes, month by month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infersim.errors import NoPlanError, SpecError
from infersim.planning.cost import cost
from infersim.planning.demand import Demand
from infersim.planning.ownership import HOURS_PER_MONTH
from infersim.predict.estimate import Estimate
from infersim.specs.economics import Ownership, Rental, Site


@dataclass(frozen=True)
class CostMonth:
    """One month: mean load, devices, the share of the time they work, USD, and USD per million output (or prompt) tokens: all of the
    money over one kind of token."""

    month: int
    mean_rate: float
    devices: int
    utilisation: float
    """Mean load over the most that the devices serve."""
    usd: float
    usd_per_million_tokens: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; keys carry units."""
        return {"month": self.month, "mean_requests_per_s": self.mean_rate, "devices": self.devices, "utilisation": self.utilisation,
                "usd": self.usd, "usd_per_million_tokens": self.usd_per_million_tokens}  # fmt: skip


def cost_over_months(
    deployment: Estimate, demand: Demand, *, devices: int | Sequence[int], terms: Ownership | Rental | str = "on_demand",
    site: Site | str = "us",
) -> list[CostMonth]:  # fmt: skip
    """The cost of every month of ``demand`` with ``devices`` of ``deployment``, the same number for all months or one for each.

    Raises NoPlanError that names the month in which the devices no longer serve the mean load.

    >>> from infersim import estimate
    >>> from infersim.specs.economics import rental
    >>> one = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1000, output_tokens=250)
    >>> months = cost_over_months(one, Demand(5.0, growth=0.5, months=3), devices=2, terms=rental(per_hour=2.0))
    >>> [round(month.usd) for month in months], months[0].usd_per_million_tokens > months[2].usd_per_million_tokens
    ([2920, 2920, 2920], True)
    """
    counts = [devices] * demand.months if isinstance(devices, int) else list(devices)
    if len(counts) != demand.months:
        raise SpecError(f"is a number, or one for each of {demand.months} months, got {len(counts)}", field="devices")
    from infersim.planning.service import STABLE_SHARE, service_curve

    each = deployment.parallelism.devices_per_replica
    most = float(service_curve(deployment).rate[-1]) * STABLE_SHARE
    share = demand.mean_rate / demand.peak_rate
    tokens = (
        deployment.workload.output_tokens if deployment.model.task == "generate" else deployment.workload.input_tokens
    )
    found = []
    for number, (peak, count) in enumerate(zip(demand.by_month().tolist(), counts, strict=True)):
        mean = peak * share
        try:
            report = cost(deployment, request_rate=mean, devices=count, terms=terms, site=site)
        except NoPlanError as error:
            raise NoPlanError(f"month {number + 1}: {error}") from None
        usd = report.per_hour * HOURS_PER_MONTH
        found.append(CostMonth(
            number + 1, mean, count, mean / (most * (count // each)), usd, usd / (mean * tokens * HOURS_PER_MONTH * 3600) * 1e6
        ))  # fmt: skip
    return found
