"""Forms in which objects are stored as values of tables (Kaldi util/kaldi-holder-inl.h)."""

import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nnet.io.matrices import CompressedMatrix
from nnet.io.numbers import natural
from nnet.io.streams import InputStream
from nnet.io.text import decode, encode
from nnet.io.tokens import Holder, Reader, Writer

# Parts of a posterior in binary form: numbers, each with its size before it.
_SIZE = struct.Struct("<bi")
_PAIR = struct.Struct("<bibf")
_ONE = np.void(_SIZE.pack(4, 1))
_ENTRY = np.dtype(
    [
        ("count", "V5"),
        ("index_size", "i1"),
        ("index", "<i4"),
        ("weight_size", "i1"),
        ("weight", "<f4"),
    ]
)
_INTEGER = np.dtype([("size", "i1"), ("value", "<i4")])


def select_range(value, text: str, stream: InputStream):
    """Take the part of a matrix or vector that a line of a script file asks for in brackets.

    That is `first:last` of the rows, then perhaps `,first:last` of the columns; inclusive, `:` for
    all. As in Kaldi, the last row may be up to 3 past the end.
    """
    if isinstance(value, CompressedMatrix):
        value = value.decompress()
    if not isinstance(value, np.ndarray):
        raise stream.fail(f"no range [{text}] can be taken of this kind of object")
    slices = []
    parts = text.split(",")
    tolerance = 3
    for part, size in zip(parts, value.shape, strict=False):
        try:
            first, last = map(natural, part.split(":")) if part != ":" else (0, size - 1)
        except ValueError:
            raise stream.fail(f"bad range [{text}]") from None
        if not first <= last < size + tolerance or first >= size:
            raise stream.fail(f"range [{text}] is outside of an object of shape {value.shape}")
        slices.append(slice(first, min(last + 1, size)))
        tolerance = 0
    if len(parts) > value.ndim:
        raise stream.fail(f"range [{text}] of an object of shape {value.shape}")
    return value[tuple(slices)]


def _line(reader: Reader) -> list[bytes]:
    """Read the words of the rest of a line, which must end in a newline."""
    line = reader.stream.readline()
    if not line.endswith(b"\n"):
        raise reader.fail("truncated: a line without its end")
    return line.split()


def _one_word(reader: Reader) -> str:
    words = _line(reader)
    if len(words) != 1:
        raise reader.fail(f"expected one word on the line, found {len(words)}")
    return decode(words[0])


def _read_integers(reader: Reader) -> np.ndarray:
    """Read a list of integers as tables hold it: in binary every element has its size before it."""
    if not reader.binary:
        return reader.parse_integers(_line(reader))
    count = _count(reader)
    elements = np.frombuffer(reader.stream.read_exact(5 * count), _INTEGER)
    if not (elements["size"] == 4).all():
        raise reader.fail("expected integers of 4 bytes")
    return elements["value"].copy()


def _write_integers(writer: Writer, values) -> None:
    values = np.asarray(values)
    if writer.binary:
        elements = np.empty(len(values), _INTEGER)
        elements["size"] = 4
        elements["value"] = values
        writer.integer(len(values))
        writer.raw(elements.tobytes())
    else:
        writer.raw("".join([f"{value} " for value in values.tolist()]) + "\n")


def _read_integer_lists(reader: Reader) -> list[np.ndarray]:
    """Read lists of integers: in text each is ended by a semicolon (BasicVectorVectorHolder)."""
    if reader.binary:
        return [_read_integers(reader) for _ in range(_count(reader))]
    lists: list[list[bytes]] = [[]]
    for word in _line(reader):
        if word == b";":
            lists.append([])
        else:
            lists[-1].append(word)
    if lists.pop():
        raise reader.fail("a list of integers without the ; at its end")
    return [reader.parse_integers(words) for words in lists]


def _write_integer_lists(writer: Writer, lists) -> None:
    if writer.binary:
        writer.integer(len(lists))
        for values in lists:
            _write_integers(writer, values)
    else:
        texts = ["".join([f"{value} " for value in np.asarray(v).tolist()]) for v in lists]
        writer.raw("".join([f"{text}; " for text in texts]) + "\n")


def _read_posterior(reader: Reader) -> list[list[tuple[int, float]]]:
    """Read a posterior (Kaldi hmm/posterior.cc, ReadPosterior)."""
    if not reader.binary:
        return _parse_posterior(reader)
    count = _count(reader)
    frames: list[list[tuple[int, float]]] = []
    while len(frames) < count:
        single = _single_entries(reader, count - len(frames))
        frames += single
        if not single:
            frames.append([(reader.integer(), reader.real()) for _ in range(_count(reader))])
    return frames


