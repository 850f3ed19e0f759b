#!/usr/bin/env python3
"""Make the frames of the experiment from speech of the synthesiser espeak-ng.

A speaker is an accent and a voice of espeak-ng with a pitch and a rate of its own, in a room and
with a noise that change from one sentence to the next.  Every sixth one is for the network that all
trainings branch from, <dir>/frames/base; the others are trained on, <dir>/frames/train; those of
<dir>/frames/held_out have voices that nobody else has.  The features are normalized by speaker.

espeak-ng says where each of its phones begins: each third of a phone is a state.  A decision tree,
built of the speech of a hundred base speakers, maps states between their neighbours to pdf-ids, the
labels; <dir>/tree has it, and final.mdl and phones.txt as an alignment directory does.

No audio is kept.  The same options give the same frames, whatever the number of jobs.  Frames that
are there are not made again."""

from __future__ import annotations

import itertools
import multiprocessing
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
from frames import FILES, Frames

from nnet.cli import argument, log, option, program
from nnet.cli.features import read_spectral
from nnet.drivers.espeak import SILENCE, Espeak, Phones
from nnet.drivers.synthetic_speakers import (
    ACCENTS,
    TEST_VOICES,
    TRAINING_VOICES,
    TUNING_VOICES,
    Speaker,
    draw_speakers,
)
from nnet.errors import NgtrainError
from nnet.features.cmvn import accumulate, normalize
from nnet.features.context import add_deltas
from nnet.features.spectral import SpectralFeatures
from nnet.hmm.topology import NO_PDF, HmmState, HmmTopology
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import ContextDependency, RootPhones
from nnet.io.text import text_lines, write_lines
from nnet.launch.directory_lock import only_driver_in
from nnet.trees.building import build_tree, leaves_of
from nnet.trees.clustering import c_random
from nnet.trees.questions import Questions, cluster_for_questions, sums_by_set
from nnet.trees.statistics import TreeStatistics

HERE = Path(__file__).parent
ONE_FOR_BASE_OF = 6
STATES, WINDOW, CENTRE = 3, 3, 1
VARIANCE_FLOOR = 0.01
TREE_SPEAKERS = 100  # of base, whose speech the tree is built of
SPEAKERS_AT_A_TIME = 16  # whose statistics are added up together

Sentences = Callable[[np.random.Generator], str]


@program(
    "Usage:  benchmarks/convergence/synthesise.py [options] <dir>\n"
    " e.g.: benchmarks/convergence/synthesise.py --hours=30 --nj=16 exp/synthesised"
)
@argument("dir", type=Path)
@option("--hours", 30.0, "Hours of speech, but for what is held out", above=0)
@option("--speakers", 1200, "Speakers of it", least=ONE_FOR_BASE_OF)
@option("--held-out-speakers", 48, "Speakers of what is held out, each heard as long", least=1)
@option("--num-leaves", 1000, "Pdf-ids, at most", least=1)
@option("--text", "", "File of sentences, one a line; if not given, words of words.txt are drawn")
@option("--mfcc-config", str(HERE.parents[1] / "conf/mfcc.conf"), "Options of the features")
@option("--srand", 0, "Seed of all that is drawn", least=0)
@option("--nj", 1, "Processes at the same time", least=1)
def main(dir, hours, speakers, held_out_speakers, num_leaves, text, mfcc_config, srand, nj):
    casts = draw_casts(speakers, held_out_speakers, srand)
    sentences = sentences_of(Path(text)) if text else partial(pseudo_sentence, read_words())
    features = read_spectral("mfcc", mfcc_config)
    with only_driver_in(dir):
        if all(Frames.are_in(dir / "frames" / part) for part in casts):
            log.info("%s/frames are there already", dir)
            return
        spoken_dir = dir / "spoken"
        shutil.rmtree(spoken_dir, ignore_errors=True)  # of a run that was killed
        spoken_dir.mkdir()
        files = {
            part: [spoken_dir / f"{speaker.name}.npz" for speaker in own]
            for part, own in casts.items()
        }
        # Nobody has spoken yet when processes are forked.
        common = Espeak(), sentences, features, 3600 * hours / speakers
        each = (zip(casts[part], files[part], strict=True) for part in casts)
        run_all(((*own, *common) for own in itertools.chain(*each)), nj)
        spoken = {part: [Spoken(file) for file in own] for part, own in files.items()}
        phones = phone_table(itertools.chain(*spoken.values()))
        tree = grow_tree(spoken["base"], phones, num_leaves, dir / "tree")
        pdfs = pdf_table(tree, len(phones))
        for part, own in spoken.items():
            assemble(own, phones, pdfs, dir / "frames" / part)
        shutil.rmtree(spoken_dir)


