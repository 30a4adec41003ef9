"""One replica's scheduler and its clock, jumping from event to event.

Between two changes of the batch every decoding sequence grows by a token a step. So the replica keeps, for each of them, not
its length but the number of the decode step at which it ends; the sum of contexts and the blocks in use follow from counts:
a sequence asks for a block whenever (cached tokens at joining - step at joining + steps) is a multiple of the block size, and
that residue never changes. k steps are then added in closed form, and the cost grows with requests, not with tokens. The plain
simulator that walks every step is ``reference.py``; a test holds the two equal.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import Any, Protocol

from infersim.serving.cache import PrefixCache
from infersim.serving.cost import StepCost
from infersim.serving.policy import Policy
from infersim.serving.records import Records, Series, Totals
from infersim.serving.sequence import Sequence


class Source(Protocol):
    """Where requests come from. ``next_time`` is when the next one reaches the engine; infinite where none is on its way."""

    next_time: float
    reacts: bool
    """Whether an end may bring a new request."""

    def pop(self) -> Sequence | None:
        """The request of ``next_time``; None where it was turned away."""

    def finished(self, sequence: Sequence, now: float) -> None: ...


class Replica:
    """The state of one replica; ``run`` moves it on. ``drafting.DraftingReplica`` is one whose decodes verify drafts."""

    books_ahead = False
    """Whether blocks of decodes are booked in steps of prompts alone, too."""

    def __init__(self, policy: Policy, cost: StepCost, source: Source, records: Records, number: int = 0) -> None:
        self.policy, self.cost, self.source, self.records, self.number = policy, cost, source, records, number
        self.cache = PrefixCache(policy.block_size) if policy.prefix_caching else None
        self.fixed_blocks = policy.fixed_blocks if policy.state_blocks or policy.windows else None
        self.totals, self.series = Totals(), Series()
        self.clock = 0.0
        self.waiting: Any = [] if policy.priority else deque()
        self.prefilling: list[Sequence] = []
        self.decoding: list[tuple[int, int, Sequence]] = []
        """Heap of (decode step at which it ends, order, sequence)."""
        self.step = 0
        self.context = 0
        """Cached tokens of all decoding sequences."""
        self.residues = [0] * policy.block_size
        self.used = self.booked = self.host_used = 0
        """Blocks in use, blocks booked by running requests, and blocks of host memory in use."""
        self.stall = 0.0
        """Copies between device and host that the next step waits for."""
        self.admissions = 0
        self.since_prefill = 0
        self.held = 0
        """Steps for which the waiting prompts have been held back."""
        self.since_poll, self.polled = policy.poll_steps, 0.0
        """Decode steps since the last look for new requests, and its time."""
        self.last_token = 0.0
        self.fresh: list[float] = []
        """Times at which sequences that joined since the last decode step got their token, where that step ended earlier."""
        self.ended = False
        """Something has ended that may bring a new request."""
        self.lacking = ""
        """What the head of the queue lacked when it was last turned away."""

    # -- waiting requests ----------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return len(self.waiting) + len(self.prefilling) + len(self.decoding)

    def _enqueue(self, sequence: Sequence) -> None:
        sequence.fixed = self.fixed_blocks(sequence.prompt + sequence.output) if self.fixed_blocks else 0
        self.records.replica[sequence.id] = self.number
        if self.policy.priority:
            heapq.heappush(self.waiting, (sequence.priority, sequence.id, sequence))
        else:
            self.waiting.append(sequence)

    def _head(self) -> Sequence:
        head: Sequence = self.waiting[0][2] if self.policy.priority else self.waiting[0]
        return head

    def _gate_open(self) -> bool:
        """Whether waiting requests may interrupt the decodes now."""
        policy, running = self.policy, len(self.decoding)
        if policy.hold_steps:
            if not running or self.held == policy.hold_steps:
                return True
            few = len(self.waiting) < policy.hold_prompts and self._few_wait(policy.hold_tokens - running)
            self.held = self.held if few else policy.hold_steps
            return not few
        if policy.mixed or not running or not policy.waiting_served_ratio:
            return True
        enough = len(self.waiting) >= max(1, math.floor(running * policy.waiting_served_ratio))
        return enough or self.since_prefill >= policy.max_waiting_tokens

    def _few_wait(self, tokens: int) -> bool:
        """Whether the prompts that wait have fewer than so many tokens."""
        for entry in self.waiting:
            tokens -= entry[2].target if self.policy.priority else entry.target
            if tokens <= 0:
                return False
        return tokens > 0

    def _batch_ready(self) -> bool:
        """Whether a static batch may start: full, long enough in waiting, or nobody else to come."""
        policy = self.policy
        if len(self.waiting) >= policy.max_num_seqs or self.source.next_time == math.inf:
            return True
        return self.clock >= self._head().arrival + policy.batch_delay

    def _admit(self, budget: float, first: bool) -> bool:
        """Move the head of the queue to the prefilling ones, if there is room for it.

        A prompt that may not be cut must fit the ``budget``; one beyond any budget goes where it is the ``first`` of its step.
        """
        policy, cache = self.policy, self.cache
        head = self._head()
        hits, in_use = cache.match(head) if cache is not None else (0, 0)
        found = min(hits * policy.block_size, (head.target - 1) // policy.block_size * policy.block_size) if hits else 0
        whole = head.target - max(found, head.swapped)
        if not policy.chunked and whole > budget and not (first and head.target > policy.max_num_batched_tokens):
            self.lacking = "tokens"
            return False
        blocks = -(-head.target // policy.block_size)
        new = blocks + head.fixed - in_use
        running = len(self.decoding) + len(self.prefilling)
        spare = 0
        if running:
            spare = policy.watermark_blocks
            if policy.headroom_steps:
                spare = max(spare, -(-(running + 1) * policy.headroom_steps // policy.block_size))
        self.lacking = "blocks"
        if self.used + new + spare > policy.num_blocks:
            return False
        booked = blocks
        if policy.output_reserve:
            booked = max(blocks, policy.booked_blocks(head.prompt, head.output))
            if self.booked + booked + head.fixed - in_use > policy.num_blocks:
                return False
        if policy.priority:
            heapq.heappop(self.waiting)
        else:
            self.waiting.popleft()
        head.blocks, head.booked = blocks, booked
        if cache is not None:
            if head.prefix:
                head.shared_blocks = sum(size for _, size in cache.stretches(head))
            if head.prefix or hits:
                cache.acquire(head)
            head.computed = found
            if found:
                self.totals.cached_tokens += found
                if not head.done and not head.swapped:
                    self.records.cached[head.id] = found
        if head.swapped:
            self._swap_in(head, found)
        self.used += new
        self.booked += booked + head.fixed - in_use
        self._make_room()
        self.admissions += 1
        head.order = self.admissions
        self.prefilling.append(head)
        return True

    def _swap_in(self, sequence: Sequence, found: int) -> None:
        """Take over a sequence's cache that lies ready, copied from host memory where the prefix cache does not hold it still."""
        if sequence.swapped > found:
            if sequence.host_blocks:
                self.stall += (sequence.host_blocks - found // self.policy.block_size) * self.policy.swap_seconds
            self.totals.swapped_tokens += sequence.swapped - found
            sequence.computed = sequence.swapped
        self.host_used -= sequence.host_blocks
        sequence.swapped = sequence.host_blocks = 0

    def _swap_out(self, sequence: Sequence, cached: int) -> None:
        """Copy what a preempted sequence has in the cache to host memory, if there is room."""
        blocks = self.policy.blocks(cached) + sequence.fixed
        if cached and self.host_used + blocks <= self.policy.host_blocks:
            self.host_used += blocks
            self.totals.peak_host_blocks = max(self.totals.peak_host_blocks, self.host_used)
            self.stall += blocks * self.policy.swap_seconds
            sequence.swapped, sequence.host_blocks = cached, blocks

    # -- leaving -------------------------------------------------------------------------------------------------------

    def _release(self, sequence: Sequence, cached: int, blocks: int) -> None:
        """Give back the blocks of a sequence with ``cached`` tokens in ``blocks`` blocks."""
        fallen = self.cache.release(sequence, cached) if self.cache is not None else 0
        self.used -= blocks - sequence.shared_blocks + sequence.fixed + fallen
        self.booked -= sequence.booked - sequence.shared_blocks + sequence.fixed + fallen

    def _finish(self, sequence: Sequence, cached: int, blocks: int) -> None:
        self._release(sequence, cached, blocks)
        self.records.finish[sequence.id] = self.clock
        if self.source.reacts:
            self.ended = True
            self.source.finished(sequence, self.clock)

    def _preempt(self, needed: int) -> int:
        """Preempt the latest (or least urgent) until the decodes' next step fits; returns the blocks it then needs."""
        policy = self.policy
        size = policy.block_size
        preempted = 0
        while True:
            room = needed
            if preempted and policy.headroom_steps:
                room = max(needed, -(-len(self.decoding) * policy.headroom_steps // size))
            if self.used + room <= policy.num_blocks or len(self.decoding) + len(self.prefilling) <= 1:
                return needed
            running = [entry[2] for entry in self.decoding] + self.prefilling
            if policy.priority:
                victim = max(running, key=lambda s: (s.priority, s.id))
            else:
                victim = max(running, key=lambda s: s.order)
            preempted += 1
            self.totals.preemptions += 1
            self.records.preemptions[victim.id] += 1
            if victim in self.prefilling:
                self.prefilling.remove(victim)
                self._swap_out(victim, victim.computed)
                self._release(victim, victim.computed, victim.blocks)
            else:
                self.decoding = [entry for entry in self.decoding if entry[2] is not victim]
                heapq.heapify(self.decoding)
                done = victim.done
                self._stop_decoding(victim)
                if victim.done > done:
                    victim.last_token = self.last_token
                elif victim.last_token in self.fresh:
                    self.fresh.remove(victim.last_token)
            victim.computed = 0
            if policy.priority:
                heapq.heappush(self.waiting, (victim.priority, victim.id, victim))
            else:
                self.waiting.appendleft(victim)
            needed = self._needed()

    def _stop_decoding(self, victim: Sequence) -> None:
        """Take a preempted sequence, off the heap already, out of the sums; it begins again with what it has said so far."""
        size, steps = self.policy.block_size, self.step - victim.join_step
        cached = victim.joined + steps
        self.residues[(victim.joined - victim.join_step) % size] -= 1
        self.context -= cached
        self._swap_out(victim, cached)
        self._release(victim, cached, -(-cached // size))
        self.totals.decode_tokens += steps
        victim.done += steps
        victim.target = cached + 1

    # -- what the next step carries ------------------------------------------------------------------------------------

    def _needed(self) -> int:
        """Blocks that the decodes' next step takes."""
        return self.residues[-self.step % self.policy.block_size]

    def _growth(self) -> int:
        """Tokens that all decodes together get in a step."""
        return len(self.decoding)

    def _budget(self) -> int:
        """Tokens of the next step that are left for prompts."""
        return self.policy.max_num_batched_tokens - (len(self.decoding) if self.policy.mixed else 0)

    def _grow(self) -> None:
        """Take the blocks of the decodes' next step, preempting where there are too few."""
        needed = self._needed()
        if needed:
            if self.used + needed > self.policy.num_blocks:
                needed = self._preempt(needed)
            self.used += needed
            self._make_room()

    def _make_room(self) -> None:
        cache = self.cache
        if cache is not None and self.used + cache.evictable > self.policy.num_blocks:
            cache.evict(self.used + cache.evictable - self.policy.num_blocks)

    def _continue_prefill(self, budget: int) -> tuple[list[tuple[Sequence, int]], int]:
        """Chunks of the prompts already begun, in the order of admission, and what they leave of the budget."""
        policy = self.policy
        chunks: list[tuple[Sequence, int]] = []
        for sequence in self.prefilling:
            tokens = sequence.target - sequence.computed
            if tokens > budget:
                if policy.chunked:
                    tokens = budget
                elif chunks or tokens <= policy.max_num_batched_tokens:
                    break
            if tokens <= 0:
                break
            chunks.append((sequence, tokens))
            budget -= tokens
        return chunks, budget

    def _plan_prefill(self) -> list[tuple[Sequence, int]]:
        """Prompts, or chunks of them, that the next step carries."""
        policy = self.policy
        budget = self._budget()
        if policy.static and not self.decoding and not self.prefilling:
            while self.waiting and len(self.prefilling) < policy.max_num_seqs and self._admit(math.inf, True):
                pass
        chunks: list[tuple[Sequence, int]] = []
        if self.prefilling:
            chunks, budget = self._continue_prefill(budget)
        self.lacking = ""
        if not self.waiting:
            return chunks
        if policy.static or not (chunks or self._gate_open()):
            self.lacking = "turn"
            return chunks
        while self.waiting:
            if budget <= 0:
                self.lacking = "tokens"
                break
            if len(self.decoding) + len(self.prefilling) >= policy.max_num_seqs:
                self.lacking = "slots"
                break
            if not self._admit(budget, not chunks):
                break
            sequence = self.prefilling[-1]
            tokens = sequence.target - sequence.computed
            if tokens > budget and policy.chunked:
                tokens = budget
            chunks.append((sequence, tokens))
            budget -= tokens
        return chunks

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _spend(self, seconds: float, decoding: int) -> None:
        """Book a stretch of busy time, and the copies before it."""
        totals = self.totals
        if self.stall:
            seconds += self.stall
            totals.swap_time += self.stall
            self.stall = 0.0
        self.clock += seconds
        totals.busy += seconds
        totals.decode_area += decoding * seconds
        if self.waiting:
            totals.blocked[self.lacking or "turn"] += seconds
        if self.used > totals.peak_blocks:
            totals.peak_blocks = self.used

    def _end_decodes(self) -> None:
        """Finish the sequences whose last decode step this was."""
        decoding, size = self.decoding, self.policy.block_size
        while decoding and decoding[0][0] == self.step:
            sequence = heapq.heappop(decoding)[2]
            steps = self.step - sequence.join_step
            cached = sequence.joined + steps
            self.totals.decode_tokens += steps
            self.context -= cached
            self.residues[(sequence.joined - sequence.join_step) % size] -= 1
            self._finish(sequence, cached, -(-cached // size))

    def _prefill_step(self, chunks: list[tuple[Sequence, int]]) -> None:
        """One step with prompts, beside the decodes where the engine mixes them."""
        totals, records = self.totals, self.records
        running = len(self.decoding)
        decoding = running if self.policy.mixed else 0
        new, pairs = 0, 0.0
        for sequence, tokens in chunks:
            new += tokens
            pairs += tokens * (sequence.computed + (tokens + 1) / 2)
            sequence.computed += tokens
        seconds = self.cost.step(len(chunks), new, pairs, decoding, self.context)
        self._spend(seconds, running)
        totals.steps += 1
        totals.prefill_steps += 1
        totals.prefill_time += seconds
        totals.prefill_tokens += new
        self.since_prefill = 0
        self.held, self.since_poll = 0, self.policy.poll_steps
        if decoding:
            self.step += 1
            self.context += self._growth()
            gaps = records.gaps
            gap = self.clock - self.last_token
            gaps.add(gap, decoding)
            gaps.total += gap * decoding
            gaps.count += decoding
            self.last_token = self.clock
            self._end_decodes()
        if not running:
            self.last_token = self.clock
        for sequence, _ in chunks:
            if sequence.computed == sequence.target:
                self._first_or_next_token(sequence)
        self.prefilling = [s for s in self.prefilling if s.computed < s.target]

    def _first_or_next_token(self, sequence: Sequence) -> None:
        """A prompt is in the cache: its token is out, and it decodes on or ends."""
        clock = self.clock
        if sequence.done:
            gaps, gap = self.records.gaps, clock - sequence.last_token
            gaps.add(gap, 1)
            gaps.total += gap
            gaps.count += 1
        else:
            self.records.first_token[sequence.id] = clock
        sequence.done += 1
        sequence.last_token = clock
        if sequence.done == sequence.output:
            self._finish(sequence, sequence.target, sequence.blocks)
            return
        if self.last_token != clock:
            self.fresh.append(clock)
        self._join(sequence)

    def _join(self, sequence: Sequence) -> None:
        """A sequence begins to decode."""
        sequence.joined, sequence.join_step = sequence.target, self.step
        self.residues[(sequence.target - self.step) % self.policy.block_size] += 1
        self.context += sequence.target
        heapq.heappush(self.decoding, (self.step + sequence.output - sequence.done, sequence.order, sequence))

    def _most_steps(self) -> int:
        """Decode steps until one ends or the pool is full, or a closed gate opens by count."""
        policy = self.policy
        steps = self.decoding[0][0] - self.step
        if self.waiting and self.lacking == "turn" and not policy.static:
            gate = (
                policy.hold_steps - self.held if policy.hold_steps else policy.max_waiting_tokens - self.since_prefill
            )
            steps = min(steps, max(gate, 1))
        return self._room_steps(steps)

    def _room_steps(self, steps: int) -> int:
        """The most of ``steps`` decode steps whose blocks are there.

        The blocks of the first step are taken already; those of all n come to residues over n consecutive places.
        """
        size = self.policy.block_size
        count, room = len(self.decoding), self.policy.num_blocks - self.used
        if steps > 1 and room < ((steps - 2) // size + 1) * count:
            whole = max(room // count - 1, 0)
            room -= whole * count
            steps_left, done = steps, whole * size + 1
            while done < steps_left:
                room -= self.residues[-(self.step + done) % size]
                if room < 0:
                    break
                done += 1
            steps = min(steps, done)
        return steps

    def _take(self, steps: int) -> None:
        """Take the blocks of the decodes' steps after the first of ``steps``."""
        size = self.policy.block_size
        whole, rest = divmod(steps - 1, size)
        start = self.step + 1
        grown = whole * len(self.decoding)
        for place in range(start, start + rest):
            grown += self.residues[-place % size]
        self.used += grown

    def _decode_steps(self, limit: float, *, single: bool) -> None:
        """As many decode steps as nothing can change in between."""
        policy, cost, totals, gaps = self.policy, self.cost, self.totals, self.records.gaps
        count, context, growth = len(self.decoding), self.context, self._growth()
        steps = 1 if single else self._most_steps()
        first = cost.decode_step(count, context)
        seconds = first
        if steps > 1:
            watching = not policy.static and (not self.waiting or policy.priority or self.lacking == "turn")
            if policy.poll_steps > 1:
                steps = min(self._steps_until(limit, first, steps),
                            self._steps_to_poll(self.source.next_time, first, steps) if watching else steps)  # fmt: skip
                seconds = cost.decode_run(count, context, steps)
            else:
                room = (min(limit, self.source.next_time) if watching else limit) - self.clock
                if room <= first:
                    steps = 1
                else:
                    seconds = cost.decode_run(count, context, steps)
                    if seconds > room:
                        steps = cost.decode_steps_until(count, context, room, steps)
                        seconds = cost.decode_run(count, context, steps)
        if steps > 1:
            self._take(steps)
            self._make_room()
        start, stall = self.clock, self.stall
        if policy.poll_steps > 1:
            self._pass_polls(steps, start)
        if policy.hold_steps and self.lacking == "turn" and self.waiting:
            self.held += steps
        self._spend(seconds, count)
        first, seconds = first + stall, seconds + stall  # copies follow a preemption, and then this is a single step
        totals.steps += steps
        self.step += steps
        self.since_prefill += steps
        self.context += steps * growth
        stalled, fresh = start - self.last_token, self.fresh
        gaps.count += steps * count
        gaps.total += seconds * count
        if stalled or fresh:
            old = count - len(fresh)
            gaps.add(first + stalled, old)
            gaps.total += stalled * old
            for token in fresh:
                gaps.add(first + start - token, 1)
                gaps.total += start - token
            self.fresh = []
            if steps > 1:
                gaps.add_run(first, cost.decode_step(count, context + (steps - 1) * growth), steps - 1, count)
        elif steps == 1:
            gaps.add(first, count)
        else:
            gaps.add_run(first, cost.decode_step(count, context + (steps - 1) * growth), steps, count)
        self.last_token = self.clock
        self._end_decodes()

    # -- looks for new requests ----------------------------------------------------------------------------------------

    def _steps_until(self, time: float, first: float, most: int) -> int:
        """Decode steps until ``time`` is reached, at least one and at most ``most``; the first takes ``first``."""
        room = time - self.clock
        if room <= first:
            return 1
        if room == math.inf:
            return most
        return self.cost.decode_steps_until(len(self.decoding), self.context, room, most)

    def _steps_to_poll(self, time: float, first: float, most: int) -> int:
        """Decode steps until the first look for new requests at ``time`` or later."""
        steps = self._steps_until(time, first, most)
        return min(steps + -(steps + self.since_poll) % self.policy.poll_steps, most)

    def _pass_polls(self, steps: int, start: float) -> None:
        """Note the last look for new requests that a run of decode steps from ``start`` on passes before its end."""
        every, total = self.policy.poll_steps, self.since_poll + steps
        self.since_poll = (total - 1) % every + 1
        passed = steps - self.since_poll
        if passed > 0:
            self.polled = start + self.cost.decode_run(len(self.decoding), self.context, passed)

    # -- the clock -----------------------------------------------------------------------------------------------------

    def run(self, limit: float = math.inf, *, to_an_end: bool = False) -> None:
        """Run until the clock reaches ``limit`` or nothing is left to do; a step in progress then is completed. ``to_an_end``: no
        farther than to the first end that may bring a new request."""
        self.ended = False
        policy, source, totals, series = self.policy, self.source, self.totals, self.series
        while self.clock < limit:
            if policy.poll_steps == 1 or self.since_poll >= policy.poll_steps or not (self.decoding or self.prefilling):
                self.polled, self.since_poll = self.clock, 0
            while source.next_time <= self.polled:
                arrived = source.pop()
                if arrived is not None:
                    self._enqueue(arrived)
            if not self.decoding and not self.prefilling:
                wake = source.next_time
                if self.waiting:
                    ready = not policy.static or self._batch_ready()
                    wake = self.clock if ready else min(wake, self._head().arrival + policy.batch_delay)
                if wake > self.clock:
                    if wake >= limit:
                        if limit < math.inf:
                            self.clock = limit
                        return
                    self.clock = wake
                    continue
            before = totals.preemptions
            if self.decoding and (policy.mixed or self.books_ahead):
                self._grow()
            if totals.preemptions == before:
                chunks = self._plan_prefill()
            else:
                self.lacking = "blocks"
                chunks, _ = self._continue_prefill(self._budget())
            if chunks:
                self._prefill_step(chunks)
            else:
                if not policy.mixed:
                    self._grow()
                self._decode_steps(limit, single=totals.preemptions > before)
            if self.clock >= series.due:
                series.add(self.clock, len(self.decoding), len(self.prefilling), len(self.waiting), self.used)
            if to_an_end and self.ended:
                return
