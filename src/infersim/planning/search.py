"""Search: which GPUs, how many and how set up, for a load within targets; and why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from infersim import units
from infersim.errors import DoesNotFitError, InferSimError, NoPlanError, SpecError
from infersim.planning.flip_points import flip_points
from infersim.planning.front import operating_front
from infersim.planning.market import Market, Offer, Question, build_market
from infersim.planning.options import Option, Plan
from infersim.planning.service import Scatter
from infersim.planning.space import Setting, Tried, candidates, schemes
from infersim.planning.terms import device_hour
from infersim.planning.verify import verify_best
from infersim.predict.estimate import Estimate
from infersim.serving.arrivals import poisson
from infersim.serving.lengths import as_lengths
from infersim.serving.target import Limit, read_limits
from infersim.serving.traffic import SharedPrefixes, Traffic
from infersim.specs.economics import Ownership, Rental, Site, load_site, ownership, power_terms, rental
from infersim.specs.hardware import Accelerator
from infersim.specs.huggingface import load_model
from infersim.specs.library import default_system, load_accelerator, names
from infersim.specs.model import ModelSpec

MAX_GPUS = 64
"""Devices at most where the user says nothing."""
LARGEST_REPLICA = 64
LENGTH_DRAWS = 4096
POOLS = ("both", "aggregated", "disaggregated")


def plan(
    model: str | ModelSpec,
    gpus: str | Iterable[str | Accelerator] | None = None,
    *,
    input_tokens: Any = 1024,
    output_tokens: Any = 256,
    prefix_hit: float = 0.0,
    traffic: Traffic | None = None,
    request_rate: float | None = None,
    target: str | tuple[Limit, ...] = (),
    max_gpus: int = MAX_GPUS,
    precision: str | Iterable[str] | None = None,
    kv_cache: str | None = None,
    engine: str | Iterable[str] = "vllm",
    pools: str = "both",
    prices: Mapping[str, float] | None = None,
    terms: Ownership | Rental | str = "on_demand",
    site: Site | str = "us",
    speculation: Any = None,
    mode: str = "calibrated",
    verify: int = 2,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Plan:
    """The deployments of ``model`` that serve ``request_rate`` requests per second within ``target``, cheapest first.

    Without a rate: those that serve most with ``max_gpus`` devices. ``gpus`` are names or accelerators, by default every bundled GPU.
    Lengths are means or distributions as ``Traffic`` takes them; ``prefix_hit`` is the share of a prompt found in the cache;
    ``traffic`` states all of that at once (its own rate stands for ``request_rate`` where that is not given). ``target`` may
    limit means and percentiles (``ttft_p95=800ms,tpot_p95=40ms``). ``precision`` defaults to the checkpoint's formats, and fp8
    beside 16-bit ones where the device multiplies it. ``prices`` [USD per device and hour] replace those on file; ``terms`` say
    how devices are paid for (a kind of rent, ``buy``, or terms of ``specs.economics``) and ``site`` where owned ones stand. The
    ``verify`` best are simulated under Poisson arrivals and given as many replicas as that takes.

    Raises DoesNotFitError where no candidate fits into memory, NoPlanError where none meets the target, both with the nearest
    change that would; SpecError for bad input.

    >>> answer = plan("meta-llama/Llama-3.1-8B", "H100-SXM,L40S", request_rate=10, target="ttft_p95=1s,tpot_p95=50ms", verify=1)
    >>> answer.best.verified.settled().missed_targets
    []
    """
    started = time.perf_counter()
    spec = load_model(model) if isinstance(model, str) else model
    limits = (read_limits(target) if target else ()) if isinstance(target, str) else tuple(target)
    if pools not in POOLS:
        raise SpecError(f"is one of {', '.join(POOLS)}, got {pools!r}", field="pools")
    for name, value, least in (
        ("request_rate", request_rate, 0.0),
        ("max_gpus", max_gpus, 0.5),
        ("verify", verify, -0.5),
    ):
        if value is not None and not (isinstance(value, (int, float)) and least < value < math.inf):
            raise SpecError(f"must be above {max(least, 0):g}, got {value!r}", field=name)
    asked = traffic_of(traffic, input_tokens, output_tokens, prefix_hit, request_rate)
    rate = request_rate if request_rate is not None else (getattr(asked.arrivals, "rate", None) if traffic else None)
    devices = accelerators(gpus)
    hit = prefix_hit if traffic is None else shared_share(asked)
    setting = Setting(asked.mean_input, asked.mean_output, hit, kv_cache, mode, speculation)
    tried = Tried()
    found: list[Estimate] = []
    engines = [engine] if isinstance(engine, str) else list(engine)
    for number, device in enumerate(devices):
        if progress is not None:
            progress(device.name, number, len(devices))
        wanted = schemes(spec, device) if precision is None else _listed(precision)
        priced = replace(setting, price_per_hour=(prices or {}).get(device.name))
        here = len(found)
        for drafts in {None: None, str(speculation): speculation}.values():
            found += candidates(
                spec, device, setting=replace(priced, speculation=drafts), precisions=wanted, engines=engines,
                most=min(max_gpus, LARGEST_REPLICA), tried=tried,
            )  # fmt: skip
        if terms != "on_demand" and device.name not in (prices or {}):
            usd, told = _paid(device, terms, site)
            found[here:] = [replace(one, price_per_hour=usd, price_source=told) for one in found[here:]]
    if not found:
        raise _nothing_fits(spec, tried, len(devices))
    scatter, input_cv = scatter_of(asked)
    question = Question(limits, rate, max_gpus, scatter, input_cv)
    market = build_market(found, pools=pools != "aggregated")
    tried.candidates += len(market.deployments) - len(found)
    offers = _offers(market, question, pools)
    if not offers:
        raise _out_of_reach(market, question)
    bounds = market.sustained(question).bound
    options = [_option(market, question, offer, bounds) for offer in _one_of_each(market, offers)]
    if verify and spec.task == "generate":
        options = verify_best(
            options,
            asked,
            count=int(verify),
            max_devices=max_gpus,
            fixed_devices=rate is None,
            seed=seed,
            dropped=tried.reasons,
        )
    if not options:
        raise _out_of_reach(market, question)
    flips = flip_points(market, question, options)
    if progress is not None:
        progress("done", len(devices), len(devices))
    return Plan(
        {"model": spec.name, "gpus": [device.name for device in devices], "input_tokens": asked.mean_input,
         "output_tokens": asked.mean_output, "prefix_hit": hit, "requests_per_s": rate,
         "target": {limit.name + "_s": limit.seconds for limit in limits}, "max_gpus": max_gpus, "pools": pools, "seed": seed},
        tuple(options), operating_front(market, question), tuple(map(str, flips)), tried, time.perf_counter() - started,
    )  # fmt: skip


def accelerators(gpus: str | Iterable[str | Accelerator] | None) -> list[Accelerator]:
    """The accelerators meant: names separated by commas, a list, or every bundled GPU for None.

    >>> [device.name for device in accelerators("h100,l40s")]
    ['H100-SXM', 'L40S']
    """
    if gpus is None:
        every = [load_accelerator(name) for name in names("accelerators")]
        return [device for device in every if device.kind == "gpu"]
    given = [name.strip() for name in gpus.split(",") if name.strip()] if isinstance(gpus, str) else list(gpus)
    found = [load_accelerator(one) if isinstance(one, str) else one for one in given]
    if not found:
        raise SpecError("name at least one accelerator, for example H100-SXM", field="gpus")
    return list({device.name: device for device in found}.values())


def _paid(device: Accelerator, terms: Ownership | Rental | str, site: Site | str) -> tuple[float | None, str]:
    """USD per hour of a device on terms other than the cheapest rent on demand, and where that comes from. Owned devices are taken to
    draw all the power they are allowed."""
    place = load_site(site) if isinstance(site, str) else site
    chosen = terms if not isinstance(terms, str) else ownership() if terms == "buy" else rental(kind=terms)
    system, tdp = default_system(device.name), device.tdp or 0.0
    watts = tdp * (1 + power_terms().host_share.value)
    beside = system.power_beside(tdp) if system is not None else None
    most = watts if beside is None or system is None else tdp + beside / system.devices_per_node
    try:
        hour = device_hour(device, chosen, place, system=system, watts=watts, provisioned_watts=most)
    except SpecError as error:
        return None, str(error)
    first = hour.assumptions[0]
    return (
        hour.usd,
        f"{'owned in' if isinstance(chosen, Ownership) else 'rented,'} {place.name}, {first.name} {first.base:,.6g} USD: {first.source}",
    )


def _listed(given: str | Iterable[str]) -> list[str]:
    return [one.strip() for one in given.split(",")] if isinstance(given, str) else list(given)


def traffic_of(
    traffic: Traffic | None, input_tokens: Any, output_tokens: Any, prefix_hit: float, request_rate: float | None
) -> Traffic:
    """The stream of requests that a load is checked with."""
    if traffic is not None:
        if traffic.sessions is not None:
            raise SpecError(
                "the closed form takes mean lengths: state those of all turns as input_tokens, output_tokens and prefix_hit",
                field="traffic.sessions",
            )
        return traffic
    if not 0 <= prefix_hit < 1:
        raise SpecError(f"is a share from 0 up to 1, got {prefix_hit!r}", field="prefix_hit")
    prompt, arrivals = as_lengths(input_tokens, "input_tokens"), poisson(request_rate or 1.0)
    if not prefix_hit:
        return Traffic(input_tokens=prompt, output_tokens=output_tokens, arrivals=arrivals)
    shared = max(round(prompt.mean * prefix_hit), 1)
    return Traffic(
        input_tokens=max(prompt.mean - shared, 1.0), output_tokens=output_tokens, arrivals=arrivals,
        prefixes=SharedPrefixes(groups=1, tokens=shared),
    )  # fmt: skip


def shared_share(traffic: Traffic) -> float:
    """Share of the mean prompt that is a shared prefix, all of them taken to be in the cache."""
    prefixes = traffic.prefixes
    return prefixes.tokens.mean * prefixes.share / traffic.mean_input if prefixes else 0.0


def scatter_of(traffic: Traffic) -> tuple[Scatter, float]:
    """How latencies scatter under lengths as they are drawn, and the coefficient of variation of the prompts."""
    prompts, outputs = traffic.lengths(np.random.default_rng(0), LENGTH_DRAWS)
    input_cv, output_cv = (float(np.std(v) / np.mean(v)) for v in (prompts, outputs))
    return Scatter().with_lengths(input_cv, output_cv), input_cv


def _offers(market: Market, question: Question, pools: str) -> list[Offer]:
    found = market.offers(question)
    return [offer for offer in found if pools != "disaggregated" or offer.prefill_row is not None]


def _one_of_each(market: Market, offers: list[Offer]) -> list[Offer]:
    """The best offer of every layout, format, engine and kind of pools: knobs are not what a reader compares."""
    best: dict[tuple[Any, ...], Offer] = {}
    for offer in offers:
        one = market.deployments[offer.row]
        front = market.deployments[offer.prefill_row].parallelism if offer.prefill_row is not None else None
        key = (
            one.machine.accelerator.name,
            one.machine.engine.name,
            one.precision,
            one.parallelism,
            front,
            one.drafter is None,
        )
        best.setdefault(key, offer)
    return list(best.values())


def _option(market: Market, question: Question, offer: Offer, bounds: Any) -> Option:
    """An offer as a deployment at its load, with the latencies there."""
    one, each = market.deployments[offer.row], offer.request_rate / offer.replicas
    limits = question.limits
    if offer.prefill_row is None:
        curve = market.curves.row(offer.row)
        point, bound = curve.at(each), int(bounds[offer.row])
        ttft, tpot, e2e, users = (float(v) for v in (point.ttft, point.tpot, point.e2e, point.users))
        front = None
    else:
        pairing = next(p for p in market.pairings if offer.row in p.rows and offer.prefill_row in p.rows)
        rates, row = market.pair_rates(pairing, question), pairing.rows.index(offer.row)
        curve = pairing.curves.row(row)
        point, front = curve.at(each), market.deployments[offer.prefill_row]
        column = pairing.rows.index(offer.prefill_row)
        tpot, users, bound = float(point.tpot), float(point.users), int(rates.bound[row])
        ttft = float(rates.ttft[column, row])
        e2e = ttft + tpot * max(one.workload.output_tokens - 1, 0)
        if question.request_rate is not None and rates.prefill[
            column, row
        ] * offer.prefill_replicas <= offer.capacity * (1 + 1e-9):
            bound = next((i for i, limit in enumerate(limits) if limit.metric == "ttft"), bound)
    name = limits[bound].name if bound >= 0 else _end_of(one, curve)
    placed = at_load(one, users)
    if front is not None:
        front = at_load(front, 1.0)
    return Option(placed, front, offer.replicas, offer.prefill_replicas, offer.request_rate, offer.capacity, ttft, tpot, e2e,
                  name, float(point.running), limits=limits)  # fmt: skip


def at_load(deployment: Estimate, users: float) -> Estimate:
    """The same deployment with so many users."""
    return replace(deployment, workload=deployment.workload.model_copy(update={"concurrency": max(users, 1.0)}))


def _end_of(deployment: Estimate, curve: Any) -> str:
    """What ends a curve that no limit cuts: throughput where more sequences hardly serve more, else slots or the KV pool."""
    half = float(curve.at(curve.rate[-1]).rate)
    before = float(np.interp(curve.users[-1] / 2, curve.users, curve.rate))
    if before > 0.9 * half:
        return "throughput"
    workload = deployment.workload
    context = workload.input_tokens + workload.output_tokens / 2
    slots = (deployment.knobs.max_num_seqs or deployment.machine.max_num_seqs) * deployment.parallelism.attention_data
    return "KV capacity" if float(deployment.memory.max_sequences(context)) < slots else "slots"


def _nothing_fits(model: ModelSpec, tried: Tried, devices: int) -> InferSimError:
    if tried.nearest is None:
        reasons = "; ".join(f"{gpu}: {reason}" for gpu, reason in list(tried.reasons.items())[:3])
        return NoPlanError(
            f"no deployment of {model.name} can run on the {devices} accelerator(s) asked about: {reasons}"
        )
    missing, told = tried.nearest
    return DoesNotFitError(f"none of {tried.candidates} deployments fits; the nearest one: {told}", shortfall=missing)


def _out_of_reach(market: Market, question: Question) -> NoPlanError:
    """Why no candidate answers, and the nearest change with which one would."""
    curves, sentences = market.curves, []
    for limit in question.limits:
        metric = {"ttft": curves.ttft, "tpot": curves.tpot, "itl": curves.tpot, "e2e": curves.e2e}[limit.metric][:, 0]
        row = int(np.argmin(metric))
        least = float(metric[row]) * question.scatter.factor(limit)
        if least > limit.seconds:
            sentences.append(
                f"{limit.name} {units.show(limit.seconds, 's')} is below what any reaches; the shortest is "
                f"{units.show(least, 's')}, {market.deployments[row].describe()}, one user alone"
            )
    if sentences:
        return NoPlanError(f"no deployment meets the target: {'; '.join(sentences)}")
    anywhere = replace(question, max_devices=10**9)
    offers = market.offers(anywhere)
    if offers and question.request_rate is not None:
        least_offer = min(offers, key=lambda offer: offer.devices)
        one = market.deployments[least_offer.row]
        most = market.offers(replace(question, request_rate=None))
        served = f"; {question.max_devices} serve {max(o.capacity for o in most):.3g} requests/s" if most else ""
        return NoPlanError(
            f"{question.request_rate:g} requests/s within the target need {least_offer.devices} devices "
            f"({one.describe()}), more than max_gpus {question.max_devices}{served}"
        )
    return NoPlanError(
        "no deployment meets all limits together, though each alone is in reach: loosen "
        + " or ".join(limit.name for limit in question.limits)
    )
