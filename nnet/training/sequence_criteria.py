"""Criteria of sequence training, of a whole utterance or a part of one: MMI, MPFE, sMBR.

With the scaled log-likelihoods a_t(j) = kappa (log y_t(j) - log p(j)) of pdf-ids j, kappa the
acoustic scale, y the output of the network and p the priors, a path pi through the lattice has the
score S(pi) = sum_t a_t(pi_t) - graph costs, and the probability P(pi) = exp S(pi) / Z.

    MMI         F = sum_t a_t(num_t) - log Z        dF/da_t(j) = [num_t = j] - gamma_t(j)
    MPFE, sMBR  F = sum_pi P(pi) A(pi)              dF/da_t(j) = gamma_t(j) (Abar_t(j) - F)

gamma_t(j) is the probability of the paths with pdf-id j at time t, A(pi) the number of frames that
a path has right, and Abar_t(j) its mean over those paths.  A frame is right if its phone (MPFE) or
its pdf-id (sMBR) is that of the numerator.  In boosted MMI each frame of a path whose phone is
wrong adds b to its score.

By tradition the factor kappa is left out of the derivative w.r.t. log y.  All frames of an arc of a
compact lattice share its posterior, so that forward-backward is over arcs and not over frames.

Source: Kaldi's nnet2/nnet-compute-discriminative.cc; LatticeForwardBackwardMpeVariants and
LatticeBoost in lat/lattice-functions.cc; LatticeForwardBackwardMmi in
lat/lattice-functions-transition-model.cc.  K. Vesely, A. Ghoshal, L. Burget, D. Povey:
Sequence-discriminative training of deep neural networks, Interspeech 2013; D. Povey et al.: Boosted
MMI for model and feature-space discriminative training, ICASSP 2008.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.device.device import SparseRows
from nnet.egs.discriminative import DiscriminativeExample, check_criterion
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.lattices.lattice import ACOUSTIC, GRAPH, CompactLattice
from nnet.lattices.strings import LabelStrings, ranges
from nnet.lattices.trellis import Trellis


@dataclass(frozen=True)
class SequenceOptions:
    """The criterion that is maximized, with its parameters.

    Attributes:
        criterion: mmi, mpfe or smbr.
        acoustic_scale: kappa.
        boost: b, for mmi.
        drop_frames: for mmi, whether frames count for nothing where the pdf-id of the numerator is
            not in the lattice.
        one_silence_class: for mpfe and smbr, whether silence is right where there is any silence,
            which reduces insertions; else silence never is.
        silence_phones: these.
    """

    criterion: str = "smbr"
    acoustic_scale: float = 0.1
    boost: float = 0.0
    drop_frames: bool = False
    one_silence_class: bool = False
    silence_phones: frozenset[int] = frozenset()

    def __post_init__(self):
        check_criterion(self.criterion)


class Supervision:
    """Numerator and denominator of an example, as arrays.

    An entry is a frame of an arc of the lattice, or of a final state, which counts as an arc.

    Attributes:
        weight: that of the example.
        numerator: int (frames,), transition-ids.
        trellis: the states and arcs of the denominator.
        own_score: float64 (arcs,), minus the graph costs; on arcs without a transition-id, which
            lattices that were split have not, minus acoustic costs, too, as in Kaldi.
        arc, time, ids: of each entry its arc, frame and transition-id; int (entries,).

    Raises:
        NgtrainError: the lattice has no paths, or some of another number of frames than the
            numerator, or transition-ids that the model does not have.
    """

    def __init__(self, example: DiscriminativeExample, transitions: TransitionModel):
        lattice = example.den_lat
        self.weight, self.numerator = example.weight, example.num_ali
        try:
            self.trellis = trellis = Trellis(lattice)
            strings = LabelStrings.concatenate(
                [lattice.arc_strings, lattice.final_strings.take(trellis.final_states)]
            )
            length = strings.lengths
            time = trellis.times(length)
        except ValueError as error:
            raise NgtrainError(f"denominator: {error}") from None
        if time[trellis.end] != len(self.numerator):
            raise NgtrainError(
                f"the denominator has {time[trellis.end]} frames, the numerator "
                f"{len(self.numerator)}"
            )
        self.own_score = -self._own_costs(lattice, length)
        begin = time[trellis.source]
        reached = np.flatnonzero(begin >= 0)
        self.arc = np.repeat(reached, length[reached])
        self.ids = strings.take(reached).values
        self.time = ranges(begin[reached], length[reached])
        transitions.check_alignment(self.numerator, "numerator")
        transitions.check_alignment(self.ids, "denominator")

    def _own_costs(self, lattice: CompactLattice, length: np.ndarray) -> np.ndarray:
        """Return what arcs cost beside the new acoustic costs of their frames."""
        arcs = lattice.arcs["weight"].astype(np.float64)
        finals = lattice.finals[self.trellis.final_states].astype(np.float64)
        arcs[length[: len(arcs)] > 0, ACOUSTIC] = 0
        return np.concatenate([arcs.sum(axis=1), finals[:, GRAPH]])

    @property
    def num_frames(self) -> int:
        return len(self.numerator)

    def arc_sums(self, values: np.ndarray) -> np.ndarray:
        """Sum over the entries of each arc; float64 (arcs,)."""
        return np.bincount(self.arc, values, minlength=len(self.own_score))


class Criterion:
    """A criterion: what the scores of arcs come to, and its derivative w.r.t. those of frames.

    options: the scale of the scores is the caller's.
    """

    def __init__(self, transitions: TransitionModel, options: SequenceOptions):
        self.transitions, self.options = transitions, options
        self.num_pdfs = transitions.num_pdfs
        self.is_silence = np.isin(transitions.phone_of, list(options.silence_phones))

    def __call__(self, s: Supervision, arc_score: np.ndarray) -> tuple[float, SparseRows]:
        """Return log Z for MMI, else F; and dF/da, of a row for each frame."""
        return (self.mmi if self.options.criterion == "mmi" else self.accuracy)(s, arc_score)

    def mmi(self, s: Supervision, arc_score: np.ndarray) -> tuple[float, SparseRows]:
        """Return log Z, and dF/da."""
        if self.options.boost:
            arc_score = arc_score + self.options.boost * s.arc_sums(self.is_wrong(s))
        log_z, gamma = s.trellis.posteriors(arc_score)
        denominator = self.by_pdf(s.time, s.ids, gamma[s.arc])
        frames = np.arange(s.num_frames)
        numerator = self.by_pdf(frames, s.numerator, np.ones(s.num_frames))
        keys = np.concatenate([numerator[0], denominator[0]])
        values = np.concatenate([numerator[1], -denominator[1]])
        if self.options.drop_frames:
            overlaps = np.isin(numerator[0], denominator[0])
            values *= overlaps[keys // self.num_pdfs]
        return log_z, self.sparse(*summed(keys, values), s.num_frames)

    def accuracy(self, s: Supervision, arc_score: np.ndarray) -> tuple[float, SparseRows]:
        """Return F, and dF/da, of MPFE or sMBR."""
        accuracy, gamma, deviation = s.trellis.expectation(arc_score, s.arc_sums(self.is_right(s)))
        keys, values = self.by_pdf(s.time, s.ids, (gamma * deviation)[s.arc])
        return accuracy, self.sparse(keys, values, s.num_frames)

    def is_wrong(self, s: Supervision) -> np.ndarray:
        """Tell of which entries the phone is not that of the numerator, and not silence."""
        phone = self.transitions.phone_of
        return (phone[s.ids] != phone[s.numerator[s.time]]) & ~self.is_silence[s.ids]

    def is_right(self, s: Supervision) -> np.ndarray:
        """Tell which entries count as accurate."""
        classes = self.transitions.phone_of
        if self.options.criterion == "smbr":
            classes = self.transitions.pdf_of
        reference, silent = s.numerator[s.time], self.is_silence[s.ids]
        same = classes[s.ids] == classes[reference]
        if self.options.one_silence_class:
            return same | (silent & self.is_silence[reference])
        return same & ~silent

    def by_pdf(
        self, times: np.ndarray, ids: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sum values by frame and pdf-id: keys, frame * num_pdfs + pdf-id, and sums but for 0."""
        return summed(times * self.num_pdfs + self.transitions.pdf_of[ids], values)

    def sparse(self, keys: np.ndarray, values: np.ndarray, num_rows: int) -> SparseRows:
        rows, columns = (part.astype(np.int32) for part in divmod(keys, self.num_pdfs))
        starts = np.searchsorted(rows, np.arange(num_rows + 1)).astype(np.int32)
        return SparseRows(rows, columns, values, starts)


def summed(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum values of the same key; return the keys in order, and the sums, float32, but for 0."""
    keys, which = np.unique(keys, return_inverse=True)
    sums = np.bincount(which, values, minlength=len(keys)).astype(np.float32)
    kept = sums != 0
    return keys[kept], sums[kept]
