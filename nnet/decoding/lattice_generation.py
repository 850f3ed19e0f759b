"""The body of nnet-latgen-faster: a table of features to tables of lattices and best paths.

After Kaldi's nnet2bin/nnet-latgen-faster.cc, with its log lines.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from nnet.decoding.fst import FST, ArrayFst
from nnet.decoding.lattice_decoder import DecodedUtterance, LatticeDecoder, LatticeOptions
from nnet.decoding.symbols import SymbolTable
from nnet.io import log_lines
from nnet.io.random_access import random_access_table
from nnet.io.tables import INTEGERS, MATRIX, is_rspecifier, sequential_table, table_writer
from nnet.lattices.tables import COMPACT_LATTICE, LATTICE, naming
from nnet.model.acoustic_model import AcousticModel

log = logging.getLogger("ngtrain")


class LatticeGenerator:
    """Make lattices of utterances, and count what was done.

    Args:
        acoustic_scale: of likelihoods, in the search; lattices are written without it.
        allow_partial: take paths that reach no final state where none reaches one.
        symbols: to write the words of each utterance on standard error.
    """

    def __init__(
        self,
        model: AcousticModel,
        options: LatticeOptions,
        acoustic_scale: float,
        allow_partial: bool,
        symbols: SymbolTable | None,
    ):
        self.model, self.options, self.acoustic_scale = model, options, acoustic_scale
        self.allow_partial, self.symbols = allow_partial, symbols
        self.num_done = self.num_failed = self.num_frames = 0
        self.log_likelihood = 0.0
        self._started = time.monotonic()

    def utterances(
        self, fst_in: str, features_rspecifier: str
    ) -> Iterator[tuple[str, DecodedUtterance]]:
        """Decode with one graph, or with one for each utterance if `fst_in` is a table.

        What cannot be decoded is counted, with a warning, and left out.
        """
        if not is_rspecifier(fst_in):
            decoder = LatticeDecoder(
                ArrayFst.load(fst_in), self.model.transition_model, self.options
            )
            with sequential_table(features_rspecifier, MATRIX) as table:
                for key, features in table:
                    yield from self._decoded(key, features, decoder)
            return
        with (
            sequential_table(fst_in, FST) as graphs,
            random_access_table(features_rspecifier, MATRIX) as table,
        ):
            for key, graph in graphs:
                if key not in table:
                    self._fail(f"Not decoding utterance {key} because no features available.")
                    continue
                decoder = LatticeDecoder(graph, self.model.transition_model, self.options)
                yield from self._decoded(key, table[key], decoder)

    def _decoded(
        self, key: str, features: np.ndarray, decoder: LatticeDecoder
    ) -> Iterator[tuple[str, DecodedUtterance]]:
        """Decode one utterance; nothing when that fails."""
        if len(features) == 0:
            self._fail(f"Zero-length utterance: {key}")
            return
        log_likelihoods = self.model.log_likelihoods(features, key)
        with naming(key):
            found = decoder.decode(log_likelihoods, self.acoustic_scale, self.allow_partial)
        if found is None:
            self._fail(
                f"Not producing output for utterance {key} since no final-state reached and "
                f"--allow-partial={str(self.allow_partial).lower()}."
            )
            return
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
            *(key, found.path.log_likelihood / len(features), len(features)),
        )
        self.num_done += 1
        self.num_frames += len(features)
        self.log_likelihood += found.path.log_likelihood
        yield key, found

    def _fail(self, reason: str) -> None:
        log.warning("%s", reason)
        self.num_failed += 1

    def report(self) -> None:
        """Log the lines that Kaldi's scripts look for."""
        elapsed, frames = time.monotonic() - self._started, max(self.num_frames, 1)
        log.info(
            "Time taken %gs: real-time factor assuming 100 frames/sec is %g",
            *(elapsed, elapsed * 100 / frames),
        )
        log.info(log_lines.DECODED.format, self.num_done, self.num_failed)
        log.info(
            "Overall log-likelihood per frame is %g over %d frames.",
            *(self.log_likelihood / frames, self.num_frames),
        )


def write_lattices(
    generator: LatticeGenerator,
    fst_in: str,
    features_rspecifier: str,
    lattice_wspecifier: str,
    words_wspecifier: str | None,
    alignments_wspecifier: str | None,
) -> int:
    """Decode, write what is found, and report; the number of utterances that were decoded."""
    holder = COMPACT_LATTICE if generator.options.determinize_lattice else LATTICE
    with ExitStack() as files:
        lattices = files.enter_context(table_writer(lattice_wspecifier, holder))
        words, alignments = (
            files.enter_context(table_writer(wspecifier or "ark:/dev/null", INTEGERS))
            for wspecifier in (words_wspecifier, alignments_wspecifier)
        )
        for key, found in generator.utterances(fst_in, features_rspecifier):
            lattices.write(key, found.lattice)
            words.write(key, found.path.words)
            alignments.write(key, found.path.alignment)
    generator.report()
    return generator.num_done
