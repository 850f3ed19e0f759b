"""Copying, shuffling, choosing and relabelling examples, as the programs in bin/ do.

All of these work on blocks of examples (:mod:`nnet.egs.block`), and hold no more of them in memory
than they need at a time.

Source: nnet2bin/nnet-*-egs.cc
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from nnet.egs.block import EncodedExamples, ExampleBlock, FrameLabels
from nnet.egs.record import Strings
from nnet.egs.tables import (
    ExampleSummary,
    ExampleWriter,
    examples_file,
    keep_freed_memory,
    pieces,
    random_subset,
    read_blocks,
    shuffled,
)
from nnet.errors import NgtrainError
from nnet.io import log_lines
from nnet.io.descriptors import allow_open_files
from nnet.io.tables import INTEGERS, sequential_table
from nnet.io.text import encode

log = logging.getLogger("ngtrain")


def copy_examples(
    rspecifier: str,
    wspecifiers: Sequence[str],
    *,
    random: bool = False,
    keep_proportion: float = 1.0,
    frame: int | str | None = None,
    left_context: int | None = None,
    right_context: int | None = None,
    srand: int = 0,
    info_dir: str = "",
) -> None:
    """Copy examples to one or more tables (nnet-copy-egs).

    Args:
        random: whether each goes to a random table, and not to the next one in turn.
        keep_proportion: how often each is written in expectation; not negative.
        frame: see :meth:`ExampleBlock.select_frame`; None for all frames.
        left_context, right_context: how much context to keep; None for all.
        info_dir: see :class:`nnet.egs.tables.ExampleWriter`, here and below.
    Raises:
        NgtrainError: something cannot be read or written, or nothing is left to write.
    """
    keep_freed_memory()
    allow_open_files(len(wspecifiers))
    rng = np.random.default_rng(srand)
    shorten = frame is not None or left_context is not None or right_context is not None
    num_read = num_written = 0
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(ExampleWriter(name, info_dir)) for name in wspecifiers]
        for block in read_blocks(rspecifier):
            num_read += len(block)
            block = block.take(repetitions(len(block), keep_proportion, rng))
            if frame is not None:
                block = block.select_frame(frame, rng)
            if shorten:
                block = block.sub_examples(left_context, right_context)
            if random:
                output = rng.integers(0, len(writers), len(block))
            else:
                output = (num_written + np.arange(len(block))) % len(writers)
            for i, writer in enumerate(writers):
                writer.write(block.take(output == i))
            num_written += len(block)
        log.info("Read %d neural-network training examples, wrote %d", num_read, num_written)
        if num_written == 0:
            raise NgtrainError(f"{rspecifier}: no examples to write, {num_read} were read")


def repetitions(size: int, proportion: float, rng: np.random.Generator) -> np.ndarray:
    """Repeat each index below `size` as often as to be kept: `proportion` rounded up or down."""
    least = max(math.ceil(proportion) - 1, 0)
    count = least + (rng.random(size) < proportion - least)
    return np.repeat(np.arange(size), count)


def shuffle_examples(
    rspecifier: str, wspecifier: str, *, buffer_size: int, srand: int, info_dir: str = ""
) -> None:
    """Write examples in random order (nnet-shuffle-egs); see :func:`nnet.egs.tables.shuffled`.

    Raises:
        NgtrainError: something cannot be read or written, or there are no examples.
    """
    num_done = 0
    with ExampleWriter(wspecifier, info_dir) as writer:
        for block in shuffled(read_blocks(rspecifier), buffer_size, np.random.default_rng(srand)):
            num_done += writer.write(block)
        how = "using a buffer (partial randomization)" if buffer_size else ""
        log.info("Shuffled order of %d neural-network training examples %s", num_done, how)
        if num_done == 0:
            raise NgtrainError(f"{rspecifier}: no examples")


def choose_examples(
    rspecifier: str,
    wspecifier: str,
    *,
    size: int,
    randomize_order: bool,
    srand: int,
    info_dir: str = "",
) -> None:
    """Write a random subset of `size` examples, or all if there are fewer (nnet-subset-egs).

    Args:
        randomize_order: whether to write them in random order. Even if not, those beyond the first
            `size` take the places of others.
    Raises:
        NgtrainError: something cannot be read or written, or there are no examples to choose from.
    """
    rng = np.random.default_rng(srand)
    with ExampleWriter(wspecifier, info_dir) as writer:
        subset, num_read = random_subset(read_blocks(rspecifier), size, rng)
        if subset is None:
            raise NgtrainError(f"{rspecifier}: no examples")
        if randomize_order:
            subset = subset.take(rng.permutation(len(subset)))
        for block in pieces(subset):
            writer.write(block)
    log.info(
        "Selected a subset of %d out of %d neural-network training examples", len(subset), num_read
    )


def summarize_examples(rspecifier: str) -> list[str]:
    """Read examples through and describe them in lines `name number` (nnet-egs-info).

    Raises:
        NgtrainError: they cannot be read, or hold NaN or labels that make no sense.
    """
    summary = ExampleSummary()
    for block in read_blocks(rspecifier):
        summary.add(block)
    path = examples_file(rspecifier)
    return summary.lines(None if path is None else os.path.getsize(path))


def relabel_examples(
    alignments_rspecifier: str,
    rspecifiers: Sequence[str],
    wspecifiers: Sequence[str],
    info_dir: str = "",
) -> None:
    """Write tables of examples with the labels of new alignments (nnet-relabel-egs).

    Those of utterances without an alignment are written as they are, with a warning.

    Args:
        alignments_rspecifier: the pdf-ids of all frames of each utterance.
    Raises:
        NgtrainError: something cannot be read or written, a key is not `utterance-frame`, an
            alignment is too short, or more than half of the examples have none.
    """
    with sequential_table(alignments_rspecifier, INTEGERS) as table:
        alignments = {encode(key): pdfs for key, pdfs in table}
    num_examples = num_missing = num_changed = 0
    for rspecifier, wspecifier in zip(rspecifiers, wspecifiers, strict=True):
        with ExampleWriter(wspecifier, info_dir) as writer:
            for block in read_blocks(rspecifier):
                block, missing, changed = relabelled(block, alignments)
                num_examples += writer.write(block)
                num_missing += missing
                num_changed += changed
    log.info(
        log_lines.RELABELLED.format,
        len(alignments),
        sum(map(len, alignments.values())),
        num_examples - num_missing,
        num_examples,
        num_changed,
    )
    if num_missing > 0.5 * num_examples:
        raise NgtrainError(
            f"{alignments_rspecifier}: no alignments for {num_missing} of {num_examples} examples"
        )


def relabelled(
    block: ExampleBlock, alignments: Mapping[bytes, np.ndarray]
) -> tuple[ExampleBlock, int, int]:
    """Give a block the labels of new alignments.

    Returns:
        The block, for how many examples there was no alignment, and how many frames changed their
        label (the one of the largest weight, if they had several).
    """
    keys = block.keys()
    origin = [_split_key(key) for key in keys]
    has_alignment = np.array([utterance in alignments for utterance, _ in origin])
    unknown = np.flatnonzero(~has_alignment).tolist()
    for i in unknown:
        log.warning("Unable to find utterance id %s", origin[i][0].decode(errors="replace"))
    num_changed = 0
    groups: list[EncodedExamples] = list(block.by_layout(~has_alignment))
    for group in block.by_layout(has_alignment):
        num_frames = group.layout.num_frames
        pdfs = np.empty((len(group.indices), num_frames), np.int32)
        for row, i in zip(pdfs, group.indices.tolist(), strict=True):
            utterance, time = origin[i]
            alignment = alignments[utterance]
            if time + num_frames > len(alignment):
                raise NgtrainError(
                    f"alignment of {utterance.decode(errors='replace')} has {len(alignment)} "
                    f"frames, but example {keys[i].decode(errors='replace')} needs "
                    f"{time + num_frames}"
                )
            row[:] = alignment[time : time + num_frames]
        num_changed += int((pdfs != group.labels().strongest(pdfs.shape)).sum())
        groups += group.relabelled(FrameLabels.one_each(pdfs))
    relabelled = ExampleBlock.encode(block.layouts, Strings.of(keys), groups)
    return relabelled, len(unknown), num_changed


def _split_key(key: bytes) -> tuple[bytes, int]:
    """Split the key `utterance-frame`."""
    utterance, dash, frame = key.rpartition(b"-")
    if not dash or not frame.isdigit():
        key = key.decode(errors="replace")
        raise NgtrainError(f"key of an example is not of the form utterance-frame: {key}")
    return utterance, int(frame)
