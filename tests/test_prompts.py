"""Prompts and prefix caching: published arithmetic, Che's approximation beside the simulator and plain LRU, layouts, APIs, tiers."""

from __future__ import annotations

import itertools
import json
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infersim
from infersim.errors import DoesNotFitError, InferSimError, SpecError, UnknownNameError
from infersim.predict.estimate import Estimate
from infersim.prompts.answer import answer
from infersim.prompts.api import (
    break_even_uses,
    cached_cost,
    compression_gain,
    few_shot_cost,
    load_api_cache,
    storage_break_even_rate,
)
from infersim.prompts.bill import api_bill
from infersim.prompts.cache import (
    characteristic_time,
    hit_rate,
    hit_rate_from_write,
    hit_tokens,
    items,
    kept_copies,
    saved_share,
    tier_times,
    zipf,
)
from infersim.prompts.layout import best_order, prefix, prefixes, tree_items
from infersim.prompts.serving import caching, prefill_seconds, traffic_hit_rate
from infersim.prompts.spec import ApiTerms, PromptLayout, Tier
from infersim.prompts.tiers import holding_usd, recompute_seconds, reload_seconds
from infersim.serving.arrivals import poisson
from infersim.serving.simulate import simulate_deployment
from infersim.serving.traffic import SharedPrefixes, Traffic
from infersim.specs.library import names

MODEL, GPU = "meta-llama/Llama-3.1-8B", "H100-SXM"


def deployment(**options: Any) -> Estimate:
    return infersim.estimate(MODEL, GPU, **options)


def layout(*segments: dict[str, Any], **fields: Any) -> PromptLayout:
    return PromptLayout.model_validate({"segments": list(segments), **fields})


SYSTEM = {"name": "system", "tokens": 2000}
TENANT = {"name": "tenant", "tokens": 3000, "variants": 300, "skew": 1.0}
QUESTION = {"name": "question", "tokens": 250, "variants": "unique", "movable": False}


# -- formulas ----------------------------------------------------------------------------------------------------------


def test_whole_blocks_and_one_token_at_least() -> None:
    """vLLM, design of automatic prefix caching: full blocks only; the last token is always computed."""
    assert hit_tokens([100, 4096, 15], [200, 4096, 100], 16).tolist() == [96.0, 4080.0, 0.0]


def test_saving_of_short_prompts_is_their_cached_share() -> None:
    """Far below the length at which attention costs what the linears do, TTFT falls by C / S (RadixAttention, arXiv:2312.07104)."""
    attention = 4 * 32 * 4096
    assert saved_share(512, 384, 2 * 6.98e9, attention) == pytest.approx(0.75, abs=0.003)
    assert (
        saved_share(131072, 65536, 2 * 6.98e9, attention) < 0.4
    )  # the pairs of the second half are three quarters of all


def test_ttl_of_five_minutes() -> None:
    """1 - exp(-lambda TTL) for Poisson uses that refresh: 0.9933 at one a minute, 0.3935 at one in ten."""
    assert hit_rate([1 / 60, 1 / 600], 300).tolist() == pytest.approx([0.9933, 0.3935], abs=5e-5)


@pytest.mark.parametrize("changes", [0.0, 0.02])
@pytest.mark.parametrize("refreshed", [True, False])
def test_ttl_against_drawn_uses(refreshed: bool, changes: float) -> None:
    """200,000 Poisson uses of one item that is replaced at random times."""
    rate, ttl, generator = 0.05, 30.0, np.random.default_rng(1)
    times = generator.exponential(1 / rate, 200_000).cumsum()
    version = (
        np.searchsorted(generator.exponential(1 / changes, 400_000).cumsum(), times) if changes else np.zeros(200_000)
    )
    hits, until, known = 0, -1.0, -1.0
    for time, now in zip(times.tolist(), version.tolist(), strict=True):
        hit = time < until and now == known
        hits += hit
        if refreshed or not hit:
            until, known = time + ttl, now
    predicted = (hit_rate if refreshed else hit_rate_from_write)(rate, ttl, changes)
    assert hits / 200_000 == pytest.approx(float(predicted), abs=0.005)


@pytest.mark.parametrize(("write", "read", "uses"), [(1.25, 0.1, 1.28), (2.0, 0.1, 2.11), (1.0, 0.1, 1.0)])
def test_uses_from_which_a_cache_pays(write: float, read: float, uses: float) -> None:
    """(m_w - m_r) / (1 - m_r): Anthropic's five minutes pay on the second use, its hour on the third (price list, 2026-06)."""
    assert break_even_uses(write, read) == pytest.approx(uses, abs=0.005)
    exact = break_even_uses(write, read)
    assert cached_cost(exact, write, read) == pytest.approx(exact)


