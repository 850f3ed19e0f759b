"""Alignment of utterances with their transcripts, by Viterbi or by equal division.

After Kaldi's decoder/decoder-wrappers.cc (AlignUtteranceWrapper) and fstext/fstext-utils-inl.h
(EqualAlign).
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnet.decoding.decoder import Decoder, GraphPath, SearchOptions
from nnet.decoding.fst import ARC, EPSILON, ArrayFst
from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.io import log_lines
from nnet.io.holders import Holder
from nnet.io.text import encode
from nnet.io.tokens import Reader, Writer

log = logging.getLogger("ngtrain")

FAR_MORE_THAN_SILENCE_LASTS = 100


@dataclass(frozen=True)
class AlignmentOptions:
    """The beams of the search (AlignConfig).

    retry_beam: of a second trial, where no path survived the first; 0 for none.
    careful: fail where the end of the transcript is not the best place to end.
    """

    beam: float = 200.0
    retry_beam: float = 0.0
    careful: bool = False

    def __post_init__(self) -> None:
        if self.beam <= 0 or (self.retry_beam != 0 and self.retry_beam <= self.beam):
            raise NgtrainError(
                f"beams do not make sense: beam {self.beam:g}, retry-beam {self.retry_beam:g}"
            )


class Aligner:
    """An aligner of utterances, one after the other, that counts what happened.

    total_log_likelihood, divided by the acoustic scale, and num_frames: of those aligned.
    """

    def __init__(
        self, transition_model: TransitionModel, acoustic_scale: float, options: AlignmentOptions
    ):
        self.transition_model = transition_model
        self.acoustic_scale = acoustic_scale
        self.options = options
        self.num_done = self.num_failed = self.num_retried = 0
        self.total_log_likelihood = 0.0
        self.num_frames = 0

    def align(self, key: str, graph: ArrayFst, log_likelihoods: np.ndarray) -> GraphPath | None:
        """Find the best path, or None (with a warning) when the utterance cannot be aligned.

        The training graph has the costs of transitions; the log-likelihoods are float32
        (T, num_pdfs), without the acoustic scale.
        """
        if graph.start < 0:
            self.fail(f"Empty decoding graph for {key}")
            return None
        if self.options.careful:
            graph = forbid_early_end(graph)
        path = self._search(graph, log_likelihoods, self.options.beam)
        if path is None and self.options.retry_beam != 0:
            self.num_retried += 1
            log.warning("Retrying utterance %s with beam %g", key, self.options.retry_beam)
            path = self._search(graph, log_likelihoods, self.options.retry_beam)
        if path is None:
            self.fail(f"Did not successfully decode file {key}, len = {len(log_likelihoods)}")
            return None
        self.num_done += 1
        self.num_frames += len(log_likelihoods)
        self.total_log_likelihood += path.log_likelihood / self.acoustic_scale
        return path

    def _search(self, graph: ArrayFst, log_likelihoods: np.ndarray, beam: float):
        decoder = Decoder(graph, self.transition_model, SearchOptions(beam=beam))
        return decoder.decode(log_likelihoods, self.acoustic_scale)

    def fail(self, reason: str) -> None:
        """Count an utterance that cannot be aligned, or not even be tried."""
        log.warning("%s", reason)
        self.num_failed += 1

    def per_frame_log_likelihoods(self, path: GraphPath, log_likelihoods: np.ndarray) -> np.ndarray:
        """Look up the unscaled acoustic log-likelihood of each frame on a path; float32 (T,)."""
        pdfs = self.transition_model.pdf_of[path.alignment]
        return log_likelihoods[np.arange(len(pdfs)), pdfs]

    def report(self) -> None:
        """Log the lines that Kaldi's scripts look for."""
        average = self.total_log_likelihood / max(self.num_frames, 1)
        log.info("Overall log-likelihood per frame is %g over %d frames.", average, self.num_frames)
        log.info(log_lines.RETRIED.format, self.num_retried, self.num_done + self.num_failed)
        log.info(log_lines.ALIGNED.format, self.num_done, self.num_failed)


