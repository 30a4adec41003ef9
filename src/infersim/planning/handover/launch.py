"""A deployment as the command that launches one replica of it: flags, configuration file, and what a person must still see to."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from infersim.errors import UnsupportedError
from infersim.planning.handover.flags import load_flags, rendered
from infersim.predict.estimate import Estimate

Role = Literal["prefill", "decode"]
ONLINE = {"vllm": {"fp8": "fp8"}, "sglang": {"fp8": "fp8"}, "trtllm": {}}
"""Formats that an engine makes of 16-bit weights while it loads them, by our name: the value of its quantization flag."""
CACHES = {"vllm": {"fp8": "fp8"}, "sglang": {"fp8": "fp8_e4m3"}, "trtllm": {"fp8": "fp8"}}
"""Formats of the KV cache that differ from the weights' compute type."""


@dataclass(frozen=True)
class Launch:
    """How one replica is launched: words of the command, files it reads by name, notes for a person."""

    engine: str
    version: str
    argv: tuple[str, ...]
    files: dict[str, str]
    notes: tuple[str, ...]
    devices: int
    nodes: int

    @property
    def shell(self) -> str:
        """The command as a shell takes it, a flag a line."""
        words = [shlex.quote(word) for word in self.argv]
        lines: list[str] = []
        current: list[str] = []
        for word in words:
            if word.startswith("--") and current:
                lines.append(" ".join(current))
                current = []
            current.append(word)
        return " \\\n    ".join([*lines, " ".join(current)])


