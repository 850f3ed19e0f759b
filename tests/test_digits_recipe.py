"""The digits recipe: its data of the Free Spoken Digit Dataset, its dictionary, its results."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "egs" / "digits"
SCRIPT = DIGITS / "local" / "prepare_fsdd.py"
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


@pytest.mark.slow
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


def test_names_and_words_are_those_of_kaldis_data_directory(prepare, reference, tmp_path):
    kaldi = reference("kaldi/data/test/text").parent
    prepare("--split=unseen", kaldi.parents[2] / "fsdd", tmp_path)
    for file in "text", "utt2spk", "spk2utt":
        assert (tmp_path / "test" / file).read_text() == (kaldi / file).read_text()


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


def test_every_phone_is_of_one_digit(run_program, tmp_path):
    run_program(DIGITS / "local/prepare_dict.py", tmp_path)
    lexicon = dict(
        line.split(maxsplit=1) for line in (tmp_path / "lexicon.txt").read_text().splitlines()
    )
    assert lexicon.pop("!SIL") == "SIL"
    assert len(lexicon) == 10
    phones = [phone for pronunciation in lexicon.values() for phone in pronunciation.split()]
    assert len(set(phones)) == len(phones)
    assert (tmp_path / "nonsilence_phones.txt").read_text().split() == phones


def test_results_are_those_in_the_files(run_program, tmp_path):
    for split, errors in ("seen", 3), ("unseen", 40):
        network = tmp_path / split / "nnet"
        (network / "log").mkdir(parents=True)
        (network / "decode_test").mkdir()
        for name, extra in ("best_wer", 0), ("tuned_wer", 10):
            wer = (errors + extra) / 10
            (network / "decode_test" / name).write_text(f"%WER {wer:.2f} [ ... ] wer_10_0.0\n")
        for name, value in ("valid", -0.75), ("train", -0.5):
            (network / "log" / f"compute_prob_{name}.final.log").write_text(
                f"LOG (nnet-compute-prob[0.1.0]) Saw 8 examples, average probability is {value} "
                "and accuracy is 0.875 with total weight 8\n"
            )
    lines = run_program(DIGITS / "local/results.py", tmp_path).stdout.decode().splitlines()
    assert lines[1].split()[:5] == ["seen/nnet", "1.30", "%", "0.30", "%"]
    assert " ".join(lines[2].split()) == (
        "unseen/nnet 5.00 % 4.00 % -0.750 / 87.5 % -0.500 / 87.5 %"
    )


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--corpus", "timit"], "--corpus is synth or fsdd"),
        (["--corpus=fsdd"], "--fsdd-dir"),
        (["--num-jobs", "0"], "--num-jobs"),
        (["--stages", "3"], "--stages"),
        (["--hours"], "--hours needs a value"),
    ],
)
def test_bad_options_of_the_recipe_end_before_anything_is_done(
    run_program, tmp_path, arguments, reason
):
    result = run_program(DIGITS / "run.sh", "--dir", tmp_path / "exp", *arguments, check=False)
    assert result.returncode != 0
    (line,) = result.stderr.decode().splitlines()
    assert reason in line
    assert not (tmp_path / "exp").exists()