def draw_casts(speakers: int, held_out_speakers: int, srand: int) -> dict[str, list[Speaker]]:
    """Draw the speakers of each part of the frames."""
    others = f"{TUNING_VOICES} {TEST_VOICES}"
    cast = draw_speakers("train", speakers, ACCENTS, TRAINING_VOICES, srand)
    return {
        "base": cast[ONE_FOR_BASE_OF - 1 :: ONE_FOR_BASE_OF],
        "train": [s for n, s in enumerate(cast, start=1) if n % ONE_FOR_BASE_OF],
        "held_out": draw_speakers("held_out", held_out_speakers, ACCENTS, others, srand),
    }


# Sentences ----------------------------------------------------------------------------------------


def read_words() -> list[str]:
    return [line for line in text_lines(HERE / "words.txt") if not line.startswith("#")]


def pseudo_sentence(words: Sequence[str], rng: np.random.Generator) -> str:
    """Draw four to twelve words; a comma makes a pause, and changes the intonation before it."""
    chosen = rng.choice(words, size=rng.integers(4, 13))
    return " ".join(word + ("," if rng.random() < 0.1 else "") for word in chosen) + "."


def sentences_of(file: Path) -> Sentences:
    """Draw lines of a file; NgtrainError if there are none."""
    lines = [line for line in text_lines(file) if line.strip()]
    if not lines:
        raise NgtrainError(f"{file}: there is no sentence in it")
    return lambda rng: str(rng.choice(lines))


# Recording ----------------------------------------------------------------------------------------


def run_all(tasks: Iterable[tuple], nj: int) -> None:
    """Record speakers, each in a process of its own (see Espeak), `nj` at a time.

    Raises:
        NgtrainError: one has failed, and has said why.
    """
    context = multiprocessing.get_context("fork")
    waiting, running = iter(tasks), []
    while True:
        for task in itertools.islice(waiting, nj - len(running)):
            running.append(context.Process(target=record, args=task))
            running[-1].start()
        if not running:
            return
        wait([process.sentinel for process in running])
        if any(process.exitcode for process in running):
            for process in running:
                process.terminate()
            raise NgtrainError("not all speakers could be recorded")
        running = [process for process in running if process.exitcode is None]


def record(
    speaker: Speaker,
    file: Path,
    espeak: Espeak,
    sentences: Sentences,
    features: SpectralFeatures,
    seconds: float,
) -> None:
    """Write what becomes of a speaker's speech of some length, for Spoken."""
    rng = np.random.default_rng(speaker.seed)
    numbers = {SILENCE: 1}
    matrices, events, heard = [], [], 0.0
    while heard < seconds:
        sentence = sentences(rng)
        samples, phones = speaker.say(espeak, sentence, features.sample_rate, rng)
        if all(name == SILENCE for name, _ in phones):
            sys.exit(f"{speaker.voice} has no sound for the sentence '{sentence}'")
        matrix = features(f"{speaker.name}-{len(matrices)}", samples, features.sample_rate)
        middles = features.middles(len(matrix)) * features.sample_rate
        matrices.append(matrix)
        events.append(label(phones, len(samples), middles, numbers))
        heard += len(samples) / features.sample_rate
    sums = np.zeros((2, 1 + matrices[0].shape[1]))
    for matrix in matrices:
        accumulate(sums, matrix)
    np.savez(
        file,
        features=normalize(np.concatenate(matrices), sums),
        events=np.concatenate(events),
        lengths=[len(matrix) for matrix in matrices],
        names=list(numbers),
    )


