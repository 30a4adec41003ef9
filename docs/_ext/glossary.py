"""The glossary, from the table that the tests hold against the answers' fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).resolve().parents[1] / "glossary.yaml"


def entries() -> dict[str, list[dict[str, Any]]]:
    """Sections and their entries: term, unit, fields, meaning."""
    return yaml.safe_load(TABLE.read_text(encoding="utf-8"))


def page() -> str:
    """Markdown: one glossary a section."""
    parts = [
        "# Glossary\n",
        "Every figure and every engine setting once, with its unit and its name in JSON and CSV. Units inside are SI: s, B, FLOP, W, J;\n"
        "1 GB is $10^9$ B, 1 GiB is $2^{30}$ B; a multiply-add is two FLOP; peaks are dense; links count one direction.\n",
    ]
    for title, terms in entries().items():
        parts.append(f"## {title}\n\n```{{glossary}}")
        for entry in terms:
            parts.append(entry["term"])
            unit = "" if entry.get("unit", "-") == "-" else f" [{entry['unit']}]"
            names = [f"`{name}`" for name in entry.get("fields", ())]
            fields = f" Field{'s' if len(names) > 1 else ''}: {', '.join(names)}." if names else ""
            parts.append(f"  {' '.join(entry['meaning'].split())}{unit}{fields}\n")
        parts.append("```\n")
    return "\n".join(parts)