def test_ninety_percent_is_all_input_and_all_read() -> None:
    """Anthropic's launch figure for a cached book of 100,000 tokens, -90%, is 1 - m_r: no output, no write."""
    book = layout({"name": "book", "tokens": 100_000})
    bill = api_bill(book, ApiTerms(scheme="anthropic-5m", input_usd=3, output_usd=15), rate=10.0, output_tokens=0.0)
    assert bill.saving == pytest.approx(0.9, abs=1e-6)


def test_reload_beats_recompute() -> None:
    """8,192 tokens of a 70B in 16 bits, 2.684 GB: 48 ms over PCIe 5 at 55.4 GB/s, 255 ms of prefill on eight H100 at 60%."""
    size = 8192 * 327_680
    assert size == pytest.approx(2.684e9, rel=1e-3)
    assert reload_seconds(size, 55.4e9) == pytest.approx(0.0485, abs=5e-4)
    assert recompute_seconds(8192, 68.45e9, 4 * 80 * 8192, 8 * 0.6 * 989e12) == pytest.approx(0.255, abs=1e-3)


def test_a_system_prompt_of_2000_tokens() -> None:
    """2 P S / (0.6 x 989 TFLOP/s): 47 ms for 8B on an H100, 115 and 231 ms for 70B on four and two."""
    reached = 0.6 * 989e12
    found = [
        1e3 * float(recompute_seconds(2000, p, 0.0, n * reached)) for p, n in ((6.98e9, 1), (68.45e9, 4), (68.45e9, 2))
    ]
    assert found == pytest.approx([47, 115, 231], abs=0.6)
    assert (
        0.6 * 0.047 < prefill_seconds(deployment(mode="bound"), 2000) < 0.047
    )  # the same through the step's ops, at peak


def test_storage_few_shot_and_compression() -> None:
    """Google: keep while rate x saving > storage. LLMLingua (arXiv:2310.05736): compressor < (1 - 1/r) S p."""
    rate = storage_break_even_rate(0.30, 0.1, 1.00)
    assert rate * 0.30 * 0.9 * 3600 == pytest.approx(1.00)
    assert few_shot_cost(4, 100, 3.0, read=0.1) == pytest.approx(few_shot_cost(4, 100, 3.0) / 10)
    assert compression_gain(1000, 2.0, 3.0, 0.0015) == pytest.approx(0.0)
    assert holding_usd(80e9, 3600, 3.0, 80e9) == pytest.approx(3.0)


# -- Che's approximation -----------------------------------------------------------------------------------------------


def lru_hits(rates: np.ndarray, capacities: list[int], number: int, seed: int, changes: float = 0.0) -> list[float]:
    """Hit shares of the tiers of an LRU list with items of one size, each use drawn by ``rates``; changed items are new ones."""
    generator = np.random.default_rng(seed)
    drawn = generator.choice(len(rates), size=number, p=rates / rates.sum())
    times = generator.exponential(1 / rates.sum(), number).cumsum()
    version = np.zeros(number, dtype=int)
    if changes:
        for item in range(len(rates)):
            mine = drawn == item
            version[mine] = np.searchsorted(
                generator.exponential(1 / changes, int(times[-1] * changes * 2) + 50).cumsum(), times[mine]
            )
    ends = np.cumsum(capacities)
    order: OrderedDict[tuple[int, int], None] = OrderedDict()
    hits, warm = np.zeros(len(capacities)), number // 4
    for place, key in enumerate(zip(drawn.tolist(), version.tolist(), strict=True)):
        if key in order:
            if place >= warm:
                depth = next(i for i, known in enumerate(reversed(order)) if known == key)
                hits[np.searchsorted(ends, depth, side="right")] += 1
            order.move_to_end(key)
        else:
            order[key] = None
            if len(order) > ends[-1]:
                order.popitem(last=False)
    return (hits / (number - warm)).tolist()


def test_che_against_plain_lru_in_tiers() -> None:
    """A list of 60 items cut at 15: what falls out of the fast tier lies in the slow one."""
    rates, counts = zipf(200, 0.9)
    pages = items(rates, 1.0, counts)
    times = tier_times(pages, [15, 45])
    fast, both = (pages.hit_share(time) for time in times)
    assert lru_hits(rates, [15, 45], 30_000, 3) == pytest.approx([fast, both - fast], abs=0.02)


