"""Warped features, features of HTK and Sphinx, durations, and features pasted in files."""

import struct

import numpy as np
import pytest
from archives import read_table, write_table

from nnet.errors import NgtrainError
from nnet.features.foreign import HTK, SPHINX, form_of
from nnet.features.spectral import SpectralFeatures
from nnet.features.wave import WAVE, Wave
from nnet.io.streams import open_input
from nnet.io.tables import MATRIX


@pytest.fixture
def noise() -> np.ndarray:
    return 1000 * np.random.default_rng(1).standard_normal(4000).astype(np.float32)


@pytest.fixture
def recordings(reference, tmp_path) -> str:
    """A script file of the recordings of which Kaldi's reference files are."""
    path = reference("kaldi/golden/programs/wav.scp")
    shared = path.parents[3]
    (tmp_path / "wav.scp").write_text(path.read_text().replace("../shared", str(shared)))
    return f"scp:{tmp_path}/wav.scp"


# Warps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "warp"), [("mfcc", 0.9), ("fbank", 1.12)])
def test_warped_features_are_kaldis(reference, recordings, run_program, tmp_path, kind, warp):
    kaldis = read_table(f"ark:{reference(f'kaldi/golden/programs/{kind}_warp{warp}.txt')}", MATRIX)
    out, options = f"ark:{tmp_path}/out.ark", ("--sample-frequency=8000", "--dither=0")
    run_program(f"compute-{kind}-feats", *options, f"--vtln-warp={warp}", recordings, out)
    ours = read_table(out, MATRIX)
    assert list(ours) == list(kaldis)
    for key in ours:
        np.testing.assert_allclose(ours[key], kaldis[key], atol=2e-4)


@pytest.mark.parametrize("kind", ["mfcc", "fbank"])
@pytest.mark.parametrize("use_energy", [True, False])
@pytest.mark.parametrize("htk_compat", [True, False])
@pytest.mark.parametrize("more", [{}, {"snip_edges": False, "round_to_power_of_two": False}])
def test_a_warp_of_hardly_anything_changes_nothing(noise, kind, use_energy, htk_compat, more):
    options = {"use_energy": use_energy, "htk_compat": htk_compat, **more}
    features = SpectralFeatures(kind, dither=0, samp_freq=8000.0, **options)
    plain, warped = features("a", noise, 8000), features("a", noise, 8000, 1 + 1e-7)
    np.testing.assert_allclose(warped, plain, atol=3e-3)
    assert np.abs(features("a", noise, 8000, 1.1) - plain).max() > 0.1


def test_speakers_have_their_warps(noise, run_program, tmp_path):
    write_table(f"ark:{tmp_path}/wav.ark", WAVE, {key: Wave(noise[None], 8000) for key in "abc"})
    (tmp_path / "utt2spk").write_text("a x\nb x\nc y\n")
    (tmp_path / "warps").write_text("x 0.9\n")
    options = "--sample-frequency=8000", f"--vtln-map=ark:{tmp_path}/warps"
    files, utt2spk = (f"ark:{tmp_path}/wav.ark", "ark,t:-"), f"--utt2spk=ark:{tmp_path}/utt2spk"
    result = run_program("compute-fbank-feats", *options, utt2spk, *files)
    assert [line.split()[0] for line in result.stdout.splitlines() if b"[" in line] == [b"a", b"b"]
    assert b"no output for utterance c: it has no warp" in result.stderr
    result = run_program("compute-fbank-feats", utt2spk, *files, check=False)
    assert result.returncode != 0 and b"--utt2spk is for a --vtln-map" in result.stderr


@pytest.mark.parametrize(
    ("warp", "options", "message"),
    [
        (40.0, {}, "makes no filters"),
        (1.1, {"vtln_low": 10.0}, "not between 20 and 4000 Hz"),
        (1.1, {"vtln_low": 3900.0}, "not between 20 and 4000 Hz"),
    ],
)
def test_warps_that_cannot_be(noise, warp, options, message):
    features = SpectralFeatures("fbank", samp_freq=8000.0, **options)
    with pytest.raises(NgtrainError, match=message):
        features("a", noise, 8000, warp)


# HTK and Sphinx -----------------------------------------------------------------------------------


def test_what_is_written_for_htk_is_read(noise, run_program, tmp_path):
    write_table(f"ark:{tmp_path}/wav.ark", WAVE, {key: Wave(noise[None], 8000) for key in "ab"})
    options = "--sample-frequency=8000", "--dither=0", f"ark:{tmp_path}/wav.ark"
    run_program("compute-mfcc-feats", *options, f"ark:{tmp_path}/kaldi.ark")
    run_program("compute-mfcc-feats", "--output-format=htk", *options, f"ark:{tmp_path}/htk.ark")
    data = (tmp_path / "htk.ark").read_bytes()
    num_frames, shift, frame_size, kind = struct.unpack(">iihH", data[2:14])
    assert (shift, frame_size, kind) == (100_000, 52, 0o106)
    run_program("copy-feats", "--htk-in=true", f"ark:{tmp_path}/htk.ark", f"ark:{tmp_path}/1.ark")
    assert (tmp_path / "1.ark").read_bytes() == (tmp_path / "kaldi.ark").read_bytes()
    (tmp_path / "a.htk").write_bytes(data[2 : 14 + 52 * num_frames])
    run_program("copy-feats", "--htk-in=true", "--binary=false", tmp_path / "a.htk", tmp_path / "a")
    assert len((tmp_path / "a").read_text().splitlines()) == num_frames + 1


