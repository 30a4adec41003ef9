"""Collectives among the devices of this machine: NCCL (or RCCL) among GPUs, Gloo among processes on the CPU."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infersim.errors import UnsupportedError
from infersim.microbench.cases import Case, Collective, read_case
from infersim.microbench.results import Row
from infersim.microbench.timing import summarise

REPEATS = 10
"""Timings of each collective, after two that warm up."""

PATIENCE = 300.0
"""Longest wait for one collective [s]."""


def measure_collectives(cases: Sequence[Case], ranks: int, device: str) -> Iterator[Row]:
    """Timings of every case by ``ranks`` processes; the slowest rank counts. Raises UnsupportedError without torch.distributed."""
    try:
        import torch.distributed
        import torch.multiprocessing
    except ImportError as error:
        raise UnsupportedError("collectives need PyTorch; pip install 'infersim[bench]'") from error
    if not torch.distributed.is_available():
        raise UnsupportedError("this PyTorch was built without torch.distributed")
    context = torch.multiprocessing.get_context("spawn")
    answers = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{Path(folder) / 'meeting'}"
        records = [case.record() for case in cases]
        workers = [
            context.Process(target=_rank, args=(rank, ranks, device, meeting, records, answers), daemon=True)
            for rank in range(ranks)
        ]
        for worker in workers:
            worker.start()
        try:
            for case in cases:
                answer = answers.get(timeout=PATIENCE)
                if isinstance(answer, str):
                    yield Row(case, 0, None, answer)
                else:
                    yield Row(case, 0, summarise(answer))
        finally:
            for worker in workers:
                worker.join(timeout=10)
                if worker.is_alive():
                    worker.terminate()


def _rank(rank: int, ranks: int, device: str, meeting: str, records: list[dict[str, Any]], answers: Any) -> None:
    """One process: every case in order; rank 0 answers with its seconds, or with why there are none."""
    import torch
    import torch.distributed as group

    if device == "cuda":
        torch.cuda.set_device(rank)
    group.init_process_group("nccl" if device == "cuda" else "gloo", init_method=meeting, rank=rank, world_size=ranks)
    try:
        for record in records:
            case = read_case(record)
            assert isinstance(case, Collective)
            try:
                answer: Any = _seconds(case, device)
            except RuntimeError as error:
                answer = f"{case.name} failed: {str(error).splitlines()[0]}"
            if rank == 0:
                answers.put(answer)
    finally:
        group.destroy_process_group()


def _seconds(case: Collective, device: str) -> list[float]:
    """Seconds of each repeat, the slowest rank's."""
    import torch
    import torch.distributed as group

    n, elements = case.devices, max(case.payload // 4, case.devices) // case.devices * case.devices
    tensor = torch.ones(elements, device=device)
    part = torch.ones(elements // n, device=device)
    calls = {
        "all_reduce": lambda: group.all_reduce(tensor),
        "all_gather": lambda: group.all_gather(list(tensor.chunk(n)), part),
        "reduce_scatter": lambda: group.reduce_scatter(part, list(tensor.chunk(n))),
        "all_to_all": lambda: group.all_to_all_single(torch.empty_like(tensor), tensor),
    }
    found = []
    for repeat in range(REPEATS + 2):
        tensor.fill_(1.0)
        group.barrier()
        begun = time.perf_counter()
        calls[case.name]()
        if device == "cuda":
            torch.cuda.synchronize()
        took = torch.tensor([time.perf_counter() - begun], device=device)
        group.all_reduce(took, op=group.ReduceOp.MAX)
        if repeat >= 2:
            found.append(float(took))
    return found
