"""Kubernetes manifests of a deployment: a plain Deployment and Service, and KServe's LLMInferenceService in the manner of llm-d.

Source of the latter: kserve/website docs/model-serving/generative-inference/llmisvc/llmisvc-configuration.md (v1alpha1).
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from infersim.errors import UnsupportedError
from infersim.planning.handover.flags import load_flags
from infersim.planning.handover.launch import Launch, Role, launch_command
from infersim.predict.estimate import Estimate

RESOURCES = {"NVIDIA": "nvidia.com/gpu", "AMD": "amd.com/gpu", "Intel": "gpu.intel.com/xe"}
"""Names under which Kubernetes device plugins offer a vendor's devices."""
START_RATE = 1e9
"""Bytes of weights a second that a start is given time for, beside two minutes: a careful guess for a startup probe."""


def resource_name(vendor: str) -> str:
    """The resource that a pod asks for. UnsupportedError for a vendor whose plugin is not known here.

    >>> resource_name("NVIDIA")
    'nvidia.com/gpu'
    """
    if vendor not in RESOURCES:
        raise UnsupportedError(
            f"no Kubernetes resource is known for devices of {vendor}; known: {', '.join(RESOURCES)}"
        )
    return RESOURCES[vendor]


def slug(text: str) -> str:
    """A name as Kubernetes takes it.

    >>> slug("meta-llama/Llama-3.1-70B-Instruct")
    'meta-llama-llama-3-1-70b-instruct'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-") or "model"


def deployment_manifest(one: Estimate, replicas: int, *, role: Role | None = None) -> str:
    """A Deployment of so many replicas and a Service before it, as YAML. A replica must lie within one node."""
    launch = launch_command(one, role=role, host="0.0.0.0", port=load_flags(one.machine.engine.name).port)
    if launch.nodes > 1:
        raise UnsupportedError(
            f"{one.describe()}: a replica spans {launch.nodes} nodes, which a Deployment cannot; use the LLMInferenceService with workers"
        )
    name = slug(one.model.name) + (f"-{role}" if role else "")
    labels = {"app": name}
    pod: dict[str, Any] = {
        "containers": [_container(one, launch, name)],
        "volumes": [
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
            *([{"name": "config", "configMap": {"name": f"{name}-config"}}] if launch.files else []),
        ],
    }
    documents: list[dict[str, Any]] = []
    if launch.files:
        documents.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-config"}, "data": launch.files}
        )
    documents += [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels},
         "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                  "template": {"metadata": {"labels": labels}, "spec": pod}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels},
         "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}},
    ]  # fmt: skip
    return _text(documents)


def _text(documents: list[dict[str, Any]]) -> str:
    """YAML with every value written out: no anchors."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump_all(documents, Dumper=Plain, sort_keys=False, width=120)


def _container(one: Estimate, launch: Launch, name: str) -> dict[str, Any]:
    table = load_flags(launch.engine)
    devices = {resource_name(one.machine.accelerator.vendor): str(launch.devices)}
    seconds = 120 + one.memory.weights * launch.devices / START_RATE
    probe = {"httpGet": {"path": table.health, "port": "http"}}
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}]
    argv = list(launch.argv)
    if launch.files:
        mounts.append({"name": "config", "mountPath": "/etc/engine"})
        argv = [f"/etc/engine/{word}" if word in launch.files else word for word in argv]
    return {
        "name": "engine", "image": table.image, "command": argv[:1], "args": argv[1:],
        "ports": [{"name": "http", "containerPort": table.port}],
        "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "token", "optional": True}}}],
        "resources": {"limits": dict(devices), "requests": dict(devices)}, "volumeMounts": mounts,
        "startupProbe": {**probe, "periodSeconds": 10, "failureThreshold": math.ceil(seconds / 10)},
        "readinessProbe": {**probe, "periodSeconds": 5}, "livenessProbe": {**probe, "periodSeconds": 15, "failureThreshold": 4},
    }  # fmt: skip


def inference_service(
    one: Estimate, replicas: int, *, prefill: Estimate | None = None, prefill_replicas: int = 0
) -> str:
    """KServe's LLMInferenceService, with a prefill section for two pools, as YAML. It runs vLLM.

    >>> from infersim import estimate
    >>> print(inference_service(estimate("meta-llama/Llama-3.1-8B", "H100-SXM"), 2).splitlines()[1])
    kind: LLMInferenceService
    """
    for pool in (one, prefill):
        if pool is not None and pool.machine.engine.name != "vllm":
            raise UnsupportedError(f"LLMInferenceService runs vLLM, not {pool.machine.engine.name}")
    spec: dict[str, Any] = {
        "model": {"uri": f"hf://{one.model.name}", "name": one.model.name},
        **_workload(one, replicas, "decode" if prefill is not None else None),
        "router": {"gateway": {}, "route": {}, "scheduler": {}},
    }
    if prefill is not None:
        spec["prefill"] = _workload(prefill, prefill_replicas, "prefill")
    document = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "LLMInferenceService", "metadata": {"name": slug(one.model.name)},
                "spec": spec}  # fmt: skip
    return _text([document])


def _workload(one: Estimate, replicas: int, role: Role | None) -> dict[str, Any]:
    launch = launch_command(one, role=role, model="/mnt/models")
    per_node = launch.devices // launch.nodes
    words = ["--model", "/mnt/models", "--served-model-name", one.model.name, *_without_nodes(list(launch.argv[3:]))]
    limits = {resource_name(one.machine.accelerator.vendor): str(per_node)}
    container = {"name": "main", "image": load_flags("vllm").image, "args": words, "resources": {"limits": limits}}
    found: dict[str, Any] = {"replicas": replicas, "template": {"containers": [container]}}
    if launch.nodes > 1:
        p = one.parallelism
        found["parallelism"] = {"tensor": p.tensor, "pipeline": p.pipeline, "data": p.attention_data,
                                "dataLocal": max(p.attention_data // launch.nodes, 1), "expert": p.expert > 1}  # fmt: skip
        found["worker"] = {"containers": [dict(container)]}
    return found


def _without_nodes(words: list[str]) -> list[str]:
    """The controller sets ranks of nodes itself."""
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in ("--nnodes", "--node-rank"):
            skip = True
        else:
            found.append(word)
    return found
