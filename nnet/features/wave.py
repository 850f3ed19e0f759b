"""Recordings as values of tables: WAVE, and outside of archives whatever libsndfile reads.

Samples are on the scale of 16-bit integers, as everywhere in Kaldi.
"""

import io
import logging
import wave
from dataclasses import dataclass

import numpy as np

from nnet.features.audio import decode, open_audio
from nnet.features.riff import is_wave, read_wave
from nnet.io.tokens import Holder, Reader, Writer

log = logging.getLogger("ngtrain")


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
        """Duration in seconds."""
        return self.samples.shape[1] / self.sample_rate


def _read(reader: Reader) -> Wave:
    stream = reader.stream
    embedded = stream.is_archive or stream.tell() > 0
    is_riff = is_wave(stream.peek(12))
    file = read_wave(stream, embedded) if is_riff else open_audio(stream)
    return Wave(*decode(stream, file, embedded))


def _write(writer: Writer, recording: Wave) -> None:
    samples = np.rint(recording.samples)
    clipped = np.clip(samples, -32768, 32767)
    if not np.array_equal(samples, clipped):
        count = int((samples != clipped).sum())
        log.warning("%s: clipping %d samples", writer.stream.place, count)
    contents = io.BytesIO()
    with wave.open(contents, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(recording.sample_rate)
        file.writeframes(clipped.T.astype("<i2").tobytes())
    writer.raw(contents.getvalue())


WAVE = Holder(_read, _write, has_binary_form=False)
