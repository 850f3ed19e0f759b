"""Data and dictionary directories of a corpus of one's own."""

import wave

import pytest


def record(path, rate=8000, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2 * channels * 800))


@pytest.fixture
def recordings(tmp_path):
    for name in "one.wav", "two words.wav":
        record(tmp_path / name)
    return tmp_path


def table(folder, *rows):
    (folder / "table.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return folder / "table.tsv"


def test_data_directory_of_recordings(run_program, recordings):
    rows = (recordings / "two words.wav", "eve", "yes  no"), (recordings / "one.wav", "adam", "no")
    run_program("make_data_dir.py", table(recordings, *rows), recordings / "data")
    data = recordings / "data"
    assert (data / "text").read_text() == "adam-one no\neve-two_words yes no\n"
    assert (data / "utt2spk").read_text() == "adam-one adam\neve-two_words eve\n"
    assert (data / "spk2utt").read_text() == "adam adam-one\neve eve-two_words\n"
    assert f"eve-two_words {recordings}/two words.wav\n" in (data / "wav.scp").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "row", "message"),
    [
        (None, ("gone.wav", "adam", "no"), "gone.wav"),
        ({"channels": 2}, ("new.wav", "adam", "no"), "new.wav: it has 2 channels"),
        ({"rate": 16000}, ("new.wav", "adam", "no"), "1 have 16000 Hz, such as"),
        ({}, ("new.wav", "adam"), "line 2 is not file, speaker and words"),
        ({}, ("new.wav", "a dam", "no"), "the name of a speaker must be one word"),
        (None, ("one.wav", "adam", "no"), "would have the same name, such as adam-one"),
    ],
)
def test_what_is_wrong_with_recordings_is_said(run_program, recordings, make, row, message):
    if make is not None:
        record(recordings / "new.wav", **make)
    row = (recordings / row[0], *row[1:])
    file = table(recordings, (recordings / "one.wav", "adam", "no"), row)
    result = run_program("make_data_dir.py", file, recordings / "data", check=False)
    assert result.returncode == 1 and message in result.stderr.decode()
    assert not (recordings / "data/wav.scp").exists()


def lexicon_of(directory):
    return (directory / "lexicon.txt").read_text().splitlines()


@pytest.mark.slow
def test_dictionaries(run_program, tmp_path):
    (tmp_path / "lexicon").write_text("yes Y EH S\nno N OW\n")
    (tmp_path / "text").write_text("utt1 Ja, nein\nutt2 ja\n")
    run_program("make_dict.py", tmp_path / "lexicon", tmp_path / "given")
    assert lexicon_of(tmp_path / "given") == ["!SIL SIL", "yes Y EH S", "no N OW"]
    assert (tmp_path / "given/nonsilence_phones.txt").read_text() == "EH\nN\nOW\nS\nY\n"
    options = "--word-phones", "true"
    run_program("make_dict.py", *options, tmp_path / "lexicon", tmp_path / "own")
    assert "no N1_no OW2_no" in lexicon_of(tmp_path / "own")
    run_program("make_dict.py", "--spell", "true", tmp_path / "text", tmp_path / "spelt")
    assert lexicon_of(tmp_path / "spelt") == ["!SIL SIL", "Ja, j a", "ja j a", "nein n e i n"]
    run_program("prepare_lang.py", tmp_path / "spelt", "!SIL", tmp_path / "tmp", tmp_path / "lang")


def test_words_that_cannot_be_spelt(run_program, tmp_path):
    (tmp_path / "text").write_text("utt1 ja --\n")
    arguments = "--spell", "true", tmp_path / "text", tmp_path / "dict"
    result = run_program("make_dict.py", *arguments, check=False)
    assert b"-- cannot be spelt" in result.stderr and not (tmp_path / "dict/lexicon.txt").exists()
