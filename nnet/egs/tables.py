"""Tables of examples, read and written in blocks, in order or at random.

This is the one place that tells a file `h5:FILE` (:mod:`nnet.egs.store`) from Kaldi's archives and
script files.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from nnet.egs.block import ExampleBlock
from nnet.egs.record import EXAMPLE, Layout, LayoutTable, NnetExample
from nnet.egs.store import StoreWriter, read_store, read_store_shuffled
from nnet.errors import NgtrainError
from nnet.io.streams import InputStream, open_input, open_output
from nnet.io.tables import archive_entries, read_ahead, sequential_table, table_writer
from nnet.io.text import ENCODING
from nnet.io.tokens import start_writing

READ_SIZE = 1 << 20
"""Bytes looked at together: little memory, and many examples."""

_WRITE_SIZE = 4096

# Archives that are read or written as blocks of bytes; other tables go an example at a time.
_READ_ARCHIVE = re.compile(r"ark(?P<options>(?:,(?:b|t|bg|o|s|cs))*):(?P<name>.*)", re.DOTALL)
_WRITE_ARCHIVE = re.compile(r"ark(?:,b)?:(?P<name>.*)", re.DOTALL)


def store_path(specifier: str) -> str | None:
    """Return the file that `h5:FILE` names; None for other specifiers.

    Raises:
        NgtrainError: this is not the name of a file.
    """
    if not specifier.startswith("h5:"):
        return None
    path = specifier[3:]
    if path in ("", "-") or "|" in path or path != path.strip():
        raise NgtrainError(f"expected h5:FILE, a regular file and no pipe, got '{specifier}'")
    return path


def keep_freed_memory() -> None:
    """Keep freed blocks of up to 32 MB in the process, instead of giving them back to the system.

    To get a block of a megabyte from the system takes as long as to fill it several times over.
    The GNU C library learns from the largest block that was freed, which need not have been used;
    with another library nothing is gained or lost.
    """
    np.empty(31 << 20, np.uint8)


# Reading ------------------------------------------------------------------------------------------


def read_blocks(rspecifier: str) -> Iterator[ExampleBlock]:
    """Read the examples of a table or of `h5:FILE` in order, in blocks of varying size.

    Raises:
        NgtrainError: a file is missing, truncated or not a table of examples, or a pipe has failed.
    """
    path = store_path(rspecifier)
    if path is not None:
        return read_store(path)
    archive = _READ_ARCHIVE.fullmatch(rspecifier)
    if not archive:
        return _blocks_of_entries(rspecifier)
    blocks = _blocks_of_archive(open_input(archive["name"]))
    return read_ahead(blocks) if ",bg" in archive["options"] else blocks


def read_frames(
    rspecifier: str,
    frame: int | str | None,
    buffer_size: int | None,
    rng: np.random.Generator | None,
) -> Iterator[ExampleBlock]:
    """Read examples with one of their frames selected, perhaps in random order.

    Args:
        frame: see :meth:`ExampleBlock.select_frame`; None for all frames.
        buffer_size: None for the order of the table; else see :func:`shuffled`, or for `h5:FILE`
            :func:`nnet.egs.store.read_store_shuffled`.
        rng: for random frames and order.
    Raises:
        NgtrainError: as :func:`read_blocks`.
    """
    path = store_path(rspecifier)
    is_shuffled = path is not None and buffer_size is not None
    blocks = read_store_shuffled(path, buffer_size, rng) if is_shuffled else read_blocks(rspecifier)
    if frame is not None:
        blocks = (block.select_frame(frame, rng) for block in blocks)
    return blocks if buffer_size is None or is_shuffled else shuffled(blocks, buffer_size, rng)


def _blocks_of_archive(stream: InputStream) -> Iterator[ExampleBlock]:
    layouts = LayoutTable(stream.name)
    entries = archive_entries(stream, EXAMPLE)
    while True:
        block, size = ExampleBlock.scan(layouts, stream.peek(READ_SIZE))
        if size:
            stream.skip(size)
            yield block
        # The next record is cut off, has a new layout, or is text. It is read as an object, which
        # makes its layout known.
        entry = next(entries, None)
        if entry is None:
            return
        yield _block_of_one(layouts, *entry)


def _blocks_of_entries(rspecifier: str) -> Iterator[ExampleBlock]:
    layouts = LayoutTable(rspecifier)
    with sequential_table(rspecifier, EXAMPLE) as entries:
        for entry in entries:
            yield _block_of_one(layouts, *entry)


def _block_of_one(layouts: LayoutTable, key: str, example: NnetExample) -> ExampleBlock:
    layouts.number(Layout.of(example))
    record = io.BytesIO()
    record.write(key.encode(**ENCODING) + b" ")
    example.write(start_writing(record, binary=True))
    return ExampleBlock.scan(layouts, record.getvalue())[0]


def examples_file(specifier: str) -> str | None:
    """Find the one regular file, an archive or a store, that a specifier names; None if none.

    Raises:
        NgtrainError: h5: without the name of a file.
    """
    archive = _READ_ARCHIVE.fullmatch(specifier)
    path = archive["name"] if archive else store_path(specifier)
    return path if path is not None and os.path.isfile(path) else None


# Random order and random choice -------------------------------------------------------------------


def shuffled(
    blocks: Iterable[ExampleBlock], buffer_size: int, rng: np.random.Generator
) -> Iterator[ExampleBlock]:
    """Put examples in random order (nnet2bin/nnet-shuffle-egs.cc).

    As many are held as `buffer_size` says: each new example takes a random place in the buffer, and
    the one that was there is passed on. With 0 all are held, and every order is equally likely.
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
    """Divide a block into small ones, so that no copy of all is made to write them."""
    for begin in range(0, len(examples), _WRITE_SIZE):
        yield examples.take(slice(begin, begin + _WRITE_SIZE)).tidy()


