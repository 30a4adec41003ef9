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
from infersim.validate.comparison import Comparison, ErrorLine, error_table, refusals

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
img { max-width: 100%; background: #fff; border-radius: 6px } .dim { opacity: .7 }
"""


def write_report(path: Path, sections: Mapping[str, Sequence[Comparison]]) -> None:
    """Write the comparisons of each section to ``path`` (.html or .md); the file appears whole or not at all."""
    page = _html(sections) if path.suffix.lower() == ".html" else _markdown(path, sections)
    part = path.with_name(path.name + ".part")
    part.write_text(page, encoding="utf-8")
    part.replace(path)


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
        picture = base64.b64encode(scatter(found, PANELS[name])).decode()
        parts.append(
            f"<h2>{TITLES[name]}</h2><img alt='predicted against measured' src='data:image/png;base64,{picture}'>"
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
        picture = path.with_name(f"{path.stem}-{name}.png")
        picture.write_bytes(scatter(found, PANELS[name]))
        parts += [f"## {TITLES[name]}", f"![predicted against measured]({picture.name})"]
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


def scatter(comparisons: Sequence[Comparison], panel: str) -> bytes:
    """Measured against predicted, one panel per value of the label ``panel``, with lines at a factor of 1.2: a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    answered = [one for one in comparisons if one.predicted is not None]
    names = sorted({one.labels[panel] for one in answered}) or ["nothing answered"]
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(4.2 * across, 3.8 * down), layout="constrained")
    axes = np.atleast_1d(figure.subplots(down, across)).ravel()
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes, names, strict=False):
        own = [one for one in answered if one.labels[panel] == name]
        measured, predicted = (
            np.array([one.measured for one in own]),
            np.array([one.predicted for one in own], dtype=float),
        )
        if len(own):
            naive = np.array([one.naive or np.nan for one in own])
            axis.loglog(measured, naive, ",", color="#c44", alpha=0.4, rasterized=True)
            axis.loglog(measured, predicted, ".", markersize=2, color="#246", alpha=0.5, rasterized=True)
            ends = np.array([measured.min(), measured.max()])
            for factor, style in ((1.0, "-"), (1.2, ":"), (1 / 1.2, ":")):
                axis.plot(ends, factor * ends, style, color="0.5", linewidth=0.8)
        axis.set(title=name, xlabel="measured [s]", ylabel="predicted [s]")
    figure.suptitle("blue: infersim; red: naive roofline; dotted: 20% off", fontsize=9)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
