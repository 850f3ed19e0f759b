"""Augmentation of recordings: other speeds, other levels, noise and rooms.

Signals are float arrays (samples,), on any scale.
"""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from nnet.features.wave import WAVE, Wave
from nnet.io.tables import sequential_table, table_writer

log = logging.getLogger("ngtrain")

Range = tuple[float, float]


def change_speed(signal: np.ndarray, speed: float) -> np.ndarray:
    """Play `signal` at `speed` times its speed: duration, pitch and formants change together.

    Ko, Povey, Peddinti, Khudanpur, "Audio augmentation for speech recognition", Interspeech 2015.
    """
    from scipy.signal import resample_poly

    ratio = Fraction(speed).limit_denominator(100)
    return resample_poly(signal, ratio.denominator, ratio.numerator)


def reverberate(
    signal: np.ndarray, sample_rate: int, time: float, ratio: float, rng: np.random.Generator
) -> np.ndarray:
    """Put `signal` in a room: after the direct sound comes white noise that decays exponentially.

    It decays by 60 dB in `time` seconds; `ratio` is that of the direct sound to it, in dB.
    """
    from scipy.signal import fftconvolve

    seconds = np.arange(1, max(2, int(time * sample_rate))) / sample_rate
    tail = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / time)
    tail *= 10 ** (-ratio / 20) / np.linalg.norm(tail)
    return fftconvolve(signal, np.concatenate(([1.0], tail)))[: len(signal)]


def add_noise(signal: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise `snr` dB below `signal`: white, coloured by one pole drawn at random."""
    from scipy.signal import lfilter

    noise = lfilter([1.0], [1.0, -rng.uniform(-0.2, 0.95)], rng.standard_normal(len(signal)))
    loudness = np.linalg.norm(signal) / max(np.linalg.norm(noise), np.finfo(float).tiny)
    return signal + 10 ** (-snr / 20) * loudness * noise


@dataclass(frozen=True)
class Augmentation:
    """Changes to a recording; of each range a value is drawn for each recording.

    Attributes:
        speed: see `change_speed`.
        reverberation_time, direct_ratio: see `reverberate`; no room if the time is None.
        snr: see `add_noise`; no noise if None.
        volume: factor on the samples; unchanged if None.
        srand: with the recording's key, the seed of all that is drawn.
    """

    speed: float = 1.0
    reverberation_time: Range | None = None
    direct_ratio: Range = (3.0, 15.0)
    snr: Range | None = None
    volume: Range | None = None
    srand: int = 0

    def __call__(self, key: str, recording: Wave) -> Wave:
        """Augment a recording; all of its channels are treated alike."""
        return Wave(
            np.stack([self._channel(key, c, recording.sample_rate) for c in recording.samples]),
            recording.sample_rate,
        )

    def _channel(self, key: str, signal: np.ndarray, sample_rate: int) -> np.ndarray:
        rng = np.random.default_rng([self.srand, zlib.crc32(key.encode("utf-8", "replace"))])
        if self.speed != 1.0:
            signal = change_speed(signal, self.speed)
        if self.reverberation_time:
            time, ratio = rng.uniform(*self.reverberation_time), rng.uniform(*self.direct_ratio)
            signal = reverberate(signal, sample_rate, time, ratio, rng)
        if self.snr:
            signal = add_noise(signal, rng.uniform(*self.snr), rng)
        if self.volume:
            signal = signal * rng.uniform(*self.volume)
        return signal


def augment_recordings(
    wav_rspecifier: str, wav_wspecifier: str, augmentation: Augmentation
) -> tuple[int, int]:
    """Write augmented copies; return their number, and that of those that were made quieter.

    A copy that would not fit into 16 bits is made quieter instead of being clipped.
    """
    largest = 32767.0
    num_done = num_quieter = 0
    with (
        sequential_table(wav_rspecifier, WAVE) as recordings,
        table_writer(wav_wspecifier, WAVE) as output,
    ):
        for key, recording in recordings:
            copy = augmentation(key, recording)
            peak = np.abs(copy.samples).max(initial=0.0)
            if peak > largest:
                copy = Wave(copy.samples * (largest / peak), copy.sample_rate)
                num_quieter += 1
            output.write(key, copy)
            num_done += 1
        lost = recordings.losses
        lost.report(f"no copy of %d of {num_done + lost.count} recordings")
    return num_done, num_quieter