def random_subset(
    blocks: Iterable[ExampleBlock], size: int, rng: np.random.Generator
) -> tuple[ExampleBlock | None, int]:
    """Choose `size` examples at random, or all if there are fewer; holds no more than these.

    The first `size` are taken; the m-th of the following takes the place of a random one of them
    with probability size / m (nnet2bin/nnet-subset-egs.cc). Returns the subset, None if there is no
    example at all, and how many examples there are.
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
        # The occupant of each place; some of its buffers hold examples that were displaced.
        self._examples: ExampleBlock | None = None
        self._is_taken = np.zeros(size, bool)
        self._num_arrived = 0  # since the buffers were tidied up

    def put(self, block: ExampleBlock, place: np.ndarray) -> ExampleBlock:
        """Put example i of a block at place[i], one after the other.

        Returns:
            The examples that were displaced, in the order in which that happened.
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
        """Return the examples in order of places; None if no block has been put there."""
        return None if self._examples is None else self._examples.take(self._is_taken)


# Writing ------------------------------------------------------------------------------------------


class ExampleSummary:
    """Number, dimensions and checksum of the examples of the blocks that were added.

    The programs that write examples can leave these numbers in a file, gathered while they write,
    and nnet-egs-info prints those of a table that it reads: if the two differ, it is damaged.

    The checksum is the CRC-32 (that of gzip) of the examples as they stand in a binary archive; for
    an archive that is the one of the file. It is there to find accidents, of which it misses one in
    4e9; the strength of SHA-256 would be of no use against who can change the number, too.
    """

    def __init__(self):
        self._num_examples = 0
        self._num_frames = 0
        self._largest_pdf = -1
        self._crc32 = 0
        self._layouts: set[Layout] = set()

    def add(self, block: ExampleBlock) -> None:
        """Take the examples of a block into account.

        Raises:
            NgtrainError: NaN or infinity in the input, or labels that make no sense.
        """
        self._num_examples += len(block)
        self._num_frames += int(block.num_frames().sum())
        for group in block.by_layout():
            self._layouts.add(group.layout)
            group.check_scale()
            self._largest_pdf = int(group.labels().pdf.max(initial=self._largest_pdf))
        self._crc32 = zlib.crc32(block.encoded(), self._crc32)

    def lines(self, file_size: int | None) -> list[str]:
        """Format the numbers with their names; where examples differ, all values that occur."""
        values = {
            "frames-per-eg": {layout.num_frames for layout in self._layouts},
            "left-context": {layout.left_context for layout in self._layouts},
            "right-context": {layout.right_context for layout in self._layouts},
            "input-dim": {layout.input_dim for layout in self._layouts},
            "ivector-dim": {layout.spk_dim for layout in self._layouts},
        }
        return [
            f"num-examples {self._num_examples}",
            f"num-frames {self._num_frames}",
            *(f"{name} {','.join(map(str, sorted(some)))}" for name, some in values.items()),
            f"largest-pdf {self._largest_pdf}",
            f"crc32 {self._crc32:08x}",
            *([] if file_size is None else [f"file-size {file_size}"]),
        ]


class ExampleWriter:
    """A writer of blocks of examples to a table or to `h5:FILE`.

    The files appear when the context ends without error.

    Args:
        info_dir: if given, a file of the same name there gets the lines of an ExampleSummary.
    Raises:
        NgtrainError: a file cannot be written, or this is not a wspecifier.
    """

    def __init__(self, wspecifier: str, info_dir: str = ""):
        self._wspecifier = wspecifier
        self._info_dir = info_dir
        self._summary = ExampleSummary()
        path = store_path(wspecifier)
        archive = _WRITE_ARCHIVE.fullmatch(wspecifier)
        if path is not None:
            self._output = StoreWriter(path)
            self._write = self._output.write
        elif archive:
            self._output = open_output(archive["name"])
            self._write = lambda block: self._output.write(block.encoded())
        else:
            self._output = table_writer(wspecifier, EXAMPLE)
            self._write = self._write_entries

    def write(self, block: ExampleBlock) -> int:
        """Append the examples of a block, whole even if frames were selected; returns how many."""
        self._write(block)
        if self._info_dir:
            self._summary.add(block)
        return len(block)

    def _write_entries(self, block: ExampleBlock) -> None:
        for key, body in zip(block.keys(), block.bodies(), strict=True):
            stream = InputStream(io.BytesIO(body), block.layouts.name)
            self._output.write(key.decode(**ENCODING), EXAMPLE.read(stream))

    def __enter__(self) -> ExampleWriter:
        return self

    def __exit__(self, *exception) -> None:
        self._output.__exit__(*exception)
        if self._info_dir and exception[0] is None:
            path = examples_file(self._wspecifier)
            if path is None:
                raise NgtrainError(f"--info-dir: {self._wspecifier} is not one file of examples")
            lines = self._summary.lines(os.path.getsize(path))
            with open_output(os.path.join(self._info_dir, os.path.basename(path))) as output:
                output.write("".join(f"{line}\n" for line in lines).encode())
