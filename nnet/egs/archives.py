"""Tables of examples, read and written block by block: archives, HDF5 stores, and other tables."""

import io
import os
import re
from collections.abc import Iterator

from nnet.egs.blocks import ExampleBlock
from nnet.egs.example import EXAMPLE, NnetExample
from nnet.egs.layout import Layout, LayoutTable
from nnet.egs.store import StoreWriter, read_store, store_path
from nnet.egs.summary import ExampleSummary
from nnet.errors import NgtrainError
from nnet.io.background import read_ahead
from nnet.io.streams import InputStream, open_input, open_output
from nnet.io.tables import archive_entries, sequential_table, table_writer
from nnet.io.tokens import start_writing

READ_SIZE = 1 << 20
"""Bytes looked at together: little memory, and many examples."""

# The tables that need no more than the bytes of an archive. Other ones go an example at a time.
_READ_ARCHIVE = re.compile(r"ark(?P<options>(?:,(?:b|t|bg|o|s|cs))*):(?P<name>.*)", re.DOTALL)
_WRITE_ARCHIVE = re.compile(r"ark(?:,b)?:(?P<name>.*)", re.DOTALL)


def read_blocks(rspecifier: str) -> Iterator[ExampleBlock]:
    """The examples of a table or of `h5:FILE` in order, in blocks of varying size.

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


def _blocks_of_archive(stream: InputStream) -> Iterator[ExampleBlock]:
    layouts = LayoutTable(stream.name)
    entries = archive_entries(stream, EXAMPLE)
    while True:
        block, size = ExampleBlock.scan(layouts, stream.peek(READ_SIZE))
        if size:
            stream.seek(stream.tell() + size)
            yield block
        # What comes now is cut by the end of what was looked at, or of a layout that was not met
        # before, or text. Reading it slowly tells, and makes the layout known.
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
    record.write(key.encode(errors="surrogateescape") + b" ")
    example.write(start_writing(record, binary=True))
    return ExampleBlock.scan(layouts, record.getvalue())[0]


def examples_file(specifier: str) -> str | None:
    """The one regular file, of an archive or a store, that a specifier names; None if it does not.

    Raises:
        NgtrainError: h5: without the name of a file.
    """
    archive = _READ_ARCHIVE.fullmatch(specifier)
    path = archive["name"] if archive else store_path(specifier)
    return path if path is not None and os.path.isfile(path) else None


class ExampleWriter:
    """Writes blocks of examples to a table or to `h5:FILE`.

    The files appear when the context ends without error.

    Args:
        info_dir: if given, a file of the same name there gets what an ExampleSummary says.
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
            self._output.write(key.decode(errors="surrogateescape"), EXAMPLE.read(stream))

    def __enter__(self) -> "ExampleWriter":
        return self

    def __exit__(self, *exception) -> None:
        self._output.__exit__(*exception)
        if self._info_dir and exception[0] is None:
            self._write_info()

    def _write_info(self) -> None:
        path = examples_file(self._wspecifier)
        if path is None:
            raise NgtrainError(f"--info-dir: {self._wspecifier} is not one file of examples")
        lines = self._summary.lines(os.path.getsize(path))
        with open_output(os.path.join(self._info_dir, os.path.basename(path))) as output:
            output.write("".join(f"{line}\n" for line in lines).encode())
