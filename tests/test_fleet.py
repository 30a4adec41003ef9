"""Fleets: demand, spares, cold start, autoscaling and mixed pools by hand, the laws they obey, and kind refusals."""

from __future__ import annotations

import functools
import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim import estimate, plan, size_fleet
from infersim.cli.app import main
from infersim.errors import NoPlanError, SpecError
from infersim.planning.autoscale import autoscale
from infersim.planning.availability import Placement, chance_up, standing_for, standing_with_maintenance, unavailability
from infersim.planning.cold_start import cold_start, weights_seconds
from infersim.planning.demand import Demand, by_minute, rate_of_users, read_profile, sinusoid, users_of_rate
from infersim.planning.fleet import FleetPlan
from infersim.planning.mixed_pools import Pool, deployment_pool, split_pools
from infersim.predict.estimate import Estimate
from infersim.serving.lengths import LogNormal
from infersim.serving.target import read_limits
from infersim.specs.economics import operations

LARGE = "meta-llama/Llama-3.1-70B-Instruct"


@functools.lru_cache
def large() -> Estimate:
    return estimate(LARGE, "H200-SXM", tensor_parallel=2, precision="fp8", input_tokens=1200, output_tokens=300)


def fleet(rate: float, capacity: float = 3.0, devices: int = 2, goal: float = 0.999, **options: object) -> FleetPlan:
    return size_fleet(
        Demand(rate), replica_capacity=capacity, devices_per_replica=devices, availability=goal, **options
    )  # type: ignore[arg-type]


# -- by hand ----------------------------------------------------------------------------------------------------------------


def test_users_and_rates() -> None:
    """2,000 users x 18 requests an hour / 3,600 s = 10 requests/s, and back."""
    assert rate_of_users(2000, 18) == 10
    assert users_of_rate(10, 18) == 2000


def test_growth_is_compounded() -> None:
    """8% a month: 1.08^23 = 5.871 times after two years."""
    assert float(Demand(10.0, growth=0.08, months=24).by_month()[-1]) == pytest.approx(10 * 5.8715, rel=1e-4)


def test_failures_of_the_llama_3_training() -> None:
    """arXiv:2407.21783: 419 interruptions in 54 days on 16,384 H100, 58.7% by GPUs: 16,384 x 1,296 h / (0.587 x 419) = 86,332 h."""
    assert operations().device_mtbf_hours.value == pytest.approx(16_384 * 54 * 24 / (0.587 * 419), rel=0.01)
    assert operations().node_mtbf_hours.value == pytest.approx(2_048 * 54 * 24 / (0.413 * 419), rel=0.01)


def test_unavailability() -> None:
    """24 h of repair every 86,300 h of service: 24 / 86,324 = 0.0278%."""
    assert unavailability(86_300, 24) == pytest.approx(2.780e-4, rel=1e-3)


def test_spares_of_independent_replicas() -> None:
    """
    One GPU a replica, down 1% of the time, nodes never: of n = 10 needed
      10 of 10 up: 0.99^10 = 90.44%; 10 of 11: 0.99^11 + 11 x 0.01 x 0.99^10 = 99.482%; 10 of 12 adds C(12, 2) 0.01^2 0.99^10: 99.979%
    """
    place = Placement(1, 1)
    assert [chance_up(10, n, place, 0.01, 0.0) for n in (10, 11, 12)] == pytest.approx(
        [0.90438, 0.99482, 0.99979], abs=1e-5
    )
    assert standing_for(10, 0.99, place, 0.01, 0.0) == 11
    assert standing_for(10, 0.999, place, 0.01, 0.0) == 12


def test_a_node_takes_its_replicas_along() -> None:
    """Four replicas of two GPUs in a node that is down 1%: four of four are up 99% of the time, four of five 99% + 1% x 0 = the same;
    with eight in two nodes 1 - 0.01^2 = 99.99%."""
    place = Placement(2, 8)
    assert chance_up(4, 4, place, 0.0, 0.01) == pytest.approx(0.99)
    assert chance_up(4, 5, place, 0.0, 0.01) == pytest.approx(0.99)
    assert chance_up(4, 8, place, 0.0, 0.01) == pytest.approx(0.9999)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.floats(0, 0.3), st.floats(0, 0.3))
