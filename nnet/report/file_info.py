"""Descriptions of files of any kind and of their contents, in bounded time and memory.

Of archives and lists only the beginning is read, and its size is told; models, which are read as a
whole, may be larger.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from nnet.errors import NgtrainError
from nnet.io.kinds import HEAD_SIZE, kind_of, kind_of_object
from nnet.io.streams import CHUNK, InputStream, open_input, shortened

MOST_SECONDS, MOST_BYTES = 10.0, 1 << 27
"""Limits for archives and lists, of which the beginning is described."""
LIMIT_SECONDS, LIMIT_BYTES = 60.0, 1 << 29
"""Limits for any file; compressed ones count with the size that they have decompressed."""

_UNPACKED = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)  # raised by decompression


def describe(path: str) -> Iterator[str]:
    """Describe a file: its kind, and then its contents, line by line.

    Args:
        path: of a file or a directory, or a pipe as programs read it.
    Raises:
        NgtrainError: it is of no known kind, cannot be read, or is damaged.
    """
    if os.path.isdir(path):
        yield from _directory(Path(path))
        return
    with open_input(path) as stream:
        yield from _contents(InputStream(_Limited(stream), path), path)


def _contents(stream: InputStream, path: str, is_unpacked: bool = False) -> Iterator[str]:
    kind = kind_of(stream.peek(HEAD_SIZE))
    if kind is None:
        raise NgtrainError(f"{shortened(path)}: binary data of no kind that is known here")
    yield kind.name
    try:
        if kind.form == "compressed" and not is_unpacked:
            yield from _unpacked(stream, path, kind.name)
        else:
            yield from _DETAILS.get(kind.form, _nothing)(stream, path)
    except NgtrainError:
        raise
    except Exception as error:  # whatever a library makes of damage
        reason = shortened(str(error)) or type(error).__name__
        raise NgtrainError(f"{shortened(path)}: damaged: {reason}") from error


def _unpacked(stream: InputStream, path: str, name: str) -> Iterator[str]:
    unpack = _UNPACKED.get(name.split()[-1])
    if unpack is not None:
        with unpack(_File(stream)) as file:
            yield from _contents(InputStream(_Limited(file), path), path, is_unpacked=True)


class _File:
    """A stream as a file for the modules that decompress."""

    def __init__(self, stream: InputStream):
        self.read = stream.read

    def seekable(self) -> bool:
        return False


class _Limited:
    """A source of bytes for a stream: within the limits, and damage is an OSError."""

    def __init__(self, file):
        self._file = file
        self._end = time.monotonic() + LIMIT_SECONDS
        self._left = LIMIT_BYTES

    def read(self, size: int) -> bytes:
        if self._left <= 0 or time.monotonic() > self._end:
            raise OSError(
                0, f"more than {LIMIT_BYTES} bytes or {LIMIT_SECONDS:g} seconds are needed"
            )
        try:
            data = self._file.read(min(size, CHUNK))
        except _DAMAGE as error:
            raise OSError(0, f"damaged: {error}") from error
        self._left -= len(data)
        return data

    def close(self) -> None:
        pass


def _nothing(stream: InputStream, path: str) -> Iterator[str]:
    return iter(())


# Models -------------------------------------------------------------------------------------------


def _reader(stream: InputStream):
    from nnet.io.tokens import Reader, read_binary_header

    return Reader(stream, read_binary_header(stream))


def _model(stream: InputStream, path: str) -> Iterator[str]:
    """A transition model, and the network or the Gaussians that follow it."""
    from nnet.hmm.transition_model import TransitionModel
    from nnet.model.acoustic_model import AcousticModel
    from nnet.model.network import Network

    reader = _reader(stream)
    transitions = TransitionModel.read(reader)
    yield f"num-phones {len(transitions.phones)}"
    yield f"num-pdfs {transitions.num_pdfs}"
    yield f"num-transition-states {transitions.num_transition_states}"
    yield f"num-transition-ids {transitions.num_transition_ids}"
    match reader.peek_token():
        case "<Nnet>":
            model = AcousticModel(transitions, Network.read(reader), reader.vector())
            yield "with it a network: an acoustic model of nnet2"
            yield f"num-priors {len(model.priors)}"
            yield from model.network.info().splitlines()
        case "<DIMENSION>":
            reader.expect("<DIMENSION>")
            yield "with it Gaussian mixtures: a model of a GMM system"
            yield f"feature-dim {reader.integer()}"
        case "":
            yield "nothing follows it"
        case token:
            kind = kind_of_object(token.encode() + b" ")
            yield f"with it {kind.name if kind else shortened(token, 60)}"


def _network(stream: InputStream, path: str) -> Iterator[str]:
    from nnet.model.network import Network

    yield from Network.read(_reader(stream)).info().splitlines()


def _tree(stream: InputStream, path: str) -> Iterator[str]:
    from nnet.hmm.tree import ContextDependency

    tree = ContextDependency.read(_reader(stream))
    yield f"num-pdfs {tree.num_pdfs}"
    yield f"context-width {tree.context_width}"
    yield f"central-position {tree.central_position}"


def _topology(stream: InputStream, path: str) -> Iterator[str]:
    from nnet.hmm.topology import HmmTopology

    topology = HmmTopology.read(_reader(stream))
    yield f"num-phones {len(topology.phones)}"
    yield f"num-entries {len(topology.entries)}"


def _transducer(stream: InputStream, path: str) -> Iterator[str]:
    from nnet.decoding.fst import ArrayFst

    fst = ArrayFst.read(stream)
    yield f"num-states {fst.num_states}"
    yield f"num-arcs {len(fst.arcs)}"
    yield f"start {fst.start}"


# Objects and archives of them ---------------------------------------------------------------------


_UNITS = {
    "matrix": "rows",
    "vector": "elements",
    "integers": "integers",
    "posterior": "frames",
    "example": "frames",
}
"""Units in which objects of an archive are counted, by their form."""


def _holder(form: str):
    from nnet.egs.record import EXAMPLE
    from nnet.io import tables

    return {
        "matrix": tables.COMPRESSED_MATRIX,
        "vector": tables.VECTOR,
        "integers": tables.INTEGERS,
        "posterior": tables.POSTERIOR,
        "example": EXAMPLE,
    }[form]


def _size(value) -> tuple[str, int]:
    """Describe what an object has in common with others of its table, and measure its length."""
    from nnet.egs.record import NnetExample

    match value:
        case NnetExample():
            context = f"context {value.left_context} and {value.right_context}"
            dim = f"input-dim {value.input_frames.shape[1] + len(value.spk_info)}"
            return f"{dim}, {context}, frames {value.num_frames}", value.num_frames
        case list():
            return "", len(value)
        case _ if len(value.shape) == 2:
            return f"columns {value.shape[1]}", value.shape[0]
        case _:
            return "", len(value)


def _object(form: str) -> Callable[[InputStream, str], Iterator[str]]:
    def details(stream: InputStream, path: str) -> Iterator[str]:
        value = _holder(form).read(stream)
        if form in ("matrix", "vector"):
            yield f"shape {' by '.join(map(str, value.shape))}"
        else:
            yield f"length {_size(value)[1]}"

    return details


def _archive(stream: InputStream, path: str) -> Iterator[str]:
    """Count the entries of an archive, of one kind, and say what they have in common."""
    from nnet.io.tables import read_key

    start, first, last = time.monotonic(), "", ""
    form, total, longest, common, stopped = "", 0, 0, Counter(), ""
    while (key := read_key(stream)) is not None:
        first, last = first or key, key
        form = form or kind_of_object(stream.peek(HEAD_SIZE)).form
        if form not in _UNITS:
            stopped = ", the first; the others are not looked at"
            common[""] += 1
            break
        stream.key = key
        same, size = _size(_holder(form).read(stream))
        stream.key = ""
        common[same] += 1
        total, longest = total + size, max(longest, size)
        if time.monotonic() - start > MOST_SECONDS or stream.tell() > MOST_BYTES:
            stopped = f", in the first {stream.tell()} bytes"
            break
        if len(common) > 1000:
            raise NgtrainError(f"{shortened(path)}: the entries have nothing in common")
    yield f"entries {common.total()}{stopped}"
    yield f"keys {shortened(first, 100)} to {shortened(last, 100)}"
    if form in _UNITS:
        yield f"{_UNITS[form]} {total}, at most {longest} of an entry"
    for same, count in common.most_common(5):
        if same:
            yield f"{same}: {count} entries"


# The rest -----------------------------------------------------------------------------------------


def _lines(stream: InputStream, path: str) -> Iterator[str]:
    start, count, last, stopped = time.monotonic(), 0, b"", ""
    first = stream.peek(HEAD_SIZE).partition(b"\n")[0]
    while data := stream.read(CHUNK):  # not by lines, of which one may be endless
        count += data.count(b"\n")
        last = (last + data)[-HEAD_SIZE:]
        if time.monotonic() - start > MOST_SECONDS or stream.tell() > MOST_BYTES:
            stopped = f", in the first {stream.tell()} bytes"
            break
    count += not last.endswith(b"\n")
    yield f"lines {count}{stopped}"
    for name, line in ("first", first), ("last", last.rstrip(b"\n").rpartition(b"\n")[2]):
        text = line.decode(errors="replace").strip()
        yield f"{name} {shortened(text, 100)}"


def _recording(stream: InputStream, path: str) -> Iterator[str]:
    """Describe a recording by its header, which may not know how long it is."""
    from nnet.features.audio import read_header
    from nnet.features.riff import claimed_duration, is_wave

    rate, channels, coding, num_samples = read_header(stream)
    yield f"sample-rate {rate}"
    yield f"channels {channels}"
    yield f"coding {coding}"
    duration = claimed_duration(stream) if is_wave(stream.peek(12)) else num_samples / rate
    yield f"duration {duration:.10g} s" if duration else "duration unknown"


def _hdf5(stream: InputStream, path: str) -> Iterator[str]:
    from nnet.egs.store import ExampleStore

    with ExampleStore(path) as store:
        yield f"examples {len(store)}"


_DIRECTORIES = {
    "a data directory": ("utt2spk", "wav.scp"),
    "a directory of examples": ("info/num_archives",),
    "an alignment directory": ("ali.1.gz", "final.mdl"),
    "a directory with a decoding graph": ("HCLG.fst",),
    "a lang directory": ("L.fst", "words.txt"),
    "a directory of a trained system": ("final.mdl",),
}
"""Kinds of directories, by files that they have."""


def _directory(path: Path) -> Iterator[str]:
    names = (
        name for name, files in _DIRECTORIES.items() if all((path / f).exists() for f in files)
    )
    yield next(names, "a directory")
    yield f"files {sum(1 for _ in os.scandir(path))}"


_DETAILS: dict[str, Callable[[InputStream, str], Iterator[str]]] = {
    "model": _model,
    "network": _network,
    "tree": _tree,
    "topology": _topology,
    "transducer": _transducer,
    "archive": _archive,
    "lines": _lines,
    "recording": _recording,
    "hdf5": _hdf5,
    **{form: _object(form) for form in _UNITS},
}
