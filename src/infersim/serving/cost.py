"""The time of a step as a function of sums, tabulated once per deployment, so that a step costs microseconds to price.

The ops of a step fall into three: those that see only the number of new tokens x (products, norms, collectives), those that
see only the number of sampled tokens s (the head), and those of one group of sequences (attention, scans):

    device = tokens[x] + head[s] + attention of the decodes (count, context sum) + attention of the prompts (count, new
             tokens, visible pairs) + launch gaps
    step   = max(device, host work) + sync where the engine overlaps the two, else the sum of all three

With drafts a decoding sequence has several new tokens, and the passes of the drafter, priced in the same way, are added to the
device's time. The first two tables are exact at whole numbers. Attention of decodes is a straight line between knots of the mean context,
which makes the time of k further decode steps a closed form; that of prompts is interpolated in three sums. Prompts of unequal
length count as equal ones with the same number, new tokens and visible pairs: engines run them in one kernel.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infersim.errors import UnsupportedError
from infersim.machine.machine import Machine
from infersim.mechanisms import ABSORBED_NEW_TOKENS
from infersim.ops.attention import Attention, Scan
from infersim.ops.base import Op
from infersim.ops.drafts import Drafter
from infersim.ops.sampling import Sampler
from infersim.ops.transformer import Batch, Group, step_ops
from infersim.predict.latency import encoder_tokens
from infersim.predict.pricing import as_engine_runs
from infersim.predict.step import StepTime, price, submission_seconds
from infersim.specs.deployment import Parallelism
from infersim.specs.model import ModelSpec
from infersim.specs.precision import Precision

EXACT_SEQUENCES = 256
"""Up to this many decoding sequences every number has its row; beyond it rows lie 2% apart."""
EXACT_TOKENS = 16384
"""Up to this many new tokens every number has its entry; beyond it entries lie TOKEN_STEP apart."""
TOKEN_STEP = 64
CONTEXT_STEP, PROMPT_STEP, CACHED_STEP = 1.15, 1.1, 1.25
"""Ratios between neighbouring knots of the mean context, of a prompt's new tokens and of its cached ones."""


@dataclass(frozen=True)
class _Parts:
    """Kernel and network seconds of the ops that are priced together."""

    kernel: Any
    network: Any