def test_chance_of_enough_replicas_by_enumeration(
    standing: int, per_node: int, device_down: float, node_down: float
) -> None:
    """Every state of every node and replica, one by one."""
    place = Placement(1, per_node)
    nodes = -(-standing // per_node)
    for needed in range(1, standing + 1):
        total = 0.0
        for up in product((0, 1), repeat=nodes):
            for works in product((0, 1), repeat=standing):
                alive = sum(works[r] and up[r // per_node] for r in range(standing))
                chance = math.prod((1 - node_down) if u else node_down for u in up)
                chance *= math.prod((1 - device_down) if w else device_down for w in works)
                total += chance * (alive >= needed)
        assert chance_up(needed, standing, place, device_down, node_down) == pytest.approx(total, abs=1e-9)


def test_cold_start_of_70b_from_nvme() -> None:
    """141.1 GB at 7 GB/s: 20.2 s, the host links of eight devices being faster."""
    assert float(weights_seconds(141.1e9, 141.1e9 / 8, storage=7e9, host_link=55e9)) == pytest.approx(20.2, abs=0.05)
    start = cold_start(large(), operations())
    known = operations()
    weights = large().memory.weights * 2 / known.storage_bandwidth.value
    assert start.weights == pytest.approx(weights)
    assert start.seconds == pytest.approx(start.provision + start.image + start.weights + start.engine)


def test_maintenance_takes_a_spare_where_the_day_has_no_valley() -> None:
    """A flat day leaves no hour to drain a node in: one more. A valley of twelve hours leaves plenty."""
    place = Placement(8, 8)
    assert standing_with_maintenance(4, np.full(24, 4.0), place, 2.0) == 5
    assert standing_with_maintenance(4, np.array([4.0] * 12 + [2.0] * 12), place, 2.0) == 4


def test_autoscaling_by_hand() -> None:
    """Load 1, 1, 4, 4 replicas, a start takes one step: paid 1, 4, 4, 4 = 13 steps against 16, and 3 are missing without foresight."""
    found = autoscale(np.array([1.0, 1.0, 4.0, 4.0]), 1.0, start_delay=60, step=60)
    assert found.paid.tolist() == [1, 4, 4, 4]
    assert (found.late, found.static) == (3, 4)
    assert found.saving == pytest.approx(3 / 16)


def test_autoscaling_against_an_event_simulation() -> None:
    """Replicas ordered a start delay ahead by an explicit clock, minute by minute, are those paid."""
    rates = by_minute(np.array(sinusoid(1.8)) * 12)
    delay, keep = 7, 20
    found = autoscale(rates, 1.0, start_delay=delay * 60, scale_down_delay=keep * 60)
    needed = [math.ceil(r - 1e-9) for r in rates]
    size = len(needed)
    for minute in range(0, size, 37):
        seen = [needed[(minute + ahead) % size] for ahead in range(-keep, delay + 1)]
        assert found.paid[minute] == max(seen)


# -- laws -----------------------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 500), st.floats(1, 4), st.floats(0.2, 20), st.sampled_from([1, 2, 4, 8, 16]))
def test_more_users_never_need_fewer_gpus(rate: float, more: float, capacity: float, devices: int) -> None:
    low, high = (fleet(r, capacity, devices).last for r in (rate, rate * more))
    assert high.devices >= low.devices
    assert high.needed >= low.needed


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 100), st.floats(0.5, 0.9999), st.floats(0, 1), st.sampled_from([1, 2, 8]))
def test_more_availability_never_needs_fewer_spares(rate: float, goal: float, closer: float, devices: int) -> None:
    higher = min(goal + (1 - goal) * closer, 0.99999)
    low, high = (fleet(rate, devices=devices, goal=g).last for g in (goal, higher))
    assert high.spares >= low.spares
    assert low.available >= goal
    assert high.available >= higher


@settings(max_examples=20, deadline=None)
@given(st.floats(1, 60), st.floats(0.02, 0.2), st.floats(1, 3))
def test_a_tighter_target_never_needs_fewer_gpus(rate: float, tpot: float, looser: float) -> None:
    def gpus(seconds: float) -> float:
        try:
            return size_fleet(Demand(rate), large(), target=f"tpot={seconds}s").last.devices
        except NoPlanError:
            return math.inf

    assert gpus(tpot) >= gpus(tpot * looser)


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 200), st.floats(0.5, 20), st.floats(0, 3600), st.floats(0, 3600), st.floats(1, 2))
def test_autoscaled_hours_lie_between_load_and_static(
    rate: float, capacity: float, delay: float, keep: float, peak: float
) -> None:
    rates = by_minute(np.array(sinusoid(peak)) * rate)
    found = autoscale(rates, capacity, start_delay=delay, scale_down_delay=keep)
    assert rates.sum() / 60 / capacity - 1e-6 <= found.paid_hours <= found.static_hours + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 300), st.sampled_from([1, 2, 3, 4, 8, 16, 24]))
