"""A beam search that keeps all paths near the best one: token passing as operations on arrays.

After Kaldi's decoder/lattice-faster-decoder.cc.  A token is a state of the graph that some path has
reached after so many frames, with the cost of the best way there.  What Kaldi's decoder does for
one token after another is done here for all tokens of a frame at once: the arcs that leave them are
gathered, added up, and the least cost into each state is a minimum over them.

A link is an arc of the graph that joins two tokens.  Its excess is what the best path through it
costs more than the best way to its target; links whose excess is beyond the lattice's beam are on
no path of the lattice and are dropped at once, others every few frames, when more is known of what
comes after them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nnet.decoding.fst import ArrayFst
from nnet.errors import NgtrainError
from nnet.lattices.lattice import LATTICE_ARC, Lattice
from nnet.lattices.strings import ranges


@dataclass(frozen=True)
class LatticeSearchOptions:
    """Say how wide a search is (LatticeFasterDecoderConfig); costs are with the acoustic scale.

    Attributes:
        beam: paths that cost more than this beyond the best one are given up, on each frame.
        max_active, min_active: tokens that go on at most and at least, whatever the beam says.
        lattice_beam: what a path in the lattice may cost more than the best one.
        prune_interval: frames after which links beyond it are dropped, to save memory.
        beam_delta: added to a beam that max_active or min_active made, for the next frame.
    """

    beam: float = 16.0
    max_active: int = 2147483647
    min_active: int = 200
    lattice_beam: float = 10.0
    prune_interval: int = 25
    beam_delta: float = 0.5

    def __post_init__(self) -> None:
        if not (
            self.beam > 0
            and self.max_active > 1
            and 0 <= self.min_active <= self.max_active
            and self.lattice_beam > 0
            and self.prune_interval > 0
        ):
            raise NgtrainError(
                f"beams do not make sense: beam {self.beam:g}, lattice-beam {self.lattice_beam:g}, "
                f"max-active {self.max_active}, min-active {self.min_active}, prune-interval "
                f"{self.prune_interval}"
            )


class _Links(NamedTuple):
    """Arcs of the graph that join tokens, each (links,)."""

    source: np.ndarray  # index of the token that it comes from
    target: np.ndarray  # index of the token that it leads to
    arc: np.ndarray  # index of the arc in its half of the graph
    excess: np.ndarray  # cost of the way through it less the cost of its target

    def where(self, condition: np.ndarray) -> _Links:
        """Keep some of them, bool (links,)."""
        kept = np.flatnonzero(condition)
        return _Links(*(column[kept] for column in self))


@dataclass
class _Frame:
    """Tokens after so many frames.

    Attributes:
        states: of the graph, int32 (tokens,).
        costs: of the best way to each, float64 (tokens,).
        links_in: from the tokens of the frame before, by arcs that read a frame.
        epsilons: from one of these tokens to another, by arcs that do not.
        extra: what the best path through each costs more than the best one, as far as it is known;
            inf before anything is.
    """

    states: np.ndarray
    costs: np.ndarray
    links_in: _Links
    epsilons: _Links
    extra: np.ndarray


class _Arcs:
    """Half of the arcs of a graph: those with transition-ids, or those without."""

    def __init__(self, graph: ArrayFst, chosen: np.ndarray):
        counts = np.bincount(graph.source[chosen], minlength=graph.num_states)
        self.arcs = graph.arcs[chosen]
        self.counts = counts.astype(np.int32)
        self.first = np.cumsum(counts) - counts
        self.costs = self.arcs["weight"].astype(np.float64)
        self.into = np.ascontiguousarray(self.arcs["nextstate"])

    def leaving(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the arcs that leave states: for each, which of `states` it leaves, and its index."""
        counts = self.counts[states]
        return np.repeat(np.arange(len(states)), counts), ranges(self.first[states], counts)


