"""The data directories that the digits recipe makes of the Free Spoken Digit Dataset."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "egs" / "digits" / "local" / "prepare_fsdd.py"
SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]


@pytest.fixture
def prepare(run_program):
    return lambda *args, check=True: run_program(SCRIPT, *args, check=check)


def utterances(data: Path, subset: str) -> list[str]:
    return [line.split()[0] for line in (data / subset / "wav.scp").read_text().splitlines()]


@pytest.fixture(scope="module")
def fsdd(tmp_path_factory) -> Path:
    """A data set of the same shape: its recordings are empty files."""
    directory = tmp_path_factory.mktemp("fsdd")
    (directory / "recordings").mkdir()
    for digit in range(10):
        for speaker in SPEAKERS:
            for index in range(50):
                (directory / "recordings" / f"{digit}_{speaker}_{index}.wav").touch()
    return directory


def test_unseen_speakers_are_only_in_test(prepare, fsdd, tmp_path):
    prepare("--split=unseen", fsdd, tmp_path)
    test = utterances(tmp_path, "test")
    assert len(test) == 1000
    assert {name.split("-")[0] for name in test} == {"lucas", "yweweler"}
    train, tune = utterances(tmp_path, "train"), utterances(tmp_path, "tune")
    assert {name.split("-")[0] for name in train + tune} == set(SPEAKERS) - {"lucas", "yweweler"}
    assert len(train) + len(tune) == 2000
    assert len({*train, *tune}) == 2000


def test_seen_speakers_first_five_recordings_are_test(prepare, fsdd, tmp_path):
    prepare("--split=seen", fsdd, tmp_path)
    test = utterances(tmp_path, "test")
    assert len(test) == 300
    assert {int(name.split("-")[2]) for name in test} == set(range(5))
    rest = utterances(tmp_path, "train") + utterances(tmp_path, "tune")
    assert len({*rest}) == len(rest) == 2700
    assert not {*rest} & {*test}


def test_names_and_words_are_those_of_kaldis_data_directory(prepare, shared, tmp_path):
    prepare("--split=unseen", shared / "fsdd", tmp_path)
    for file in "text", "utt2spk", "spk2utt":
        reference = (shared / "kaldi" / "data" / "test" / file).read_text()
        assert (tmp_path / "test" / file).read_text() == reference


@pytest.mark.parametrize("name", ["10_george_0.wav", "3_george.wav"])
def test_foreign_recording_is_named(prepare, tmp_path, name):
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / name).touch()
    result = prepare(tmp_path, tmp_path / "data", check=False)
    assert result.returncode != 0
    assert name in result.stderr.decode()
    assert not (tmp_path / "data").exists()


def test_empty_directory_is_an_error(prepare, tmp_path):
    result = prepare(tmp_path, tmp_path / "data", check=False)
    assert result.returncode != 0
    assert str(tmp_path) in result.stderr.decode().splitlines()[-1]
    assert not (tmp_path / "data").exists()
