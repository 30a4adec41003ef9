"""The same scheduler as ``replica.py``, walked step by step, token by token and block by block.

Slow and plain on purpose: nothing is summed ahead, every figure is counted afresh at every step. Tests hold the event-jumping
replica against it; read this one first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from infersim.serving.cost import StepCost
from infersim.serving.drafting import Drafts
from infersim.serving.policy import SHARES, Policy
from infersim.serving.records import Records, Totals
from infersim.serving.replica import Source
from infersim.serving.sequence import Sequence


class BlockCache:
    """Cached full blocks by (stretch, place in it): those in use with the number of their users, and idle ones by last use."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.in_use: dict[Any, int] = {}
        self.idle: OrderedDict[Any, None] = OrderedDict()

    def shared(self, sequence: Sequence) -> list[Any]:
        """The full blocks of the shared stretches, in order: a block belongs to the stretch with its last token."""
        blocks, tokens, place = [], 0, 0
        for key, length in sequence.prefix:
            tokens += length
            first = place
            while (place + 1) * self.size <= tokens:
                blocks.append((key, place - first))
                place += 1
        return blocks

    def cached(self, sequence: Sequence) -> int:
        """Blocks from the start of the prompt that need no computing."""
        found = 0
        shared = self.shared(sequence)
        for block in shared:
            if block not in self.in_use and block not in self.idle:
                return found
            found += 1
        while (sequence.own, found - len(shared)) in self.idle:
            found += 1
        return found

    def acquire(self, sequence: Sequence) -> None:
        for block in self.shared(sequence):
            self.idle.pop(block, None)
            self.in_use[block] = self.in_use.get(block, 0) + 1
        for block in [block for block in self.idle if block[0] == sequence.own]:
            del self.idle[block]

    def release(self, sequence: Sequence, cached: int) -> None:
        shared, computed = self.shared(sequence), cached // self.size
        for place in reversed(range(len(shared), computed)):
            self.idle[sequence.own, place - len(shared)] = None
        for place, block in reversed(list(enumerate(shared))):
            self.in_use[block] -= 1
            if not self.in_use[block]:
                del self.in_use[block]
                if place < computed:
                    self.idle[block] = None


