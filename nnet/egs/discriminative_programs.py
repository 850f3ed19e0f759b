"""Copying, shuffling and joining examples for sequence training, as the programs in bin/ do.

Source: Kaldi's nnet2bin/nnet-{copy,shuffle,combine}-egs-discriminative.cc
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice

import numpy as np

from nnet.egs.discriminative import DISCRIMINATIVE, DiscriminativeExample, joined, packed
from nnet.egs.programs import repetitions
from nnet.errors import NgtrainError
from nnet.io.descriptors import allow_open_files
from nnet.io.matrices import CompressedMatrix
from nnet.io.tables import ClosingContext, sequential_table, table_writer

log = logging.getLogger("ngtrain")


class NumberedExamples(ClosingContext):
    """Tables to which examples go with their numbers, from 0 on, as keys.

    Attributes:
        num_written, num_frames: how many there are, and their frames.
    """

    def __init__(self, wspecifiers: Sequence[str]):
        allow_open_files(len(wspecifiers))
        self._files = ExitStack()
        self._writers = [
            self._files.enter_context(table_writer(name, DISCRIMINATIVE)) for name in wspecifiers
        ]
        self.num_written = self.num_frames = 0

    def __exit__(self, *error) -> None:
        self._files.__exit__(*error)

    def write(self, example: DiscriminativeExample, output: int | None = None) -> None:
        """Append an example to table number `output`; to each in turn if that is not given."""
        index = self.num_written if output is None else output
        self._writers[index % len(self._writers)].write(str(self.num_written), example)
        self.num_written += 1
        self.num_frames += example.num_frames


def copy_examples(
    rspecifier: str,
    wspecifiers: Sequence[str],
    *,
    random: bool = False,
    keep_proportion: float = 1.0,
    srand: int = 0,
    const_feat_dim: int = 0,
) -> None:
    """Copy examples to one or more tables (nnet-copy-egs-discriminative).

    Args:
        random: whether each goes to a random table, and not to the next one in turn.
        keep_proportion: how often each is written in expectation; not negative.
        const_feat_dim: so many dimensions at the end of the features are averaged over each
            example, and stored in it as spk_info.

    Raises:
        NgtrainError: something cannot be read or written, or nothing is left to write.
    """
    rng = np.random.default_rng(srand)
    num_read = 0
    with (
        sequential_table(rspecifier, DISCRIMINATIVE) as examples,
        NumberedExamples(wspecifiers) as out,
    ):
        for _, example in examples:
            num_read += 1
            if const_feat_dim:
                example = with_constant_part(example, const_feat_dim)
            for _ in repetitions(1, keep_proportion, rng):
                out.write(example, int(rng.integers(len(wspecifiers))) if random else None)
        log.info(
            "Read %d discriminative neural-network training examples, wrote %d, consisting of %d "
            "frames.",
            *(num_read, out.num_written, out.num_frames),
        )
        if not out.num_written:
            raise NgtrainError(f"{rspecifier}: no examples to write, {num_read} were read")


def with_constant_part(example: DiscriminativeExample, dim: int) -> DiscriminativeExample:
    """Move the last `dim` dimensions of the features into spk_info, as their average.

    Raises:
        NgtrainError: there are not as many, or spk_info is there and of another dimension.
    """
    if len(example.spk_info) == dim:
        return example
    if len(example.spk_info) or dim >= example.input_frames.shape[1]:
        raise NgtrainError(
            f"--const-feat-dim={dim}: an example has {example.input_frames.shape[1]} dimensions, "
            f"and {len(example.spk_info)} that are constant already"
        )
    rows = example.input_frames.decompress()
    return replace(
        example,
        input_frames=CompressedMatrix.compress(rows[:, :-dim]),
        spk_info=rows[:, -dim:].mean(axis=0),
    )


def shuffle_examples(rspecifier: str, wspecifier: str, *, buffer_size: int, srand: int) -> None:
    """Write examples in random order (nnet-shuffle-egs-discriminative).

    buffer_size: how many are in memory at a time; all of them if it is 0.

    Raises:
        NgtrainError: something cannot be read or written, or there are no examples.
    """
    rng = np.random.default_rng(srand)
    with (
        sequential_table(rspecifier, DISCRIMINATIVE) as examples,
        NumberedExamples([wspecifier]) as out,
    ):
        for example in shuffled((example for _, example in examples), buffer_size, rng):
            out.write(example)
        how = "using a buffer (partial randomization)" if buffer_size else ""
        log.info("Shuffled order of %d neural-network training examples %s", out.num_written, how)
        if not out.num_written:
            raise NgtrainError(f"{rspecifier}: no examples")


def shuffled(
    examples: Iterable[DiscriminativeExample], buffer_size: int, rng: np.random.Generator
) -> Iterator[DiscriminativeExample]:
    """Yield all in random order: each takes a random place of a buffer, from which one goes."""
    buffer: list[DiscriminativeExample] = []
    for example in examples:
        if not buffer_size or len(buffer) < buffer_size:
            buffer.append(example)
            continue
        place = rng.integers(buffer_size)
        yield buffer[place]
        buffer[place] = example
    for place in rng.permutation(len(buffer)):
        yield buffer[place]


def combine_examples(
    rspecifier: str, wspecifier: str, *, max_length: int, batch_size: int, hard_max_length: int
) -> None:
    """Join successive examples to longer ones (nnet-combine-egs-discriminative).

    Args:
        max_length: rows of input of a joined example, at most.
        batch_size: how many examples are looked at at a time to find those that fit together.
        hard_max_length: examples with more rows of input are left out.

    Raises:
        NgtrainError: something cannot be read or written, or nothing is left to write.
    """
    num_read = num_discarded = 0
    with (
        sequential_table(rspecifier, DISCRIMINATIVE) as examples,
        NumberedExamples([wspecifier]) as out,
    ):
        while batch := [example for _, example in islice(examples, batch_size)]:
            num_read += len(batch)
            for group in packed([eg.input_frames.shape[0] for eg in batch], max_length):
                example = joined([batch[i] for i in group])
                length = example.input_frames.shape[0]
                if length > hard_max_length:
                    num_discarded += 1
                    log.warning(
                        "Discarding segment of length %d because it exceeds --hard-max-length=%d",
                        *(length, hard_max_length),
                    )
                else:
                    out.write(example)
        log.info(
            "Read %d discriminative neural-network training examples, wrote %d, discarded %d",
            *(num_read, out.num_written, num_discarded),
        )
        if not out.num_written:
            raise NgtrainError(f"{rspecifier}: no examples to write, {num_read} were read")
