"""Read measured experts, latent attention, scans and collectives from the aiconfigurator-core package.

The package (Apache-2.0, PyPI) carries NVIDIA's kernel timings as parquet files, one per device, engine, version and kind.
Every function here returns ``KernelTable`` columns in SI units; rows that cannot be mapped are counted by reason.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.calibrate.measurements import KernelTable, Kind
from infersim.errors import UnsupportedError

Array = npt.NDArray[np.float64]

FOLDERS = {
    "A100-80GB-SXM": "a100_sxm", "H100-SXM": "h100_sxm", "H200-SXM": "h200_sxm", "B200-SXM": "b200_sxm",
    "B300-SXM": "b300_sxm", "GB200": "gb200", "GB300": "gb300", "L40S": "l40s",
    "RTX-PRO-6000-Blackwell": "rtx_pro_6000_server", "Arc-Pro-B60": "b60",
}  # fmt: skip
"""Folder of each measured device."""

FORMATS = {
    "bfloat16": ("bf16", "bf16"), "fp8": ("fp8", "fp8"), "fp8_block": ("fp8_block", "fp8_block"),
    "nvfp4": ("nvfp4", "nvfp4"), "int4_wo": ("int4", "bf16"), "w4a16_mxfp4": ("mxfp4", "bf16"),
    "w4a8_mxfp4_mxfp8": ("mxfp4", "mxfp8"),
}  # fmt: skip
"""Formats of weights and activations by the package's name."""

UNGATED_INTERMEDIATE = 1856.0
UNGATED_EXPERTS_PER_TOKEN = 22.0
"""Marks of the models whose experts have two matrices (Nemotron 3); the files of two engines do not say it otherwise."""

LEAST_EXCHANGED = 4.0
"""Experts a token visits at least in the exchanges read: with fewer, a kernel's work is no longer its payload's."""

LEAST_ROWS = 300
"""A newer version's rows of a format replace an older one's only where there are at least this many."""


def data_folder() -> Path:
    """Where the package keeps its measurements. Raises UnsupportedError where it is not installed."""
    found = importlib.util.find_spec("aiconfigurator_core")
    if found is None or found.origin is None:
        raise UnsupportedError("measured kernels need the package aiconfigurator-core; pip install 'infersim[silicon]'")
    return Path(found.origin).parent / "systems" / "data"


def more_tables(device: str, engine: str, folder: Path | None = None) -> tuple[list[KernelTable], Counter[str]]:
    """Every table of the kinds read here for a device under an engine, and the rows left out by reason."""
    base = (folder or data_folder()) / FOLDERS[device]
    left: Counter[str] = Counter()
    tables: list[KernelTable] = []
    for read in (_experts, _latent, _scans, _all_reduce, _library, _exchange):
        tables += [table for table in read(base, device, engine, left) if len(table)]
    return tables, left


def version_order(version: str) -> tuple[float, ...]:
    """Sort key of a version: release candidates come before their release.

    >>> sorted(["1.3.0", "1.3.0rc20", "0.5.14", "1.3.0rc5", "0.5.6.post2"], key=version_order)
    ['0.5.6.post2', '0.5.14', '1.3.0rc5', '1.3.0rc20', '1.3.0']
    """
    release, _, candidate = version.partition(".post")[0].partition("rc")
    numbers = [float("".join(c for c in part if c.isdigit()) or 0) for part in release.split(".")[:3]]
    return (*numbers, *[0.0] * (3 - len(numbers)), float(candidate) if candidate else 1e9)


def files_by_version(folder: Path, pattern: str) -> list[Path]:
    """The files of a kind, whose folders are versions, the oldest version first."""
    return sorted(folder.glob(pattern), key=lambda path: version_order(path.parent.name))


def _frames(folder: Path, pattern: str) -> list[tuple[str, Any]]:
    """Version and data frame of each file, the oldest version first."""
    import pandas

    return [(path.parent.name, pandas.read_parquet(path)) for path in files_by_version(folder, pattern)]


