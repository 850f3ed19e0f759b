"""Mel-frequency cepstra and filter-bank energies, computed by kaldi-native-fbank."""

import logging
import math
import zlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from nnet.errors import NgtrainError
from nnet.features.utterances import Skip, leave_out
from nnet.features.vtln import WarpedFeatures, centre_frequencies
from nnet.features.wave import WAVE, Wave
from nnet.io.losses import Losses
from nnet.io.tables import FLOAT_MATRIX, REAL, Holder, sequential_table, table_writer

log = logging.getLogger("ngtrain")

_MOST_RATE = 1e6  # Hz
_LONGEST_FRAME = 10_000.0  # ms


class SpectralFeatures:
    """A function from recordings to features; the same recording and key give the same features.

    Dither, noise of that many steps of 16-bit audio, is added here and not in kaldi-native-fbank,
    so that it depends on `srand` and the utterance alone and not on how data are split into jobs.

    Args:
        kind: "mfcc" or "fbank".
        dither: standard deviation of the noise.
        allow_downsample, allow_upsample: whether recordings of a higher or a lower sample rate than
            the configured one are resampled, rather than passed over.
        fields: of kaldi-native-fbank's MfccOptions or FbankOptions, its FrameExtractionOptions or
            its MelBanksOptions.
    Raises:
        NgtrainError: options with which there are no features.
    """

    def __init__(
        self,
        kind: str,
        *,
        dither: float = 1.0,
        srand: int = 0,
        allow_downsample: bool = False,
        allow_upsample: bool = False,
        **fields: Any,
    ):
        import kaldi_native_fbank

        self._extractor, self._options = {
            "mfcc": (kaldi_native_fbank.OnlineMfcc, kaldi_native_fbank.MfccOptions()),
            "fbank": (kaldi_native_fbank.OnlineFbank, kaldi_native_fbank.FbankOptions()),
        }[kind]
        frames = self._options.frame_opts
        parts = self._options, frames, self._options.mel_opts
        for name, value in fields.items():
            setattr(next(part for part in parts if hasattr(part, name)), name, value)
        frames.dither = 0.0
        _check_frames(frames)
        length = frames.samp_freq * frames.frame_length_ms
        silence = np.zeros(int(0.001 * length) + 1, np.float32)
        try:
            self._extractor(self._options).accept_waveform(frames.samp_freq, silence)
        except (ValueError, RuntimeError) as error:
            raise NgtrainError(f"options with which there are no features: {error}") from error
        self._dither = dither
        self._srand = srand
        self._allow_downsample = allow_downsample
        self._allow_upsample = allow_upsample

    @property
    def frame_shift(self) -> float:
        """Seconds from one frame to the next."""
        return self._options.frame_opts.frame_shift_ms / 1000.0

    @property
    def sample_rate(self) -> int:
        """Samples per second of the recordings that are expected."""
        return round(self._options.frame_opts.samp_freq)

    def middles(self, num_frames: int) -> np.ndarray:
        """Return the times of the middles of the first frames (num_frames,), in seconds."""
        options = self._options.frame_opts
        first = options.frame_length_ms if options.snip_edges else options.frame_shift_ms
        return 0.0005 * first + np.arange(num_frames) * self.frame_shift

    def centre_frequencies(self, warp: float) -> np.ndarray:
        """Return where the filters have their peaks, in Hz, float64 (filters,)."""
        return centre_frequencies(self._options, warp)

    def stream(self, key: str) -> "SpectralStream":
        """Begin with a recording that comes in chunk by chunk, at the configured sample rate."""
        rng = np.random.default_rng([self._srand, zlib.crc32(key.encode("utf-8", "replace"))])
        rate = self._options.frame_opts.samp_freq
        return SpectralStream(self._extractor(self._options), rate, self._dither, rng)

    def at_sample_rate(self, key: str, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return samples (n,) at the configured rate, to which they are resampled if they may be.

        Raises:
            Skip: they have another rate, and may not.
        """
        expected = self._options.frame_opts.samp_freq
        if sample_rate == expected:
            return samples
        allowed = self._allow_downsample if sample_rate > expected else self._allow_upsample
        if not allowed:
            raise Skip(
                f"utterance {key} is sampled at {sample_rate} Hz, not at the {expected:g} Hz "
                "of --sample-frequency (see --allow-downsample and --allow-upsample)"
            )
        return _resample(samples, sample_rate, round(expected))

    def __call__(
        self, key: str, samples: np.ndarray, sample_rate: int, warp: float = 1.0
    ) -> np.ndarray:
        """Compute features (T, D) float32 of samples (n,) on the scale of 16-bit integers.

        warp: of the frequencies, for vocal tract length normalisation; below 1 for voices whose
            formants are higher.

        Raises:
            Skip: too short for one frame; the sample rate is not the configured one, and may not
                be changed; samples are so large that features are infinite.
            NgtrainError: as WarpedFeatures does, for a warp that is not 1.
        """
        samples = self.at_sample_rate(key, samples, sample_rate)
        stream = self.stream(key)
        samples = stream.dithered(samples)
        matrix = stream.frames(samples, is_last=True)
        if not len(matrix):
            raise Skip("too short for one frame")
        if warp != 1.0:
            matrix = finite(self._warped(matrix, np.asarray(samples, np.float32), warp))
        return matrix

    @cached_property
    def _warped(self) -> WarpedFeatures:
        return WarpedFeatures(self._options)


class SpectralStream:
    """The features of one recording that comes in chunk by chunk."""

    def __init__(self, extractor, sample_rate: float, dither: float, rng: np.random.Generator):
        self._extractor, self._sample_rate = extractor, sample_rate
        self._dither, self._rng = dither, rng
        self._num_frames = 0

    def __call__(self, samples: np.ndarray, is_last: bool = False) -> np.ndarray:
        """Take the next samples (n,); return the frames (T, D) float32 that are ready with them.

        Raises:
            Skip: samples are so large that features are infinite.
        """
        return self.frames(self.dithered(samples), is_last)

    def dithered(self, samples: np.ndarray) -> np.ndarray:
        """Add noise to the next samples."""
        if not self._dither:
            return samples
        noise = self._rng.standard_normal(len(samples), np.float32)
        return samples + np.float32(self._dither) * noise

    def frames(self, samples: np.ndarray, is_last: bool = False) -> np.ndarray:
        """Take the next samples as they are."""
        extractor = self._extractor
        try:
            if len(samples):
                extractor.accept_waveform(self._sample_rate, samples)
            if is_last:
                extractor.input_finished()
        except RuntimeError as error:
            raise Skip(str(error)) from error
        ready = range(self._num_frames, extractor.num_frames_ready)
        self._num_frames = extractor.num_frames_ready
        frames = [extractor.get_frame(index) for index in ready]
        matrix = np.array(frames, np.float32).reshape(len(frames), extractor.dim)
        return finite(matrix)


def finite(matrix: np.ndarray) -> np.ndarray:
    """Return features; Skip if some are not finite."""
    if not np.isfinite(matrix).all():
        raise Skip("NaN or infinity in its features: its samples are too large")
    return matrix


def _check_frames(options) -> None:
    """Raise NgtrainError for frames over which kaldi-native-fbank would crash, or never end."""
    rate, shift, length = options.samp_freq, options.frame_shift_ms, options.frame_length_ms
    if not 1 <= rate <= _MOST_RATE:
        raise NgtrainError(f"--sample-frequency={rate:g} is not between 1 and {_MOST_RATE:g} Hz")
    for name, value, least in ("frame-shift", shift, 1), ("frame-length", length, 2):
        if not value <= _LONGEST_FRAME or int(rate * 0.001 * value) < least:
            raise NgtrainError(
                f"--{name}={value:g} is not between {least} samples and {_LONGEST_FRAME:g} ms"
            )


def _resample(samples: np.ndarray, old_rate: int, new_rate: int) -> np.ndarray:
    from scipy.signal import resample_poly

    divisor = math.gcd(old_rate, new_rate)
    resampled = resample_poly(samples, new_rate // divisor, old_rate // divisor)
    return resampled.astype(np.float32)


def compute_features(
    wav_rspecifier: str,
    feats_wspecifier: str,
    features: Callable[[str, np.ndarray, int, float], np.ndarray],
    channel: int,
    min_duration: float,
    subtract_mean: bool,
    utt2dur_wspecifier: str,
    warp_of: Callable[[str], float] = lambda key: 1.0,
    form: Holder = FLOAT_MATRIX,
) -> tuple[int, int]:
    """Write features of every recording (Kaldi featbin/compute-mfcc-feats.cc).

    Args:
        features: SpectralFeatures, or what is called as they are.
        channel: which one to use; -1 for the first, with a warning if there are more.
        min_duration: shorter recordings give no output (seconds).
        utt2dur_wspecifier: where to write durations in seconds, if not empty.
        warp_of: the warp of an utterance; raises Skip where there is none.
        form: how features are stored.
    Returns:
        The numbers of recordings with output and of recordings; NgtrainError if all lack it.
    """
    num_done = 0
    several_channels, silent = Losses(), Losses()
    with (
        sequential_table(wav_rspecifier, WAVE) as recordings,
        table_writer(feats_wspecifier, form) as output,
        table_writer(utt2dur_wspecifier or "ark:/dev/null", REAL) as durations,
    ):
        lost = recordings.losses
        for key, recording in recordings:
            try:
                if recording.duration < min_duration:
                    raise Skip(f"of {recording.duration:g} seconds, too short")
                samples = _channel(key, recording, channel, several_channels)
                matrix = features(key, samples, recording.sample_rate, warp_of(key))
            except Skip as reason:
                leave_out(lost, key, reason)
                continue
            if not samples.any():
                silent.add(key)
            if subtract_mean:
                matrix -= matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
            output.write(key, matrix)
            durations.write(key, recording.duration)
            num_done += 1
            if num_done % 10 == 0:
                log.info("Processed %d utterances", num_done)
        count = num_done + lost.count
        several_channels.report(f"%d of {count} recordings have several channels: used the first")
        silent.report(f"%d of {count} recordings are silent: all of their samples are zero")
        if lost.count and not num_done:
            raise NgtrainError(f"no features of any of {count} recordings, such as {lost.example}")
        lost.report(f"no features of %d of {count} recordings")
    return num_done, count


def _channel(key: str, recording: Wave, channel: int, several_channels: Losses) -> np.ndarray:
    num_channels = len(recording.samples)
    if channel == -1:
        if num_channels > 1:
            log.warning("utterance %s has %d channels; using the first", key, num_channels)
            several_channels.add(key)
        return recording.samples[0]
    if channel >= num_channels:
        raise Skip(f"{num_channels} channels, but --channel={channel}")
    return recording.samples[channel]