def test_che_with_items_that_change() -> None:
    rates, _ = zipf(100, 0.8)
    pages = items(rates, 1.0, 1.0, 0.004)
    predicted = pages.hit_share(characteristic_time(pages, 30))
    assert lru_hits(rates, [30], 40_000, 5, changes=0.004) == pytest.approx([predicted], abs=0.02)


@given(
    skew=st.floats(0, 2), capacity=st.floats(1, 200), changes=st.floats(0, 0.1), busy=st.floats(0, 0.5)
)  # fmt: skip
def test_laws_of_a_cache(skew: float, capacity: float, changes: float, busy: float) -> None:
    """More room, fewer changes, never a lower hit rate; the room is filled; popular items are found more often."""
    rates, counts = zipf(150, skew)
    pages = items(rates, 1.0, counts, changes)
    time = characteristic_time(pages, capacity, busy)
    if 0 < time < np.inf:
        assert pages.occupied(time, busy) == pytest.approx(capacity, rel=1e-6)
    assert characteristic_time(pages, 1.5 * capacity, busy) >= time
    hits = pages.hits(time, busy)
    assert ((hits >= 0) & (hits <= 1)).all()
    assert (np.diff(hits) <= 1e-12).all()
    assert pages.hit_share(time, busy) <= items(rates, 1.0, counts).hit_share(time, busy) + 1e-12


@given(rate=st.floats(1e-4, 10), seconds=st.floats(1e-3, 100), changes=st.floats(0, 10))
def test_copies_are_the_integral_of_misses(rate: float, seconds: float, changes: float) -> None:
    middles = (np.arange(4000) + 0.5) / 4000 * seconds
    misses = rate * (1 - hit_rate(rate, middles, changes))
    assert kept_copies(rate, seconds, changes) == pytest.approx(float(misses.mean() * seconds), rel=2e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("groups", "skew", "prefix_tokens", "own", "output", "rate", "blocks", "share"),
    [
        (1000, 1.0, 1000, 100, 32, 10, 2_000, 1.0), (1000, 1.0, 1000, 100, 32, 10, 5_000, 1.0),
        (1000, 1.0, 1000, 100, 32, 10, 10_000, 1.0), (1000, 1.0, 1000, 100, 32, 10, 27_000, 1.0),
        (1000, 1.0, 1000, 100, 32, 10, 10_000, 0.6), (500, 0.7, 2000, 200, 100, 5, 8_000, 1.0),
        (500, 0.7, 2000, 200, 100, 5, 20_000, 1.0), (200, 1.2, 777, 500, 200, 10, 5_000, 1.0),
    ],
)  # fmt: skip
def test_hit_rate_within_two_points_of_the_simulator(
    groups: int, skew: float, prefix_tokens: int, own: int, output: int, rate: float, blocks: int, share: float
) -> None:
    """Zipf-popular prefixes through the serving simulator's block cache, over cache sizes, at a fixed seed."""
    traffic = Traffic(
        input_tokens=own, output_tokens=output, arrivals=poisson(rate), num_requests=8000,
        prefixes=SharedPrefixes(groups=groups, tokens=prefix_tokens, skew=skew, share=share),
    )  # fmt: skip
    knobs = infersim.EngineKnobs(num_gpu_blocks_override=blocks, enable_prefix_caching=True)
    served = deployment(knobs=knobs, input_tokens=prefix_tokens + own, output_tokens=output)
    simulated = simulate_deployment(served, traffic, seed=0).prefix_hit_rate
    assert traffic_hit_rate(served, traffic, rate) == pytest.approx(simulated, abs=0.02)
    if share == 1.0:
        asked = layout({"name": "prefix", "tokens": prefix_tokens, "variants": groups, "skew": skew},
                       {"name": "own", "tokens": own, "variants": "unique"}, requests_per_second=rate)  # fmt: skip
        assert caching(asked, served).hit_rate == pytest.approx(simulated, abs=0.02)


# -- layouts -----------------------------------------------------------------------------------------------------------


def test_prefixes_of_a_layout() -> None:
    asked = layout(SYSTEM, TENANT, {"name": "user", "tokens": 10, "variants": 5000, "within": "tenant"}, QUESTION)
    assert [one.number for one in prefixes(asked)] == [1, 300, 5000, np.inf]
    for one in prefixes(asked):
        assert (one.shares * one.counts).sum() == pytest.approx(1.0)
    many = prefix(
        layout({"name": "a", "tokens": 1, "variants": 3000, "skew": 0.5}, {"name": "b", "tokens": 1, "variants": 3000}),
        ("a", "b"),
    )
    assert len(many.shares) <= 2000
    assert many.number == pytest.approx(9e6)