def test_nodes_hold_all_devices(rate: float, devices: int) -> None:
    last = fleet(rate, devices=devices).last
    place = fleet(rate, devices=devices).placement
    assert last.nodes * place.devices_per_node >= last.replicas * devices
    assert last.devices == last.nodes * place.devices_per_node


# -- together -----------------------------------------------------------------------------------------------------------------


def test_a_fleet_grows_with_its_demand() -> None:
    found = size_fleet(
        Demand(11.0, sinusoid(1.5), 0.08, 24), large(), target="ttft_p95=1s,tpot_p95=50ms", autoscaled=True
    )
    needed = [month.needed for month in found.months]
    assert needed == sorted(needed)
    assert found.start is not None
    assert found.scaled is not None
    assert found.scaled.saving > 0
    assert max(len(line) for line in str(found).splitlines()) <= 80
    assert len(found.to_frame()) == 24
    json.dumps(found.to_dict())


def test_a_plans_option_is_a_replica() -> None:
    option = plan(
        LARGE,
        "H200-SXM",
        request_rate=20,
        target="tpot_p95=50ms",
        pools="aggregated",
        verify=1,
        input_tokens=1200,
        output_tokens=300,
    ).best
    found = size_fleet(Demand(20.0), option)
    assert found.last.needed == option.replicas
    assert found.placement.devices_per_replica == option.deployment.parallelism.devices_per_replica


def test_racks_are_limited_by_power() -> None:
    """A DGX H200 draws 10.2 kW: three to a rack of 40 kW, one to one of 15 kW, none to one of 8 kW."""
    racks = {kw: size_fleet(Demand(60.0), large(), rack_kilowatts=kw).last for kw in (40.0, 15.0)}
    assert racks[40.0].racks == math.ceil(racks[40.0].nodes / 3)
    assert racks[15.0].racks == racks[15.0].nodes
    with pytest.raises(NoPlanError, match="ask for racks of that"):
        size_fleet(Demand(60.0), large(), rack_kilowatts=8.0)


def test_long_prompts_in_a_pool_of_their_own() -> None:
    """With a target on TTFT and prompts of very different lengths two pools take no more GPUs than the best split tried, and each
    pool holds its load."""
    pool = deployment_pool(large(), read_limits("ttft_p95=2s"), name="H200")
    found = split_pools(LogNormal(mean=4000, cv=1.5), 30.0, pool)
    assert found.devices == found.devices_by_threshold.min()
    for share in found.rows:
        assert share.replicas * share.replica_capacity >= 30.0 * share.share * (1 - 1e-9)
    assert found.short is not None
    assert found.long is not None
    assert found.short.share + found.long.share == pytest.approx(1)
    assert "parted at" in str(found)


