"""Every scenario in the examples does what its stored output says, meets what it expects, and keeps to the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from infersim.cli.app import main
from infersim.scenario.places import plain
from infersim.scenario.result import ScenarioResult
from infersim.scenario.scenario import load_scenario
from infersim.scenario.schema import scenario_schema
from infersim.scenario.setup import OF_THE_FILE
from infersim.scenario.starter import STARTER
from infersim.scenario.text import parse

EXAMPLES = Path(__file__).parents[1] / "examples" / "scenarios"
FILES = sorted(EXAMPLES.glob("*.yaml"))
BAD = Path(__file__).parent / "data" / "bad_scenarios"
_runs: dict[Path, ScenarioResult] = {}


def ran(file: Path) -> ScenarioResult:
    """The answers of an example, worked out once."""
    if file not in _runs:
        _runs[file] = load_scenario(file).run(doubts=False)
    return _runs[file]


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    told = scenario_schema()
    jsonschema.Draft202012Validator.check_schema(told)
    return jsonschema.Draft202012Validator(told)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_an_example_says_what_is_stored_and_meets_its_expectations(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    found = ran(Path(file.name))
    assert str(found) + "\n" == file.with_suffix(".out").read_text(encoding="utf-8")
    assert found.exit_code == 0
    assert found.checked
    assert all(len(line) <= 100 for line in str(found).splitlines() if not line.startswith(("met", "NOT MET")))


def test_there_are_examples_of_every_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    asked = {load_scenario(Path(file.name)).question for file in FILES}
    assert asked >= {"estimate", "simulate", "capacity", "plan", "cost", "compare", "size"}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_an_example_keeps_to_the_schema(file: Path, schema: jsonschema.Draft202012Validator) -> None:
    schema.validate(plain(parse(file.read_text(encoding="utf-8"), file)))


def test_the_starter_keeps_to_the_schema(schema: jsonschema.Draft202012Validator) -> None:
    schema.validate(plain(parse(STARTER, Path("starter.yaml"))))


REFUSED = """
    fraction_for_a_whole, text_for_a_number, text_for_a_section, number_for_a_name, number_for_a_title, zero_parallel, zero_rate,
    negative_tokens, negative_seed, list_for_a_mapping, switch_as_text, hit_rate_above_one, form_of_the_future, field_of_another_section,
    field_in_the_wrong_section, unit_missing_of_money, unit_wrong_of_money, unit_missing_of_time, unit_wrong_of_time, unit_wrong_of_rate,
    unknown_section, unknown_field_deployment, unknown_field_workload, unknown_question, unknown_distribution, unknown_arrivals,
    unknown_metric_in_target, unknown_terms, inline_gpu_incomplete, inline_gpu_without_unit, name_with_slashes, grid_is_a_list,
    grid_of_one_value, grid_of_nothing, what_if_is_a_mapping, what_if_entry_is_text, what_if_unknown_section, what_if_of_the_file,
    what_if_name_with_slashes, what_if_name_is_absolute, expect_is_text, expect_a_mapping, include_a_number, true_for_a_number
""".replace("\n", " ").split(",")  # slips that a schema can know: of one field, in what JSON can say


@pytest.mark.parametrize("name", [name.strip() for name in REFUSED])
def test_what_is_refused_the_schema_refuses(name: str, schema: jsonschema.Draft202012Validator) -> None:
    file = BAD / f"{name}.yaml"
    assert not schema.is_valid(plain(parse(file.read_text(encoding="utf-8"), file)))


def test_the_schema_describes_every_section(schema: jsonschema.Draft202012Validator) -> None:
    told: dict[str, Any] = schema.schema  # type: ignore[assignment]
    assert set(told["properties"]) >= {"model", "hardware", "deployment", "workload", "target", "cost", *OF_THE_FILE}
    assert "by default" in told["properties"]["question"]["description"]
    assert told["$defs"]["Placement"]["properties"]["swap_space"]["examples"] == ["80 GB"]
    assert all(
        definition.get("description")
        for name, definition in told["$defs"].items()
        if name in ("Load", "Costs", "Placement")
    )


def test_init_writes_a_scenario_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return int(ended.value.code or 0)

    assert run("init", "chat.yaml") == 0
    assert run("init", "chat.yaml") == 2
    assert "--force" in capsys.readouterr().err
    assert run("init", "chat.yaml", "--force") == 0
    assert run("init", "chat.txt") == 2
    assert run("schema", "-o", "scenario.schema.json") == 0
    assert json.loads((tmp_path / "scenario.schema.json").read_text())["$schema"].endswith("2020-12/schema")
    capsys.readouterr()
    assert run("run", "chat.yaml", "--case", "two H200", "-o", "results") == 0
    assert "2 x H200-SXM" in capsys.readouterr().out
