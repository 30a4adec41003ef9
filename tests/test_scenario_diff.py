"""What lies between two cases: parts sum to the whole, by setting and by op, from scenarios and from results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim.cli.app import main
from infersim.errors import SpecError
from infersim.scenario.diff import between, diff, read_side, side_of
from infersim.scenario.scenario import load_scenario

CHAT: dict[str, Any] = {"model": "meta-llama/Llama-3.1-8B", "hardware": "H100-SXM",
                        "workload": {"input_tokens": 1000, "output_tokens": 200, "concurrency": 16}}  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    st.fixed_dictionaries({}, optional={
        "hardware": st.sampled_from(["L40S", "H200-SXM", "MI300X"]), "precision": st.sampled_from(["fp8", "w4a16"]),
        "concurrency": st.integers(1, 128), "input_tokens": st.integers(10, 8000), "max_num_seqs": st.integers(1, 64),
    })
)  # fmt: skip
def test_parts_sum_to_the_difference(changes: dict[str, Any]) -> None:
    other: dict[str, Any] = json.loads(json.dumps(CHAT))
    for name, value in changes.items():
        if name == "hardware":
            other[name] = value
        else:
            other.setdefault("workload" if name in ("concurrency", "input_tokens") else "deployment", {})[name] = value
    found = diff(side_of(CHAT, "a"), side_of(other, "b"))
    for one in found.explanations:
        assert sum(part.in_sequence for part in one.parts) == pytest.approx(one.difference, rel=1e-9, abs=1e-15)
        if len(one.parts) == 1:
            assert one.parts[0].alone is None or one.parts[0].alone == pytest.approx(one.difference)
    for step, (a, b) in found.whole.items():
        assert sum(op.difference for op in found.ops[step]) == pytest.approx(b - a, rel=1e-6, abs=1e-12)
    assert str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_equal_cases_have_nothing_between_them() -> None:
    found = diff(side_of(CHAT, "a"), side_of(dict(reversed(CHAT.items())), "b"))
    assert (found.settings, found.figures, found.explanations) == ((), [], ())
    assert "the same settings, the same figures" in str(found)


def test_a_change_that_does_not_go_alone_is_joined_to_the_next() -> None:
    big = {**CHAT, "model": "meta-llama/Llama-3.1-70B", "hardware": "H200-SXM", "deployment": {"tensor_parallel": 2}}
    small = {**big, "hardware": "L40S", "deployment": {"tensor_parallel": 8}}
    found = diff(side_of(big, "a"), side_of(small, "b"))
    assert sum(part.in_sequence for part in found.explanations[0].parts) == pytest.approx(
        found.explanations[0].difference
    )
    assert any(part.alone is None for part in found.explanations[0].parts)


def test_a_figure_of_a_spec_is_told_by_itself() -> None:
    found = diff(side_of(CHAT, "a"), side_of({**CHAT, "hardware": _with_bandwidth("4 TB/s")}, "b"))
    assert [(one.path, one.a, one.b) for one in found.settings] == [
        ("hardware.memory.bandwidth", "3.35 TB/s", "4 TB/s")
    ]


def _with_bandwidth(value: str) -> Any:
    from infersim.scenario.places import plain
    from infersim.scenario.scenario import resolve

    return plain(resolve(CHAT, {"hardware.memory.bandwidth": value}).tree["hardware"])


def test_scenarios_and_results_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps({**CHAT, "what_if": [{"name": "fp8", "deployment.precision": "fp8"}]}))
    load_scenario(file).run(doubts=False).save(tmp_path / "out")
    (tmp_path / "t.yaml").write_text(
        json.dumps({**CHAT, "hardware": "L40S", "what_if": [{"name": "fp8", "deployment.precision": "fp8"}]})
    )
    here, there = between(str(file), f"{file}#fp8"), between(str(tmp_path / "out"), f"{tmp_path / 'out'}#fp8")
    assert here.explanations == there.explanations
    assert here.ops == there.ops
    both = between(str(tmp_path / "out"), str(tmp_path / "t.yaml"))
    assert {row[0] for row in both.others} == {"fp8"}
    assert [one.path for one in both.settings] == ["hardware"]
    chosen = between(str(file), f"{file}#fp8", "memory.weights_bytes")
    assert chosen.explanations[0].figure == "memory.weights_bytes"


def test_different_questions_are_set_side_by_side() -> None:
    found = diff(side_of(CHAT, "a"), side_of({**CHAT, "cost": {"request_rate": 2}}, "b"))
    assert "different questions" in found.note
    assert found.explanations == ()


def test_bad_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps(CHAT))
    with pytest.raises(SpecError, match="no case is called 'x'"):
        read_side(f"{file}#x")
    with pytest.raises(SpecError, match=r"holds no results\.json"):
        read_side(str(tmp_path))
    (tmp_path / "results.json").write_text('{"cases": [{"name": 1}]}')
    with pytest.raises(SpecError, match="not as infersim run writes it"):
        read_side(str(tmp_path))
    with pytest.raises(SpecError, match="did you mean 'tpot_s'"):
        between(str(file), str(file) + "#base", "tpt_s")
    with pytest.raises(SystemExit) as ended:
        main(["diff", str(file), str(file)])
    assert ended.value.code == 0
    assert "the same settings" in capsys.readouterr().out
