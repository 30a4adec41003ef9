"""How many GPUs, and how much money, when lengths, load, prices and the prediction itself may all be off: Monte Carlo."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.planning.assumptions import Assumptions
from infersim.planning.distributions import Array
from infersim.planning.options import Option, frame
from infersim.planning.outcome import FIGURES, Choice, Outcome
from infersim.planning.usual import usual_assumptions
from infersim.predict.estimate import Estimate
from infersim.serving.target import Limit, read_limits

QUANTILES = (5, 25, 50, 75, 95)
NAMED_CHANCES = (0.5, 0.9, 0.99)
"""Chances whose numbers of GPUs the answer names."""
SAMPLES = 2000


@dataclass(frozen=True)
class Chance:
    """A probability estimated from samples, with the 95% interval of its sampling error."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return show_chance(self.value)


def show_chance(value: float) -> str:
    """A probability in percent, never rounded to certainty.

    >>> show_chance(0.914), show_chance(0.9996), show_chance(1.0), show_chance(0.0004)
    ('91%', '>99%', '100%', '<1%')
    """
    if 0.995 <= value < 1:
        return ">99%"
    return "<1%" if 0 < value < 0.005 else f"{value:.0%}"


def chance_of(count: int, samples: int) -> Chance:
    """The chance of what came true in ``count`` of ``samples``, with Wilson's 95% interval (1927, JASA 22, 209).

    For a Latin hypercube it is no narrower than it need be: its variance is at most samples / (samples - 1) of independent samples'
    (Owen 1997, Annals of Statistics 25, 1541).

    >>> found = chance_of(90, 100)
    >>> found.value, round(found.low, 4), round(found.high, 4)
    (0.9, 0.8256, 0.9448)
    """
    z = 1.959964
    share, squared = count / samples, z * z / samples
    middle = (share + squared / 2) / (1 + squared)
    half = z / (1 + squared) * math.sqrt(share * (1 - share) / samples + squared / samples / 4)
    return Chance(share, min(share, middle - half), max(share, middle + half))


