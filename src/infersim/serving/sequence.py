"""A request on its way through a scheduler."""

from __future__ import annotations

from collections.abc import Hashable

Segment = tuple[Hashable, int]
"""(key, tokens): a stretch of a prompt. Equal keys mean equal tokens from the start of the prompt to the stretch's end."""


class Sequence:
    """One request: what was asked, and how far it has come. Mutable on purpose: there are millions of them.

    ``prefix`` are the stretches of the prompt that other requests may share, from its start; what follows them, output
    included, is kept under ``own``.
    """

    __slots__ = ("arrival", "blocks", "booked", "computed", "done", "fixed", "host_blocks", "id", "join_step", "joined",
                 "last_token", "order", "output", "own", "pace", "prefix", "priority", "progress", "prompt", "shared_blocks",
                 "swapped", "target", "turn")  # fmt: skip

    def __init__(
        self, number: int, arrival: float, prompt: int, output: int, *, priority: int = 0,
        prefix: tuple[Segment, ...] = (), own: Hashable = None, turn: int = 0,
    ) -> None:  # fmt: skip
        self.id, self.arrival, self.prompt, self.output = number, arrival, prompt, output
        self.priority, self.prefix, self.turn = priority, prefix, turn
        self.own: Hashable = ("own", number) if own is None else own
        self.done = 0
        """Output tokens so far."""
        self.target = prompt
        """Tokens to be in the cache before the next output token: the prompt, after a preemption the output so far too."""
        self.computed = 0
        self.swapped = 0
        """Cached tokens that lie ready elsewhere: in host memory since a preemption, or sent along by a prefill pool."""
        self.host_blocks = 0
        """Blocks of host memory that hold them."""
        self.order = -1
        """Number of its admission; the latest is preempted first."""
        self.blocks = self.shared_blocks = self.booked = self.fixed = 0
        """Blocks that hold the target, those of them that lie in shared stretches, and those booked."""
        self.joined = self.join_step = 0
        """Cached tokens when it began to decode, and the decode step at which it did."""
        self.last_token = arrival
        self.pace = self.progress = 0
        """Under drafts, in SHARES of a token: what a step yields, and what it has since it joined until the pace last changed."""
