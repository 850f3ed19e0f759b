"""Cepstra of perceptual linear prediction (PLP), from the filter banks of kaldi-native-fbank.

The energies of a filter bank are weighted as the ear hears them, and compressed; an all-pole
spectrum is fitted to what comes of that, and its cepstrum are the features.  H. Hermansky:
Perceptual linear predictive (PLP) analysis of speech, JASA 87 (1990).

Source: Kaldi's feat/feature-plp.cc, and feat/mel-computations.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnet.errors import NgtrainError
from nnet.features.spectral import SpectralFeatures

_SILENCE = np.finfo(np.float32).eps  # least energy: of digital silence there is no spectrum


class PlpFeatures:
    """A function from recordings to features, as SpectralFeatures is.

    Args:
        lpc_order: poles of the spectrum.
        num_ceps: cepstra, with the zeroth, which is the log energy of what is not predicted, or 0
            where that is less, as in Kaldi.
        use_energy: put the log energy of the frame in the place of the zeroth.
        compress_factor: power of energies that stands for loudness.
        cepstral_lifter: Q of the factors 1 + Q/2 sin(pi n / Q) of cepstra, 0 for none.
        cepstral_scale: a factor for all cepstra, but not for the energy.
        htk_compat: put energy or zeroth cepstrum last.
        fields: of SpectralFeatures.

    Raises:
        NgtrainError: options with which there are no features.
    """

    def __init__(
        self,
        *,
        lpc_order: int = 12,
        num_ceps: int = 13,
        use_energy: bool = True,
        compress_factor: float = 0.33333,
        cepstral_lifter: float = 22.0,
        cepstral_scale: float = 1.0,
        htk_compat: bool = False,
        **fields: Any,
    ):
        energy = {"use_energy": use_energy, "use_log_fbank": False}
        self._filter_bank = SpectralFeatures("fbank", **energy, **fields)
        most = len(self._filter_bank.centre_frequencies(1.0)) + 1
        if not num_ceps - 1 <= lpc_order <= most:
            raise NgtrainError(
                f"--lpc-order={lpc_order} is not between --num-ceps - 1, {num_ceps - 1}, and "
                f"--num-mel-bins + 1, {most}"
            )
        self._lpc_order, self._use_energy, self._htk_compat = lpc_order, use_energy, htk_compat
        self._compress_factor = compress_factor
        n, Q = np.arange(num_ceps), cepstral_lifter
        self._scales = cepstral_scale * (
            1 + Q / 2 * np.sin(np.pi * n / Q) if Q else np.ones(num_ceps)
        )

    def __call__(
        self, key: str, samples: np.ndarray, sample_rate: int, warp: float = 1.0
    ) -> np.ndarray:
        """Compute features (T, num_ceps) float32; arguments and errors are SpectralFeatures's."""
        return self._cepstra(self._filter_bank(key, samples, sample_rate, warp), warp)

    def _cepstra(self, found: np.ndarray, warp: float = 1.0) -> np.ndarray:
        """Compute features of energies of the filter bank, and of the log energy before them."""
        found = found.astype(np.float64)
        log_energy, energies = np.split(found, [int(self._use_energy)], axis=1)
        weights = equal_loudness(self._filter_bank.centre_frequencies(warp))
        loudness = (np.maximum(energies, _SILENCE) * weights) ** self._compress_factor
        spectrum = np.pad(loudness, ((0, 0), (1, 1)), "edge")
        autocorrelation = np.fft.irfft(spectrum)[:, : self._lpc_order + 1]
        cepstra = cepstra_of(*linear_prediction(autocorrelation))[:, : len(self._scales)]
        cepstra[:, 0] = np.maximum(cepstra[:, 0], 0)
        cepstra *= self._scales
        cepstra[:, : log_energy.shape[1]] = log_energy
        if self._htk_compat:
            cepstra = np.roll(cepstra, -1, axis=1)
        return cepstra.astype(np.float32)

    # Recordings that come in chunk by chunk, as in SpectralFeatures -------------------------------

    @property
    def frame_shift(self) -> float:
        """Seconds from one frame to the next."""
        return self._filter_bank.frame_shift

    @property
    def sample_rate(self) -> int:
        """Samples per second of the recordings that are expected."""
        return self._filter_bank.sample_rate

    def at_sample_rate(self, key: str, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return samples (n,) at the configured rate; Skip if they may not be resampled."""
        return self._filter_bank.at_sample_rate(key, samples, sample_rate)

    def stream(self, key: str) -> Callable[[np.ndarray, bool], np.ndarray]:
        """Begin with a recording: what takes samples, and whether they are the last."""
        energies = self._filter_bank.stream(key)
        return lambda samples, is_last: self._cepstra(energies(samples, is_last))


def equal_loudness(frequencies: np.ndarray) -> np.ndarray:
    """Return the weight of the energy at frequencies in Hz, as the ear has it at 40 dB."""
    square = frequencies**2
    return (square / (square + 1.6e5)) ** 2 * (square + 1.44e6) / (square + 9.61e6)


def linear_prediction(autocorrelation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the all-pole spectrum E / |A|^2, A(z) = 1 + sum_i a_i z^-i, by Durbin's recursion.

    Args:
        autocorrelation: of lags 0, ..., P, of each frame; (T, P + 1).

    Returns:
        a_1, ..., a_P, (T, P); and E, what remains of lag 0, (T,).
    """
    R, P = autocorrelation, autocorrelation.shape[1] - 1
    a, E = np.zeros((len(R), P)), R[:, 0].copy()
    for i in range(P):
        reflection = (R[:, i + 1] + (a[:, :i] * R[:, i:0:-1]).sum(axis=1)) / E
        E *= np.maximum(1 - reflection**2, 1e-5)
        a[:, :i] -= reflection[:, np.newaxis] * a[:, :i][:, ::-1]
        a[:, i] = -reflection
    return a, E


def cepstra_of(a: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Return the cepstrum of E / A(z): log E, then as many as there are poles; (T, P + 1)."""
    c = np.zeros((len(a), a.shape[1] + 1))
    c[:, 0] = np.log(E)
    for n in range(1, c.shape[1]):
        k = np.arange(1, n)
        c[:, n] = -a[:, n - 1] - (k * c[:, 1:n] * a[:, : n - 1][:, ::-1]).sum(axis=1) / n
    return c
