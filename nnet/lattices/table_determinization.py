"""Determinization of tables (Kaldi latbin/lattice-determinize-pruned.cc and -phone-pruned.cc)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nnet.lattices.acoustic_costs import with_acoustic_costs_of
from nnet.lattices.conversion import to_lattice
from nnet.lattices.lattice import CompactLattice, Lattice
from nnet.lattices.operations import inverse_or_scale, scaled
from nnet.lattices.order import topsorted
from nnet.lattices.tables import COMPACT_LATTICE, LATTICE, change_lattices
from nnet.lattices.times import depth

log = logging.getLogger("ngtrain")


def determinize_table(
    rspecifier: str,
    wspecifier: str,
    determinized: Callable[[Lattice], tuple[CompactLattice, bool]],
    acoustic_scale: float,
    write_compact: bool,
) -> int:
    """Determinize each lattice of a table, log what came of it, and count them.

    Args:
        determinized: returns a lattice of the one with scaled costs, and whether it is complete.
        write_compact: write compact lattices, otherwise lattices of transition-ids, which keep the
            acoustic costs of frames.

    Raises:
        NgtrainError: the scale is 0; a lattice cannot be read or has a cycle; or, where costs of
            frames are kept, it has others.
    """
    inverse_or_scale(acoustic_scale, 1.0, invertible=True)
    num_incomplete = num_states = num_frames = 0
    total_depth = 0.0

    def change(key: str, lattice: Lattice) -> Lattice | CompactLattice:
        nonlocal num_incomplete, num_states, num_frames, total_depth
        result, is_complete = determinized(scaled(lattice, 1, acoustic_scale))
        if not is_complete:
            log.warning(
                "For key %s, determinization did not succeed(partial output will be pruned "
                "tighter than the specified beam.)",
                key,
            )
        if not result.num_states:
            log.warning("For key %s, determinized and trimmed lattice was empty.", key)
        num_incomplete += not is_complete or not result.num_states
        value, frames = depth(result)
        num_states += lattice.num_states
        total_depth += value * frames
        num_frames += frames
        if write_compact:
            return scaled(result, 1, 1 / acoustic_scale)
        return with_acoustic_costs_of(lattice, topsorted(to_lattice(result)))

    target = COMPACT_LATTICE if write_compact else LATTICE
    num_done, _ = change_lattices(rspecifier, wspecifier, change, LATTICE, target)
    if num_frames:
        log.info(
            "Average input-lattice depth (measured at at state level) is %g, output depth is %g, "
            "over %d frames  (average num-frames = %g).",
            *(num_states / num_frames, total_depth / num_frames, num_frames),
            num_frames / num_done,
        )
    log.info(
        "Done %d lattices, determinization finished earlier than specified by the beam (or output "
        "was empty) on %d of these.",
        *(num_done, num_incomplete),
    )
    return num_done
