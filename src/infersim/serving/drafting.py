"""Speculative decoding in a replica, still by jumps: how many verifications a request takes, and who advances how fast.

A request draws once, by its number, how many steps its output takes: a sum of truncated geometric draws, as exact as their
distribution. Its tokens then come evenly over these steps, counted in whole SHARES of a token, so that contexts of many
sequences add up exactly and k steps are a closed form. Blocks are booked for the sum of contexts, a bound within a block a
sequence. Where drafts rest at large batches all progress is settled as they do, and every sequence gets a token a step.
"""

from __future__ import annotations

import functools
import heapq
from dataclasses import dataclass

import numpy as np

from infersim.acceptance import StepsOf
from infersim.serving.cost import StepCost
from infersim.serving.policy import SHARES, Policy
from infersim.serving.records import Records
from infersim.serving.replica import Replica, Source
from infersim.serving.sequence import Sequence

DRAWN = 4096
"""Requests whose luck is drawn at a time."""


class Drafts:
    """What drafting does to requests: the pace of each, from acceptance and its own luck, the same under every policy."""

    def __init__(self, reached: tuple[float, ...], cost: StepCost, seed: int) -> None:
        self.cost = cost
        """Steps that verify drafts."""
        self._steps = StepsOf(reached)
        self._luck = functools.lru_cache(maxsize=64)(functools.partial(_luck, seed))

    def pace(self, number: int, output: int) -> int:
        """SHARES of a token that a step yields for request ``number``: its output after the first token, over its steps."""
        luck = self._luck(number // DRAWN)[number % DRAWN]
        return -(-(output - 1) * SHARES // self._steps(output - 1, luck))


def _luck(seed: int, block: int) -> list[float]:
    """Uniform draws for a block of request numbers, by a generator keyed with both."""
    drawn = np.random.Generator(np.random.Philox(key=seed, counter=block << 64)).random(DRAWN)
    found: list[float] = np.clip(drawn, 1e-12, 1 - 1e-12).tolist()
    return found


@dataclass
class _Pace:
    """Step times for contexts in SHARES, with the tables and the growth of the steps to come."""

    tables: StepCost
    growth: int = 0
    """SHARES by which the contexts grow a step, all together."""

    def step(self, count: int, new: int, pairs: float, sequences: int, context: int) -> float:
        return self.tables.step(count, new, pairs, sequences, context / SHARES)

    def decode_step(self, sequences: int, context: int) -> float:
        return self.tables.decode_step(sequences, context / SHARES)

    def decode_run(self, sequences: int, context: int, steps: int) -> float:
        return self.tables.decode_run(sequences, context / SHARES, steps, self.growth / (SHARES * sequences))

    def decode_steps_until(self, sequences: int, context: int, seconds: float, most: int) -> int:
        growth = self.growth / (SHARES * sequences)
        return self.tables.decode_steps_until(sequences, context / SHARES, seconds, most, growth)


class DraftingReplica(Replica):
    """A replica whose decodes verify drafts. Contexts and progress are in SHARES; a gap is one between two steps' tokens,
    which arrive together, as load generators see them in a stream."""

    books_ahead = True

    def __init__(
        self, policy: Policy, cost: StepCost, source: Source, records: Records, number: int = 0, *, drafts: Drafts
    ) -> None:
        super().__init__(policy, cost, source, records, number)
        self.drafts, self.plain = drafts, cost
        self.drafting = True
        self.paces = 0
        """SHARES that all decoding sequences advance by in a step with drafts."""
        self.decode_blocks = 0
        """Blocks of the decoding sequences, as booked; ``used`` holds them too."""
        self.timing = _Pace(drafts.cost)
        self.cost = self.timing  # type: ignore[assignment]

    # -- what all sequences share --------------------------------------------------------------------------------------

    def _budget(self) -> int:
        policy, running = self.policy, len(self.decoding) if self.policy.mixed else 0
        drafting = len(self.decoding) < policy.drafting_below
        return policy.max_num_batched_tokens - running * (1 + policy.draft_tokens * drafting)

    def _growth(self) -> int:
        return self.paces if self.drafting else SHARES * len(self.decoding)

    def _take(self, steps: int = 1) -> None:
        """Book the blocks of the decodes as they stand at the start of the last of ``steps``."""
        held = 0
        if self.decoding:
            context = self.context + (steps - 1) * self._growth()
            held = self.policy.drafting_blocks(context, len(self.decoding))
        self.used += held - self.decode_blocks
        self.decode_blocks = held

    def _switch(self) -> None:
        """Draft or not, by the number of decodes; where that changes, settle what each has done and count anew when it ends."""
        drafting = len(self.decoding) < self.policy.drafting_below
        if drafting != self.drafting:
            settled = []
            for _, order, sequence in self.decoding:
                sequence.progress = self._progress(sequence)
                sequence.join_step = self.step
                settled.append((sequence, order))
            self.drafting = drafting
            self.decoding = [(self._end(sequence), order, sequence) for sequence, order in settled]
            heapq.heapify(self.decoding)
            self.timing.tables = self.drafts.cost if drafting else self.plain
        self.timing.growth = self._growth()

    # -- one sequence --------------------------------------------------------------------------------------------------

    def _progress(self, sequence: Sequence) -> int:
        """SHARES since it joined."""
        return sequence.progress + (self.step - sequence.join_step) * (sequence.pace if self.drafting else SHARES)

    def _end(self, sequence: Sequence) -> int:
        """The decode step at which it ends, at today's pace."""
        left = (sequence.output - sequence.done) * SHARES - sequence.progress
        return self.step - (-left // (sequence.pace if self.drafting else SHARES))

    def _join(self, sequence: Sequence) -> None:
        if not sequence.pace:
            sequence.pace = self.drafts.pace(sequence.id, sequence.output)
        sequence.joined, sequence.join_step, sequence.progress = sequence.target, self.step, 0
        self.context += sequence.target * SHARES
        self.paces += sequence.pace
        self.used -= sequence.blocks
        heapq.heappush(self.decoding, (self._end(sequence), sequence.order, sequence))
        self._take()

    def _part(self, sequence: Sequence) -> None:
        """Take a sequence that has left the heap out of the sums."""
        self.context -= sequence.joined * SHARES + self._progress(sequence)
        self.paces -= sequence.pace
        self._take()

    def _stop_decoding(self, victim: Sequence) -> None:
        whole = self._progress(victim) // SHARES
        self._part(victim)
        self.totals.decode_tokens += whole
        victim.done += whole
        victim.target = victim.joined + whole + 1
        self._swap_out(victim, victim.joined + whole)
        self._release(victim, victim.joined + whole, 0)

    def _end_decodes(self) -> None:
        decoding = self.decoding
        while decoding and decoding[0][0] == self.step:
            sequence = heapq.heappop(decoding)[2]
            self._part(sequence)
            left = sequence.output - sequence.done
            self.totals.decode_tokens += left
            self._finish(sequence, sequence.joined + left, 0)
        self._take()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _needed(self) -> int:
        return 0

    def _grow(self) -> None:
        """What the next step takes is booked as contexts grow; here it is made room for, and drafting decided."""
        if self.used > self.policy.num_blocks:
            self._preempt(0)
        self._make_room()
        self._switch()

    def _prefill_step(self, chunks: list[tuple[Sequence, int]]) -> None:
        self._switch()
        super()._prefill_step(chunks)

    def _room_steps(self, steps: int) -> int:
        """The most of ``steps`` whose blocks are there: used + (k - 1) steps' growth is within the pool."""
        policy, count = self.policy, len(self.decoding)
        free = policy.num_blocks - self.used + self.decode_blocks
        whole = SHARES * policy.block_size
        most = (free + 1) * whole - 1 - count * ((1 + policy.draft_tokens) * SHARES + whole - 1)
        return min(steps, max((most - self.context) // self._growth() + 1, 1))
