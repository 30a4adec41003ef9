"""Read measured serving points from the aiconfigurator-core package's sample.

The sample names model, GPU, engine, image, date and load. What else is known about its runs (speculative decoding, engine
settings, protocol) comes from rules with evidence in ``measurements/inferencex.yaml``. Most runs are listed two or three
times, and the columns of their parallelism disagree; the row's name carries the degrees that were asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infersim.calibrate.measurements import Reading, ServingPoint
from infersim.errors import SpecError
from infersim.specs.deployment import EngineKnobs, Parallelism
from infersim.specs.library import measurement_file, read_yaml

DEVICES = {
    "h100_sxm": "H100-SXM", "h200_sxm": "H200-SXM", "b200_sxm": "B200-SXM", "b300_sxm": "B300-SXM", "gb200": "GB200",
    "gb300": "GB300",
}  # fmt: skip
NODE = (1, 2, 4, 8)
"""Tensor-parallel degrees of a deployment in one node; other figures are sums over the pools of a disaggregated one."""

MODELS: Mapping[tuple[str, str], tuple[str, str | None]] = {
    ("deepseek-ai/DeepSeek-R1", "fp4"): ("deepseek-ai/DeepSeek-R1", "nvfp4"),
    ("nvidia/DeepSeek-R1-NVFP4", "fp4"): ("deepseek-ai/DeepSeek-R1", "nvfp4"),
    ("nvidia/DeepSeek-V3.1-NVFP4", "fp4"): ("nvidia/DeepSeek-V3.1-NVFP4", None),
    ("deepseek-ai/DeepSeek-R1", "fp8"): ("deepseek-ai/DeepSeek-R1", None),
    ("MiniMaxAI/MiniMax-M2.5", "fp4"): ("nvidia/MiniMax-M2.5-NVFP4", None),
    ("MiniMaxAI/MiniMax-M2.5", "fp8"): ("MiniMaxAI/MiniMax-M2.5", None),
    ("moonshotai/Kimi-K2.5", "fp4"): ("nvidia/Kimi-K2.5-NVFP4", None),
    ("moonshotai/Kimi-K2.5", "int4"): ("moonshotai/Kimi-K2.5", None),
    ("Qwen/Qwen3.5-397B-A17B", "fp4"): ("nvidia/Qwen3.5-397B-A17B-NVFP4", None),
    ("Qwen/Qwen3.5-397B-A17B", "fp8"): ("Qwen/Qwen3.5-397B-A17B", "fp8_block"),
    ("Qwen/Qwen3.5-397B-A17B", "bf16"): ("Qwen/Qwen3.5-397B-A17B", None),
    ("zhipuai/GLM-5", "fp4"): ("nvidia/GLM-5-NVFP4", None),
    ("zhipuai/GLM-5", "fp8"): ("zai-org/GLM-5-FP8", None),
    ("openai/gpt-oss-120b", "fp4"): ("openai/gpt-oss-120b", None),
    ("openai/gpt-oss-120b", "fp8"): ("openai/gpt-oss-120b", None),
    ("Qwen/Qwen3-235B-A22B-FP8", "fp8"): ("Qwen/Qwen3-235B-A22B-FP8", None),
    ("meta-llama/Llama-3.1-70B", "fp8"): ("meta-llama/Llama-3.1-70B", "fp8"),
    ("meta-llama/Llama-3.1-70B", "fp4"): ("meta-llama/Llama-3.1-70B", "nvfp4"),
    ("Qwen/Qwen3-32B", ""): ("Qwen/Qwen3-32B", None),
    ("Qwen/Qwen3-32B", "fp8"): ("Qwen/Qwen3-32B", "fp8"),
    ("Qwen/Qwen3-32B", "fp4"): ("Qwen/Qwen3-32B", "nvfp4"),
    ("nvidia/Qwen3-32B-NVFP4", "fp4"): ("Qwen/Qwen3-32B", "nvfp4"),
    ("meta-llama/Llama-3.1-8B-Instruct", ""): ("meta-llama/Llama-3.1-8B-Instruct", None),
    ("meta-llama/Llama-3.1-8B-Instruct", "fp8"): ("meta-llama/Llama-3.1-8B-Instruct", "fp8_block"),
    ("nvidia/Llama-3.1-8B-Instruct-FP8", "fp8"): ("meta-llama/Llama-3.1-8B-Instruct", "fp8"),
}
"""Model and precision as the sample states them, to a bundled model and a scheme (None: the checkpoint's own formats)."""

SAME_RUNS = {"deepseek-ai/DeepSeek-V3": "deepseek-ai/DeepSeek-R1"}
"""InferenceX runs DeepSeek-R1 (keys dsr1-*); part of the sample calls the same measurements DeepSeek-V3."""


def read_silicon_points(path: Path | None = None) -> Reading:
    """Every aggregated point of the sample once, with what is known about it; disaggregated ones are counted only.

    Raises SpecError where the package is not installed or the file lacks a column.
    """
    import pandas

    from infersim.calibrate.silicon_more import data_folder

    file = path or data_folder().parent / "silicon_sample.csv"
    try:
        frame = pandas.read_csv(file, dtype=str, keep_default_na=False)
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=file) from error
    missing = {"id", "silicon_data_source", "model_path", "silicon_ttft_ms", "silicon_tpot_ms"} - set(frame.columns)
    if missing:
        raise SpecError(f"has no column {', '.join(sorted(missing))}", file=file)
    rules, left = read_yaml(measurement_file("inferencex.yaml")), Counter[str]()
    rows = frame.to_dict("records")
    plain = {_figures(row) for row in rows if row["silicon_data_source"].startswith("db-dump")}
    best: dict[Any, dict[str, str]] = {}
    for row in rows:
        if row["mode"] != "agg":
            left["disaggregated deployment"] += 1
            continue
        key = (_figures(row), row["isl"], row["osl"], row["system"])
        if key in best:
            left["the same measurement under another name"] += 1
        if key not in best or _told(row) > _told(best[key]):
            best[key] = row
    points = []
    for row in best.values():
        point = _point(row, rules, _figures(row) in plain)
        if isinstance(point, str):
            left[point] += 1
        else:
            points.append(point)
    return Reading(points=tuple(points), left_out=dict(left))