def _single_entries(reader: Reader, most: int) -> list[list[tuple[int, float]]]:
    """Read the frames that come next, at most so many, as long as they have one entry each.

    Posteriors made of alignments look like that, and are read fast in this way.
    """
    ahead = reader.stream.peek(_ENTRY.itemsize * min(most, 4096))
    entries = np.frombuffer(ahead, _ENTRY, len(ahead) // _ENTRY.itemsize)
    sizes_are_right = (entries["index_size"] == 4) & (entries["weight_size"] == 4)
    is_single = (entries["count"] == _ONE) & sizes_are_right
    num_single = len(entries) if is_single.all() else int(is_single.argmin())
    reader.stream.skip(num_single * _ENTRY.itemsize)
    index, weight = (entries[name][:num_single].tolist() for name in ("index", "weight"))
    return [[entry] for entry in zip(index, weight, strict=True)]


def _count(reader: Reader) -> int:
    count = reader.integer()
    if count < 0:
        raise reader.fail(f"a list of {count} elements")
    return count


def _parse_posterior(reader: Reader) -> list[list[tuple[int, float]]]:
    frames: list[list[tuple[int, float]]] = []
    words = iter(_line(reader))
    for word in words:
        if word != b"[":
            raise reader.fail("expected [ in a posterior (is it an alignment?)")
        frame = []
        for word in words:
            if word == b"]":
                break
            try:
                frame.append((int(word), float(next(words))))
            except (ValueError, StopIteration):
                raise reader.fail("expected a number and its weight in a posterior") from None
        else:
            raise reader.fail("a posterior without its last ]")
        frames.append(frame)
    return frames


def _write_posterior(writer: Writer, frames) -> None:
    if writer.binary:
        writer.integer(len(frames))
        parts = []
        for frame in frames:
            parts.append(_SIZE.pack(4, len(frame)))
            parts += [_PAIR.pack(4, index, 4, weight) for index, weight in frame]
        writer.raw(b"".join(parts))
    else:
        for frame in frames:
            elements = [f"{index} {np.float32(weight):.7g} " for index, weight in frame]
            writer.raw("[ " + "".join(elements) + "] ")
        writer.newline()


def _read_pairs(reader: Reader) -> list[tuple[float, float]]:
    """Read pairs of numbers (Kaldi util/kaldi-holder-inl.h, BasicPairVectorHolder)."""
    if reader.binary:
        count = reader.integer()
        if count < 0:
            raise reader.fail(f"a list of {count} pairs")
        return [(reader.real(), reader.real()) for _ in range(count)]
    words = b" ".join(_line(reader))
    try:
        pairs = [tuple(map(float, pair.split())) for pair in words.split(b";")] if words else []
        return [(first, second) for first, second in pairs]
    except ValueError:
        raise reader.fail("expected pairs of numbers with ; between them") from None


def _write_pairs(writer: Writer, pairs: Iterable[tuple[float, float]]) -> None:
    pairs = list(pairs)
    if writer.binary:
        writer.integer(len(pairs))
    for number, (first, second) in enumerate(pairs):
        if number and not writer.binary:
            writer.raw("; ")
        writer.real(first).real(second)
    writer.newline()


def _basic(parse: Callable[[Reader], Any], format: Callable[[Writer, Any], Any]):
    """Make the form of one number, alone on its line in text."""

    def read(reader: Reader):
        value = parse(reader)
        if not reader.binary and _line(reader):
            raise reader.fail("more than one value on the line")
        return value

    return Holder(read, lambda writer, value: format(writer, value).newline())


def _read_features(reader: Reader) -> np.ndarray:
    features = reader.matrix(np.float32)
    if not np.isfinite(features).all():
        frame, dim = np.argwhere(~np.isfinite(features))[0]
        raise reader.fail(f"NaN or infinity in features: frame {frame}, dimension {dim}")
    return features


MATRIX = Holder(Reader.matrix, Writer.matrix)
# Like MATRIX and VECTOR, but read in single precision even if stored in double.
FLOAT_MATRIX = Holder(lambda reader: reader.matrix(np.float32), Writer.matrix)
FLOAT_VECTOR = Holder(lambda reader: reader.vector(np.float32), Writer.vector)
# Like FLOAT_MATRIX, but NaN and infinity, which would spoil all results, are errors.
FEATURES = Holder(_read_features, Writer.matrix)
COMPRESSED_MATRIX = Holder(Reader.compressed_matrix, Writer.compressed_matrix)
VECTOR = Holder(Reader.vector, Writer.vector)
INTEGERS = Holder(_read_integers, _write_integers)
INTEGER_LISTS = Holder(_read_integer_lists, _write_integer_lists)
REAL_PAIRS = Holder(_read_pairs, _write_pairs)
POSTERIOR = Holder(_read_posterior, _write_posterior)
INTEGER = _basic(Reader.integer, Writer.integer)
REAL = _basic(Reader.real, Writer.real)
TOKEN = Holder(
    _one_word, lambda writer, word: writer.raw(encode(f"{word}\n")), has_binary_form=False
)
TOKENS = Holder(
    lambda reader: list(map(decode, _line(reader))),
    lambda writer, words: writer.raw(encode("".join(f"{word} " for word in words) + "\n")),
    has_binary_form=False,
)
