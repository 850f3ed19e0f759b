"""Vocal tract length normalisation: filter banks whose frequencies are warped, by speaker.

kaldi-native-fbank has the filter banks, and the frames to put through them, but does not put the
two together.

Source: Kaldi's feat/mel-computations.cc, feat/feature-fbank.cc and feat/feature-mfcc.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nnet.errors import NgtrainError
from nnet.features.utterances import Skip
from nnet.io.random_access import mapped_table
from nnet.io.tables import REAL


@contextmanager
def warps(warp: float, map_rspecifier: str, utt2spk_rspecifier: str) -> Iterator[Callable]:
    """Give a function from utterance to warp, which raises Skip where there is none.

    Args:
        warp: that of all utterances, if there is no table of warps.
        map_rspecifier: the table, by utterance, or by speaker if there is `utt2spk_rspecifier`.
    Raises:
        NgtrainError: there are speakers without warps to look up.
    """
    if not map_rspecifier:
        if utt2spk_rspecifier:
            raise NgtrainError("--utt2spk is for a --vtln-map by speaker, which is not given")
        yield lambda key: warp
        return
    with mapped_table(map_rspecifier, utt2spk_rspecifier, REAL) as table:

        def warp_of(key: str) -> float:
            if key not in table:
                raise Skip(f"it has no warp in {map_rspecifier}")
            return table[key]

        yield warp_of


def _corners(options: Any) -> tuple[float, float, float, float]:
    """Return where the filter bank begins, where the warp is a factor, from and to, and its end."""
    mel, nyquist = options.mel_opts, options.frame_opts.samp_freq / 2
    vtln_high = mel.vtln_high + (nyquist if mel.vtln_high < 0 else 0)
    high = mel.high_freq + (nyquist if mel.high_freq <= 0 else 0)
    return mel.low_freq, mel.vtln_low, vtln_high, high


def centre_frequencies(options: Any, warp: float) -> np.ndarray:
    """Return where the filters have their peaks, in Hz, float64 (filters,).

    Args:
        options: as those of WarpedFeatures, which checks that there is such a warp.
    """
    low, vtln_low, vtln_high, high = _corners(options)
    first, last = 1127 * np.log1p(np.array([low, high]) / 700)
    mel = np.linspace(first, last, options.mel_opts.num_bins + 2)[1:-1]
    centres = 700 * np.expm1(mel / 1127)
    if warp == 1:
        return centres
    factor_from, factor_to = vtln_low * max(1, warp), vtln_high * min(1, warp)
    warped = [low, factor_from / warp, factor_to / warp, high]
    return np.interp(centres, [low, factor_from, factor_to, high], warped)


class WarpedFeatures:
    """Features that were computed without a warp, as they are with it.

    Energies do not depend on the warp; what does is computed anew.

    Args:
        options: kaldi-native-fbank's MfccOptions or FbankOptions; of their mel_opts, vtln_low and
            vtln_high are the frequencies between which the warp is a factor.
    Raises:
        NgtrainError: they are not between those of the filter bank.
    """

    def __init__(self, options: Any):
        import kaldi_native_fbank

        self._options, frames = options, options.frame_opts
        low, vtln_low, vtln_high, high = _corners(options)
        if not low < vtln_low < vtln_high < high:
            raise NgtrainError(
                f"--vtln-low and --vtln-high are {vtln_low:g} and {vtln_high:g} Hz, which is "
                f"not between {low:g} and {high:g} Hz, those of the filter bank, in this order"
            )
        self._banks: dict[float, np.ndarray] = {}
        # Frames as they are, for which it has no room for more samples; see _frames().
        unpadded = kaldi_native_fbank.FrameExtractionOptions.from_dict(frames.as_dict())
        unpadded.round_to_power_of_two = False
        self._frame_options = kaldi_native_fbank.RawAudioSamplesOptions(unpadded)

    def __call__(self, features: np.ndarray, samples: np.ndarray, warp: float) -> np.ndarray:
        """Return features (T, D) of samples (n,) with `warp`, given those without.

        Raises:
            NgtrainError: a warp that leaves filters empty.
        """
        options = self._options
        bank = self._bank(warp)
        padded_length = 2 * (bank.shape[1] - 1)
        spectrum = np.abs(np.fft.rfft(self._frames(samples), padded_length))  # (T, bins)
        if getattr(options, "use_power", True):
            np.square(spectrum, out=spectrum)
        energies = spectrum @ bank.T
        if getattr(options, "use_log_fbank", True):
            energies = np.log(np.maximum(energies, np.finfo(np.float32).eps))
        columns = self._cepstra(energies) if hasattr(options, "num_ceps") else energies
        warped = features.copy()
        num_kept = features.shape[1] - columns.shape[1]  # 1 where there is an energy beside them
        begin = 0 if options.htk_compat else num_kept
        warped[:, begin : begin + columns.shape[1]] = columns
        return warped

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        """Cut into frames, windowed as the options say, (T, window)."""
        import kaldi_native_fbank

        extractor = kaldi_native_fbank.OnlineRawAudioSamples(self._frame_options)
        extractor.accept_waveform(self._options.frame_opts.samp_freq, samples)
        extractor.input_finished()
        return np.stack([extractor.get_frame(t) for t in range(extractor.num_frames_ready)])

    def _bank(self, warp: float) -> np.ndarray:
        """Return the weights of the filters, (filters, bins)."""
        if warp not in self._banks:
            import kaldi_native_fbank

            frames, mel = self._options.frame_opts, self._options.mel_opts
            try:
                bank = kaldi_native_fbank.MelBanks(mel, frames, warp)
            except (ValueError, RuntimeError) as error:
                raise NgtrainError(f"a warp of {warp:g} makes no filters: {error}") from None
            self._banks[warp] = bank.get_matrix().astype(np.float64)
        return self._banks[warp]

    def _cepstra(self, log_energies: np.ndarray) -> np.ndarray:
        """Compute those cepstra that depend on the filters: all, or all but that of the energy."""
        from scipy.fft import dct

        options = self._options
        cepstra = dct(log_energies, norm="ortho")[:, : options.num_ceps]
        if options.cepstral_lifter:
            n, Q = np.arange(options.num_ceps), options.cepstral_lifter
            cepstra *= 1 + Q / 2 * np.sin(np.pi * n / Q)
        if options.use_energy:
            return cepstra[:, 1:]
        if options.htk_compat:
            return np.hstack([cepstra[:, 1:], np.sqrt(2) * cepstra[:, :1]])
        return cepstra
