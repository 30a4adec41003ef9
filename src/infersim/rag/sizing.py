"""Copies of every station together: the cheapest that serve the load within the limits, all combinations looked at in order of cost."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from infersim.errors import NoPlanError
from infersim.rag.stations import Served, Station

CLOSE = 0.003
"""Share of its time alone to which more copies bring a station before no more are tried."""
MOST = 14
"""Numbers of copies of a station that are tried."""
TRIED = 2000
"""Combinations that are looked at, at most."""


def candidates(station: Station) -> list[Served]:
    """A station with more and more copies, from the least that serve its load until its queue is as good as gone."""
    found: list[Served] = []
    copies = station.least
    while len(found) < MOST:
        found.append(station.at(copies))
        if found[-1].devices == 0 or found[-1].waited <= CLOSE * found[-1].seconds:
            break
        copies += max(1, copies // 4)
    return found


def cost(stage: Served) -> float:
    """USD an hour; a device without a price counts as one USD."""
    return stage.usd_per_hour if stage.usd_per_hour is not None else float(stage.devices * stage.copies)


def cheapest(
    stations: Sequence[Station], meets: Callable[[tuple[Served, ...]], bool], misses: Callable[[tuple[Served, ...]], str]
) -> tuple[Served, ...]:  # fmt: skip
    """The stations with the copies that cost least among those that ``meets`` accepts.

    Combinations are looked at from the cheapest on (a heap over the lattice of candidates), so the first that is accepted is the
    cheapest. Raises NoPlanError with what ``misses`` says of the largest combination where even that is not accepted.
    """
    choices = [candidates(station) for station in stations]
    largest = tuple(options[-1] for options in choices)
    if not meets(largest):
        raise NoPlanError(misses(largest))
    start = (0,) * len(choices)
    heap, seen = [(sum(cost(options[0]) for options in choices), start)], {start}
    for _ in range(TRIED):
        if not heap:
            break
        _, place = heapq.heappop(heap)
        found = tuple(options[at] for options, at in zip(choices, place, strict=True))
        if meets(found):
            return found
        for axis, options in enumerate(choices):
            if place[axis] + 1 < len(options):
                after = (*place[:axis], place[axis] + 1, *place[axis + 1 :])
                if after not in seen:
                    seen.add(after)
                    total = sum(cost(each[at]) for each, at in zip(choices, after, strict=True))
                    heapq.heappush(heap, (total, after))
    return largest
