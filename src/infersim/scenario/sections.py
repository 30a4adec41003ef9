"""The sections of a scenario, in the words of the Python functions that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from infersim.errors import SpecError
from infersim.ops.sampling import Sampler
from infersim.serving.arrivals import Arrivals, ClosedLoop, as_arrivals
from infersim.serving.lengths import Lengths, Pairs, as_lengths
from infersim.serving.target import Limit, read_limits
from infersim.serving.traces import Trace, read_trace
from infersim.serving.traffic import Sessions, SharedPrefixes, Traffic
from infersim.specs.api import Prices
from infersim.specs.economics import Ownership, Rental, Site, load_site, ownership, rental
from infersim.specs.quantity import Money, Spec
from infersim.specs.workload import Target, Workload

RENTS = ("on_demand", "reserved_1y", "reserved_3y", "spot")


class Prefix(Spec):
    """A prefix that comes before the prompts of a share of the requests: a system prompt, say."""

    shared_tokens: Annotated[float, Field(ge=1, le=1e8)]
    hit_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the requests that begin with it."""


class Load(Spec):
    """What is sent: lengths in tokens (a number or a distribution), and users in a closed loop or arrivals.

    ``concurrency`` users each send the next request when the last has ended; ``arrivals`` come whatever is answered
    (``poisson: 6 /s``). ``prefix_hit`` is the share of every prompt found in the cache; ``prefix`` and ``prefixes`` put shared tokens
    before the prompts. ``trace`` replays a file, ``speedup`` times as fast. A closed form takes the means of all that.
    """

    input_tokens: Lengths = Field(default=1024, validate_default=True)
    output_tokens: Lengths = Field(default=256, validate_default=True)
    pairs: Pairs | None = None
    concurrency: Annotated[float, Field(ge=1, le=1e7)] | None = None
    """Users at once; 1 where nothing else is said."""
    arrivals: Arrivals | None = None
    num_requests: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Of a run: simulated in all, or in a closed form the length of a benchmark that starts with all users at once."""
    fixed_lengths: bool = False
    """Whether all requests are alike."""
    prefix_hit: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every prompt found in the cache."""
    prefix: Prefix | None = None
    prefixes: SharedPrefixes | None = None
    sessions: Sessions | None = None
    priorities: Annotated[int, Field(ge=1, le=1000)] = 1
    """Levels that requests are dealt out to."""
    trace: Annotated[str, Field(min_length=1)] | None = None
    """File of requests to replay."""
    trace_format: str | None = None
    """Its format; by default told from the file."""
    speedup: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """How much faster the trace is replayed."""
    sampler: Sampler = "greedy"
    """How tokens are chosen: greedy, temperature, top_p ..."""

    @field_validator("input_tokens", "output_tokens", mode="before")
    @classmethod
    def _lengths(cls, given: Any, info: Any) -> Any:
        return given if hasattr(given, "sample") else as_lengths(given, "")

    @field_validator("arrivals", mode="before")
    @classmethod
    def _arrivals(cls, given: Any) -> Any:
        return None if given is None else as_arrivals(given)

    @model_validator(mode="after")
    def _one_of_each(self) -> Load:
        if self.arrivals is not None and self.concurrency is not None:
            raise ValueError("has arrivals and concurrency: give one (arrivals: {closed: N} is a closed loop)")
        if sum(bool(one) for one in (self.prefix_hit, self.prefix, self.prefixes)) > 1:
            raise ValueError("has more than one of prefix_hit, prefix and prefixes: give one")
        if self.trace is not None:
            own = (
                "arrivals",
                "concurrency",
                "num_requests",
                "pairs",
                "prefixes",
                "prefix",
                "sessions",
                "input_tokens",
                "output_tokens",
            )
            given = [name for name in own if name in self.model_fields_set]
            if given:
                raise ValueError(f"a trace brings its own requests and arrivals: leave {', '.join(given)} out")
        elif {"trace_format", "speedup"} & self.model_fields_set:
            raise ValueError("trace_format and speedup are about a trace: name it")
        return self

    @property
    def open(self) -> bool:
        """Whether requests come whatever is answered, or anything else is said that only a simulation knows."""
        drawn = self.trace is not None or self.sessions is not None
        return drawn or (self.arrivals is not None and not isinstance(self.arrivals, ClosedLoop))

    @property
    def rate(self) -> float | None:
        """Requests per second of the arrivals; None where they have no one rate."""
        rate = getattr(self.arrivals, "rate", None)
        return None if rate is None else float(rate)

    def traffic(self) -> Traffic | Trace:
        """The stream of requests."""
        if self.trace is not None:
            return read_trace(self.trace, self.trace_format)
        users = 1 if self.concurrency is None else self.concurrency
        if users != int(users):
            raise SpecError(f"is a whole number of users in a simulation, got {users:g}", field="workload.concurrency")
        arrivals = self.arrivals if self.arrivals is not None else ClosedLoop(concurrency=int(users))
        closed = 10 * max(arrivals.concurrency, 10) if isinstance(arrivals, ClosedLoop) else None
        count = self.num_requests or closed or 1000
        told: dict[str, Any] = {"arrivals": arrivals, "num_requests": count, "priorities": self.priorities}
        given: dict[str, Any] = {"pairs": self.pairs, "prefixes": self._prefixes(), "sessions": self.sessions}
        told |= {name: value for name, value in given.items() if value is not None}
        return Traffic(input_tokens=self._fresh(), output_tokens=self.output_tokens, **told)

    def _fresh(self) -> Any:
        """Prompt lengths without the part that ``prefix_hit`` says is shared."""
        if not self.prefix_hit:
            return self.input_tokens
        from infersim.planning.search import traffic_of

        return traffic_of(None, self.input_tokens, self.output_tokens, self.prefix_hit, 1.0).input_tokens

    def _prefixes(self) -> SharedPrefixes | None:
        if self.prefix is not None:
            return SharedPrefixes(tokens=self.prefix.shared_tokens, share=self.prefix.hit_rate)
        if self.prefix_hit:
            return SharedPrefixes(tokens=max(round(self.input_tokens.mean * self.prefix_hit), 1))
        return self.prefixes

    def steady(self) -> Workload:
        """The closed loop of mean requests that a closed form takes."""
        if self.trace is not None:
            trace = read_trace(self.trace, self.trace_format)
            return Workload(input_tokens=trace.mean_input, output_tokens=trace.mean_output)
        shared = self._prefixes()
        own = self.pairs.mean if self.pairs is not None else (self.input_tokens.mean, self.output_tokens.mean)
        prompt, hit = own[0], self.prefix_hit
        if shared is not None and not hit:
            before = shared.tokens.mean * shared.share
            prompt, hit = prompt + before, before / (prompt + before)
        users = self.arrivals.concurrency if isinstance(self.arrivals, ClosedLoop) else self.concurrency
        count = None if self.open else self.num_requests
        return Workload(input_tokens=prompt, output_tokens=own[1], concurrency=users or 1.0, prefix_hit=hit, num_requests=count,
                        fixed_lengths=self.fixed_lengths)  # fmt: skip