def test_a_pool_serves_what_the_fleet_says_of_its_prompts_found_in_the_cache() -> None:
    """One length of prompt: the pool's replica is the fleet's replica, with the same share of the prompt found in the prefix cache."""
    cached = estimate(
        LARGE, "H200-SXM", tensor_parallel=2, precision="fp8", input_tokens=2000, output_tokens=300, prefix_hit=0.8
    )
    pool = deployment_pool(cached, read_limits("tpot=40ms"))
    served = pool.capacities(np.array([2000.0]), np.zeros(1), np.array([2000.0]))
    assert served[0] == pytest.approx(size_fleet(Demand(20.0), cached, target="tpot=40ms").replica_capacity)


@pytest.mark.filterwarnings("error")
def test_prompts_that_no_pool_holds_are_refused_with_those_it_would() -> None:
    short = Pool(lambda mean, cv, greatest: np.where(greatest <= 500, 3.0, 0.0), 1)
    with pytest.raises(NoPlanError, match="it serves prompts up to 500 tokens"):
        split_pools(np.array([100.0] * 40 + [500.0] * 40 + [9000.0] * 20), 9.0, short)


def test_a_shrinking_fleet_is_scaled_for_its_busiest_month() -> None:
    plan = size_fleet(Demand(30.0, growth=-0.2, months=6), replica_capacity=3.0, autoscaled=True)
    assert plan.scaled is not None
    assert plan.scaled.static == plan.last.needed == 10


def test_pools_of_equal_capacity_gain_nothing() -> None:
    """Capacity that does not depend on the length: two pools round up twice, so one pool is as good or better."""
    flat = Pool(lambda mean, cv, top: np.full(len(mean), 2.0), 4)
    assert split_pools(LogNormal(mean=1000, cv=1), 9.0, flat).best == "one pool"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Demand(0.0), "request_rate: must be a number above 0"),
        (lambda: Demand(1.0, profile=(1.0,) * 23), "profile: has 24 hours, got 23"),
        (lambda: Demand(1.0, growth=-2), "growth: is a share a month"),
        (lambda: Demand(1.0, months=0), "months: is a whole number"),
        (lambda: read_profile("dai", operations()), "profile: is flat, day, .*did you mean 'day'"),
        (lambda: size_fleet(Demand(1.0)), "replica_capacity: is needed"),
        (lambda: fleet(1.0, capacity=-1), "replica_capacity: must be above 0"),
        (lambda: fleet(1.0, devices=0), "devices_per_replica: is a whole number"),
        (lambda: fleet(1.0, goal=1.0), "availability: is a chance"),
        (lambda: fleet(1.0, headroom=0), "headroom: is a share"),
        (lambda: size_fleet(Demand(1.0), large(), target="tpot=1ms"), "misses tpot even for one user"),
        (lambda: operations(peak_to_mean=0.5), "a peak is no lower than the mean"),
    ],
)
def test_bad_input_is_answered_kindly(make: object, message: str) -> None:
    with pytest.raises((SpecError, NoPlanError), match=message):
        make()  # type: ignore[operator]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("size", LARGE, "--gpu", "H200-SXM", "--tp", "2", "--precision", "fp8", "--target", "tpot_p95=50ms")
    code, out, _ = run(
        capsys, *arguments, "--users", "2000", "--growth", "8", "--months", "12", "--autoscale", "--sources"
    )
    assert code == 0
    for words in ("spares", "racks", "autoscaled", "starts in", "arXiv:2407.21783"):
        assert words in out
    code, out, _ = run(
        capsys, "size", LARGE, "--gpu", "H200-SXM", "--plan", "-r", "20", "--target", "tpot_p95=50ms", "--json"
    )
    assert (code, json.loads(out)["months"][0]["devices"] >= 8) == (0, True)
    assert run(capsys, *arguments)[0] == 2
    assert run(capsys, *arguments, "-r", "5", "--profile", "1,2,3")[0] == 2
    assert run(capsys, *arguments, "-r", "5", "--target", "tpot=1ms")[0] == 1
