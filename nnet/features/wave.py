"""Recordings as values of tables: RIFF WAVE, and in files of their own whatever libsndfile reads.

Worked from Kaldi's feat/wave-reader.cc. Samples are on the scale of 16-bit integers, as everywhere
in Kaldi.
"""

import io
import logging
import struct
import wave
from dataclasses import dataclass

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.holders import Holder
from nnet.io.streams import InputStream
from nnet.io.tables import random_access_table, table_writer
from nnet.io.text import split_words, text_lines
from nnet.io.tokens import Reader, Writer

logger = logging.getLogger("ngtrain")

# A program that writes to a pipe does not know the size and claims zero or nearly 2^31 or 2^32.
_LARGEST_SIZE = 0x7FFF0000
_FULL_SCALE = 32768.0
# Of a recording for each byte, at most: what FLAC makes of silence. A header may claim more.
_SAMPLES_PER_BYTE = 512


@dataclass(frozen=True)
class Wave:
    """A recording.

    Attributes:
        samples: (channels, samples) float32 on the scale of 16-bit integers.
        sample_rate: in Hz.
    """

    samples: np.ndarray
    sample_rate: int

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.samples.shape[1] / self.sample_rate


def _read(reader: Reader) -> Wave:
    import soundfile  # brings a shared library; not everybody who reads tables reads audio

    stream = reader.stream
    contents = _read_contents(stream)
    try:
        with soundfile.SoundFile(io.BytesIO(contents)) as file:
            if file.frames * file.channels > _SAMPLES_PER_BYTE * len(contents):
                raise stream.fail(f"{file.frames} samples in {len(contents)} bytes")
            samples = file.read(file.frames, dtype="float32", always_2d=True)
            sample_rate = file.samplerate
    except soundfile.SoundFileError as error:
        raise stream.fail(f"no audio that can be read: {str(error).rstrip('.')}") from error
    return Wave(np.ascontiguousarray(samples.T) * np.float32(_FULL_SCALE), sample_rate)


def _read_contents(stream: InputStream) -> bytes:
    """The bytes of one recording, which in an archive end where the next key begins."""
    start = stream.peek(8)
    if not start:
        raise stream.fail("truncated: expected a recording, found the end")
    if start[:4] != b"RIFF":
        return stream.read()
    size = struct.unpack("<I", start[4:8])[0] if len(start) == 8 else 0
    if 0 < size < _LARGEST_SIZE:
        return bytes(stream.read_exact(8 + size))
    return _with_true_sizes(stream.read())


def _with_true_sizes(contents: bytes) -> bytes:
    """A WAVE file whose sizes were not known when its header was written."""
    data = contents.find(b"data", 12, len(contents) - 4)
    if data < 0:
        return contents
    sizes = struct.pack("<I", len(contents) - 8), struct.pack("<I", len(contents) - data - 8)
    return b"RIFF" + sizes[0] + contents[8 : data + 4] + sizes[1] + contents[data + 8 :]


def _write(writer: Writer, recording: Wave) -> None:
    samples = np.rint(recording.samples)
    clipped = np.clip(samples, -32768, 32767)
    if not np.array_equal(samples, clipped):
        logger.warning("clipping %d samples", int((samples != clipped).sum()))
    contents = io.BytesIO()
    with wave.open(contents, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(recording.sample_rate)
        file.writeframes(clipped.T.astype("<i2").tobytes())
    writer.raw(contents.getvalue())


WAVE = Holder("recording", _read, _write, has_binary_form=False)


def extract_segments(
    wav_rspecifier: str,
    segments_rxfilename: str,
    wav_wspecifier: str,
    min_segment_length: float,
    max_overshoot: float,
) -> tuple[int, int]:
    """Cut recordings as a segments file says (Kaldi featbin/extract-segments.cc).

    Lines of that file are `segment recording start end [channel]`, times in seconds, an end of -1
    being that of the recording. Lines that cannot be followed are passed over with a warning.

    Args:
        min_segment_length: shorter segments are passed over (seconds).
        max_overshoot: segments that end later than this after the recording are passed over.
    Returns:
        The numbers of segments written and of lines.
    """
    num_lines = num_done = 0
    with (
        random_access_table(wav_rspecifier, WAVE) as recordings,
        table_writer(wav_wspecifier, WAVE) as output,
    ):
        for text in text_lines(segments_rxfilename):
            num_lines += 1
            try:
                segment, recording, start, end, channel = _parse_segment(text)
                if recording not in recordings:
                    raise ValueError(f"no recording {recording}")
                cut = _cut(
                    recordings[recording], start, end, channel, min_segment_length, max_overshoot
                )
            except ValueError as reason:
                logger.warning("segment passed over: %s: '%s'", reason, text)
                continue
            output.write(segment, cut)
            num_done += 1
    return num_done, num_lines


def _parse_segment(line: str) -> tuple[str, str, float, float, int | None]:
    words = split_words(line)
    if len(words) not in (4, 5):
        raise ValueError("expected 4 or 5 words")
    start, end = float(words[2]), float(words[3])
    channel = int(words[4]) if len(words) == 5 else None
    if not (start >= 0 and (end == -1 or end > start)) or (channel is not None and channel < 0):
        raise ValueError("empty or invalid segment")
    return words[0], words[1], start, end, channel


def _cut(
    recording: Wave,
    start: float,
    end: float,
    channel: int | None,
    min_length: float,
    max_overshoot: float,
) -> Wave:
    length = recording.duration
    if start > length or end > length + max_overshoot:
        raise ValueError(f"outside of the recording, which has {length:g} seconds")
    if end < 0 or end > length:
        end = length
    if end - start < min_length:
        raise ValueError("too short")
    num_channels = len(recording.samples)
    if channel is None:
        if num_channels > 1:
            raise NgtrainError(
                f"a recording has {num_channels} channels: the segments file must say which"
            )
        channel = 0
    if channel >= num_channels:
        raise ValueError(f"no channel {channel} in a recording of {num_channels}")
    first, last = (int(time * recording.sample_rate + 0.5) for time in (start, end))
    return Wave(recording.samples[channel : channel + 1, first:last], recording.sample_rate)