class Limits(Spec):
    """Latencies that must be kept: ``ttft``, ``tpot``, ``itl`` and ``e2e`` are means, ``ttft_p95`` and the like percentiles.
    Written as a mapping (``{ttft_p95: 800 ms}``) or as text (``ttft_p95=800ms,tpot=40ms``)."""

    text: str

    @model_validator(mode="before")
    @classmethod
    def _any_form(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            given = ",".join(f"{name}={value}" for name, value in given.items())
        if not isinstance(given, str):
            raise ValueError(f"is limits such as {{ttft_p95: 800 ms}}, got {given!r}")
        read_limits(given)
        return {"text": given}

    @property
    def limits(self) -> tuple[Limit, ...]:
        return read_limits(self.text)

    @property
    def percentiles(self) -> bool:
        return any(limit.percentile is not None or limit.metric == "itl" for limit in self.limits)

    def means(self) -> Target:
        """The limits of a closed form; SpecError where one is on a percentile."""
        if self.percentiles:
            raise SpecError(
                "percentiles come from a simulation: write question: simulate, or limits on means", field="target"
            )
        return Target.model_validate({limit.metric: f"{limit.seconds!r} s" for limit in self.limits})


def as_terms(given: Any) -> Ownership | Rental:
    """``on_demand``, ``buy``, or one of them with its figures: ``{buy: {years: 5}}``, ``{spot: {per_hour: 1.2}}``.

    >>> as_terms({"buy": {"years": 5}}).years.value, as_terms("spot").kind
    (5.0, 'spot')
    """
    from infersim.errors import did_you_mean

    if isinstance(given, Ownership | Rental):
        return given
    kind: Any = given
    fields: Any = {}
    if isinstance(given, Mapping) and len(given) == 1:
        kind, fields = next(iter(given.items()))
        fields = {} if fields is None else fields
    if kind not in ("buy", *RENTS) or not isinstance(fields, Mapping):
        raise ValueError(
            f"is buy or a kind of rent, or one of them with its figures, got {given!r}; {did_you_mean(str(kind), ('buy', *RENTS))}"
        )
    return ownership(**fields) if kind == "buy" else rental(kind=kind, **fields)


def as_site(given: Any) -> Site:
    """The name of a site, or a mapping with a ``name`` and the figures that differ.

    >>> as_site({"name": "germany", "electricity": 0.12}).electricity.value
    0.12
    """
    if isinstance(given, Site):
        return given
    if isinstance(given, Mapping):
        changed = {key: value for key, value in given.items() if key != "name"}
        return load_site(given.get("name", "us"), **changed)
    return load_site(given)


class Costs(Spec):
    """Prices and terms. ``gpu_hour`` alone is the price of a device for an hour in any question; with ``terms``, ``against``,
    ``devices`` or ``api`` the question is what the deployment costs at a mean load."""

    gpu_hour: Money | None = None
    """USD per device and hour; by default the cheapest on file."""
    terms: Any = None
    """How devices are paid for: on_demand, reserved_1y, reserved_3y, spot or buy, with figures of its own where wanted."""
    against: Any = None
    """The other way to pay, for the month in which owning has paid off."""
    site: Any = None
    """Where owned devices stand."""
    devices: Annotated[int, Field(ge=1, le=10**7)] | None = None
    """Paid for; by default those of the deployment."""
    request_rate: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Mean requests per second; by default that of the arrivals."""
    api: Prices | None = None
    """An API for the same load: USD per million input, cached input and output tokens."""
    cached_share: Annotated[float, Field(ge=0, le=1)] | None = None
    requests_per_user_month: Annotated[float, Field(gt=0, le=1e9)] | None = None

    @field_validator("terms", "against", mode="before")
    @classmethod
    def _terms(cls, given: Any) -> Any:
        return None if given is None else as_terms(given)

    @field_validator("site", mode="before")
    @classmethod
    def _site(cls, given: Any) -> Any:
        return None if given is None else as_site(given)

    @property
    def asks(self) -> bool:
        """Whether it asks what a load costs, beyond stating a price."""
        return any(one is not None for one in (self.terms, self.against, self.devices, self.api, self.request_rate))

    @property
    def api_prices(self) -> tuple[float, float, float] | None:
        """USD per million input, cached input and output tokens; a cached one costs what a fresh one does where nothing is said."""
        return None if self.api is None else self.api.three

    @model_validator(mode="after")
    def _a_rent_is_paid(self) -> Costs:
        ways = (self.terms, self.against)
        if (
            self.gpu_hour is not None
            and self.terms is not None
            and all(way is None or isinstance(way, Ownership) for way in ways)
        ):
            raise ValueError(
                "gpu_hour is a rent, and what is bought has none: leave it out, or state terms: {buy: {price: ...}}"
            )
        return self

    @property
    def paid(self) -> Ownership | Rental:
        """The terms, with ``gpu_hour`` as the rent where that is given."""
        return self._at_price(self.terms if self.terms is not None else rental())

    @property
    def other(self) -> Ownership | Rental | None:
        """The other way to pay, likewise."""
        return None if self.against is None else self._at_price(self.against)

    def _at_price(self, terms: Ownership | Rental) -> Ownership | Rental:
        if isinstance(terms, Rental) and terms.per_hour is None and self.gpu_hour is not None:
            return rental(**{**dict(terms), "per_hour": self.gpu_hour})
        return terms


Several = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


def _several(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


class Search(Spec):
    """Bounds of a search for the cheapest deployment, in the words of ``infersim.plan``."""

    max_gpus: Annotated[int, Field(ge=1, le=10**6)] = 64
    precision: Several | None = None
    """Formats tried; by default the checkpoint's, and fp8 beside 16 bits."""
    kv_cache: str | None = None
    engine: Several | None = None
    pools: Literal["both", "aggregated", "disaggregated"] = "both"
    prices: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = None
    """USD per device and hour by GPU, in place of those on file."""
    verify: Annotated[int, Field(ge=0, le=20)] = 2
    """How many of the best are simulated."""
    request_rate: Annotated[float, Field(gt=0, le=1e9)] | None = None

    _as_list = field_validator("precision", "engine", mode="before")(_several)


class Simulation(Spec):
    """How a simulation runs, in the words of ``infersim.simulate``; ``capacity`` searches the highest rate that meets the target."""

    routing: Literal["round_robin", "least_loaded", "prefix_aware"] = "least_loaded"
    prefill: dict[str, Any] | None = None
    """A pool of its own for prompts: what differs from the deployment (``hardware``, ``replicas``, ``tensor_parallel`` ...)."""
    transfer_overlap: Annotated[float, Field(ge=0, le=1)] = 0.0
    first_token: Literal["decode", "prefill"] = "decode"
    settled: bool = False
    """Leave warm-up and drain out of the statistics."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Of a search for a capacity."""


class Options(Spec):
    """Deployments side by side: each option is what it changes, by dotted paths, in the scenario; a list of hardware alone does too."""

    options: Annotated[tuple[dict[str, Any], ...], Field(max_length=8)] = ()
    request_rate: Annotated[float, Field(gt=0, le=1e9)] | None = None
    assumptions: dict[str, Any] = {}
    """90% ranges of assumptions by name, such as ``workload.input_tokens: 800..1500``."""
    samples: Annotated[int, Field(ge=1, le=10**6)] = 2000
    whole_nodes: bool = False


class FleetDemand(Spec):
    """A fleet for a day's demand and months of growth, in the words of ``infersim.size_fleet``."""

    users: Annotated[float, Field(gt=0, le=1e10)] | None = None
    """Active ones at the peak."""
    requests_per_user_hour: Annotated[float, Field(gt=0, le=1e6)] = 20.0
    request_rate: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Requests per second at the peak, in place of users."""
    profile: str | tuple[float, ...] = "day"
    """flat, day, day:1.8, 24 numbers, or a trace file."""
    growth: Annotated[float, Field(gt=-1, le=10)] = 0.0
    """A month, compounded: 0.08 is 8%."""
    months: Annotated[int, Field(ge=1, le=120)] = 1
    availability: Annotated[float, Field(gt=0, lt=1)] = 0.999
    headroom: Annotated[float, Field(gt=0, le=1)] = 1.0
    autoscaled: bool = False
    rack_kilowatts: Annotated[float, Field(gt=0, le=1e5)] | None = None
    replica_capacity: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Requests per second of one replica, measured; by default predicted."""
    operations: dict[str, Any] = {}
    """Figures of failures, repair and starts that differ from those on file."""
