"""Whether two lattices of transition-ids are the same but for the numbers of their states."""

from __future__ import annotations

from nnet.lattices.acceptor import Acceptor
from nnet.lattices.conversion import to_lattice
from nnet.lattices.lattice import CompactLattice


def differences(first: CompactLattice, second: CompactLattice, tolerance: float = 1e-3) -> list:
    """Walk along both at once, and list where they differ.  No state has two arcs of one label."""
    one, other = (
        Acceptor.of(to_lattice(lattice)).without_epsilons() for lattice in (first, second)
    )
    numbers, found, waiting = {one.start: other.start}, [], [one.start]

    def compare(where, a, b):
        if (a is None) != (b is None) or (
            a and max(abs(x - y) for x, y in zip(a, b, strict=True)) > tolerance
        ):
            found.append((where, a, b))

    while waiting:
        state = waiting.pop()
        compare((state, "final"), one.finals.get(state), other.finals.get(numbers[state]))
        mine = {label: (to, weight) for label, to, weight in one.arcs[state]}
        theirs = {label: (to, weight) for label, to, weight in other.arcs[numbers[state]]}
        if mine.keys() != theirs.keys() or len(mine) != len(one.arcs[state]):
            found.append((state, sorted(mine), sorted(theirs)))
            continue
        for label, (to, weight) in mine.items():
            there, their_weight = theirs[label]
            compare((state, label), weight, their_weight)
            if to not in numbers:
                numbers[to] = there
                waiting.append(to)
            elif numbers[to] != there:
                found.append((state, label, to, there))
    return found
