"""From a model on hardware as a file says it to its prediction."""

from __future__ import annotations

from infersim.ops.sampling import Sampler
from infersim.predict.estimate import Estimate, estimate
from infersim.specs.served import PARALLEL, ServedModel
from infersim.specs.workload import Target, Workload


def deploy(
    served: ServedModel, workload: Workload | None = None, *, target: Target | None = None, sampler: Sampler = "greedy"
) -> Estimate:
    """The prediction of a served model under a steady workload.

    >>> one = ServedModel(model="meta-llama/Llama-3.1-8B", hardware="H100-SXM")
    >>> deploy(one, Workload(input_tokens=2000, concurrency=8)).fits
    True
    """
    place, load = served.deployment, workload or Workload()
    return estimate(
        served.model, served.hardware, **{field: getattr(place, field) for field in PARALLEL}, precision=place.precision,
        kv_cache=place.kv_cache, engine=place.engine, system=place.system, mode=place.mode, knobs=place.knobs,
        speculation=place.speculative_config, price_per_hour=served.gpu_hour, target=target, sampler=sampler, **dict(load),
    )  # fmt: skip
