"""The load test that would check a prediction on the real thing, the figures expected of it, and a verdict on its result."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infersim.errors import SpecError
from infersim.planning.handover.flags import load_flags
from infersim.planning.options import Option
from infersim.predict.estimate import Estimate
from infersim.serving.target import Limit

FLAGS = (
    "--backend", "--base-url", "--model", "--dataset-name", "--random-input-len", "--random-output-len", "--random-range-ratio",
    "--random-prefix-len", "--request-rate", "--max-concurrency", "--num-prompts", "--ignore-eos", "--percentile-metrics",
    "--metric-percentiles", "--goodput", "--seed", "--save-result", "--result-filename",
)  # fmt: skip
"""Flags of ``vllm bench serve`` (vLLM 0.33.0, vllm/benchmarks/serve.py and datasets.py) that are used here."""
RESULT = "infersim-check.json"
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Expected:
    """A figure of the test: the metric's name in the result file, its unit there, the prediction and its 90% interval."""

    key: str
    value: float
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "value": self.value,
            "interval_90": None if self.low is None else [self.low, self.high],
        }

    def __str__(self) -> str:
        interval = (
            f"   90%: {self.low:,.4g} to {self.high:,.4g}" if self.low is not None and self.high is not None else ""
        )
        return f"{self.key:<22} {self.value:>10,.4g}{interval}"


def bench_command(
    what: Estimate | Option, request_rate: float | None = None, limits: tuple[Limit, ...] = ()
) -> tuple[str, ...]:
    """``vllm bench serve`` for the workload that a prediction is of: lengths fixed at their means, Poisson arrivals at ``request_rate``
    or a closed loop of the deployment's concurrency. It speaks to any OpenAI-compatible server.

    >>> from infersim import estimate
    >>> words = bench_command(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", concurrency=16))
    >>> words[words.index("--max-concurrency") + 1], words[words.index("--num-prompts") + 1]
    ('16', '320')
    """
    one = what.deployment if isinstance(what, Option) else what
    rate = what.request_rate if isinstance(what, Option) and request_rate is None else request_rate
    work = one.workload
    shared, url = round(work.cached_tokens), f"http://localhost:{load_flags(one.machine.engine.name).port}"
    words = [
        "vllm", "bench", "serve", "--backend", "vllm", "--base-url", url, "--model", one.model.name,
        "--dataset-name", "random", "--random-input-len", str(round(work.input_tokens) - shared), "--random-output-len",
        str(round(work.output_tokens)), "--random-range-ratio", "0",
    ]  # fmt: skip
    if shared:
        words += ["--random-prefix-len", str(shared)]
    if rate is not None:
        words += ["--request-rate", f"{rate:g}", "--num-prompts", str(max(1000, math.ceil(60 * rate)))]
    else:
        users = round(work.concurrency)
        words += ["--max-concurrency", str(users), "--num-prompts", str(20 * max(users, 5))]
    words += [
        "--ignore-eos",
        "--percentile-metrics",
        "ttft,tpot,itl,e2el",
        "--metric-percentiles",
        ",".join(map(str, PERCENTILES)),
    ]
    goals = [
        f"{'e2el' if limit.metric == 'e2e' else limit.metric}:{limit.seconds * 1e3:g}"
        for limit in limits
        if limit.metric != "itl"
    ]
    if goals:
        words += ["--goodput", *dict.fromkeys(goals)]
    return (*words, "--seed", "0", "--save-result", "--result-filename", RESULT)


def bench_shell(words: tuple[str, ...]) -> str:
    """The command as a shell takes it."""
    lines: list[str] = []
    for word in words:
        quoted = shlex.quote(word)
        if word.startswith("--") or not lines:
            lines.append(quoted)
        else:
            lines[-1] += f" {quoted}"
    return " \\\n    ".join(lines)


def expected_figures(what: Estimate | Option) -> list[Expected]:
    """What the result file should hold: means with their intervals, and percentiles where the option was simulated."""
    found = []
    for metric in ("ttft", "tpot"):
        mean = float(getattr(what, metric))
        if mean <= 0:
            continue
        bounds = what.interval(metric, 90)
        low, high = (
            (None, None) if bounds is None else (bounds.low, bounds.high) if not isinstance(bounds, tuple) else bounds
        )
        scaled = [None if bound is None else bound * 1e3 for bound in (low, high)]
        found.append(Expected(f"mean_{metric}_ms", mean * 1e3, *scaled))
    if isinstance(what, Option):
        if what.verified is not None:
            run = what.verified.settled()
            for metric in ("ttft", "tpot"):
                for percent in PERCENTILES:
                    at, mean = run.percentile(metric, percent), run.mean(metric)
                    bounds = what.interval(metric, 90)
                    wide = (
                        (None, None)
                        if bounds is None or not mean
                        else tuple(at * bound / mean * 1e3 for bound in bounds)
                    )
                    found.append(Expected(f"p{percent}_{metric}_ms", at * 1e3, *wide))
        found.append(Expected("request_throughput", what.request_rate))
    else:
        found.append(Expected("request_throughput", what.requests_per_second))
    return found


@dataclass(frozen=True)
class Verdict:
    """A measured figure beside the expected one."""

    expected: Expected
    measured: float

    @property
    def inside(self) -> bool | None:
        """Whether it lies in the 90% interval; None where there is none."""
        if self.expected.low is None or self.expected.high is None:
            return None
        return self.expected.low <= self.measured <= self.expected.high

    def to_dict(self) -> dict[str, Any]:
        """Plain values; units are those of the key, which is vLLM's."""
        return self.expected.to_dict() | {"measured": self.measured, "inside": self.inside}

    def __str__(self) -> str:
        word = {True: "inside", False: "OUTSIDE", None: ""}[self.inside]
        off = self.measured / self.expected.value - 1 if self.expected.value else math.nan
        return f"{self.expected.key:<22} {self.expected.value:>10,.4g} {self.measured:>10,.4g} {off:>+8.1%}  {word}"


def check_result(path: str | Path, expected: list[Expected]) -> list[Verdict]:
    """The figures of a saved result (``--save-result``) beside those expected. SpecError for a file that is none."""
    file = Path(path)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SpecError(f"is not the result of `vllm bench serve --save-result`: {error}", file=file) from error
    if not isinstance(data, dict):
        raise SpecError("is not the result of `vllm bench serve --save-result`: one object is expected", file=file)
    found = [
        Verdict(figure, float(data[figure.key])) for figure in expected
        if isinstance(data.get(figure.key), (int, float)) and not isinstance(data.get(figure.key), bool)
    ]  # fmt: skip
    if not found:
        wanted = ", ".join(figure.key for figure in expected[:3])
        raise SpecError(f"holds none of the figures that are expected ({wanted} ...)", file=file)
    return found
