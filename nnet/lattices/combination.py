"""Unions of the lattices that several systems made of an utterance (latbin/lattice-combine.cc).

For minimum Bayes risk decoding of all of them (Xu et al., "Minimum Bayes Risk decoding and system
combination based on a recursion for edit distance", 2011).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.losses import Losses
from nnet.io.random_access import random_access_table
from nnet.lattices.lattice import COMPACT_ARC, EPSILON, GRAPH, CompactLattice
from nnet.lattices.operations import scaled
from nnet.lattices.order import topsorted
from nnet.lattices.strings import LabelStrings
from nnet.lattices.sweep import Sweep
from nnet.lattices.tables import COMPACT_LATTICE, change_lattices

log = logging.getLogger("ngtrain")


def with_total(lattice: CompactLattice, total: float) -> CompactLattice:
    """Let the probabilities of all paths sum to `total`, by a cost in the graph costs of ends.

    Raises:
        ValueError: the lattice has a cycle, or no path.
    """
    lattice = topsorted(lattice)
    found = Sweep(lattice).backward(-lattice.costs, -lattice.final_costs, np.logaddexp)
    if lattice.start < 0 or found[lattice.start] == -np.inf:
        raise ValueError("no path of the lattice reaches a final state")
    finals = lattice.finals.copy()
    finals[:, GRAPH] += found[lattice.start] - math.log(total)
    return lattice.with_weights(lattice.arcs["weight"], finals)


def union(lattices: Sequence[CompactLattice]) -> CompactLattice:
    """Make a lattice with the paths of all; none of them is empty.

    Arcs without word and cost lead from the start of the first to those of the others (OpenFst's
    Union).
    """
    offsets = np.cumsum([0, *(lattice.num_states for lattice in lattices)])
    source, arcs = [], []
    for lattice, offset in zip(lattices, offsets[:-1], strict=True):
        moved = lattice.arcs.copy()
        moved["nextstate"] += offset
        source.append(lattice.source + offset)
        arcs.append(moved)
    start = lattices[0].start
    to_others = np.zeros(len(lattices) - 1, COMPACT_ARC)
    to_others["label"] = EPSILON
    to_others["nextstate"] = [
        lattice.start + offset for lattice, offset in zip(lattices[1:], offsets[1:-1], strict=True)
    ]
    return CompactLattice.from_arcs(
        start,
        np.concatenate([lattice.finals for lattice in lattices]),
        np.concatenate([*source, np.full(len(to_others), start)]),
        np.concatenate([*arcs, to_others]),
        LabelStrings.concatenate(
            [*(lattice.arc_strings for lattice in lattices), LabelStrings.empty(len(to_others))]
        ),
        LabelStrings.concatenate([lattice.final_strings for lattice in lattices]),
    )


def relative_weights(text: str, count: int) -> list[float]:
    """Read so many weights with colons between them, and make them sum to 1; equal ones of "".

    Raises:
        NgtrainError: they are not so many numbers greater than 0.
    """
    if not text:
        return [1 / count] * count
    try:
        weights = list(map(float, filter(None, text.split(":"))))
    except ValueError:
        weights = []
    if len(weights) != count or not all(0 < weight < math.inf for weight in weights):
        raise NgtrainError(f"--lat-weights={text}: expected {count} numbers greater than 0")
    return [weight / sum(weights) for weight in weights]


def combine_tables(
    rspecifiers: Sequence[str],
    wspecifier: str,
    weights: Sequence[float],
    graph_scale: float,
    acoustic_scale: float,
) -> int:
    """Write, for each key of the first table, the union of the lattices that the tables have.

    What has no path, or a cycle, counts as missing.

    Args:
        weights: what the probabilities of a table's paths sum to.

    Returns:
        The exit status: 0 if something was written, and more was complete than not.

    Raises:
        NgtrainError: a table cannot be read.
    """
    missing = Losses()
    with ExitStack() as stack:
        others = [
            stack.enter_context(random_access_table(rspecifier, COMPACT_LATTICE))
            for rspecifier in rspecifiers[1:]
        ]

        def change(key: str, lattice: CompactLattice) -> CompactLattice | None:
            found = []
            for table, weight in zip([None, *others], weights, strict=True):
                if table and key not in table:
                    missing.add(table.why_not(key))
                    continue
                one = scaled(table[key] if table else lattice, graph_scale, acoustic_scale)
                try:
                    found.append(with_total(one, weight))
                except ValueError as error:
                    missing.add(f"lattice of {key}", error)
            return union(found) if found else None

        num_done, _ = change_lattices(rspecifiers[0], wspecifier, change)
    missing.report("%d lattices are missing in unions")
    log.info(
        "Produced output for %d utterances; %d total missing lattices", num_done, missing.count
    )
    return 0 if missing.count < num_done - missing.count else 1
