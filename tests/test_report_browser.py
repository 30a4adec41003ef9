"""The page in a real browser: no complaint on its console, every figure drawn, no sideways scroll on a phone, links that work."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import report_samples as samples
from infersim.report.html import write_page
from infersim.scenario import questions
from infersim.scenario.scenario import load_scenario

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on the path: install Debian's package chromium to test pages in a browser"
    ),
]
WIDTHS = (390, 1200)
PROBE = """
const report = frame => {
  const page = frame.contentDocument, seen = page.defaultView
  const all = (what, keep) => [...page.querySelectorAll(what)].filter(keep)
  const box = element => element.getBoundingClientRect()
  const hidden = element => element.closest("details:not([open])")
  const wide = all("body *", e => box(e).right > seen.innerWidth + 1 && !hidden(e) && !e.closest(".scroll, pre"))
  const shows = figure => hidden(figure) || box(figure.querySelector("svg")).height > 60
  const works = link => { link.click(); const to = page.querySelector(link.getAttribute("href")); return to && box(to).height > 0 }
  return {width: seen.innerWidth, scroll: page.documentElement.scrollWidth,
    figures: all("main figure", () => true).length, drawn: all("main figure", shows).length,
    anchors: all("a", () => true).length, links: all("a", works).length, wide: wide.slice(0, 3).map(e => e.outerHTML.slice(0, 120)),
    ink: seen.getComputedStyle(page.querySelector("figure text")).fill, page: seen.getComputedStyle(page.body).backgroundColor}
}
onload = () => { document.body.dataset.told = JSON.stringify([...document.querySelectorAll("iframe")].map(report)) }
"""


def _browse(folder: Path, *pages: str, flags: tuple[str, ...] = ()) -> tuple[list[dict[str, Any]], str]:
    """What each page is like at each width, and what the browser's console says. Frames set the widths, since windows have a least one."""
    frames = "".join(
        f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{html.escape(page)}"></iframe>'
        for page in pages
        for width in WIDTHS
    )
    host = folder / "host.html"
    host.write_text(f"<!doctype html><body>{frames}<script>{PROBE}</script></body>", encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}",
         *flags, "--dump-dom", host.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told = re.search(r'data-told="([^"]*)"', done.stdout)
    assert told is not None, done.stderr[-2000:]
    return json.loads(html.unescape(told[1])), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize("kind", ["estimates", "runs", "plans", "costs", "sweep"])
def test_a_page_in_a_browser(tmp_path: Path, kind: str) -> None:
    folder = (
        samples.sweep(tmp_path / "r") if kind == "sweep" else samples.write(tmp_path / "r", getattr(samples, kind)())
    )
    write_page(folder, tmp_path / "page.html")
    found, console = _browse(tmp_path, (tmp_path / "page.html").read_text(encoding="utf-8"))
    assert console == ""
    for one, width in zip(found, WIDTHS, strict=True):
        assert one["width"] <= width
        assert one["wide"] == []
        assert one["scroll"] <= one["width"]
        assert one["figures"] >= 2
        assert one["drawn"] == one["figures"]
        assert one["anchors"] >= 1
        assert one["links"] == one["anchors"]


LAYERS = ("decoding_methods", "prompt_caching", "number_formats", "many_adapters", "support_agent", "vector_search", "rag_pipeline",
          "rag_or_long_context")  # fmt: skip


def test_pages_of_every_layer_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One example each, all in one window: their pictures are there, and their first line is an answer."""
    monkeypatch.chdir(Path(__file__).parents[1] / "examples" / "scenarios")
    pages = []
    for name in LAYERS:
        scenario = load_scenario(Path(f"{name}.yaml"))
        scenario.run(doubts=False).save(tmp_path / name)
        write_page(tmp_path / name, tmp_path / f"{name}.html")
        pages.append((tmp_path / f"{name}.html").read_text(encoding="utf-8"))
        assert not re.search(r'class="answer">[^.]*</p>', pages[-1]), "the answer is a sentence"
    assert {load_scenario(Path(f"{name}.yaml")).question for name in LAYERS} == set(questions.LAYERS)
    found, console = _browse(tmp_path, *pages)
    assert console == ""
    assert len(found) == len(LAYERS) * len(WIDTHS)
    for one in found:
        assert one["wide"] == []
        assert one["scroll"] <= one["width"]
        assert one["figures"] >= 1
        assert one["drawn"] == one["figures"]
        assert one["links"] == one["anchors"]


def test_a_page_is_dark_where_the_reader_wants_it(tmp_path: Path) -> None:
    write_page(samples.write(tmp_path / "r", samples.estimates()[:1]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (light, _), _ = _browse(tmp_path, page)
    (dark, _), _ = _browse(tmp_path, page, flags=("--blink-settings=preferredColorScheme=0",))
    assert light["page"] == "rgb(255, 255, 255)"
    assert max(_rgb(dark["page"])) < 60
    assert max(_rgb(light["ink"])) < 60
    assert min(_rgb(dark["ink"])) > 180


def _rgb(colour: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", colour)[:3]]


def test_a_page_prints(tmp_path: Path) -> None:
    write_page(samples.write(tmp_path / "r", samples.estimates()[:1]), tmp_path / "page.html")
    printed = tmp_path / "page.pdf"
    subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer",
         f"--print-to-pdf={printed}", (tmp_path / "page.html").as_uri()],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert printed.read_bytes().startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) <= 8