class StepCost:
    """Step times of one deployment. Build it with ``step_cost``; everything is plain lists, read by index.

    ``knots``: mean contexts; ``decode_row(b)``: seconds of a pure decode step of b sequences at each of them.
    """

    def __init__(
        self, ops_of: Callable[[Batch], list[Op]], parallelism: Parallelism, machine: Machine, *, max_sequences: int,
        max_tokens: int, max_context: int, eager: bool = False, submission: float = 0.0, width: int = 1, sampled: int = 1,
        prompts: bool = True, passes: tuple[tuple[StepCost, int], ...] = (),
    ) -> None:  # fmt: skip
        self._ops_of = ops_of
        self.machine, self.ranks, self.stages = machine, parallelism.attention_data, parallelism.pipeline
        self.width, self.sampled = width, sampled
        """New tokens of a decoding sequence in a step, and how many of them get logits."""
        self.passes = passes
        """Passes of a drafter behind the step: the first sees its prompts too, the others a token or more of every sequence."""
        self._lane_tokens = max(max_tokens // self.stages, 1)
        self.bound = machine.mode == "bound"
        self._captured = not eager and machine.accelerator.kind == "gpu"
        host = machine.engine.host
        self._host = host
        self._submission, self._captured_tokens = submission, machine.engine.captured_tokens
        self._tabulate_tokens(max(max_tokens, max_sequences * width), max_sequences * sampled)
        self._tabulate_decode(max_sequences, max_context)
        if prompts:
            self._tabulate_prompts(max_tokens, max_context)

    # -- building ------------------------------------------------------------------------------------------------------

    def _tabulate_tokens(self, max_tokens: int, max_sampled: int) -> None:
        self._exact = min(EXACT_TOKENS, max_tokens)
        tail = np.arange(self._exact + TOKEN_STEP, 1.25 * max_tokens + 2 * TOKEN_STEP, TOKEN_STEP)
        tokens = np.concatenate([np.arange(1, self._exact + 1), tail]).astype(float)
        self._last = float(tokens[-1])
        rows = self._price((Group(tokens * self.ranks, 1.0, 0.0, 1.0 / tokens / self.ranks),), groups=False)
        self.tokens_kernel, self.tokens_network = rows.kernel.tolist(), rows.network.tolist()
        sampled = np.arange(1.0, max_sampled + 2.0)
        rows = self._price((Group(float(self.ranks), 1.0, 0.0, sampled / self.ranks),), groups=False)
        self.head_kernel = [0.0, *(rows.kernel - self.tokens_kernel[0]).tolist()]
        self.head_network = [0.0, *(rows.network - self.tokens_network[0]).tolist()]
        one: Batch = (Group(1.0, 1.0, 1.0),)
        kernels = {True: 0.0, False: 0.0}
        ops = self._ops_of(one)
        for op in ops if self.bound else as_engine_runs(ops, self.machine):
            kernels[_of_group(op)] += op.count * getattr(op, "kernels", 1)
        self.kernels, self.kernels_per_group = kernels[False], kernels[True]

    def _tabulate_decode(self, max_sequences: int, max_context: int) -> None:
        self.knots = _geometric(1.0, float(max_context + 2), CONTEXT_STEP)
        counts = list(range(1, min(EXACT_SEQUENCES, max_sequences) + 1))
        while counts[-1] < max_sequences:
            counts.append(min(max(counts[-1] + 1, round(counts[-1] * 1.02)), max_sequences))
        self._counts = counts
        shape = (len(counts), len(self.knots))
        batch = (Group(np.repeat(counts, shape[1]).astype(float), float(self.width), np.tile(self.knots, shape[0])),)
        self._attention: list[list[float]] = self._price(batch, groups=True).kernel.reshape(shape).tolist()
        self._rows: dict[int, list[float]] = {}
        self._attention_rows: dict[int, list[float]] = {}

    def _tabulate_prompts(self, max_tokens: int, max_context: int) -> None:
        self.prompt_counts = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0, 256.0]
        self.prompt_new = _prompt_knots(float(max_tokens))
        self.prompt_cached = [0.0, *_geometric(16.0, float(max(max_context, 32)), CACHED_STEP)]
        shape = (len(self.prompt_new), len(self.prompt_counts), len(self.prompt_cached))
        new, count, cached = (grid.ravel() for grid in np.meshgrid(
            self.prompt_new, self.prompt_counts, self.prompt_cached, indexing="ij"))  # fmt: skip
        seconds = np.maximum(self._price((Group(count, new, cached),), groups=True).kernel, 1e-12)
        self._prompts: list[list[list[float]]] = seconds.reshape(shape).tolist()
        self._log_new = [math.log(value) for value in self.prompt_new]

    def _price(self, batch: Batch, *, groups: bool, block: int = 4096) -> _Parts:
        """Seconds of the ops of groups, or of all others, for long arrays of batches. A group's network counts as kernel."""
        size = max(np.size(value) for group in batch for value in (group.count, group.new, group.cached, group.sampled))
        kernel, network = np.zeros(size), np.zeros(size)
        fields = ("count", "new", "cached", "sampled")
        for start in range(0, size, block):
            part = tuple(
                replace(group, **{
                    name: value[start : start + block] for name in fields if np.ndim(value := getattr(group, name))
                })
                for group in batch
            )  # fmt: skip
            step: StepTime = price([op for op in self._ops_of(part) if _of_group(op) == groups], self.machine)
            stop = min(start + block, size)
            kernel[start:stop] = step.kernel_seconds
            network[start:stop] = step.network_seconds
        return _Parts(kernel + network, 0 * network) if groups else _Parts(kernel, network)

    # -- reading -------------------------------------------------------------------------------------------------------

    def finish(self, kernel: float, network: float, launches: float, sequences: float) -> float:
        """A step's seconds from its kernels and communication: launch gaps and host time added."""
        if self.bound:
            return max(kernel, network)
        device = kernel + network
        engine = self.machine.engine
        if self._captured:
            device += launches * engine.launch_gap
        else:
            device = max(device, launches * engine.eager_launch)
        host = self._host
        work, shown = host.step + host.sequence * sequences, host.sync + host.sync_sequence * sequences
        return (max(device, work) if host.overlap else device + work) + shown

    def tokens_at(self, table: list[float], tokens: float) -> float:
        """A token table at any number: exact at whole ones up to EXACT_TOKENS, linear between, proportional past its end."""
        if tokens >= self._last:
            return table[-1] * tokens / self._last
        place = tokens - 1.0 if tokens <= self._exact else self._exact - 1.0 + (tokens - self._exact) / TOKEN_STEP
        low = max(int(place), 0)
        share = place - low
        return table[low] + share * (table[low + 1] - table[low]) if share > 0 else table[low]

    def attention_row(self, sequences: int) -> list[float]:
        """Seconds of the attention of so many decoding sequences at every knot of the mean context."""
        row = self._attention_rows.get(sequences)
        if row is None:
            place = bisect_right(self._counts, sequences) - 1
            low = self._counts[place]
            if low == sequences:
                row = self._attention[place]
            else:
                high = self._counts[place + 1]
                share = (sequences - low) / (high - low)
                row = [
                    a + share * (b - a) for a, b in zip(self._attention[place], self._attention[place + 1], strict=True)
                ]
            self._attention_rows[sequences] = row
        return row

    def decode_row(self, sequences: int) -> list[float]:
        """Seconds of a whole decode step of so many sequences at every knot of the mean context.

        With p pipeline stages the sequences go in p micro-batches, one behind the other: every sequence gets a token in the time
        that the fullest of them takes through all stages.
        """
        sequences = -(-sequences // self.stages)
        row = self._rows.get(sequences)
        if row is None:
            kernel, network, launches = self._decode_parts(sequences)
            attention = self.attention_row(sequences)
            for tables, times in self.passes:
                one, exchanged, launched = tables._decode_parts(sequences)
                kernel, network, launches = (
                    kernel + times * one,
                    network + times * exchanged,
                    launches + times * launched,
                )
                drafts = tables.attention_row(sequences)
                attention = [value + times * more for value, more in zip(attention, drafts, strict=True)]
            row = [self.finish(kernel + value, network, launches, sequences) for value in attention]
            self._rows[sequences] = row
        return row

    def _decode_parts(self, sequences: int) -> tuple[float, float, float]:
        """Kernels beside attention, communication, and kernel launches of so many decodes alone."""
        local = max(sequences / self.ranks, 1.0)
        tokens, sampled = local * self.width, local * self.sampled
        kernel = self.tokens_at(self.tokens_kernel, tokens) + self.tokens_at_head(self.head_kernel, sampled)
        network = self.tokens_at(self.tokens_network, tokens) + self.tokens_at_head(self.head_network, sampled)
        return kernel, network, self.kernels + self.kernels_per_group

    @staticmethod
    def tokens_at_head(table: list[float], sampled: float) -> float:
        """A head table at any number of sampled tokens; its first entry is none."""
        low = min(int(sampled), len(table) - 2)
        return table[low] + (sampled - low) * (table[low + 1] - table[low])

    def along(self, row: list[float], context: float) -> float:
        """A row of the decode tables at a mean context: straight lines between the knots."""
        knots = self.knots
        place = bisect_right(knots, context) - 1
        if place < 0 or place > len(knots) - 2:
            place = 0 if place < 0 else len(knots) - 2
        low = knots[place]
        return row[place] + (row[place + 1] - row[place]) / (knots[place + 1] - low) * (context - low)

    def prompts(self, count: float, new: float, pairs: float) -> float:
        """Attention of ``count`` prompts (or chunks) with ``new`` tokens and ``pairs`` visible pairs in all [s].

        Pairs of a chunk of n tokens on c cached ones are n c + n (n + 1) / 2.
        """
        each = new / count
        cached = max(pairs / new - (each + 1) / 2, 0.0)
        counts, caches = self.prompt_counts, self.prompt_cached
        row = min(bisect_right(counts, count) - 1, len(counts) - 2)
        column = min(bisect_right(caches, cached) - 1, len(caches) - 2)
        down = (count - counts[row]) / (counts[row + 1] - counts[row])
        right = (cached - caches[column]) / (caches[column + 1] - caches[column])
        log_each = math.log(each)
        logs = self._log_new
        place = min(max(bisect_right(logs, log_each) - 1, 0), len(logs) - 2)
        values = []
        for grid in (self._prompts[place], self._prompts[place + 1]):
            upper = grid[row]
            value = upper[column] + right * (upper[column + 1] - upper[column])
            if down:
                lower = grid[row + 1]
                value += down * (lower[column] + right * (lower[column + 1] - lower[column]) - value)
            values.append(value)
        share = (log_each - logs[place]) / (logs[place + 1] - logs[place])
        if values[0] <= 0 or values[1] <= 0:
            return max(values[0] + share * (values[1] - values[0]), 0.0)
        return float(values[0] * (values[1] / values[0]) ** share)

    def step(self, count: int, new: int, pairs: float, sequences: int, context: float) -> float:
        """Seconds of one step: ``count`` prompts or chunks with ``new`` tokens and ``pairs`` pairs, beside ``sequences``
        decodes whose contexts sum to ``context``; either may be none."""
        if not count:
            return self.decode_step(sequences, context)
        if self.stages > 1:
            return self._pipelined(count, new, pairs, sequences, context)
        return self._mixed(count, new, pairs, sequences, context)

    def _pipelined(self, count: int, new: int, pairs: float, sequences: int, context: float) -> float:
        """A round of micro-batches: prompts ride in as many of them as their tokens fill, and every stage works on one
        micro-batch after the other, so the round takes their mean; a lone prompt takes its whole way."""
        stages = self.stages
        carrying = min(stages, count, max(1, math.ceil(new / self._lane_tokens)))
        share = -(-sequences // stages)
        lane = self._mixed(
            count / carrying, new / carrying, pairs / carrying, share, context / stages if sequences else 0.0
        )
        if not sequences:
            return lane
        alone = self.along(self.decode_row(sequences), context / sequences)
        return max((carrying * lane + (stages - carrying) * alone) / stages, alone)

    def _mixed(self, count: float, new: float, pairs: float, sequences: int, context: float) -> float:
        kernel, network, launches, waiting = self._mixed_parts(count, new, pairs, sequences, context)
        if self.passes:
            (first, _), *later = self.passes
            parts = [(1, *first._mixed_parts(count, new, pairs, sequences, context))]
            everyone = int(count) + sequences  # the prompts are cached by now: each is a sequence like the others
            grown = (context if sequences else 0.0) + count * (pairs / new + (new / count - 1) / 2)
            for tables, times in later:
                one, exchanged, launched = tables._decode_parts(everyone)
                one += tables.along(tables.attention_row(everyone), grown / everyone)
                parts.append((times, one, exchanged, launched, 0.0))
            for times, one, exchanged, launched, held in parts:
                kernel, network, launches = (
                    kernel + times * one,
                    network + times * exchanged,
                    launches + times * launched,
                )
                waiting += held
        return self.finish(kernel, network, launches, count + sequences) + waiting

    def _mixed_parts(
        self, count: float, new: float, pairs: float, sequences: int, context: float
    ) -> tuple[float, float, float, float]:
        """Kernels, communication, kernel launches, and the wait for the host to submit them, of prompts beside decodes."""
        ranks = self.ranks
        if ranks == 1:
            tokens, sampled = float(new + sequences * self.width), float(count + sequences * self.sampled)
        else:
            share = max(count / ranks, 1.0) / count
            decodes = max(sequences / ranks, min(sequences, 1.0))
            tokens, sampled = new * share + decodes * self.width, count * share + decodes * self.sampled
        kernel = self.prompts(count, new, pairs)
        kernel += self.tokens_at(self.tokens_kernel, tokens) + self.tokens_at_head(self.head_kernel, sampled)
        if sequences:
            kernel += self.along(self.attention_row(sequences), context / sequences)
        network = self.tokens_at(self.tokens_network, tokens) + self.tokens_at_head(self.head_network, sampled)
        waiting = self._submission
        if self.bound or new <= ABSORBED_NEW_TOKENS * count or new + sequences * self.width <= self._captured_tokens:
            waiting = 0.0
        return kernel, network, self.kernels + (2 if sequences else 1) * self.kernels_per_group, waiting

    def decode_step(self, sequences: int, context: float) -> float:
        """Seconds of one pure decode step of sequences whose contexts sum to ``context``."""
        return self.along(self.decode_row(sequences), context / sequences)

    def _lines(self, sequences: int, context: float, growth: float) -> Iterator[tuple[float, float, float]]:
        """The straight lines along which decode steps get longer as the mean context grows by ``growth`` tokens a step: seconds of the
        first step of each, how much longer each further one is, and how many there are; the last has no end."""
        row, knots = self.decode_row(sequences), self.knots
        mean, last = context / sequences, len(knots) - 2
        place = min(max(bisect_right(knots, mean) - 1, 0), last)
        while True:
            low, high = knots[place], knots[place + 1]
            slope = (row[place + 1] - row[place]) / (high - low)
            steps = math.inf if place == last else max(math.ceil((high - mean) / growth), 1)
            yield row[place] + slope * (mean - low), slope * growth, steps
            mean += steps * growth
            place += 1
            while place < last and mean >= knots[place + 1]:
                place += 1

    def decode_run(self, sequences: int, context: float, steps: int, growth: float = 1.0) -> float:
        """Seconds of ``steps`` decode steps in a row, the mean context growing by ``growth`` tokens a step.

        n terms that rise evenly: n first + rise n (n - 1) / 2.
        """
        total = 0.0
        for first, rise, most in self._lines(sequences, context, growth):
            inside = int(min(steps, most))
            total += inside * first + rise * inside * (inside - 1) / 2
            steps -= inside
            if not steps:
                break
        return total

    def decode_steps_until(self, sequences: int, context: float, seconds: float, most: int, growth: float = 1.0) -> int:
        """The fewest decode steps in a row that take at least ``seconds``; ``most`` where that many do not."""
        done = 0
        for first, rise, steps in self._lines(sequences, context, growth):
            inside = int(min(most - done, steps))
            taken = inside * first + rise * inside * (inside - 1) / 2
            if taken >= seconds:
                return done + fewest_terms(first, rise, seconds)
            seconds -= taken
            done += inside
            if done >= most:
                break
        return most


def fewest_terms(first: float, slope: float, total: float) -> int:
    """The fewest terms of first + (first + slope) + ... that reach ``total``, which they do.

    >>> fewest_terms(1.0, 0.0, 2.5), fewest_terms(1.0, 1.0, 6.0), fewest_terms(1.0, 1.0, 6.1)
    (3, 3, 4)
    """
    if total <= first:
        return 1
    half = first - slope / 2
    if abs(slope) > 1e-12 * first:
        count = max(1, math.ceil(2 * total / (half + math.sqrt(max(half * half + 2 * slope * total, 0.0)))))
    else:
        count = math.ceil(total / first)
    while count > 1 and (count - 1) * first + slope * (count - 1) * (count - 2) / 2 >= total:
        count -= 1
    while count * first + slope * count * (count - 1) / 2 < total:
        count += 1
    return count


def _of_group(op: Op) -> bool:
    """Whether an op's time depends on how the tokens are spread over sequences."""
    return isinstance(op, Attention | Scan) or op.name.startswith("context ")


def _prompt_knots(most: float) -> list[float]:
    """Knots of a prompt's new tokens: on both sides of every change of kernel or tile to 2,048 tokens, then geometric."""
    knots = [float(n) for n in range(1, ABSORBED_NEW_TOKENS + 2)] + [24.0, 32.0, 33.0, 48.0, 64.0, 65.0, 96.0]
    knots += [edge + side for edge in range(128, 2049, 128) for side in (0.0, 1.0)]
    knots += _geometric(2200.0, max(most, 2200.0), PROMPT_STEP)
    return [knot for knot, before in zip(knots, [0.0, *knots], strict=False) if before < most or knot <= 2]


def _geometric(low: float, high: float, ratio: float) -> list[float]:
    """Knots from ``low`` to at least ``high``, each ``ratio`` times the one before and at least one more."""
    knots = [low]
    while knots[-1] < high:
        knots.append(max(knots[-1] + 1.0, round(knots[-1] * ratio)))
    return knots


@functools.lru_cache(maxsize=16)
def step_cost(
    model: ModelSpec, parallelism: Parallelism, precision: Precision, machine: Machine, *, max_sequences: int,
    max_tokens: int, max_context: int, sampler: Sampler = "greedy", eager: bool = False, drafter: Drafter | None = None,
) -> StepCost:  # fmt: skip
    """The tables of a deployment: steps of at most ``max_sequences`` decodes and ``max_tokens`` new tokens, contexts to
    ``max_context``; with a ``drafter`` those of the steps that verify its drafts.

    Raises UnsupportedError for models with an encoder and models that generate nothing.

    >>> from infersim import estimate
    >>> e = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", mode="bound")
    >>> cost = step_cost(e.model, e.parallelism, e.precision, e.machine, max_sequences=8, max_tokens=64, max_context=4096)
    >>> round(cost.step(0, 0, 0, 1, 2047) * 1e3, 2)  # the decode step of one sequence at 2047 cached tokens
    4.56
    """
    if np.any(encoder_tokens(model, 1.0)) or model.task != "generate":
        raise UnsupportedError(
            f"{model.name} has an encoder or generates no tokens; the serving simulator takes decoder-only "
            "generating models"
        )
    build = functools.partial(StepCost, parallelism=parallelism, machine=machine, max_sequences=max_sequences,
                              max_tokens=max_tokens, max_context=max_context, eager=eager)  # fmt: skip
    target = functools.partial(step_ops, model, parallelism, precision, sampler=sampler)
    waiting = submission_seconds(model, machine)
    if drafter is None:
        return build(target, submission=waiting)
    width = drafter.speculation.verified
    passes: list[tuple[StepCost, int]] = []
    if drafter.model is not None:
        drafting = functools.partial(drafter.pass_ops, parallelism)
        own = submission_seconds(drafter.model, machine)
        passes = [(build(drafting, submission=own, width=drafter.first_tokens), 1)]
        passes += [
            (build(drafting, width=tokens, sampled=tokens, prompts=False), times)
            for tokens, times in drafter.later_passes.items()
        ]
    return build(target, submission=waiting, width=width, sampled=width, passes=tuple(passes))
