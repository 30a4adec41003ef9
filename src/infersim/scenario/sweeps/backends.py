"""Where chunks are answered: in this process, in one process per core, or on the workers of a Dask or Ray cluster.

Every backend is a generator of (chunk, rows) in the order that chunks are done. At most ``AHEAD`` chunks a worker are under way, so
that a sweep of any size needs no more memory than these.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from infersim.errors import InferSimError, SpecError, UnknownNameError, did_you_mean
from infersim.scenario.sweeps.solve import Task

if TYPE_CHECKING:
    import pyarrow as pa

AHEAD = 2
CONNECT_SECONDS = 5.0
"""How long a scheduler may take to answer ..."""
START_SECONDS = 60.0
"""... and the workers of this machine to start."""
IDLE_SECONDS = 20
"""After which a process without work ends: those of a run that was killed, too."""
Chunk = tuple[int, int, int]
"""Number of a chunk, its first point, and the point behind its last one."""
Done = Generator[tuple[int, "pa.Table"], None, None]


def check_backend(backend: str, workers: int | None, address: str | None) -> None:
    """SpecError where there is no such backend, or not with these workers or this address."""
    if backend not in BACKENDS:
        raise UnknownNameError(f"no backend is called {backend!r}; {did_you_mean(backend, BACKENDS)}", field="backend")
    if workers is not None and workers < 1:
        raise SpecError(f"is one or more, got {workers}", field="workers")
    if address is not None and backend not in ("dask", "ray"):
        raise SpecError(f"is of a cluster: write backend dask or ray with it, not {backend}", field="address")


def answered(task: Task, chunks: Iterable[Chunk], *, backend: str, workers: int | None, address: str | None) -> Done:
    """The rows of every chunk as they are done. SpecError where a backend is missing or does not answer."""
    return BACKENDS[backend](task, chunks, workers or os.cpu_count() or 1, address)


def _serial(task: Task, chunks: Iterable[Chunk], workers: int, address: str | None) -> Done:
    for chunk, start, stop in chunks:
        yield chunk, task.chunk(start, stop)


def _run(task: Task, chunk: Chunk) -> tuple[int, pa.Table]:
    return chunk[0], task.chunk(*chunk[1:])


def _processes(task: Task, chunks: Iterable[Chunk], workers: int, address: str | None) -> Done:
    """One process per core; numpy and BLAS keep to one thread in each."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with parallel_config(backend="loky", inner_max_num_threads=1, max_nbytes=None, idle_worker_timeout=IDLE_SECONDS):
        pool = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch=AHEAD * workers)
        results = pool(delayed(_run)(task, chunk) for chunk in chunks)
        try:
            for done in results:  # noqa: UP028 - closed below
                yield done
        except TerminatedWorkerError as error:
            raise InferSimError(
                f"a worker process came to an end, for want of memory perhaps ({workers} were at work)"
            ) from error
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that chunks under way are given up is told by the caller
                results.close()


def _dask(task: Task, chunks: Iterable[Chunk], workers: int, address: str | None) -> Done:
    """A Dask cluster at ``address``, or one of this machine's cores."""
    distributed, own = _imported("distributed", "dask"), address is None
    with contextlib.ExitStack() as stack:
        if address is None:
            from distributed.deploy.subprocess import SubprocessCluster

            cluster = SubprocessCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL,
                                        worker_class="distributed.Worker", worker_kwargs={"silence_logs": logging.CRITICAL})  # fmt: skip
            stack.callback(_close_quietly, cluster)
            address = cluster.scheduler_address
        else:
            _reach(address, DASK)
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except Exception as error:  # whatever else may listen there answers anything
            raise _unreachable(str(address), DASK, error) from error
        try:
            client.wait_for_workers(workers if own else 1, timeout=START_SECONDS if own else CONNECT_SECONDS)
        except TimeoutError as error:
            raise SpecError(
                f"the Dask scheduler at {address} has no workers; start some: dask worker {address}", field="address"
            ) from error
        slots = sum(client.nthreads().values())
        shared = client.scatter(task, broadcast=True, hash=False)
        waiting = iter(chunks)

        def submit(chunk: Chunk) -> Any:
            return client.submit(_run, shared, chunk, pure=False, retries=2)

        first = [submit(chunk) for chunk in itertools.islice(waiting, AHEAD * slots)]
        done = distributed.as_completed(first, loop=client.loop)
        del first
        for future in done:
            with _kindly("Dask", OSError, distributed.KilledWorker):
                result = future.result()
            future.release()
            for chunk in itertools.islice(waiting, 1):
                done.add(submit(chunk))
            yield result


