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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

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
        kept = condition.nonzero()[0]
        return _Links(*[column[kept] for column in self])


@dataclass
class _Frame:
    """Keep what is needed of the tokens after so many frames, when others come from them.

    Attributes:
        num_tokens: how many there were.
        links_in: from the tokens of the frame before, by arcs that read a frame.
        epsilons: from one of these tokens to another, by arcs that do not.
        scores: of the pdf-ids in the frame that was read, with the acoustic scale, float32 (pdfs,).
    """

    num_tokens: int
    links_in: _Links
    epsilons: _Links
    scores: np.ndarray


class _Arcs:
    """Half of the arcs of a graph: those with transition-ids, or those without."""

    def __init__(self, graph: ArrayFst, chosen: np.ndarray):
        arcs = graph.arcs[chosen]
        self.counts = np.bincount(graph.source[chosen], minlength=graph.num_states)
        self.first = np.cumsum(self.counts) - self.counts
        self.costs = arcs["weight"].astype(np.float64)
        # What indexes is of NumPy's own type for that: any other is converted at each use.
        self.into = arcs["nextstate"].astype(np.intp)
        self.ilabels, self.olabels = arcs["ilabel"].copy(), arcs["olabel"].copy()

    def leaving(self, states: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the arcs that leave states: for each, the name of its state, and its index."""
        counts = self.counts[states]
        return names.repeat(counts), ranges(self.first[states], counts)


FEW_LINKS = 50_000
"""Of so many, about a megabyte, none are dropped before the end."""


class LatticeSearch:
    """A search of one graph, for one utterance after the other.

    Args:
        graph: its input labels are transition-ids, its output labels words.
        pdf_of: pdf-id of each transition-id, (transition-ids + 1,).

    Attributes:
        num_frames: number of frames that were decoded; after a failure it does not grow.
    """

    def __init__(self, graph: ArrayFst, pdf_of: np.ndarray, options: LatticeSearchOptions):
        self._start, self._finals, self._options = graph.start, graph.finals, options
        reads_frame, leads_on = graph.arcs["ilabel"] != 0, graph.arcs["weight"] < np.inf
        self._emitting = _Arcs(graph, reads_frame & leads_on)
        self._epsilon = _Arcs(graph, ~reads_frame & leads_on)
        self._pdfs = np.asarray(pdf_of, np.intp)[self._emitting.ilabels]
        # Scratch with a place for each state: all inf between one frame and the next.
        self._best = np.full(graph.num_states, np.inf)
        self._token = np.zeros(graph.num_states, np.intp)
        self.begin()

    def begin(self) -> None:
        """Begin with an utterance."""
        states, costs = np.array([self._start]), np.zeros(1)
        self._best[states] = costs
        self._frames: list[_Frame] = []
        self.num_frames = -1
        self._prunings, self._num_new_links = [0], 0  # frames of those, and links since the last
        self._add_frame(states, self._options.beam, np.zeros(0, np.float32), None)

    def advance(self, log_likelihoods: np.ndarray, acoustic_scale: float) -> bool:
        """Go on with the frames that come next; False when no path survives.

        log_likelihoods: float32 (T, num_pdfs), without the acoustic scale.
        """
        with np.errstate(invalid="ignore"):  # a path of infinite cost less another
            for scores in log_likelihoods * np.float32(acoustic_scale):
                if not self._step(scores):
                    return False
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

    def _step(self, scores: np.ndarray) -> bool:
        """Pass the tokens on over one frame; False when none are left."""
        cutoff, beam = self._cutoff(self._costs)
        active = (self._costs <= cutoff).nonzero()[0]
        source, arcs = self._emitting.leaving(self._states[active], active)
        costs = self._costs[source] + self._emitting.costs[arcs] - scores[self._pdfs[arcs]]
        best = costs.min(initial=np.inf)
        if not best < np.inf:
            return False
        kept = (costs <= best + beam).nonzero()[0]
        source, arcs, costs = source[kept], arcs[kept], costs[kept]
        into = self._emitting.into[arcs]
        np.minimum.at(self._best, into, costs)
        self._add_frame(self._distinct(into), best + beam, scores, (source, arcs, costs, into))
        return True

    def _distinct(self, states: np.ndarray) -> np.ndarray:
        """Drop repetitions; the last of each counts for the order."""
        index = np.arange(len(states))
        self._token[states] = index
        return states[self._token[states] == index]

    def _add_frame(
        self, states: np.ndarray, cutoff: float, scores: np.ndarray, reached: tuple | None
    ) -> None:
        """Make the tokens of a frame: these states, and what epsilons lead to from them.

        Args:
            states: distinct, with the cost of each in self._best.
            cutoff: what a token that an epsilon leads to may cost.
            scores: see _Frame.
            reached: the links into them, as source, arc, cost and state.
        """
        graph = self._epsilon
        all_states, frontier = [states], states[graph.counts[states] > 0]
        while len(frontier):
            source, arcs = graph.leaving(frontier, frontier)
            costs, into = self._best[source] + graph.costs[arcs], graph.into[arcs]
            better = ((costs < self._best[into]) & (costs <= cutoff)).nonzero()[0]
            into = into[better]
            changed = self._distinct(into)
            all_states.append(changed[self._best[changed] == np.inf])
            np.minimum.at(self._best, into, costs[better])
            frontier = changed[graph.counts[changed] > 0]
        states = np.concatenate(all_states)
        costs, tokens = self._best[states], np.arange(len(states))
        self._token[states] = tokens
        links_in = self._links(*reached) if reached else _no_links()
        source, arcs = graph.leaving(states, tokens)
        epsilons = self._links(source, arcs, costs[source] + graph.costs[arcs], graph.into[arcs])
        self._best[states] = np.inf
        self._states, self._costs = states, costs
        self._frames.append(_Frame(len(states), links_in, epsilons, scores))
        self.num_frames += 1
        self._num_new_links += len(links_in.arc)

    def _links(self, source, arcs, costs, into) -> _Links:
        """Make links of ways that lead to tokens and are within the lattice's beam."""
        excess = costs - self._best[into]  # to where there is no token: -inf
        kept = ((excess <= self._options.lattice_beam) & (excess > -np.inf)).nonzero()[0]
        return _Links(source[kept].astype(np.int32), self._token[into[kept]].astype(np.int32),
                      arcs[kept].astype(np.int32), excess[kept].astype(np.float32))  # fmt: skip

    # --- From the end back ------------------------------------------------------------------------

    def _prune_on_the_way(self) -> None:
        """Prune every few frames, most often what is new, and not before it is much.

        The n-th time goes back over as many prunings as the largest power of two in n, so that old
        links, which are few by then, are looked at again and again but seldom.
        """
        if self.num_frames % self._options.prune_interval or self._num_new_links < FEW_LINKS:
            return
        n = len(self._prunings)
        begin = self._prunings[n - (n & -n)]
        self._prunings.append(self.num_frames)
        self._num_new_links = 0
        self._prune(np.zeros(len(self._states)), begin)

    def _prune(self, extra: np.ndarray, begin: int = 0) -> list[np.ndarray]:
        """Drop links that are on no path within the lattice's beam (PruneActiveTokens).

        Args:
            extra: what each of the last tokens costs more than the best path, (tokens,).
            begin: frame to go back to.

        Returns:
            Of each frame from `begin` on, which of its tokens are on such a path, bool (tokens,).
        """
        beam = self._options.lattice_beam
        kept = []
        for t in range(self.num_frames, begin - 1, -1):
            frame = self._frames[t]
            cost = _through_epsilons(frame.epsilons, extra)
            kept.append(extra <= beam)
            frame.epsilons = frame.epsilons.where(cost <= beam)
            if t > begin:
                links = frame.links_in
                cost = links.excess + extra[links.target]
                frame.links_in = links.where(cost <= beam)
                extra = np.full(self._frames[t - 1].num_tokens, np.inf)
                np.minimum.at(extra, links.source, cost)
        return kept[::-1]

    # --- What was found ---------------------------------------------------------------------------

    def final_costs(self) -> np.ndarray:
        """Return the cost of ending with each of the last tokens, inf where the graph does not."""
        return self._finals[self._states].astype(np.float64)

    def relative_cost(self) -> float:
        """Compute how much more the best path to a final state costs than the best of all."""
        return float((self._costs + self.final_costs()).min() - self._costs.min())

    def transition_ids_backward(self) -> Iterator[int]:
        """Follow the best way to the best of the last tokens, final or not, from its end back."""
        token = int(self._costs.argmin())
        for frame in self._frames[:0:-1]:
            links = frame.epsilons
            for _ in links.source:  # at most so many follow each other
                into = np.flatnonzero((links.target == token) & (links.excess == 0))
                if not len(into):
                    break
                token = int(links.source[into[0]])
            links = frame.links_in
            link = np.flatnonzero((links.target == token) & (links.excess == 0))[0]
            yield int(self._emitting.ilabels[links.arc[link]])
            token = int(links.source[link])

    def lattice(self) -> Lattice:
        """Make the lattice of what was found until now, with the acoustic scale (GetRawLattice).

        Its states are the tokens that are on paths within the lattice's beam, in the order of their
        frames and in a frame in that of epsilons.  Paths end in final states, if one was reached.
        The utterance ends here: what it was made of is forgotten.

        Raises:
            NgtrainError: the graph has a cycle that reads no frame and costs nothing.
        """
        ends = self.final_costs()
        if not np.isfinite(ends).any():
            ends = np.zeros(len(ends))
        total = self._costs + ends
        # To each token that is kept leads the best way from the start, and the best way to the end
        # is within the beam.
        kept = self._prune(total - total.min())
        frames, self._frames = self._frames, []
        # What is left of a token is its number, and then, by frame and depth, that of a state.
        num_tokens = [len(is_kept) for is_kept in kept]
        first = np.cumsum(num_tokens) - num_tokens
        number = np.cumsum(np.concatenate(kept), dtype=np.int32) - 1
        links = _joined([f.links_in for f in frames], [0, *first[:-1]], first, number)
        epsilons = _joined([f.epsilons for f in frames], first, first, number)
        num_kept = [int(is_kept.sum()) for is_kept in kept]
        depths = _depths(epsilons, sum(num_kept), max(num_kept))
        order = np.lexsort((depths, np.repeat(np.arange(len(frames)), num_kept)))
        state = np.empty_like(order)
        state[order] = np.arange(len(order))

        acoustic = [-frame.scores[self._pdfs[frame.links_in.arc]] for frame in frames]
        silent_arcs = _lattice_arcs(self._epsilon, epsilons, 0, state)
        reading_arcs = _lattice_arcs(self._emitting, links, np.concatenate(acoustic), state)
        arcs = np.concatenate([silent_arcs, reading_arcs])
        source = state[np.concatenate([epsilons.source, links.source])]
        finals = np.full((len(order), 2), np.inf, np.float32)
        ends = ends[kept[-1]]
        at_end = state[len(order) - len(ends) :][np.isfinite(ends)]
        finals[at_end, 0], finals[at_end, 1] = ends[np.isfinite(ends)], 0
        return Lattice.from_arcs(0, finals, source, arcs)


def _joined(
    frames: Sequence[_Links], sources: ArrayLike, targets: ArrayLike, number: np.ndarray
) -> _Links:
    """Put links of several frames behind each other.

    Args:
        sources, targets: how many tokens come before those that the links of each join.
        number: of each token of all, (tokens,).
    """
    counts = [len(links.arc) for links in frames]
    source, target, arc, excess = map(np.concatenate, zip(*frames, strict=True))
    source, target = source + np.repeat(sources, counts), target + np.repeat(targets, counts)
    return _Links(number[source], number[target], arc, excess)


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


def _depths(epsilons: _Links, num_tokens: int, most: int) -> np.ndarray:
    """Count the epsilons on the longest way to each token; int64 (num_tokens,).

    most: tokens of a frame at most.
    """
    depths = np.zeros(num_tokens, np.int64)
    for _ in range(most):  # no way without a cycle is longer
        deeper = depths[epsilons.source] + 1 > depths[epsilons.target]
        if not deeper.any():
            return depths
        np.maximum.at(depths, epsilons.target, depths[epsilons.source] + 1)
    raise NgtrainError("the graph has a cycle that reads no frame and costs nothing")


def _no_links() -> _Links:
    empty = np.zeros(0, np.int32)
    return _Links(empty, empty, empty, np.zeros(0, np.float32))


def _lattice_arcs(half: _Arcs, links: _Links, acoustic, numbers: np.ndarray) -> np.ndarray:
    """Make arcs of a lattice from links; `numbers` are those of the tokens that they lead to."""
    arcs = np.empty(len(links.arc), LATTICE_ARC)
    arcs["ilabel"], arcs["olabel"] = half.ilabels[links.arc], half.olabels[links.arc]
    arcs["weight"][:, 0], arcs["weight"][:, 1] = half.costs[links.arc], acoustic
    arcs["nextstate"] = numbers[links.target]
    return arcs
