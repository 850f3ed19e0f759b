"""Samples of recordings in any format that libsndfile reads, from files, archives and pipes.

What a header claims is not believed: samples are decoded until there are no more of them, and one
recording may have MOST_BYTES and MOST_SAMPLES, so that one without an end takes no more memory.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.kinds import FileKind, kind_of
from nnet.io.streams import PIECE, InputStream

MOST_BYTES = 1 << 31
"""Limit of a recording as it is stored; the headers of most WAVE files cannot say more."""
MOST_SAMPLES = 1 << 30
"""Limit of a recording, all channels together: 18 hours at 16 kHz, 3 hours of stereo at 48 kHz."""

FULL_SCALE = np.float32(32768.0)
"""The sample that libsndfile scales to 1."""

_MOST_RATE = 1_000_000  # Hz
_LONGEST_HEADER = 1 << 20  # bytes
_BLOCK = 1 << 20  # samples decoded at a time
# Beginnings of recordings; only by these can a pipe without an end be refused.
_BEGINNINGS = re.compile(
    rb"fLaC|OggS|FORM|\.snd|dns\.|caff|riff|NIST_1A|Creative Voice File|ID3|\xff[\xe0-\xff]"
)
# Formats in which a recording says where it ends, so that others may follow it in an archive.
_KNOW_THEIR_END = ("FLAC", "OGG", "AIFF", "AU", "CAF")
_LENGTH_UNKNOWN = (1 << 63) - 1
_TOO_LARGE = re.compile(r"(\d+) \(should be (\d+)\)")
_SPHERE_LENGTH = re.compile(rb"NIST_1A.*^sample_count -i (\d{1,18})\b", re.DOTALL | re.MULTILINE)


class View:
    """The rest of a regular file, as a file of its own that can be sought in."""

    def __init__(self, stream: InputStream, size: int):
        self._stream = stream
        self._start = stream.tell()
        self._size = size - self._start
        self._position = 0
        self.error: Exception | None = None  # while reading; libsndfile's callbacks cannot raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, as in io.IOBase."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the place, from the start of the view."""
        return self._position

    def readinto(self, buffer) -> int:
        """Fill a buffer as far as the file goes; returns the number of bytes."""
        wanted = min(len(buffer), max(0, self._size - self._position))
        try:
            self._stream.seek(self._start + self._position)
            data = self._stream.read(wanted)
        except Exception as error:
            self.error = self.error or error
            return 0
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_audio(stream: InputStream) -> View | io.BytesIO:
    """Make the rest of a stream a file that can be sought in; a pipe is read into memory.

    Raises:
        NgtrainError: an archive that is read from its beginning; or a pipe or a device that does
            not begin as audio does, or has no end.
    """
    beginning, size = stream.peek(512), stream.size()
    if (stream.is_archive or size is None) and not _BEGINNINGS.match(beginning):
        raise refusal(stream, beginning)
    if stream.is_archive:
        raise unreadable(
            stream,
            "only WAVE can be read from an archive without its script file (scp:); other formats "
            "do not say where the next recording begins",
        )
    if size is not None:
        return View(stream, size)
    contents = io.BytesIO()
    copy_bytes(stream, contents, MOST_BYTES + 1)
    contents.seek(0)
    return contents


def copy_bytes(stream: InputStream, target: io.BytesIO, most: int) -> int:
    """Copy as many bytes as there are, at most so many; returns how many there were.

    Raises:
        NgtrainError: they are more than MOST_BYTES.
    """
    count = 0
    while count < most and (piece := stream.read(min(PIECE, most - count))):
        count += len(piece)
        if count > MOST_BYTES:
            raise unreadable(stream, f"more than {MOST_BYTES >> 20} MiB, or without an end")
        target.write(piece)
    return count


def decode(stream: InputStream, file: View | io.BytesIO, embedded: bool) -> tuple[np.ndarray, int]:
    """Decode samples (channels, frames) float32, on the scale of 16-bit integers, and their rate.

    Args:
        stream: where `file` comes from, for messages.
        embedded: whether other recordings follow in the same file.
    Raises:
        NgtrainError: no audio, cut short, too long, or with a sample that is NaN or infinite.
    """
    beginning = file.getvalue()[:1024] if isinstance(file, io.BytesIO) else stream.peek(1024)
    with _opened(stream, file, beginning) as sound:
        if embedded and sound.format not in (*_KNOW_THEIR_END, "WAV", "WAVEX"):
            raise unreadable(
                stream,
                f"{sound.format} in an archive does not say where it ends: "
                "put it in a file of its own, or use WAVE or FLAC",
            )
        samples = _samples(stream, sound, embedded, beginning)
        rate = sound.samplerate
    if isinstance(file, View) and file.error:
        raise file.error
    if not 0 < rate <= _MOST_RATE:
        raise unreadable(stream, f"a sampling rate of {rate} Hz")
    return samples, rate


