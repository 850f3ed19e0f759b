"""Examples in an HDF5 file (`h5:FILE`), for reading in random order.

    /records   uint8, the examples as they stand in a binary archive, keys and all, without gaps
    /index     for each example its size, the size of its key, and the number of its layout
    /layouts   the layouts, a row for each

The input frames stay as they are compressed. What an archive lacks is the index: where an example
lies is known without looking at those before it, so that examples can be drawn from all over the
file, and nothing has to be parsed. `/records` read as a whole is the archive.

What HDF5 itself keeps about the datasets is written with checksums, which the library has since
version 1.10. In files without them it may follow damage without end: such files are not opened.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.example_blocks import ExampleBlock, distinct, records_of
from nnet.io.example_layout import Layout, LayoutTable
from nnet.io.streams import temporary_name

FORMAT = b"ngtrain examples 2"

# The first bytes of a file, and the least version of its superblock that has checksums.
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHECKSUMMED = 2

# Bytes that are written together, and rows of the chunks of the datasets.
_WRITE_SIZE = 1 << 20
_CHUNK = {"records": _WRITE_SIZE, "index": 4096, "layouts": 16}
# Examples that are read together, in order.
_TOGETHER = 2048
# The same for shuffling: enough that reading is fast, and few, since these come from one place.
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


def store_path(specifier: str) -> str | None:
    """The file that `h5:FILE` names; None for other specifiers.

    Raises:
        NgtrainError: this is not the name of a file.
    """
    if not specifier.startswith("h5:"):
        return None
    path = specifier[3:]
    if path in ("", "-") or "|" in path or path != path.strip():
        raise NgtrainError(f"expected h5:FILE, a regular file and no pipe, got '{specifier}'")
    return path


class ExampleStore:
    """An HDF5 file of examples, open for reading; a context manager.

    Raises:
        NgtrainError: the file is missing, damaged, or something else than examples.
    """

    def __init__(self, path: str):
        self.path = path
        self.layouts = LayoutTable(path)
        with contextlib.ExitStack() as stack, self._errors():
            self._file_size = os.stat(path).st_size
            self._check_version()
            import h5py  # slow to import, and only needed here

            # No cache of chunks: what is read is copied once, from where the file is mapped.
            self._file = stack.enter_context(h5py.File(path, "r", locking=False, rdcc_nbytes=0))
            if np.bytes_(self._file.attrs.get("format", b"")) != FORMAT:
                raise NgtrainError(f"{path}: an HDF5 file, but not of examples")
            self._records = self._dataset("records", np.dtype("u1"))
            self._index = self._dataset("index", _INDEX)[()]
            numbers = [self.layouts.number(layout) for layout in self._read_layouts()]
            self._end = self._check_index(numbers)
            stack.pop_all()

    def __len__(self) -> int:
        return len(self._index)

    def read(self, begin: np.ndarray, end: np.ndarray) -> ExampleBlock:
        """The examples from begin[i] up to end[i], for one i after the other."""
        first = self._end[begin] - self._index["size"][begin]
        last = self._end[end - 1]
        place = np.cumsum(last - first)
        data = np.empty(place[-1], np.uint8)
        with self._errors():
            for i, j, k in zip(first.tolist(), last.tolist(), place.tolist(), strict=True):
                self._records.read_direct(data, np.s_[i:j], np.s_[k - (j - i) : k])
        index = np.concatenate(
            [self._index[i:j] for i, j in zip(begin.tolist(), end.tolist(), strict=True)]
        )
        record_end = np.cumsum(index["size"], dtype=np.int64)
        record_begin = record_end - index["size"]
        body = record_begin + index["key_size"] + 1
        records = records_of(record_begin, body, record_end, index["layout"])
        block = ExampleBlock(self.layouts, [data.data], records)
        if (data[body - 1] != ord(" ")).any() or not block.is_consistent():
            raise self._damaged("the examples are not of the layouts that it says they have")
        return block

    def _check_version(self) -> None:
        """Raise NgtrainError or ValueError unless this is HDF5 with checksums."""
        with open(self.path, "rb") as file:
            start = file.read(len(_SIGNATURE) + 1)
        if not start.startswith(_SIGNATURE):
            raise ValueError("its first bytes are others")
        if start[-1] < _CHECKSUMMED:
            raise NgtrainError(f"{self.path}: an HDF5 file without checksums: make it once more")

    def _dataset(self, name: str, dtype: np.dtype):
        """A dataset (n,) of bytes that are all in this very file, so that its size is no lie."""
        import h5py

        dataset = self._file.get(name)
        if (
            not isinstance(dataset, h5py.Dataset)
            or not isinstance(self._file.get(name, getlink=True), h5py.HardLink)
            or dataset.dtype != dtype
            or dataset.ndim != 1
            or dataset.is_virtual
            or dataset.external
            or dataset.id.get_create_plist().get_nfilters()
        ):
            raise self._damaged(f"no plain dataset /{name} of type {dtype}")
        size = len(dataset) * dtype.itemsize
        if not size <= dataset.id.get_storage_size() <= self._file_size:
            raise self._damaged(f"/{name} is said to have {size} bytes, which are not there")
        return dataset

    def _read_layouts(self) -> Iterator[Layout]:
        for row in self._dataset("layouts", _LAYOUT)[()].tolist():
            layout = Layout(bool(row[0]), row[1], row[2].decode("latin-1"), *row[3:])
            parts = (
                layout.num_frames,
                layout.num_rows * layout.num_cols,
                layout.num_cols,
                layout.left_context,
                layout.right_context,
                layout.spk_dim,
            )
            if (
                layout.matrix not in ("CM", "CM2", "CM3")
                or layout.num_frames < 1
                or min(parts) < 0
                or max(parts) > self._file_size
            ):
                raise self._damaged(f"impossible {layout}")
            yield layout

    def _check_index(self, numbers: list[int]) -> np.ndarray:
        """Where in /records each example ends, if what /index says is possible."""
        size, key_size, layout = (self._index[name].astype(np.int64) for name in _INDEX.names)
        end = np.cumsum(size)
        if len(size) and (layout.min() < 0 or layout.max() >= len(numbers)):
            raise self._damaged("there are examples of layouts that it does not have")
        simple = np.array([known.simple for known in self.layouts], bool)[layout]
        fixed = np.array(
            [len(known.prefix) + known.dtype.itemsize for known in self.layouts], np.int64
        )
        labels = size - (key_size + 1 + fixed[layout])
        if (
            len(numbers) != len(set(numbers))
            or (key_size < 1).any()
            or not np.where(simple, labels == 0, (labels > 0) & (labels % 5 == 0)).all()
            or (end[-1] if len(end) else 0) != len(self._records)
        ):
            raise self._damaged("the sizes of its examples do not add up")
        return end

    def _damaged(self, reason: str) -> NgtrainError:
        return NgtrainError(f"{self.path}: damaged: {reason}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What the library for HDF5 finds wrong, in one line."""
        try:
            yield
        except FileNotFoundError as error:
            raise NgtrainError(f"cannot open {self.path}: {error.strerror}") from error
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise NgtrainError(f"{self.path}: damaged, or no HDF5 file: {reason}") from error

    def __enter__(self) -> ExampleStore:
        return self

    def __exit__(self, *exception) -> None:
        with contextlib.suppress(RuntimeError, OSError):
            self._file.close()