def test_best_order_is_the_best_of_all() -> None:
    """Held and Karp's way against every permutation, for chances of a fixed cache time."""
    asked = layout(
        {"name": "a", "tokens": 500, "variants": 40, "skew": 0.5}, {"name": "b", "tokens": 90, "changes_every": "20 s"},
        {"name": "c", "tokens": 3000, "variants": 900}, {"name": "d", "tokens": 1200}, QUESTION,
    )  # fmt: skip

    def chance(one: Any) -> float:
        return one.hit(lambda rate, changes: hit_rate(rate, 60.0, changes), 3.0)

    def worth(order: tuple[str, ...]) -> float:
        return sum(asked[name].tokens * chance(prefix(asked, order[: place + 1])) for place, name in enumerate(order))

    found = best_order(asked, chance)
    assert found[-1] == "question"
    every = [(*order, "question") for order in itertools.permutations("abcd")]
    assert worth(found) == pytest.approx(max(map(worth, every)))


def test_static_first() -> None:
    found = answer(
        {"requests_per_second": 3, "segments": [
            {"name": "time", "tokens": 32, "changes_every": "1 s"}, TENANT, SYSTEM, QUESTION]},
        deployment(output_tokens=200),
    )  # fmt: skip
    assert found.best.names[0] == "system"
    assert found.best.names.index("tenant") < found.best.names.index("time")
    assert found.best.hit_rate > found.now.hit_rate + 0.5
    assert found.best.ttft < found.now.ttft <= found.uncached.ttft
    assert found.saved_seconds == pytest.approx(found.uncached_prefill_seconds - found.best.prefill_seconds)
    assert found.saved_usd_per_day is not None
    assert found.saved_usd_per_day == pytest.approx(found.saved_seconds * found.deployment.price_per_hour * 3 * 24)


@settings(max_examples=12, deadline=None)
@given(
    tokens=st.lists(st.integers(1, 4000), min_size=1, max_size=4),
    variants=st.lists(st.integers(1, 2000), min_size=4, max_size=4),
    rate=st.floats(0.05, 2.0),
)  # fmt: skip
def test_laws_of_a_layout(tokens: list[int], variants: list[int], rate: float) -> None:
    """Hits fall along the prompt, never reach its last token, and the best order is as good as the given one."""
    segments = [
        {"name": f"s{place}", "tokens": size, "variants": number}
        for place, (size, number) in enumerate(zip(tokens, variants, strict=False))
    ]
    found = answer({"segments": segments, "requests_per_second": rate}, deployment(output_tokens=64))
    for one in (found.now, found.best):
        assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(one.segment_hits))
        assert one.cached_tokens <= one.prompt_tokens - 1
        assert one.prefill_seconds <= found.uncached_prefill_seconds * (1 + 1e-9)
    assert found.best.hit_rate >= found.now.hit_rate


def test_tree_takes_the_room_of_its_nodes() -> None:
    """Prefixes of every depth and each request's own end, once each where everything stays."""
    asked = layout({"name": "a", "tokens": 160}, {"name": "b", "tokens": 320, "variants": 10}, QUESTION)
    shared = tree_items(asked, 1.0, 16, 64)
    lasting = shared.changes == 0
    assert (shared.sizes * shared.counts)[lasting].sum() == 10 + 20 * 10


def test_routing_by_prefix_pools_the_replicas() -> None:
    asked = layout(TENANT, QUESTION, requests_per_second=6, cache="4 GB")
    apart = asked.model_copy(update={"routing": "random"})
    served = deployment(replicas=4, output_tokens=100)
    assert caching(asked, served).hit_rate > caching(apart, served).hit_rate + 0.1


