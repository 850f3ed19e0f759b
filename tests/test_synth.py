"""The synthetic digit corpus: what the recipe's local/make_synth_corpus.py writes."""

import hashlib
import importlib
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nnet.drivers.espeak import Espeak

pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "egs" / "digits" / "local" / "make_synth_corpus.py"
TINY = ["--hours=0.005", "--tune-minutes=0.1", "--test-minutes=0.1", "--seconds-per-speaker=6"]


@pytest.fixture(scope="module")
def make_corpus(run_program):
    def make(directory: Path, *options: str) -> Path:
        run_program(SCRIPT, *TINY, *options, directory)
        return directory

    return make


def table(path: Path) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in path.read_text().splitlines())


def recordings(corpus: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in corpus.rglob("*.wav")
    }


@pytest.fixture(scope="module")
def corpus(make_corpus, tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("synth"))


def test_data_directories_are_complete_and_sorted(corpus):
    for subset in "train", "tune", "test":
        data = corpus / "data" / subset
        tables = [table(data / name) for name in ("wav.scp", "text", "utt2spk")]
        names = list(tables[0])
        assert names and names == sorted(names)
        assert all(list(other) == names for other in tables)
        assert all(name.startswith(speaker + "-") for name, speaker in tables[2].items())
        spoken_by = table(data / "spk2utt")
        assert [n for line in spoken_by.values() for n in line.split()] == names


def test_recordings_are_speech_at_8_khz(corpus):
    digits = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
    data = corpus / "data" / "train"
    words = table(data / "text")
    for name, path in table(data / "wav.scp").items():
        with wave.open(path) as file:
            assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (8000, 2, 1)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
        num_words = len(words[name].split())
        assert set(words[name].split()) <= digits
        assert 0.15 * num_words < len(samples) / 8000 < 0.8 + 1.5 * num_words
        # Speech comes and goes: its short-time energy varies far more than that of a steady noise.
        energy = (samples[: len(samples) // 200 * 200].reshape(-1, 200) ** 2).mean(axis=1)
        assert energy.max() > 10 * np.percentile(energy, 10) + 1


def test_as_long_as_asked_for(corpus):
    seconds = 0.0
    for path in table(corpus / "data" / "train" / "wav.scp").values():
        with wave.open(path) as file:
            seconds += file.getnframes() / file.getframerate()
    assert 18 <= seconds < 18 + 3 * 6  # 3 speakers, each stops after the utterance that fills it


@pytest.mark.slow
def test_same_seed_same_recordings_whatever_the_number_of_jobs(corpus, make_corpus, tmp_path):
    again = make_corpus(tmp_path / "again", "--num-jobs=3")
    assert recordings(again) == recordings(corpus)
    other = make_corpus(tmp_path / "other", "--srand=1")
    assert not set(recordings(other).values()) & set(recordings(corpus).values())


def test_phones_are_where_they_sound():
    """Pauses are silent, to the sample; nothing else is, vowels least of all."""
    espeak = Espeak()
    speech, phones = espeak.say_phones("Seven, two.", "en-us+m1", 50, 150)
    assert [name for name, _ in phones if name != "_"] == ["s", "E", "v", "@", "n", "t", "u:"]
    begins = [begin for _, begin in phones]
    assert begins == sorted(begins) and begins[-1] <= len(speech)
    loudness = [
        (name, np.abs(speech[begin:end]).mean())
        for (name, begin), end in zip(phones, [*begins[1:], len(speech)], strict=True)
        if end > begin
    ]
    assert [value for name, value in loudness if name == "_"] == [0, 0, 0]
    others = dict(pair for pair in loudness if pair[0] != "_")
    assert min(others.values()) > 300 and min(others["E"], others["u:"]) > 1.5 * others["s"]


def test_the_closure_of_a_stop_is_its_own():
    speech, phones = Espeak().say_phones("Happy.", "en-us+m1", 50, 150)
    [(begin, end)] = [(begin, end) for (name, begin), (_, end) in pairwise(phones) if name == "p"]
    assert speech[begin - 1] != 0
    assert 30 < 1000 * np.flatnonzero(speech[begin:end])[0] / 22050 < 80  # milliseconds of silence


@pytest.mark.slow
def test_voices_of_the_subsets_are_distinct(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    corpus = importlib.import_module("make_synth_corpus")
    voices = f"{corpus.TRAINING_VOICES} {corpus.TUNING_VOICES} {corpus.TEST_VOICES}".split()
    assert len(voices) > 20
    assert len(set(voices)) == len(voices)
