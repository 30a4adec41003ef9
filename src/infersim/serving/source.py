"""Traffic becomes requests: each source hands them to a replica in the order in which they reach the engine.

What a request costs on the host before the engine sees it (HTTP, tokenising) delays it here; its arrival is the client's.
Every choice has a generator of its own, so that changing one thing leaves the other draws as they were.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import Any

import numpy as np

from infersim.serving.arrivals import ClosedLoop
from infersim.serving.records import Records
from infersim.serving.sequence import Segment, Sequence
from infersim.serving.traffic import Traffic

PIECE = 32768
"""Requests drawn at a time."""


class Draws:
    """Lengths, prefixes and priorities, one request after the other, drawn in pieces."""

    def __init__(self, traffic: Traffic, seed: int) -> None:
        self.traffic = traffic
        streams = np.random.SeedSequence(seed).spawn(6)
        self.arrival_generator, self._lengths, self._prefixes, self._priorities, self._groups, self.session_generator = (
            np.random.default_rng(stream) for stream in streams
        )
        self._left: deque[tuple[int, int, tuple[Segment, ...], int]] = deque()
        shared = traffic.prefixes
        if shared is not None:
            sizes = shared.tokens.sample(self._groups, shared.groups).tolist()
            self._segments = [((("prefix", group), size),) for group, size in enumerate(sizes)]

    def piece(self, count: int) -> tuple[list[int], list[int], list[tuple[Segment, ...]] | None, list[int] | None]:
        """Prompts (prefix included), outputs, prefixes and priorities of the next requests; None where there are none."""
        traffic = self.traffic
        inputs, outputs = traffic.lengths(self._lengths, count)
        prompts: list[int] = inputs.tolist()
        prefixes: list[tuple[Segment, ...]] | None = None
        priorities: list[int] | None = None
        shared = traffic.prefixes
        if shared is not None:
            taken = self._prefixes.choice(shared.groups, size=count, p=shared.weights)
            chosen = (self._prefixes.random(count) < shared.share).tolist()
            prefixes = [self._segments[group] if yes else () for group, yes in zip(taken.tolist(), chosen, strict=True)]
            prompts = [prompt + (prefix[0][1] if prefix else 0) for prompt, prefix in zip(prompts, prefixes, strict=True)]
        if traffic.priorities > 1:
            priorities = self._priorities.integers(0, traffic.priorities, count).tolist()
        return prompts, outputs.tolist(), prefixes, priorities

    def next(self) -> tuple[int, int, tuple[Segment, ...], int]:
        """Prompt, output, prefix and priority of one request."""
        if not self._left:
            prompts, outputs, prefixes, priorities = self.piece(4096)
            count = len(prompts)
            self._left.extend(zip(prompts, outputs, prefixes or [()] * count, priorities or [0] * count, strict=True))
        return self._left.popleft()


class OpenSource:
    """Requests of an arrival process with a rate. Draws a piece at a time; the next piece waits until this one has gone."""

    reacts = False

    def __init__(self, traffic: Traffic, records: Records, seed: int, request: float, token: float) -> None:
        self._draws, self._records = Draws(traffic, seed), records
        self._request, self._token = request, token
        self._to_draw, self._last = traffic.num_requests, 0.0
        self._process: Any = traffic.arrivals
        self._queue: list[tuple[float, int, int, int, tuple[Segment, ...], int]] = []
        self._place = self._sure = 0
        self.next_time = math.inf
        self._load()

    def _load(self) -> None:
        """Draw until a request is sure to be the next one to reach the engine."""
        queue = self._queue[self._place :]
        sure = 0
        while self._to_draw and not sure:
            count = min(PIECE, self._to_draw)
            times = self._process.times(self._draws.arrival_generator, count, self._last)
            prompts, outputs, prefixes, priorities = self._draws.piece(count)
            first, records = len(self._records), self._records
            for name, values in (("arrival", times), ("prompt", prompts), ("output", outputs)):
                store = getattr(records, name)
                store.frombytes(np.asarray(values, dtype=f"{'f' if store.typecode == 'd' else 'i'}{store.itemsize}").tobytes())
            for store in (records.first_token, records.finish, records.preemptions, records.cached, records.replica):
                store.frombytes(bytes(count * store.itemsize))
            reach = (times + self._request + self._token * np.asarray(prompts)).tolist()
            nothing: tuple[Segment, ...] = ()
            queue += zip(reach, range(first, first + count), prompts, outputs,
                         prefixes or [nothing] * count, priorities or [0] * count, strict=True)  # fmt: skip
            self._to_draw -= count
            self._last = float(times[-1])
            queue.sort(key=lambda entry: entry[:2])
            horizon = self._last + self._request if self._to_draw else math.inf
            sure = len(queue) if queue[-1][0] <= horizon else sum(entry[0] <= horizon for entry in queue)
        self._queue, self._place, self._sure = queue, 0, sure
        self.next_time = queue[0][0] if sure else math.inf

    def pop(self) -> Sequence:
        reach, number, prompt, output, prefix, priority = self._queue[self._place]
        self._place += 1
        if self._place < self._sure:
            self.next_time = self._queue[self._place][0]
        else:
            self._load()
        return Sequence(number, reach, prompt, output, priority=priority, prefix=prefix)

    def finished(self, sequence: Sequence, now: float) -> None:
        """An open process does not wait for answers."""


class ReactiveSource:
    """Requests that follow from answers: a closed loop of users, sessions whose next turn waits for the last, or both."""

    reacts = True

    def __init__(self, traffic: Traffic, records: Records, seed: int, request: float, token: float) -> None:
        self._draws, self._records, self._traffic = Draws(traffic, seed), records, traffic
        self._request, self._token = request, token
        self._left = traffic.num_requests
        self._heap: list[tuple[float, int, Sequence]] = []
        self._sessions: dict[int, tuple[int, int, int]] = {}
        """By request: number of its session, turns left after it, tokens said before its own input."""
        self._session_count = 0
        self._arrivals = traffic.arrivals
        self._turns: deque[int] = deque()
        self._starts: Any = None
        if isinstance(self._arrivals, ClosedLoop):
            users = min(self._arrivals.concurrency, self._left)
            for user in range(users):
                self._start(self._arrivals.ramp * user / max(users, 1))
        else:
            self._starts = iter(())
            self._last = 0.0
            self._start_next()
        self._update()

    def _update(self) -> None:
        self.next_time = self._heap[0][0] if self._heap else math.inf

    def _send(self, time: float, prompt: int, output: int, prefix: tuple[Segment, ...], priority: int, own: Any) -> int:
        """A request at ``time``; returns its number."""
        number = self._records.new(time, prompt, output)
        self._left -= 1
        reach = time + self._request + self._token * prompt
        sequence = Sequence(number, reach, prompt, output, priority=priority, prefix=prefix, own=own)
        heapq.heappush(self._heap, (reach, number, sequence))
        return number

    def _start(self, time: float) -> None:
        """A single request, or the first turn of a session."""
        if not self._left:
            return
        prompt, output, prefix, priority = self._draws.next()
        if self._traffic.sessions is None:
            self._send(time, prompt, output, prefix, priority, None)
            return
        if not self._turns:
            self._turns.extend(self._traffic.sessions.turns.sample(self._draws.session_generator, 1024).tolist())
        session = self._session_count
        self._session_count += 1
        number = self._send(time, prompt, output, prefix, priority, ("turn", session, 0))
        self._sessions[number] = (session, self._turns.popleft() - 1, 0)

    def _start_next(self) -> None:
        """The next session of an open process; it is put in line when the one before has gone in."""
        if not self._left:
            return
        time = next(self._starts, None)
        if time is None:
            process: Any = self._arrivals
            times = process.times(self._draws.arrival_generator, 1024, self._last).tolist()
            self._last = times[-1]
            self._starts = iter(times)
            time = next(self._starts)
        self._start(time)

    def pop(self) -> Sequence:
        sequence = heapq.heappop(self._heap)[2]
        if self._starts is not None and (self._traffic.sessions is None or sequence.id in self._first_turns(sequence)):
            self._start_next()
        self._update()
        return sequence

    def _first_turns(self, sequence: Sequence) -> tuple[int, ...]:
        own = sequence.own
        return (sequence.id,) if isinstance(own, tuple) and own[0] == "turn" and own[2] == 0 else ()

    def finished(self, sequence: Sequence, now: float) -> None:
        sessions = self._traffic.sessions
        think = self._arrivals.think if isinstance(self._arrivals, ClosedLoop) else 0.0
        if sessions is not None:
            session, turns, _ = self._sessions.pop(sequence.id)
            said = sequence.prompt + sequence.output
            if turns > 0 and self._left:
                fresh, output, _, priority = self._draws.next()
                if sessions.max_context is None or said + fresh <= sessions.max_context:
                    pause = float(self._draws.session_generator.exponential(sessions.think)) if sessions.think else 0.0
                    turn = sequence.own[2]  # type: ignore[index]
                    before = sum(tokens for _, tokens in sequence.prefix)
                    prefix = (*sequence.prefix, (sequence.own, said - before))
                    number = self._send(now + pause, said + fresh, output, prefix, priority, ("turn", session, turn + 1))
                    self._sessions[number] = (session, turns - 1, said)
                    self._update()
                    return
        if self._starts is None:
            self._start(now + think)
        self._update()


def build_source(
    traffic: Traffic, records: Records, *, seed: int, request: float, token: float
) -> OpenSource | ReactiveSource:
    """The source of a stream; ``request`` and ``token`` are the host's seconds per request and per prompt token."""
    if isinstance(traffic.arrivals, ClosedLoop) or traffic.sessions is not None:
        return ReactiveSource(traffic, records, seed, request, token)
    return OpenSource(traffic, records, seed, request, token)