@dataclass(frozen=True)
class MonteCarlo:
    """A deployment in every world that was drawn. Money in USD; costs are of the GPUs that each world needs.

    >>> from infersim import estimate
    >>> answer = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1000, output_tokens=200)
    >>> found = monte_carlo(answer, target="ttft=1s,tpot=30ms", request_rate=100, samples=500)
    >>> found.chance(found.gpus_for(0.9)).value >= 0.9
    True
    """

    choice: Choice
    assumptions: Assumptions
    drawn: Mapping[str, Array]
    outcome: Outcome
    base: Outcome
    """With every assumption at its base value."""
    seed: int

    @property
    def samples(self) -> int:
        return len(self.outcome.gpus)

    def chance(self, gpus: float) -> Chance:
        """Probability that so many GPUs serve the load within the limits."""
        if not (isinstance(gpus, (int, float)) and gpus >= 0):
            raise SpecError(f"is a number of GPUs, got {gpus!r}", field="gpus")
        return chance_of(int(np.count_nonzero(self.outcome.gpus <= gpus)), self.samples)

    def gpus_for(self, chance: float) -> int | None:
        """The fewest GPUs that meet the target with this probability; None where no number does."""
        if not 0 < chance <= 1:
            raise SpecError(f"is a probability above 0 and up to 1, got {chance!r}", field="chance")
        place = math.ceil(chance * self.samples * (1 - 1e-12)) - 1
        found = float(np.sort(self.outcome.gpus)[place])
        return int(found) if math.isfinite(found) else None

    @functools.cached_property
    def chances(self) -> dict[int, Chance]:
        """The chance of every number of GPUs that makes a difference, in whole replicas or nodes."""
        needed = self.outcome.gpus[np.isfinite(self.outcome.gpus)]
        return {int(gpus): self.chance(int(gpus)) for gpus in np.unique(needed)}

    @property
    def sentence(self) -> str:
        """``24 GPUs: 91% chance of meeting the target; 32: 99%.``"""
        named = dict.fromkeys(gpus for gpus in map(self.gpus_for, NAMED_CHANCES) if gpus is not None)
        if not named:
            best = show_chance(1 - self.never.value)
            return f"No number of {self._gpu} meets the target with an even chance; the most there is: {best}."
        told = [f"{gpus:,}: {self.chance(gpus)}" for gpus in named]
        first = next(iter(named))
        told[0] = f"{first:,} GPU{'s' * (first > 1)}: {self.chance(first)} chance of meeting the target"
        limit = f"; no number brings more than {show_chance(1 - self.never.value)}" if self.never.value >= 0.005 else ""
        return "; ".join(told) + limit + "."

    @property
    def never(self) -> Chance:
        """Probability that no number of GPUs meets the target: even one user alone misses it."""
        return chance_of(int(np.count_nonzero(np.isinf(self.outcome.gpus))), self.samples)

    @property
    def _gpu(self) -> str:
        return self.choice.deployment.machine.accelerator.name

    def quantile(self, figure: str, percent: float) -> float:
        """A quantile of one of the figures of an outcome (``planning.outcome.FIGURES``)."""
        if not 0 <= percent <= 100:
            raise SpecError(f"is from 0 to 100, got {percent!r}", field="percent")
        return float(np.percentile(self.outcome.figure(figure), percent, method="inverted_cdf"))

    @property
    def sources(self) -> list[str]:
        """What the distribution rests on."""
        return [f"{item.name}: {item.status}, {item.source}" for item in self.assumptions.uncertain]

    def notes(self) -> list[str]:
        """What a reader should know of the figures."""
        error = self.outcome.interpolation_error
        worst = chance_of(self.samples // 2, self.samples)
        found = [f"{self.samples:,} samples, seed {self.seed}; sampling alone puts a probability off by "
                 f"{(worst.high - worst.low) / 2:.1%} at most"]  # fmt: skip
        if error:
            found.append(f"capacities interpolated over lengths, {error:.1%} off on average")
        if self.never.value:
            found.append(f"in {self.never} of the samples one user alone misses the target: no number of GPUs helps")
        longest = self.choice.deployment.model.max_position_embeddings or math.inf
        total = self.drawn["workload.input_tokens"] + self.drawn.get("workload.output_tokens", 0.0)
        over = int(np.count_nonzero(np.broadcast_to(total, self.samples) > longest))
        if over:
            found.append(f"{over:,} samples have a mean sequence longer than the {longest:,.0f} tokens the model takes")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, infinite ones as None; keys carry units."""
        summary = {
            _key(name): {"base": _plain(self.base.figure(name)), **{f"p{q}": _finite(self.quantile(name, q)) for q in QUANTILES}}
            for name in FIGURES
        }  # fmt: skip
        return {
            "deployment": self.choice.describe(), "samples": self.samples, "seed": self.seed, "sentence": self.sentence,
            "gpus_to_chance": [
                {"gpus": gpus, "chance": chance.value, "chance_low_95": chance.low, "chance_high_95": chance.high}
                for gpus, chance in self.chances.items()
            ],
            "chance_that_no_number_of_gpus_meets_the_target": self.never.value, "figures": summary,
            "assumptions": self.assumptions.to_dict(), "notes": self.notes(),
        }  # fmt: skip

    def to_frame(self) -> Any:
        """One row per sample: the assumptions drawn and the figures they lead to, as a pandas frame."""
        drawn = {name: np.broadcast_to(values, self.samples) for name, values in self.drawn.items()}
        columns = drawn | {_key(name): np.broadcast_to(self.outcome.figure(name), self.samples) for name in FIGURES}
        return frame([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])

    def __str__(self) -> str:
        lines = [
            self.choice.describe(),
            self.sentence,
            "",
            f"{'':<22}{'base':>10}" + "".join(f"{f'p{q}':>10}" for q in QUANTILES),
        ]
        for name, unit in FIGURES.items():
            values = [float(np.ravel(self.base.figure(name))[0]), *(self.quantile(name, q) for q in QUANTILES)]
            if not all(map(math.isnan, values)):
                lines.append(f"{_label(name, unit):<22}" + "".join(f"{_shown(value):>10}" for value in values))
        return "\n".join([*lines, "", *self.notes()])


def choice_of(
    option: Estimate | Option | Choice, limits: tuple[Limit, ...] | None = None, *, whole_nodes: bool = False
) -> Choice:
    """A result of ``infersim.estimate`` or an option of ``infersim.plan`` as a choice, within the limits given in place of its own."""
    if isinstance(option, Choice):
        return option if limits is None else replace(option, limits=limits)
    if isinstance(option, Option):
        own = option.limits if limits is None else limits
        return Choice(option.deployment, own, whole_nodes=whole_nodes, prefill=option.prefill)
    if isinstance(option, Estimate):
        return Choice(option, limits or (), whole_nodes=whole_nodes)
    raise SpecError(
        f"are results of infersim.estimate or options of infersim.plan, got {option!r:.60}", field="options"
    )


def monte_carlo(
    deployment: Estimate | Option | Choice,
    *,
    target: str | None = None,
    request_rate: float,
    assumptions: Assumptions | Mapping[str, Any] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    whole_nodes: bool = False,
) -> MonteCarlo:
    """The distribution of GPUs needed and of cost for ``request_rate`` within ``target``.

    ``assumptions`` replaces the usual ones: a whole set, or by name what ``Assumptions.changed`` takes. An option of a plan or a
    choice has limits of its own where no ``target`` is given. The same seed gives the same answer.
    """
    choice = choice_of(deployment, read_limits(target) if target else None, whole_nodes=whole_nodes)
    known = assumptions if isinstance(assumptions, Assumptions) else usual_assumptions(choice, check_rate(request_rate))
    if assumptions is not None and not isinstance(assumptions, Assumptions):
        known = known.changed(assumptions)
    drawn = known.draw(samples, seed)
    return MonteCarlo(choice, known, drawn, choice.outcome(drawn), choice.outcome(known.base()), seed)


def check_rate(rate: Any) -> float:
    """A request rate above zero; SpecError for anything else."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not math.isfinite(rate) or rate <= 0:
        raise SpecError(f"is a number of requests per second above zero, got {rate!r}", field="request_rate")
    return float(rate)


_KEYS = {"capacity": "capacity_requests_per_s", "ttft": "ttft_s", "tpot": "tpot_s"}


def _key(name: str) -> str:
    return _KEYS.get(name, name)


def _label(name: str, unit: str) -> str:
    return {"usd_per_hour": "USD/h", "usd_per_year": "USD/year", "usd_per_million_tokens": "USD/M tokens", "gpus": "GPUs",
            "capacity": "requests/s a replica", "ttft": "TTFT [s]", "tpot": "TPOT [s]"}.get(name, f"{name} [{unit}]")  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(value: Array) -> float | None:
    return _finite(float(np.ravel(value)[0]))


def _shown(value: float) -> str:
    if math.isinf(value):
        return "none"
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