def _close_quietly(cluster: Any) -> None:
    with contextlib.suppress(Exception):  # Ctrl-C reaches its processes as well, which may be gone
        cluster.close(timeout=3)


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
            with _kindly("Ray", ray.exceptions.RayError):
                result = ray.get(first)
            running += [remote.remote(shared, chunk) for chunk in itertools.islice(waiting, 1)]
            yield result
    finally:
        if own:
            ray.shutdown()


@contextlib.contextmanager
def _kindly(what: str, *broken: type[Exception]) -> Iterator[None]:
    """What a worker raised, and a cluster that breaks down, as errors of ours."""
    try:
        yield
    except broken as error:
        cause = getattr(error, "cause", None)  # Ray wraps what a worker raised
        if isinstance(cause, (InferSimError, ImportError)):
            raise _of_worker(what, cause) from error
        raise InferSimError(
            f"the {what} cluster lost its work ({str(error).strip().splitlines()[-1]}); run the same again to go on"
        ) from error
    except ImportError as error:
        raise _of_worker(what, error) from error


def _of_worker(what: str, error: InferSimError | ImportError) -> InferSimError:
    if isinstance(error, InferSimError):
        return error
    return SpecError(
        f"a worker of the {what} cluster cannot import what it needs ({error}): install infersim there", field="backend"
    )


def _start_ray(ray: Any, workers: int, address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=256 * 2**20,
            **quiet,
        )
        return
    if address != "auto":
        _reach(address, RAY)
    try:
        ray.init(address=address, **quiet)
    except Exception as error:
        raise _unreachable(address, RAY, error) from error


BACKENDS: dict[str, Callable[[Task, Iterable[Chunk], int, str | None], Done]] = {
    "processes": _processes, "serial": _serial, "dask": _dask, "ray": _ray,
}  # fmt: skip


def _imported(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SpecError(f"{extra} is not installed: pip install 'infersim[{extra}]'", field="backend") from error


DASK = "Dask scheduler", "dask scheduler", lambda hello: len(hello) >= 8 and int.from_bytes(hello[:8], "little") < 2**20
"""What it is called, how one is started, and how its first bytes begin: with the length of the next ones ..."""
RAY = "Ray cluster", "ray start --head", lambda hello: len(hello) >= 9 and hello[3] == HTTP2_SETTINGS
"""... and with the settings of HTTP/2, which gRPC speaks."""
HTTP2_SETTINGS = 4


def _reach(address: str, server: tuple[str, str, Callable[[bytes], bool]]) -> None:
    """SpecError within a few seconds where no such server is at an address, which clients may take minutes to find out."""
    what, _, greets = server
    host, _, port = address.rsplit("://", 1)[-1].rpartition(":")
    if not host or not port.isdigit():
        raise SpecError(f"is HOST:PORT of a {what}, got {address!r}", field="address")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS) as line:
            if not address.startswith("tls://") and not greets(line.recv(64)):
                raise OSError("something else listens there")
    except (OSError, OverflowError) as error:
        raise _unreachable(address, server, error) from error


def _unreachable(address: str, server: tuple[str, str, Any], error: Exception) -> SpecError:
    what, start, _ = server
    return SpecError(f"no {what} answers at {address} ({error}); start one: {start}", field="address")
