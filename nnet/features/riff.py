"""WAVE files, read by their chunks and with their sizes corrected (Kaldi feat/wave-reader.cc).

The samples are those of the chunk `data`. Its size counts, not that of the RIFF chunk around it,
which recorders and editors often get wrong; where its size was not known when the header was
written, samples go on to the end of the file. Decoding is left to libsndfile, which gets the same
chunks with true sizes.
"""

import io
import logging
import struct

from nnet.features.audio import MOST_BYTES, copy_bytes, unreadable
from nnet.io.streams import PIECE, InputStream

log = logging.getLogger("ngtrain")

_FORMS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
# A program that writes to a pipe does not know the size and claims nearly 2^31 or 2^32, or zero.
_LARGEST_SIZE = 0x7FFF0000
_IN_DS64 = 0xFFFFFFFF
_MOST_FORMAT = 1 << 16  # bytes of the chunks that describe the samples


def is_wave(beginning: bytes) -> bool:
    """True if 12 bytes are the beginning of a WAVE file."""
    return beginning[:4] in _FORMS and beginning[8:12] in (b"WAVE", b"")


def read_wave(stream: InputStream, embedded: bool) -> io.BytesIO:
    """Read a WAVE file and return it with sizes that are true.

    Args:
        embedded: whether it stands in an archive. There it ends where its header says.
    Raises:
        NgtrainError: it is cut short, has no samples, or does not say where it ends but has to.
    """
    start = stream.tell()
    form, order, riff_size, chunks, data_size = _read_header(stream)
    end = start + 8 + riff_size
    is_known = _is_known(data_size, chunks)
    if embedded and data_size == 0 and end == stream.tell():
        is_known = True  # a recording without samples
    if embedded and not is_known:
        raise unreadable(
            stream, "its header does not say how long it is: such WAVE needs a file of its own"
        )
    header = _header(form, order, chunks)
    contents = io.BytesIO(header)
    contents.seek(len(header))
    found = copy_bytes(stream, contents, data_size if is_known else MOST_BYTES + 1)
    if is_known and found < data_size:
        raise unreadable(stream, f"truncated: {data_size} bytes of samples expected, {found} found")
    for place, size in (4, len(header) - 8 + found), (len(header) - 4, found):
        contents.seek(place)
        contents.write(struct.pack(f"{order}I", size))
    contents.seek(0)
    if is_known:
        _pass_over_rest(stream, order, data_size, end, riff_size)
        if not embedded and stream.peek(1):
            log.warning("%s: more follows the recording, and is not read", stream.place)
    return contents


def claimed_duration(stream: InputStream) -> float:
    """Read the duration in seconds in the header of a WAVE file, 0 if it does not say.

    Raises:
        NgtrainError: it is cut short, or there are no samples.
    """
    _, order, _, chunks, data_size = _read_header(stream)
    description = chunks[b"fmt "]
    rate = struct.unpack_from(f"{order}I", description, 8)[0] if len(description) >= 12 else 0
    return data_size / rate if rate > 0 and _is_known(data_size, chunks) else 0.0


def _read_header(stream: InputStream) -> tuple[bytes, str, int, dict[bytes, bytes], int]:
    """Read up to the samples: form, order of bytes, size of RIFF, chunks, and size of `data`."""
    start = _exactly(stream, 12)
    form, order = start[:4], ">" if start[:4] == b"RIFX" else "<"
    riff_size = struct.unpack(f"{order}I", start[4:8])[0]
    chunks: dict[bytes, bytes] = {}
    begin = stream.tell()
    while True:
        name, size = struct.unpack(f"{order}4sI", _exactly(stream, 8))
        if name == b"data":
            break
        if not _is_name(name) or stream.tell() - begin > MOST_BYTES:
            raise unreadable(stream, "a WAVE file without samples: no chunk 'data'")
        if name in (b"fmt ", b"fact", b"ds64"):
            if not 4 <= size <= _MOST_FORMAT or (name == b"ds64" and size < 16):
                raise unreadable(stream, f"a WAVE file with {size} bytes in '{name.decode()}'")
            chunks[name] = _exactly(stream, size)
        else:
            _pass_over(stream, size)
        # Chunks begin at even places, which some programs do not know.
        if size % 2 and stream.peek(4) not in (b"data", b"fmt ", b"fact", b"LIST"):
            _pass_over(stream, 1)
    if b"fmt " not in chunks:
        raise unreadable(stream, "a WAVE file without 'fmt ' before 'data'")
    if size == _IN_DS64 and b"ds64" in chunks:
        riff_size, size = struct.unpack_from("<QQ", chunks[b"ds64"])
    return form, order, riff_size, chunks, size


def _is_known(data_size: int, chunks: dict[bytes, bytes]) -> bool:
    """True if the size of the samples was known when the header was written."""
    return 0 < data_size < _LARGEST_SIZE or (data_size > 0 and b"ds64" in chunks)


def _header(form: bytes, order: str, chunks: dict[bytes, bytes]) -> bytes:
    """Make a header up to the samples, for sizes to be put into."""
    parts = [b"RIFX" if form == b"RIFX" else b"RIFF", bytes(4), b"WAVE"]
    for name in b"fmt ", b"fact":
        if name in chunks:
            value = chunks[name]
            parts += [name, struct.pack(f"{order}I", len(value)), value, bytes(len(value) % 2)]
    return b"".join([*parts, b"data", bytes(4)])


def _pass_over_rest(
    stream: InputStream, order: str, data_size: int, end: int, riff_size: int
) -> None:
    """Go from the end of the samples to that of the recording, over chunks that may follow."""
    data_end = stream.tell()
    if data_size % 2 and stream.peek(1) == b"\0":
        _pass_over(stream, 1)
    while stream.tell() + 8 <= end < data_end + _LARGEST_SIZE:
        following = stream.peek(8)
        if len(following) < 8 or not _is_name(following[:4]):
            break
        size = struct.unpack(f"{order}I", following[4:])[0]
        if stream.tell() + 8 + size > end:
            break
        _pass_over(stream, 8 + size + (size % 2 and stream.tell() + 8 + size < end))
    if abs(stream.tell() - end) > 1 and 0 < riff_size < _LARGEST_SIZE:
        log.warning(
            "%s: the size in its header is wrong: by that it ends at byte %d, but its samples end "
            "at byte %d; all of them were read",
            *(stream.place, end, data_end),
        )


def _is_name(name: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in name)


def _exactly(stream: InputStream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise unreadable(stream, "truncated: the header of a WAVE file is cut short")
    return bytes(data)


def _pass_over(stream: InputStream, size: int) -> None:
    while size > 0 and (piece := stream.read(min(size, PIECE))):
        size -= len(piece)
    if size:
        raise unreadable(stream, "truncated: a WAVE file ends within a chunk")
