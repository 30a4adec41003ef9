"""The stations of a pipeline, each with so many copies: what a query waits for there, what they serve, what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from infersim import units
from infersim.decide.models import check_generates
from infersim.errors import SpecError
from infersim.planning.apis import api_of
from infersim.planning.calls import Deployed
from infersim.planning.ownership import HOURS_PER_MONTH
from infersim.planning.search import at_load
from infersim.planning.service import STABLE_SHARE, Scatter, ServiceCurve, service_curve
from infersim.predict.deploy import deploy
from infersim.predict.estimate import Estimate
from infersim.rag.waits import Scattered, Wait, percentile_of_sum, stage_wait
from infersim.retrieval.stages import Stage
from infersim.specs.api import ApiModel
from infersim.specs.reading import validate
from infersim.specs.served import ServedModel
from infersim.specs.workload import Workload

MONTH = HOURS_PER_MONTH * 3600.0
SCATTER = Scatter()


@dataclass(frozen=True)
class Served:
    """A station with its copies under its load. ``seconds`` is the mean without a queue, ``waited`` what the load adds to it; ``parts``
    scatter about ``fixed`` seconds. ``capacity`` in queries per second of all copies."""

    name: str
    seconds: float
    waited: float
    fixed: float
    parts: tuple[Wait | Scattered, ...]
    copies: int
    least: int
    """Copies that the load alone takes."""
    capacity: float
    load: float
    """Calls per second of all queries together."""
    devices: int
    device_hour: float | None
    charged: float | None
    """USD that a service charges for a query."""
    detail: str
    sources: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        return self.seconds + self.waited

    def percentile(self, percent: float) -> float:
        """The time that so many percent of queries do not exceed here."""
        return self.fixed + percentile_of_sum(self.parts, percent)

    @property
    def usd_per_hour(self) -> float | None:
        """Of all copies; None where no price is known."""
        if self.devices == 0:
            return 0.0
        return None if self.device_hour is None else self.device_hour * self.devices * self.copies

    @property
    def use(self) -> float:
        """Load over capacity."""
        return self.load / self.capacity

    @property
    def bound(self) -> str:
        """Why there are so many copies: for the load alone, or for the target's sake."""
        return "none" if self.devices == 0 else "load" if self.copies <= self.least else "target"


class Station(Protocol):
    """What a pipeline queues at."""

    @property
    def name(self) -> str: ...

    @property
    def least(self) -> int:
        """Copies below which the queue grows without end, or beyond the load that is allowed."""

    def at(self, copies: int) -> Served:
        """The station with so many copies; SpecError where the load outruns them."""


@dataclass(frozen=True)
class RetrievalStation:
    """A stage of retrieval: M/M/c, ``load`` calls per second, each copy loaded to ``utilisation`` at most."""

    stage: Stage
    load: float
    utilisation: float

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def least(self) -> int:
        return max(math.ceil(self.load / (self.stage.capacity * self.utilisation) - 1e-9), 1)

    def at(self, copies: int) -> Served:
        """See ``Station.at``."""
        one = self.stage
        wait = stage_wait(self.load, one.seconds, one.capacity, copies)
        managed = one.device_hour is None and one.charged > 0
        return Served(
            one.name, one.seconds, wait.mean, one.seconds, (wait,), copies, self.least, one.capacity * copies, self.load,
            0 if managed else one.devices, one.device_hour, one.charged, one.detail, one.sources,
        )  # fmt: skip


@dataclass(frozen=True)
class ModelStation:
    """A language model on own devices: ``load`` calls per second of the deployment's lengths. ``whole``: its full answer is waited for.

    ``work`` is the device time of all calls over that of these: above one where the model has other calls of the pipeline as well. A
    replica is loaded to ``utilisation`` of what it serves at most.
    """

    name: str
    deployment: Estimate
    load: float
    whole: bool = False
    work: float = 1.0
    utilisation: float = 1.0

    @property
    def model(self) -> str:
        """The model, in words."""
        return self.deployment.describe()

    @cached_property
    def curve(self) -> ServiceCurve:
        """One replica over its load."""
        return service_curve(self.deployment)

    @property
    def each(self) -> float:
        """Calls per second that a replica serves at most."""
        return float(self.curve.rate[-1]) * STABLE_SHARE / self.work

    @property
    def least(self) -> int:
        return max(math.ceil(self.load / (self.each * self.utilisation) - 1e-9), 1)

    def point(self, copies: int) -> ServiceCurve:
        """The curve at the load of each of so many replicas."""
        if self.load > self.each * copies * (1 + 1e-9):
            raise SpecError(
                f"{copies} replica(s) of {self.deployment.describe()} serve at most {self.each * copies:.3g} queries/s, not {self.load:g}",
                field=self.name,
            )
        return self.curve.at(self.load * self.work / copies)

    def at(self, copies: int) -> Served:
        """See ``Station.at``."""
        one, point = self.deployment, self.point(copies)
        metric, scatter = ("e2e", SCATTER.e2e) if self.whole else ("ttft", SCATTER.ttft)
        alone, now = float(getattr(self.curve, metric)[0]), float(getattr(point, metric))
        return Served(
            self.name, min(alone, now), max(now - alone, 0.0), 0.0, (Scattered(now, scatter),), copies, self.least, self.each * copies,
            self.load, one.parallelism.devices_per_replica, one.price_per_hour, 0.0,
            f"{one.describe()}, {one.workload.input_tokens:,.0f} tokens in, {one.workload.output_tokens:,.0f} out", tuple(one.sources),
        )  # fmt: skip

    def at_load(self, copies: int) -> Estimate:
        """A replica at its share of the load."""
        return at_load(self.deployment, float(self.point(copies).users))


