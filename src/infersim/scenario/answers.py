"""From a case of a scenario to its answer: the engine's own questions, and those of the layers above it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from infersim.errors import NoPlanError, SpecError
from infersim.planning.assumptions import read_assumption
from infersim.predict.deploy import deploy
from infersim.predict.estimate import Estimate
from infersim.scenario import questions
from infersim.scenario.scenario import Scenario, resolve
from infersim.scenario.setup import Setup, located
from infersim.serving.traffic import Traffic
from infersim.specs.deployment import EngineKnobs
from infersim.specs.served import PARALLEL


def answer(scenario: Scenario) -> Any:
    """The answer of one case, of the kind that its question has: ``Estimate``, ``ServingResult``, ``Capacity``, ``Plan``, ``CostReport``,
    ``Comparison``, ``FleetPlan`` or that of a layer.

    Raises what those raise; a SpecError says the line of the scenario where it can be told.

    >>> answer(resolve({"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM"})).fits
    True
    """
    try:
        if scenario.question in questions.LAYERS:
            return _of_a_layer(scenario)
        return _ANSWERS[scenario.question](scenario)
    except SpecError as error:
        raise located(error, scenario.tree, scenario.file) from error


def _estimate(scenario: Scenario) -> Estimate:
    setup = scenario.setup
    target = setup.target.means() if setup.target is not None else None
    return replace(_at_its_load(setup), target=target)


def _deployment(setup: Setup) -> Estimate:
    """The deployment under its closed loop, whatever the target."""
    if setup.workload.sessions is not None:
        raise SpecError(
            "are simulated turn by turn; a closed form takes the mean lengths of all turns", field="workload.sessions"
        )
    return deploy(setup.served, setup.workload.steady(), sampler=setup.workload.sampler)


def _at_its_load(setup: Setup) -> Estimate:
    """The deployment with as many users as its arrivals make; in a closed loop with those that are stated."""
    from infersim.planning.search import at_load
    from infersim.planning.service import service_curve

    one, rate = _deployment(setup), setup.workload.rate
    if rate is None or not one.fits:
        return one
    copies = one.parallelism.replicas
    curve = service_curve(replace(one, parallelism=one.parallelism.model_copy(update={"replicas": 1})))
    most = float(curve.rate[-1]) * copies
    if rate > most:
        raise NoPlanError(
            f"{rate:g} requests/s arrive and {one.describe()} serves {most:.3g} at most: use more replicas"
        )
    return at_load(one, float(curve.at(rate / copies).users) * copies)


def _simulate(scenario: Scenario) -> Any:
    from infersim.serving.simulate import simulate_deployment

    setup = scenario.setup
    traffic = setup.workload.traffic()
    found = simulate_deployment(
        _for_traffic(setup, traffic), traffic, seed=setup.seed, target=setup.limits, prefill=_prompt_pool(setup, traffic),
        speedup=setup.workload.speedup, **_how(setup),
    )  # fmt: skip
    return found.settled() if setup.simulate is not None and setup.simulate.settled else found


def _for_traffic(setup: Setup, traffic: Any) -> Estimate:
    steady = setup.workload.steady().model_copy(
        update={"num_requests": None, "fixed_lengths": False, "prefix_hit": 0.0}
    )
    lengths = {"input_tokens": traffic.mean_input, "output_tokens": traffic.mean_output}
    return deploy(setup.served, steady.model_copy(update=lengths), sampler=setup.workload.sampler)


def _prompt_pool(setup: Setup, traffic: Any) -> Estimate | None:
    """The pool of its own for prompts, where there is one: what it says differs from the deployment."""
    if setup.simulate is None or setup.simulate.prefill is None:
        return None
    from infersim.specs.reading import validate
    from infersim.specs.served import Placement, ServedModel
    from infersim.specs.workload import Workload

    differs = dict(setup.simulate.prefill)
    hardware = differs.pop("hardware", setup.hardware)
    place = setup.deployment.model_dump(mode="json", exclude_unset=True) | {"replicas": 1, "speculative_config": None}
    try:
        placed = validate(Placement, place | differs)
        served = validate(ServedModel, {"model": setup.model, "hardware": hardware, "deployment": placed})
    except SpecError as error:
        raise SpecError(error.message, field="simulate.prefill") from error
    return deploy(served, Workload(input_tokens=traffic.mean_input, output_tokens=1.0))


def _how(setup: Setup) -> dict[str, Any]:
    if setup.simulate is None:
        return {}
    return {name: getattr(setup.simulate, name) for name in ("routing", "transfer_overlap", "first_token")}


def _capacity(scenario: Scenario) -> Any:
    from infersim.serving.capacity import capacity

    setup = scenario.setup
    if not setup.limits:
        raise SpecError("is needed: a capacity is the highest rate that meets it", field="target")
    traffic = setup.workload.traffic()
    if not isinstance(traffic, Traffic):
        raise SpecError("a capacity is a rate; a trace has its own", field="workload.trace")
    if setup.simulate is not None and setup.simulate.prefill is not None:
        raise SpecError("a capacity is searched for one pool: leave it out", field="simulate.prefill")
    options: dict[str, Any] = (
        {"routing": setup.simulate.routing, "tolerance": setup.simulate.tolerance} if setup.simulate else {}
    )
    return capacity(_for_traffic(setup, traffic), traffic, setup.limits, seed=setup.seed, **options)


def _plan(scenario: Scenario) -> Any:
    return _search(scenario.setup)


def _search(setup: Setup, request_rate: float | None = None, **fixed: Any) -> Any:
    from infersim.planning.search import plan
    from infersim.specs.economics import rental

    place, bounds = setup.deployment, setup.plan
    if setup.model is None or setup.hardware is None:
        raise SpecError("is missing", field="model" if setup.model is None else "hardware")
    for name in (*PARALLEL, "system"):
        if name in place.model_fields_set:
            raise SpecError("is what a plan searches: leave it out", field=f"deployment.{name}")
    knobs = [name for name in EngineKnobs.model_fields if name in place.model_fields_set]
    if knobs:
        raise SpecError(
            "is what a plan searches or takes from the engine: leave it out", field=f"deployment.{knobs[0]}"
        )
    load = setup.workload
    if load.trace is not None:
        raise SpecError("a plan takes lengths and arrivals: state them in place of the trace", field="workload.trace")
    engine = place.engine if isinstance(place.engine, str) else place.engine.name
    told: dict[str, Any] = {
        "precision": place.precision if isinstance(place.precision, str) else None, "kv_cache": place.kv_cache,
        "engine": engine, "mode": place.mode, "speculation": place.speculative_config, "site": setup.cost.site or "us",
        "terms": setup.cost.terms if setup.cost.terms is not None else "on_demand", "seed": setup.seed, "target": setup.limits,
    }  # fmt: skip
    if place.precision is not None and not isinstance(place.precision, str):
        raise SpecError("a plan tries named formats: give a name", field="deployment.precision")
    if setup.cost.gpu_hour is not None and (setup.hardware == "all" or isinstance(setup.hardware, tuple)):
        raise SpecError("is one price for several GPUs: state theirs under plan.prices", field="cost.gpu_hour")
    if setup.cost.gpu_hour is not None:
        told["terms"] = rental(per_hour=setup.cost.gpu_hour)
    if bounds is not None:
        given: dict[str, Any] = {
            "precision": bounds.precision, "kv_cache": bounds.kv_cache, "engine": bounds.engine, "prices": bounds.prices,
        }  # fmt: skip
        told |= {name: value for name, value in given.items() if value is not None}
        told |= {"max_gpus": bounds.max_gpus, "pools": bounds.pools, "verify": bounds.verify}
    rate = request_rate or (bounds.request_rate if bounds is not None else None) or load.rate
    if load.arrivals is not None and rate is None:
        raise SpecError("a plan takes arrivals with a rate: poisson, gamma or constant", field="workload.arrivals")
    gpus = (
        None
        if setup.hardware == "all"
        else list(setup.hardware)
        if isinstance(setup.hardware, tuple)
        else [setup.hardware]
    )
    traffic = load.traffic()
    assert isinstance(traffic, Traffic)
    return plan(setup.model, gpus, traffic=_open(traffic, rate), request_rate=rate, **(told | fixed))


def _open(traffic: Traffic, rate: float | None) -> Traffic:
    """The same lengths under arrivals, which a plan's simulations have; their rate is only taken where one is asked for."""
    from infersim.serving.arrivals import poisson

    if rate is not None and getattr(traffic.arrivals, "rate", None) is not None:
        return traffic
    return traffic.model_copy(update={"arrivals": poisson(rate or 1.0), "num_requests": 1000})


