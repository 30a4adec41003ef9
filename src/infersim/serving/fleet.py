"""Several replicas behind a router: each request goes to one of them when it reaches the front end."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Literal

from infersim.serving.replica import Replica, Source
from infersim.serving.sequence import Sequence

Routing = Literal["round_robin", "least_loaded", "prefix_aware"]
IMBALANCE = 8
"""prefix_aware gives up a cached prefix where its replica has more than twice the least load and this many on top."""


class Inbox:
    """What the router has sent to one replica and the replica has not yet taken."""

    def __init__(self, finished: Callable[[Sequence, float], None] | None) -> None:
        self.next_time = math.inf
        self.reacts = finished is not None
        self._finished = finished
        self._queue: list[tuple[float, int, Sequence]] = []

    def __len__(self) -> int:
        return len(self._queue)

    def send(self, time: float, sequence: Sequence) -> None:
        heapq.heappush(self._queue, (time, sequence.id, sequence))
        self._update()

    def _update(self) -> None:
        self.next_time = self._queue[0][0] if self._queue else math.inf

    def pop(self) -> Sequence | None:
        sequence = heapq.heappop(self._queue)[2]
        self._update()
        return sequence

    def finished(self, sequence: Sequence, now: float) -> None:
        assert self._finished is not None
        self._finished(sequence, now)


class Fleet:
    """Replicas, their inboxes and the router before them.

    Replicas run up to the next arrival, so that the router sees each as it is then, the step in progress taken as done. Where
    answers bring new requests the replicas go forward together: the one farthest behind runs to where the next one is, or to the
    first end of its own.
    """

    def __init__(self, replicas: list[Replica], inboxes: list[Inbox], source: Source, routing: Routing) -> None:
        self.replicas, self.inboxes, self.source, self.routing = replicas, inboxes, source, routing
        self._turn = 0

    def load(self, number: int) -> int:
        """Requests that a replica has not answered."""
        return self.replicas[number].in_flight + len(self.inboxes[number])

    def choose(self, sequence: Sequence) -> int:
        """The replica a request goes to; of equals the one whose turn it is."""
        count = len(self.replicas)
        order = [(self._turn + step) % count for step in range(count)]
        self._turn = (self._turn + 1) % count
        if self.routing == "round_robin":
            return order[0]
        idlest = min(order, key=self.load)
        if self.routing == "prefix_aware":
            found = [self._cached(number, sequence) for number in range(count)]
            best = max(order, key=lambda number: (found[number], -self.load(number)))
            if found[best] and self.load(best) <= 2 * self.load(idlest) + IMBALANCE:
                return best
        return idlest

    def _cached(self, number: int, sequence: Sequence) -> int:
        cache = self.replicas[number].cache
        return cache.match(sequence)[0] if cache is not None else 0

    def _route(self) -> None:
        time = self.source.next_time
        sequence = self.source.pop()
        if sequence is not None:
            self.inboxes[self.choose(sequence)].send(time, sequence)

    def run(self) -> None:
        """Until nothing is left to do."""
        if not self.source.reacts:
            while self.source.next_time < math.inf:
                time = self.source.next_time
                if self.routing != "round_robin":
                    for replica in self.replicas:
                        replica.run(time)
                self._route()
            for replica in self.replicas:
                replica.run()
            return
        while True:
            arrival = self.source.next_time
            first, second, number = self.soonest()
            if arrival <= first:
                if arrival == math.inf:
                    return
                self._route()
            else:
                self.advance(number, first, min(arrival, second), to_an_end=True)

    def soonest(self) -> tuple[float, float, int]:
        """(when the replica farthest behind goes on, when the next one does, the first one's number); infinite where none has
        anything to do."""
        first, second, found = math.inf, math.inf, -1
        for number, replica in enumerate(self.replicas):
            due = replica.clock if replica.in_flight else max(replica.clock, self.inboxes[number].next_time)
            if due < first:
                first, second, found = due, first, number
            elif due < second:
                second = due
        return first, second, found

    def advance(self, number: int, due: float, limit: float, *, to_an_end: bool) -> None:
        """Run a replica that is ``due`` to ``limit`` but for at least a step; ``to_an_end`` as in ``Replica.run``."""
        self.replicas[number].run(max(limit, math.nextafter(due, math.inf)), to_an_end=to_an_end)
