"""Scenarios that cannot be answered, one a file: each says in its first line which sentence tells the user so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from infersim.cli.app import main
from infersim.errors import InferSimError, SpecError
from infersim.scenario.scenario import load_scenario
from infersim.scenario.text import MAX_BYTES

FOLDER = Path(__file__).parent / "data" / "bad_scenarios"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_sentence_names_line_field_and_what_would_be_right(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    expected = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# expect: ")
    started = time.perf_counter()
    with pytest.raises(InferSimError) as caught:  # noqa: PT012 - some are wrong only once they are asked
        result = load_scenario(file.name).run(doubts=False)
        assert result.exit_code == 2
        raise result.cases[0].error or AssertionError("was answered")
    assert str(caught.value).startswith(expected)
    assert isinstance(caught.value, SpecError)
    assert time.perf_counter() - started < 5


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 100


def test_the_command_line_tells_them_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(FOLDER)
    for name in ("unknown_section.yaml", "missing_model.yaml", "yaml_python_object.yaml", "nowhere.yaml", "parts"):
        with pytest.raises(SystemExit) as ended:
            main(["run", name])
        told = capsys.readouterr()
        assert ended.value.code == 2
        assert told.out == ""
        assert told.err.startswith(f"error: {name}")


def test_a_file_that_is_no_text_or_too_large(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(SpecError, match="not a text file"):
        load_scenario(tmp_path / "binary.yaml")
    (tmp_path / "control.yaml").write_text("model: a\x01b")
    with pytest.raises(SpecError, match="not valid YAML"):
        load_scenario(tmp_path / "control.yaml")
    (tmp_path / "huge.yaml").write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(SpecError, match="too large for a scenario"):
        load_scenario(tmp_path / "huge.yaml")


def test_nothing_in_a_file_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for number, value in enumerate(
        [f"!!python/object/apply:os.system ['touch {marker}']", f"!!python/object/new:os.system [touch {marker}]",
         "!!python/module:os", "!!python/tuple [1, 2]", f"!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {marker}']"]
    ):  # fmt: skip
        file = tmp_path / f"{number}.yaml"
        file.write_text(f"model: gpt2\nhardware: {value}\n")
        with pytest.raises(SpecError, match="tags such as"):
            load_scenario(file)
    assert not marker.exists()
