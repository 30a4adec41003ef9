"""The best options under real arrivals: simulated at their load, with as many replicas as the targets then take."""

from __future__ import annotations

import math
from dataclasses import replace

from infersim.planning.market import cost_order
from infersim.planning.options import Option
from infersim.predict.estimate import Estimate
from infersim.serving.arrivals import poisson
from infersim.serving.capacity import with_rate
from infersim.serving.result import ServingResult
from infersim.serving.simulate import simulate_deployment
from infersim.serving.traffic import Traffic

FEWEST, MOST = 1500, 12000
"""Requests of a run that verifies an option."""
TRIALS = 8
"""Runs of one option at most; one that still misses its targets then is given up."""
STEP = 0.93
"""Where devices are given and not the load: how much of it the next run tries."""


def simulate_option(option: Option, traffic: Traffic, *, seed: int = 0) -> ServingResult:
    """One run at the option's planned load: long enough for ten times the requests that are under way at once."""
    count = int(min(max(FEWEST, 10 * option.request_rate * option.e2e), MOST))
    if not hasattr(traffic.arrivals, "rate"):
        traffic = traffic.model_copy(update={"arrivals": poisson(option.request_rate)})
    stream = with_rate(traffic, option.request_rate).model_copy(update={"num_requests": count})
    front = _copies(option.prefill, option.prefill_replicas) if option.prefill is not None else None
    placed = _copies(option.deployment, option.replicas)
    return simulate_deployment(placed, stream, seed=seed, target=option.limits, prefill=front)


def _copies(deployment: Estimate, replicas: int) -> Estimate:
    parallelism = deployment.parallelism.model_copy(update={"replicas": replicas})
    return replace(deployment, parallelism=parallelism)


def missed(run: ServingResult) -> list[str]:
    """Names of the limits that a run misses once it has settled; ``stability`` where arrivals outran it."""
    if run.unstable:
        return ["stability"]
    return run.settled().missed_targets


def verified(option: Option, traffic: Traffic, *, max_devices: int, fixed_devices: bool, seed: int = 0) -> Option | None:
    """The option as its simulation wants it; None where the targets are out of its reach within ``max_devices``.

    At a given load: with more replicas as long as targets are missed, and with fewer as long as they are met. With given devices
    (``fixed_devices``): at the highest load, in steps of STEP, that meets them.
    """
    best: Option | None = None
    tried = option
    for _ in range(TRIALS):
        run = simulate_option(tried, traffic, seed=seed)
        wrong = missed(run)
        if not wrong:
            best = _settled(tried, run)
            smaller = _smaller(tried) if not fixed_devices else None
            if smaller is None or smaller.devices < tried.devices - tried.deployment.parallelism.devices_per_replica:
                return best
            if tried.devices > option.devices or smaller.request_rate > 1.15 * smaller.capacity:
                return best
            tried = smaller
        elif best is not None:
            return best
        elif fixed_devices:
            tried = _slower(tried)
        else:
            tried = _larger(tried, wrong)
            if tried.devices > max_devices:
                return None
    return best


def _settled(option: Option, run: ServingResult) -> Option:
    """An option with the latencies of its run; it serves its load, so that is the least its capacity can be."""
    seen = run.settled()
    return replace(
        option, verified=run, capacity=max(option.capacity, option.request_rate), ttft=seen.mean("ttft"), tpot=seen.mean("tpot"),
        e2e=seen.mean("e2e"),
    )  # fmt: skip


def _with(option: Option, replicas: int, prefill_replicas: int) -> Option:
    """More or fewer replicas; capacity goes with the pool that was scaled."""
    share = min(
        replicas / option.replicas, prefill_replicas / option.prefill_replicas if option.prefill_replicas else replicas / option.replicas
    )
    return replace(
        option, replicas=replicas, prefill_replicas=prefill_replicas, capacity=option.capacity * share, verified=None
    )


def _smaller(option: Option) -> Option | None:
    if option.prefill is not None or option.replicas == 1:
        return None
    return _with(option, option.replicas - 1, 0)


def _larger(option: Option, wrong: list[str]) -> Option:
    if option.prefill is not None and any(name.startswith("ttft") for name in wrong):
        return _with(option, option.replicas, option.prefill_replicas + 1)
    return _with(option, option.replicas + max(1, option.replicas // 12), option.prefill_replicas)


def _slower(option: Option) -> Option:
    rate = option.request_rate * STEP
    return replace(option, request_rate=rate, capacity=option.capacity * STEP)


def order(option: Option) -> tuple[float, ...]:
    """The rank of an option among others, as offers are ranked."""
    cost = math.inf if option.cost_per_hour is None else option.cost_per_hour
    knobs = len(option.deployment.knobs.model_dump(exclude_defaults=True))
    return (*cost_order(cost, option.devices, option.request_rate, option.capacity), option.prefill_replicas, knobs)


def verify_best(
    options: list[Option], traffic: Traffic, *, count: int, max_devices: int, fixed_devices: bool, seed: int, dropped: dict[str, str]
) -> list[Option]:
    """The options ranked again, the first ``count`` of them simulated. What misses its targets in every run is named in ``dropped``."""
    ranked = sorted(options, key=order)
    for _ in range(3 * count):
        waiting = next((index for index, option in enumerate(ranked[:count]) if option.verified is None), None)
        if waiting is None:
            break
        option = ranked.pop(waiting)
        found = verified(option, traffic, max_devices=max_devices, fixed_devices=fixed_devices, seed=seed)
        if found is None:
            dropped[option.describe()] = "misses the target in simulation with all the devices there may be"
        else:
            ranked = sorted([*ranked, found], key=order)
    return ranked