def forbid_early_end(graph: ArrayFst) -> ArrayFst:
    """Let the graph begin again behind its end, where it can no longer end.

    Of an utterance that goes on after its transcript, the best path then ends in the second copy,
    which is no valid end: the alignment fails (ModifyGraphForCarefulAlignment).
    """
    states = graph.num_states
    end = 2 * states  # where the first copy ends and the second begins
    final_states = np.flatnonzero(np.isfinite(graph.finals))
    bridges = [(EPSILON, EPSILON, cost, end) for cost in graph.finals[final_states]]
    bridges.append((EPSILON, EPSILON, 0.0, states + graph.start))
    second = graph.arcs.copy()
    second["nextstate"] += states
    finals = np.full(end + 1, np.inf, np.float32)
    finals[end] = 0
    return ArrayFst.from_arcs(
        graph.start,
        finals,
        np.concatenate((graph.source, states + graph.source, final_states, [end])),
        np.concatenate((graph.arcs, second, np.array(bridges, ARC))),
    )


def equal_alignment(graph: ArrayFst, num_frames: int, key: str) -> list[int] | None:
    """Draw a random path through a training graph, and repeat its states so that all last as long.

    Optional silence is in half of the places where the graph allows it, whatever its probability,
    and wanders through its HMM as long as it likes; see `flat_alignment`.  The name of the
    utterance, `key`, decides the path, so that a run can be repeated.  Returns `num_frames`
    transition-ids, or None when every path tried is longer than the utterance.
    """
    import kaldifst

    seed = zlib.crc32(encode(key)) & 0x7FFFFFFF
    found, path = kaldifst.equal_align(graph.to_kaldifst(), num_frames, seed)
    if not found:
        return None
    _, alignment, _, _ = kaldifst.get_linear_symbol_sequence(path)
    return alignment if len(alignment) == num_frames else None


def flat_alignment(
    graph: ArrayFst,
    transition_model: TransitionModel,
    silence_phones: frozenset[int],
    silence_duration: float,
    num_frames: int,
    key: str,
) -> np.ndarray | None:
    """Make an equal alignment in which silence does not take the frames of speech.

    Silence has as many states as two phones, but recordings have little of it: divided equally, two
    in five frames of isolated words would be taken for silence.  Here the path through each HMM is
    the shortest.  Optional silence is at both ends, if it lasts at all, and otherwise at random
    (decided by `key`), as probably as the lexicon says: nowhere, if the utterance is too short.

    silence_duration: how long states of silence last, relative to others; 0 for a single frame in
        each, at the ends as rarely as between words: recordings cut to the words.

    Returns int32 (num_frames,) transition-ids, or None when the utterance is too short.
    """
    rng = np.random.default_rng(zlib.crc32(encode(key)))
    path = _shortest_path(graph, transition_model, silence_phones, silence_duration > 0, rng)
    if len(path) > num_frames:
        path = _shortest_path(graph, transition_model, silence_phones, None, rng)
    if len(path) > num_frames:
        return None
    is_silence = np.isin(transition_model.phone_of[path], list(silence_phones))
    weights = np.where(is_silence & ~is_silence.all(), silence_duration, 1.0)
    return _spread(transition_model, path, weights, num_frames)


