"""The page of a results folder: the answer first, every figure, nothing from elsewhere, nothing of a file's becomes markup."""

from __future__ import annotations

import html
import json
import re
import tempfile
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import report_samples as samples
from infersim import estimate, units
from infersim.cli.app import main
from infersim.errors import SpecError
from infersim.report.across import anchor
from infersim.report.figures.steps import step_comparison
from infersim.report.html import page, write_page
from infersim.report.results import read_results
from infersim.report.svg import Picture

_FAST = samples.case("base", "estimate", estimate(samples.MODEL, "H100-SXM", mode="bound"))
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Tree(HTMLParser):
    """Elements of a page in order, with a complaint where they do not close as they opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def ids(self) -> list[str]:
        return [one for _, attributes in self.tags if (one := attributes.get("id"))]

    @property
    def figures(self) -> list[str]:
        return [attributes["id"] or "" for tag, attributes in self.tags if tag == "figure"]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A page for each kind of question."""
    folder = tmp_path_factory.mktemp("results")
    expect = [{"case": "base", "metric": "tpot_s", "rule": "< 0.04", "value": 0.01, "met": True},
              {"case": samples.HOSTILE, "metric": samples.HOSTILE, "rule": "< 1", "value": None, "met": False}]  # fmt: skip
    text, name = f"name: {samples.HOSTILE}\n", samples.HOSTILE
    folders = {
        "estimate": samples.write(folder / "estimate", samples.estimates(), expect=expect, text=text, name=name),
        "simulate": samples.write(folder / "simulate", samples.runs()),
        "plan": samples.write(folder / "plan", samples.plans()),
        "cost": samples.write(folder / "cost", samples.costs()),
        "sweep": samples.sweep(folder / "sweep"),
    }
    return {name: page(read_results(place)) for name, place in folders.items()}