class LatticeSearch:
    """A search of one graph, for one utterance after the other.

    Args:
        graph: its input labels are transition-ids, its output labels words.
        pdf_of: pdf-id of each transition-id, (transition-ids + 1,).
    """

    def __init__(self, graph: ArrayFst, pdf_of: np.ndarray, options: LatticeSearchOptions):
        self._graph, self._options = graph, options
        reads_frame = graph.arcs["ilabel"] != 0
        self._emitting, self._epsilon = _Arcs(graph, reads_frame), _Arcs(graph, ~reads_frame)
        self._pdfs = np.asarray(pdf_of)[self._emitting.arcs["ilabel"]]
        # Scratch with a place for each state: all inf between one frame and the next.
        self._best = np.full(graph.num_states, np.inf)
        self._token = np.zeros(graph.num_states, np.int32)
        self.begin()

    def begin(self) -> None:
        """Begin with an utterance."""
        states, costs = np.array([self._graph.start], np.int32), np.zeros(1)
        self._best[states] = costs
        self._scores: list[np.ndarray] = []  # of the pdf-ids, frame by frame, with the scale
        self._frames = [self._closed(states, self._options.beam, None)]

    @property
    def num_frames(self) -> int:
        """Number of frames that were decoded; after a failure it does not grow."""
        return len(self._frames) - 1

    def advance(self, log_likelihoods: np.ndarray, acoustic_scale: float) -> bool:
        """Go on with the frames that come next; False when no path survives.

        log_likelihoods: float32 (T, num_pdfs), without the acoustic scale.
        """
        for scores in log_likelihoods * np.float32(acoustic_scale):
            frame = self._step(scores)
            if frame is None:
                return False
            self._scores.append(scores)
            self._frames.append(frame)
            self._prune_on_the_way()
        return True

    # --- One frame --------------------------------------------------------------------------------

    def _cutoff(self, costs: np.ndarray) -> tuple[float, float]:
        """Find what a token may cost to go on, and the beam for what comes of it (GetCutoff)."""
        o, best = self._options, costs.min()
        cutoff = best + o.beam
        if len(costs) > o.max_active:
            nth = np.partition(costs, o.max_active)[o.max_active]
            if nth < cutoff:
                return nth, nth - best + o.beam_delta
        if len(costs) <= o.min_active:
            return math.inf, math.inf
        nth = np.partition(costs, o.min_active)[o.min_active]
        return (nth, nth - best + o.beam_delta) if nth > cutoff else (cutoff, o.beam)

    def _step(self, scores: np.ndarray) -> _Frame | None:
        """Pass the tokens of the last frame on over one frame; None when there are none left."""
        before = self._frames[-1]
        cutoff, beam = self._cutoff(before.costs)
        active = np.flatnonzero(before.costs <= cutoff)
        source, arcs = self._emitting.leaving(before.states[active])
        source = active[source]
        costs = before.costs[source] + self._emitting.costs[arcs] - scores[self._pdfs[arcs]]
        best = costs.min(initial=np.inf)
        if not best < np.inf:
            return None
        kept = costs <= best + beam
        source, arcs, costs = source[kept], arcs[kept], costs[kept]
        into = self._emitting.into[arcs]
        np.minimum.at(self._best, into, costs)
        return self._closed(self._distinct(into), best + beam, (source, arcs, costs, into))

    def _distinct(self, states: np.ndarray) -> np.ndarray:
        """Drop repetitions; the last of each counts for the order."""
        index = np.arange(len(states), dtype=np.int32)
        self._token[states] = index
        return states[self._token[states] == index]

    def _closed(self, states: np.ndarray, cutoff: float, reached: tuple | None) -> _Frame:
        """Make the tokens of a frame: these states, and what epsilons lead to from them.

        Args:
            states: distinct, with the cost of each in self._best.
            cutoff: what a token that an epsilon leads to may cost.
            reached: the links into them, as source, arc, cost and state.
        """
        graph = self._epsilon
        all_states, frontier = [states], states[graph.counts[states] > 0]
        while len(frontier):
            source, arcs = graph.leaving(frontier)
            costs, into = self._best[frontier[source]] + graph.costs[arcs], graph.into[arcs]
            better = (costs < self._best[into]) & (costs <= cutoff)
            into = into[better]
            all_states.append(self._distinct(into[np.isinf(self._best[into])]))
            np.minimum.at(self._best, into, costs[better])
            changed = self._distinct(into)
            frontier = changed[graph.counts[changed] > 0]
        states = np.concatenate(all_states)
        costs = self._best[states]
        self._token[states] = np.arange(len(states), dtype=np.int32)
        links_in = self._links(*reached) if reached else _no_links()
        having = np.flatnonzero(graph.counts[states])
        source, arcs = graph.leaving(states[having])
        source = having[source]
        epsilons = self._links(source, arcs, costs[source] + graph.costs[arcs], graph.into[arcs])
        self._best[states] = np.inf
        return _Frame(states, costs, links_in, epsilons, np.full(len(states), np.inf))

    def _links(self, source, arcs, costs, into) -> _Links:
        """Make links of ways that lead to tokens and are within the lattice's beam."""
        with np.errstate(invalid="ignore"):
            excess = costs - self._best[into]  # to where there is no token: -inf
        kept = (excess <= self._options.lattice_beam) & (excess > -np.inf)
        target = self._token[into[kept]]
        return _Links(source[kept].astype(np.int32), target, arcs[kept].astype(np.int32),
                      excess[kept].astype(np.float32))  # fmt: skip

    # --- From the end back ------------------------------------------------------------------------

    def _prune_on_the_way(self) -> None:
        """Prune every few frames, most often what is new.

        The n-th time goes back over as many intervals as the largest power of two in n, so that old
        links, which are few by then, are looked at again and again but seldom.
        """
        n, left = divmod(self.num_frames, self._options.prune_interval)
        if not left:
            begin = self.num_frames - (n & -n) * self._options.prune_interval
            self._prune(np.zeros(len(self._frames[-1].states)), begin)

    def _prune(self, extra: np.ndarray, begin: int = 0) -> None:
        """Drop links that are on no path within the lattice's beam (PruneActiveTokens).

        extra: what each of the last tokens costs more than the best path, (tokens,).
        begin: frame to go back to.
        """
        beam = self._options.lattice_beam
        for t in range(self.num_frames, begin - 1, -1):
            frame = self._frames[t]
            cost = _through_epsilons(frame.epsilons, extra)
            frame.epsilons, frame.extra = frame.epsilons.where(cost <= beam), extra
            if t > begin:
                links = frame.links_in
                cost = links.excess + extra[links.target]
                frame.links_in = links.where(cost <= beam)
                extra = np.full(len(self._frames[t - 1].states), np.inf)
                np.minimum.at(extra, links.source, cost)

    # --- What was found ---------------------------------------------------------------------------

    def final_costs(self) -> np.ndarray:
        """Return the cost of ending with each of the last tokens, inf where the graph does not."""
        return self._graph.finals[self._frames[-1].states].astype(np.float64)

    def relative_cost(self) -> float:
        """Compute how much more the best path to a final state costs than the best of all."""
        costs = self._frames[-1].costs
        return float((costs + self.final_costs()).min() - costs.min())

    def transition_ids_backward(self) -> Iterator[int]:
        """Follow the best way to the best of the last tokens, final or not, from its end back."""
        token = int(self._frames[-1].costs.argmin())
        for frame in self._frames[:0:-1]:
            links = frame.epsilons
            for _ in links.source:  # at most so many follow each other
                into = np.flatnonzero((links.target == token) & (links.excess == 0))
                if not len(into):
                    break
                token = int(links.source[into[0]])
            links = frame.links_in
            link = np.flatnonzero((links.target == token) & (links.excess == 0))[0]
            yield int(self._emitting.arcs["ilabel"][links.arc[link]])
            token = int(links.source[link])

    def lattice(self) -> Lattice:
        """Make the lattice of what was found until now, with the acoustic scale (GetRawLattice).

        Its states are the tokens that are on paths within the lattice's beam, in the order of their
        frames and in a frame in that of epsilons.  Paths end in final states, if one was reached.
        What is on none of them is forgotten: the utterance has to end here.

        Raises:
            NgtrainError: the graph has a cycle that reads no frame and costs nothing.
        """
        ends = self.final_costs()
        if not np.isfinite(ends).any():
            ends = np.zeros(len(ends))
        total = self._frames[-1].costs + ends
        self._prune(total - total.min())
        # What is left of a token is a number, its state in the lattice: to each that is kept leads
        # the best way from the start, and the best way to the end is within the beam.
        num_states, numbers = 0, []
        for frame in self._frames:
            kept = np.flatnonzero(frame.extra <= self._options.lattice_beam)
            number = np.zeros(len(frame.states), np.int64)
            number[kept[np.argsort(_depths(frame)[kept], kind="stable")]] = np.arange(len(kept))
            numbers.append(number + num_states)
            num_states += len(kept)
        sources, arcs = [], []
        for t, frame in enumerate(self._frames):
            if t:
                links = frame.links_in
                acoustic = -self._scores[t - 1][self._pdfs[links.arc]]
                sources.append(numbers[t - 1][links.source])
                arcs.append(_lattice_arcs(self._emitting, links, acoustic, numbers[t]))
            links = frame.epsilons
            sources.append(numbers[t][links.source])
            arcs.append(_lattice_arcs(self._epsilon, links, 0, numbers[t]))
        finals = np.full((num_states, 2), np.inf, np.float32)
        is_end = np.isfinite(ends) & (frame.extra <= self._options.lattice_beam)
        finals[numbers[-1][is_end], 0], finals[numbers[-1][is_end], 1] = ends[is_end], 0
        return Lattice.from_arcs(0, finals, np.concatenate(sources), np.concatenate(arcs))


