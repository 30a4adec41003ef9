"""The answer of the decoding layer: decoding algorithms side by side on one deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infersim import units
from infersim.decoding.drafts import DraftRow, speculation_table
from infersim.decoding.method import MethodResult, decode_with, grammar_engine
from infersim.decoding.spec import STANDARD, DecodingMethod, DecodingSpec
from infersim.predict.estimate import Estimate
from infersim.serving.lengths import Lengths
from infersim.specs.library import validate


@dataclass(frozen=True)
class DecodingAnswer:
    """Decoding algorithms on one deployment, each in the closed loop of its users."""

    deployment: Estimate
    results: tuple[MethodResult, ...]
    drafts: tuple[DraftRow, ...] = ()

    def __getitem__(self, label: str) -> MethodResult:
        return next(one for one in self.results if one.method.label == label)

    @property
    def sources(self) -> list[str]:
        """What the figures rest on."""
        found = []
        if any(one.method.sampler.startswith("top_") for one in self.results):
            found.append(
                "samplers: fitted to tables of vLLM pull request 40376 within 34%; their GPU is not stated, 3.35 TB/s assumed"
            )
        if any(one.method.answers > 1 for one in self.results):
            found.append("answers of one request are independent; a judge that picks the best is not counted")
        for method in (one.method for one in self.results):
            if method.structured is not None:
                engine = grammar_engine(method)
                found += [f"{engine.name} {engine.version}: {one.ref} ({one.status})" for one in engine.sources]
            if method.speculation is not None and method.speculation.table is not None:
                table = method.speculation.table
                found += [
                    f"acceptance {table.name}, {table.measured}: {one.ref} ({one.status})" for one in table.sources
                ]
        for row in self.drafts:
            found += [
                f"acceptance {row.table.name}, {row.table.measured}: {one.ref} ({one.status})"
                for one in row.table.sources
            ]
        return list(dict.fromkeys(found + self.deployment.sources))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units."""
        rows = [one.to_dict() for one in self.results]
        figure = {key: [row[key] for row in rows] for key in ("method", "ttft_s", "tpot_s", "e2e_s", "usd_per_answer")}
        return {
            "deployment": self.deployment.describe(), "workload": self.deployment.workload.model_dump(), "methods": rows,
            "speculation": [row.to_dict() for row in self.drafts], "figure": figure, "sources": self.sources,
        }  # fmt: skip

    def __str__(self) -> str:
        workload = self.deployment.workload
        head = self.deployment.describe()
        lines = [head if len(head) <= 80 else head[:77] + "...",
                 f"{workload.input_tokens:,.0f} tokens in, {workload.concurrency:,.0f} users",
                 f"{'':<28} {'TTFT':>8} {'TPOT':>8} {'E2E':>8} {'KV tokens':>9} {'USD/1k answers':>14}"]  # fmt: skip
        for one in self.results:
            usd = "-" if one.usd is None else f"{1000 * one.usd:.3f}"
            label = one.method.label if len(one.method.label) <= 28 else one.method.label[:25] + "..."
            lines.append(f"{label:<28} {units.show(one.ttft, 's'):>8} {units.show(one.tpot, 's'):>8} "
                         f"{units.show(one.e2e, 's'):>8} {one.kv_tokens:>9,.0f} {usd:>14}")  # fmt: skip
        if self.drafts:
            lines.append(f"{'published acceptance':<44} {'drafts':>6} {'alone':>6} {'here':>6} {'pays to':>8}")
            for row in self.drafts:
                last = "1,024+" if row.break_even_batch is None else f"{row.break_even_batch - 1:,}"
                mark = "?" if row.status == "unverified" else ""
                lines.append(
                    f"{(row.table.name + mark)[:44]:<44} {row.drafts:>6} {row.alone:>6.2f} {row.here:>6.2f} {last:>8}"
                )
        return "\n".join(lines)


def compare(
    deployment: Estimate, methods: Sequence[DecodingMethod | Mapping[str, Any] | str] = STANDARD,
    output_tokens: Lengths | None = None,
) -> DecodingAnswer:  # fmt: skip
    """TTFT, TPOT, E2E, KV cache and cost of an answer by several decoding algorithms on one deployment.

    >>> from infersim import estimate
    >>> found = compare(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=16), ["greedy", {"beams": 4}])
    >>> found["beam search, width 4"].usd > 1.2 * found["greedy"].usd
    True
    """
    chosen = [one if isinstance(one, DecodingMethod) else validate(DecodingMethod, one) for one in methods]
    return DecodingAnswer(deployment, tuple(decode_with(deployment, one, output_tokens) for one in chosen))


def answer(spec: DecodingSpec | Mapping[str, Any], deployment: Estimate) -> DecodingAnswer:
    """The decoding algorithms of a spec on a deployment, and speculative decoding by published acceptance where it asks for that.

    >>> from infersim import estimate
    >>> found = answer({"methods": ["greedy", "top_p"]}, estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=16))
    >>> [one.method.label for one in found.results]
    ['greedy', 'top_p']
    """
    read = (
        spec
        if isinstance(spec, DecodingSpec)
        else validate(DecodingSpec, dict(spec) if isinstance(spec, Mapping) else spec)
    )
    compared = compare(deployment, read.methods, read.output_tokens)
    if not read.acceptance_tables:
        return compared
    tables = None if read.acceptance_tables == "matching" else read.acceptance_tables
    return DecodingAnswer(deployment, compared.results, tuple(speculation_table(deployment, tables)))
