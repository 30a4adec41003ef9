"""What a fleet's devices do at a load: which share of the time they work, on what, and what they draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from infersim.errors import NoPlanError, SpecError
from infersim.planning.options import Option
from infersim.planning.power import device_power, mean_power
from infersim.planning.search import at_load
from infersim.planning.service import STABLE_SHARE, service_curve
from infersim.predict.estimate import Estimate
from infersim.specs.economics import PowerTerms


@dataclass(frozen=True)
class Load:
    """``devices`` of one kind of replica at work for a share ``busy`` of the time; power in W, of one device and of its part of the
    host, ``provisioned`` at most."""

    deployment: Estimate
    devices: int
    busy: float
    prefill_share: float
    device_watts: float
    host_watts: float
    provisioned_watts: float
    assumed: tuple[str, ...]

    @property
    def watts(self) -> float:
        """Mean power of all of them [W]."""
        return self.devices * (self.device_watts + self.host_watts)


def busy_share(running: float) -> float:
    """Share of the time in which at least one request is under way, of ``running`` on average: 1 - e^-L (M/G/infinity).

    >>> round(busy_share(0.5), 3), round(busy_share(20.0), 3)
    (0.393, 1.0)
    """
    return -math.expm1(-running)


def loads_of(what: Estimate | Option, request_rate: float, devices: int | None, power: PowerTerms) -> list[Load]:
    """The kinds of replicas of a deployment or of a plan's option at ``request_rate`` requests per second in all.

    ``devices`` of a deployment are shared evenly by its replicas; None takes its own. Raises NoPlanError where they cannot serve
    the rate.
    """
    if isinstance(what, Option):
        if devices is not None and devices != what.devices:
            raise SpecError(f"the option has {what.devices} devices, got {devices}", field="devices")
        if what.prefill is not None:
            return _pools(what, request_rate, power)
        one, replicas = what.deployment, what.replicas
    else:
        one, each = what, what.parallelism.devices_per_replica
        replicas = what.parallelism.replicas if devices is None else devices // each
        if replicas < 1 or (devices is not None and devices % each):
            raise SpecError(f"is a multiple of the {each} of a replica, got {devices!r}", field="devices")
        one = at_load(_single(what), 1.0)
    curve = service_curve(one)
    most = float(curve.rate[-1]) * STABLE_SHARE * replicas
    if request_rate > most * (1 + 1e-9):
        raise NoPlanError(
            f"{one.describe()}: {replicas} replica(s) serve at most {most:.3g} requests/s, not {request_rate:g}"
        )
    point = curve.at(request_rate / replicas)
    under_way = request_rate / replicas * float(point.e2e)
    placed = at_load(one, max(float(point.users), 1.0))
    share = float(point.prefill_share) / max(busy_share(under_way), 1e-9) if one.model.task == "generate" else 1.0
    return [
        _load(placed, replicas * one.parallelism.devices_per_replica, busy_share(under_way), min(share, 1.0), power)
    ]


def _single(deployment: Estimate) -> Estimate:
    from dataclasses import replace

    return replace(deployment, parallelism=deployment.parallelism.model_copy(update={"replicas": 1}))


def _pools(option: Option, request_rate: float, power: PowerTerms) -> list[Load]:
    """Prefill replicas work for the share of the time that prompts take; decode replicas while anything decodes."""
    assert option.prefill is not None
    from infersim.planning.disaggregated import prompt_times

    prompts = request_rate / option.prefill_replicas / prompt_times(option.prefill).rate
    decoding = request_rate / option.replicas * (option.e2e - option.ttft)
    return [
        _load(option.prefill, option.prefill_replicas * option.prefill.parallelism.devices_per_replica, min(prompts, 1.0), 1.0, power),
        _load(option.deployment, option.replicas * option.deployment.parallelism.devices_per_replica, busy_share(decoding), 0.0, power),
    ]  # fmt: skip


def _load(one: Estimate, devices: int, busy: float, prefill_share: float, power: PowerTerms) -> Load:
    accelerator, system = one.machine.accelerator, one.machine.system
    if accelerator.tdp is None:
        raise SpecError(f"{accelerator.name} states no power (tdp): its energy is not known", field="tdp")
    assumed = []
    idle = accelerator.idle_power
    if idle is None:
        idle = power.idle_share.value * accelerator.tdp
        assumed.append(f"idle power of {accelerator.name} {idle:.0f} W ({power.idle_share.source})")
    steps = [(one.prefill_step, prefill_share)] if prefill_share > 0 else []
    if prefill_share < 1:
        steps.append((one.decode_step, 1 - prefill_share))
    mfu, mbu = (sum(weight * float(getattr(step, name)) for step, weight in steps) for name in ("mfu", "mbu"))
    at_work = float(device_power(idle, accelerator.tdp, mfu, mbu, power.compute.value, power.memory.value))
    beside = system.power_beside(accelerator.tdp) if system is not None else None
    host = power.host_share.value * accelerator.tdp
    assumed.append(f"host {host:.0f} W a device ({power.host_share.source})")
    most = accelerator.tdp + (host if beside is None or system is None else beside / system.devices_per_node)
    watts = float(mean_power(idle, at_work, busy))
    return Load(
        one,
        devices,
        busy,
        prefill_share,
        watts,
        min(host, float(np.maximum(most - accelerator.tdp, 0.0))),
        most,
        tuple(assumed),
    )
