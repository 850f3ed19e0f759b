"""Making examples from features and posteriors.

Source: nnet2bin/nnet-get-egs.cc
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from nnet.egs.block import ExampleBlock, FrameLabels, compressed_fields, encode_examples
from nnet.egs.record import Layout, LayoutTable, Strings
from nnet.egs.tables import ExampleWriter, keep_freed_memory
from nnet.errors import NgtrainError
from nnet.io import log_lines
from nnet.io.losses import Losses
from nnet.io.random_access import random_access_table
from nnet.io.tables import FEATURES, POSTERIOR, sequential_table
from nnet.io.text import encode

log = logging.getLogger("ngtrain")

# Frames of features that are made into examples together.
_FRAMES_TOGETHER = 4096

Utterance = tuple[str, np.ndarray, list[list[tuple[int, float]]]]
"""Key, features float32 (T, dim), and for each of the T frames its pairs (pdf-id, weight)."""

Entry = TypeVar("Entry", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Cut:
    """The sizes of the examples into which utterances are cut.

    Attributes:
        left_context, right_context: frames of input around the labelled ones.
        num_frames: labelled frames of an example; the last one of an utterance has the remainder.
        const_feat_dim: so many dimensions at the end of the features are taken to be constant over
            an example, and their average is stored in it as spk_info.
    """

    left_context: int = 0
    right_context: int = 0
    num_frames: int = 1
    const_feat_dim: int = 0


def make_examples(
    features_rspecifier: str, posteriors_rspecifier: str, examples_wspecifier: str, cut: Cut
) -> None:
    """Cut utterances into examples, and write these in order.

    Utterances without posteriors, or with posteriors for another number of frames, are left out
    with a warning.

    Raises:
        NgtrainError: something cannot be read or written; NaN in features or more than one
            dimension; no utterance can be used, or fewer than cannot.
    """
    keep_freed_memory()
    layouts = LayoutTable(examples_wspecifier)
    num_done = num_frames = num_examples = 0
    unusable = Losses()
    with ExampleWriter(examples_wspecifier) as writer:
        usable = joined_utterances(features_rspecifier, posteriors_rspecifier, cut, unusable)
        for utterances in together(usable):
            num_examples += writer.write(cut_examples(layouts, utterances, cut))
            num_done += len(utterances)
            num_frames += sum(len(frames) for _, frames, _ in utterances)
        log.info(log_lines.EXAMPLES.format, num_done, num_examples, num_frames, unusable.count)
        if num_examples == 0 or unusable.count > num_done:
            raise NgtrainError(
                f"{unusable.count} of {num_done + unusable.count} utterances of "
                f"{features_rspecifier} have no fitting posteriors in {posteriors_rspecifier}"
            )


def joined_utterances(
    features_rspecifier: str, posteriors_rspecifier: str, cut: Cut, unusable: Losses
) -> Iterator[Utterance]:
    """Join features with their posteriors; counts the utterances that have none which fit."""
    dim = None
    with (
        sequential_table(features_rspecifier, FEATURES) as features,
        random_access_table(posteriors_rspecifier, POSTERIOR) as posteriors,
    ):
        for key, frames in features:
            if len(frames) == 0 or key not in posteriors:
                log.warning("No pdf-level posterior for key %s", key)
                unusable.add(key)
                continue
            posterior = posteriors[key]
            if len(posterior) != len(frames):
                sizes = len(posterior), len(frames)
                log.warning("Posterior has wrong size %d versus %d for key %s", *sizes, key)
                unusable.add(key)
                continue
            own_dim = frames.shape[1]
            dim = own_dim if dim is None else dim
            if own_dim != dim or dim <= cut.const_feat_dim:
                reason = f"but {dim} before" if own_dim != dim else "none beside the constant"
                of = f"{features_rspecifier}, key {key}: features of dimension {own_dim}"
                raise NgtrainError(f"{of}, {reason}")
            yield key, frames, posterior


def together(utterances: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Gather utterances, with whatever belongs to them, that have about _FRAMES_TOGETHER frames."""
    waiting, num_frames = [], 0
    for utterance in utterances:
        waiting.append(utterance)
        num_frames += len(utterance[1])
        if num_frames >= _FRAMES_TOGETHER:
            yield waiting
            waiting, num_frames = [], 0
    if waiting:
        yield waiting


def cut_examples(layouts: LayoutTable, utterances: Sequence[Utterance], cut: Cut) -> ExampleBlock:
    """Cut utterances into examples, in order; their keys are `utterance-frame`.

    Before the beginning and after the end of an utterance, its first and last frames are repeated.
    """
    length = np.array([len(frames) for _, frames, _ in utterances])
    num_examples = -(-length // cut.num_frames)
    # For each example its utterance, its first frame in it, and its number of labelled frames.
    utterance = np.repeat(np.arange(len(utterances)), num_examples)
    first_example = np.cumsum(num_examples) - num_examples
    start = (np.arange(len(utterance)) - first_example[utterance]) * cut.num_frames
    num_frames = np.minimum(cut.num_frames, length[utterance] - start)

    names = [encode(utterances[i][0]) for i in utterance.tolist()]
    keys = [b"%s-%d" % (name, t) for name, t in zip(names, start.tolist(), strict=True)]
    labels = _labels([posterior for _, _, posterior in utterances], cut.num_frames)
    features = np.concatenate([frames for _, frames, _ in utterances])
    first_row = np.cumsum(length) - length

    def groups():
        for count in np.unique(num_frames).tolist():
            members = np.flatnonzero(num_frames == count)
            owner = utterance[members, None]
            context = np.arange(-cut.left_context, count + cut.right_context)
            time = np.clip(start[members, None] + context, 0, length[owner] - 1)
            rows = features[first_row[owner] + time]
            basic_dim = rows.shape[2] - cut.const_feat_dim
            matrix = "CM" if len(context) > 8 else "CM2"  # Kaldi's default
            fields = compressed_fields(matrix, rows[:, :, :basic_dim])
            fields["spk_info"] = _mean(rows[:, :, basic_dim:])
            layout = Layout(
                simple=True,
                num_frames=count,
                matrix=matrix,
                num_rows=len(context),
                num_cols=basic_dim,
                left_context=cut.left_context,
                spk_dim=cut.const_feat_dim,
            )
            yield from encode_examples(layout, members, fields, labels.of_examples(members))

    return ExampleBlock.encode(layouts, Strings.of(keys), groups())


def _labels(posteriors: Sequence[list[list[tuple[int, float]]]], num_frames: int) -> FrameLabels:
    """Join posteriors into the labels of examples of `num_frames` frames, fewer at the ends."""
    frames = [frame for posterior in posteriors for frame in posterior]
    time = np.concatenate([np.arange(len(posterior)) for posterior in posteriors])
    example = np.cumsum(time % num_frames == 0) - 1
    count = np.array(list(map(len, frames)), np.int64)
    return FrameLabels(
        np.repeat(example, count),
        np.repeat(time % num_frames, count),
        np.array([pdf for frame in frames for pdf, _ in frame], np.int32),
        np.array([weight for frame in frames for _, weight in frame], np.float32),
    )


def _mean(rows: np.ndarray) -> np.ndarray:
    """Average over axis 1, summed up in float32 and in order as Kaldi does."""
    mean = np.zeros((len(rows), rows.shape[2]), np.float32)
    weight = np.float32(1.0 / rows.shape[1])
    for t in range(rows.shape[1]):
        mean += weight * rows[:, t]
    return mean
