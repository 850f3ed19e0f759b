"""The body of lattice-best-path: the best paths of lattices, for many scales and penalties."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from nnet.decoding.decoder import DecodingSetting, check_outputs
from nnet.decoding.symbols import SymbolTable
from nnet.io.tables import INTEGERS, TableWriter, sequential_table, table_writer
from nnet.lattices.lattice import CompactLattice
from nnet.lattices.operations import scaled, with_word_penalty
from nnet.lattices.paths import best_path
from nnet.lattices.tables import COMPACT_LATTICE, naming

log = logging.getLogger("ngtrain")


@dataclass
class _Output:
    """Hold where the best paths of one setting go, and what they come to."""

    setting: DecodingSetting
    transcriptions: TableWriter
    alignments: TableWriter
    num_frames: int = 0
    total: np.ndarray = field(default_factory=lambda: np.zeros(2))  # graph and acoustic cost

    def report(self, which: str) -> None:
        graph, acoustic = self.total / max(self.num_frames, 1)
        log.info(
            "Overall cost per frame is %g = %g [graph] + %g [acoustic] over %d frames%s.",
            *(graph + acoustic, graph, acoustic, self.num_frames, self.setting.fill_in(which)),
        )


def write_best_paths(
    lattice_rspecifier: str,
    transcriptions_wspecifier: str | None,
    alignments_wspecifier: str | None,
    settings: Sequence[DecodingSetting],
    lm_scale: float,
    symbols: SymbolTable | None,
) -> int:
    """Write words and alignment of the best path of each lattice, for each setting; the status.

    Raises:
        NgtrainError: the outputs of several settings have the same name, or a lattice a cycle.
    """
    names = transcriptions_wspecifier, alignments_wspecifier
    check_outputs(settings, names)
    num_done = num_failed = 0
    level = logging.DEBUG if len(settings) > 1 else logging.INFO
    with ExitStack() as files:
        lattices = files.enter_context(sequential_table(lattice_rspecifier, COMPACT_LATTICE))

        def open_table(name: str | None, setting: DecodingSetting) -> TableWriter:
            wspecifier = setting.fill_in(name or "ark:/dev/null")
            return files.enter_context(table_writer(wspecifier, INTEGERS))

        outputs = [
            _Output(setting, open_table(names[0], setting), open_table(names[1], setting))
            for setting in settings
        ]
        for key, lattice in lattices:
            with naming(key):
                is_done = all(
                    _write(output, key, lattice, lm_scale, symbols, level) for output in outputs
                )
            if is_done:
                num_done += 1
            else:
                log.warning("Best-path failed for key %s", key)
                num_failed += 1
    for output in outputs:
        output.report(" (inverse acoustic scale LMWT, penalty PENALTY)" if settings[1:] else "")
    log.info("Done %d lattices, failed for %d", num_done, num_failed)
    return 0 if num_done else 1


def _write(
    output: _Output,
    key: str,
    lattice: CompactLattice,
    lm_scale: float,
    symbols: SymbolTable | None,
    level: int,
) -> bool:
    """Write the best path of a lattice for one setting; False when there is none."""
    setting = output.setting
    lattice = scaled(lattice, lm_scale, setting.acoustic_scale)
    lattice = with_word_penalty(lattice, setting.penalty)
    path = best_path(lattice)
    if path is None:
        return False
    words, alignment = path.words(lattice), path.alignment(lattice)
    graph, acoustic = weight = path.weight(lattice)
    log.log(
        level,
        "For utterance %s, best cost %g + %g = %g over %d frames.",
        *(key, graph, acoustic, graph + acoustic, len(alignment)),
    )
    output.transcriptions.write(key, words)
    output.alignments.write(key, alignment)
    if symbols:
        print(key, *map(symbols.__getitem__, words), file=sys.stderr)
    output.num_frames += len(alignment)
    output.total += weight
    return True