def read_header(stream: InputStream) -> tuple[int, int, str, int]:
    """Read a header: sampling rate (Hz), number of channels, coding, and samples of each channel.

    The samples are 0 if it does not say; those of WAVE are for riff.py to know.
    Raises:
        NgtrainError: no audio.
    """
    beginning = stream.peek(_LONGEST_HEADER)
    with _opened(stream, io.BytesIO(beginning), beginning) as sound:
        num_samples = _claimed_frames(sound, beginning)
        return sound.samplerate, sound.channels, sound.subtype_info, num_samples


@contextlib.contextmanager
def _opened(stream: InputStream, file: View | io.BytesIO, beginning: bytes) -> Iterator:
    """Open a file by libsndfile, whose errors become ours."""
    import soundfile  # brings a shared library; not everybody who reads tables reads audio

    try:
        with soundfile.SoundFile(file) as sound:
            yield sound
    except soundfile.SoundFileError as error:
        if isinstance(file, View) and file.error:
            raise file.error from error
        said = getattr(error, "error_string", str(error)).rstrip(".")
        raise refusal(stream, beginning, said) from error


def _samples(stream, sound, embedded: bool, beginning: bytes) -> np.ndarray:
    """Decode all samples; memory is allocated as they come, not as the header says."""
    if embedded and sound.frames == _LENGTH_UNKNOWN:
        raise unreadable(stream, "its header does not say how long it is, and others follow it")
    blocks: list[np.ndarray] = []
    frames = 0
    size = max(1, _BLOCK // sound.channels)
    while len(block := sound.read(size, dtype="float32", always_2d=True)):
        frames += len(block)
        if frames * sound.channels > MOST_SAMPLES:
            raise unreadable(stream, f"more than {MOST_SAMPLES} samples")
        blocks.append(block)
    if frames < (expected := _claimed_frames(sound, beginning)):
        raise unreadable(stream, f"truncated: {expected} samples expected, {frames} found")
    if any(int(claimed) > int(true) for claimed, true in _TOO_LARGE.findall(sound.extra_info)):
        raise unreadable(stream, f"truncated: {frames} samples found, its header has more")
    samples = np.empty((sound.channels, frames), np.float32)
    if blocks:
        np.concatenate([block.T for block in blocks], axis=1, out=samples)
    samples *= FULL_SCALE
    if not np.isfinite(samples).all():
        channel, frame = np.argwhere(~np.isfinite(samples))[0]
        raise unreadable(
            stream, f"a sample that is NaN or infinite: number {frame} of channel {channel}"
        )
    return samples


def _claimed_frames(sound, beginning: bytes) -> int:
    """Return the number of frames in the header, 0 if it says nothing."""
    sphere = _SPHERE_LENGTH.match(beginning)  # which libsndfile does not compare
    if sphere:
        return int(sphere[1])
    return 0 if sound.frames == _LENGTH_UNKNOWN else sound.frames


def unreadable(stream: InputStream, reason: str) -> NgtrainError:
    """Make the error for a recording, with its file and its key."""
    return NgtrainError(f"{stream.place}: {reason}")


def refusal(stream: InputStream, beginning: bytes, said: str = "") -> NgtrainError:
    """Make the error for a file that is no audio, with its kind, or what libsndfile said of it."""
    kind = kind_of(beginning)
    if is_shortened(beginning):
        what = stream.called(_SHORTENED)
    elif kind is None or (said and kind.form == "recording"):
        what = said or "its format is not recognised"
    else:
        what = stream.called(kind)
    return unreadable(stream, f"no audio that can be read: {what}")


_SHORTENED = FileKind(
    "a SPHERE recording that is compressed by shorten", "use `sph2pipe -f wav -p {} |`", True
)


def is_shortened(header: bytes) -> bool:
    """True for the header of a NIST SPHERE file that is compressed by shorten."""
    coding = re.search(rb"^sample_coding -s\d+ (\S+)", header, re.MULTILINE)
    return header.startswith(b"NIST_1A") and coding is not None and b"shorten" in coding[1]
