"""Examples in an HDF5 file (`h5:FILE`), for reading in random order.

    /records   uint8, the examples as they stand in a binary archive, keys and all, without gaps
    /index     for each example its size, the size of its key, and the number of its layout
    /layouts   the layouts, a row for each
    /chunks    where in the file each chunk of /records lies

The input frames stay as they are compressed. The index is what an archive lacks: where an example
lies is known without looking at those before it, so that examples can be drawn from all over the
file, and nothing has to be parsed. `/records` read as a whole is the archive.

Any tool for HDF5 reads these files. This reader does without its library, which follows what a
damaged file says of itself into crashes and loops without end. A footer behind the data says where
the datasets lie, and has a checksum of all that is not records.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnet.egs.block import ExampleBlock, distinct
from nnet.egs.record import Layout, LayoutTable
from nnet.errors import NgtrainError
from nnet.io.streams import temporary_name

if TYPE_CHECKING:
    import h5py

FORMAT = b"ngtrain examples 3"

_SIGNATURE = b"\x89HDF\r\n\x1a\n"  # of HDF5
# Bytes that are written together: a chunk of /records.
_CHUNK = 1 << 20
# Examples that are read together, in order.
_TOGETHER = 2048
# Neighbours that are read together for shuffling: enough to read fast, few enough to mix well.
_GROUP = 256

_INDEX = np.dtype([("size", "<i4"), ("key_size", "<i4"), ("layout", "<i4")])
_LAYOUT = np.dtype(
    [
        ("simple", "u1"),
        ("num_frames", "<i4"),
        ("matrix", "S3"),
        ("num_rows", "<i4"),
        ("num_cols", "<i4"),
        ("left_context", "<i4"),
        ("spk_dim", "<i4"),
    ]
)
_CHUNKS = np.dtype("<i8")


class Footer(NamedTuple):
    """The places of the datasets in a file, in bytes, and their numbers of rows."""

    num_records: int
    chunk_size: int
    chunks: int
    num_chunks: int
    index: int
    num_examples: int
    layouts: int
    num_layouts: int
    size: int
    """Size of the file without the footer."""


_FOOTER = struct.Struct(f"<{len(Footer._fields)}qI24s")
"""The fields, the checksum (CRC-32) of them and of all bytes but those of /records, and FORMAT."""


class ExampleStore:
    """An HDF5 file of examples, open for reading; a context manager.

    Raises:
        NgtrainError: the file is missing, damaged, or something else than examples.
    """

    def __init__(self, path: str):
        self.path = path
        self.layouts = LayoutTable(path)
        with contextlib.ExitStack() as stack, self._errors():
            self._file = stack.enter_context(open(path, "rb", buffering=0))
            self._footer = self._read_footer()
            self._chunks = self._rows("chunks", _CHUNKS)
            self._check_chunks()
            self._check_sum()
            self._index = self._rows("index", _INDEX)
            numbers = [self.layouts.number(layout) for layout in self._read_layouts()]
            self._end = self._check_index(numbers)
            stack.pop_all()

    def __len__(self) -> int:
        return len(self._index)

    def read(self, begin: np.ndarray, end: np.ndarray) -> ExampleBlock:
        """Read ranges of examples, one after the other; range i is from begin[i] up to end[i]."""
        ranges = zip(begin.tolist(), end.tolist(), strict=True)
        index = np.concatenate([self._index[i:j] for i, j in ranges])
        place = np.cumsum(index["size"], dtype=np.int64)
        data, done = np.empty(place[-1], np.uint8), 0
        first, last = self._end[begin] - self._index["size"][begin], self._end[end - 1]
        with self._errors():
            for i, j in zip(first.tolist(), last.tolist(), strict=True):
                self._read_records(i, data[done : done + j - i])
                done += j - i
        first_byte = place - index["size"]
        body = first_byte + index["key_size"] + 1
        block = ExampleBlock.over(
            self.layouts, data.data, begin=first_byte, body=body, end=place, layout=index["layout"]
        )
        if (data[body - 1] != ord(" ")).any() or not block.is_consistent():
            raise self._damaged("the examples are not of the layouts that it says they have")
        return block

    def _read_footer(self) -> Footer:
        """Read the footer; NgtrainError if it cannot be that of this file."""
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NgtrainError(f"{self.path}: not a regular file")
        if self._file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise NgtrainError(f"{self.path}: no HDF5 file")
        size = status.st_size - _FOOTER.size
        if size < 0:
            raise self._damaged("truncated")
        *fields, self._crc32, name = _FOOTER.unpack(self._bytes(size, _FOOTER.size))
        if name.rstrip(b"\0") != FORMAT:
            raise NgtrainError(
                f"{self.path}: an HDF5 file without the footer of examples: it is truncated, of "
                "something else, or of an older version of ngtrain (then make it once more)"
            )
        footer = Footer(*fields)
        if (
            footer.size != size
            or min(footer) < 0
            or not 0 < footer.chunk_size <= max(size, _CHUNK)
            or footer.num_chunks != -(-footer.num_records // footer.chunk_size)
        ):
            raise self._damaged(f"impossible {footer}")
        return footer

    def _rows(self, name: str, dtype: np.dtype) -> np.ndarray:
        """Read a dataset that lies in one piece."""
        number = {"chunks": "num_chunks", "index": "num_examples", "layouts": "num_layouts"}[name]
        offset, size = getattr(self._footer, name), getattr(self._footer, number) * dtype.itemsize
        if offset + size > self._footer.size:
            raise self._damaged(f"/{name} is said to have {size} bytes, which are not there")
        return np.frombuffer(self._bytes(offset, size), dtype)

    def _bytes(self, offset: int, size: int) -> bytearray:
        data = bytearray(size)
        self._read_into(memoryview(data), offset)
        return data

    def _read_into(self, place: memoryview, offset: int) -> None:
        while place:
            done = os.preadv(self._file.fileno(), [place], offset)
            if not done:
                raise self._damaged("truncated")
            place, offset = place[done:], offset + done

    def _read_records(self, begin: int, out: np.ndarray) -> None:
        """Read the bytes of /records from `begin` on, as many as `out` holds."""
        chunk_size, done = self._footer.chunk_size, 0
        while done < len(out):
            chunk, start = divmod(begin + done, chunk_size)
            size = min(chunk_size - start, len(out) - done)
            self._read_into(out[done : done + size].data, int(self._chunks[chunk]) + start)
            done += size

    def _check_chunks(self) -> None:
        """Raise NgtrainError unless the chunks lie within the file, one behind the other."""
        begin, chunk_size = np.sort(self._chunks), self._footer.chunk_size
        if len(begin) and (
            begin[0] < 0
            or begin[-1] > self._footer.size - chunk_size
            or (np.diff(begin) < chunk_size).any()
        ):
            raise self._damaged("chunks of /records are not where they could be")

    def _check_sum(self) -> None:
        """Raise NgtrainError if anything but records differs from what was written."""
        if _crc32(self._footer, self._chunks, self._bytes) != self._crc32:
            raise self._damaged("its checksum is another")

    def _read_layouts(self) -> Iterator[Layout]:
        for row in self._rows("layouts", _LAYOUT).tolist():
            layout = Layout(bool(row[0]), row[1], row[2].decode("latin-1"), *row[3:])
            num_elements = layout.num_rows * layout.num_cols
            parts = (layout.num_frames, *row[4:], layout.right_context, num_elements)
            if (
                layout.matrix not in ("CM", "CM2", "CM3")
                or layout.num_frames < 1
                or min(parts) < 0
                or max(parts) > self._footer.size
            ):
                raise self._damaged(f"impossible {layout}")
            yield layout

    def _check_index(self, numbers: list[int]) -> np.ndarray:
        """Compute where in /records each example ends; NgtrainError if /index is impossible."""
        size, key_size, layout = (self._index[name].astype(np.int64) for name in _INDEX.names)
        end = np.cumsum(size)
        if len(size) and (layout.min() < 0 or layout.max() >= len(numbers)):
            raise self._damaged("there are examples of layouts that it does not have")
        known = [(kind.simple, len(kind.prefix) + kind.dtype.itemsize) for kind in self.layouts]
        simple, fixed = np.array(known, np.int64).reshape(-1, 2)[layout].T
        labels = size - (key_size + 1 + fixed)
        if (
            len(numbers) != len(set(numbers))
            or (key_size < 1).any()
            or not np.where(simple, labels == 0, (labels > 0) & (labels % 5 == 0)).all()
            or (end[-1] if len(end) else 0) != self._footer.num_records
        ):
            raise self._damaged("the sizes of its examples do not add up")
        return end

    def _damaged(self, reason: str) -> NgtrainError:
        return NgtrainError(f"{self.path}: damaged: {reason}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the system into NgtrainError."""
        try:
            yield
        except FileNotFoundError as error:
            raise NgtrainError(f"cannot open {self.path}: {error.strerror}") from error
        except OSError as error:
            raise NgtrainError(f"cannot read {self.path}: {error.strerror}") from error

    def __enter__(self) -> ExampleStore:
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()


