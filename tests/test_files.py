"""Files appear whole or not at all, under names that every system takes; nested answers become flat rows."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import infersim
from infersim.errors import InferSimError, SpecError
from infersim.files import LONGEST_NAME, RESERVED, replace_file, safe_file_name, write_text
from infersim.tables import cell, flatten, plain, to_csv

PACKAGE = Path(infersim.__file__).parent


@given(st.text(max_size=300))
def test_a_safe_name_is_safe_everywhere_and_stays_what_it_is(name: str) -> None:
    safe = safe_file_name(name)
    assert 0 < len(safe) <= LONGEST_NAME + 1
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f]', safe)
    assert safe[-1] not in " ."
    assert safe.partition(".")[0].rstrip().lower() not in RESERVED
    assert safe_file_name(safe) == safe


@pytest.mark.parametrize("name", ["H100-SXM.vllm.yaml", "two pools, 8 x H200.csv", "größe.json", "模型.yaml"])
def test_a_good_name_is_kept(name: str) -> None:
    assert safe_file_name(name) == name


@pytest.mark.parametrize(("name", "safe"), [("CON", "_CON"), ("nul.tar.gz", "_nul.tar.gz"), ("com1 .txt", "_com1 .txt"), ("..", "_"),
                                            ("a/b\\c", "a--b--c"), ("x" * 300 + ".csv", "x" * 116 + ".csv")])  # fmt: skip
def test_names_that_some_system_refuses(name: str, safe: str) -> None:
    assert safe_file_name(name) == safe


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_what_ends_a_write_leaves_the_older_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "answer.json"
    path.write_text("old", encoding="utf-8")

    def write(part: Path) -> None:
        part.write_text("half", encoding="utf-8")
        raise error

    with pytest.raises(InferSimError if isinstance(error, OSError) else type(error)):
        replace_file(path, write)
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [("answer.json", "old")]


def test_text_is_utf8_with_its_own_line_ends_in_a_folder_that_is_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "\u00b5s\nzwei\r\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\xc2\xb5s\nzwei\r\n"
    with pytest.raises(SpecError, match="no such folder"):
        replace_file(tmp_path / "none" / "b.txt", lambda part: part.write_text(""))
    with pytest.raises(InferSimError, match="cannot be made"):
        write_text(tmp_path / "a" / "b.txt" / "c.txt", "")


def test_every_text_file_is_opened_as_utf8_and_every_csv_without_translation() -> None:
    """``read_text``, ``write_text`` and ``open`` name their encoding wherever they stand."""
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name, keywords = node.func.attr, {keyword.arg for keyword in node.keywords}
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            text = name in ("read_text", "write_text") or (name == "open" and not any("b" in mode for mode in modes))
            module = isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "gzip", "zipfile")
            if text and not module and "encoding" not in keywords:
                wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {name}")
    assert not wrong


RECORDS = st.dictionaries(
    st.text("abc_", min_size=1, max_size=4),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_", min_size=1, max_size=4), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=5,
)


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_every_value_of_every_record_is_in_the_csv(records: list[dict[str, Any]]) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(records))))
    columns, cells = rows[0], [row or [""] for row in rows[1:]]  # a row of one empty cell is an empty line
    for row, record in zip(cells, records, strict=True):
        for name, value in flatten(record).items():
            assert value is None if name not in columns else row[columns.index(name)] == cell(value)


@given(RECORDS)
def test_flattening_loses_nothing(record: dict[str, Any]) -> None:
    def leaves(value: Any) -> int:
        return sum(map(leaves, value.values())) or 1 if isinstance(value, dict) else 1

    assert len(flatten(record)) == (leaves(record) if record else 0)
    assert json.dumps(plain(record), allow_nan=False)
