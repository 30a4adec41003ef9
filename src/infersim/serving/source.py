"""Traffic becomes requests: each source hands them to a replica in the order in which they reach the engine.

What a request costs on the host before the engine sees it (HTTP, tokenising) delays it here; its arrival is the client's.
Every choice has a generator of its own, so that changing one thing leaves the other draws as they were.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from infersim.serving.arrivals import ClosedLoop
from infersim.serving.records import Records
from infersim.serving.sequence import Segment, Sequence
from infersim.serving.traces import Trace
from infersim.serving.traffic import Traffic

PIECE = 32768
"""Requests drawn at a time."""


class Draws:
    """Lengths, prefixes and priorities, one request after the other, drawn in pieces."""

    def __init__(self, traffic: Traffic, seed: int) -> None:
        self.traffic = traffic
        streams = np.random.SeedSequence(seed).spawn(7)
        (
            self.arrival_generator,
            self._lengths,
            self._prefixes,
            self._priorities,
            self._groups,
            self.session_generator,
            self._firsts,
        ) = (np.random.default_rng(stream) for stream in streams)
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
            prompts = [
                prompt + (prefix[0][1] if prefix else 0) for prompt, prefix in zip(prompts, prefixes, strict=True)
            ]
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

    def first(self) -> tuple[int, int, tuple[Segment, ...], int]:
        """The same of the first turn of a session, which may bring a prompt of its own length."""
        sessions, drawn = self.traffic.sessions, self.next()
        if sessions is None or sessions.first_tokens is None:
            return drawn
        own = int(sessions.first_tokens.sample(self._firsts, 1)[0])
        return own + sum(tokens for _, tokens in drawn[2]), *drawn[1:]


Fits = Callable[[int, int], bool]
"""Whether a request of so many prompt and output tokens can ever run; the others are turned away as they arrive."""


@dataclass(frozen=True)
class Piece:
    """Some requests that follow one another: arrivals, prompts, outputs; shared stretches and priorities where there are any."""

    times: Any
    prompts: list[int]
    outputs: list[int]
    prefixes: list[tuple[Segment, ...]] | None = None
    priorities: list[int] | None = None


def drawn_pieces(traffic: Traffic, seed: int) -> Iterator[Piece]:
    """The requests of an arrival process with a rate."""
    draws, left, last = Draws(traffic, seed), traffic.num_requests, 0.0
    process: Any = traffic.arrivals
    while left:
        count = min(PIECE, left)
        times = process.times(draws.arrival_generator, count, last)
        last = float(times[-1])
        left -= count
        yield Piece(times, *draws.piece(count))


def trace_pieces(trace: Trace, speedup: float) -> Iterator[Piece]:
    """The requests of a trace, at ``speedup`` times its pace."""
    assert trace.arrival is not None
    for start in range(0, trace.num_requests, PIECE):
        part = slice(start, start + PIECE)
        yield Piece(trace.arrival[part] / speedup, trace.prompt[part].tolist(), trace.output[part].tolist(),
                    None if trace.prefixes is None else trace.prefixes[part])  # fmt: skip


class OpenSource:
    """Requests whose times are given. Takes a piece at a time; the next piece waits until this one has gone."""

    reacts = False

    def __init__(self, pieces: Iterator[Piece], records: Records, request: float, token: float, fits: Fits) -> None:
        self.progress: Callable[[int], None] | None = None
        self._pieces, self._records, self._fits = pieces, records, fits
        self._request, self._token = request, token
        self._queue: list[tuple[float, int, int, int, tuple[Segment, ...], int]] = []
        self._place = self._sure = 0
        self._more = True
        self.next_time = math.inf
        self._load()

    def _load(self) -> None:
        """Take pieces until a request is sure to be the next one to reach the engine."""
        queue = self._queue[self._place :]
        sure, horizon = 0, math.inf
        while self._more and not sure:
            piece = next(self._pieces, None)
            if piece is None:
                self._more, horizon = False, math.inf
            else:
                horizon = float(piece.times[-1]) + self._request
                self._take(piece, queue)
            sure = sum(entry[0] <= horizon for entry in queue)
        self._queue, self._place, self._sure = queue, 0, sure
        self.next_time = queue[0][0] if sure else math.inf

    def _take(self, piece: Piece, queue: list[tuple[float, int, int, int, tuple[Segment, ...], int]]) -> None:
        """Write a piece's requests down and put those that can run in line."""
        records, fits, count = self._records, self._fits, len(piece.prompts)
        first, known = len(records), len(queue)
        records.extend(piece.times, piece.prompts, piece.outputs)
        reach = (piece.times + self._request + self._token * np.asarray(piece.prompts)).tolist()
        nothing: tuple[Segment, ...] = ()
        queue += [
            entry
            for entry in zip(reach, range(first, first + count), piece.prompts, piece.outputs,
                             piece.prefixes or [nothing] * count, piece.priorities or [0] * count, strict=True)
            if fits(entry[2], entry[3])
        ]  # fmt: skip
        records.rejected += known + count - len(queue)
        queue.sort(key=lambda entry: entry[:2])
        if self.progress is not None:
            self.progress(len(records))

    def pop(self) -> Sequence | None:
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

    def __init__(self, traffic: Traffic, records: Records, seed: int, request: float, token: float, fits: Fits) -> None:
        self.progress: Callable[[int], None] | None = None
        self._draws, self._records, self._traffic, self._fits = Draws(traffic, seed), records, traffic, fits
        self._request, self._token = request, token
        self._left = traffic.num_requests
        self._heap: list[tuple[float, int, Sequence]] = []
        self._turns_left: dict[int, int] = {}
        """By session, after the turn in hand."""
        self._session_count = 0
        self._arrivals = traffic.arrivals
        self._turns: deque[int] = deque()
        self._turn_draws = Draws(traffic, seed + 1)
        self._upcoming: _Start | None = None
        self._starts: deque[float] = deque()
        self._last = self._line = 0.0
        if isinstance(self._arrivals, ClosedLoop):
            users = min(self._arrivals.concurrency, self._left)
            for user in range(users):
                self._user(self._arrivals.ramp * user / users)
        else:
            self._draw_start()
        self._update()

    def _update(self) -> None:
        self.next_time = self._heap[0][0] if self._heap else math.inf
        if self._upcoming is not None and self._upcoming.reach < self.next_time:
            self.next_time = self._upcoming.reach

    def _reach(self, time: float, prompt: int) -> float:
        return time + self._request + self._token * prompt

    def _send(
        self, time: float, prompt: int, output: int, prefix: tuple[Segment, ...], priority: int, own: Any,
        reach: float | None = None,
    ) -> None:  # fmt: skip
        """A request at ``time``; one that can never run is turned away."""
        number = self._records.new(time, prompt, output)
        if own is not None:
            self._records.session.append(own[0])
        if self.progress is not None and number % PIECE == PIECE - 1:
            self.progress(number + 1)
        if not self._fits(prompt, output):
            self._records.rejected += 1
            return
        reach = self._reach(time, prompt) if reach is None else reach
        sequence = Sequence(number, reach, prompt, output, priority=priority, prefix=prefix, own=own)
        heapq.heappush(self._heap, (reach, number, sequence))

    def _start(self, time: float, drawn: tuple[int, int, tuple[Segment, ...], int], reach: float | None = None) -> None:
        """A single request, or the first turn of a session."""
        prompt, output, prefix, priority = drawn
        sessions = self._traffic.sessions
        if sessions is None:
            self._send(time, prompt, output, prefix, priority, None, reach)
            return
        if not self._turns:
            self._turns.extend(sessions.turns.sample(self._draws.session_generator, 1024).tolist())
        self._turns_left[self._session_count] = self._turns.popleft() - 1
        self._send(time, prompt, output, prefix, priority, (self._session_count, 0), reach)
        self._session_count += 1

    def _user(self, time: float) -> None:
        """A user of the closed loop sends; where the request is turned away, the next one."""
        sent = False
        while self._left and not sent:
            drawn = self._draws.first()
            self._left -= 1
            self._start(time, drawn)
            sent = self._fits(drawn[0], drawn[1])

    def _draw_start(self) -> None:
        """Draw the next session of an open process. It is put in line when its time has come, whoever asks first, so that
        numbers and draws do not depend on how often a replica looks; first turns reach the engine in the order of arrival."""
        self._upcoming = None
        if not self._left:
            return
        if not self._starts:
            process: Any = self._arrivals
            self._starts.extend(process.times(self._draws.arrival_generator, 1024, self._last).tolist())
            self._last = self._starts[-1]
        self._left -= 1
        time, drawn = self._starts.popleft(), self._draws.first()
        self._line = max(self._line, self._reach(time, drawn[0]))
        self._upcoming = _Start(time, self._line, drawn)

    def _advance(self, now: float) -> None:
        """Put the sessions in line that have started by now."""
        while self._upcoming is not None and self._upcoming.time <= now:
            self._start(self._upcoming.time, self._upcoming.drawn, self._upcoming.reach)
            self._draw_start()

    def pop(self) -> Sequence | None:
        if self._upcoming is not None and self._upcoming.reach <= self.next_time:
            self._advance(self._upcoming.time)
        sequence = None
        if self._heap and self._heap[0][0] <= self.next_time:
            sequence = heapq.heappop(self._heap)[2]
        self._update()
        return sequence

    def finished(self, sequence: Sequence, now: float) -> None:
        self._advance(now)
        if (self._traffic.sessions is None or not self._next_turn(sequence, now)) and isinstance(
            self._arrivals, ClosedLoop
        ):
            self._user(now + self._arrivals.think)
        self._update()

    def _next_turn(self, sequence: Sequence, now: float) -> bool:
        """Send the session's next turn; False where it has ended."""
        sessions = self._traffic.sessions
        assert sessions is not None
        session, turn = cast(tuple[int, int], sequence.own)
        turns = self._turns_left.pop(session)
        said = sequence.prompt + sequence.output
        if turns < 1 or not self._left:
            return False
        drawn, output, again, priority = self._turn_draws.next()
        prompt = said + drawn - sum(tokens for _, tokens in again)  # the shared prefix stands at the start already
        if (sessions.max_context is not None and prompt > sessions.max_context) or not self._fits(prompt, output):
            return False
        pause = float(sessions.think.sample(self._draws.session_generator, 1)[0])
        before = sum(tokens for _, tokens in sequence.prefix)
        prefix = (*sequence.prefix, (sequence.own, said - before))
        self._turns_left[session] = turns - 1
        self._left -= 1
        self._send(now + pause, prompt, output, prefix, priority, (session, turn + 1))
        return True


@dataclass(frozen=True)
class _Start:
    """A session of an open process that is yet to start."""

    time: float
    reach: float
    drawn: tuple[int, int, tuple[Segment, ...], int]


def build_source(
    traffic: Traffic | Trace,
    records: Records,
    *,
    seed: int,
    request: float,
    token: float,
    fits: Fits,
    speedup: float = 1.0,
) -> OpenSource | ReactiveSource:
    """The source of a stream; ``request`` and ``token`` are the host's seconds per request and per prompt token."""
    if isinstance(traffic, Trace):
        return OpenSource(trace_pieces(traffic, speedup), records, request, token, fits)
    if isinstance(traffic.arrivals, ClosedLoop) or traffic.sessions is not None:
        return ReactiveSource(traffic, records, seed, request, token, fits)
    return OpenSource(drawn_pieces(traffic, seed), records, request, token, fits)
