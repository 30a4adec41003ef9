"""What a number format does to memory, prefill, decode and cost of a deployment, each beside the bound that physics sets.

Every scheme is the same deployment estimated again. Decoding can gain no more than the bytes it saves, at the same batch; a prefill
no more than its matrix products gain (Amdahl). What the measured kernels of the engine make of that is the prediction.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from infersim import units
from infersim.adapters.accuracy import AccuracyRecord, accuracy_of
from infersim.errors import InferSimError, SpecError
from infersim.ops.base import MatrixOp, Numbers
from infersim.predict.estimate import Estimate, estimate
from infersim.predict.memory import weight_bytes
from infersim.predict.step import StepTime, predict_step
from infersim.specs.deployment import Parallelism
from infersim.specs.model import ModelSpec
from infersim.specs.precision import Precision, matrix_unit, precision
from infersim.specs.quantity import Spec
from infersim.specs.reading import validate

USUAL = ("bf16", "fp8", "fp8+kv_fp8", "int8", "w4a16", "nvfp4")
WIDTH = 80


class QuantisationSpec(Spec):
    """Schemes to set side by side, by the names that ``precision`` takes; the deployment's own is always among them."""

    schemes: Annotated[tuple[str, ...], Field(min_length=1)] = USUAL
    """Schemes by the names that precision takes."""

    @field_validator("schemes")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            precision(name)
        return names


def byte_bound(bytes_before: Numbers, bytes_after: Numbers) -> Numbers:
    """Most that decoding can speed up: the bytes of a step before over those after, unquantised parts and the KV cache in both.

    >>> byte_bound(15.01e9, 4.65e9)
    3.228
    """
    return bytes_before / bytes_after


def amdahl_bound(share: Numbers, gain: Numbers) -> Numbers:
    """Most that a step can speed up where a share phi of it gains a factor s: 1 / ((1 - phi) + phi / s). Source: Amdahl, AFIPS 1967.

    >>> round(amdahl_bound(0.9, 2.0), 4)
    1.8182
    """
    return 1 / ((1 - share) + share / gain)


def quantise_bytes(
    tokens: Numbers, width: Numbers, element_bytes: float = 2.0, quantised_bytes: float = 1.0
) -> Numbers:
    """Bytes of the pass that quantises the input of a linear layer: each element is read in 16 bits and written in fewer.

    3 b M d where b is one byte: what stands against the gain of faster products, unless a norm before it does it on the way.

    >>> quantise_bytes(2048, 4096)
    25165824.0
    """
    return tokens * width * (element_bytes + quantised_bytes)


def decode_weight_bytes(model: ModelSpec, formats: Precision, parallelism: Parallelism | None = None) -> float:
    """Weights that a decode step of a dense model reads [B]: all but the embedding table, of which only rows are looked up.

    >>> from infersim import load_model
    >>> llama = load_model("meta-llama/Llama-3.1-8B")
    >>> whole, quarter = (decode_weight_bytes(llama, precision(name)) for name in ("bf16", "w4a16"))
    >>> round(whole / quarter, 3)
    3.228
    """
    found = weight_bytes(model, parallelism or Parallelism(), formats)
    tied = not model.lm_head_parameters
    return (
        found
        if tied
        else found
        - model.embedding_parameters * formats.of("embedding")[0].bytes / (parallelism.tensor if parallelism else 1)
    )


def with_precision(deployment: Estimate, scheme: str | Precision) -> Estimate:
    """The same deployment in other formats. Raises UnsupportedError where its device has no unit for them."""
    one = deployment
    degrees = one.parallelism
    found = estimate(
        one.model, one.machine.accelerator, tensor_parallel=degrees.tensor, pipeline_parallel=degrees.pipeline,
        attention_data_parallel=degrees.attention_data, expert_parallel=degrees.expert, context_parallel=degrees.context,
        replicas=degrees.replicas, precision=scheme, engine=one.machine.engine, system=one.machine.system, mode=one.machine.mode,
        price_per_hour=one.price_per_hour, target=one.target, sampler=one.sampler, knobs=one.knobs,
        speculation=one.drafter.speculation if one.drafter else None, **dict(one.workload),
    )  # fmt: skip
    return replace(found, price_source=one.price_source)


