"""Random order and random choice of examples, on blocks of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from nnet.egs.blocks import ExampleBlock

_WRITE_SIZE = 4096


def shuffled(
    blocks: Iterable[ExampleBlock], buffer_size: int, rng: np.random.Generator
) -> Iterator[ExampleBlock]:
    """The examples in random order.

    Args:
        buffer_size: 0 to hold all of them and make every order equally likely; otherwise as many
            are held: each new example takes a random place in the buffer, and the one that was
            there is passed on (Kaldi nnet2bin/nnet-shuffle-egs.cc).
    """
    if buffer_size == 0:
        examples = list(blocks)
        if examples:
            examples = ExampleBlock.concatenate(examples)
            yield from pieces(examples.take(rng.permutation(len(examples))))
        return
    pool = Pool(buffer_size)
    for block in blocks:
        yield pool.put(block, rng.integers(0, buffer_size, len(block))).tidy()
    if (rest := pool.contents()) is not None:
        yield from pieces(rest)


def pieces(examples: ExampleBlock) -> Iterator[ExampleBlock]:
    """The same examples in small blocks, so that never a copy of all is made to write them."""
    for begin in range(0, len(examples), _WRITE_SIZE):
        yield examples.take(slice(begin, begin + _WRITE_SIZE)).tidy()


def random_subset(
    blocks: Iterable[ExampleBlock], size: int, rng: np.random.Generator
) -> tuple[ExampleBlock | None, int]:
    """A random subset of `size` examples, or all if there are fewer; holds no more than these.

    The first `size` are taken; the m-th of the following takes the place of a random one of them
    with probability size / m (Kaldi nnet2bin/nnet-subset-egs.cc).

    Returns:
        The subset (None if there is no example at all) and how many examples there are.
    """
    pool = Pool(size)
    num_read = 0
    for block in blocks:
        count = np.arange(num_read + 1, num_read + len(block) + 1)
        accepted = (count <= size) | (rng.random(len(block)) * count < size)
        place = np.where(count <= size, count - 1, rng.integers(0, max(size, 1), len(block)))
        pool.put(block.take(accepted).tidy(), place[accepted])
        num_read += len(block)
    return pool.contents(), num_read


class Pool:
    """A buffer with places for examples."""

    def __init__(self, size: int):
        # What is in each place; the buffers, of which some hold examples that were displaced.
        self._examples: ExampleBlock | None = None
        self._is_taken = np.zeros(size, bool)
        self._num_arrived = 0  # since the buffers were tidied up

    def put(self, block: ExampleBlock, place: np.ndarray) -> ExampleBlock:
        """Put example i of a block at place[i], one after the other; returns what was displaced.

        The examples that are displaced come in the order in which that happens.
        """
        if self._examples is None:
            nothing = np.zeros(len(self._is_taken), block.records.dtype)
            self._examples = ExampleBlock(block.layouts, [], nothing)
        held = self._examples
        arrived = ExampleBlock.concatenate([held.take(slice(0, 0)), block])
        # Newcomers sorted by place and then by time: each displaces the one before it if that had
        # the same place, and otherwise the old occupant.
        order = np.argsort(place, kind="stable")
        place = place[order]
        newcomers = arrived.take(order).records
        again = np.append(False, place[1:] == place[:-1])[: len(place)]
        last = np.append(~again[1:], True)[: len(place)]
        displaced = held.take(place).records
        displaced[again] = newcomers[np.flatnonzero(again) - 1]
        there = again | self._is_taken[place]
        held.records[place[last]] = newcomers[last]
        self._is_taken[place] = True
        self._examples = ExampleBlock(block.layouts, arrived.buffers, held.records)
        self._num_arrived += len(block)
        if 4 * self._num_arrived > len(self._is_taken):
            self._examples = self._examples.tidy()
            self._num_arrived = 0
        in_time = np.argsort(order)
        displaced = ExampleBlock(block.layouts, arrived.buffers, displaced)
        return displaced.take(in_time[there[in_time]])

    def contents(self) -> ExampleBlock | None:
        """What is in the pool, in order of places; None if no block has ever been put there."""
        return None if self._examples is None else self._examples.take(self._is_taken)
