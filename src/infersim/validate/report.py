"""A report of predicted against measured: tables and plots in one self-contained HTML file, or Markdown with pictures beside it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from infersim._version import __version__
from infersim.files import replace_file, safe_file_name
from infersim.validate.comparison import Comparison, ErrorLine, error_line, error_table, refusals

TITLES = {"kernels": "Kernels", "serving": "Serving points"}
TABLES: Mapping[str, Sequence[tuple[str, ...]]] = {
    "kernels": (("kind",), ("kind", "device"), ("kind", "engine"), ("kind", "format"), ("kind", "regime")),
    "serving": (("metric", "kind"), ("metric", "kind", "engine"), ("metric", "model", "device", "engine"), ("metric", "load"),
                ("metric", "parallelism"), ("metric", "protocol")),
}  # fmt: skip
PANELS = {"kernels": "kind", "serving": "metric"}
METHOD = (
    "Errors are |predicted / measured - 1|. Kernel parameters, engine overheads and intervals were fitted on rows chosen by a fixed "
    "hash; only the other rows count here. Kernel rows are a sample drawn by hash unless --all was given. The naive roofline is the "
    "larger of FLOP / peak and bytes / bandwidth of the data sheet; for serving points it is the physical limit (bound mode)."
)
SOURCES = "Measurements: aiconfigurator-core (NVIDIA, Apache-2.0), which holds runs of SemiAnalysis InferenceX and NVIDIA's own."
STYLE = """
:root { color-scheme: light dark } body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto } th, td { padding: .2rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left } thead { border-bottom: 1px solid } tbody tr:nth-child(even) { background: #8881 }
figure { margin: 1rem 0 } figcaption { opacity: .7; font-size: .9em }
img { max-width: 100%; background: #fff; border-radius: 6px } .dim { opacity: .7 }
"""


POINTS = 20_000
"""Points drawn in one panel of a scatter plot at most, evenly spaced through the rows."""


def write_report(path: Path, sections: Mapping[str, Sequence[Comparison]]) -> None:
    """Write the comparisons of each section to ``path`` (.html or .md); every file appears whole or not at all."""
    page = _html(sections) if path.suffix.lower() == ".html" else _markdown(path, sections)
    _put(path, page.encode())


def _put(path: Path, content: bytes) -> None:
    replace_file(path, lambda part: part.write_bytes(content))


def headline(name: str, comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence on each kernel kind together, or on each metric of serving points.

    >>> headline("serving", [Comparison({"metric": "tpot"}, 1.0, 1.1, 0.5), Comparison({"metric": "tpot"}, 1.0, None)])
    ['tpot: off by 10.0% at the median, 10.0% on average, 10.0% at the 90th percentile; 50.0% of 2 rows answered; naive roofline 50.0%']
    """
    lines = [error_line(("all kernels",), comparisons)] if name == "kernels" else error_table(comparisons, ("metric",))
    return [
        f"{line.group[0]}: off by {line.median:.1%} at the median, {line.mean:.1%} on average, {line.p90:.1%} at the 90th percentile; "
        f"{line.answered:.1%} of {line.rows:,} rows answered; naive roofline {line.naive_mean:.1%}"
        for line in lines
    ]


def pictures(name: str, comparisons: Sequence[Comparison]) -> dict[str, bytes]:
    """The plots of a section, as PNG by caption."""
    return {
        f"Measured against predicted: infersim blue, naive roofline red, dotted 20% off; at most {POINTS:,} points a panel": scatter(
            comparisons, PANELS[name]
        ),
        "Share of rows whose error is at most so large: infersim blue, naive roofline red": distribution(
            comparisons, PANELS[name]
        ),
    }


def _columns(lines: Sequence[ErrorLine]) -> list[tuple[str, Any]]:
    """Names of the figures that any line has, and how each is shown."""

    def share(value: float | None) -> str:
        return "-" if value is None or np.isnan(value) else f"{value:.1%}"

    columns: list[tuple[str, Any]] = [
        ("rows", lambda line: f"{line.rows:,}"), ("answered", lambda line: share(line.answered)),
        ("median", lambda line: share(line.median)), ("mean", lambda line: share(line.mean)), ("p90", lambda line: share(line.p90)),
        ("bias", lambda line: "-" if np.isnan(line.bias) else f"{line.bias:+.1%}"),
        ("form alone", lambda line: share(line.physical_mean)), ("naive roofline", lambda line: share(line.naive_mean)),
        ("in 50% interval", lambda line: share(line.covered.get(50))), ("in 90% interval", lambda line: share(line.covered.get(90))),
    ]  # fmt: skip
    return [(name, show) for name, show in columns if any(show(line) != "-" for line in lines)]


def _html(sections: Mapping[str, Sequence[Comparison]]) -> str:
    head = "<meta charset=utf-8><meta name=viewport content='width=device-width'><title>infersim accuracy</title>"
    parts = [
        f"<!doctype html><html lang=en>{head}<style>{STYLE}</style>",
        f"<h1>infersim {__version__}: predicted against measured</h1><p class=dim>{datetime.now(UTC).date().isoformat()}</p>",
        f"<p>{html.escape(METHOD)}</p><p>{html.escape(SOURCES)}</p>",
    ]
    for name, found in sections.items():
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in headline(name, found))
        parts.append(f"<h2>{TITLES[name]}</h2><ul>{said}</ul>")
        for caption, picture in pictures(name, found).items():
            data = base64.b64encode(picture).decode()
            words = html.escape(caption)
            parts.append(
                f"<figure><img alt='{words}' src='data:image/png;base64,{data}'><figcaption>{words}</figcaption></figure>"
            )
        for by in TABLES[name]:
            lines = error_table(found, by)
            columns = _columns(lines)
            parts.append(f"<h3>By {html.escape(', '.join(by))}, worst first</h3><table><thead><tr>")
            parts += [f"<th>{html.escape(title)}</th>" for title in (" / ".join(by), *(title for title, _ in columns))]
            parts.append("</tr></thead><tbody>")
            for line in lines:
                cells = (" / ".join(line.group), *(show(line) for _, show in columns))
                parts.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
            parts.append("</tbody></table>")
        refused = refusals(found)
        if refused:
            items = "".join(f"<li>{count:,}: {html.escape(reason)}</li>" for reason, count in refused.most_common())
            parts.append(f"<h3>Not answered</h3><ul>{items}</ul>")
    return "\n".join([*parts, "</html>", ""])


def _markdown(path: Path, sections: Mapping[str, Sequence[Comparison]]) -> str:
    parts = [
        f"# infersim {__version__}: predicted against measured",
        datetime.now(UTC).date().isoformat(),
        METHOD,
        SOURCES,
    ]
    for name, found in sections.items():
        parts += [f"## {TITLES[name]}", "\n".join(f"- {sentence}" for sentence in headline(name, found))]
        for (caption, content), ending in zip(pictures(name, found).items(), ("scatter", "errors"), strict=True):
            picture = path.with_name(safe_file_name(f"{path.stem}-{name}-{ending}.png"))
            _put(picture, content)
            parts.append(f"![{caption}]({picture.name})")
        for by in TABLES[name]:
            lines = error_table(found, by)
            columns = _columns(lines)
            table = [
                "| " + " | ".join((" / ".join(by), *(title for title, _ in columns))) + " |",
                "|---" + "|---:" * len(columns) + "|",
            ]
            table += [
                "| " + " | ".join((" / ".join(line.group), *(show(line) for _, show in columns))) + " |"
                for line in lines
            ]
            parts += [f"### By {', '.join(by)}, worst first", "\n".join(table)]
        refused = refusals(found)
        if refused:
            parts += [
                "### Not answered",
                "\n".join(f"- {count:,}: {reason}" for reason, count in refused.most_common()),
            ]
    return "\n\n".join([*parts, ""])


def _panels(comparisons: Sequence[Comparison], label: str) -> tuple[Any, list[tuple[Any, list[Comparison]]]]:
    """A figure with one panel per value of a label, and what was answered in each."""
    from matplotlib.figure import Figure

    answered = [one for one in comparisons if one.predicted is not None]
    names = sorted({one.labels[label] for one in answered}) or ["nothing answered"]
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(4.2 * across, 3.8 * down), layout="constrained")
    axes = np.atleast_1d(figure.subplots(down, across)).ravel()
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    panels = []
    for axis, name in zip(axes, names, strict=False):
        axis.set_title(name)
        panels.append((axis, [one for one in answered if one.labels[label] == name]))
    return figure, panels


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _columns_of(comparisons: Sequence[Comparison]) -> tuple[Any, Any, Any]:
    """Measured, predicted and naive seconds; NaN where there is no naive figure."""
    naive = [np.nan if one.naive is None else one.naive for one in comparisons]
    return (
        np.array([one.measured for one in comparisons]),
        np.array([one.predicted for one in comparisons]),
        np.array(naive),
    )