@dataclass(frozen=True)
class ApiStation:
    """A language model behind an API, which serves any load: priced by the token."""

    name: str
    api: ApiModel
    prompt: float
    output: float
    cached: float
    load: float
    whole: bool = False

    least: int = 1

    @property
    def model(self) -> str:
        """The model, in words."""
        return self.api.name

    def at(self, copies: int) -> Served:
        """See ``Station.at``."""
        model = api_of(self.api)
        call = model.call(self.prompt, self.output, self.cached)
        seconds, scatter = (call.e2e, SCATTER.e2e) if self.whole else (call.ttft, SCATTER.ttft)
        detail = f"{model.name}, {self.prompt:,.0f} tokens in, {self.output:,.0f} out"
        return Served(self.name, float(seconds), 0.0, 0.0, (Scattered(float(seconds), scatter),), 1, 1, math.inf, self.load, 0, None,
                      float(call.usd), detail, tuple(model.sources))  # fmt: skip

    @property
    def decode_seconds(self) -> float:
        """From the first token to the last."""
        call = api_of(self.api).call(self.prompt, self.output, self.cached)
        return float(call.e2e - call.ttft)


def model_station(
    name: str, model: ServedModel | ApiModel | Estimate, load: float, *, prompt: float, output: float, cached: float = 0.0,
    whole: bool = False, utilisation: float = 1.0,
) -> ModelStation | ApiStation:  # fmt: skip
    """A language model that is called ``load`` times a second with prompts of ``prompt`` tokens, ``cached`` of them found in its cache.

    Raises SpecError for a model that does not generate, or that does not read so many tokens.
    """
    if isinstance(model, ApiModel):
        if model.context is not None and prompt + output > model.context:
            raise SpecError(
                f"{prompt + output:,.0f} tokens are more than the {model.context:,.0f} that {model.name} takes",
                field=name,
            )
        return ApiStation(name, model, prompt, output, cached, load, whole)
    check_generates(model, name)
    hit = min(cached / prompt, (prompt - 1) / prompt)
    workload = validate(Workload, {"input_tokens": prompt, "output_tokens": output, "prefix_hit": hit})
    if isinstance(model, Estimate):
        found = replace(model, workload=workload, parallelism=model.parallelism.model_copy(update={"replicas": 1}))
        known = (found.memory.longest_context(), found.model.max_position_embeddings, found.knobs.max_model_len)
        longest = min(float(length) for length in known if length) if found.fits else math.inf
        if prompt + output > longest:
            raise SpecError(
                f"{prompt + output:,.0f} tokens are more than the {longest:,.0f} that {found.describe()} takes",
                field=name,
            )
    else:
        place = model.deployment.model_copy(update={"replicas": 1})
        found = deploy(model.model_copy(update={"deployment": place}), workload)
    if not found.fits:
        found.ttft  # noqa: B018 - raises DoesNotFitError with what is short and what would fit
    return ModelStation(name, found, load, whole, utilisation=utilisation)


def device_time(deployment: Estimate, prompt: float, output: float) -> float:
    """Device time of a call over that of the deployment's mean request."""
    own, mean = Deployed(replace(deployment, price_per_hour=1.0)), deployment.workload
    usual = own.call(mean.input_tokens, mean.output_tokens, mean.cached_tokens)
    return float(own.call(prompt, output).usd / usual.usd)


def fixed(name: str, seconds: float, detail: str) -> Served:
    """A time that nothing queues for."""
    return Served(name, seconds, 0.0, seconds, (), 1, 1, math.inf, 0.0, 0, None, 0.0, detail)


def quantile(stages: Sequence[Served], percent: float | None) -> float:
    """The mean (None) or a percentile of the time through stages in a row [s]."""
    if percent is None:
        return sum(stage.mean for stage in stages)
    return sum(stage.fixed for stage in stages) + percentile_of_sum(
        [part for stage in stages for part in stage.parts], percent
    )


def shown(seconds: float) -> str:
    """Seconds for a table; what is below a nanosecond is none."""
    return units.show(seconds, "s") if seconds >= 1e-9 else "0 s"
