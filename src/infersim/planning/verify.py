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

FEWEST, MOST = 1000, 12000
"""Requests of a run that verifies an option."""
TRIALS = 7
"""Runs of one option at most; one that still misses its targets then is given up."""
STEP = 0.93
"""Where devices are given and not the load: how much of it the next run tries."""


def simulate_option(option: Option, traffic: Traffic, *, seed: int = 0) -> ServingResult:
    """One run at the option's planned load: long enough for eight times the requests that are under way at once."""
    count = int(min(max(FEWEST, 8 * option.request_rate * option.e2e), MOST))
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


def verified(option: Option, traffic: Traffic, *, max_devices: int, fixed_devices: bool, seed: int = 0) -> Option | str:
    """The option as its simulation wants it, or a sentence that says why the targets are out of its reach.

    At a given load: with the fewest replicas that meet the targets, found between those that miss them and those that do not. With
    given devices (``fixed_devices``): at the highest load, in steps of STEP, that meets them.
    """
    best: Option | None = None
    too_few, wrong, tried = 0, [""], option
    for trial in range(TRIALS):
        run = simulate_option(tried, traffic, seed=seed)
        wrong = missed(run)
        if not wrong:
            best = _settled(tried, run)
            fewer = None if fixed_devices or option.prefill is not None else _between(best, too_few, option)
            if fewer is None:
                return best
            tried = fewer
        elif best is not None:
            too_few = tried.replicas
            fewer = _between(best, too_few, option)
            if fewer is None:
                return best
            tried = fewer
        elif fixed_devices:
            tried = replace(tried, request_rate=tried.request_rate * STEP, capacity=tried.capacity * STEP)
        else:
            too_few = tried.replicas
            larger = _larger(tried, wrong, trial)
            if larger.devices > max_devices:
                break
            tried = larger
    return (
        best
        or f"misses {' and '.join(wrong)} in simulation, at {tried.request_rate:.3g} requests/s on {tried.devices} devices"
    )


def _between(best: Option, too_few: int, first: Option) -> Option | None:
    """The next number of replicas to try below ``best``; None where there is none, or where the closed form rules it out by far."""
    if best.replicas - too_few < 2:
        return None
    if too_few:
        return _with(best, (best.replicas + too_few) // 2, 0)
    fewer = _with(best, best.replicas - 1, 0)
    return fewer if first.request_rate <= 1.15 * first.capacity * fewer.replicas / first.replicas else None


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
        replicas / option.replicas,
        prefill_replicas / option.prefill_replicas if option.prefill_replicas else replicas / option.replicas,
    )
    return replace(
        option, replicas=replicas, prefill_replicas=prefill_replicas, capacity=option.capacity * share, verified=None
    )


def _larger(option: Option, wrong: list[str], trial: int) -> Option:
    """More replicas where the load misses its targets, in growing steps; of two pools the one that is to blame gets one."""
    if option.prefill is None:
        return _with(option, option.replicas + max(1, option.replicas * 2**trial // 12), 0)
    if any(name.startswith("ttft") for name in wrong):
        return _with(option, option.replicas, option.prefill_replicas + 1)
    return _with(option, option.replicas + 1, option.prefill_replicas)


def order(option: Option) -> tuple[float, ...]:
    """The rank of an option among others, as offers are ranked."""
    cost = math.inf if option.cost_per_hour is None else option.cost_per_hour
    knobs = len(option.deployment.knobs.model_dump(exclude_defaults=True))
    return cost_order(cost, option.devices, option.request_rate, option.capacity, option.prefill is not None, knobs)


def verify_best(
    options: list[Option],
    traffic: Traffic,
    *,
    count: int,
    max_devices: int,
    fixed_devices: bool,
    seed: int,
    dropped: dict[str, str],
) -> list[Option]:
    """The options ranked again, the first ``count`` of them simulated. What misses its targets in every run is named in ``dropped``."""
    ranked = sorted(options, key=order)
    for _ in range(3 * count):
        waiting = next((index for index, option in enumerate(ranked[:count]) if option.verified is None), None)
        if waiting is None:
            break
        option = ranked.pop(waiting)
        found = verified(option, traffic, max_devices=max_devices, fixed_devices=fixed_devices, seed=seed)
        if isinstance(found, str):
            dropped[option.describe()] = found
        else:
            ranked = sorted([*ranked, found], key=order)
    return ranked