def label(phones: Phones, end: int, middles: np.ndarray, numbers: dict[str, int]) -> np.ndarray:
    """Find the third of a phone, and the phone and its neighbours, that a frame's middle is in.

    Args:
        phones: as they begin; silences that touch are made one.
        end: of the last one, in samples.
        middles: of frames (T,), in samples.
        numbers: of the phones; those that are new get the next ones.
    Returns:
        int16 (T, 4): pdf-class, phone before, phone, phone after; 0 beyond the ends.
    """
    kept: Phones = []
    for (name, begin), (_, until) in itertools.pairwise([*phones, ("", end)]):
        if until > begin and not (kept and name == kept[-1][0] == SILENCE):
            kept.append((name, begin))
    own = [numbers.setdefault(name, 1 + len(numbers)) for name, _ in kept]
    bounds = np.array([*(begin for _, begin in kept), end])
    place = np.searchsorted(bounds[:-1], middles, side="right") - 1
    third = np.minimum(STATES * (middles - bounds[place]) // np.diff(bounds)[place], STATES - 1)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(own, CENTRE), WINDOW)
    return np.column_stack([third, windows[place]]).astype(np.int16)


class Spoken:
    """What record() wrote of a speaker; arrays are read when they are asked for."""

    def __init__(self, file: Path):
        self.file = file
        self.names = self._read("names").tolist()
        self.lengths = self._read("lengths")

    def _read(self, name: str) -> np.ndarray:
        with np.load(self.file) as arrays:
            return arrays[name]

    @property
    def features(self) -> np.ndarray:
        """Normalized features, float32 (T, D), of all utterances."""
        return self._read("features")

    def events(self, phones: Sequence[str]) -> np.ndarray:
        """Return pdf-classes and windows (T, 4), phones numbered from 1 as listed."""
        events = self._read("events")
        number = np.array([0, *(1 + phones.index(name) for name in self.names)])
        events[:, 1:] = number[events[:, 1:]]
        return events


def phone_table(everyone: Iterable[Spoken]) -> list[str]:
    """List all phones that were said, silence first."""
    names = {name for spoken in everyone for name in spoken.names}
    return [SILENCE, *sorted(names - {SILENCE})]


# Labels -------------------------------------------------------------------------------------------


def grow_tree(
    speakers: Sequence[Spoken], phones: Sequence[str], num_leaves: int, dir: Path
) -> ContextDependency:
    """Build a tree over triphones and write what belongs to it; silence has no context."""
    numbers = range(1, 1 + len(phones))
    transitions = ((n, n + 1) for n in range(STATES))
    states = [HmmState(n, n, tuple((to, 0.5) for to in both)) for n, both in enumerate(transitions)]
    entry = (*states, HmmState(NO_PDF, NO_PDF, ()))
    topology = HmmTopology([entry], dict.fromkeys(numbers, 0))
    statistics = count(speakers[:TREE_SPEAKERS], phones)
    seen = [[n] for n in np.unique(statistics.values(CENTRE)).tolist()]
    sums = sums_by_set(statistics, seen, [STATES // 2], CENTRE)
    sets = cluster_for_questions(sums, seen, VARIANCE_FLOOR, c_random())
    root = build_tree(
        statistics,
        [RootPhones((1,), shared=False, split=False)]
        + [RootPhones((n,), shared=True, split=True) for n in numbers[1:]],
        Questions.compiled(topology, sets, WINDOW),
        dict.fromkeys(numbers, STATES),
        cluster_threshold=0,
        max_leaves=num_leaves,
    )
    tree = ContextDependency(WINDOW, CENTRE, root)
    dir.mkdir(parents=True, exist_ok=True)
    tree.save(str(dir / "tree"))
    TransitionModel.from_tree(tree, topology).save(str(dir / "final.mdl"))
    write_lines(dir / "phones.txt", (f"{name} {n}" for n, name in enumerate(phones, start=1)))
    log.info("%d phones, %d pdf-ids", len(phones), tree.num_pdfs)
    return tree


def count(speakers: Sequence[Spoken], phones: Sequence[str]) -> TreeStatistics:
    """Add up the statistics of speakers."""
    parts = []
    for begin in range(0, len(speakers), SPEAKERS_AT_A_TIME):
        own = speakers[begin : begin + SPEAKERS_AT_A_TIME]
        parts.append(TreeStatistics.total(statistics_of(speaker, phones) for speaker in own))
    return TreeStatistics.total(parts)


def statistics_of(speaker: Spoken, phones: Sequence[str]) -> TreeStatistics:
    """Add up the statistics of a speaker's features with their derivatives."""
    utterances = np.split(speaker.features, np.cumsum(speaker.lengths)[:-1])
    features = np.concatenate([add_deltas(matrix) for matrix in utterances]).astype(np.float64)
    moments = np.hstack([np.ones((len(features), 1)), features, features * features])
    events = speaker.events(phones).astype(np.int32)
    return TreeStatistics.total([TreeStatistics(events, moments, VARIANCE_FLOOR)])


def pdf_table(tree: ContextDependency, num_phones: int) -> np.ndarray:
    """Tabulate the pdf-ids of pdf-classes and windows, (STATES, P + 1, P + 1, P + 1)."""
    values = np.arange(1 + num_phones, dtype=np.int32)
    axes = np.arange(STATES, dtype=np.int32), values, values[1:], values
    events = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    table = np.full((STATES, *3 * [1 + num_phones]), -1, np.int32)
    table[:, :, 1:] = leaves_of(tree.root, events.reshape(-1, 4)).reshape(events.shape[:-1])
    return table


def assemble(
    speakers: Sequence[Spoken], phones: Sequence[str], pdfs: np.ndarray, dir: Path
) -> None:
    """Write the frames of speakers one after the other, features never all in memory."""
    starts = np.append(0, np.cumsum(np.concatenate([s.lengths for s in speakers])))
    dir.mkdir(parents=True, exist_ok=True)
    labels = np.empty(starts[-1], np.int32)
    first = speakers[0].features
    features = np.lib.format.open_memmap(
        dir / f"{FILES[0]}.npy", "w+", first.dtype, (len(labels), first.shape[1])
    )
    begin = 0
    for speaker in speakers:
        rows = slice(begin, begin + speaker.lengths.sum())
        features[rows] = speaker.features
        labels[rows] = pdfs[tuple(speaker.events(phones).T)]
        begin = rows.stop
    for name, array in zip(FILES[1:], (labels, starts), strict=True):
        np.save(dir / f"{name}.npy", array)
    hours = len(labels) / 360000
    log.info("%s: %d speakers, %.2f hours, %d frames", dir, len(speakers), hours, len(labels))


if __name__ == "__main__":
    main()
