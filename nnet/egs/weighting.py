"""Making examples of some frames only, chosen by weights.

Source: nnet2bin/nnet-get-weighted-egs.cc, but for two faults of it: there the labels of all earlier
frames of an utterance stay in an example, and --use-frame-weights has no effect.
"""

import logging
from collections.abc import Iterator, Mapping

import numpy as np

from nnet.egs.making import Cut, Utterance, cut_examples, joined_utterances, together
from nnet.egs.programs import repetitions
from nnet.egs.record import LayoutTable
from nnet.egs.tables import ExampleWriter, keep_freed_memory
from nnet.errors import NgtrainError
from nnet.io.losses import Losses
from nnet.io.random_access import random_access_table
from nnet.io.tables import FLOAT_VECTOR

log = logging.getLogger("ngtrain")


def make_weighted_examples(
    features_rspecifier: str,
    posteriors_rspecifier: str,
    weights_rspecifier: str,
    examples_wspecifier: str,
    cut: Cut,
    *,
    keep_proportion: float = 1.0,
    weight_threshold: float = 0.0,
    use_frame_selection: bool = True,
    use_frame_weights: bool = False,
    srand: int = 0,
) -> None:
    """Write an example for each frame whose weight reaches a threshold, in order.

    Utterances without posteriors, or with another number of frames in them or in their weights, are
    left out with a warning.

    Args:
        cut: how utterances are cut, into examples of one frame each.
        keep_proportion: how often each is written in expectation; not negative.
        weight_threshold: frames of less weight are left out, if `use_frame_selection`.
        use_frame_weights: multiply the labels' weights by those of their frames.

    Raises:
        NgtrainError: something cannot be read or written; an utterance has no weights; NaN in
            features or more than one dimension; nothing is left to write.
    """
    keep_freed_memory()
    layouts, rng = LayoutTable(examples_wspecifier), np.random.default_rng(srand)
    num_done = num_written = num_skipped = 0
    unusable = Losses()
    utterances = joined_utterances(features_rspecifier, posteriors_rspecifier, cut, unusable)
    with (
        random_access_table(weights_rspecifier, FLOAT_VECTOR) as table,
        ExampleWriter(examples_wspecifier) as writer,
    ):
        for weighted in together(_with_weights(utterances, table, weights_rspecifier, unusable)):
            weights = np.concatenate([weights for *_, weights in weighted])
            if use_frame_weights:
                weighted = [_scaled(*utterance) for utterance in weighted]
            chosen = repetitions(len(weights), keep_proportion, rng)
            if use_frame_selection:
                is_kept = weights[chosen] >= weight_threshold
                num_skipped += len(chosen) - is_kept.sum()
                chosen = chosen[is_kept]
            utterances_alone = [(key, frames, labels) for key, frames, labels, _ in weighted]
            examples = cut_examples(layouts, utterances_alone, cut)
            num_written += writer.write(examples.take(chosen))
            num_done += len(weighted)
        log.info(
            "Finished generating examples, successfully processed %d feature files, wrote %d "
            "examples, skipped %d examples, %d files had errors.",
            *(num_done, num_written, num_skipped, unusable.count),
        )
        if num_written == 0:
            raise NgtrainError(f"{features_rspecifier}: no examples to write")


_Weighted = tuple[str, np.ndarray, list[list[tuple[int, float]]], np.ndarray]
"""An utterance, and the weights of its frames (T,)."""


def _with_weights(
    utterances: Iterator[Utterance],
    table: Mapping[str, np.ndarray],
    rspecifier: str,
    unusable: Losses,
) -> Iterator[_Weighted]:
    """Join utterances with the weights of their frames; count those that these do not fit."""
    for key, frames, posterior in utterances:
        if key not in table:
            raise NgtrainError(f"{rspecifier}: no weights for utterance {key}")
        weights = table[key]
        if len(weights) != len(frames):
            sizes = len(weights), len(frames)
            log.warning("Weights for utterance %s have wrong size, %d vs. %d", key, *sizes)
            unusable.add(key)
            continue
        yield key, frames, posterior, weights


def _scaled(key: str, frames: np.ndarray, posterior: list, weights: np.ndarray) -> _Weighted:
    """Multiply the posteriors of frames by the weights of these."""
    scaled = [
        [(pdf, value * weight) for pdf, value in labels]
        for labels, weight in zip(posterior, weights.tolist(), strict=True)
    ]
    return key, frames, scaled, weights
