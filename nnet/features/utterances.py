"""Maps from a table of features to another, with one utterance in memory at a time."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.losses import Losses
from nnet.io.tables import FEATURES, SequentialTable, sequential_table, table_writer
from nnet.io.tokens import Holder

log = logging.getLogger("ngtrain")


class Skip(Exception):
    """An exception for an utterance that gets no output; the message says why."""


def leave_out(lost: Losses, key: str, reason: Skip) -> None:
    """Count an utterance that gets no output, and say why."""
    log.warning("no output for utterance %s: %s", key, reason)
    lost.add(key, reason)


def with_frames(table: SequentialTable) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the utterances of a table that have a frame; the others count among its losses."""
    for key, features in table:
        if len(features):
            yield key, features
        else:
            leave_out(table.losses, key, Skip("empty feature matrix"))


def map_features(
    feats_rspecifier: str,
    wspecifier: str,
    function: Callable[[str, np.ndarray], Any],
    holder: Holder = FEATURES,
) -> tuple[int, int]:
    """Write function(utterance, features) of every utterance's features (T, D) float32.

    What it returns is what `holder` writes: by default features.

    Returns:
        The number of utterances written, and that of the others: those without a frame, those for
        which `function` raised :class:`Skip`, and those that the table passed over.
    Raises:
        NgtrainError: naming the utterance when `function` raises it.
    """
    num_done = 0
    with (
        sequential_table(feats_rspecifier, FEATURES) as entries,
        table_writer(wspecifier, holder) as output,
    ):
        lost = entries.losses
        for key, features in entries:
            try:
                if len(features) == 0:
                    raise Skip("empty feature matrix")
                result = function(key, features)
            except Skip as reason:
                leave_out(lost, key, reason)
                continue
            except NgtrainError as error:
                raise NgtrainError(f"utterance {key} of {feats_rspecifier}: {error}") from error
            output.write(key, result)
            num_done += 1
    lost.report(f"no output for %d of {num_done + lost.count} utterances")
    return num_done, lost.count
