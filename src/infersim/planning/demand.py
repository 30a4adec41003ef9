"""Demand on a fleet: users as requests per second, by hour of the day and month of growth. Formulas broadcast over numpy arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.errors import SpecError, did_you_mean
from infersim.ops.base import Numbers
from infersim.serving.traces import Trace, read_trace
from infersim.specs.economics import Operations

Array = npt.NDArray[np.float64]
HOURS = 24
PROFILES = ("flat", "day")
MINUTES = 24 * 60


def rate_of_users(users: Numbers, requests_per_user_hour: Numbers) -> Any:
    """Requests per second of so many active users.

    >>> rate_of_users(2000, 18.0)
    10.0
    """
    return (
        np.asarray(users) * requests_per_user_hour / 3600 if np.ndim(users) else users * requests_per_user_hour / 3600
    )


def users_of_rate(request_rate: Numbers, requests_per_user_hour: Numbers) -> Any:
    """Active users that send so many requests per second together.

    >>> users_of_rate(10.0, 18.0)
    2000.0
    """
    return request_rate * 3600 / requests_per_user_hour


def requests_under_way(request_rate: Numbers, seconds: Numbers) -> Any:
    """Requests in the system at once (Little's law): arrivals per second times the mean seconds of one.

    >>> requests_under_way(10.0, 8.0)
    80.0
    """
    return request_rate * seconds


def sinusoid(peak_to_mean: float, peak_hour: float = 15.0) -> tuple[float, ...]:
    """Demand of 24 hours as shares of the busiest: a cosine whose peak is ``peak_to_mean`` (1 to 2) times its mean.

    >>> day = sinusoid(1.5)
    >>> day[15], round(day[3], 4), round(1 / (sum(day) / 24), 3)
    (1.0, 0.3333, 1.5)
    """
    if not 1 <= peak_to_mean <= 2:
        raise SpecError(
            f"lies between 1 and 2 for a cosine, got {peak_to_mean!r}; give the 24 hours for more", field="profile"
        )
    hours = np.arange(HOURS)
    values = 1 + (peak_to_mean - 1) * np.cos((hours - peak_hour) * 2 * math.pi / HOURS)
    return tuple((values / values.max()).tolist())


def profile_of_trace(trace: Trace) -> tuple[float, ...]:
    """Demand of 24 hours, counted from the first arrival, as shares of the busiest: the mean over the whole days of a trace.

    What comes after the last whole day is left out. SpecError for a trace of less than a day.
    """
    if trace.arrival is None or len(trace.arrival) == 0:
        raise SpecError("has no times of arrival: no profile can be read from it", field="profile")
    times = np.asarray(trace.arrival, dtype=float)
    # the last arrival of a whole day comes shortly before midnight: to the nearest tenth of an hour is near enough
    days = math.floor(float(times[-1]) / 86400 + 0.1 / HOURS)
    if days < 1:
        raise SpecError(
            f"a profile takes a trace of a day or more, this one spans {times[-1] / 3600:.3g} h", field="profile"
        )
    hours = np.floor(times[times < days * 86400] / 3600).astype(int) % HOURS
    counts = np.bincount(hours, minlength=HOURS)
    return tuple((counts / counts.max()).tolist())


def read_profile(given: str | Sequence[float], known: Operations) -> tuple[tuple[float, ...], str]:
    """The 24 shares of the busiest hour, and where they come from.

    ``flat``, ``day`` (a cosine with the peak over mean on file), ``day:1.8`` (with another one), 24 numbers, or a trace file.
    """
    if not isinstance(given, str):
        return _shares(given), "profile: given by the user"
    name, _, ratio = given.partition(":")
    if name == "flat" and not ratio:
        return (1.0,) * HOURS, "profile: the same all day, as asked"
    if name == "day":
        figure = known.peak_to_mean
        if ratio:
            return sinusoid(
                _number(ratio)
            ), f"profile: a cosine (assumed) with its peak {ratio} times the mean, as asked"
        return sinusoid(figure.value), (
            f"profile: a cosine (assumed), peak {figure.value:g} times the mean ({figure.status}): {figure.source}"
        )
    if "," in given:
        return _shares([_number(part) for part in given.split(",")]), "profile: given by the user"
    if not Path(given).is_file():
        raise SpecError(
            f"is flat, day, day:1.8, 24 numbers or a trace file, got {given!r}; {did_you_mean(given, PROFILES)}",
            field="profile",
        )
    return profile_of_trace(read_trace(given)), f"profile: hours of {Path(given).name}, from its first arrival"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SpecError(f"is made of numbers, got {text.strip()!r}", field="profile") from None


def _shares(given: Sequence[float]) -> tuple[float, ...]:
    values = np.asarray(given, dtype=float)
    if values.shape != (HOURS,):
        raise SpecError(f"has 24 hours, got {values.size}", field="profile")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() > 0):
        raise SpecError("is made of numbers from zero on, with one above it", field="profile")
    return tuple((values / values.max()).tolist())


@dataclass(frozen=True)
class Demand:
    """Requests per second by hour and month: ``peak_rate`` in the busiest hour of the first month, ``growth`` a month, compounded.

    >>> demand = Demand(peak_rate=20.0, profile=sinusoid(1.5), growth=0.08, months=3)
    >>> demand.by_month().round(2).tolist(), round(demand.mean_rate, 2)
    ([20.0, 21.6, 23.33], 13.33)
    """

    peak_rate: float
    profile: tuple[float, ...] = (1.0,) * HOURS
    growth: float = 0.0
    months: int = 1
    requests_per_user_hour: float | None = None
    source: str = "profile: the same all day"

    def __post_init__(self) -> None:
        for name, value in (
            ("request_rate", self.peak_rate),
            ("requests_per_user_hour", self.requests_per_user_hour or 1.0),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise SpecError(f"must be a number above 0, got {value!r}", field=name)
        if not (isinstance(self.growth, (int, float)) and -1 < self.growth <= 10):
            raise SpecError(f"is a share a month from -1 to 10, 0.08 for 8%, got {self.growth!r}", field="growth")
        if isinstance(self.months, bool) or not isinstance(self.months, int) or not 1 <= self.months <= 120:
            raise SpecError(f"is a whole number from 1 to 120, got {self.months!r}", field="months")
        object.__setattr__(self, "profile", _shares(self.profile))

    @property
    def mean_rate(self) -> float:
        """Mean of the first month's day [requests/s]."""
        return self.peak_rate * sum(self.profile) / HOURS

    def by_month(self) -> Array:
        """Peak rates [requests/s], month by month."""
        return np.asarray(self.peak_rate * (1 + self.growth) ** np.arange(self.months))

    def by_hour(self) -> Array:
        """Rates [requests/s]: months by hours of the day."""
        return np.asarray(self.by_month()[:, None] * np.asarray(self.profile))

    def users(self, rate: Numbers) -> Any:
        """Active users behind a rate; None where their requests per hour are not given."""
        return None if self.requests_per_user_hour is None else users_of_rate(rate, self.requests_per_user_hour)


def by_minute(hours: Array) -> Array:
    """Rates of every minute of a day that comes again: straight lines between the middles of the hours.

    >>> day = by_minute(np.array([2.0] * 12 + [4.0] * 12))
    >>> len(day), float(day.min()), float(day.max()), float(day.mean().round(6))
    (1440, 2.0, 4.0, 3.0)
    """
    middles = (np.arange(HOURS) + 0.5) * 60
    minutes = np.arange(MINUTES)
    return np.asarray(np.interp(minutes, middles, hours, period=MINUTES), dtype=float)
