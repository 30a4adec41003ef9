"""Queueing theory in closed form: what the simulator must agree with where theory applies."""

from __future__ import annotations

from infersim.errors import SpecError


def erlang_c(servers: int, load: float) -> float:
    """Chance that an arrival waits in M/M/c, ``load`` = arrival rate x mean service time, below ``servers``.

    From Erlang's B by its recursion: B(0) = 1, B(k) = a B(k-1) / (k + a B(k-1)), C = B / (1 - (1 - B) a / c).
    Source: A. K. Erlang, 1917; Kleinrock, Queueing Systems I, 1975, section 3.5.

    >>> round(erlang_c(4, 3.2), 5), round(erlang_c(8, 6.4), 5)
    (0.59643, 0.45764)
    """
    _check(load, servers)
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - (1 - blocked) * load / servers)


def mmc_wait(servers: int, rate: float, service: float) -> float:
    """Mean wait in queue of M/M/c [s]: C(c, a) / (c / service - rate).

    >>> round(mmc_wait(4, 3.2, 1.0), 5)
    0.74554
    """
    return erlang_c(servers, rate * service) / (servers / service - rate)


def mg1_wait(rate: float, service: float, service_squared: float) -> float:
    """Mean wait in queue of M/G/1 [s]: rate E[S^2] / (2 (1 - rate E[S])).

    Source: Pollaczek 1930, Khinchine 1932; Kleinrock, Queueing Systems I, 1975, section 5.6.

    >>> round(mg1_wait(0.8, 1.0, 1.0), 9), round(mg1_wait(0.8, 1.0, 2.0), 9)  # constant, exponential service
    (2.0, 4.0)
    """
    _check(rate * service, 1)
    return rate * service_squared / (2 * (1 - rate * service))


def batched_decode(rate: float, output: float, fixed: float, each: float) -> tuple[float, float]:
    """(mean sequences running, mean TPOT [s]) of continuous batching without limits, where a step of n sequences takes
    ``fixed`` + n x ``each`` and prefill takes nothing.

    The number running is a birth-death chain with death rate n / (output (fixed + n each)): negative binomial with
    r = rate output each and c = fixed / each; E[n] = (c + 1) r / (1 - r), TPOT = (fixed + each) / (1 - r) by Little's law.

    >>> running, tpot = batched_decode(50.0, 200.0, 0.005, 50e-6)
    >>> round(running, 6), round(tpot, 6)
    (101.0, 0.0101)
    """
    share = rate * output * each
    _check(share, 1)
    return (fixed / each + 1) * share / (1 - share), (fixed + each) / (1 - share)


def _check(load: float, servers: int) -> None:
    if servers < 1:
        raise SpecError(f"at least one server is needed, got {servers}", field="servers")
    if not 0 <= load < servers:
        raise SpecError(f"a load of {load:g} outruns {servers} server(s): the queue has no steady state", field="load")
