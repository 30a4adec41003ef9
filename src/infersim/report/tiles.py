"""The figures of an answer that a reader asks for first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infersim.report.results import Case
from infersim.report.words import Answer, limit, memory, money, number, seconds, span, token_word


@dataclass(frozen=True)
class Tile:
    """One figure of an answer with what it means and how sure it is."""

    name: str
    value: str
    unit: str = ""
    note: str = ""
    state: str = ""
    """``good`` or ``bad`` where a target judges it."""


def split(shown: str) -> tuple[str, str]:
    """A quantity as its number and its unit.

    >>> split("148 ms"), split("–")
    (('148', 'ms'), ('–', ''))
    """
    value, _, unit = shown.partition(" ")
    return value, unit


def tiles(case: Case) -> list[Tile]:
    """The figures of a case that a reader asks for first."""
    if case.answer is None:
        return []
    told = {"estimate": _estimate_tiles, "simulate": _simulate_tiles, "plan": _plan_tiles, "cost": _cost_tiles}
    return told[case.question](case.answer) if case.question in told else []


def _estimate_tiles(answer: Answer) -> list[Tile]:
    if not answer["fits"]:
        return [Tile("Short per GPU", *split(memory(answer["memory"]["shortfall_bytes"])), state="bad")]
    target, missed, generates = answer["target"], answer["missed_targets"], bool(answer["tpot_s"])
    found = []
    for metric, name in (
        ("ttft", "Time to first token" if generates else "Latency"),
        ("tpot", "Time per output token"),
    ):
        if answer[f"{metric}_s"]:
            state = ("bad" if metric in missed else "good") if f"{metric}_s" in target else ""
            note = _interval_note(answer, metric, target)
            found.append(Tile(name, *split(seconds(answer[f"{metric}_s"])), note, state))
    if generates:
        note = f"{number(answer['output_tokens_per_s_per_gpu'])} output tokens/s per GPU"
    else:
        note = f"{number(answer['total_tokens_per_s'] / answer['devices'])} tokens/s per GPU"
    found.append(Tile("Throughput", number(answer["requests_per_s"]), "requests/s", note))
    kind = "output" if generates else "input"
    price = answer[f"cost_per_million_{kind}_tokens_usd"]
    if price is not None:
        rent = f"at {money(answer['price_per_gpu_hour_usd'])} USD per GPU and hour"
        found.append(Tile("Cost", money(price), "USD", f"per million {kind} tokens, {rent}"))
    most = answer["memory"]["max_sequences"]
    fit = f"of {number(most)} that fit at full length" if most is not None else "none of which keeps a cache"
    return [*found, Tile("Running sequences", f"{answer['running_sequences']:,.0f}", "", fit)]


def _interval_note(answer: Answer, metric: str, target: Mapping[str, float]) -> str:
    interval = answer.get(f"{metric}_interval_90_s")
    told = [f"90% interval {span(interval)}"] if interval else []
    if f"{metric}_s" in target:
        told.append(f"target {seconds(target[f'{metric}_s'])}")
    return "; ".join(told)


def _simulate_tiles(answer: Answer) -> list[Tile]:
    found = []
    for metric, name in (("ttft", "Time to first token, p95"), ("tpot", "Time per output token, p95")):
        value = answer[f"{metric}_p95_s"]
        if value is not None:
            found.append(
                Tile(
                    name,
                    *split(seconds(value)),
                    f"median {seconds(answer[f'{metric}_p50_s'])}, p99 {seconds(answer[f'{metric}_p99_s'])}",
                )
            )
    per_gpu = f"{number(answer['output_tokens_per_s_per_gpu'])} output tokens/s per GPU"
    found.append(Tile("Throughput", number(answer["requests_per_s"]), "requests/s", per_gpu))
    if answer["goodput_requests_per_s"] is not None:
        found.append(
            Tile("Goodput", number(answer["goodput_requests_per_s"]), "requests/s", "that meet every target themselves")
        )
    return found


def _plan_tiles(answer: Answer) -> list[Tile]:
    best = answer["options"][0]
    found = [
        Tile("GPUs", f"{best['devices']}", f"× {best['gpu']}", f"{best['utilisation']:.0%} of their capacity used")
    ]
    if best["cost_per_hour_usd"] is not None:
        found.append(
            Tile(
                "Cost",
                money(best["cost_per_hour_usd"]),
                "USD/h",
                f"{money(best['cost_per_million_tokens_usd'])} USD per million {token_word(best)}",
            )
        )
    simulated, target = best["simulated"] or {}, answer["question"].get("target") or {}
    for metric, name in (("ttft", "Time to first token"), ("tpot", "Time per output token")):
        limited = next((key for key in target if key.startswith(metric) and key in simulated), None)
        if limited:
            state = "good" if simulated[limited] <= target[limited] else "bad"
            note = (
                f"{limit(limited)} of {simulated['requests']:,} simulated requests; target {seconds(target[limited])}"
            )
            found.append(Tile(name, *split(seconds(simulated[limited])), note, state))
        elif best[f"{metric}_s"]:
            interval = best[f"{metric}_interval_90_s"]
            found.append(
                Tile(
                    name,
                    *split(seconds(best[f"{metric}_s"])),
                    f"mean; 90% interval {span(interval)}" if interval else "mean",
                )
            )
    return found


def _cost_tiles(answer: Answer) -> list[Tile]:
    found = [
        Tile(
            "Cost",
            money(answer["per_year_usd"]),
            "USD a year",
            f"{money(answer['per_device_hour_usd'])} USD per GPU and hour",
        )
    ]
    if answer["per_million_output_tokens_usd"] is not None:
        found.append(Tile("Output tokens", money(answer["per_million_output_tokens_usd"]), "USD", "per million"))
    cached = f"per million; {money(answer['per_million_cached_input_tokens_usd'])} where cached"
    found.append(Tile("Input tokens", money(answer["per_million_input_tokens_usd"]), "USD", cached))
    energy = number(answer["energy_kwh_per_year"])
    found.append(Tile("Energy", number(answer["energy_per_token_j"]), "J", f"per token; {energy} kWh a year"))
    return [*found, Tile("Carbon", number(answer["carbon_t_per_year"]), "t", "CO2 equivalent a year")]