def alignment_by_loudness(
    graph: ArrayFst,
    transition_model: TransitionModel,
    silence_phones: frozenset[int],
    loudness: np.ndarray,
    key: str,
) -> np.ndarray | None:
    """An alignment with silence where it is quiet, which divides equally what is loud between.

    Frames of an utterance are of two classes, quiet and loud, with a mean each and one variance
    (2-means).  The best path by these is taken (`key` decides between inner states of silence), and
    the states of each run of speech made equally long.

    loudness: float (T,), such as log-energies or zeroth cepstral coefficients.

    Returns int32 (T,) transition-ids, or None when there is no such path.
    """
    rng = np.random.default_rng(zlib.crc32(encode(key)))
    quiet, loud = np.percentile(loudness, (10, 90))
    for _ in range(20):
        is_loud = loudness > (quiet + loud) / 2
        if is_loud.all() or not is_loud.any():
            return None
        quiet, loud = loudness[~is_loud].mean(), loudness[is_loud].mean()
    variance = np.mean((loudness - np.where(is_loud, loud, quiet)) ** 2)
    log_odds = (loud - quiet) * ((loud + quiet) / 2 - loudness) / max(variance, 1e-10)
    silence_ids = np.isin(transition_model.phone_of, list(silence_phones))
    silence_ids[0] = False
    log_likelihoods = 0.01 * rng.random((len(loudness), transition_model.num_pdfs))
    log_likelihoods[:, np.unique(transition_model.pdf_of[silence_ids])] += log_odds[:, None]
    decoder = Decoder(graph, transition_model, SearchOptions(beam=1e5))
    path = decoder.decode(log_likelihoods.astype(np.float32), 1.0)
    if path is None:
        return None
    alignment = np.array(path.alignment, dtype=np.int32)
    is_speech = ~silence_ids[alignment]
    ends = np.flatnonzero(np.diff(is_speech)) + 1
    for run in np.split(np.arange(len(alignment)), ends):
        if is_speech[run[0]]:
            ids = alignment[run]
            steps = ids[~transition_model.is_self_loop[ids]]
            alignment[run] = _spread(transition_model, steps, np.ones(len(steps)), len(run))
    return alignment


def _spread(
    transition_model: TransitionModel, path: np.ndarray, weights: np.ndarray, num_frames: int
) -> np.ndarray | None:
    """Repeat the states of a path without self-loops, by weight; None if none can last longer."""
    loops = transition_model.self_loop_of[transition_model.state_of[path]]
    weights = weights * (loops > 0)
    if num_frames > len(path) and weights.sum() == 0:
        return None
    shares = np.cumsum(weights) / max(weights.sum(), 1)
    extra = np.diff(np.round(shares * (num_frames - len(path))).astype(int), prepend=0)
    # Every transition is followed by the self-loops of the state that it has left.
    alignment = np.repeat(loops, 1 + extra)
    alignment[np.cumsum(1 + extra) - extra - 1] = path
    return alignment