def column(frame: Any, name: str) -> Array:
    """A column of a data frame as numbers."""
    values: Array = frame[name].to_numpy(dtype=np.float64)
    return values


def _smallest(shape: Mapping[str, Array], seconds: Array) -> tuple[dict[str, Array], Array]:
    """One row per shape: the fastest of repeated measurements and of several kernels."""
    if not len(seconds):
        return dict(shape), seconds
    stacked = np.column_stack(list(shape.values()))
    order = np.lexsort((seconds, *stacked.T[::-1]))
    ordered = stacked[order]
    first = np.concatenate([[True], np.any(ordered[1:] != ordered[:-1], axis=1)])
    chosen = order[first]
    return {name: values[chosen] for name, values in shape.items()}, seconds[chosen]


def kernel_table(
    kind: Kind, device: str, engine: str, version: str, kernel: str, shape: Mapping[str, Array], seconds: Array,
    formats: Mapping[str, str] | None = None,
) -> KernelTable:  # fmt: skip
    """Columns as a table: one row per shape, the fastest; rows without a time go."""
    columns, least = _smallest(shape, seconds)
    good = np.isfinite(least) & (least > 0)
    columns = {name: values[good] for name, values in columns.items()}
    source = f"aiconfigurator-core systems/data {device} {engine} {version}"
    return KernelTable(kind, device, engine, version, formats or {}, kernel, columns, least[good], source)


# --- experts ---------------------------------------------------------------------------------------------------------


def _family(source: str) -> str:
    """Kernel family of a MoE kernel's name."""
    for mark, family in (("marlin", "marlin"), ("oaitriton", "oai_triton"), ("trtllm_moe", "trtllm"), ("flashinfer_trtllm", "trtllm"),
                         ("triton", "triton"), ("cutlass", "cutlass"), ("deepgemm", "deepgemm")):  # fmt: skip
        if mark in source:
            return family
    return "default"


def _experts(base: Path, device: str, engine: str, left: Counter[str]) -> Iterator[KernelTable]:
    """Fused experts; ``kernel`` is empty for the family that serves most shapes of a format, its name for the others."""
    newest: dict[str, list[tuple[str, Any]]] = {}
    for version, frame in _frames(base, f"moe/{engine}/*/moe_perf.parquet"):
        for name, rows in frame.groupby("moe_dtype"):
            if name not in FORMATS:
                left[f"experts: format {name} is not modelled"] += len(rows)
                continue
            slow = rows["kernel_source"].str.contains("min_latency")
            left["experts: kernel for a few tokens, not the engine's default"] += int(slow.sum())
            rows = rows[~slow]
            same_release = name in newest and newest[name][-1][0].partition("rc")[0] == version.partition("rc")[0]
            candidates = "rc" in version and same_release and len(rows) < LEAST_ROWS * 60
            if candidates:  # a later candidate adds shapes to the release
                newest[name].append((version, rows))
            elif name not in newest or len(rows) >= LEAST_ROWS:
                if name in newest:
                    left["experts: older version"] += sum(len(old) for _, old in newest[name])
                newest[name] = [(version, rows)]
    for name, parts in newest.items():
        weights, activations = FORMATS[name]
        families: dict[tuple[str, bool], list[tuple[dict[str, Array], Array]]] = {}
        for _, rows in parts:
            ungated = rows["kernel_source"].str.contains("nongated").to_numpy()
            if engine != "trtllm":
                marked = column(rows, "topk") == UNGATED_EXPERTS_PER_TOKEN
                ungated = marked | (column(rows, "inter_size") == UNGATED_INTERMEDIATE)
            family = np.array([_family(source) for source in rows["kernel_source"]])
            shape = {
                "tokens": column(rows, "num_tokens"), "hidden": column(rows, "hidden_size"),
                "intermediate": column(rows, "inter_size"), "num_experts": column(rows, "num_experts"),
                "experts_per_token": column(rows, "topk"), "tensor_parallel": column(rows, "moe_tp_size"),
                "expert_parallel": column(rows, "moe_ep_size"), "skew": _skew(rows["distribution"]),
            }  # fmt: skip
            seconds = column(rows, "latency") * 1e-3
            for label in sorted(set(zip(family, ungated.tolist(), strict=True))):
                chosen = (family == label[0]) & (ungated == label[1])
                picked = {key: values[chosen] for key, values in shape.items()}
                families.setdefault((str(label[0]), bool(label[1])), []).append((picked, seconds[chosen]))
        version = parts[-1][0]
        joined = {label: _joined(rows) for label, rows in families.items()}
        for two in (False, True):
            ranked = sorted((label for label in joined if label[1] == two), key=lambda label: -len(joined[label][1]))
            for rank, label in enumerate(ranked):
                kernel = ".".join(part for part in ("ungated" if two else "", label[0] if rank else "") if part)
                shape, seconds = joined[label]
                shape = {**shape, "gated": np.full(len(seconds), 0.0 if two else 1.0)}
                formats = {"weights": weights, "activations": activations}
                yield kernel_table("moe", device, engine, version, kernel, shape, seconds, formats)


