"""aiconfigurator's predictions beside ours, on identical measured serving points, where it can answer.

Run with ``python benchmarks/against_aiconfigurator.py [--limit 200]`` in an environment that has infersim and aiconfigurator (``pip install
aiconfigurator``); infersim does not depend on it. Points are those on the judging side of the split without speculation, drawn by
hash. A point becomes ``cli_estimate(mode="agg")``: mean lengths as they were, batch size = users per attention rank, the degrees as
run, number formats by our scheme (left to its own inference where the checkpoint decides), everything else its default.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import logging
from collections import Counter
from typing import Any

import numpy as np

from infersim.calibrate.measurements import ServingPoint, judges
from infersim.calibrate.silicon_serving import DEVICES
from infersim.validate.serving import predict_point, shipped_serving_points

SYSTEMS = {ours: theirs for theirs, ours in DEVICES.items()}
NAMES = {
    "meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
}
FORMATS: dict[str | None, dict[str, str]] = {
    "fp8": {"gemm_quant_mode": "fp8"}, "fp8_block": {"gemm_quant_mode": "fp8_block", "moe_quant_mode": "fp8_block"},
    "nvfp4": {"gemm_quant_mode": "nvfp4", "moe_quant_mode": "nvfp4"},
}  # fmt: skip


def theirs(point: ServingPoint, estimate: Any) -> tuple[float, float]:
    """TPOT and TTFT [s] by aiconfigurator; raises whatever it raises."""
    ways = point.parallelism
    experts = {"moe_ep_size": ways.expert, "moe_tp_size": ways.expert_tensor}
    cache = {"kvcache_quant_mode": "fp8"} if point.kv_cache == "fp8" else {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = estimate(
            model_path=NAMES.get(point.model, point.model), system_name=SYSTEMS[point.device], mode="agg", backend_name=point.engine,
            isl=round(point.input_tokens), osl=round(point.output_tokens),
            batch_size=max(round((point.concurrency or 1) / ways.attention_data), 1), tp_size=ways.tensor,
            attention_dp_size=ways.attention_data, **experts, **FORMATS.get(point.precision, {}), **cache,
        )  # fmt: skip
    return found.tpot * 1e-3, found.ttft * 1e-3


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=200)
    limit = parser.parse_args().limit
    try:
        from aiconfigurator.cli.api import cli_estimate
    except ImportError:
        raise SystemExit("aiconfigurator is not installed here: pip install aiconfigurator") from None
    logging.disable(logging.CRITICAL)
    points = [point for point in shipped_serving_points() if judges(point) and point.speculative == "none"]
    points = sorted(points, key=lambda point: hashlib.sha256(b"draw" + point.name.encode()).digest())[:limit]
    rows: dict[str, list[tuple[float, ...]]] = {"dense": [], "MoE": []}
    refused: Counter[str] = Counter()
    for point in points:
        ours = predict_point(point)
        try:
            tpot, ttft = theirs(point, cli_estimate)
        except Exception as error:  # whatever it raises is its refusal
            refused[f"{type(error).__name__}: {str(error)[:70]}"] += 1
            continue
        measured = point.metrics
        signed = (
            ours.tpot / measured["tpot"],
            tpot / measured["tpot"],
            ours.ttft / measured["ttft"],
            ttft / measured["ttft"],
        )
        rows["MoE" if ours.model.is_moe else "dense"].append(tuple(ratio - 1 for ratio in signed))
    answered = sum(map(len, rows.values()))
    print(f"{answered} of {len(points)} points answered by both")
    for kind, found in rows.items():
        for place, name in enumerate(("TPOT infersim", "TPOT aiconfigurator", "TTFT infersim", "TTFT aiconfigurator")):
            if found:
                errors = np.array(found)[:, place]
                size = np.abs(errors)
                figures = f"median {np.median(size):7.1%}  mean {size.mean():7.1%}  bias {np.median(errors):+7.1%}"
                print(f"{kind:<6}{len(found):>4}  {name:<20} {figures}")
    for reason, count in refused.most_common(8):
        print(f"refused by aiconfigurator: {count} x {reason}")


if __name__ == "__main__":
    main()
