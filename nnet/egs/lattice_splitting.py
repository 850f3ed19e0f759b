"""Splitting examples for sequence training where paths meet, and leaving out idle frames.

A frame moves nothing if all paths of the lattice have the same pdf-id there (for MMI the numerator,
too).  Lattices are split where all paths go through one state; parts in which no frame moves
anything are left out, and idle frames of the others, but for those that are context of frames which
are not idle.

Source: Kaldi's DiscriminativeExampleSplitter in nnet2/nnet-example-functions.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from nnet.egs.discriminative import check_criterion
from nnet.hmm.transition_model import TransitionModel
from nnet.lattices.acceptor import Acceptor
from nnet.lattices.conversion import to_compact_lattice, to_lattice
from nnet.lattices.lattice import EPSILON, CompactLattice, Lattice
from nnet.lattices.order import connected
from nnet.lattices.trellis import Trellis


@dataclass(frozen=True)
class SplitOptions:
    """A way of splitting examples.

    Attributes:
        criterion: mmi, mpfe or smbr; tells which frames move something.
        collapse_transition_ids: whether those of one pdf-id are made one, per frame, but for mpfe.
        determinize, minimize: whether lattices are determinized first, and from both ends.
        drop_frames: for mmi, whether frames are dropped in training where the numerator is not in
            the lattice.
        split, excise: whether it is done at all.
    """

    criterion: str = "smbr"
    collapse_transition_ids: bool = True
    determinize: bool = True
    minimize: bool = True
    drop_frames: bool = False
    split: bool = True
    excise: bool = True

    def __post_init__(self) -> None:
        check_criterion(self.criterion)


@dataclass
class Stretch:
    """A stretch of an utterance.

    Attributes:
        num_ali: int32 (frames,), the numerator.
        den_lat: the denominator, of as many frames.
        features: (left_context + frames + right_context, dim).
        left_context: rows of features before the first frame.
    """

    num_ali: np.ndarray
    den_lat: CompactLattice
    features: np.ndarray
    left_context: int

    @property
    def num_frames(self) -> int:
        return len(self.num_ali)

    @property
    def right_context(self) -> int:
        return len(self.features) - self.left_context - self.num_frames


@dataclass
class SplitStatistics:
    """Counts of lattices, segments and frames, and the longest of them, in frames."""

    lattices: int = 0
    segments: int = 0
    kept_segments: int = 0
    frames: int = 0
    needed: int = 0
    after_split: int = 0
    after_excising: int = 0
    longest_lattice: int = 0
    longest_split: int = 0
    longest_excised: int = 0

    def lines(self) -> list[str]:
        """Say them as nnet-get-egs-discriminative does."""
        lattices, frames = self.lattices or np.nan, self.frames / 100 or np.nan
        return [
            f"Split {self.lattices} lattices.  Stats:",
            f"Made on average {self.segments / lattices:g} segments per lattice, of which "
            f"{self.kept_segments / lattices:g} were kept.",
            f"Needed to keep {self.needed / frames:g}% of frames, after split kept "
            f"{self.after_split / frames:g}%, after excising frames kept "
            f"{self.after_excising / frames:g}%.",
            f"Longest lattice had {self.longest_lattice} frames, longest segment after splitting "
            f"had {self.longest_split} frames, longest segment after excising had "
            f"{self.longest_excised}",
        ]


class Frames:
    """The frames of a lattice of transition-ids, without epsilons, whose arcs are frames.

    Attributes:
        lattice: with its states in topological order.
        time: int (states,), the frame that the arcs out of each state are.
        num_states: int (frames + 1,), how many states there are at each time.
        moves: bool (frames,), whether the derivative may not be 0.
        can_go: bool (frames,), whether the frame changes nothing in any other.
    """

    def __init__(
        self, acceptor: Acceptor, segment: Stretch, transitions: TransitionModel, o: SplitOptions
    ):
        self.lattice = lattice = acceptor.lattice()
        self.transitions, self.num_frames = transitions, segment.num_frames
        ids = lattice.arcs["ilabel"]
        self.time = times_of(lattice)
        self.arc_time = self.time[lattice.source]
        self.num_states = np.bincount(self.time, minlength=self.num_frames + 1)
        pdf_of = transitions.pdf_of
        num_pdfs, pdfs = self.count_distinct(pdf_of[ids])
        num_ids, _ = self.count_distinct(ids)
        overlaps = np.isin(
            np.arange(self.num_frames) * transitions.num_pdfs + pdf_of[segment.num_ali], pdfs
        )
        if o.criterion != "mmi":
            self.moves = num_pdfs > 1
        elif o.drop_frames:
            self.moves = overlaps & (self.num_states[:-1] > 1)
        else:
            self.moves = ~overlaps | (self.num_states[:-1] > 1)
        # In MPFE several phones count for something even if they share a pdf-id.
        one_path = num_ids == 1 if o.criterion == "mpfe" else num_pdfs == 1
        self.can_go = ~self.moves & one_path

    def count_distinct(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count different labels of arcs, by frame; also as numbers frame * num_pdfs + label."""
        size = max(self.transitions.num_pdfs, self.transitions.num_transition_ids + 1)
        keys = np.unique(self.arc_time * size + labels)
        counts = np.bincount(keys // size, minlength=self.num_frames)
        return counts, keys // size * self.transitions.num_pdfs + keys % size

    def part(self, begin: int, end: int) -> CompactLattice:
        """Cut the lattice from one frame to another, at each of which there is one state."""
        inside = (self.arc_time >= begin) & (self.arc_time < end)
        part = self.lattice.with_arcs(inside)
        part = replace(part, start=int(np.flatnonzero(self.time == begin)[0]))
        if end < self.num_frames:
            finals = np.full_like(part.finals, np.inf)
            finals[self.time == end] = 0
            part = replace(part, finals=finals)
        return to_compact_lattice(connected(part))


def times_of(lattice: Lattice) -> np.ndarray:
    """Find the time of each state of a lattice without epsilons, int (states,)."""
    trellis = Trellis(lattice)
    is_frame = np.arange(len(trellis.source)) < lattice.num_arcs  # the others lead into the end
    return trellis.times(is_frame.astype(np.int64))[:-1]


def acceptor_of(segment: Stretch) -> Acceptor:
    """Take the transition-ids of a segment's lattice, one on each arc."""
    return Acceptor.of(to_lattice(segment.den_lat)).without_epsilons()


def split_segment(
    segment: Stretch, transitions: TransitionModel, o: SplitOptions, statistics: SplitStatistics
) -> Iterator[Stretch]:
    """Yield the parts of a segment in which something moves."""
    if not o.split:
        yield segment
        return
    acceptor = acceptor_of(segment)
    if o.collapse_transition_ids and o.criterion != "mpfe":
        acceptor = Acceptor.of(collapsed(acceptor.lattice(), transitions))
    if o.determinize:
        acceptor = acceptor.minimized() if o.minimize else acceptor.determinized()
    frames = Frames(acceptor, segment, transitions, o)
    count = frames.num_states
    pinches = 1 + np.flatnonzero((count[1:-1] == 1) & (count[:-2] > 1))
    parts = list(pairwise([0, *pinches.tolist(), segment.num_frames]))
    kept = [(begin, end) for begin, end in parts if frames.moves[begin:end].any()]
    add_split(statistics, frames, parts, kept)
    context = segment.left_context + segment.right_context
    for begin, end in kept:
        features = segment.features[begin : end + context]
        numerator = segment.num_ali[begin:end]
        yield Stretch(numerator, frames.part(begin, end), features, segment.left_context)


def collapsed(lattice: Lattice, transitions: TransitionModel) -> Lattice:
    """Give arcs of one frame with the same pdf-id the same transition-id, that of the first."""
    time = times_of(lattice)[lattice.source]
    ids = lattice.arcs["ilabel"]
    key = time * transitions.num_pdfs + transitions.pdf_of[ids]
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    arcs = lattice.arcs.copy()
    arcs["ilabel"] = ids[first[which]]
    return replace(lattice, arcs=arcs)


def add_split(statistics: SplitStatistics, frames: Frames, parts: list, kept: list) -> None:
    s, lengths = statistics, [end - begin for begin, end in kept]
    s.lattices += 1
    s.segments += len(parts)
    s.kept_segments += len(kept)
    s.frames += frames.num_frames
    s.needed += int(frames.moves.sum())
    s.after_split += sum(lengths)
    s.longest_lattice = max(s.longest_lattice, frames.num_frames)
    s.longest_split = max([s.longest_split, *lengths])


def excise_frames(
    segment: Stretch, transitions: TransitionModel, o: SplitOptions, statistics: SplitStatistics
) -> Stretch | None:
    """Leave out idle frames of a segment; None if all are."""
    if not o.excise:
        return segment
    frames = Frames(acceptor_of(segment), segment, transitions, o)
    needed = np.flatnonzero(~frames.can_go)
    if not len(needed):
        return None
    left, right = segment.left_context, segment.right_context
    begin, end = int(needed[0]), int(needed[-1]) + 1
    # Frame t needs t - left ... t + right; at the ends what is cut off is the context.
    is_kept = np.zeros(segment.num_frames, bool)
    is_kept[np.clip(needed[:, None] + np.arange(-left, right + 1), begin, end - 1)] = True
    kept = np.flatnonzero(is_kept)
    arcs = frames.lattice.arcs.copy()
    arcs["ilabel"][~is_kept[frames.arc_time]] = EPSILON
    shorter = Acceptor.of(replace(frames.lattice, arcs=arcs)).without_epsilons()
    rows = np.concatenate([begin + np.arange(left), left + kept, left + end + np.arange(right)])
    statistics.after_excising += len(kept)
    statistics.longest_excised = max(statistics.longest_excised, len(kept))
    return Stretch(
        segment.num_ali[kept],
        to_compact_lattice(shorter.lattice()),
        segment.features[rows],
        segment.left_context,
    )
