"""Strings of transition-ids as nodes of a trie, which share what they begin with.

While a lattice is determinized, the strings of many paths are extended, compared and cut at the
front.  Cutting n ids off costs nothing here: a string is the way from one node, its base, to
another.  What stands on that way is told by a number: for a fingerprint h(x_1 ... x_n) =
x_1 B^(n-1) + ... + x_n modulo a large prime, h of the way from p down to q is h(q) - h(p) B^|pq|
(Karp and Rabin).  Two different strings have the same one with a probability of 2^-61.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

ROOT = 0
_PRIME = (1 << 61) - 1
_BASE = 1_406_868_647_126_237_149


class LabelTrie:
    """A trie that grows by chains, strings of labels that are given once and for all."""

    def __init__(self, chains: Sequence[Sequence[int]]):
        self._chains = chains
        # Arrays, for there are many nodes, and a number in a list is an object.
        self.parent, self.label, self.depth, self._fingerprint = (array("q", [0]) for _ in range(4))
        self._power = [1]
        self._child: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.parent)

    def extended(self, node: int, chain: int) -> int:
        """Find the node behind a chain of labels that begins at a node."""
        for label in self._chains[chain]:
            child = self._child.get(node << 32 | label)
            node = self._added(node, label) if child is None else child
        return node

    def _added(self, node: int, label: int) -> int:
        child = self._child[node << 32 | label] = len(self.parent)
        self.parent.append(node)
        self.label.append(label)
        self.depth.append(self.depth[node] + 1)
        self._fingerprint.append((self._fingerprint[node] * _BASE + label) % _PRIME)
        return child

    def fingerprint(self, base: int, node: int) -> int:
        """Tell the string from a base down to a node by a number."""
        length, power = self.depth[node] - self.depth[base], self._power
        while length >= len(power):
            power.append(power[-1] * _BASE % _PRIME)
        fingerprint = self._fingerprint
        return (fingerprint[node] - fingerprint[base] * power[length]) % _PRIME

    def common(self, nodes: Sequence[int], base: int) -> int:
        """Find the deepest node on the ways from a base to all of these nodes."""
        parent, depth = self.parent, self.depth
        found = nodes[0]
        for node in nodes:
            if found == base:
                break
            while node != found:  # of two nodes, the deeper one goes up
                if depth[node] > depth[found]:
                    node = parent[node]
                else:
                    found = parent[found]
        return found

    def labels(self, base: int, node: int) -> list[int]:
        """Return the labels on the way from a base down to a node."""
        labels = []
        while node != base:
            labels.append(self.label[node])
            node = self.parent[node]
        return labels[::-1]
