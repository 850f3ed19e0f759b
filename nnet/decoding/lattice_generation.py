"""The body of nnet-latgen-faster and gmm-latgen-faster: features to lattices and best paths.

After Kaldi's nnet2bin/nnet-latgen-faster.cc, gmmbin/gmm-latgen-faster.cc and their parallel forms,
with their log lines.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from nnet.decoding.decoder import LikelihoodModel
from nnet.decoding.fst import FST, ArrayFst
from nnet.decoding.lattice_decoder import DecodedUtterance, LatticeDecoder, LatticeOptions
from nnet.decoding.symbols import SymbolTable
from nnet.decoding.task_sequencer import TaskSequencer
from nnet.io import log_lines
from nnet.io.random_access import random_access_table
from nnet.io.tables import INTEGERS, MATRIX, is_rspecifier, sequential_table, table_writer
from nnet.lattices.tables import COMPACT_LATTICE, LATTICE, naming

log = logging.getLogger("ngtrain")


class ToSearch(NamedTuple):
    """Hold what a search takes; the graph is None where all utterances have the same."""

    key: str
    features: np.ndarray
    graph: ArrayFst | None


class Searched(NamedTuple):
    """Hold what a search has found, if anything."""

    key: str
    num_frames: int
    found: DecodedUtterance | None


class LatticeGenerator:
    """Make lattices of utterances, and count what was done.

    Args:
        fst_in: one graph, or a table with one for each utterance.
        acoustic_scale: of likelihoods, in the search; lattices are written without it.
        allow_partial: take paths that reach no final state where none reaches one.
        symbols: to write the words of each utterance on standard error.
    """

    def __init__(
        self,
        model: LikelihoodModel,
        fst_in: str,
        options: LatticeOptions,
        acoustic_scale: float,
        allow_partial: bool,
        symbols: SymbolTable | None,
    ):
        self.model, self.options, self.acoustic_scale = model, options, acoustic_scale
        self.allow_partial, self.symbols = allow_partial, symbols
        self.num_done = self.num_failed = self.num_frames = 0
        self.log_likelihood = 0.0
        self._graphs = fst_in if is_rspecifier(fst_in) else None
        self._decoder = None if self._graphs else self._decoder_of(ArrayFst.load(fst_in))
        self._started = time.monotonic()

    def _decoder_of(self, graph: ArrayFst) -> LatticeDecoder:
        return LatticeDecoder(graph, self.model.transition_model, self.options)

    def utterances(self, features_rspecifier: str) -> Iterator[ToSearch]:
        """Read what can be searched; the rest is counted, with a warning, and left out."""
        for key, features, graph in self._inputs(features_rspecifier):
            if features is None:
                self._fail(f"Not decoding utterance {key} because no features available.")
            elif len(features) == 0:
                self._fail(f"Zero-length utterance: {key}")
            else:
                yield ToSearch(key, features, graph)

    def _inputs(
        self, features_rspecifier: str
    ) -> Iterator[tuple[str, np.ndarray | None, ArrayFst | None]]:
        if self._graphs is None:
            with sequential_table(features_rspecifier, MATRIX) as table:
                for key, features in table:
                    yield key, features, None
            return
        with (
            sequential_table(self._graphs, FST) as graphs,
            random_access_table(features_rspecifier, MATRIX) as table,
        ):
            for key, graph in graphs:
                yield key, table.get(key), graph

    def search(self, utterance: ToSearch) -> Searched:
        """Search the graph for an utterance; this changes nothing here.

        Raises:
            NgtrainError: model, graph and features do not fit each other.
        """
        key, features, graph = utterance
        decoder = self._decoder if graph is None else self._decoder_of(graph)
        assert decoder is not None  # for there is one or the other
        log_likelihoods = self.model.log_likelihoods(features, key)
        with naming(key):
            found = decoder.decode(log_likelihoods, self.acoustic_scale, self.allow_partial)
        return Searched(key, len(features), found)

    def counted(self, searched: Searched) -> DecodedUtterance | None:
        """Count and log an utterance that was searched; return what was found."""
        key, num_frames, found = searched
        if found is None:
            reason = "no final-state reached and --allow-partial=false"
            if self.allow_partial:
                reason = "no path survives to its end"
            self._fail(f"Not producing output for utterance {key} since {reason}.")
            return None
        if not found.reached_final:
            log.warning(
                "Outputting partial output for utterance %s since no final-state reached", key
            )
        if not found.is_complete:
            log.warning("Determinization finished earlier than the beam for utterance %s", key)
        if self.symbols:
            print(key, *(self.symbols[word] for word in found.path.words), file=sys.stderr)
        log.info(
            "Log-like per frame for utterance %s is %g over %d frames.",
            *(key, found.path.log_likelihood / num_frames, num_frames),
        )
        self.num_done += 1
        self.num_frames += num_frames
        self.log_likelihood += found.path.log_likelihood
        return found

    def _fail(self, reason: str) -> None:
        log.warning("%s", reason)
        self.num_failed += 1

    def report(self, num_threads: int | None) -> None:
        """Log the lines that Kaldi's scripts look for, where `num_threads` is given, per thread."""
        elapsed, frames = time.monotonic() - self._started, max(self.num_frames, 1)
        log.info(
            "Time taken %gs: real-time factor%s assuming 100 frames/sec is %g",
            elapsed,
            " per thread" if num_threads else "",
            (num_threads or 1) * elapsed * 100 / frames,
        )
        log.info(log_lines.DECODED.format, self.num_done, self.num_failed)
        log.info(
            "Overall log-likelihood per frame is %g over %d frames.",
            *(self.log_likelihood / frames, self.num_frames),
        )


def generate_lattices(
    model: LikelihoodModel,
    fst_in: str,
    features_rspecifier: str,
    lattice_wspecifier: str,
    words_wspecifier: str | None,
    alignments_wspecifier: str | None,
    *,
    acoustic_scale: float,
    allow_partial: bool,
    word_symbol_table: str,
    num_threads: int | None = None,
    num_threads_total: int = 0,
    **search,
) -> int:
    """Decode, write what is found, and report; return the number of utterances decoded.

    `num_threads` and `num_threads_total` are those of TaskSequencer; without, this process does
    all.  `search` is for LatticeOptions, the others are for LatticeGenerator.
    """
    symbols = SymbolTable.load(word_symbol_table) if word_symbol_table else None
    options = LatticeOptions(**search)
    generator = LatticeGenerator(model, fst_in, options, acoustic_scale, allow_partial, symbols)
    holder = COMPACT_LATTICE if options.determinize_lattice else LATTICE
    with ExitStack() as files:
        # Before any output is opened, for its processes would keep the pipe of it open.
        searches = files.enter_context(
            TaskSequencer(generator.search, num_threads or 1, num_threads_total)
        )
        lattices = files.enter_context(table_writer(lattice_wspecifier, holder))
        words, alignments = (
            files.enter_context(table_writer(wspecifier or "ark:/dev/null", INTEGERS))
            for wspecifier in (words_wspecifier, alignments_wspecifier)
        )
        for searched in searches.results(generator.utterances(features_rspecifier)):
            if found := generator.counted(searched):
                lattices.write(searched.key, found.lattice)
                words.write(searched.key, found.path.words)
                alignments.write(searched.key, found.path.alignment)
    generator.report(num_threads)
    return generator.num_done
