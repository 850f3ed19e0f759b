"""Recordings recognised by one command, and when their words are said."""

import shutil

import numpy as np
import pytest

from nnet.decoding.word_times import word_segments
from nnet.features.wave import WAVE
from nnet.io.streams import open_input

SILENCE, WAYS = {1}, {7: [(2, 3)], 8: [(2,), (4,)]}


def segments(words, phones, lengths):
    return word_segments(words, phones, lengths, WAYS, SILENCE)


def test_phones_are_divided_among_words():
    assert segments([7, 8, 8], [1, 2, 3, 1, 4, 2, 1], [5, 3, 4, 2, 6, 1, 9]) == [
        (7, 5, 7),
        (8, 14, 6),
        (8, 20, 1),
    ]
    assert segments([8, 7], [2, 2, 3], [1, 2, 3]) == [(8, 0, 1), (7, 1, 5)]
    assert segments([], [1], [4]) == segments([], [], []) == []


def test_last_word_may_be_cut_short():
    assert segments([8, 7], [4, 2], [2, 3]) == [(8, 0, 2), (7, 2, 3)]
    assert segments([7, 8], [2, 4], [2, 3]) is None


def test_phones_of_other_words_have_no_division():
    assert segments([7], [2, 4], [1, 1]) is None
    assert segments([7], [2, 3, 2, 3], [1, 1, 1, 1]) is None


@pytest.fixture(scope="module")
def model_dir(reference, tmp_path_factory):
    """Kaldi's network, with how its features are made."""
    directory = tmp_path_factory.mktemp("model")
    (directory / "conf").mkdir()
    kaldi = reference("kaldi/exp/nnet_ms/final.mdl").parents[1]
    for name in "final.mdl", "tree", "cmvn_opts", "splice_opts":
        shutil.copyfile(kaldi / "nnet_ms" / name, directory / name)
    shutil.copyfile(kaldi / "tri2_ali/final.mat", directory / "final.mat")
    (directory / "conf/mfcc.conf").write_text("--use-energy=false\n--sample-frequency=8000\n")
    return directory


@pytest.fixture(scope="module")
def digits(shared):
    """Recordings of nine and of two by a training speaker: samples (1, n), and their file."""
    files = [shared / f"fsdd/recordings/{digit}_jackson_11.wav" for digit in (9, 2)]
    recordings = []
    for file in files:
        with open_input(str(file)) as stream:
            recordings.append((WAVE.read(stream).samples, str(file)))
    return recordings


def test_formats_rates_and_channels(run_program, shared, model_dir, digits, tmp_path):
    import soundfile
    from scipy.signal import resample_poly

    (nine, nine_wav), (two, _) = digits
    soundfile.write(tmp_path / "two.flac", resample_poly(two[0], 2, 1) / 32768, 16000)
    length = max(nine.shape[1], two.shape[1])
    stereo = [np.pad(samples[0], (0, length - samples.shape[1])) for samples in (two, nine)]
    soundfile.write(tmp_path / "both ears.wav", np.stack(stereo, 1) / 32768, 8000)
    graph, flac, both = (
        shared / "kaldi/exp/tri2/graph",
        tmp_path / "two.flac",
        tmp_path / "both ears.wav",
    )
    result = run_program(*("recognize.py", "--lmwt", 25, model_dir, graph, nine_wav, flac, both))
    lines = [line.rsplit(maxsplit=4) for line in result.stdout.decode().splitlines()]
    name = f"{tmp_path}/both_ears.wav"
    assert [(file, number, word) for file, number, _, _, word in lines] == [
        (nine_wav, "1", "nine"),
        (str(flac), "1", "two"),
        (name, "1", "two"),
        (name, "2", "nine"),
    ]
    assert "2 channels, each by itself" in result.stderr.decode()
    for (*_, begin, duration, _), samples in zip(lines, (nine, two), strict=False):
        assert float(begin) >= 0 and float(duration) > 0.1
        assert float(begin) + float(duration) <= samples.shape[1] / 8000
    result = run_program(
        *("recognize.py", "--times", "false", "--lmwt", 25, "--channel", 2, model_dir, graph, both),
    )
    assert result.stdout.decode() == f"{name} 2 nine\n"


@pytest.mark.parametrize(
    ("contents", "message"),
    [(None, "No such file"), (b"these are no samples\n", "no audio that can be read")],
)
def test_wrong_file_is_one_line(run_program, shared, model_dir, tmp_path, contents, message):
    file = tmp_path / "wrong.wav"
    if contents:
        file.write_bytes(contents)
    graph = shared / "kaldi/exp/tri2/graph"
    result = run_program("recognize.py", model_dir, graph, file, check=False)
    assert result.returncode == 1 and result.stdout == b""
    [error] = [line for line in result.stderr.decode().splitlines() if "error" in line]
    assert str(file) in error and message in error and "Traceback" not in error


def test_unknown_features_and_missing_channels(run_program, shared, model_dir, digits, tmp_path):
    graph, file = shared / "kaldi/exp/tri2/graph", digits[0][1]
    result = run_program("recognize.py", "--channel", 2, model_dir, graph, file, check=False)
    assert f"{file}: it has 1 channels, and no --channel 2" in result.stderr.decode()
    for name in "final.mdl", "cmvn_opts":
        shutil.copyfile(model_dir / name, tmp_path / name)
    result = run_program("recognize.py", tmp_path, graph, file, check=False)
    assert (
        "does not say its features: use --mfcc-config or --fbank-config" in result.stderr.decode()
    )