class ReferenceReplica:
    """One replica, one step at a time."""

    def __init__(
        self, policy: Policy, cost: StepCost, source: Source, records: Records, drafts: Drafts | None = None
    ) -> None:
        self.policy, self.cost, self.source, self.records, self.drafts = policy, cost, source, records, drafts
        self.cache = BlockCache(policy.block_size) if policy.prefix_caching else None
        self.totals = Totals()
        self.clock = 0.0
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        """In the order of admission; those with all their target in the cache decode."""
        self.tokens: dict[int, int] = {}
        """Cached tokens of every running sequence."""
        self.progress: dict[int, int] = {}
        """SHARES of a token that every decoding sequence has made since its prompt was in the cache."""
        self.last: dict[int, float] = {}
        self.admissions = 0
        self.since_prefill = 0
        self.held_back = 0
        self.since_poll = policy.poll_steps
        self.peak_blocks = 0
        self.on_host: dict[int, int] = {}
        """Cached tokens of preempted sequences whose cache waits in host memory."""
        self.host_blocks: dict[int, int] = {}
        """Blocks of host memory that those take, states and windows included."""
        self.stall = 0.0

    # -- counting ------------------------------------------------------------------------------------------------------

    def decodes(self) -> list[Sequence]:
        return [s for s in self.running if s.computed >= s.target]

    def drafting(self) -> bool:
        """Whether the next step drafts and verifies."""
        return self.drafts is not None and len(self.decodes()) < self.policy.drafting_below

    def contexts(self) -> int:
        """Cached tokens of all decoding sequences under drafts, in SHARES, each to its last part of a token."""
        return sum(s.target * SHARES + self.progress.get(s.id, 0) for s in self.decodes())

    def held(self, sequence: Sequence, more: int = 0) -> int:
        """Blocks of a running sequence: those of its whole target from the start, then as many as its tokens need."""
        tokens = max(self.tokens[sequence.id] + more, sequence.target)
        return self.policy.blocks(tokens)

    def _sum(self, blocks: dict[int, int]) -> int:
        """Blocks of sequences, those in shared stretches counted once for all that use them."""
        policy = self.policy
        total = sum(blocks[s.id] + policy.fixed_blocks(s.prompt + s.output) for s in self.running)
        if self.cache is not None:
            total -= sum(self.cache.in_use.values()) - len(self.cache.in_use)
        return total

    def used(self, more: int = 0) -> int:
        """Blocks in use now, or once every decoding sequence has ``more`` tokens."""
        decoding = {s.id for s in self.decodes()}
        if self.drafts is not None:
            blocks = {s.id: 0 if s.id in decoding else self.held(s) for s in self.running}
            return self._sum(blocks) + (self.policy.drafting_blocks(self.contexts(), len(decoding)) if decoding else 0)
        return self._sum({s.id: self.held(s, more if s.id in decoding else 0) for s in self.running})

    def booked(self) -> int:
        return self._sum({s.id: s.booked for s in self.running})

    def fit_cache(self, used: int) -> None:
        """Evict idle blocks until they and those in use fit the pool."""
        if self.cache is not None:
            while self.cache.idle and used + len(self.cache.idle) > self.policy.num_blocks:
                self.cache.idle.popitem(last=False)

    # -- the rules -----------------------------------------------------------------------------------------------------

    def key(self, sequence: Sequence) -> tuple[int, int]:
        """Urgency: the largest is preempted first."""
        return (sequence.priority, sequence.id) if self.policy.priority else (0, sequence.order)

    def head(self) -> Sequence:
        return min(self.waiting, key=self.key) if self.policy.priority else self.waiting[0]

    def admit(self, sequence: Sequence, budget: float, first: bool) -> bool:
        policy, cache = self.policy, self.cache
        hits = cache.cached(sequence) if cache else 0
        found = min(hits * policy.block_size, (sequence.target - 1) // policy.block_size * policy.block_size)
        swapped = self.on_host.get(sequence.id, 0)
        tokens = sequence.target - max(found, swapped)
        if not policy.chunked and tokens > budget and not (first and sequence.target > policy.max_num_batched_tokens):
            return False
        blocks = policy.blocks(sequence.target)
        in_use = sum(block in cache.in_use for block in cache.shared(sequence)) if cache else 0
        fixed = policy.fixed_blocks(sequence.prompt + sequence.output)
        spare = 0
        if self.running:
            headroom = math.ceil((len(self.running) + 1) * policy.headroom_steps / policy.block_size)
            spare = max(policy.watermark_blocks, headroom)
        used = self.used(more=1) if policy.mixed else self.used()
        if used + blocks + fixed - in_use + spare > policy.num_blocks:
            return False
        booked = max(blocks, policy.booked_blocks(sequence.prompt, sequence.output))
        if policy.output_reserve and self.booked() + booked + fixed - in_use > policy.num_blocks:
            return False
        self.waiting.remove(sequence)
        sequence.booked = booked
        if cache is not None:
            cache.acquire(sequence)
        if found and not sequence.done and not swapped:
            self.records.cached[sequence.id] = found
        self.totals.cached_tokens += found
        if swapped > found:
            copied = self.host_blocks.get(sequence.id, 0)
            self.stall += (copied - found // policy.block_size) * policy.swap_seconds if copied else 0.0
            self.totals.swapped_tokens += swapped - found
        self.on_host.pop(sequence.id, None)
        self.host_blocks.pop(sequence.id, None)
        sequence.computed = self.tokens[sequence.id] = max(found, swapped)
        self.admissions += 1
        sequence.order = self.admissions
        self.running.append(sequence)
        self.fit_cache(self.used(more=1) if policy.mixed else self.used())
        return True

    def leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        if self.cache is not None:
            self.cache.release(sequence, self.tokens[sequence.id])

    def finish(self, sequence: Sequence) -> None:
        self.leave(sequence)
        self.records.finish[sequence.id] = self.clock
        if self.source.reacts:
            self.source.finished(sequence, self.clock)

    def make_room_for_decodes(self) -> bool:
        """Preempt until every decode can take its next token; whether anyone was."""
        policy, preempted = self.policy, False
        while len(self.running) > 1:
            decoding = len(self.decodes())
            needed = self.used(more=1)
            if preempted and policy.headroom_steps:
                needed = max(needed, self.used() + math.ceil(decoding * policy.headroom_steps / policy.block_size))
            if needed <= policy.num_blocks:
                break
            victim = max(self.running, key=self.key)
            self.leave(victim)
            cached = self.tokens[victim.id]
            copied = policy.blocks(cached) + policy.fixed_blocks(victim.prompt + victim.output)
            if cached and sum(self.host_blocks.values()) + copied <= policy.host_blocks:
                self.on_host[victim.id], self.host_blocks[victim.id] = cached, copied
                self.stall += copied * policy.swap_seconds
            victim.target = victim.prompt + victim.done
            victim.computed = 0
            self.waiting.insert(0, victim)
            self.records.preemptions[victim.id] += 1
            self.totals.preemptions += 1
            preempted = True
        self.fit_cache(self.used(more=1))
        return preempted

    def gate_open(self) -> bool:
        policy, decoding = self.policy, len(self.decodes())
        if policy.hold_steps:
            if not decoding or self.held_back == policy.hold_steps:
                return True
            few = decoding + sum(sequence.target for sequence in self.waiting) < policy.hold_tokens
            few = few and len(self.waiting) < policy.hold_prompts
            self.held_back = self.held_back + 1 if few else policy.hold_steps
            return not few
        if policy.mixed or not decoding or not policy.waiting_served_ratio:
            return True
        enough = len(self.waiting) >= max(1, math.floor(decoding * policy.waiting_served_ratio))
        return enough or self.since_prefill >= policy.max_waiting_tokens

    def plan(self, may_admit: bool) -> list[tuple[Sequence, int]]:
        """The prompts, or chunks of them, that this step carries."""
        policy = self.policy
        each = 1 + policy.draft_tokens if self.drafting() else 1
        budget = policy.max_num_batched_tokens - (len(self.decodes()) * each if policy.mixed else 0)
        if policy.static and not self.running and may_admit:
            while self.waiting and len(self.running) < policy.max_num_seqs:
                if not self.admit(self.head(), math.inf, True):
                    break
        chunks: list[tuple[Sequence, int]] = []
        for sequence in [s for s in self.running if s.computed < s.target]:
            tokens = sequence.target - sequence.computed
            if tokens > budget and policy.chunked:
                tokens = budget
            if tokens > budget and (chunks or tokens <= policy.max_num_batched_tokens):
                break
            if tokens <= 0:
                break
            chunks.append((sequence, tokens))
            budget -= tokens
        if policy.static or not may_admit or not self.waiting or not (chunks or self.gate_open()):
            return chunks
        while self.waiting and budget > 0 and len(self.running) < policy.max_num_seqs:
            head = self.head()
            if not self.admit(head, budget, not chunks):
                break
            tokens = head.target - head.computed
            if policy.chunked:
                tokens = min(tokens, budget)
            chunks.append((head, tokens))
            budget -= tokens
        return chunks

    def token(self, sequence: Sequence, tokens: int = 1) -> None:
        """One more output token, or several that come together, at the present time."""
        gaps, before = self.records.gaps, self.last.get(sequence.id)
        if before is None:
            self.records.first_token[sequence.id] = self.clock
        else:
            gaps.add(self.clock - before, 1)
            gaps.total += self.clock - before
            gaps.count += 1
        self.last[sequence.id] = self.clock
        sequence.done += tokens

    def advance(self, sequence: Sequence, drafting: bool) -> int:
        """What a decoding sequence gets out of a step: a token, or the whole tokens that drafts bring it to."""
        if self.drafts is None:
            return 1
        pace = self.drafts.pace(sequence.id, sequence.output) if drafting else SHARES
        before = self.progress[sequence.id]
        self.progress[sequence.id] = before + pace
        return min((before + pace) // SHARES - before // SHARES, sequence.output - sequence.done)

    def one_step(self, chunks: list[tuple[Sequence, int]]) -> None:
        policy, totals = self.policy, self.totals
        decodes = self.decodes() if policy.mixed or not chunks else []
        new = sum(tokens for _, tokens in chunks)
        pairs = sum(tokens * s.computed + tokens * (tokens + 1) / 2 for s, tokens in chunks)
        drafting = self.drafting()
        cost = self.drafts.cost if self.drafts is not None and drafting else self.cost
        context: float = sum(self.tokens[s.id] for s in decodes)
        if self.drafts is not None and decodes:
            context = self.contexts() / SHARES
        seconds = self.stall + cost.step(len(chunks), new, pairs, len(decodes), context)
        totals.swap_time += self.stall
        self.stall = 0.0
        self.peak_blocks = max(self.peak_blocks, self.used(more=1) if decodes else self.used())
        totals.decode_area += len(self.decodes()) * seconds
        self.clock += seconds
        totals.steps += 1
        totals.busy += seconds
        totals.prefill_tokens += new
        self.since_prefill = 0 if chunks else self.since_prefill + 1
        self.since_poll = policy.poll_steps if chunks else self.since_poll + 1
        self.held_back = 0 if chunks else self.held_back
        for sequence in decodes:
            tokens = self.advance(sequence, drafting)
            self.tokens[sequence.id] += tokens
            totals.decode_tokens += tokens
            self.token(sequence, tokens)
        for sequence in sorted(decodes, key=lambda s: s.order):
            if sequence.done == sequence.output:
                self.finish(sequence)
        for sequence, tokens in chunks:
            sequence.computed += tokens
            self.tokens[sequence.id] = sequence.computed
        for sequence, _ in chunks:
            if sequence.computed == sequence.target:
                self.progress[sequence.id] = 0
                self.token(sequence)
                if sequence.done == sequence.output:
                    self.finish(sequence)

    def run(self) -> None:
        policy, source = self.policy, self.source
        while True:
            if self.since_poll >= policy.poll_steps or not self.running:
                self.since_poll = 0
                while source.next_time <= self.clock:
                    arrived = source.pop()
                    if arrived is not None:
                        self.waiting.append(arrived)
            ready = True
            if not self.running:
                if not self.waiting:
                    if source.next_time == math.inf:
                        return
                    self.clock = source.next_time
                    continue
                if policy.static:
                    deadline = self.head().arrival + policy.batch_delay
                    full = len(self.waiting) >= policy.max_num_seqs
                    ready = full or source.next_time == math.inf or self.clock >= deadline
                    if not ready:
                        self.clock = min(source.next_time, deadline)
                        continue
            ahead = policy.mixed or self.drafts is not None
            preempted = ahead and bool(self.decodes()) and self.make_room_for_decodes()
            chunks = self.plan(may_admit=not preempted)
            if not chunks and not policy.mixed:
                self.make_room_for_decodes()
            self.one_step(chunks)
