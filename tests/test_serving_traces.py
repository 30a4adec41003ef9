"""Trace readers: every format from a sample, what they refuse, replays, and predicted against measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infersim.errors import SpecError
from infersim.serving.arrivals import ClosedLoop, poisson
from infersim.serving.compare import compare
from infersim.serving.lengths import LogNormal
from infersim.serving.simulate import simulate
from infersim.serving.trace_formats import FORMATS
from infersim.serving.traces import read_trace
from infersim.serving.traffic import Traffic
from infersim.specs.deployment import EngineKnobs

SAMPLES = Path(__file__).parent / "data" / "traces"
MODEL, GPU = "meta-llama/Llama-3.1-8B", "H100-SXM"

# file, format, requests, seconds, prompt tokens of the first, output tokens of all, left out
KNOWN: list[tuple[str, str, int, float, int, int, int]] = [
    ("azure_2023_conv.csv", "azure", 9, 8.337079, 374, 564, 0),
    ("azure_2024.csv", "azure", 3, 2.156825, 1200, 530, 1),
    ("burstgpt.csv", "burstgpt", 5, 1124, 472, 1181, 1),
    ("burstgpt_sessions.csv", "burstgpt", 2, 21, 120, 100, 1),
    ("splitwise.csv", "splitwise", 3, 3, 4096, 56, 0),
    ("vidur.csv", "vidur", 3, 0.9, 591, 400, 0),
    ("mooncake_toolagent.jsonl", "mooncake", 6, 0, 2290, 534, 0),
    ("mooncake_conversation.jsonl", "mooncake", 6, 9, 2290, 1667, 0),
    ("sharegpt.json", "sharegpt", 2, 0, 14, 28, 2),
    ("vllm_detailed.json", "vllm", 4, 1.25, 1024, 22, 1),
    ("measured.csv", "rows", 4, 1.1, 512, 113, 0),
]


@pytest.mark.parametrize(("name", "kind", "count", "duration", "prompt", "output", "left"), KNOWN)
def test_samples_are_recognised_and_read(
    name: str, kind: str, count: int, duration: float, prompt: int, output: int, left: int
) -> None:
    trace = read_trace(SAMPLES / name)
    assert trace.format == kind
    assert (trace.num_requests, int(trace.prompt[0]), int(trace.output.sum())) == (count, prompt, output)
    assert trace.duration == pytest.approx(duration, abs=1e-6)
    assert sum(trace.left_out.values()) == left
    if trace.arrival is not None:
        assert trace.arrival[0] == 0
    assert json.dumps(trace.describe(), allow_nan=False)


def test_there_is_a_sample_of_every_format() -> None:
    assert {row[1] for row in KNOWN} == set(FORMATS)
    assert {row[0] for row in KNOWN} | {"README.md"} == {path.name for path in SAMPLES.iterdir()}
    readme = (SAMPLES / "README.md").read_text()
    assert all(row[0] in readme for row in KNOWN)  # with its origin


@pytest.mark.parametrize("name", [row[0] for row in KNOWN if row[1] != "sharegpt"])
def test_samples_replay(name: str) -> None:
    trace = read_trace(SAMPLES / name)
    result = simulate(MODEL, GPU, trace)
    assert result.completed == trace.num_requests
    assert trace.arrival is not None
    assert result.columns["arrival_s"].tolist() == trace.arrival.tolist()
    fast = simulate(MODEL, GPU, trace, speedup=2.0)
    assert fast.columns["arrival_s"][-1] == pytest.approx(trace.duration / 2)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["traffic"]["format"] == trace.format


def test_a_trace_without_times_gives_lengths() -> None:
    trace = read_trace(SAMPLES / "sharegpt.json")
    with pytest.raises(SpecError, match="has no arrival times; draw its lengths with Traffic"):
        simulate(MODEL, GPU, trace)
    result = simulate(MODEL, GPU, Traffic(pairs=trace.pairs(), arrivals=poisson(5), num_requests=50))
    assert result.completed == 50
    assert set(result.columns["prompt_tokens"].tolist()) == set(trace.prompt.tolist())


def test_hashes_of_512_tokens_share_prefixes() -> None:
    """Rows 2 and 3 share 12 blocks of 512 tokens, 5 and 6 share 5, 1 and 4 one: the cache finds 9,216 tokens."""
    trace = read_trace(SAMPLES / "mooncake_toolagent.jsonl")
    assert trace.prefixes is not None
    first, second = trace.prefixes[1:3]
    assert [a[0] == b[0] for a, b in zip(first, second, strict=False)] == [True] * 12 + [False]
    assert sum(tokens for _, tokens in first) == 9013
    apart = [json.loads(line) for line in (SAMPLES / "mooncake_toolagent.jsonl").read_text().splitlines()]
    result = simulate(MODEL, GPU, trace)
    assert result.prefix_hit_rate == pytest.approx(9216 / sum(row["input_length"] for row in apart))
    off = simulate(MODEL, GPU, trace, knobs=EngineKnobs(enable_prefix_caching=False))
    assert off.prefix_hit_rate == 0
    assert off.mean("ttft") > result.mean("ttft")


def test_measured_times_of_vllm_are_ttft_and_gaps() -> None:
    """Requests come in the order they were sent: the second of the file first."""
    trace = read_trace(SAMPLES / "vllm_detailed.json")
    assert trace.arrival is not None and trace.first_token is not None and trace.finish is not None  # noqa: PT018
    assert trace.arrival.tolist() == [0, 0.25, 0.75, 1.25]
    assert (trace.first_token - trace.arrival).tolist() == pytest.approx([0.09, 0.05, 0.06, 0.04])
    assert (trace.finish - trace.arrival).tolist() == pytest.approx([0.09 + 7 * 0.012, 0.08, 0.06 + 8 * 0.011, 0.04])


def test_latencies_win_over_gaps(tmp_path: Path) -> None:
    data = json.loads((SAMPLES / "vllm_detailed.json").read_text())
    data["latencies"] = [0.5, 0.6, 0.7, 0.8, 0.0]
    path = tmp_path / "new.json"
    path.write_text(json.dumps(data))
    trace = read_trace(path)
    assert trace.finish is not None and trace.arrival is not None  # noqa: PT018
    assert (trace.finish - trace.arrival).tolist() == pytest.approx([0.6, 0.5, 0.7, 0.8])


@pytest.mark.parametrize("name", ["measured.csv", "vllm_detailed.json"])
def test_predicted_against_measured(name: str) -> None:
    trace = read_trace(SAMPLES / name)
    result = simulate(MODEL, GPU, trace, knobs=EngineKnobs(num_gpu_blocks_override=400))
    found = compare(result, trace)
    rows = {(row.metric, row.statistic): row for row in found.rows}
    assert set(rows) == {(m, s) for m in ("ttft", "tpot", "e2e") for s in ("mean", "p50", "p90", "p95", "p99")}
    assert found.requests == (3 if name == "measured.csv" else 4)
    assert rows["ttft", "mean"].measured == pytest.approx(0.06)
    assert rows["ttft", "mean"].error == pytest.approx(rows["ttft", "mean"].predicted / 0.06 - 1)
    assert "ttft p95" in str(found)
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_comparison_needs_measured_times_of_the_same_run() -> None:
    trace, other = read_trace(SAMPLES / "vidur.csv"), read_trace(SAMPLES / "measured.csv")
    result = simulate(MODEL, GPU, trace)
    with pytest.raises(SpecError, match="no measured first-token or finish times"):
        compare(result, trace)
    with pytest.raises(SpecError, match="4 requests, the result 3: not the trace it replayed"):
        compare(result, other)


@pytest.mark.parametrize("arrivals", [poisson(12), ClosedLoop(concurrency=24)])
def test_a_written_result_replays_to_itself(tmp_path: Path, arrivals: Any) -> None:
    knobs = EngineKnobs(num_gpu_blocks_override=1200, max_num_seqs=64)
    traffic = Traffic(input_tokens=LogNormal(mean=400, cv=1), output_tokens=LogNormal(mean=60, cv=1), arrivals=arrivals,
                      num_requests=400)  # fmt: skip
    result = simulate(MODEL, GPU, traffic, knobs=knobs)
    path = tmp_path / "result.csv"
    result.write_csv(path)
    trace = read_trace(path)
    again = compare(simulate(MODEL, GPU, trace, knobs=knobs), trace)
    assert again.requests == 400
    assert all(abs(row.error) < 1e-9 for row in again.rows)
    assert max(again.each.values()) < 1e-9


# -- what is refused ---------------------------------------------------------------------------------------------------

OWN = "arrival_s,prompt_tokens,output_tokens\n"
MOON = '{"timestamp": 0, "input_length": 1000, "output_length": 5'


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "arrival_s,prompt_token,output_tokens\n0,1,1\n", ["line 1", "'prompt_tokens' is missing", "mean 'prompt_token'"]),
        ("a.csv", OWN + "0,-5,1\n", ["line 2", "prompt_tokens", "from 1 to", "'-5'"]),
        ("a.csv", OWN + "0,5,1\n2,5,1\n1,5,1\n", ["line 4", "arrives 1 s before the row above", "sort the trace"]),
        ("a.csv", "", ["a.csv", "the file is empty"]),
        ("a.csv", " \n\n", ["the file is empty"]),
        ("a.csv", OWN, ["holds no request"]),
        ("a.csv", OWN + "0,1000000000,1\n", ["line 2", "to 100,000,000", "'1000000000'"]),
        ("a.csv", OWN + "0,5,1.5\n", ["output_tokens", "whole number", "'1.5'"]),
        ("a.csv", OWN + "0,5,0\n", ["output_tokens", "from 1 to"]),
        ("a.csv", OWN + "nan,5,1\n", ["line 2", "arrival_s", "must be finite", "'nan'"]),
        ("a.csv", OWN + "inf,5,1\n", ["arrival_s", "must be finite"]),
        ("a.csv", OWN + "-1,5,1\n", ["arrival_s", "zero or more"]),
        ("a.csv", OWN + "1700000000000,5,1\n", ["arrival_s", "another unit"]),
        ("a.csv", OWN + "soon,5,1\n", ["arrival_s", "must be a number", "'soon'"]),
        ("a.csv", OWN + "0,,1\n", ["prompt_tokens", "missing a number"]),
        ("a.csv", OWN + "0,5\n", ["line 2", "fewer fields than the 3"]),
        ("a.csv", OWN + "0,5,1,9\n", ["line 2", "more fields than the 3"]),
        ("a.csv", OWN[:-1] + ",first_token_s,finish_s\n1,5,1,0.5,3\n", ["first_token_s", "between arrival_s and finish_s"]),
        ("a.csv", OWN[:-1] + ",first_token_s,finish_s\n1,5,1,,0.5\n", ["finish_s", "before arrival_s"]),
        ("a.csv", "x,y\n1,2\n", ["no trace we know", "azure, burstgpt"]),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,5,1\n", ["line 2", "TIMESTAMP", "2023-11-16"]),
        ("a.csv", "Timestamp,Request tokens,Response tokens\n1,0,0\n", ["no request; left out: 1 failed requests"]),
        ("a.jsonl", MOON + "}\n{\n", ["line 2", "not JSON"]),
        ("a.jsonl", MOON + "}\n[1]\n", ["line 2", "should be an object, found list"]),
        ("a.jsonl", '{"timestamp": 0, "input_lenght": 5, "hash_ids": []}', ["'input_length' is missing", "'input_lenght'"]),
        ("a.jsonl", MOON + ', "hash_ids": [1, 2, 3]}', ["hash_ids", "3 entries", "2 blocks of 512", "another block size"]),
        ("a.jsonl", MOON + ', "hash_ids": [1, "x"]}', ["hash_ids", "list of whole numbers"]),
        ("a.jsonl", MOON + ', "hash_ids": 7}', ["hash_ids", "list of whole numbers, got 7"]),
        ("a.jsonl", MOON.replace("1000", "true") + "}", ["input_length", "missing a number, got True"]),
        ("a.jsonl", MOON.replace("1000", "[4]") + "}", ["input_length", "must be a number, got [4]"]),
        ("a.jsonl", MOON.replace("1000", "1" + "0" * 400) + "}", ["input_length", "must be a number"]),
        ("a.jsonl", '{"input_length": ' + "[" * 100_000, ["line 1", "not JSON that can be read"]),
        ("a.json", '{"input_lens": [1, 2', ["line 1", "not JSON"]),
        ("a.json", '[{"conversations": 5}]', ["conversation 1", "no list of 'conversations'"]),
        ("a.json", '{"request_throughput": 3}', ["input_lens", "--save-detailed"]),
        ("a.json", '{"input_lens": [1, 2], "output_lens": [1], "ttfts": [1, 1]}', ["output_lens", "1 entries, input_lens 2"]),
        ("a.json", '{"input_lens": [1], "output_lens": [1], "ttfts": 3}', ["ttfts", "should be a list, found int"]),
        ("a.json", '{"input_lens": [1], "output_lens": [1], "ttfts": ["x"]}', ["request 1", "ttfts", "must be a number"]),
        ("a.json", '{"input_lens": [1], "output_lens": [1], "ttfts": [1], "itls": [3]}', ["request 1", "itls", "a list"]),
        ("a.json", '{"input_lens": [1], "output_lens": [1], "ttfts": [NaN]}', ["request 1", "ttfts", "must be finite"]),
    ],
)  # fmt: skip
def test_bad_traces_are_named_by_file_line_and_field(tmp_path: Path, name: str, text: str, words: list[str]) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_trace(path)
    for word in [name, *words]:
        assert word in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff\xfe")
    with pytest.raises(SpecError, match="not a text file"):
        read_trace(path)
    with pytest.raises(SpecError, match="no such file"):
        read_trace(tmp_path / "nowhere.csv")
    with pytest.raises(SpecError, match="no such file"):
        read_trace(tmp_path)
    with pytest.raises(SpecError, match=r"no trace format is called 'azur'; did you mean 'azure'\?"):
        read_trace(SAMPLES / "vidur.csv", "azur")
    with pytest.raises(SpecError, match="'TIMESTAMP' is missing"):
        read_trace(SAMPLES / "vidur.csv", "azure")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["timestamp", "input_length", "output_length", "hash_ids", "conversations", "value", "input_lens", "output_lens", "ttfts",
        "itls", "start_times", "latencies", "errors", "arrival_s", "prompt_tokens", "output_tokens", "finish_s"]  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=17)
CELLS = st.one_of(
    st.integers(-5, 2000).map(str), st.floats().map(str), st.text(max_size=6), st.just("2024-05-12 00:00:01")
)
HEADERS = [
    "TIMESTAMP,ContextTokens,GeneratedTokens", "Timestamp,Request tokens,Response tokens", OWN.strip(),
    "arrival_timestamp,prompt_size,token_size", "arrived_at,num_prefill_tokens,num_decode_tokens",
]  # fmt: skip
TEXTS = st.one_of(
    st.binary(max_size=200),
    st.one_of(OBJECTS, st.lists(OBJECTS, max_size=3)).map(lambda value: json.dumps(value).encode()),
    st.lists(OBJECTS, max_size=3).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    st.tuples(st.sampled_from(HEADERS), st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=4)).map(
        lambda found: "\n".join([found[0], *(",".join(row) for row in found[1])]).encode(errors="replace")
    ),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=TEXTS, kind=st.sampled_from([None, *FORMATS]), ending=st.sampled_from([".csv", ".json", ".jsonl"]))
def test_whatever_is_in_a_file_only_spec_errors_come_out(
    tmp_path: Path, content: bytes, kind: str | None, ending: str
) -> None:
    path = tmp_path / f"trace{ending}"
    path.write_bytes(content)
    try:
        trace = read_trace(path, kind)
    except SpecError:
        return
    assert trace.num_requests == len(trace.output) >= 1
    assert trace.prompt.min() >= 1 and trace.output.min() >= 1  # noqa: PT018
    assert trace.arrival is None or (trace.arrival[0] == 0 and bool(np.all(np.diff(trace.arrival) >= 0)))