def _cost(scenario: Scenario) -> Any:
    from infersim.planning.cost import cost

    setup, costs = scenario.setup, scenario.setup.cost
    rate = costs.request_rate or setup.workload.rate
    if rate is None:
        raise SpecError("is needed: the mean load, here or as arrivals of the workload", field="cost.request_rate")
    given: dict[str, Any] = {
        "cached_share": costs.cached_share,
        "requests_per_user_month": costs.requests_per_user_month,
        "devices": costs.devices,
    }
    return cost(
        _deployment(setup), request_rate=rate, terms=costs.paid, site=costs.site or "us", against=costs.other,
        api=costs.api_prices,
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip


def _compare(scenario: Scenario) -> Any:
    from infersim.planning.compare import compare

    setup = scenario.setup
    asked = setup.compare
    rate = (asked.request_rate if asked is not None else None) or setup.workload.rate
    if rate is None:
        raise SpecError("is needed: the load, here or as arrivals of the workload", field="compare.request_rate")
    target = setup.target.text if setup.target is not None else None
    named = _options(scenario)
    deployments = [_deployment(one.setup) for _, one in named]
    names = [name for name, _ in named]
    more: dict[str, Any] = {}
    if asked is not None:
        ranges = [read_assumption(f"{name}={value}") if isinstance(value, str) else (name, value)
                  for name, value in asked.assumptions.items()]  # fmt: skip
        more = {"assumptions": dict(ranges), "samples": asked.samples, "whole_nodes": asked.whole_nodes}
    return compare(
        *deployments, request_rate=rate, target=target, names=names if len(names) > 1 else None, seed=setup.seed, **more
    )


def _options(scenario: Scenario) -> list[tuple[str, Scenario]]:
    """The options of a comparison with their names."""
    setup = scenario.setup
    asked = setup.compare
    tree = scenario.tree
    if asked is not None and asked.options:
        if isinstance(setup.hardware, tuple):
            raise SpecError(
                "is a list beside options: write one accelerator, and the others as options", field="hardware"
            )
        changes = [dict(one) for one in tree["compare"]["options"]]
    elif isinstance(setup.hardware, tuple):
        if setup.cost.gpu_hour is not None:
            raise SpecError("is one price for several GPUs: state theirs in options", field="cost.gpu_hour")
        changes = [{"hardware": one} for one in tree["hardware"]]
    else:
        raise SpecError("names nothing to compare: give options, or a list of hardware", field="compare")
    found = []
    for number, change in enumerate(changes):
        rest = {key: value for key, value in change.items() if key != "name"}
        one = resolve(tree, {**rest, "question": "estimate"}) if rest else scenario
        default = (
            ", ".join(str(v.get("name", "own") if isinstance(v, Mapping) else v) for v in rest.values()) or "as it is"
        )
        found.append((str(change.get("name") or default), one))
        if [name for name, _ in found].count(found[-1][0]) > 1:
            raise SpecError(f"two options are called {found[-1][0]!r}: name them", field=f"compare.options.{number}")
    return found


def _size(scenario: Scenario) -> Any:
    from infersim.planning.demand import Demand, rate_of_users, read_profile
    from infersim.planning.fleet import size_fleet
    from infersim.specs.economics import operations

    setup, fleet = scenario.setup, scenario.setup.fleet
    if fleet is None:
        raise SpecError("is missing: a fleet's users or request_rate", field="fleet")
    peak = fleet.request_rate or setup.workload.rate
    if fleet.users is not None:
        if fleet.request_rate is not None:
            raise SpecError("has users and request_rate: give one", field="fleet")
        peak = float(rate_of_users(fleet.users, fleet.requests_per_user_hour))
    if peak is None:
        raise SpecError("is needed: users at the peak, or requests per second", field="fleet.users")
    known = operations(**fleet.operations)
    shares, told = read_profile(fleet.profile, known)
    per_user = fleet.requests_per_user_hour if fleet.users is not None else None
    demand = Demand(peak, shares, fleet.growth, fleet.months, per_user, told)
    what: Any
    if setup.plan is not None or isinstance(setup.hardware, tuple):
        last = float(demand.by_month().max())
        what = _search(
            setup, last, pools="aggregated", max_gpus=max(setup.plan.max_gpus if setup.plan else 0, 100_000)
        ).best
    else:
        what = _deployment(setup)
    return size_fleet(
        demand, what, target=setup.limits, replica_capacity=fleet.replica_capacity, availability=fleet.availability,
        headroom=fleet.headroom, autoscaled=fleet.autoscaled, rack_kilowatts=fleet.rack_kilowatts, known=known,
    )  # fmt: skip


def _of_a_layer(scenario: Scenario) -> Any:
    setup, layer = scenario.setup, questions.LAYERS[scenario.question]
    deployment = None
    if setup.model is not None or setup.hardware is not None:
        deployment = _at_its_load(setup)
    ask = layer.load_answer()
    offered = {
        "deployment": deployment,
        "seed": setup.seed,
        "limits": setup.limits,
        "workload": setup.workload.steady(),
    }
    taken = inspect.signature(ask).parameters
    if "deployment" in taken and taken["deployment"].default is inspect.Parameter.empty and deployment is None:
        raise SpecError(f"is needed: the section {layer.section} asks about a deployment", field="model")
    return ask(scenario.layers[layer.section], **{name: value for name, value in offered.items() if name in taken})


_ANSWERS: dict[str, Callable[[Scenario], Any]] = {
    "estimate": _estimate, "simulate": _simulate, "capacity": _capacity, "plan": _plan, "cost": _cost, "compare": _compare, "size": _size,
}  # fmt: skip


def figures(found: Any) -> dict[str, float]:
    """The finite numbers of an answer under dotted names that carry their units; of lists those of a plan's best option and a fleet's
    largest month. ``target_met`` is 1 or 0.

    >>> one = answer(resolve({"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM"}))
    >>> told = figures(one)
    >>> told["ttft_s"] == one.ttft, told["target_met"], "memory.weights_bytes" in told
    (True, 1.0, True)
    """
    from infersim.scenario.expect import target_met
    from infersim.tables import flatten

    told = dict(found if isinstance(found, Mapping) else found.to_dict())
    met = float(target_met(told))
    for name, short in (("options", "best"), ("months", "last")):
        listed = told.pop(name, None)
        if isinstance(listed, list) and listed:
            told[short] = listed[0 if short == "best" else -1]
    flat = flatten({key: value for key, value in told.items() if key not in _LEFT_OUT})
    numbers = {
        name: float(value) for name, value in flat.items() if isinstance(value, int | float) and math.isfinite(value)
    }
    return {"target_met": met, **numbers}


_LEFT_OUT = ("decode_step", "prefill_step", "sources", "assumptions", "peak_flop_per_s")