def launch_command(
    deployment: Estimate,
    *,
    role: Role | None = None,
    model: str | None = None,
    port: int | None = None,
    host: str | None = None,
) -> Launch:
    """The command for one replica of ``deployment``; ``role`` makes it one of the two pools of a disaggregated deployment.

    ``model`` is what the engine is to load, by default the model's name. Raises UnsupportedError for an engine without a table.

    >>> from infersim import estimate
    >>> one = estimate("meta-llama/Llama-3.1-70B-Instruct", "H100-SXM", tensor_parallel=4, precision="fp8")
    >>> print(launch_command(one).shell)
    vllm serve meta-llama/Llama-3.1-70B-Instruct \\
        --tensor-parallel-size 4 \\
        --quantization fp8
    """
    engine = deployment.machine.engine.name
    if engine not in ONLINE:
        raise UnsupportedError(f"no launch commands are known for {engine}; known: {', '.join(ONLINE)}")
    table, notes = load_flags(engine), []
    p, knobs = deployment.parallelism, deployment.knobs
    ranks = p.tensor * p.attention_data
    node = deployment.machine.system.devices_per_node if deployment.machine.system else ranks
    nodes = -(-p.devices_per_replica // max(node, 1))
    settings: dict[str, Any] = {}
    if engine == "vllm":
        settings |= {
            "tensor_parallel": p.tensor if p.tensor > 1 else None, "pipeline_parallel": p.pipeline if p.pipeline > 1 else None,
            "attention_data_parallel": p.attention_data if p.attention_data > 1 else None,
            "expert_parallel": True if p.expert > 1 else None, "context_parallel": p.context if p.context > 1 else None,
        }  # fmt: skip
    else:
        settings |= {"ranks": ranks if ranks > 1 else None, "pipeline_parallel": p.pipeline if p.pipeline > 1 else None}
        if engine == "sglang":
            settings["attention_data_parallel"] = p.attention_data if p.attention_data > 1 else None
        elif p.context > 1:
            settings["context_parallel"] = p.context
        settings |= {
            "attention_dp": True if p.attention_data > 1 else None,
            "experts": p.expert if p.expert > 1 else None,
        }
        if engine == "sglang" and p.context > 1:
            notes.append(
                f"context parallelism of {p.context} has no flag in this table: set it by SGLang's documentation"
            )
    if nodes > 1 and engine != "trtllm":
        settings |= {"nodes": nodes, "node_rank": 0}
        notes.append(f"one replica spans {nodes} nodes: start this on each of them with its own --node-rank")
    settings |= _formats(deployment, engine, notes)
    settings |= _knobs(deployment, engine, notes)
    if role is not None:
        settings |= _pool(engine, role, notes)
    if deployment.drafter is not None:
        settings |= _drafts(deployment, engine, notes)
    words, config = rendered(table, settings)
    name = model or deployment.model.name
    argv = [*table.command, *([table.model_flag, name] if table.model_flag else [name])]
    for flag, value in ((table.host_flag, host), (table.port_flag, port)):
        if flag is not None and value is not None:
            argv += [flag, str(value)]
    files = {}
    if config and table.config_flag is not None:
        file = f"{'-'.join(['trtllm', *([role] if role else [])])}.yaml"
        files[file] = yaml.safe_dump(config, sort_keys=False)
        argv += [table.config_flag, file]
    if knobs.batching != "continuous":
        notes.append(f"{knobs.batching} batching is not what this engine does")
    return Launch(engine, table.version, (*argv, *words), files, tuple(notes), p.devices_per_replica, nodes)


def _formats(deployment: Estimate, engine: str, notes: list[str]) -> dict[str, Any]:
    wanted, own = deployment.precision, deployment.model.precision
    found: dict[str, Any] = {}
    if (wanted.weights, wanted.activations) != (own.weights, own.activations):
        name = (wanted.name or wanted.weights).partition(",")[0]
        flag = ONLINE[engine].get(name)
        if flag is not None:
            found["quantization"] = flag
        elif wanted.weights in ("bf16", "fp16", "fp32"):
            if engine == "trtllm":
                notes.append(f"the checkpoint must hold {wanted.weights} weights")
            else:
                found["dtype"] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[wanted.weights]
        else:
            notes.append(
                f"load a checkpoint of {deployment.model.name} that is quantised to {name}: there is no flag that makes one"
            )
    if wanted.kv_cache not in ("bf16", "fp16", "fp32") or wanted.kv_cache != wanted.compute:
        cache = CACHES[engine].get(wanted.kv_cache)
        if cache is not None:
            found["kv_cache"] = cache
        elif wanted.kv_cache not in ("bf16", "fp16"):
            notes.append(f"no flag of this table sets a KV cache of {wanted.kv_cache}")
    return found


def _knobs(deployment: Estimate, engine: str, notes: list[str]) -> dict[str, Any]:
    """The settings that differ from the engine's defaults, where the engine has a flag; the others in a note."""
    table, found = load_flags(engine), {}
    for name, value in deployment.knobs.model_dump(exclude_defaults=True).items():
        if name in ("batching", "batch_delay"):
            continue
        if name in table.flags:
            found[name] = value
        else:
            notes.append(f"{name} {value} has no flag in {engine} {table.version}")
    return found


def _pool(engine: str, role: Role, notes: list[str]) -> dict[str, Any]:
    if engine == "vllm":
        notes.append("a proxy in front sends prompts to the prefill pool first, then to the decode pool")
        return {"kv_transfer": json.dumps({"kv_connector": "NixlConnector", "kv_role": "kv_both"})}
    if engine == "sglang":
        notes.append("a router in front (sglang_router --pd-disaggregation) joins the pools")
        return {"disaggregation": role}
    notes.append(
        f"start trtllm-serve disaggregated in front, with this server as {'context' if role == 'prefill' else 'generation'} server"
    )
    return {"disaggregation": "DEFAULT"}


def _drafts(deployment: Estimate, engine: str, notes: list[str]) -> dict[str, Any]:
    assert deployment.drafter is not None
    drafts = deployment.drafter.speculation
    if engine == "vllm":
        config: dict[str, Any] = {"method": drafts.method, "num_speculative_tokens": drafts.num_speculative_tokens}
        if drafts.model:
            config["model"] = drafts.model
        elif drafts.method in ("eagle", "eagle3"):
            notes.append(f'name the {drafts.method} head to load as "model" in --speculative-config')
        return {"speculative_config": json.dumps(config)}
    if engine == "sglang" and drafts.method in ("eagle", "eagle3", "mtp", "ngram"):
        if drafts.method in ("eagle", "eagle3") and not drafts.model:
            notes.append(f"name the {drafts.method} head to load with --speculative-draft-model-path")
        algorithm = {"eagle": "EAGLE", "eagle3": "EAGLE3", "mtp": "EAGLE", "ngram": "NGRAM"}[drafts.method]
        return {
            "speculative_algorithm": algorithm, "speculative_model": drafts.model, "speculative_steps": drafts.depth,
            "speculative_topk": 1 if drafts.tree is None else max(drafts.tree), "speculative_tokens": drafts.verified,
        }  # fmt: skip
    notes.append(f"set drafts ({drafts}) by the documentation of {engine}")
    return {}