def write_shipped_points(path: Path) -> Reading:
    """Write every usable point of the installed package to ``path``, in the order of their names."""
    from infersim.calibrate.serving_csv import write_serving_points

    reading = read_silicon_points()
    write_serving_points(path, sorted(reading.points, key=lambda point: point.name))
    return reading


def _point(row: Mapping[str, str], rules: Mapping[str, Any], recorded_plain: bool) -> ServingPoint | str:
    """A row as a point, or the reason why it is none."""
    source = row["silicon_data_source"]
    public = source.startswith(("source_file=2026", "db-dump"))
    model = SAME_RUNS.get(row["model_path"], row["model_path"])
    known = MODELS.get((model, row["precision"]))
    if known is None:
        return f"no bundled checkpoint for {model} in {row['precision'] or 'its own precision'}"
    if row["system"] not in DEVICES:
        return f"unknown system {row['system']}"
    if not (_number(row["silicon_ttft_ms"]) > 0 and _number(row["silicon_tpot_ms"]) > 0):
        return "no TTFT or TPOT"
    users = _users(row)
    if not users:
        return "states no concurrency"
    image = re.search(r"(?:release:|openai:|sglang:|runtime:)([^;\s]+)", source)
    date = re.search(r"measured=(\d{4}-\d\d-\d\d)", source)
    config = re.search(r"config_id=(\d+)", source)
    asked, expert, data_parallel = _asked(row)
    facts: dict[str, Any] = {
        "origin": "inferencex" if public else "gap", "engine": row["backend"], "model": model.rpartition("/")[2],
        "device": row["system"], "precision": row["precision"], "users": users, "image": image[1] if image else "",
        "date": date[1] if date else "", "input": int(row["isl"]), "output": int(row["osl"]), "tensor": asked, "expert": expert,
        "data_parallel": data_parallel, "recorded_plain": recorded_plain, "config_id": config[1] if config else "",
    }  # fmt: skip
    drafted = _first(rules["speculative"], facts)
    found = drafted.get("inferred", drafted["value"])
    speculative = None if found == "unknown" else found
    facts["speculative"] = drafted["value"]
    knobs: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    if public:
        if row["system"] == "gb200" or asked not in NODE:
            return "states sums over a disaggregated deployment, not a configuration"
        degrees = _first(rules["parallelism"], facts)["degrees"]
        tensor, attention_data, expert = (
            {"T": asked, "E": expert}.get(degrees[name], degrees[name])
            for name in ("tensor", "attention_data", "expert")
        )
        facts["data_parallel"] = attention_data > 1
        knobs, extra = _settings(_first(rules["settings"], facts), facts, users)
        held = _first(rules["held"], facts)
        knobs |= {name: value for name, value in held.items() if name in EngineKnobs.model_fields}
        protocol, share = rules["protocol"], (1 + rules["protocol"]["range_ratio"]) / 2
    else:
        if _number(row["batch_size"]) != users:
            return "batch size and users differ: replicas or attention data parallelism not stated"
        if expert * max(int(_number(row["moe_tp_size"])), 1) not in (1, asked):
            return "ranks of the experts differ from those of attention"
        tensor, attention_data = asked, 1
        protocol, share = rules["inferred"][row["backend"]], 1.0
        if protocol.get("slots_missing"):
            knobs["max_num_seqs"] = max(int(users) - protocol["slots_missing"], 1)
    scheme = known[1]
    return ServingPoint(
        name=row["id"], source=f"aiconfigurator-core silicon_sample.csv; {source}", model=known[0], device=DEVICES[row["system"]],
        engine=row["backend"], version=row["backend_version"] or None,
        parallelism=Parallelism(tensor=tensor, attention_data=attention_data, expert=expert), precision=scheme,
        kv_cache=extra.get("kv_cache"), input_tokens=share * facts["input"], output_tokens=share * facts["output"],
        concurrency=users, request_rate=None, num_requests=round(protocol.get("requests_per_user", 0) * users) or None,
        range_ratio=protocol.get("range_ratio", 1.0), prefix_hit=protocol.get("prefix_hit"), knobs=EngineKnobs(**knobs),
        speculative=speculative, stream_interval=extra.get("stream_interval"),
        metrics={"ttft": _number(row["silicon_ttft_ms"]) * 1e-3, "tpot": _number(row["silicon_tpot_ms"]) * 1e-3},
        measured_on=facts["date"] or None,
    )  # fmt: skip