def _joined(parts: list[tuple[dict[str, Array], Array]]) -> tuple[dict[str, Array], Array]:
    names = parts[0][0]
    return {name: np.concatenate([shape[name] for shape, _ in parts]) for name in names}, np.concatenate(
        [seconds for _, seconds in parts]
    )


def _skew(distribution: Any) -> Array:
    """Exponent of the routing's power law; 0 where it is balanced."""
    exponents: Array = np.array([0.0 if name == "balanced" else float(name.rsplit("_", 1)[1]) for name in distribution])
    return exponents


# --- latent attention ------------------------------------------------------------------------------------------------


def _latent(base: Path, device: str, engine: str, left: Counter[str]) -> Iterator[KernelTable]:
    """Attention core of DeepSeek-V3 (rank 512, rope 64, nope 128, value 128), by cache format and phase."""
    for phase, name in (("prefill", "context"), ("decode", "generation")):
        frames = _frames(base, f"mla/{engine}/*/{name}_mla_perf.parquet")
        if not frames:
            continue
        version, frame = frames[-1]
        left["latent attention: older version"] += sum(len(old) for _, old in frames[:-1])
        for cache, rows in frame.groupby("kv_cache_dtype"):
            shape = {
                "count": column(rows, "batch_size"), "new": column(rows, "isl"), "cached": column(rows, "step"),
                "heads": column(rows, "num_heads"),
            }  # fmt: skip
            formats = {"kv_cache": "fp8" if cache == "fp8" else "bf16"}
            yield kernel_table("mla", device, engine, version, phase, shape, column(rows, "latency") * 1e-3, formats)


# --- scans -----------------------------------------------------------------------------------------------------------

SCAN_KINDS = {"gdn": "gated_delta_net", "kda": "kda", "mamba2": "mamba2"}
WHOLE_DECODE = ("fused_kda_decode", "kda_fused_decode", "fused_kda_decode_mtp_dspark")
"""Kernels that hold convolution and update in one."""


