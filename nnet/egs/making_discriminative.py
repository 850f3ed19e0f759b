"""Making examples for sequence training, of features, alignments and lattices.

Source: Kaldi's nnet2bin/nnet-get-egs-discriminative.cc, and LatticeToDiscriminativeExample in
nnet2/nnet-example-functions.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from nnet.egs.discriminative import DiscriminativeExample
from nnet.egs.discriminative_programs import NumberedExamples
from nnet.egs.lattice_splitting import (
    SplitOptions,
    SplitStatistics,
    Stretch,
    excise_frames,
    split_segment,
)
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.io import log_lines
from nnet.io.losses import Losses
from nnet.io.matrices import CompressedMatrix
from nnet.io.random_access import random_access_table
from nnet.io.tables import FEATURES, INTEGERS, sequential_table
from nnet.lattices.concatenation import with_one_end
from nnet.lattices.lattice import CompactLattice
from nnet.lattices.order import topsorted
from nnet.lattices.tables import COMPACT_LATTICE
from nnet.lattices.trellis import Trellis

log = logging.getLogger("ngtrain")

WEIGHT = 1.0


def make_discriminative_examples(
    transitions: TransitionModel,
    context: tuple[int, int],
    features_rspecifier: str,
    alignments_rspecifier: str,
    lattices_rspecifier: str,
    wspecifier: str,
    options: SplitOptions,
) -> None:
    """Make examples of utterances, split where all paths meet, without frames that move nothing.

    Utterances without an alignment or a lattice, or of which these differ in their number of
    frames, are left out with a warning.

    context: the frames of input that the network needs on either side.

    Raises:
        NgtrainError: something cannot be read or written, or no utterance can be used.
    """
    statistics, unusable, num_done, num_idle = SplitStatistics(), Losses(), 0, 0
    with NumberedExamples([wspecifier]) as out:
        tables = features_rspecifier, alignments_rspecifier, lattices_rspecifier
        for utterance in _utterances(transitions, context, *tables, unusable):
            for segment in split_segment(utterance, transitions, options, statistics):
                excised = excise_frames(segment, transitions, options, statistics)
                if excised is not None:
                    out.write(_example(excised))
                else:
                    num_idle += 1
            num_done += 1
        if num_done:
            for line in statistics.lines():
                log.info(line)
        if num_idle:
            log.warning("%d examples without a frame that moves anything are left out", num_idle)
        log.info(log_lines.DISCRIMINATIVE_EXAMPLES.format, num_done, unusable.count)
        if not num_done:
            raise NgtrainError(
                f"no utterance of {features_rspecifier} has a fitting alignment in "
                f"{alignments_rspecifier} and lattice in {lattices_rspecifier}"
            )


def _utterances(
    transitions: TransitionModel, context: tuple[int, int], features_rspecifier: str,
    alignments_rspecifier: str, lattices_rspecifier: str, unusable: Losses,
) -> Iterator[Stretch]:  # fmt: skip
    """Join features with alignments and lattices; counts those that do not fit."""
    with (
        sequential_table(features_rspecifier, FEATURES) as features,
        random_access_table(alignments_rspecifier, INTEGERS) as alignments,
        random_access_table(lattices_rspecifier, COMPACT_LATTICE) as lattices,
    ):
        for key, frames in features:
            try:
                if key not in alignments:
                    raise ValueError("there is no alignment")
                if key not in lattices:
                    raise ValueError("there is no denominator lattice")
                alignment, lattice = alignments[key], topsorted(with_one_end(lattices[key]))
                _check_sizes(len(frames), len(alignment), lattice)
            except ValueError as error:
                log.warning("Utterance %s is left out: %s", key, error)
                unusable.add(key)
                continue
            for ids in alignment, lattice.arc_strings.values, lattice.final_strings.values:
                transitions.check_alignment(ids, key)
            yield Stretch(alignment, lattice, np.pad(frames, (context, (0, 0)), "edge"), context[0])


def _check_sizes(num_frames: int, num_aligned: int, lattice: CompactLattice) -> None:
    """Raise ValueError unless features, alignment and lattice have as many frames."""
    trellis = Trellis(lattice)
    finals = lattice.final_strings.take(trellis.final_states)
    lengths = np.concatenate([lattice.arc_strings.lengths, finals.lengths])
    in_lattice = trellis.times(lengths)[trellis.end]
    if not num_frames or not num_frames == num_aligned == in_lattice:
        raise ValueError(
            f"the features have {num_frames} frames, the alignment {num_aligned} and the lattice "
            f"{in_lattice}"
        )


def _example(segment: Stretch) -> DiscriminativeExample:
    frames = CompressedMatrix.compress(segment.features)
    return DiscriminativeExample(
        WEIGHT, segment.num_ali, segment.den_lat, frames, segment.left_context
    )