def test_features_of_sphinx(run_program, tmp_path):
    features = np.arange(39, dtype=np.float32).reshape(3, 13)
    data = struct.pack(">i", 39) + features.astype(">f4").tobytes()
    (tmp_path / "a.mfc").write_bytes(data)
    (tmp_path / "scp").write_text(f"a {tmp_path}/a.mfc\n")
    out = f"ark:{tmp_path}/out.ark"
    run_program("copy-feats", "--sphinx-in=true", f"scp:{tmp_path}/scp", out)
    np.testing.assert_array_equal(read_table(out, MATRIX)["a"], features)


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        (HTK, struct.pack(">iihH", 3, 100_000, 8, 6) + bytes(20), "truncated"),
        (HTK, struct.pack(">iihH", -3, 100_000, 8, 6), "not features of HTK"),
        (HTK, struct.pack(">iihH", 3, 100_000, 6, 6), "not features of HTK"),
        (HTK, struct.pack(">iihH", 3, 100_000, 8, 0o2006), "compressed or quantized"),
        (HTK, struct.pack(">iihH", 3, 100_000, 8, 0), "waveforms of HTK are not read"),
        (HTK, struct.pack(">iihH", 2**31 - 1, 100_000, 8, 6), "too many"),
        (SPHINX, struct.pack(">i", 40) + bytes(160), "not features of Sphinx"),
        (SPHINX, struct.pack(">i", 26) + bytes(20), "truncated"),
    ],
)
def test_files_that_are_none(tmp_path, form, data, message):
    (tmp_path / "feats").write_bytes(data)
    with open_input(str(tmp_path / "feats")) as stream, pytest.raises(NgtrainError, match=message):
        form.read(stream)


def test_checksums_of_htk_are_passed_over(tmp_path):
    data = struct.pack(">iihH", 1, 100_000, 4, 0o10006) + struct.pack(">f", 2.5) + b"xx"
    (tmp_path / "feats").write_bytes(data)
    with open_input(str(tmp_path / "feats")) as stream:
        assert HTK.read(stream).tolist() == [[2.5]]
        assert stream.peek(1) == b""
    assert form_of("kaldi", "mfcc", True) is not HTK


# Others -------------------------------------------------------------------------------------------


def test_features_pasted_in_files(run_program, tmp_path):
    (tmp_path / "a").write_text(" [ 1 2\n 3 4\n 5 6 ]\n")
    (tmp_path / "b").write_text(" [ 7\n 8 ]\n")
    files = tmp_path / "a", tmp_path / "b", "-"
    options = "--binary=false", "--length-tolerance=1"
    assert run_program("paste-feats", *options, *files).stdout.split() == b"[ 1 2 7 3 4 8 ]".split()
    result = run_program("paste-feats", *files, check=False)
    assert result.returncode != 0 and b"Length mismatch 3 vs. 2" in result.stderr


def test_durations_are_kaldis(reference, recordings, run_program):
    kaldis = reference("kaldi/golden/programs/durations.txt").read_bytes()
    assert run_program("wav-to-duration", recordings, "ark,t:-").stdout == kaldis


def test_am_info_is_kaldis(reference, run_program):
    kaldis = reference("kaldi/golden/programs/am-info-program.txt").read_bytes()
    model = reference("kaldi/golden/training/online_lowrank/0.mdl")
    assert run_program("am-info", model).stdout == kaldis


def test_gmm_info(reference, gaussians, run_program):
    said = run_program("gmm-info", gaussians / "final.mdl").stdout.decode()
    assert said.startswith("number of phones 20\nnumber of pdfs 128\n")
    assert "feature dimension 40\nnumber of gaussians " in said
    model = reference("kaldi/golden/training/online_lowrank/0.mdl")
    result = run_program("gmm-info", model, check=False)
    assert result.returncode != 0 and b"expected <DIMENSION>" in result.stderr


def test_no_gpu_is_a_status(run_program, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nonexistent", prepend=":")
    result = run_program("cuda-compiled", check=False)
    assert result.returncode in (0, 1)
    assert (result.returncode == 1) == (b"no GPU to compute on" in result.stderr)
    monkeypatch.setenv("NGTRAIN_USE_GPU", "perhaps")
    result = run_program("nnet-train-simple", "1.mdl", "ark:egs", "2.mdl", check=False)
    assert b"Invalid value for '--use-gpu': 'perhaps'" in result.stderr
