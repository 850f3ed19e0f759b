"""Conversion between the two types of lattices (ConvertLattice, fstext/lattice-utils-inl.h)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nnet.lattices.lattice import (
    COMPACT_ARC,
    EPSILON,
    LATTICE_ARC,
    CompactLattice,
    Lattice,
)
from nnet.lattices.order import accessible, topsorted
from nnet.lattices.strings import LabelStrings


def to_lattice(compact: CompactLattice) -> Lattice:
    """Give each transition-id of a string an arc of its own; new states come behind the others.

    Word and costs are on the first arc of a string.
    """
    num_states, num_arcs = compact.num_states, compact.num_arcs
    # An item is what becomes a chain of arcs: for each state first its final weight, then its arcs.
    states = np.arange(num_states)
    at_state = compact.first_arc[:-1] + states
    at_arc = np.arange(num_arcs) + compact.source + 1
    item = np.empty(num_states + num_arcs, np.int64)
    item[at_state], item[at_arc] = num_arcs + states, np.arange(num_arcs)
    strings = LabelStrings.concatenate([compact.arc_strings, compact.final_strings]).take(item)
    is_arc = item < num_arcs
    # An arc without a string is still an arc; a final weight without one stays where it is.
    num_links = np.where(is_arc, np.maximum(strings.lengths, 1), strings.lengths)
    num_new = num_links - is_arc
    first_new = num_states + np.cumsum(num_new) - num_new

    chain = np.repeat(np.arange(len(item)), num_links)
    step = np.arange(len(chain)) - np.repeat(np.cumsum(num_links) - num_links, num_links)
    is_first, is_last = step == 0, step == num_links[chain] - 1
    arcs = np.zeros(len(chain), LATTICE_ARC)
    arcs["ilabel"][strings.lengths[chain] > 0] = strings.values
    weights = np.concatenate([compact.arcs["weight"], compact.finals])[item]
    words = np.concatenate([compact.words, np.full(num_states, EPSILON, np.int32)])[item]
    arcs["weight"][is_first] = weights[chain[is_first]]
    arcs["olabel"][is_first] = words[chain[is_first]]
    arcs["nextstate"] = first_new[chain] + step
    ends = is_last & is_arc[chain]
    arcs["nextstate"][ends] = compact.arcs["nextstate"][item[chain[ends]]]
    owner = np.concatenate([compact.source, states])[item]
    source = np.where(is_first, owner[chain], first_new[chain] + step - 1)

    finals = np.full((num_states + num_new.sum(), 2), np.inf, np.float32)
    has_string = compact.final_strings.lengths > 0
    finals[:num_states][~has_string] = compact.finals[~has_string]
    finals[(first_new + num_new - 1)[at_state[has_string]]] = 0
    return Lattice.from_arcs(compact.start, finals, source, arcs)


def to_compact_lattice(lattice: Lattice) -> CompactLattice:
    """Make one arc of each chain of arcs, with the transition-ids as its string (Kaldi's Factor).

    A chain goes on through states with one arc in and one out, which has no word; none is a circle,
    because what cannot be reached from the start is dropped.  States are in topological order.

    Raises:
        ValueError: the lattice has a cycle.
    """
    if lattice.start < 0:
        return CompactLattice.from_arcs(
            -1, [], [], np.zeros(0, COMPACT_ARC), LabelStrings.empty(0), LabelStrings.empty(0)
        )
    reached = accessible(lattice)
    if not reached.all():
        lattice = lattice.renumbered(np.flatnonzero(reached))
    inside = _inside_of_chains(lattice)
    first = np.flatnonzero(~inside[lattice.source])
    arcs = np.zeros(len(first), COMPACT_ARC)
    arcs["label"] = lattice.words[first]
    weight = lattice.arcs["weight"][first]
    to = lattice.arcs["nextstate"][first]
    chains, labels = [np.arange(len(first))], [lattice.arcs["ilabel"][first]]
    while len(going := np.flatnonzero(inside[to])):
        following = lattice.first_arc[to[going]]
        weight[going] += lattice.arcs["weight"][following]
        to[going] = lattice.arcs["nextstate"][following]
        chains.append(going)
        labels.append(lattice.arcs["ilabel"][following])
    number = np.cumsum(~inside) - 1
    arcs["weight"], arcs["nextstate"] = weight, number[to]
    kept = np.flatnonzero(~inside)
    return topsorted(
        CompactLattice.from_arcs(
            *(int(number[lattice.start]), lattice.finals[kept]),
            *(number[lattice.source[first]], arcs),
            *(_strings(chains, labels, len(first)), LabelStrings.empty(len(kept))),
        )
    )


def projected_on_words(lattice: CompactLattice) -> Lattice:
    """Make a lattice with words on both sides, without the transition-ids."""
    bare = replace(
        lattice,
        arc_strings=LabelStrings.empty(lattice.num_arcs),
        final_strings=LabelStrings.empty(lattice.num_states),
    )
    projected = to_lattice(bare)
    projected.arcs["ilabel"] = projected.arcs["olabel"]
    return projected


def projected_on_ids(lattice: Lattice) -> Lattice:
    """Make a lattice with transition-ids on both sides, without the words."""
    projected = lattice.with_weights(lattice.arcs["weight"], lattice.finals)
    projected.arcs["olabel"] = projected.arcs["ilabel"]
    return projected


def _inside_of_chains(lattice: Lattice) -> np.ndarray:
    """Find the states that a chain of arcs goes through; bool (states,)."""
    num_in = np.bincount(lattice.arcs["nextstate"], minlength=lattice.num_states)
    has_word_out = np.zeros(lattice.num_states, bool)
    has_word_out[lattice.source[lattice.words != EPSILON]] = True
    inside = (num_in == 1) & (np.diff(lattice.first_arc) == 1) & ~has_word_out & ~lattice.is_final
    inside[lattice.start] = False
    return inside


def _strings(chains: list[np.ndarray], labels: list[np.ndarray], count: int) -> LabelStrings:
    """Put together the strings of chains whose labels are given step by step."""
    chain, label = np.concatenate(chains), np.concatenate(labels)
    chain, label = chain[label != EPSILON], label[label != EPSILON]
    lengths = np.bincount(chain, minlength=count)
    return LabelStrings.of_lengths(label[np.argsort(chain, kind="stable")], lengths)
