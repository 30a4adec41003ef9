"""PyTorch on a CPU, a CUDA (or ROCm) GPU, an Apple or an Intel GPU."""

from __future__ import annotations

import time
from typing import Any

from infersim.errors import InferSimError, UnsupportedError
from infersim.microbench import blocks
from infersim.microbench.backends import COLD_FACTOR, Prepared
from infersim.microbench.cases import Attention, Case, Gemm, HostCopy, Launch, Pass, Stream

MOST_TURNS = 1000
"""Calls that a graph holds at most for the sake of rotation: of weights that small, the cache holds few either way."""

_GRAPHS_KEPT = 8


class TorchBackend:
    """Eager PyTorch. On CUDA a sample is one captured graph between two events, so that kernels are timed without their launch;
    elsewhere a sample is a loop on the host's clock, dispatch included. Weights and caches rotate through three times the
    last-level cache, so that they come from memory; what a kernel before would have written stays where it is."""

    name = "torch"

    def __init__(self, device: str, cache_bytes: float, formats: tuple[str, ...] | None = None) -> None:
        import torch

        self.torch, self.device, self.version = torch, device, str(torch.__version__)
        self.dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        self.formats = formats or self._formats()
        self._pool_bytes = int(COLD_FACTOR * cache_bytes)
        self._pools: dict[str, Any] = {}
        self._graphs: dict[tuple[int, int], Any] = {}
        self._next = 0
        alone = device == "cpu" and torch.get_num_threads() == 1
        self.clock = time.thread_time if alone else time.perf_counter
        """A lone thread's own time: what other processes take of its core does not count."""

    def _formats(self) -> tuple[str, ...]:
        if self.device == "cpu":
            native = getattr(self.torch.backends.cpu, "get_cpu_capability", str)()
            fast = ("AVX512" in str(native) and _cpu_flag("avx512_bf16")) or _cpu_flag("amx_bf16")
            return ("fp32", "bf16") if fast else ("fp32",)
        if self.device == "cuda":
            wide = self.torch.cuda.is_bf16_supported()
            return ("bf16", "fp16", "fp32") if wide else ("fp16", "fp32")
        return ("fp16", "fp32") if self.device == "mps" else ("bf16", "fp16", "fp32")

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device != "cpu":
            getattr(self.torch, self.device).synchronize()

    def time(self, prepared: Prepared, calls: int) -> float:
        with self.torch.inference_mode():
            if self.device == "cuda" and not prepared.eager:
                return self._graph_time(prepared, calls)
            call, first = prepared.call, self._next
            self._next += calls
            self.synchronise()
            begun = self.clock()
            for number in range(first, first + calls):
                call(number)
            self.synchronise()
            return self.clock() - begun

    def least_calls(self, prepared: Prepared) -> int:
        return min(prepared.turns, MOST_TURNS) if self.device == "cuda" else 1

    def _graph_time(self, prepared: Prepared, calls: int) -> float:
        cuda, key = self.torch.cuda, (id(prepared), calls)
        if key not in self._graphs:
            while len(self._graphs) >= _GRAPHS_KEPT:
                self._graphs.pop(next(iter(self._graphs)))
            side = cuda.Stream()
            side.wait_stream(cuda.current_stream())
            with cuda.stream(side):
                prepared.call(0)
            cuda.current_stream().wait_stream(side)
            graph = cuda.CUDAGraph()
            with cuda.graph(graph):
                for number in range(calls):
                    prepared.call(number)
            self._graphs[key] = (graph, prepared)  # kept, so that its id stays its own
        graph = self._graphs[key][0]
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    def _full(self, *shape: int, kind: str) -> Any:
        return self.torch.full(shape, 0.01, dtype=self.dtypes[kind], device=self.device)

    def _rotating(self, *shape: int, kind: str) -> list[Any]:
        size = 1
        for length in shape:
            size *= length
        pool = self._pools.get(kind)
        if pool is None or pool.numel() < size:
            element = self.torch.empty((), dtype=self.dtypes[kind]).element_size()
            pool = self._pools[kind] = self._full(max(size, self._pool_bytes // element), kind=kind)
            pool.uniform_(-0.05, 0.05)  # constants would draw less power than weights do
        return [pool[at : at + size].view(shape) for at in range(0, pool.numel() - size + 1, size)]

    def prepare(self, case: Case) -> Prepared:
        try:
            with self.torch.inference_mode():
                return self._prepare(case)
        except InferSimError:
            raise
        except RuntimeError as error:
            raise UnsupportedError(f"torch cannot run {case.key}: {str(error).splitlines()[0]}") from error

    def _prepare(self, case: Case) -> Prepared:
        if getattr(case, "format", "fp32") not in self.dtypes:
            raise UnsupportedError(f"torch does not run {case.key}")
        if isinstance(case, Gemm):
            linear = self.torch.nn.functional.linear
            x, weights = (
                self._full(case.m, case.k, kind=case.format),
                self._rotating(case.n, case.k, kind=case.format),
            )
            copies = len(weights) if case.cold else 1
            return Prepared(lambda number: linear(x, weights[number % copies]), copies)
        if isinstance(case, Stream):
            array = self._full(case.bytes // 4, kind="fp32")
            half = array.numel() // 2
            low, high = array[:half], array[half : 2 * half]
            return Prepared(
                (lambda number: array.sum()) if case.pattern == "read" else (lambda number: low.copy_(high))
            )
        if isinstance(case, Attention):
            return self._attention(case)
        if isinstance(case, Pass):
            return self._pass(case)
        if isinstance(case, Launch):
            return self._launch(case)
        if isinstance(case, HostCopy) and self.device == "cuda":
            there = self.torch.empty(case.bytes, dtype=self.torch.uint8, device=self.device)
            here = self.torch.empty(case.bytes, dtype=self.torch.uint8, pin_memory=True)
            source, target = (here, there) if case.direction == "to_device" else (there, here)
            return Prepared(lambda number: target.copy_(source, non_blocking=True))
        raise UnsupportedError(f"torch on {self.device} does not run {case.key}")

    def _attention(self, case: Attention) -> Prepared:
        length = case.cached + case.new
        q = self._full(case.count, case.new, case.heads, case.head_dim, kind=case.format).transpose(1, 2)
        caches = self._rotating(case.count, case.kv_heads, length, case.head_dim, kind=case.format)
        if len(caches) < 2:
            caches = [*caches, self._full(case.count, case.kv_heads, length, case.head_dim, kind=case.format)]
        if case.phase == "prefill":
            caches = caches[:2]  # a prompt's keys were written just before
        pairs = len(caches) // 2

        def run(number: int) -> Any:
            turn = 2 * (number % pairs)
            return blocks.attend(q, caches[turn], caches[turn + 1], length)

        return Prepared(run, pairs)

    def _pass(self, case: Pass) -> Prepared:
        B, T, width, name = case.sequences, case.new, case.width, case.format
        if case.name == "norm":
            x, update, weight = (
                self._full(B, T, width, kind=name),
                self._full(B, T, width, kind=name),
                self._full(width, kind=name),
            )
            bias = weight if case.variant == "layer" else None
            return Prepared(lambda number: blocks.norm(x, update, weight, bias))
        if case.name == "activation":
            gated = case.variant == "gated"
            up = self._full(B, T, width * (2 if gated else 1), kind=name)
            return Prepared(lambda number: blocks.activation(up, gated))
        if case.name == "rotary and cache write":
            keys, values = (self._full(B, case.kv_heads, T, width, kind=name) for _ in range(2))
            qkv = self._full(B, T, (case.heads + 2 * case.kv_heads) * width, kind=name)
            where = {"dtype": self.dtypes[name], "device": self.device}
            turned = blocks.angles(T, width, **where) if case.variant == "rotary" else None
            return Prepared(
                lambda number: blocks.position_and_append(qkv, keys, values, 0, heads=case.heads, angles=turned)
            )
        if case.name == "embedding":
            table = self._full(32768, width, kind=name)
            tokens = (self.torch.arange(B * T, device=self.device) * 31 % 32768).view(B, T)
            return Prepared(lambda number: blocks.embed(table, None, tokens, 0))
        logits = self._full(B, width, kind=name)
        return Prepared(lambda number: logits.argmax(dim=-1))

    def _launch(self, case: Launch) -> Prepared:
        one = self.torch.zeros(1, device=self.device)
        if case.way == "graph" and self.device != "cuda":
            raise UnsupportedError(f"torch on {self.device} captures no graphs")
        return Prepared(lambda number: one.add_(1.0), eager=case.way == "eager")


def _cpu_flag(flag: str) -> bool:
    from infersim.microbench.environment import cpu_flags

    return flag in cpu_flags()
