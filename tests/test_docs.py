"""The documentation does what it says: every block that a page shows is run, and every figure has its entry in the glossary."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

import infersim

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

import blocks  # noqa: E402
import commands  # noqa: E402
import glossary  # noqa: E402
import schema  # noqa: E402

PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if not {"_build", "generated"} & set(page.parts)),
]
DRAFTS = "method=eagle3,num_speculative_tokens=3,acceptance=0.7"
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


def _fields() -> list[str]:
    return [field for section in glossary.entries().values() for entry in section for field in entry.get("fields", ())]


def _is_figure(value: object) -> bool:
    """Whether a value is a metric: a number or a list of them. Absent ones cannot be told from absent words."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(one, int | float) for one in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


@functools.cache
def _answers() -> dict[str, dict[str, Any]]:
    """The main answers as they are told, with drafts so that their figures appear too."""
    from infersim.planning.demand import Demand

    model, gpu = "meta-llama/Llama-3.1-8B", "H100-SXM"
    one = infersim.estimate(model, gpu, concurrency=8, speculation=DRAFTS)
    traffic = infersim.Traffic(arrivals={"kind": "gamma", "rate": 5}, num_requests=50)
    run = infersim.simulate(model, gpu, traffic, target="ttft_p95=1s")
    found = infersim.plan(model, gpu, request_rate=10, target="tpot=40ms", verify=0)
    plain, narrow = (infersim.estimate(model, gpu, precision=name) for name in ("bf16", "fp8"))
    told = {
        "estimate": one.to_dict(), "simulate": run.to_dict(), "plan": found.to_dict(),
        "cost": infersim.cost(plain, request_rate=2).to_dict(),
        "compare": infersim.compare(plain, narrow, request_rate=40, target="tpot=20ms", samples=50).to_dict(),
        "size": infersim.size_fleet(Demand(20.0), plain, target="tpot=40ms").to_dict(),
    }  # fmt: skip
    told |= {
        "memory": told["estimate"]["memory"],
        "step": told["estimate"]["decode_step"],
        "option": told["plan"]["options"][0],
    }
    told |= {"op": told["step"]["ops"][0], "side": told["compare"]["options"][0], "month": told["size"]["months"][0]}
    return told


def test_every_figure_of_an_answer_is_in_the_glossary() -> None:
    known = _fields()
    missing = {
        f"{name}: {key}"
        for name, answer in _answers().items()
        for key, value in answer.items()
        if _is_figure(value) and not any(fnmatch(key, field) for field in known)
    }
    assert not missing


def test_the_glossary_says_each_once_and_names_nothing_that_is_not_told() -> None:
    known, terms = _fields(), [entry["term"] for section in glossary.entries().values() for entry in section]
    assert len(set(known)) == len(known)
    assert len(set(terms)) == len(terms)
    told = {key for answer in _answers().values() for key in answer} | set(infersim.EngineKnobs.model_fields)
    told |= set(infersim.estimate("meta-llama/Llama-3.1-8B", "L4", speculation=DRAFTS).to_dict()["speculation"]) | {
        "samples"
    }
    assert not [field for field in known if not any(fnmatch(key, field) for key in told)]


def test_every_engine_setting_is_in_the_glossary() -> None:
    assert set(infersim.EngineKnobs.model_fields) <= set(_fields())


GENERATED = {"commands.md", "glossary.md", "scenario.md", "accuracy.md"}
"""Pages made from the code when the documentation is built."""


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_pages_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        found = (page.parent / target).resolve()
        assert found.is_file() or (found.parent == DOCS / "generated" and found.name in GENERATED), target


def test_formulas_lead_to_functions_that_are_there() -> None:
    named = {
        (page, name)
        for page in PAGES
        for name in re.findall(r"\{py:\w+\}`~?([\w.]+)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 50
    for page, name in named:
        module, *rest = _module_of(name)
        value = importlib.import_module(module)
        for part in rest:
            assert hasattr(value, part), f"{page.name}: {name}"
            value = getattr(value, part)


def _module_of(name: str) -> list[str]:
    """The longest part of a dotted name that is a module, and the names in it."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        module = ".".join(parts[:end])
        with contextlib.suppress(ModuleNotFoundError):
            if importlib.util.find_spec(module) is not None:
                return [module, *parts[end:]]
    raise AssertionError(name)


def test_terms_that_pages_use_are_in_the_glossary() -> None:
    terms = {entry["term"] for section in glossary.entries().values() for entry in section}
    for page in PAGES:
        for shown, meant in re.findall(r"\{term\}`([^`<]+?)(?: <([^`]+)>)?`", page.read_text(encoding="utf-8")):
            assert (meant or shown) in terms, f"{page.name}: {meant or shown}"


def test_every_field_of_a_scenario_has_its_line() -> None:
    from infersim.scenario.schema import scenario_schema

    page, fields = schema.page(), scenario_schema()
    assert all(f"| `{name}` |" in page for name in fields["properties"])
    assert all(f"## {name}\n" in page for name, found in fields["$defs"].items() if found.get("properties"))


def test_every_command_has_its_section() -> None:
    from infersim.cli.app import PANELS

    page = commands.page()
    assert len(PANELS) >= 15
    assert all(f"## infersim {name}\n" in page for name in PANELS)
    assert "| `--input`, `-i` |" in page