def test_tiers_add_hits_and_slow_ones_are_not_read() -> None:
    asked = layout(TENANT, QUESTION, requests_per_second=3, cache="6 GB")
    served = deployment(output_tokens=100)
    alone = caching(asked, served)
    tiers = [{"name": "host", "capacity": "20 GB"}, {"name": "disk", "capacity": "200 GB", "bandwidth": "20 GB/s"},
             {"name": "far", "capacity": "1 TB", "bandwidth": "100 MB/s"}]  # fmt: skip
    tiered = caching(PromptLayout.model_validate({**asked.model_dump(mode="json"), "tiers": tiers}), served)
    assert tiered.hit_rate > alone.hit_rate + 0.1
    assert tiered.tiers[0].share == pytest.approx(alone.hit_rate, abs=0.03)
    assert [tier.pays for tier in tiered.tiers] == [True, True, True, False]
    assert sum(tier.share for tier in tiered.tiers if tier.pays) == pytest.approx(tiered.hit_rate, abs=0.01)
    assert tiered.at.ttft < tiered.ttft < alone.ttft
    disk = {"name": "disk", "capacity": "200 GB", "bandwidth": "5 GB/s"}  # slower than an H100 prefills 8B
    assert not caching(asked.model_copy(update={"tiers": (Tier.model_validate(disk),)}), served).tiers[1].pays


# -- APIs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("api_caching"))
def test_api_schemes_are_sourced(name: str) -> None:
    scheme = load_api_cache(name)
    claimed = {field for source in scheme.sources for field in source.of}
    assert {"write", "read", "ttl", "minimum_tokens"} <= claimed
    assert not scheme.storage or "storage" in claimed
    assert scheme.read < scheme.write


def test_bills() -> None:
    terms = {name: ApiTerms(scheme=name, input_usd=3, output_usd=15) for name in names("api_caching")}
    asked = layout(SYSTEM, TENANT, QUESTION)
    busy = {name: api_bill(asked, one, 5.0, 200) for name, one in terms.items()}
    idle = {name: api_bill(asked, one, 1e-5, 200) for name, one in terms.items()}
    for name, bill in busy.items():
        assert 0 < bill.saving < 0.9
        assert bill.read_tokens + bill.written_tokens + bill.plain_tokens == pytest.approx(asked.tokens)
        assert idle[name].saving == pytest.approx(0, abs=1e-3)
    assert idle["anthropic-5m"].depth == 0  # a write at 1.25 that nobody reads
    assert busy["anthropic-5m"].depth == 2  # never the question
    assert busy["openai-gpt-5"].input_usd < busy["openai-gpt-4o"].input_usd
    short = api_bill(layout({"name": "short", "tokens": 900}), terms["openai-gpt-5"], 5.0, 1)
    assert short.saving == 0  # below 1,024 tokens


# -- the answer --------------------------------------------------------------------------------------------------------


def test_answer_prints_and_dumps() -> None:
    found = answer(
        {"requests_per_second": 2, "segments": [TENANT, SYSTEM, QUESTION], "tiers": [{"name": "host", "capacity": "100 GB"}],
         "apis": [{"scheme": "anthropic-5m", "input_usd": 3, "output_usd": 15}]},
        deployment(output_tokens=200),
    )  # fmt: skip
    assert max(map(len, str(found).splitlines())) <= 80
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    curve = written["figure"]["hit_rate_by_cache_size"]
    assert curve["hit_rate"] == sorted(curve["hit_rate"])
    assert curve["best_hit_rate"][-1] >= curve["hit_rate"][-1]
    assert written["best"]["order"] == ["system", "tenant", "question"]
    assert any("Che" in source for source in found.sources)
    assert any("anthropic-5m" in source for source in found.sources)


def test_overload_is_said() -> None:
    """More requests than a replica can serve uncached: no finite latency."""
    found = answer(
        {"requests_per_second": 40, "segments": [{"name": "book", "tokens": 8000}, QUESTION]},
        deployment(output_tokens=16),
    )
    assert found.to_dict()["uncached"]["ttft_s"] is None
    assert found.best.ttft < 1
    assert "overload" in str(found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"segments": []}, ("segments",)),
        ({"segments": [SYSTEM, SYSTEM]}, ("names of their own", "system")),
        ({"segments": [{"name": "a", "tokens": 0}]}, ("tokens", "0")),
        ({"segments": [{"name": "a", "token": 5}]}, ("token", "tokens")),
        ({"segments": [SYSTEM, {"name": "u", "tokens": 5, "variants": 9, "within": "sytem"}]}, ("sytem", "system")),
        ({"segments": [TENANT, {"name": "u", "tokens": 5, "variants": 9, "within": "tenant"}]}, ("at least as many",)),
        ({"segments": [{"name": "a", "tokens": 5, "changes_every": "0 s"}]}, ("unique",)),
        ({"segments": [SYSTEM], "tiers": [{"name": "host", "capacity": "64"}]}, ("capacity", "64")),
        (
            {"segments": [SYSTEM], "apis": [{"scheme": "antropic-5m", "input_usd": 1, "output_usd": 1}]},
            ("anthropic-5m",),
        ),
        ({"segments": [SYSTEM], "requests_per_second": -1}, ("requests_per_second", "-1")),
    ],
)
def test_bad_layouts(given: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InferSimError) as error:
        answer(given, deployment())
    assert all(word in str(error.value) for word in words), str(error.value)


