"""Whatever is in a file: an answer or a sentence, soon and in little memory, and nothing written but where it was asked for."""

from __future__ import annotations

import re
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infersim.errors import InferSimError, SpecError
from infersim.scenario.places import plain
from infersim.scenario.scenario import Scenario, load_scenario, read_scenario, resolve
from infersim.scenario.setup import OF_THE_FILE, SECTIONS, Setup
from infersim.scenario.text import parse

HERE = Path("s.yaml")
WORDS = sorted({*Setup.model_fields, *OF_THE_FILE, *(name for kind in SECTIONS.values() for name in kind.model_fields), "name", "kind",
                "lognormal", "poisson", "gamma", "rate", "mean", "p99", "base", "deployment.tensor_parallel", "hardware.memory.bandwidth",
                "workload.arrivals.poisson", "model.layers.0", "..", "a.b", "case", "target_met"})  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(["H100-SXM", "L40S", "meta-llama/Llama-3.1-8B", "fp8", "6 /s", "800 ms", "2.50 USD", "< 1 s", "all", "", "burst", "buy",
                     "/etc/passwd", "../x.yaml", "NaN", "estimate", "plan"]),
    st.text(max_size=12), st.integers(-(10**20), 10**20), st.floats(), st.booleans(), st.none(),
)  # fmt: skip
TREES = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=6), inner, max_size=5)
    ),
    max_leaves=20,
)


def told(read: Any) -> Scenario | None:
    """The scenario, or None where a sentence says what is wrong."""
    started = time.perf_counter()
    try:
        found: Scenario = read()
    except InferSimError as error:
        if not 0 < len(str(error)) < 20_000:
            raise AssertionError("a sentence is short") from error
        return None
    finally:
        assert time.perf_counter() - started < 5
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(WORDS), TREES, max_size=6))
def test_any_mapping_is_read_or_refused(tree: dict[str, Any]) -> None:
    base = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM"}
    told(lambda: read_scenario({**base, **tree}))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(WORDS) | st.text(max_size=20), TREES)
def test_any_override_is_read_or_refused(path: str, value: Any) -> None:
    base = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM", "workload": {"arrivals": {"poisson": 2}}}
    before = plain(base)
    told(lambda: resolve(base, {path: value}))
    assert base == before


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("{}[]:,-&*!|>'\"%@`#?~ \n\tab01.e<"), max_size=120) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    told(lambda: parse(text, HERE))


PLAIN = st.one_of(
    st.text(max_size=12).filter(lambda text: not re.fullmatch(r"[-+.\d_eE]+", text)), st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False), st.booleans(), st.none(),
)  # fmt: skip
KEYS = st.text(max_size=6).filter(lambda text: text != "<<")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        KEYS,
        st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)),
        min_size=1,
    )
)
def test_what_yaml_writes_is_read_back(tree: dict[str, Any]) -> None:
    assert plain(parse(yaml.safe_dump(tree), HERE)) == tree


LETTERS = "abcdefghijklmnopqrst"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n" + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise(LETTERS)),
        "a: &a {x: 1}\n" + "".join(f"{new}: &{new} {{l: *{old}, r: *{old}}}\n" for old, new in pairwise(LETTERS)),
        "a: " + "[" * 100_000,
        "a: " + "{a: " * 50_000,
        "\n".join(" " * depth + f"k{depth}:" for depth in range(900)),
        "- " * 50_000,
        "a: " + "!" * 100_000,
        "a: [" + "1, " * 101_000 + "]",
        "? " * 20_000,
        "a: '" + "x" * 1_000_000,
    ],
    ids=["list bomb", "mapping bomb", "brackets", "braces", "indents", "dashes", "tags", "many values", "question marks", "long text"],
)  # fmt: skip
def test_bombs_are_refused_soon_and_in_little_memory(text: str) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(SpecError):
        parse(text, HERE)
    assert time.perf_counter() - started < 8
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


def test_deep_python_mappings_are_refused() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = {"workload": deep}
    with pytest.raises(SpecError):
        read_scenario({"model": "gpt2", "hardware": "L4", "workload": deep})


@pytest.mark.parametrize("name", ["../up", "/tmp/x", "..", "a/b", "a\\b", ".hidden", "line\nbreak", "", "x#y"])
def test_no_name_of_a_case_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        read_scenario({"model": "gpt2", "hardware": "L4", "what_if": [{"name": name, "workload.concurrency": 2}]})


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=30), value=st.sampled_from(["bf16", "fp8", "../x", "/etc/passwd"]))
def test_saving_writes_nothing_outside_its_folder(name: str, value: str, tmp_path: Path) -> None:
    tree = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM", "grid": {"deployment.precision": [value, "int8"]},
            "workload": {"input_tokens": 100, "output_tokens": 10}, "name": name}  # fmt: skip
    scenario = told(lambda: read_scenario(tree))
    if scenario is None:
        return
    scenario.run(doubts=False).save(tmp_path / "inside")
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert {path.name for path in (tmp_path / "inside").iterdir()} <= {"results.json", "figures.csv", "scenario.yaml"}


def test_words_are_read_as_a_person_means_them() -> None:
    found = parse(
        "a: 1e12\nb: 1e-3\nc: yes\nd: off\ne: 12:30\nf: 2024-01-01\ng: 010\nh: 1_000\ni: '1e3'\nj: null\nk: true\non: 1",
        HERE,
    )
    assert found == {"a": 1e12, "b": 1e-3, "c": "yes", "d": "off", "e": "12:30", "f": "2024-01-01", "g": 10, "h": 1000, "i": "1e3",
                     "j": None, "k": True, "on": 1}  # fmt: skip


def test_off_is_a_switch_where_a_switch_is_wanted() -> None:
    text = "{model: gpt2, hardware: L4, deployment: {enable_chunked_prefill: off, enforce_eager: yes}}"
    place = resolve(parse(text, HERE)).setup.deployment
    assert (place.enable_chunked_prefill, place.enforce_eager) == (False, True)


def test_an_include_cannot_go_on_for_ever(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.yaml").write_text(f"include: {number + 1}.yaml\n")
    (tmp_path / "30.yaml").write_text("model: gpt2\n")
    with pytest.raises(SpecError, match="files deep"):
        load_scenario(tmp_path / "0.yaml")
    (tmp_path / "wide.yaml").write_text("include: [wide2.yaml, wide2.yaml]\nmodel: gpt2\nhardware: L4\n")
    (tmp_path / "wide2.yaml").write_text("workload: {concurrency: 2}\n")
    assert load_scenario(tmp_path / "wide.yaml").setup.workload.concurrency == 2