@dataclass(frozen=True)
class SchemeRow:
    """One scheme. Speed-ups are over the checkpoint's formats at the same batch and context."""

    scheme: str
    deployment: Estimate | None
    """None where the device or the model cannot run it; ``reason`` says why."""
    reason: str = ""
    decode_bound: float | None = None
    decode_gain: float | None = None
    prefill_bound: float | None = None
    prefill_gain: float | None = None
    accuracy: tuple[AccuracyRecord, ...] = ()

    @property
    def runs(self) -> bool:
        return self.deployment is not None and self.deployment.fits

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; latencies and money are None where it does not fit."""
        one = self.deployment
        found: dict[str, Any] = {"scheme": self.scheme, "runs": self.runs, "reason": self.reason,
                                 "accuracy": [record.to_dict() for record in self.accuracy]}  # fmt: skip
        if one is None:
            return found
        tokens = one.workload.longest_sequence(one.model.task == "generate")
        runs = one if one.fits else None
        return found | {
            "weights_bytes": one.memory.weights,
            "bits_per_parameter": 8 * weight_bytes(one.model, Parallelism(), one.precision) / one.model.total_parameters,
            "kv_bytes_per_token": one.memory.rates.per_token, "kv_pool_bytes": one.memory.kv_pool,
            "max_sequences": float(one.memory.max_sequences(tokens)), "ttft_s": runs and runs.ttft, "tpot_s": runs and runs.tpot,
            "requests_per_s": runs and runs.requests_per_second, "usd_per_million_tokens": runs and runs.cost_per_million_tokens,
            "decode_bound": self.decode_bound, "decode_speedup": self.decode_gain, "prefill_bound": self.prefill_bound,
            "prefill_speedup": self.prefill_gain,
        }  # fmt: skip


@dataclass(frozen=True)
class QuantisationAnswer:
    """Schemes beside each other, the checkpoint's first."""

    deployment: Estimate
    rows: tuple[SchemeRow, ...]

    def row(self, scheme: str) -> SchemeRow:
        """The row of a scheme."""
        for row in self.rows:
            if row.scheme == scheme:
                return row
        raise SpecError(
            f"no row is called {scheme!r}; known: {', '.join(row.scheme for row in self.rows)}", field="scheme"
        )

    @property
    def sources(self) -> list[str]:
        found = [source for row in self.rows if row.deployment is not None for source in row.deployment.sources]
        found += [
            f"accuracy, {record.status} {record.date}: {record.ref}" for row in self.rows for record in row.accuracy
        ]
        return list(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units. ``relative`` is over the first row."""
        rows = [row.to_dict() for row in self.rows]
        for row in rows:
            row["relative"] = {
                key.rsplit("_", 1)[0] if key.endswith("_s") else key: _ratio(row.get(key), rows[0].get(key))
                for key in (
                    "weights_bytes",
                    "kv_bytes_per_token",
                    "max_sequences",
                    "ttft_s",
                    "tpot_s",
                    "usd_per_million_tokens",
                )
            }
        return {
            "deployment": self.deployment.describe(),
            "checkpoint": self.rows[0].scheme,
            "schemes": rows,
            "sources": self.sources,
        }

    def __str__(self) -> str:
        lines = [
            self.deployment.describe(),
            f"{'scheme':<13}{'weights':>10}{'KV/token':>10}{'seqs':>7}{'TTFT':>9}{'TPOT':>9}{'USD/Mtok':>9}{'decode':>13}",
        ]
        left = []
        for row in self.rows:
            told = row.to_dict()
            if row.deployment is None:
                left.append(f"{row.scheme}: {row.reason}")
                continue
            weights, cache = (
                units.show(told[key], "B", binary=True) for key in ("weights_bytes", "kv_bytes_per_token")
            )
            size = f"{weights:>10}{cache:>10}"
            if not row.runs:
                lines.append(f"{row.scheme:<13}{size}  does not fit")
                continue
            usd = told["usd_per_million_tokens"]
            gain = "-" if row.decode_gain is None else f"{row.decode_gain:.2f} of {row.decode_bound:.2f}"
            lines.append(f"{row.scheme:<13}{size}{told['max_sequences']:>7,.0f}{units.show(told['ttft_s'], 's'):>9}"
                         f"{units.show(told['tpot_s'], 's'):>9}{'-' if usd is None else format(usd, '.3g'):>9}{gain:>13}")  # fmt: skip
        lines.append("decode: speed-up of the same batch, of the most that fewer bytes allow")
        return "\n".join(
            part
            for line in [*lines, *left]
            for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ", drop_whitespace=True)
        )


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


def answer(spec: QuantisationSpec | Mapping[str, Any] | None, deployment: Estimate) -> QuantisationAnswer:
    """The deployment in each scheme of ``spec`` (the usual ones where it is None) beside the formats that it has.

    >>> from infersim import estimate
    >>> told = answer({"schemes": ["fp8", "w4a16"]}, estimate("meta-llama/Llama-3.1-8B", "H100-SXM", mode="bound"))
    >>> [row.scheme for row in told.rows], round(told.row("w4a16").decode_bound, 2)
    (['bf16', 'fp8', 'w4a16'], 3.15)
    """
    wanted = spec if isinstance(spec, QuantisationSpec) else validate(QuantisationSpec, dict(spec or {}))
    own = deployment.precision.name or deployment.precision.weights
    rows = [_row(own, deployment, deployment)]
    for scheme in wanted.schemes:
        if _same(precision(scheme), deployment.precision):
            continue
        try:
            rows.append(_row(scheme, with_precision(deployment, scheme), deployment))
        except InferSimError as error:
            rows.append(SchemeRow(scheme, None, str(error), accuracy=accuracy_of(scheme)))
    return QuantisationAnswer(deployment, tuple(rows))


def _same(one: Precision, other: Precision) -> bool:
    return one.model_copy(update={"name": ""}) == other.model_copy(update={"name": ""})


def _row(scheme: str, one: Estimate, base: Estimate) -> SchemeRow:
    """A scheme with its bounds, at the batches that the deployment runs in its own formats."""
    try:
        published = accuracy_of(scheme)
    except SpecError:  # formats of one's own have no name that findings go by
        published = ()
    if not (one.fits and base.fits) or base.model.task != "generate":
        return SchemeRow(scheme, one, "" if one.fits else "does not fit", accuracy=published)
    state = base.state
    assert state is not None

    def step(which: Estimate, batch: Any) -> StepTime:
        return predict_step(which.model, which.parallelism, which.precision, batch, which.machine, sampler=which.sampler,
                            eager=which.knobs.enforce_eager)  # fmt: skip

    decodes, prompts = (
        tuple(step(which, batch) for which in (base, one)) for batch in (state.decode_batch, state.prefill_batch)
    )
    moved = [float(np.sum(found.bytes)) for found in decodes]
    return SchemeRow(
        scheme, one, "", byte_bound(*moved), float(decodes[0].seconds / decodes[1].seconds), _prefill_bound(prompts[0], base, one),
        float(prompts[0].seconds / prompts[1].seconds), published,
    )  # fmt: skip


def _prefill_bound(before: StepTime, base: Estimate, one: Estimate) -> float:
    """Amdahl's bound of a step with prompts: each matrix product by the ratio of its units' rates. Bytes are not in it: where products
    wait for memory, fewer bytes gain more than their unit does."""
    products = [row for row, op in enumerate(before.ops) if isinstance(op, MatrixOp)]
    share = float(before.op_seconds[products].sum() / before.seconds)
    peaks = one.machine.accelerator.peak_flops
    unit_of = [matrix_unit(*which.precision.of("mlp"), which.machine.accelerator) for which in (base, one)]
    return float(amdahl_bound(share, peaks[unit_of[1]] / peaks[unit_of[0]]))