def _through_epsilons(links: _Links, extra: np.ndarray) -> np.ndarray:
    """Lower what paths through tokens cost more than the best, `extra`, by what epsilons lead to.

    Returns:
        The same for each of the links.
    """
    while True:  # one may follow another
        cost = links.excess + extra[links.target]
        if not (cost < extra[links.source]).any():
            return cost
        np.minimum.at(extra, links.source, cost)


def _depths(frame: _Frame) -> np.ndarray:
    """Count the epsilons on the longest way to each token of a frame; int64 (tokens,)."""
    links, depths = frame.epsilons, np.zeros(len(frame.states), np.int64)
    while True:
        deeper = depths[links.source] + 1 > depths[links.target]
        if not deeper.any():
            return depths
        np.maximum.at(depths, links.target, depths[links.source] + 1)
        if depths.max() >= len(depths):
            raise NgtrainError("the graph has a cycle that reads no frame and costs nothing")


def _no_links() -> _Links:
    empty = np.zeros(0, np.int32)
    return _Links(empty, empty, empty, np.zeros(0, np.float32))


def _lattice_arcs(half: _Arcs, links: _Links, acoustic, numbers: np.ndarray) -> np.ndarray:
    """Make arcs of a lattice from links; `numbers` are those of the tokens that they lead to."""
    graph_arcs, arcs = half.arcs[links.arc], np.empty(len(links.arc), LATTICE_ARC)
    arcs["ilabel"], arcs["olabel"] = graph_arcs["ilabel"], graph_arcs["olabel"]
    arcs["weight"][:, 0], arcs["weight"][:, 1] = graph_arcs["weight"], acoustic
    arcs["nextstate"] = numbers[links.target]
    return arcs