def read_store(path: str) -> Iterator[ExampleBlock]:
    """The examples of a store in order, in blocks."""
    with ExampleStore(path) as store:
        for begin in range(0, len(store), _TOGETHER):
            yield store.read(np.array([begin]), np.array([min(begin + _TOGETHER, len(store))]))


def read_store_shuffled(
    path: str, pool_size: int, rng: np.random.Generator
) -> Iterator[ExampleBlock]:
    """The examples of a store in random order, in blocks.

    Groups of neighbours are drawn from all over the file until there are `pool_size` examples, and
    these are shuffled; then come the next.

    Args:
        pool_size: 0 for all examples at once, which makes every order equally likely.
    """
    with ExampleStore(path) as store:
        first = rng.permutation(-(-len(store) // _GROUP)) * _GROUP
        num_groups = -(-pool_size // _GROUP) or len(first)
        for i in range(0, len(first), max(num_groups, 1)):
            begin = first[i : i + num_groups]
            pool = store.read(begin, np.minimum(begin + _GROUP, len(store)))
            yield pool.take(rng.permutation(len(pool)))


class StoreWriter:
    """Writes blocks of examples to an HDF5 file, which appears when the context ends without error.

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
            self._records = self._create("records", np.dtype("u1"))

    def _create(self, name: str, dtype: np.dtype):
        return self._file.create_dataset(
            name, (0,), dtype, maxshape=(None,), chunks=(_CHUNK[name],)
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
        if self._num_waiting >= _WRITE_SIZE:
            self._flush()

    def _flush(self) -> None:
        with self._errors():
            _append(self._records, np.frombuffer(b"".join(self._waiting), np.uint8))
            self._raw.check()
        self._waiting, self._num_waiting = [], 0

    def _finish(self) -> None:
        self._flush()
        layouts = np.zeros(len(list(self._layouts)), _LAYOUT)
        for row, layout in zip(layouts, self._layouts, strict=True):
            for name in _LAYOUT.names:
                row[name] = getattr(layout, name)
        with self._errors():
            index = np.concatenate([np.empty(0, _INDEX), *self._index])
            _append(self._create("index", _INDEX), index)
            _append(self._create("layouts", _LAYOUT), layouts)
            self._file.attrs["format"] = np.bytes_(FORMAT)
            self._file.close()
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
    """A file that keeps it to itself when it cannot be written, until it is asked.

    The library for HDF5 does not survive that, for example that the disk is full: it tries again
    when the program ends, and crashes.
    """

    _error: OSError | None = None

    def write(self, data) -> int:
        rest = memoryview(data).cast("B")
        with self._remembering():
            while rest:
                rest = rest[super().write(rest) :]
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        with self._remembering():
            super().truncate(size)
        return size

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error

    def check(self) -> None:
        """Raises OSError if something could not be written."""
        if self._error is not None:
            raise self._error


def _append(dataset, values: np.ndarray) -> None:
    size = len(dataset)
    dataset.resize((size + len(values),))
    dataset[size:] = values