def read_store(path: str) -> Iterator[ExampleBlock]:
    """Read the examples of a store in order, in blocks."""
    with ExampleStore(path) as store:
        for begin in range(0, len(store), _TOGETHER):
            yield store.read(np.array([begin]), np.array([min(begin + _TOGETHER, len(store))]))


def read_store_shuffled(
    path: str, pool_size: int, rng: np.random.Generator
) -> Iterator[ExampleBlock]:
    """Read the examples of a store in random order, in blocks.

    Groups of neighbours are drawn from all over the file until there are `pool_size` examples, and
    these are shuffled; then come the next. With 0 for all at once every order is equally likely.
    """
    with ExampleStore(path) as store:
        first = rng.permutation(-(-len(store) // _GROUP)) * _GROUP
        num_groups = -(-pool_size // _GROUP) or len(first)
        for i in range(0, len(first), max(num_groups, 1)):
            begin = first[i : i + num_groups]
            pool = store.read(begin, np.minimum(begin + _GROUP, len(store)))
            yield pool.take(rng.permutation(len(pool)))


def places(file: h5py.File) -> Footer:
    """Make /chunks, and find the places of the datasets of a file whose size is not known yet."""
    file.flush()
    records = file["records"]
    chunks = [
        records.id.get_chunk_info_by_coord((begin,)).byte_offset
        for begin in range(0, len(records), _CHUNK)
    ]
    file.create_dataset("chunks", data=np.array(chunks, _CHUNKS))
    file.flush()
    rows = []
    for name in "chunks", "index", "layouts":
        rows += [file[name].id.get_offset() or 0, len(file[name])]
    return Footer(len(records), _CHUNK, *rows, size=0)


def append_footer(file: io.FileIO, footer: Footer) -> None:
    """Append the footer to a file that the library for HDF5 has written and closed."""
    footer = footer._replace(size=file.seek(0, os.SEEK_END))

    def read(offset: int, size: int) -> bytes:
        return os.pread(file.fileno(), size, offset)

    chunks = np.frombuffer(read(footer.chunks, footer.num_chunks * _CHUNKS.itemsize), _CHUNKS)
    file.write(_FOOTER.pack(*footer, _crc32(footer, chunks, read), FORMAT))


def _crc32(footer: Footer, chunks: np.ndarray, read: Callable[[int, int], bytes]) -> int:
    """Compute the checksum of the footer and of what read(offset, size) gives between chunks."""
    crc32, place = zlib.crc32(struct.pack(f"<{len(footer)}q", *footer)), 0
    for begin in [*np.sort(chunks).tolist(), footer.size]:
        crc32 = zlib.crc32(read(place, begin - place), crc32)
        place = begin + footer.chunk_size
    return crc32


class StoreWriter:
    """A writer of blocks to an HDF5 file, which appears when the context ends without error.

    Raises:
        NgtrainError: the file cannot be written.
    """

    def __init__(self, path: str):
        self._name = path
        self._path = os.path.realpath(path)
        self._temporary = temporary_name(self._path)
        self._layouts = LayoutTable(path)
        self._index: list[np.ndarray] = []
        self._waiting: list[bytes] = []
        self._num_waiting = 0
        with self._errors():
            if os.path.exists(self._path) and not stat.S_ISREG(os.stat(self._path).st_mode):
                raise NgtrainError(f"cannot write {path}: it is not a regular file")
            import h5py

            self._raw = _OutputFile(self._temporary, "xb+")
            self._file = h5py.File(self._raw, "w", libver=("v110", "v110"))
            self._records = self._file.create_dataset(
                "records", (0,), np.uint8, maxshape=(None,), chunks=(_CHUNK,)
            )

    def write(self, block: ExampleBlock) -> None:
        """Append the examples of a block."""
        records = block.records
        index = np.empty(len(block), _INDEX)
        index["size"] = records["end"] - records["begin"]
        index["key_size"] = records["body"] - 1 - records["begin"]
        for number in distinct(records["layout"]):
            members = records["layout"] == number
            index["layout"][members] = self._layouts.number(block.layouts[number])
        self._index.append(index)
        data = block.encoded()
        self._waiting.append(data)
        self._num_waiting += len(data)
        if self._num_waiting >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        with self._errors():
            size = len(self._records)
            self._records.resize((size + self._num_waiting,))
            self._records[size:] = np.frombuffer(b"".join(self._waiting), np.uint8)
            self._raw.check()
        self._waiting, self._num_waiting = [], 0

    def _finish(self) -> None:
        self._flush()
        rows = [tuple(getattr(known, name) for name in _LAYOUT.names) for known in self._layouts]
        layouts = np.array(rows, _LAYOUT)
        with self._errors():
            index = np.concatenate([np.empty(0, _INDEX), *self._index])
            self._file.create_dataset("index", data=index)
            self._file.create_dataset("layouts", data=layouts)
            self._file.attrs["format"] = np.bytes_(FORMAT)
            footer = places(self._file)
            self._file.close()
            append_footer(self._raw, footer)
            os.fsync(self._raw.fileno())
            self._raw.close()
            self._raw.check()
            os.replace(self._temporary, self._path)

    def _abort(self) -> None:
        self._file.close()
        self._raw.close()
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number else " ".join(str(error).split())
            raise NgtrainError(f"cannot write {self._name}: {reason}") from error

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is not None:
            self._abort()
            return
        try:
            self._finish()
        except BaseException:
            self._abort()
            raise


class _OutputFile(io.FileIO):
    """A file that does not raise errors of writing before it is asked for them.

    The library for HDF5 does not survive that, for example that the disk is full: it tries again
    when the program ends, and crashes.
    """

    _error: OSError | None = None

    def write(self, data) -> int:
        rest = memoryview(data).cast("B")
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = self._error or error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            super().truncate(size)
        except OSError as error:
            self._error = self._error or error
        return size

    def check(self) -> None:
        """Raise OSError if something could not be written."""
        if self._error is not None:
            raise self._error