def _number(text: str) -> float:
    return float(text) if text else 0.0


def _figures(row: Mapping[str, str]) -> tuple[float, float]:
    """What identifies a measurement of a load: no two runs agree in all these digits of both."""
    return round(_number(row["silicon_ttft_ms"]), 2), round(_number(row["silicon_tpot_ms"]), 2)


def _users(row: Mapping[str, str]) -> float:
    """Concurrency of the whole deployment, 0 where it is not stated; ``batch_size`` is something else in many rows."""
    found = re.search(r"silicon_concurrency=(\d+)", row["silicon_data_source"])
    return float(found[1]) if found else 0.0


def _told(row: Mapping[str, str]) -> tuple[bool, bool]:
    """How much a record tells of its run: whether it is one with a public protocol, and whether its name has the degrees."""
    return row["silicon_data_source"].startswith(("source_file=2026", "db-dump")), bool(NAMED.search(row["id"]))


NAMED = re.compile(r"_tp(\d+)(?:_0)?_ep(\d+)")
"""Tensor and expert degree in a row's name, as asked of the engine."""


def _asked(row: Mapping[str, str]) -> tuple[int, int, bool]:
    """Devices of a replica, expert degree, and whether attention is data parallel, as recorded.

    Where the columns multiply what was asked for (tensor 64 for TP8 EP8), those of the experts hold the degrees.
    """
    names = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    tensor, data, expert_tensor, expert = (max(int(_number(row[name])), 1) for name in names)
    if not row["silicon_data_source"].startswith(("source_file=2026", "db-dump")):
        return tensor, expert, False
    named = NAMED.search(row["id"])
    if named:
        return int(named[1]), int(named[2]), tensor == 1 and data > 1
    if row["backend"] == "vllm" and data > 1:
        return tensor, data, False
    if expert == 1 and tensor == expert_tensor:
        return tensor, 1, False
    return expert_tensor, expert, tensor == 1 and data > 1


def _first(rules: list[dict[str, Any]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The first rule whose conditions all hold."""
    return next(rule for rule in rules if all(_holds(name, value, facts) for name, value in rule["match"].items()))


def _holds(condition: str, value: Any, facts: Mapping[str, Any]) -> bool:
    """Whether a fact meets a condition: equal to it, one of a list, or by ``_below``, ``_from``, ``_not``, ``_has``."""
    name, _, ending = condition.rpartition("_")
    if ending == "below":
        return bool(facts[name] < value)
    if ending == "from":
        return bool(facts[name] >= value)
    if ending == "not":
        return bool(facts[name] != value)
    if ending == "has":
        return value in facts[name]
    return facts[condition] in value if isinstance(value, list) else bool(facts[condition] == value)


def _settings(rule: Mapping[str, Any], facts: Mapping[str, Any], users: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Engine knobs of a rule, with its token budget worked out, and what else it says about the run."""
    knobs: dict[str, Any] = {}
    budget = rule.get("tokens")
    if budget:
        terms = (("prompt", facts["input"]), ("output", facts["output"]), ("users", users), ("slack", 1))
        tokens = budget.get("fixed") or sum(budget.get(name, 0) * size for name, size in terms)
        step = budget.get("step", 1)
        knobs["max_num_batched_tokens"] = max(int(tokens) // step * step, budget.get("least", 1))
    slots = rule.get("seqs")
    if slots is not None:
        share = 1.0 if slots == "users" else slots["users"] if isinstance(slots, dict) else None
        knobs["max_num_seqs"] = slots if share is None else max(int(users * share), 1)
    if "memory" in rule:
        knobs["gpu_memory_utilization"] = rule["memory"]
    cache = rule.get("kv_cache", "auto")
    extra = {"kv_cache": cache} if cache != "auto" else {}
    return knobs, extra | ({"stream_interval": rule["stream_interval"]} if "stream_interval" in rule else {})
