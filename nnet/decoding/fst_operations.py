"""Operations on transducers that Kaldi's `fst...` programs name, between arrays and files.

kaldifst composes, determinizes and minimizes; here stands what programs and graphs share around
it.  After Kaldi's fstbin/*.cc, fstext/kaldi-fst-io.cc and fstext/fstext-utils-inl.h.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from nnet.decoding.fst import EPSILON, FST, ArrayFst
from nnet.errors import NgtrainError
from nnet.io.copying import copy_objects
from nnet.io.losses import Losses
from nnet.io.random_access import random_access_table
from nnet.io.tables import is_rspecifier, sequential_table, table_writer
from nnet.lattices.order import levels_of

log = logging.getLogger("ngtrain")


def change_fsts(
    source: str | None, target: str | None, change: Callable[[ArrayFst], ArrayFst]
) -> None:
    """Change a transducer in a file (standard input and output by default), or those of a table.

    Raises NgtrainError if one is a table and the other is none, or a transducer cannot be read.
    """
    source, target = source or "-", target or "-"
    if is_rspecifier(source):
        copy_objects(source, target, FST, True, lambda _, fst: change(fst))
    else:
        change(ArrayFst.load(source)).save(target)


def change_in_kaldifst(
    source: str | None, target: str | None, change: Callable[..., object], **options
) -> None:
    """Apply a function of kaldifst that changes a `StdVectorFst` where it is; see `change_fsts`."""

    def apply(fst: ArrayFst) -> ArrayFst:
        mutable = fst.to_kaldifst()
        change(mutable, **options)
        return ArrayFst.from_kaldifst(mutable)

    change_fsts(source, target, apply)


def determinize(fst, use_log: bool, delta: float, max_states: int = -1) -> None:
    """Remove epsilons and determinize a `kaldifst.StdVectorFst` where it is (DeterminizeStar).

    max_states: of the result, before giving up; any number if not positive.

    Raises NgtrainError if the transducer cannot be determinized, or has more states.
    """
    import kaldifst

    kaldifst.arcsort(fst, "ilabel")  # it is faster then
    try:
        gave_up = kaldifst.determinize_star(fst, delta, max_states, use_log)
    except RuntimeError as error:
        raise NgtrainError(f"the transducer cannot be determinized: {error}") from error
    if gave_up:
        raise NgtrainError(f"determinization passed --max-states={max_states} and was given up")


# Composition --------------------------------------------------------------------------------------


def compose(
    left: ArrayFst,
    right: ArrayFst,
    connect: bool = True,
    match_side: str = "left",
    compose_filter: str = "sequence",
) -> ArrayFst:
    """Compose two transducers; arcs that are not sorted where these meet are, with a warning."""
    import kaldifst

    operands = []
    for which, fst, side in ("first", left, "olabel"), ("second", right, "ilabel"):
        operands.append(fst.to_kaldifst())
        if not is_sorted(fst, side):
            log.warning("The %s FST is not %s sorted.", which, side)
            kaldifst.arcsort(operands[-1], side)
    return ArrayFst.from_kaldifst(kaldifst.compose(*operands, match_side, compose_filter, connect))


def is_sorted(fst: ArrayFst, side: str) -> bool:
    """True if the arcs of each state are in the order of their labels on the side `ilabel` ..."""
    labels, source = fst.arcs[side].astype(np.int64), fst.source
    return bool(((np.diff(labels) >= 0) | (np.diff(source) > 0)).all())


def compose_tables(left: str, right: str, target: str | None, **options) -> int:
    """Compose two transducers in files, one in a file with each of a table, or two tables by keys.

    options: see `compose`.

    Returns the exit status: 1 if there were tables and nothing came of them.
    """
    if not is_rspecifier(right):
        if is_rspecifier(left):
            raise NgtrainError(f"{left} is a table, so {right} must be one: composed with its keys")
        compose(ArrayFst.load(left), ArrayFst.load(right), **options).save(target or "-")
        return 0
    if is_rspecifier(left):
        return _compose_by_keys(left, right, target or "", **options)
    first, count = ArrayFst.load(left), 0
    with sequential_table(right, FST) as table, table_writer(target or "", FST) as results:
        for key, second in table:
            results.write(key, compose(first, second, **options))
            count += 1
    log.info("Composed %d FSTs.", count)
    return 0 if count else 1


def _compose_by_keys(left: str, right: str, target: str, **options) -> int:
    num_done, losses = 0, Losses()
    with (
        sequential_table(left, FST) as firsts,
        random_access_table(right, FST) as seconds,
        table_writer(target, FST) as results,
    ):
        for key, first in firsts:
            if key not in seconds:
                losses.add(seconds.why_not(key))
            elif (result := compose(first, seconds[key], **options)).start < 0:
                losses.add(f"the result for {key} is empty")
            else:
                results.write(key, result)
                num_done += 1
    losses.report("nothing came of %d FSTs")
    log.info("Composed %d FSTs, %d failed", num_done, losses.count)
    return 0 if num_done else 1


# Symbols ------------------------------------------------------------------------------------------


def with_symbols(fst: ArrayFst, symbols: Collection[int], side: str) -> np.ndarray:
    """Say of each arc whether its label on a side, `ilabel` or `olabel`, is one of these."""
    return np.isin(fst.arcs[side], list(symbols))


def project(fst: ArrayFst, side: str) -> ArrayFst:
    """Give both sides of each arc the label of one (OpenFst's Project)."""
    arcs = fst.arcs.copy()
    arcs["ilabel"] = arcs["olabel"] = fst.arcs[side]
    return replace(fst, arcs=arcs)


def erase_symbols(fst: ArrayFst, symbols: Collection[int], side: str = "ilabel") -> ArrayFst:
    """Turn these symbols into epsilon."""
    arcs = fst.arcs.copy()
    arcs[side][with_symbols(fst, symbols, side)] = EPSILON
    return replace(fst, arcs=arcs)


def penalize_symbols(
    fst: ArrayFst, symbols: Collection[int], penalty: float, side: str = "ilabel"
) -> ArrayFst:
    """Make arcs with these symbols cost `penalty` more."""
    arcs = fst.arcs.copy()
    arcs["weight"][with_symbols(fst, symbols, side)] += np.float32(penalty)
    return replace(fst, arcs=arcs)


def remove_arcs(fst: ArrayFst, symbols: Collection[int], side: str = "ilabel") -> ArrayFst:
    """Remove the arcs with these symbols, and states that are of no use then."""
    keep = ~with_symbols(fst, symbols, side)
    return connected(ArrayFst.from_arcs(fst.start, fst.finals, fst.source[keep], fst.arcs[keep]))


# Paths --------------------------------------------------------------------------------------------


def connected(fst: ArrayFst) -> ArrayFst:
    """Leave out what is on no way from the start to a final state."""
    import kaldifst

    trimmed = fst.to_kaldifst()
    kaldifst.connect(trimmed)
    return ArrayFst.from_kaldifst(trimmed)


def topsorted(fst: ArrayFst) -> ArrayFst:
    """Number the states so that every arc goes to a higher one (OpenFst's TopSort).

    Raises:
        ValueError: the transducer has a cycle.
    """
    order = np.argsort(levels_of(fst), kind="stable")
    number = np.argsort(order)
    arcs = fst.arcs.copy()
    arcs["nextstate"] = number[arcs["nextstate"]]
    start = int(number[fst.start]) if fst.start >= 0 else -1
    return ArrayFst.from_arcs(start, fst.finals[order], number[fst.source], arcs)


def random_path(fst: ArrayFst, rng: np.random.Generator) -> ArrayFst:
    """Draw a path, without costs; what leaves a state, and ending there, are equally probable.

    A transducer without paths gives an empty one.
    """
    fst = connected(fst)
    if fst.start < 0:
        return fst
    taken, state = [], fst.start
    while True:
        begin, end = fst.first_arc[state : state + 2]
        arc = int(rng.integers(begin, end + np.isfinite(fst.finals[state])))
        if arc == end:
            break
        taken.append(arc)
        state = int(fst.arcs["nextstate"][arc])
    arcs = fst.arcs[taken]
    arcs["weight"], arcs["nextstate"] = 0, np.arange(1, len(taken) + 1)
    finals = np.full(len(taken) + 1, np.inf, np.float32)
    finals[-1] = 0
    return ArrayFst.from_arcs(0, finals, np.arange(len(taken)), arcs)


# Sums ---------------------------------------------------------------------------------------------


def state_costs(fst: ArrayFst, use_log: bool) -> np.ndarray:
    """Sum what leaves each state, its final cost included; float64 (states,).

    In the log semiring that is minus the logarithm of the sum of probabilities, which is 0 where a
    transducer is stochastic; else the least cost.
    """
    source, costs = fst.source, fst.arcs["weight"].astype(np.float64)
    finals = fst.finals.astype(np.float64)
    least = finals.copy()
    np.minimum.at(least, source, costs)
    if not use_log:
        return least
    pivot = np.where(np.isfinite(least), least, 0)
    total = np.exp(pivot - finals)
    total += np.bincount(source, np.exp(pivot[source] - costs), minlength=fst.num_states)
    with np.errstate(divide="ignore"):
        return pivot - np.log(total)
