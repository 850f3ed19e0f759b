"""A table of features in, a table of features out, one utterance in memory at a time."""

import logging
from collections.abc import Callable

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.tables import FEATURES, sequential_table, table_writer

logger = logging.getLogger("ngtrain")


class Skip(Exception):
    """Raised for an utterance that gets no output; the message is logged as a warning."""


def map_features(
    feats_rspecifier: str,
    feats_wspecifier: str,
    function: Callable[[str, np.ndarray], np.ndarray],
) -> tuple[int, int]:
    """Write function(utterance, features) of every utterance's features (T, D) float32.

    Returns:
        The number of utterances written, and that of utterances for which it raised :class:`Skip`.
    Raises:
        NgtrainError: naming the utterance when `function` raises it.
    """
    num_done = num_skipped = 0
    with (
        sequential_table(feats_rspecifier, FEATURES) as entries,
        table_writer(feats_wspecifier, FEATURES) as output,
    ):
        for key, features in entries:
            try:
                result = function(key, features)
            except Skip as reason:
                logger.warning("no output for utterance %s: %s", key, reason)
                num_skipped += 1
                continue
            except NgtrainError as error:
                raise NgtrainError(f"utterance {key} of {feats_rspecifier}: {error}") from error
            output.write(key, result)
            num_done += 1
    return num_done, num_skipped