def _scans(base: Path, device: str, engine: str, left: Counter[str]) -> Iterator[KernelTable]:
    """Convolution plus scan of each shape; for Mamba 2 the files hold the convolution alone (kernel ``convolution``)."""
    from infersim.machine.kernels.scan import RECURRENT_NEW_TOKENS

    for name, folder in (("gdn", "linear_attention"), ("kda", "kda"), ("mamba2", "linear_attention")):
        frames = _frames(base, f"{folder}/{engine}/*/{name}_perf.parquet")
        if not frames:
            continue
        version, frame = frames[-1]
        left["scan: older version"] += sum(len(old) for _, old in frames[:-1])
        source = frame["kernel_source"]
        if name == "mamba2":
            shape = {
                "heads": column(frame, "nheads"), "key_dim": column(frame, "d_state"), "value_dim": column(frame, "head_dim"),
                "chunk": column(frame, "chunk_size"),
            }  # fmt: skip
            groups = column(frame, "n_groups")
            channels = shape["heads"] * shape["value_dim"] + 2 * groups * shape["key_dim"]
        else:
            shape = {
                "heads": column(frame, "num_v_heads"), "key_dim": column(frame, "head_k_dim"),
                "value_dim": column(frame, "head_v_dim"), "chunk": np.full(len(frame), 64.0),
            }  # fmt: skip
            channels = 2 * column(frame, "num_k_heads") * shape["key_dim"] + shape["heads"] * shape["value_dim"]
        shape |= {
            "sequences": column(frame, "batch_size"), "new": column(frame, "seq_len"), "conv_channels": channels,
            "conv_kernel": column(frame, "d_conv"),
        }  # fmt: skip
        prompt = (frame["phase"] == "context").to_numpy()
        usual = prompt == (shape["new"] > RECURRENT_NEW_TOKENS)
        left["scan: prompts as short as a step of decoding"] += int((~usual).sum())
        seconds = column(frame, "latency") * 1e-3
        convolution = source.str.contains("conv1d").to_numpy()
        whole = source.isin(WHOLE_DECODE).to_numpy()
        parts = {}
        for part, mask in (("conv", convolution), ("scan", ~convolution & ~whole), ("whole", whole)):
            chosen = usual & mask
            parts[part] = _smallest({key: values[chosen] for key, values in shape.items()}, seconds[chosen])
        kind = SCAN_KINDS[name]
        if name == "mamba2":
            yield kernel_table("scan", device, engine, version, f"{kind}.convolution", *parts["conv"])
            continue
        both = _sum(parts["conv"], parts["scan"])
        left["scan: convolution or scan alone"] += len(parts["conv"][1]) + len(parts["scan"][1]) - 2 * len(both[1])
        yield kernel_table("scan", device, engine, version, kind, *_joined([both, parts["whole"]]))


def _sum(
    first: tuple[dict[str, Array], Array], second: tuple[dict[str, Array], Array]
) -> tuple[dict[str, Array], Array]:
    """Shapes that both tables have, with the sum of their seconds."""
    keys = [tuple(row) for row in np.column_stack(list(first[0].values()))]
    place = {tuple(row): index for index, row in enumerate(np.column_stack([second[0][name] for name in first[0]]))}
    rows = [(index, place[key]) for index, key in enumerate(keys) if key in place]
    here, there = (np.array([pair[side] for pair in rows], dtype=int) for side in (0, 1))
    return {name: values[here] for name, values in first[0].items()}, first[1][here] + second[1][there]


# --- collectives -----------------------------------------------------------------------------------------------------

ELEMENT_BYTES = 2.0
"""``message_size`` counts elements; every engine's all-reduce was measured in 16 bits."""


def _all_reduce(base: Path, device: str, engine: str, left: Counter[str]) -> Iterator[KernelTable]:
    """An engine's all-reduce inside CUDA graphs (eager where nothing else was measured)."""
    frames = _frames(base, f"comm/{engine}/*/custom_allreduce_perf.parquet")
    if not frames:
        return
    version, frame = frames[-1]
    left["all-reduce: older version"] += sum(len(old) for _, old in frames[:-1])
    eager = frame["kernel_source"].str.contains("eager").to_numpy()
    if not eager.all():
        left["all-reduce: launched eagerly"] += int(eager.sum())
        frame = frame[~eager]
    shape = {"payload": column(frame, "message_size") * ELEMENT_BYTES, "devices": column(frame, "num_gpus")}
    yield kernel_table("collective", device, engine, version, "all_reduce", shape, column(frame, "latency") * 1e-3)


