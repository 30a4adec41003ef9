"""The answer of each layer around the engine in a sentence or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infersim.report.words import memory, money, number, seconds

Told = Mapping[str, Any]


def decoding(answer: Told) -> str:
    """The first method, and what the dearest of the others costs beside it."""
    first, *others = answer["methods"]
    told = f"With {first['method']} decoding an answer takes {seconds(first['e2e_s'])}"
    if first["usd_per_answer"] is None:
        return f"{told}."
    told += f" and costs {money(first['usd_per_answer'])} USD."
    if not others:
        return told
    most, least = (pick(others, key=lambda row: row["usd_per_answer"]) for pick in (max, min))
    apart = [f"{row['method']} {row['usd_per_answer'] / first['usd_per_answer']:.2g} times" for row in (least, most)]
    return f"{told} Of the others {' as much, '.join(dict.fromkeys(apart))} as much."


def prompts(answer: Told) -> str:
    """Hits and TTFT as the prompt stands and in the best order."""
    now, best = answer["now"], answer["best"]
    told = f"As it stands {now['hit_rate']:.0%} of the prompt's tokens are found in the cache"
    told += f", in the best order ({', '.join(best['order'])}) {best['hit_rate']:.0%}"
    if None in (now["ttft_s"], best["ttft_s"]):
        return f"{told}."
    return f"{told}: the first token comes after {seconds(best['ttft_s'])} in place of {seconds(now['ttft_s'])}."


def quantisation(answer: Told) -> str:
    """The fastest format, and what it takes."""
    rows = [row for row in answer["schemes"] if row["runs"] and row.get("decode_speedup")]
    if not rows:
        return "None of the number formats runs here."
    best = max(rows, key=lambda row: row["decode_speedup"])
    return (
        f"{best['scheme']} decodes fastest: {best['decode_speedup']:.2f} times as fast as {answer['checkpoint']}, with weights of "
        f"{memory(best['weights_bytes'])} on a GPU. What it does to answers is for your own evaluation to say."
    )


def adapters(answer: Told) -> str:
    """What many adapters cost in speed and room."""
    return (
        f"With {answer['resident']:,} of {answer['adapters']:,} adapters on the device {answer['hit_rate']:.0%} of requests find theirs; "
        f"a token takes {seconds(answer['tpot_s'])} in place of {seconds(answer['base_tpot_s'])}, and {number(answer['max_sequences'])} "
        f"requests fit in place of {number(answer['base_max_sequences'])}."
    )


def agents(answer: Told) -> str:
    """What a task takes and costs, and how often it succeeds."""
    time, usd = answer["elapsed_s"], answer["usd"]
    told = f"A task takes {seconds(time['mean'])} on average, one in twenty more than {seconds(time['p95'])}"
    if usd["mean"]:
        told += f", and costs {money(usd['mean'])} USD"
    return f"{told}; {answer['ends']['success']:.1%} of tasks succeed."


def retrieval(answer: Told) -> str:
    """Time of a query, memory of the index, and the month."""
    told = f"A query takes {seconds(answer['latency_s'])}; the index of {number(answer['vectors'])} vectors takes "
    told += memory(answer["memory_bytes"])
    month = answer["usd_per_month"]
    return told + (f" and everything together {money(month)} USD a month." if month is not None else ".")


def rag(answer: Told) -> str:
    """TTFT, what holds the rate, and the month."""
    told = f"The first word comes after {seconds(answer['ttft_s'])} on average, 95% within {seconds(answer['ttft_p95_s'])}; "
    told += f"{answer['slowest_stage']} takes the most of it"
    month = answer["usd_per_month"]
    return told + (f". That costs {money(month)} USD a month." if month is not None else ".")


def decide(answer: Told) -> str:
    """The cheapest way, and where that changes."""
    if answer["best"] is None:
        return f"{answer['title']}: no way stays within its limits."
    way = next(row for row in answer["ways"] if row["name"] == answer["best"])
    over, per = answer["over"].replace("_", " "), answer["usd_are_per"]
    told = f"{answer['best']} is the cheapest, with {money(way['usd_per_query'])} USD a {per} at {number(answer['your_value'])} {over}."
    found = answer["break_evens"]
    if not found:
        return f"{told} It stays so over the whole range of {over}."
    point = min(found, key=lambda one: abs(one["value"] - answer["your_value"]))
    return f"{told} The nearest change is at {number(point['value'])} {over}: {point['below']} below, {point['above']} above."
