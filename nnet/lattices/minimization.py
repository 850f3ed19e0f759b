"""Lattices with fewer states: pushed, so that what is alike looks alike, and minimized.

    small = minimized(pushed(lattice))

After Kaldi's lat/push-lattice.cc and lat/minimize-lattice.cc.  Both keep the paths, their words,
transition-ids and costs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from nnet.lattices.acceptor import ONE, Weight, lightness, times
from nnet.lattices.lattice import EPSILON, CompactLattice
from nnet.lattices.order import connected, topsorted
from nnet.lattices.strings import LabelStrings

END = -1  # where a path goes that ends


def pushed(lattice: CompactLattice, strings: bool = True, weights: bool = True) -> CompactLattice:
    """Move strings of transition-ids, and weights, as far towards the start as they go.

    Raises:
        ValueError: the lattice has a cycle.
    """
    if strings:
        lattice = pushed_strings(lattice)
    return pushed_weights(lattice) if weights else lattice


def pushed_strings(lattice: CompactLattice) -> CompactLattice:
    """Move the transition-ids that all paths out of a state begin with onto the arcs into it.

    The start keeps its own.

    Raises:
        ValueError: the lattice has a cycle.

    Source: PushCompactLatticeStrings.
    """
    lattice = topsorted(connected(lattice))
    first_arc, into = lattice.first_arc.tolist(), lattice.arcs["nextstate"].tolist()
    strings, is_final = lattice.arc_strings.lists(), lattice.is_final.tolist()
    ends = lattice.final_strings.lists()

    def ahead(state: int) -> Iterator[int]:
        """Read the transition-ids on some path out of a state."""
        while not is_final[state]:
            yield from strings[first_arc[state]]
            state = into[first_arc[state]]
        yield from ends[state]

    moved = [0] * lattice.num_states  # from behind each state to before it
    for state in range(lattice.num_states - 1, 0, -1):
        arcs = range(first_arc[state], first_arc[state + 1])
        lengths = [len(strings[arc]) + moved[into[arc]] for arc in arcs]
        ways: list[Iterator[int]] = [chain(strings[arc], ahead(into[arc])) for arc in arcs]
        if is_final[state]:
            lengths.append(len(ends[state]))
            ways.append(iter(ends[state]))
        moved[state] = min(lengths)
        if len(ways) > 1:
            together = islice(zip(*ways, strict=False), moved[state])
            differ = (place for place, ids in enumerate(together) if len(set(ids)) > 1)
            moved[state] = next(differ, moved[state])
    arcs_of = zip(lattice.source.tolist(), strings, into, strict=True)
    result = lattice.with_weights(lattice.arcs["weight"], lattice.finals)
    result.arc_strings = LabelStrings.of(
        [
            islice(chain(string, ahead(to)), moved[source], len(string) + moved[to])
            for source, string, to in arcs_of
        ]
    )
    result.final_strings = LabelStrings.of(
        [string[count:] for string, count in zip(ends, moved, strict=True)]
    )
    return result


def pushed_weights(lattice: CompactLattice) -> CompactLattice:
    """Let the best path out of each state but the start cost nothing.

    Raises:
        ValueError: the lattice has a cycle.

    Source: PushCompactLatticeWeights.
    """
    lattice = topsorted(connected(lattice))
    if not lattice.num_states:
        return lattice
    first_arc, into = lattice.first_arc.tolist(), lattice.arcs["nextstate"].tolist()
    weights = lattice.arcs["weight"].tolist()
    best: list[Weight] = [tuple(weight) for weight in lattice.finals.tolist()]
    for state in reversed(range(lattice.num_states)):
        ways = [times(weights[a], best[into[a]]) for a in range(*first_arc[state : state + 2])]
        best[state] = min([best[state], *ways], key=lightness)
    best[lattice.start] = ONE
    left = np.array(best)
    return lattice.with_weights(
        lattice.arcs["weight"] + left[into] - left[lattice.source], lattice.finals - left
    )


def minimized(lattice: CompactLattice, delta: float = 1 / 1024) -> CompactLattice:
    """Make one of states from which the same paths lead on.

    As many states as can be become one where the lattice is deterministic, and pushed.

    Args:
        delta: graph and acoustic costs that differ by no more are the same; Kaldi compares their
            sums.

    Raises:
        ValueError: the lattice has a cycle.

    Source: MinimizeCompactLattice.
    """
    lattice = topsorted(connected(lattice))
    first_arc = lattice.first_arc.tolist()
    columns = [lattice.words, lattice.arcs["nextstate"], lattice.arcs["weight"]]
    words, into, weights = [column.tolist() for column in columns]
    strings, finals = lattice.arc_strings.lists(), lattice.finals.tolist()
    ends, is_final = lattice.final_strings.lists(), lattice.is_final.tolist()
    stands_for = list(range(lattice.num_states))
    alike: defaultdict[tuple, list[tuple[np.ndarray, int]]] = defaultdict(list)
    for state in reversed(range(lattice.num_states)):
        ways = [
            (words[arc], stands_for[into[arc]], tuple(strings[arc]), weights[arc])
            for arc in range(first_arc[state], first_arc[state + 1])
        ]
        if is_final[state]:
            ways.append((EPSILON, END, tuple(ends[state]), finals[state]))
        ways.sort()
        costs = np.array([weight for *_, weight in ways])
        others = alike[tuple(way[:3] for way in ways)]
        found = (other for theirs, other in others if (np.abs(costs - theirs) <= delta).all())
        stands_for[state] = next(found, state)
        if stands_for[state] == state:
            others.append((costs, state))
    result = lattice.with_weights(lattice.arcs["weight"], lattice.finals)
    result.arcs["nextstate"] = np.array(stands_for, np.int32)[into]
    return connected(result)
