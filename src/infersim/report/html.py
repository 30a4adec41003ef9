"""A results folder as one page: the answer first, then figures, inputs and sources. No script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from infersim._version import __version__
from infersim.errors import InferSimError, SpecError
from infersim.report import other, tables
from infersim.report.across import all_pictures, anchor, judged_on
from infersim.report.answers import best_of, doubt, headline, verdict
from infersim.report.markup import Markup, join, pairs, tag
from infersim.report.results import DRAWN, Case, Results, read_results
from infersim.report.svg import Picture, inline
from infersim.report.sweep import sweep_section
from infersim.report.tiles import Tile, tiles
from infersim.report.words import engine, spoken

GLOSSARY = (
    ("TTFT", "time to first token: from the arrival of a request to its first token, waiting included"),
    ("TPOT", "time per output token after the first, per request: (end-to-end time - TTFT) / (output tokens - 1)"),
    ("90% interval", "holds the true value in nine of ten cases like this, judged by measured points that no fit saw"),
    ("goodput", "requests per second that meet every target themselves"),
    ("p50, p95, p99", "half, 95% and 99% of requests are at most so slow"),
    ("KV cache", "memory that holds what the model has read and written of each running request"),
    ("prefill, decode", "reading the prompt; writing the output token by token"),
    ("TP, PP, EP, DP", "GPUs that share each layer, share the layers, share the experts, or are copies of one another"),
)  # fmt: skip
QUESTIONS = {
    "estimate": "closed form",
    "simulate": "simulation",
    "plan": "plan",
    "cost": "cost",
    "compare": "comparison",
    "capacity": "capacity",
    "size": "fleet",
}


def write_page(folder: str | Path, output: str | Path) -> list[Picture]:
    """Read the results in ``folder`` and write their report to ``output`` (HTML); the file appears whole or not at all.

    Returns the figures of the page. SpecError where the folder holds no results, or not in their form.
    """
    from infersim.files import replace_file

    results = read_results(folder)
    try:
        drawn = all_pictures(results)
        content = page(results, drawn)
    except InferSimError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        told = f"the answers lack {error}" if isinstance(error, KeyError) else str(error)
        raise SpecError(
            f"is not as infersim {__version__} writes it: {told}; run the scenario again",
            file=results.folder / "results.json",
        ) from error
    replace_file(output, lambda temporary: temporary.write_text(content, encoding="utf-8"))
    return [picture for pictures in drawn.values() for picture in pictures]


def page(results: Results, drawn: Mapping[str, list[Picture]] | None = None) -> str:
    """The whole page as text; ``drawn`` are its figures where they are known already."""
    drawn = drawn or all_pictures(results)
    style = resources.files("infersim.report").joinpath("page.css").read_text(encoding="utf-8")
    sections = _sections(results, drawn)
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in sections]
    main = [
        tag("section", tag("h2", title) if name != "answer" else None, content, id=name)
        for name, title, content in sections
    ]
    body = tag(
        "body",
        _header(results),
        tag("nav", tag("ul", links), aria_label="Contents"),
        tag("main", main),
        tag("footer", _footer(results)),
    )
    head = tag(
        "head", Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", f"{results.scenario}: infersim report"), Markup(f"<style>{style}</style>"),
    )  # fmt: skip
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


Section = tuple[str, str, Any]


def _sections(results: Results, drawn: Mapping[str, list[Picture]]) -> list[Section]:
    cases = results.cases
    found: list[Section] = [("answer", "Answer", _answer(results))] if cases else []
    tables_ = tables.compared(results)
    if tables_ or drawn["compare"]:
        found.append(("comparison", "Comparison", join([tables_, _figures(drawn["compare"])])))
    if cases:
        first = anchor(cases[0], 0)
        found.append(
            (first, "Details" if len(cases) == 1 else f"Details: {cases[0].name}", _details(cases[0], drawn[first]))
        )
    if len(cases) > 1:
        others = [
            tag("details", tag("summary", f"{case.name} ({_word(case)})"), tag("p", headline(case)), _tiles(tiles(case)),
                _details(case, drawn[anchor(case, place)]), id=anchor(case, place))
            for place, case in enumerate(cases) if place
        ]  # fmt: skip
        found.append(("cases", "Other cases", others))
    if results.sweep is not None:
        found.append(("sweep", "Sweep", sweep_section(results.sweep, drawn["sweep"])))
    if cases or results.text:
        found.append(("inputs", "Inputs", _inputs(results)))
    if judged_on(results) is not None:
        found.append(("trust", "How far to trust this", _trust(results, drawn["accuracy"])))
    if cases:
        found.append(("sources", "Sources and assumptions", _sources(results)))
    return found


def _word(case: Case) -> str:
    return QUESTIONS.get(case.question, case.question)


def _header(results: Results) -> Markup:
    made = f"infersim {results.version}" if results.version else "infersim"
    when = results.created.replace("T", " ").removesuffix("Z")
    return tag("header", tag("h1", results.scenario), tag("p", made + (f", {when} UTC" if when else "")))


def _footer(results: Results) -> list[Any]:
    words = pairs(GLOSSARY)
    return [
        tag("details", tag("summary", "Words used"), words),
        tag("p", f"Page made by infersim {__version__} from {results.folder.resolve().name}."),
    ]


def _answer(results: Results) -> Markup:
    base = results.cases[0]
    judged, best, sure = verdict(base), best_of(list(results.cases)), doubt(base)
    badges = [tag("span", judged[1], class_=f"badge {judged[0]}")] if judged else []
    if results.expect:
        met = sum(bool(one.get("met")) for one in results.expect)
        state = "good" if met == len(results.expect) else "bad"
        badges.append(tag("span", f"{met} of {len(results.expect)} expectations met", class_=f"badge {state}"))
    return join(
        [
            tag("p", headline(base), class_="answer"),
            tag("p", best, class_="best") if best else None,
            tag("p", sure, class_="best") if sure else None,
            tag("p", badges) if badges else None,
            _tiles(tiles(base)),
            tables.expectations(results),
            _warnings(base),
        ]
    )


def _tiles(found: list[Tile]) -> Markup | None:
    return tag("div", [_tile(tile) for tile in found], class_="tiles") if found else None


def _tile(tile: Tile) -> Markup:
    unit = tag("small", f" {tile.unit}") if tile.unit else None
    note = tag("span", tile.note) if tile.note else None
    return tag(
        "div",
        tag("span", tile.name, class_="name"),
        tag("b", tile.value, unit),
        note,
        class_=f"tile {tile.state}".strip(),
    )


def _warnings(case: Case) -> list[Markup]:
    answer = case.answer or {}
    limits = ["Bound mode: limits of the hardware that no engine reaches, not predictions."] * (
        answer.get("mode") == "bound"
    )
    return [tag("p", warning, class_="note") for warning in [*limits, *answer.get("warnings", [])]]


def _figures(pictures: list[Picture]) -> Markup | None:
    return tag("div", [inline(picture) for picture in pictures], class_="figures") if pictures else None


def _details(case: Case, pictures: list[Picture]) -> Markup:
    """Tables and figures of one case."""
    answer = case.answer
    if answer is None:  # its sentence has said why
        return join([])
    parts: list[Any] = []
    if case.question == "plan":
        parts += [tables.options_table(answer), _listed("What would change the choice", answer["flips"])]
    elif case.question == "simulate":
        parts += [
            None if answer["unstable"] else tables.percentiles_table(answer),
            _listed("Where the time went", answer["bottlenecks"]),
        ]
    if case.question not in DRAWN:
        parts += [other.text_block(case), other.figures_table(case)]
    parts.append(_figures(pictures))
    if isinstance(answer.get("assumptions"), list) and answer.get("assumptions"):
        parts += [tag("h3", "Assumptions"), tables.assumptions_table(answer["assumptions"])]
    for name in ("decode_step", "prefill_step"):
        if name in answer:
            title = f"Every op of the {name.replace('_', ' ')}"
            parts.append(tag("details", tag("summary", title), tables.ops_table(answer[name]["ops"], answer[name]["seconds"]),
                             class_="screen"))  # fmt: skip
    if case.evidence.get("load_refused"):
        parts.append(tag("p", f"No curve over load: {case.evidence['load_refused']}", class_="note"))
    if case.evidence.get("doubt_refused"):
        parts.append(tag("p", f"No chances and no tornado: {case.evidence['doubt_refused']}", class_="note"))
    return join(parts)


def _listed(title: str, lines: list[str], kind: str = "plain") -> list[Markup]:
    return [tag("h3", title), tag("ul", [tag("li", spoken(line)) for line in lines], class_=kind)] if lines else []


def _inputs(results: Results) -> Markup:
    parts: list[Any] = [tables.inputs(case) for case in results.cases[:1]] + [tables.changes(results)]
    if results.text:
        parts.append(tag("details", tag("summary", "The scenario file as it was run"), tag("pre", results.text)))
    return join(parts)


def _trust(results: Results, pictures: list[Picture]) -> Markup:
    outside = [
        f"{case.name}: {line}" for case in results.answered for line in (case.answer or {}).get("extrapolations", [])
    ]
    device, engine_name = judged_on(results) or ("", "")
    if pictures:
        judged = "the figure shows the judging points."
    else:
        judged = f"No measured serving points of {device} under {engine(engine_name)} are on file, so none could judge it here."
    told = "Every latency is a prediction. The 90% interval beside it was set on measured serving points and judged on others"
    return join(
        [
            tag("p", f"{told}; {judged}" if pictures else f"{told}. {judged}"),
            _figures(pictures),
            _listed("Outside the sizes that were measured", outside),
        ]
    )


def _sources(results: Results) -> Markup:
    """Everything the figures rest on, each source once, what is assumed first."""
    lines = list(dict.fromkeys(line for case in results.answered for line in (case.answer or {}).get("sources", [])))
    shown = [_once(line) for line in lines]
    assumed = [line for line in shown if "assumed" in line or line.startswith("kernels: default")]
    rest = [line for line in shown if line not in assumed]
    return join([
        _listed("Assumed or fitted", assumed, "sources"), _listed("Measured or published", rest, "sources"),
        tag("p", "No sources are recorded in these results.", class_="small") if not lines else None,
    ])  # fmt: skip


def _once(line: str) -> str:
    """A line of sources with each one named once.

    >>> _once("H100: a; b; a; c")
    'H100: a; b; c'
    """
    name, colon, told = line.partition(": ")
    return name + colon + "; ".join(dict.fromkeys(told.split("; ")))