def _shortest_path(
    graph: ArrayFst,
    transition_model: TransitionModel,
    silence_phones: frozenset[int],
    pauses_at_ends: bool | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """The path with the fewest frames of those that go where the lexicon, and chance, send them.

    pauses_at_ends: whether silence is certain at both ends; None for the shortest path of all.
    """
    import kaldifst

    leaving = ~transition_model.is_self_loop[graph.arcs["ilabel"]]
    source, arcs = graph.source[leaving], graph.arcs[leaving]
    labels = arcs["ilabel"]
    is_silence = np.isin(transition_model.phone_of[labels], list(silence_phones))
    begins = is_silence & (transition_model.hmm_state_of[labels] == 0)
    # The inner states of silence are as good as each other: let chance decide, so all are seen.
    cost = (labels != EPSILON) * (1 + 0.001 * rng.random(len(labels)))
    finals = np.where(np.isfinite(graph.finals), 0.0, np.inf)
    if pauses_at_ends is None:
        cost[begins] += FAR_MORE_THAN_SILENCE_LASTS
    else:
        drawn, ends = _draw_ways(graph, source, arcs, transition_model.state_of[labels], rng)
        cost[~(drawn | is_silence & ~begins)] += FAR_MORE_THAN_SILENCE_LASTS
        finals[~ends] += FAR_MORE_THAN_SILENCE_LASTS
    if pauses_at_ends:
        first = _reached([graph.start], source, arcs["nextstate"], labels == EPSILON)
        passable = is_silence | (labels == EPSILON)
        last = _reached(np.flatnonzero(finals < np.inf), arcs["nextstate"], source, passable)
        at_an_end = np.isin(source, first) | np.isin(arcs["nextstate"], last)
        cost[begins & at_an_end] -= 10 * FAR_MORE_THAN_SILENCE_LASTS
    arcs["weight"] = cost
    weighted = ArrayFst.from_arcs(graph.start, finals, source, arcs)
    path = kaldifst.shortest_path(weighted.to_kaldifst())
    _, transition_ids, _, _ = kaldifst.get_linear_symbol_sequence(path)
    return np.array(transition_ids, dtype=np.int32)


def _draw_ways(
    graph: ArrayFst,
    source: np.ndarray,
    arcs: np.ndarray,
    hmm_states: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """For each state of a graph draw one way to go on, as probably as its weights say.

    A way is an arc or the end; arcs of a state that stand for the ways on within one state of an
    HMM (`hmm_states`, of each arc) count as one of them.  Returns whether each arc is drawn, and
    whether at each state the end is.
    """
    _, group, sizes = np.unique(
        np.stack((source, hmm_states)), axis=1, return_inverse=True, return_counts=True
    )
    # The largest of log-probabilities, each with noise of Gumbel's distribution, is a draw of them.
    scores = rng.gumbel(size=len(arcs)) - arcs["weight"] - np.log(sizes[group])
    end_scores = rng.gumbel(size=graph.num_states) - graph.finals
    best = end_scores.copy()
    np.maximum.at(best, source, scores)
    return scores == best[source], end_scores == best


def _reached(
    states: Sequence[int], source: np.ndarray, target: np.ndarray, passable: np.ndarray
) -> np.ndarray:
    """All states that are reached from some, by passable arcs from `source` to `target`."""
    reached = np.unique(states)
    while True:
        more = np.union1d(reached, target[passable & np.isin(source, reached)])
        if len(more) == len(reached):
            return reached
        reached = more


def phone_segments(
    transition_model: TransitionModel, alignment: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Split an alignment into its phones in order, and the frames that each lasts: int arrays."""
    starts = transition_model.phone_starts(alignment)
    lengths = np.diff(np.append(starts, len(alignment)))
    return transition_model.phone_of[np.asarray(alignment)[starts]], lengths


def ctm_lines(key: str, phones: np.ndarray, lengths: np.ndarray, frame_shift: float) -> str:
    """Format segments as a ctm file: utterance, channel, begin and length in seconds, phone."""
    digits = 2 if frame_shift >= 0.01 else 3
    begins = frame_shift * (np.cumsum(lengths) - lengths)
    return "".join(
        f"{key} 1 {begin:.{digits}f} {frame_shift * length:.{digits}f} {phone}\n"
        for phone, begin, length in zip(phones, begins, lengths, strict=True)
    )


def show(
    key: str, alignment: np.ndarray, transition_model: TransitionModel, names: SymbolTable
) -> str:
    """Format the lines of show-alignments: transition-ids by phone, and below them the phones."""
    starts = transition_model.phone_starts(alignment)
    columns = []
    for ids in np.split(np.asarray(alignment), starts[1:]) if len(starts) else []:
        group = f"[ {' '.join(map(str, ids))} ] "
        phone = f"{names[int(transition_model.phone_of[ids[0]])]} "
        width = max(len(group), len(phone))
        columns.append((group.ljust(width), phone.ljust(width)))
    rows = zip(*columns, strict=True) if columns else [(), ()]
    return "".join(f"{key}  {''.join(row)}\n" for row in rows)


def _read_pairs(reader: Reader) -> list[tuple[int, int]]:
    if reader.binary:
        return [(reader.integer(), reader.integer()) for _ in range(reader.integer())]
    pairs = [part.split() for part in reader.stream.readline().split(b";")]
    if pairs == [[]]:
        return []
    if any(len(pair) != 2 for pair in pairs):
        raise reader.fail("expected pairs of integers separated by semicolons")
    return [tuple(reader.parse_integers(pair).tolist()) for pair in pairs]


def _write_pairs(writer: Writer, pairs: Sequence[tuple[int, int]]) -> None:
    if writer.binary:
        writer.integer(len(pairs))
        for first, second in pairs:
            writer.integer(first)
            writer.integer(second)
    else:
        writer.raw("; ".join(f"{first} {second} " for first, second in pairs) + "\n")


INTEGER_PAIRS = Holder(_read_pairs, _write_pairs)
"""Tables of phones and their lengths (Kaldi's BasicPairVectorHolder)."""
