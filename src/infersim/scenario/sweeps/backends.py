"""Where chunks are answered: in this process, in one process per core, or on the workers of a Dask or Ray cluster.

Every backend is a generator of (chunk, rows) in the order that chunks are done. At most ``AHEAD`` chunks a worker are under way, so
that a sweep of any size needs no more memory than these.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from infersim.errors import InferSimError, SpecError, UnknownNameError, did_you_mean
from infersim.scenario.sweeps.solve import Task

if TYPE_CHECKING:
    import pyarrow as pa

AHEAD = 2
CONNECT_SECONDS = 5.0
"""How long a scheduler may take to answer."""
Chunk = tuple[int, int, int]
"""Number of a chunk, its first point, and the point behind its last one."""
Done = Generator[tuple[int, "pa.Table"], None, None]


def answered(task: Task, chunks: Iterable[Chunk], *, backend: str, workers: int | None, address: str | None) -> Done:
    """The rows of every chunk as they are done. SpecError where the backend is unknown, missing or does not answer."""
    if backend not in BACKENDS:
        raise UnknownNameError(f"no backend is called {backend!r}; {did_you_mean(backend, BACKENDS)}", field="backend")
    if workers is not None and workers < 1:
        raise SpecError(f"is one or more, got {workers}", field="workers")
    if address is not None and backend not in ("dask", "ray"):
        raise SpecError(f"is of a cluster: write backend dask or ray with it, not {backend}", field="address")
    return BACKENDS[backend](task, chunks, workers or os.cpu_count() or 1, address)


def _serial(task: Task, chunks: Iterable[Chunk], workers: int, address: str | None) -> Done:
    for chunk, start, stop in chunks:
        yield chunk, task.chunk(start, stop)


def _run(task: Task, chunk: Chunk) -> tuple[int, pa.Table]:
    return chunk[0], task.chunk(*chunk[1:])


def _processes(task: Task, chunks: Iterable[Chunk], workers: int, address: str | None) -> Done:
    """One process per core; numpy and BLAS keep to one thread in each."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with parallel_config(backend="loky", inner_max_num_threads=1):
        pool = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch=AHEAD * workers)
        try:
            yield from pool(delayed(_run)(task, chunk) for chunk in chunks)
        except TerminatedWorkerError as error:
            raise InferSimError(
                f"a worker process came to an end, for want of memory perhaps ({workers} were at work)"
            ) from error
        finally:
            get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _dask(task: Task, chunks: Iterable[Chunk], workers: int, address: str | None) -> Done:
    """A Dask cluster at ``address``, or one of this machine's cores."""
    distributed = _imported("distributed", "dask")
    with contextlib.ExitStack() as stack:
        if address is None:
            cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            address = stack.enter_context(cluster)
        else:
            _reach(address, "Dask scheduler", "dask scheduler")
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, TimeoutError, ValueError) as error:
            raise _unreachable(str(address), "Dask scheduler", "dask scheduler", error) from error
        slots = sum(client.nthreads().values())
        if not slots:
            raise SpecError(
                f"the Dask scheduler at {address} has no workers; start one: dask worker {address}", field="address"
            )
        shared = client.scatter(task, broadcast=True, hash=False)
        waiting = iter(chunks)

        def submit(chunk: Chunk) -> Any:
            return client.submit(_run, shared, chunk, pure=False, retries=2)

        done = distributed.as_completed([submit(chunk) for chunk in itertools.islice(waiting, AHEAD * slots)])
        for future in done:
            result = future.result()
            future.release()
            for chunk in itertools.islice(waiting, 1):
                done.add(submit(chunk))
            yield result


def _ray(task: Task, chunks: Iterable[Chunk], workers: int, address: str | None) -> Done:
    """A Ray cluster at ``address`` or the one this process is connected to; else one of this machine's cores."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _imported("ray", "ray")
    own = not ray.is_initialized()
    if own:
        _start_ray(ray, workers, address)
    try:
        slots = int(ray.cluster_resources().get("CPU", 1)) or 1
        shared, remote = ray.put(task), ray.remote(num_cpus=1, max_retries=2)(_run)
        waiting = iter(chunks)
        running = [remote.remote(shared, chunk) for chunk in itertools.islice(waiting, AHEAD * slots)]
        while running:
            (first,), running = ray.wait(running, num_returns=1)
            try:
                result = ray.get(first)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, InferSimError) else error from error
            running += [remote.remote(shared, chunk) for chunk in itertools.islice(waiting, 1)]
            yield result
    finally:
        if own:
            ray.shutdown()


def _start_ray(ray: Any, workers: int, address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=256 * 2**20,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
        return
    if address != "auto":
        _reach(address, "Ray cluster", "ray start --head")
    try:
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        raise _unreachable(address, "Ray cluster", "ray start --head", error) from error


BACKENDS: dict[str, Callable[[Task, Iterable[Chunk], int, str | None], Done]] = {
    "processes": _processes, "serial": _serial, "dask": _dask, "ray": _ray,
}  # fmt: skip


def _imported(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SpecError(f"{extra} is not installed: pip install 'infersim[{extra}]'", field="backend") from error


def _reach(address: str, what: str, start: str) -> None:
    """SpecError within a few seconds where nobody listens at an address, which clients may take minutes to find out."""
    host, _, port = address.rsplit("://", 1)[-1].rpartition(":")
    if not host or not port.isdigit():
        raise SpecError(f"is HOST:PORT of a {what}, got {address!r}", field="address")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, what, start, error) from error


def _unreachable(address: str, what: str, start: str, error: Exception) -> SpecError:
    return SpecError(f"no {what} answers at {address} ({error}); start one: {start}", field="address")