def _library(base: Path, device: str, engine: str, left: Counter[str]) -> Iterator[KernelTable]:
    """NCCL (oneCCL): the same for every engine, which call it for all but the small all-reduce."""
    frames = _frames(base, "comm/*ccl/*/*ccl_perf.parquet")
    if not frames:
        return
    version, frame = frames[-1]
    left["library collectives: older version"] += sum(len(old) for _, old in frames[:-1])
    width = np.where(frame["nccl_dtype"] == "half", 2.0, 1.0)
    for name, kind in (("all_gather", "all_gather"), ("reduce_scatter", "reduce_scatter"), ("alltoall", "all_to_all"),
                       ("all_reduce", "library_all_reduce")):  # fmt: skip
        chosen = (frame["op_name"] == name).to_numpy()
        devices = column(frame, "num_gpus")[chosen]
        payload = column(frame, "message_size")[chosen] * width[chosen]
        if kind == "all_to_all":  # what stays on the rank is no payload
            payload = payload * (devices - 1) / devices
        seconds = column(frame, "latency")[chosen] * 1e-3
        yield kernel_table(
            "collective", device, engine, version, kind, {"payload": payload, "devices": devices}, seconds
        )


def _exchange(base: Path, device: str, engine: str, left: Counter[str]) -> Iterator[KernelTable]:
    """Dispatch and combine of experts, the faster of the low-latency and the high-throughput kernels at each size."""
    found: dict[str, list[tuple[dict[str, Array], Array]]] = {"dispatch": [], "combine": []}
    versions: list[str] = []
    for version, frame in _frames(base, f"comm/{engine}/*/moe_a2a_perf.parquet")[-1:]:
        versions.append(version)
        for phase in found:
            rows = frame[(frame["phase"] == phase) & (frame["comm_dtype"].isin(["default", "bfloat16"]))]
            left["expert exchange: quantised on the way"] += int((frame["phase"] == phase).sum()) - len(rows)
            devices = column(rows, "ep_size")
            payload = _sent(column(rows, "num_tokens"), column(rows, "topk"), column(rows, "hidden_size"), devices, 2.0)
            nodes = column(rows, "node_num")
            found[phase].append(
                ({"payload": payload, "devices": devices, "nodes": nodes}, column(rows, "transmit_us") * 1e-6)
            )
    for mode, ending in (("ll", "avg_t_us"), ("normal", "transmit_us")):
        for version, frame in _frames(base, f"comm/{engine}/*/wideep_deepep_{mode}_perf.parquet"):
            versions.append(version)
            if mode == "normal":  # a token goes once to every node it needs, which a payload per rank does not say
                left["expert exchange: high-throughput kernels across nodes"] += int((frame["node_num"] > 1).sum())
                frame = frame[frame["node_num"] == 1]
            left["expert exchange: fewer than four experts a token"] += int((frame["num_topk"] < LEAST_EXCHANGED).sum())
            frame = frame[frame["num_topk"] >= LEAST_EXCHANGED]
            nodes = column(frame, "node_num")
            devices = nodes * (4.0 if device.startswith("GB") else 8.0)
            for phase, width in (("dispatch", 1.0), ("combine", 2.0)):
                payload = _sent(
                    column(frame, "num_token"),
                    column(frame, "num_topk"),
                    column(frame, "hidden_size"),
                    devices,
                    width,
                )
                shape = {"payload": payload, "devices": devices, "nodes": nodes}
                found[phase].append((shape, column(frame, f"{phase}_{ending}") * 1e-6))
    for phase, parts in found.items():
        if parts:
            yield kernel_table("collective", device, engine, versions[-1], phase, *_joined(parts))


def _sent(tokens: Array, experts_per_token: Array, hidden: Array, devices: Array, width: float) -> Array:
    """Bytes one rank sends: every token to the ranks of its experts other than its own."""
    visits = np.minimum(experts_per_token, devices) * (1 - 1 / devices)
    sent: Array = tokens * visits * hidden * width
    return sent