def scatter(comparisons: Sequence[Comparison], label: str) -> bytes:
    """Measured against predicted, one panel per value of ``label``, with lines at a factor of 1.2: a PNG."""
    figure, panels = _panels(comparisons, label)
    for axis, own in panels:
        axis.set(xlabel="measured [s]", ylabel="predicted [s]")
        if not own:
            continue
        measured, predicted, naive = _columns_of(own[:: len(own) // POINTS + 1])
        axis.loglog(measured, naive, ",", color="#c44", alpha=0.4, rasterized=True)
        axis.loglog(measured, predicted, ".", markersize=2, color="#246", alpha=0.5, rasterized=True)
        ends = np.array([measured.min(), measured.max()])
        for factor, style in ((1.0, "-"), (1.2, ":"), (1 / 1.2, ":")):
            axis.plot(ends, factor * ends, style, color="0.5", linewidth=0.8)
    return _png(figure)


def distribution(comparisons: Sequence[Comparison], label: str) -> bytes:
    """Share of rows with at most that absolute error, one panel per value of ``label``, ours and the naive roofline's: a PNG."""
    figure, panels = _panels(comparisons, label)
    shares = np.linspace(0.0, 1.0, 201)
    for axis, own in panels:
        axis.set(
            xlabel="|predicted / measured - 1|",
            ylabel="share of rows",
            xscale="log",
            xlim=(1e-3, 10.0),
            ylim=(0.0, 1.0),
        )
        if not own:
            continue
        measured, predicted, naive = _columns_of(own)
        for times, colour in ((predicted, "#246"), (naive, "#c44")):
            known = ~np.isnan(times)
            if known.any():
                axis.plot(np.quantile(np.abs(times[known] / measured[known] - 1), shares), shares, color=colour)
        axis.grid(alpha=0.3)
    return _png(figure)
