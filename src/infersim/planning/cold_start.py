"""How long a replica takes from the wish for it to its first token: a machine, an image, the weights, the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.ops.base import Numbers
from infersim.predict.estimate import Estimate
from infersim.specs.economics import Operations


def weights_seconds(
    node_bytes: Numbers,
    device_bytes: Numbers,
    *,
    storage: Numbers,
    host_link: Numbers,
    network: Numbers = np.inf,
) -> Any:
    """Seconds to load weights: ``node_bytes`` through the slower of a node's disk and network, ``device_bytes`` through each device's
    own host link at the same time; bandwidths in bytes per second, broadcasts.

    >>> round(float(weights_seconds(141.1e9, 141.1e9 / 8, storage=7e9, host_link=55e9)), 1)
    20.2
    """
    slowest = np.minimum(np.asarray(storage, dtype=float), network)
    return np.maximum(np.asarray(node_bytes) / slowest, np.asarray(device_bytes) / host_link)


@dataclass(frozen=True)
class ColdStart:
    """Seconds of a start, part after part."""

    provision: float
    image: float
    weights: float
    engine: float

    @property
    def seconds(self) -> float:
        return self.provision + self.image + self.weights + self.engine

    def to_dict(self) -> dict[str, float]:
        """Plain numbers; keys carry units."""
        return {"provision_s": self.provision, "image_pull_s": self.image, "weights_load_s": self.weights,
                "engine_start_s": self.engine, "total_s": self.seconds}  # fmt: skip


def cold_start(
    deployment: Estimate | None, known: Operations, *, remote: bool = True, node_bytes: float | None = None
) -> ColdStart:
    """A replica's start on a machine that has neither image nor weights; ``remote`` weights also come over the node's network.

    Without a ``deployment``, ``node_bytes`` are what a node loads [B], through the host link on file.
    """
    if deployment is None:
        if node_bytes is None or not 0 <= node_bytes < float("inf"):
            raise SpecError("needs a deployment, or the bytes of weights a node loads", field="weights")
        per_node, per_device, link = node_bytes, 0.0, known.host_link_bandwidth.value
    else:
        machine, devices = deployment.machine, deployment.parallelism.devices_per_replica
        in_node = min(devices, machine.system.devices_per_node if machine.system else devices)
        per_device = deployment.memory.weights + deployment.memory.draft
        # copies that several ranks hold are read once a rank: the page cache is not counted on
        per_node = per_device * in_node
        found = (machine.system.host_link if machine.system else None) or machine.accelerator.host_link
        link = found.bandwidth if found is not None else known.host_link_bandwidth.value
    seconds = weights_seconds(
        per_node, per_device, storage=known.storage_bandwidth.value, host_link=link,
        network=known.network_bandwidth.value if remote else np.inf,
    )  # fmt: skip
    return ColdStart(
        known.provision_seconds.value,
        known.image_bytes.value / known.image_bandwidth.value,
        float(seconds),
        known.engine_start_seconds.value,
    )
