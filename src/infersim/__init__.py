"""infersim: an analytical performance simulator for LLM inference.

    >>> import infersim
    >>> answer = infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=2048, concurrency=32)
    >>> answer.fits
    True

Names are imported when they are first used, so ``import infersim`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infersim._version import __version__

if TYPE_CHECKING:
    from infersim.errors import DoesNotFitError, InferSimError
    from infersim.ops.transformer import Group, decode, prefill
    from infersim.planning.compare import compare
    from infersim.planning.cost import cost
    from infersim.planning.fleet import size_fleet
    from infersim.planning.search import plan
    from infersim.predict.estimate import Estimate, estimate, sweep_steps
    from infersim.predict.memory import memory_report
    from infersim.predict.step import predict_step
    from infersim.scenario.scenario import load_scenario
    from infersim.scenario.sweeps.run import run_sweep
    from infersim.serving.capacity import capacity
    from infersim.serving.simulate import simulate
    from infersim.serving.traces import read_trace
    from infersim.serving.traffic import Traffic
    from infersim.specs.deployment import EngineKnobs, Parallelism
    from infersim.specs.huggingface import load_model
    from infersim.specs.library import add_spec_folder, load_accelerator, load_system, names
    from infersim.specs.precision import precision
    from infersim.specs.speculation import Speculation
    from infersim.specs.workload import Target, Workload

_HOMES = {
    "DoesNotFitError": "errors", "InferSimError": "errors",
    "Group": "ops.transformer", "decode": "ops.transformer", "prefill": "ops.transformer",
    "Estimate": "predict.estimate", "estimate": "predict.estimate", "predict_step": "predict.step",
    "sweep_steps": "predict.estimate",
    "memory_report": "predict.memory",
    "cost": "planning.cost", "size_fleet": "planning.fleet", "plan": "planning.search", "compare": "planning.compare",
    "load_scenario": "scenario.scenario", "run_sweep": "scenario.sweeps.run",
    "simulate": "serving.simulate", "capacity": "serving.capacity", "read_trace": "serving.traces", "Traffic": "serving.traffic",
    "EngineKnobs": "specs.deployment", "Parallelism": "specs.deployment",
    "load_model": "specs.huggingface",
    "add_spec_folder": "specs.library", "load_accelerator": "specs.library", "load_system": "specs.library",
    "names": "specs.library",
    "precision": "specs.precision", "Speculation": "specs.speculation",
    "Target": "specs.workload", "Workload": "specs.workload",
}  # fmt: skip

__all__ = [  # noqa: RUF022 - grouped by what a reader looks for
    "estimate", "Estimate", "predict_step", "prefill", "decode", "Group", "sweep_steps", "memory_report",
    "simulate", "Traffic", "read_trace", "capacity", "plan", "size_fleet", "cost", "compare", "load_scenario", "run_sweep",
    "load_model", "load_accelerator", "load_system", "names", "add_spec_folder", "precision",
    "Parallelism", "EngineKnobs", "Speculation", "Workload", "Target",
    "InferSimError", "DoesNotFitError", "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    import importlib

    if name == "plot":  # a module of its own, whose names would crowd this one
        return importlib.import_module("infersim.plot")
    if name not in _HOMES:
        raise AttributeError(f"module 'infersim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"infersim.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
