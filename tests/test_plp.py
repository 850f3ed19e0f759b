"""Cepstra of perceptual linear prediction, against what defines them."""

from __future__ import annotations

from pathlib import Path

import kaldi_native_fbank
import numpy as np
import pytest
from archives import read_table, write_table
from scipy.linalg import solve_toeplitz

from nnet.errors import NgtrainError
from nnet.features.plp import PlpFeatures, cepstra_of, equal_loudness, linear_prediction
from nnet.features.spectral import SpectralFeatures
from nnet.features.vtln import centre_frequencies
from nnet.features.wave import WAVE, Wave
from nnet.io.tables import MATRIX

FRAMES = {"dither": 0.0, "samp_freq": 8000.0, "num_bins": 15}


@pytest.fixture
def noise() -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 1000, 2000)
    return np.round(np.convolve(samples, [1, 0.9, 0.5])[:2000]).astype(np.float32)


def defined(samples: np.ndarray, warp: float) -> np.ndarray:
    """The cepstra of the fitted spectrum, each step in another way than in the library."""
    options = {"use_log_fbank": False, "use_energy": False}
    energies = SpectralFeatures("fbank", **options, **FRAMES)("a", samples, 8000, warp)
    weights = equal_loudness(SpectralFeatures("fbank", **FRAMES).centre_frequencies(warp))
    loudness = np.pad((energies * weights) ** 0.33333, ((0, 0), (1, 1)), "edge")
    # InitIdftBases
    last, lags = loudness.shape[1] - 1, np.arange(13)[:, np.newaxis]
    bases = np.cos(np.pi / last * lags * np.arange(last + 1)) / last
    bases[:, [0, last]] /= 2
    cepstra = []
    for R in loudness @ bases.T:
        a = solve_toeplitz(R[:-1], -R[1:])
        residual = R[0] + a @ R[1:]
        power = residual / np.abs(np.fft.rfft([1, *a], 4096)) ** 2
        cepstra.append(np.fft.irfft(np.log(power))[:13])
    return np.array(cepstra)


@pytest.mark.parametrize("warp", [1.0, 0.9])
def test_cepstra_are_those_of_the_spectrum_that_fits(noise, warp):
    features = PlpFeatures(use_energy=False, cepstral_lifter=0, **FRAMES)
    expected = defined(noise, warp)
    np.testing.assert_allclose(features("a", noise, 8000, warp), expected, atol=1e-4)
    lifted = PlpFeatures(use_energy=False, cepstral_scale=10, **FRAMES)("a", noise, 8000, warp)
    factors = 10 * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
    np.testing.assert_allclose(lifted, factors * expected, rtol=1e-4, atol=1e-2)


def test_prediction_stays_stable_where_everything_is_predicted():
    a, E = linear_prediction(np.ones((1, 4)))
    assert np.isfinite(cepstra_of(a, E)).all()
    assert E[0] == pytest.approx(1e-5)


def test_the_energy_is_that_of_filter_banks(noise):
    fields = {**FRAMES, "energy_floor": 1e12, "raw_energy": False}
    banks = SpectralFeatures("fbank", use_energy=True, **fields)("a", noise, 8000)
    first = PlpFeatures(**fields, cepstral_scale=3.0)("a", noise, 8000)
    last = PlpFeatures(**fields, cepstral_scale=3.0, htk_compat=True)("a", noise, 8000)
    assert (first[:, 0] == banks[:, 0]).all()
    assert (last == np.roll(first, -1, axis=1)).all()


def test_silence_has_features():
    features = PlpFeatures(**FRAMES)("a", np.zeros(1000, np.float32), 8000)
    assert features.shape == (11, 13) and np.isfinite(features).all()


def test_the_zeroth_cepstrum_is_not_negative(noise):
    features = PlpFeatures(use_energy=False, **FRAMES)("a", 1e-4 * noise, 8000)
    assert (features[:, 0] == 0).all() and features[:, 1:].any()


@pytest.mark.parametrize("warp", [1.0, 0.85, 1.2])
def test_filters_have_their_peaks_at_their_centres(warp):
    options = kaldi_native_fbank.FbankOptions()
    options.mel_opts.num_bins = 15
    options.frame_opts.samp_freq, options.frame_opts.frame_length_ms = 8000, 500  # fine bins
    bank = kaldi_native_fbank.MelBanks(options.mel_opts, options.frame_opts, warp).get_matrix()
    peaks = bank.argmax(axis=1) * 4000 / (bank.shape[1] - 1)
    np.testing.assert_allclose(centre_frequencies(options, warp), peaks, atol=2)


@pytest.mark.parametrize(
    "key, options",
    [
        ("plain", []),
        (
            "warped",
            ["--vtln-warp=1.1", "--htk-compat=true", "--use-energy=false", "--num-mel-bins=15"],
        ),
    ],
)
def test_the_features_of_kaldi(key, options, reference, run_program, tmp_path):
    """Those that Kaldi's compute-plp-feats makes of the same recording (tests/reference)."""
    (tmp_path / "wav.scp").write_text(f"{key} {reference('fsdd/recordings/5_george_0.wav')}\n")
    common = "--dither=0", "--sample-frequency=8000", f"scp:{tmp_path}/wav.scp"
    run_program("compute-plp-feats", *options, *common, f"ark:{tmp_path}/plp")
    found = read_table(f"ark:{tmp_path}/plp", MATRIX)[key]
    kaldis = read_table(f"ark:{Path(__file__).parent}/reference/plp.ark", MATRIX)[key]
    np.testing.assert_allclose(found, kaldis, rtol=0, atol=1e-3)


@pytest.mark.parametrize("fields", [{"num_ceps": 14}, {"lpc_order": 17}])
def test_orders_that_cannot_be(fields):
    with pytest.raises(NgtrainError, match="lpc-order"):
        PlpFeatures(**fields, **FRAMES)


def test_program(noise, run_program, tmp_path):
    write_table(f"ark:{tmp_path}/wav", WAVE, {key: Wave(noise[None], 8000) for key in "ab"})
    options = "--sample-frequency=8000", "--num-mel-bins=15", "--dither=0", f"ark:{tmp_path}/wav"
    for form in "kaldi", "htk":
        table = f"ark:{tmp_path}/{form}"
        run_program("compute-plp-feats", f"--output-format={form}", *options, table)
    run_program("copy-feats", "--htk-in=true", f"ark:{tmp_path}/htk", f"ark:{tmp_path}/copied")
    expected = PlpFeatures(**FRAMES)("a", noise, 8000)
    for name in "kaldi", "copied":
        made = read_table(f"ark:{tmp_path}/{name}", MATRIX)
        assert list(made) == ["a", "b"] and (made["b"] == expected).all()
    result = run_program(
        "compute-plp-feats", "--lpc-order=40", *options, f"ark:{tmp_path}/x", check=False
    )
    assert result.returncode == 1 and b"--lpc-order=40" in result.stderr
