"""The prefix cache of one replica: which stretches of earlier prompts still lie in the KV pool.

Blocks are kept by stretch: a node holds the full blocks whose last token lies in one keyed stretch. Blocks of running requests
are in use; those of ended ones stay until room is needed, and go in the order of last use, the end of a request before its
start. That is the hash-chained block cache of vLLM and the radix tree of SGLang, block by block (a test walks both).
A stretch counts as cached from the step that computes it; a block that is not full is never shared.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator

from infersim.serving.sequence import Sequence


class Node:
    """Full blocks of one stretch: ``size`` of them where complete, ``present`` from its start, used by ``users``."""

    __slots__ = ("key", "present", "size", "users")

    def __init__(self, key: Hashable, size: int) -> None:
        self.key, self.size, self.present, self.users = key, size, size, 1


class PrefixCache:
    """Counts blocks; the replica says how many are in use in all and asks for room."""

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.nodes: dict[Hashable, Node] = {}
        self.idle: OrderedDict[Hashable, Node] = OrderedDict()
        self.evictable = 0
        """Blocks that are cached and not in use."""

    def stretches(self, sequence: Sequence) -> Iterator[tuple[Hashable, int]]:
        """(key, full blocks) of the shared stretches of a prompt; blocks belong to the stretch with their last token."""
        tokens = before = 0
        for key, length in sequence.prefix:
            tokens += length
            after = tokens // self.block_size
            if after > before:
                yield key, after - before
            before = after

    def match(self, sequence: Sequence) -> tuple[int, int]:
        """(blocks found from the start of the prompt on, blocks of its stretches that are in use by others)."""
        nodes, found, in_use, unbroken = self.nodes, 0, 0, True
        for key, size in self.stretches(sequence):
            node = nodes.get(key)
            if node is None:
                unbroken = False
                continue
            if unbroken:
                found += node.present
                unbroken = node.present >= size
            if node.users:
                in_use += node.size
        if unbroken:
            node = nodes.get(sequence.own)
            if node is not None:
                found += node.present
        return found, in_use

    def acquire(self, sequence: Sequence) -> None:
        """Put the stretches of an admitted prompt to use; what was missing of them is its to compute."""
        for key, size in self.stretches(sequence):
            node = self.nodes.get(key)
            if node is None:
                self.nodes[key] = Node(key, size)
                continue
            if not node.users:
                del self.idle[key]
                self.evictable -= node.present
                node.present = node.size = size
            node.users += 1
        node = self.nodes.pop(sequence.own, None)
        if node is not None:
            del self.idle[sequence.own]
            self.evictable -= node.present

    def release(self, sequence: Sequence, cached: int) -> int:
        """Let go of a request with ``cached`` tokens in the pool; returns how many blocks of shared stretches fell idle.

        What a request preempted in its prefill had not computed yet is not cached.
        """
        sizes = list(self.stretches(sequence)) if sequence.prefix else []
        computed = cached // self.block_size
        start = sum(size for _, size in sizes)
        if computed > start:
            node = Node(sequence.own, computed - start)
            self._rest(node)
            self.nodes[sequence.own] = node
        fallen = 0
        for key, size in reversed(sizes):
            start -= size
            node = self.nodes[key]
            node.users -= 1
            if not node.users:
                fallen += node.size
                node.present = max(min(node.size, computed - start), 0)
                self._rest(node)
        return fallen

    def _rest(self, node: Node) -> None:
        node.users = 0
        self.idle[node.key] = node
        self.evictable += node.present

    def evict(self, blocks: int) -> None:
        """Give up so many blocks, least recently used first."""
        self.evictable -= blocks
        while blocks:
            key = next(iter(self.idle))
            node = self.idle[key]
            taken = min(blocks, node.present)
            node.present -= taken
            blocks -= taken
            if not node.present:
                del self.idle[key]
                del self.nodes[key]
