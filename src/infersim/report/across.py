"""Figures over several cases, and all figures of a report."""

from __future__ import annotations

from functools import partial

from infersim.report.figures.accuracy import predicted_against_measured
from infersim.report.figures.load import simulated_latency
from infersim.report.figures.steps import step_comparison
from infersim.report.markup import slug
from infersim.report.pictures import STEPS, case_pictures
from infersim.report.results import Case, Results
from infersim.report.svg import Picture
from infersim.report.sweep import sweep_pictures
from infersim.report.words import seconds

MOST = 12
"""Cases drawn side by side."""


def all_pictures(results: Results) -> dict[str, list[Picture]]:
    """Every figure of a report by section: ``compare``, each case by its anchor (all of the first's), ``sweep``, ``accuracy``."""
    found = {"compare": _steps(results) + _rates(results)}
    for place, case in enumerate(results.cases):
        found[anchor(case, place)] = case_pictures(case, anchor(case, place), brief=place > 0)
    found["sweep"] = sweep_pictures(results.sweep) if results.sweep is not None else []
    return found | {"accuracy": _accuracy(results)}


def anchor(case: Case, place: int) -> str:
    """The name of a case in links and files; the place keeps equal names apart."""
    return f"case-{place + 1}-{slug(case.name)}"


def judged_on(results: Results) -> tuple[str, str] | None:
    """GPU and engine of the first case that is a prediction and not a limit; None where there is none."""
    for case in results.answered:
        found = case.answer if case.question == "estimate" else case.evidence.get("estimate")
        if found and found["mode"] == "calibrated":
            return found["accelerator"], found["engine"]
    return None


def _steps(results: Results) -> list[Picture]:
    """The steps of all cases that fit, side by side; of the first MOST where there are more."""
    found = []
    fitting = {case.name: case.answer for case in results.of("estimate") if case.answer and case.answer["fits"]}
    for step in STEPS:
        shown = {name: answer for name, answer in fitting.items() if answer.get(f"{step}_step")}
        if len(shown) < 2:
            continue
        ranked = sorted(shown, key=lambda name: float(fitting[name][f"{step}_step"]["seconds"]))
        best, worst = (
            f"{name} with {seconds(fitting[name][f'{step}_step']['seconds'])}" for name in (ranked[0], ranked[-1])
        )
        left = f" The first {MOST} cases are drawn." if len(shown) > MOST else ""
        found.append(
            Picture(
                f"compare-{step}",
                f"The {step} step of every case",
                f"Stacked bars of what each case's {step} step waits for.",
                f"The shortest {step} step is that of {best}, the longest that of {worst}.{left}",
                partial(step_comparison, {_short(name): shown[name] for name in list(shown)[:MOST]}, step=step),
                min(0.45 + 0.14 * len(shown), 2.2),
            )
        )
    return found


def _rates(results: Results) -> list[Picture]:
    """Percentiles over the rate, where runs of one deployment differ in it."""
    runs = [case.answer for case in results.of("simulate") if case.answer]
    rates = {run["requests_per_s"] for run in runs if not run["unstable"]}
    if len(rates) < 2 or len({run["deployment"] for run in runs}) > 1:
        return []
    return [
        Picture(
            f"compare-{metric}",
            f"{metric.upper()} against load",
            f"Lines: percentiles of {metric.upper()} over requests per second.",
            "One point per simulated case of the same deployment.",
            partial(simulated_latency, runs, metric=metric),
        )
        for metric in ("ttft", "tpot")
    ]


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _accuracy(results: Results) -> list[Picture]:
    """Predicted against measured for the GPU and engine of the first case, on points that no fit saw; none where none are known."""
    from infersim.calibrate.measurements import judges
    from infersim.validate.comparison import error_table
    from infersim.validate.serving import compare_serving, shipped_serving_points

    where = judged_on(results)
    if where is None:
        return []
    device, engine = where
    points = [one for one in shipped_serving_points() if one.device == device and one.engine == engine and judges(one)]
    rows = compare_serving(points, naive=False)
    answered = [row for row in rows if row.predicted is not None]
    if not answered:
        return []
    told = "; ".join(
        f"{line.group[0].upper()} {line.median:.0%} off at the median, {line.p90:.0%} at the 90th percentile"
        for line in error_table(answered, ("metric",), worst_first=False)
    )
    refused = f" {len(rows) - len(answered)} figures were not answered." if len(rows) > len(answered) else ""
    return [
        Picture(
            "accuracy",
            f"Predicted against measured on {device}",
            "Dots: predicted over measured latencies.",
            f"{len(points)} measured serving points of {device} under {engine} that no fit saw, all models: {told}.{refused}",
            partial(predicted_against_measured, answered),
        )
    ]