def test_prompts_that_cannot_be_served() -> None:
    with pytest.raises(SpecError, match="more than the 131,072"):
        answer({"segments": [{"name": "library", "tokens": 200_000}]}, deployment())
    with pytest.raises(SpecError, match="no cache that prompts could share"):
        answer({"segments": [SYSTEM]}, infersim.estimate("state-spaces/mamba2-2.7b", GPU))
    few = deployment(knobs=infersim.EngineKnobs(num_gpu_blocks_override=200))
    with pytest.raises(DoesNotFitError, match="holds"):
        answer({"segments": [SYSTEM, TENANT]}, few)
    window = answer({"segments": [SYSTEM, QUESTION]}, infersim.estimate("mistralai/Mistral-7B-v0.1", GPU))
    assert window.now.hit_rate > 0.8


def test_bad_numbers() -> None:
    with pytest.raises(SpecError, match="capacity"):
        characteristic_time(items(1.0, 1.0), -1)
    with pytest.raises(SpecError, match="rates"):
        items(-1.0, 1.0)
    with pytest.raises(UnknownNameError, match="anthropic"):
        load_api_cache("anthropic-5min")


# -- conversations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turns", "new", "output", "think", "rate", "system", "blocks"),
    [(6, 200, 200, 30, 4, 500, 6_000), (6, 200, 200, 30, 4, 500, 20_000), (3, 500, 100, 60, 6, 0, 10_000)],
)
def test_conversations_beside_the_simulator(
    turns: int, new: int, output: int, think: float, rate: float, system: int, blocks: int
) -> None:
    """Chats whose every turn repeats what was said: found where the next turn comes before its history is evicted."""
    said = (turns - 1) / 2 * (new + output)
    knobs = infersim.EngineKnobs(num_gpu_blocks_override=blocks, enable_prefix_caching=True)
    served = deployment(knobs=knobs, input_tokens=system + said + new, output_tokens=output)
    traffic = Traffic.model_validate({
        "input_tokens": new, "output_tokens": output, "arrivals": poisson(rate / turns), "num_requests": 6000,
        "prefixes": {"tokens": system} if system else None, "sessions": {"turns": turns, "think": f"{think} s"},
    })  # fmt: skip
    simulated = simulate_deployment(served, traffic, seed=0)
    history = {
        "name": "history",
        "tokens": round(said),
        "variants": "conversation",
        "turns": turns,
        "think": f"{think} s",
    }
    segments = [history, {"name": "message", "tokens": new, "variants": "unique"}]
    asked = layout(*([{"name": "system", "tokens": system}] if system else []), *segments, requests_per_second=rate)
    assert simulated.tokens("prompt_tokens") / simulated.completed == pytest.approx(asked.tokens, rel=0.02)
    assert caching(asked, served).hit_rate == pytest.approx(simulated.prefix_hit_rate, abs=0.02)


def test_a_pause_that_outlasts_the_cache() -> None:
    """The system prompt, shared by all, belongs before the history that only the next turn shares."""
    history = {"name": "history", "tokens": 1000, "variants": "conversation", "turns": 6, "think": "1 min"}
    found = answer(
        {"segments": [history, SYSTEM, QUESTION], "requests_per_second": 4,
         "apis": [{"scheme": "anthropic-5m", "input_usd": 3, "output_usd": 15}]},
        deployment(output_tokens=200),
    )  # fmt: skip
    assert found.best.names == ("system", "history", "question")
    quick = caching(
        layout(SYSTEM, {**history, "think": "10 s"}, QUESTION, requests_per_second=4), deployment(output_tokens=200)
    )
    assert quick.segment_hits[1] > found.best.segment_hits[1]
    assert found.bills[0][1].depth == 2
    with pytest.raises(SpecError, match="turns and think"):
        answer({"segments": [{"name": "h", "tokens": 9, "variants": "conversation"}]}, deployment())
    with pytest.raises(SpecError, match="one conversation"):
        answer({"segments": [history, {**history, "name": "again"}]}, deployment())