KINDS = ("estimate", "simulate", "plan", "cost", "sweep")
FIGURES = {
    "estimate": {"compare-decode", "compare-prefill", "case-1-base-load", "case-1-base-breakdown-decode", "case-1-base-breakdown-prefill",
                 "case-1-base-roofline-decode", "case-1-base-roofline-prefill", "case-1-base-memory", "case-1-base-kv",
                 "case-1-base-cost", "case-1-base-tornado", "case-2-script-alert-x-script-q-frac-1-load", "accuracy"},
    "simulate": {"compare-ttft", "compare-tpot", "case-1-2-requests-s-distribution", "case-1-2-requests-s-series",
                 "case-1-2-requests-s-load", "case-1-2-requests-s-kv", "case-2-8-requests-s-distribution", "case-3-200-requests-s-series"},
    "cost": {"case-1-rent-cost", "case-1-rent-own-or-rent", "case-1-rent-tornado", "case-1-rent-kv", "case-2-buy-cost", "case-2-buy-parts"},
    "plan": {"case-1-base-pareto", "case-1-base-chance", "case-1-base-tornado", "case-1-base-breakdown-decode", "case-1-base-memory",
             "case-1-base-kv", "accuracy"},
    "sweep": {"sweep-points", "sweep-field"},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_and_needs_nothing_from_elsewhere(pages: dict[str, str], kind: str) -> None:
    text = pages[kind]
    tree = Tree(text)
    assert text.startswith("<!doctype html>")
    assert tree.figures
    assert set(tree.figures) >= FIGURES[kind]
    assert len(tree.ids) == len(set(tree.ids))
    for tag, attributes in tree.tags:
        assert tag not in ("script", "link", "iframe", "object", "img", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        link = attributes.get("href")
        assert link is None or link.removeprefix("#") in tree.ids
    assert not re.search(r"https?:|url\((?!#)|@import|src=", re.sub(r">[^<]*<", "><", text))
    assert len(text) < 1_500_000


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_a_text_alternative_and_every_table_headers(pages: dict[str, str], kind: str) -> None:
    tree = Tree(pages[kind])
    drawings = [attributes for tag, attributes in tree.tags if tag == "svg"]
    assert len(drawings) == len(tree.figures)
    assert all(one["role"] == "img" and len(one["aria-label"] or "") > 20 for one in drawings)
    columns = [attributes for tag, attributes in tree.tags if tag == "th"]
    assert columns
    assert all(attributes.get("scope") in ("col", "row") for attributes in columns)


def test_the_answer_comes_first(pages: dict[str, str]) -> None:
    text = pages["estimate"]
    answer = text.index('class="answer"')
    assert answer < text.index("<table")
    assert answer < text.index("<figure")
    told = re.search(r'class="answer">(.*?)</p>', text)
    assert told is not None
    assert re.search(
        r"Llama-3.1-8B on 1 × H100-SXM .* serves 16 concurrent users at [\d.]+ requests/s, with the first token after",
        told[1],
    )
    assert "Of the cases that meet their target the cheapest is" in text
    assert "1 of 2 expectations met" in text
    assert "No answer" in text


def test_figures_of_the_answer_are_those_of_the_result(tmp_path: Path) -> None:
    answer = estimate(samples.MODEL, "H100-SXM", concurrency=8, target="ttft=1ms")
    text = page(read_results(samples.write(tmp_path, [samples.case("base", "estimate", answer)])))
    interval = answer.interval("tpot")
    assert interval is not None
    value, unit = units.show(answer.tpot, "s").split()
    assert f"<b>{value}<small> {unit}</small></b>" in text
    assert f"90% interval {units.show(interval.low, 's')} to {units.show(interval.high, 's')}" in text
    assert "Misses its target: mean TTFT" in text
    assert 'class="tile bad"' in text


def test_what_does_not_fit_and_what_is_overloaded_say_so(pages: dict[str, str]) -> None:
    assert "Does not fit into memory" in pages["estimate"]
    assert "Overloaded: the queue grows without end" in pages["simulate"]
    assert "no latency" not in pages["plan"]


def test_a_plan_tells_options_and_what_would_change_them(pages: dict[str, str]) -> None:
    assert "What would change the choice" in pages["plan"]
    assert "Serves the load within its target" in pages["plan"]
    assert "simulated requests; target 800 ms" in pages["plan"]


def test_a_plan_tells_how_sure_it_is(pages: dict[str, str]) -> None:
    sentence = samples.plans()[0]["evidence"]["doubt"]["sentence"]
    assert "chance of meeting the target" in sentence
    assert f"With doubts about workload, prices and predictions: {sentence}" in html.unescape(pages["plan"])


def test_a_cost_tells_what_is_cheaper(tmp_path: Path) -> None:
    cases = samples.costs()
    text = page(read_results(samples.write(tmp_path, cases)))
    rent, buy = (case["answer"]["per_year_usd"] for case in cases)
    assert f"costs {rent:,.0f} USD a year at 5 requests/s" in text
    assert f"the cheapest is buy: {buy:,.0f} USD a year, {1 - buy / rent:.0%} less than rent" in text
    assert f"Owning has paid off after {cases[0]['answer']['buy_or_rent']['break_even_month']} months" in text
    assert "break-even in month" in text
    assert "<h3>Assumptions</h3>" in text


def test_a_sweep_counts_its_failures(pages: dict[str, str]) -> None:
    assert "16 have no answer" in pages["sweep"]
    assert "16: does not fit" in pages["sweep"]


def test_nothing_of_a_file_becomes_markup(pages: dict[str, str]) -> None:
    text = pages["estimate"]
    assert "alert(" in text
    assert "<script" not in text.lower()
    assert "$\\frac{1}" in "".join(Tree(text).texts)  # shown as it is, in figures too


@given(st.text(st.characters(), min_size=1, max_size=30))
@settings(max_examples=15)
@example("\u4f60\u597d \ud800 \x00\x0b\n-->]]></style>")
def test_any_text_in_a_file_is_shown_as_text(name: str) -> None:
    failed = {"name": name, "question": "estimate", "overrides": {name: [name]}, "answer": None, "error": name + "!"}
    expect = [{"case": name, "metric": name, "rule": name, "value": name}]
    with tempfile.TemporaryDirectory() as folder:
        results = read_results(samples.write(Path(folder), [failed, _FAST], expect=expect, name=name))
    known = results.cases[0].name
    picture = Picture("p", known, known, known, partial(step_comparison, {known: _FAST["answer"]}))
    drawn = {anchor(case, place): [] for place, case in enumerate(results.cases)} | {"sweep": [], "accuracy": []}
    text = page(results, {**drawn, "compare": [picture]})
    assert text.encode("utf-8")
    tree = Tree(text)
    assert [tag for tag, _ in tree.tags if tag in ("script", "iframe", "img")] == []
    assert not any(key.startswith("on") for _, attributes in tree.tags for key in attributes)
    assert len(tree.ids) == len(set(tree.ids))


def test_sources_and_assumptions_are_told_apart(pages: dict[str, str]) -> None:
    assert "Assumed or fitted" in pages["estimate"]
    assert "Measured or published" in pages["estimate"]
    assert "aiconfigurator-core" in pages["estimate"]


def test_where_nothing_was_measured_the_page_says_so(pages: dict[str, str]) -> None:
    assert "No measured serving points of L40S under vLLM are on file" in pages["simulate"]
    assert "No measured serving points" not in pages["estimate"]


def test_two_pools_have_figures_of_their_own(tmp_path: Path) -> None:
    from infersim import plan

    answer = plan(samples.MODEL, "H100-SXM", request_rate=40, pools="disaggregated", verify=0)
    text = page(read_results(samples.write(tmp_path, [samples.case("base", "plan", answer)])))
    figures = Tree(text).figures
    assert "case-1-base-front-breakdown-prefill" in figures
    assert "case-1-base-breakdown-prefill" not in figures
    assert "case-1-base-load" not in figures
    assert "for prefill and" in text


def test_models_that_write_nothing_and_limits_say_so(tmp_path: Path) -> None:
    embedding = samples.case("base", "estimate", estimate("BAAI/bge-m3", "L40S", input_tokens=400, concurrency=16))
    text = page(read_results(samples.write(tmp_path / "a", [embedding])))
    assert re.search(r"serves 16 concurrent users at [\d.,]+ requests/s, each after [\d.]+ m?s", text)
    assert re.search(r"That costs [\d.]+ USD per million tokens", text)
    assert "output tokens and" not in text
    bound = samples.case("base", "estimate", estimate("mistralai/Mamba-Codestral-7B-v0.1", "H100-SXM", mode="bound"))
    text = page(read_results(samples.write(tmp_path / "b", [bound])))
    assert "limits of the hardware that no engine reaches" in text
    assert "90% interval 0" not in text


def test_the_command_writes_the_page_and_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page_, figures = samples.sweep(tmp_path / "results"), tmp_path / "out.html", tmp_path / "figs"
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(folder), "-o", str(page_), "--figures", str(figures), "--format", "png", "--json"])
    assert stopped.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(Path(path).name for path in told["figures"]) == ["sweep-field.png", "sweep-points.png"]
    assert len(list(figures.iterdir())) == 2
    write_page(folder, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page_.read_bytes()


BAD: dict[str, tuple[Any, str]] = {
    "no folder": (None, "no such folder of results"),
    "an empty folder": ("", "holds no results.json and no sweep"),
    "no JSON": ("{", "is not JSON"),
    "a list": ([], "an object of cases, got list"),
    "cases that are none": ({"cases": 3}, "cases: is a list of objects"),
    "an unknown question": ({"cases": [{"question": "guess"}]}, r"cases\[0\].question: is one of estimate, simulate.* got 'guess'"),
    "neither answer nor error": ({"cases": [{"question": "plan"}]}, "neither an answer nor an error"),
    "an answer that is text": ({"cases": [{"question": "plan", "answer": "x"}]}, r"cases\[0\].answer: is an object, got str"),
    "an answer of another kind": ({"cases": [{"question": "estimate", "answer": {"ttft_s": 1}}]}, "the answers lack"),
    "evidence of another kind": ({"cases": [{**_FAST, "evidence": {"load": {"requests_per_s": ["x"]}}}]}, "is not as infersim"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_results_are_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    given, message = BAD[name]
    folder = tmp_path / "results"
    if given is not None:
        folder.mkdir()
        if given != "":
            (folder / "results.json").write_text(
                given if isinstance(given, str) else json.dumps(given), encoding="utf-8"
            )
    with pytest.raises(SpecError, match=message):
        write_page(folder, tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(folder), "-o", str(tmp_path / "out.html")])
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_page_is_html_and_goes_where_a_folder_is(tmp_path: Path) -> None:
    folder = samples.sweep(tmp_path / "results")
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(folder), "-o", str(tmp_path / "out.pdf")])
    assert stopped.value.code == 2
    with pytest.raises(SpecError, match="no such folder"):
        write_page(folder, tmp_path / "nowhere" / "out.html")
