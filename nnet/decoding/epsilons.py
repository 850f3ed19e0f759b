"""Local removal of epsilons: it makes a transducer smaller, never larger.

An arc is joined with those that follow it where one of the two has no input label and one has no
output label, and the state between them has either one way in or one way out.  After Kaldi's
fstext/remove-eps-local-inl.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from nnet.decoding.fst import ARC, EPSILON, ArrayFst
from nnet.decoding.fst_operations import connected

Arc = tuple[int, int, float, int]  # the fields of ARC
GONE: Arc = 0, 0, float("inf"), -1
Plus = Callable[[float, float], float]


def log_plus(a: float, b: float) -> float:
    """Add two costs as probabilities."""
    return float(-np.logaddexp(-a, -b))


def remove_epsilons_locally(
    fst: ArrayFst, use_log: bool = False, stochastic_in_log: bool = True
) -> ArrayFst:
    """Join arcs around states that only one arc enters or leaves.

    use_log: paths keep their weight in the log semiring; else in the tropical one.
    stochastic_in_log: what a state's arcs sum to is kept in the log semiring.
    """
    if fst.start < 0:
        return fst
    plus = log_plus if use_log else min
    removal = _Removal(fst, plus, log_plus if stochastic_in_log else plus)
    removal.run()
    return connected(removal.result())


@dataclass(eq=False)
class _Removal:
    """The work on one transducer; only states that have a part in it are taken apart.

    Attributes:
        plus: of the weights of paths.
        state_plus: of the weights that leave a state.
        arcs: of the states that were taken apart; GONE stands for an arc that was removed.
        num_in, num_out: ways into a state and out of it; to start and to end are ways, too.
    """

    fst: ArrayFst
    plus: Plus
    state_plus: Plus
    arcs: dict[int, list[Arc]] = field(default_factory=dict)

    def __post_init__(self):
        fst, states = self.fst, self.fst.num_states
        self.finals = fst.finals.astype(np.float64).tolist()
        ways_in = np.bincount(fst.arcs["nextstate"], minlength=states)
        ways_in[fst.start] += 1
        self.num_in = ways_in.tolist()
        self.num_out = (np.diff(fst.first_arc) + np.isfinite(fst.finals)).tolist()

    def run(self) -> None:
        for state in self._candidates():
            position = 0
            while position < len(self._arcs(state)):  # joined arcs come behind, and have their turn
                arc = self.arcs[state][position]
                if arc[3] not in (state, -1):
                    if self.num_in[arc[3]] == 1 and self.num_out[arc[3]] > 1:
                        self._pass_single_entry(state, position)
                    elif self.num_out[arc[3]] == 1:
                        self._pass_single_exit(state, position)
                position += 1

    def _candidates(self) -> list[int]:
        """Find the states with an arc that can be joined: it or one that follows reads nothing."""
        arcs, source = self.fst.arcs, self.fst.source
        reads_nothing = arcs["ilabel"] == EPSILON
        is_followed = np.zeros(self.fst.num_states, bool)
        is_followed[source[reads_nothing]] = True
        return np.unique(source[reads_nothing | is_followed[arcs["nextstate"]]]).tolist()

    def _arcs(self, state: int) -> list[Arc]:
        if state not in self.arcs:
            begin, end = self.fst.first_arc[state : state + 2]
            self.arcs[state] = self.fst.arcs[begin:end].tolist()
        return self.arcs[state]

    def _following(self, state: int) -> Iterator[tuple[int, Arc]]:
        return ((n, arc) for n, arc in enumerate(self._arcs(state)) if arc != GONE)

    def _pass_single_entry(self, state: int, position: int) -> None:
        """Join an arc, the only way to its end, with those that leave there and can be joined.

        The others stay, and the arc with them: what it costs is adapted, so that the sums of both
        states are what they were.
        """
        arc = self.arcs[state][position]
        between = arc[3]
        moved, kept = np.inf, np.inf
        for number, following in list(self._following(between)):
            if _can_be_joined(arc, following):
                moved = self.state_plus(moved, following[2])
                self._remove(between, number)
                self._add(state, _joined(arc, following))
            else:
                kept = self.state_plus(kept, following[2])
        if (final := self.finals[between]) < np.inf:
            if _is_epsilon(arc):
                moved = self.state_plus(moved, final)
                self._end_at(state, arc[2] + final)
                self._do_not_end_at(between)
            else:
                kept = self.state_plus(kept, final)
        if moved == np.inf:
            return
        if kept == np.inf:
            self._remove(state, position)
            return
        change = kept - self.state_plus(moved, kept)
        self.arcs[state][position] = _dearer(arc, change)
        self.arcs[between] = [_dearer(a, -change) for a in self.arcs[between]]
        self.finals[between] -= change

    def _pass_single_exit(self, state: int, position: int) -> None:
        """Join an arc with the only way on from its end."""
        arc = self.arcs[state][position]
        between = arc[3]
        is_only_entry = self.num_in[between] == 1
        if (final := self.finals[between]) < np.inf:
            if not _is_epsilon(arc):
                return
            self._end_at(state, arc[2] + final)
            if is_only_entry:
                self._do_not_end_at(between)
        else:
            [(number, following)] = self._following(between)
            if not _can_be_joined(arc, following):
                return
            if is_only_entry:
                self._remove(between, number)
            self._add(state, _joined(arc, following))
        self._remove(state, position)

    def _add(self, state: int, arc: Arc) -> None:
        self.arcs[state].append(arc)
        self.num_out[state] += 1
        self.num_in[arc[3]] += 1

    def _remove(self, state: int, position: int) -> None:
        self.num_out[state] -= 1
        self.num_in[self.arcs[state][position][3]] -= 1
        self.arcs[state][position] = GONE

    def _end_at(self, state: int, cost: float) -> None:
        self.num_out[state] += self.finals[state] == np.inf
        self.finals[state] = self.plus(self.finals[state], cost)

    def _do_not_end_at(self, state: int) -> None:
        self.num_out[state] -= 1
        self.finals[state] = np.inf

    def result(self) -> ArrayFst:
        """Put what was taken apart and the rest together."""
        fst = self.fst
        untouched = ~np.isin(fst.source, list(self.arcs))
        changed = [(s, arc) for s in self.arcs for _, arc in self._following(s)]
        source = np.append(fst.source[untouched], [s for s, _ in changed])
        arcs = np.append(fst.arcs[untouched], np.array([arc for _, arc in changed], ARC))
        return ArrayFst.from_arcs(fst.start, self.finals, source, arcs)


def _can_be_joined(arc: Arc, following: Arc) -> bool:
    return EPSILON in (arc[0], following[0]) and EPSILON in (arc[1], following[1])


def _joined(arc: Arc, following: Arc) -> Arc:
    ilabel, olabel = arc[0] or following[0], arc[1] or following[1]
    return ilabel, olabel, arc[2] + following[2], following[3]


def _is_epsilon(arc: Arc) -> bool:
    return arc[0] == arc[1] == EPSILON


def _dearer(arc: Arc, cost: float) -> Arc:
    return arc[0], arc[1], arc[2] + cost, arc[3]
