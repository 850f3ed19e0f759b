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


def test_results_of_sequence_training_compare_utterances(run_program, tmp_path):
    def decoded(folder, tuning, of_utterances):
        for name, count in ("tune_noisy", tuning), ("test", sum(of_utterances)):
            directory = tmp_path / folder / f"decode_{name}"
            (directory / "wer_details").mkdir(parents=True)
            line = f"%WER {count:.2f} [ {count} / 100, 0 ins, 0 del, {count} sub ]\n"
            (directory / "wer_10_0.0").write_text(line)
            (directory / "tuned_wer").write_text(line)
        lines = [f"utt{n} #csid {1 - w} {w} 0 0\n" for n, w in enumerate(of_utterances)]
        (directory / "wer_details/per_utt").write_text("".join(lines))

    decoded("degs", 9, [1, 1, 1, 1, 0, 0, 1])
    decoded("smbr_0.001", 8, [1, 0, 0, 0, 0, 1, 0])
    decoded("smbr_0.004", 8, [1, 1, 1, 1, 0, 0, 0])
    for epoch in 1, 2:
        (tmp_path / f"smbr_0.001/epoch{epoch}.mdl").touch()
    (tmp_path / "smbr_0.001/log").mkdir()
    for x, value in enumerate([0.5, 0.75, 0.875, 1.0]):
        line = f"SMBR objective function is {value} per frame, over 8 frames.\n"
        (tmp_path / f"smbr_0.001/log/train.{x}.1.log").write_text(f"LOG (x[0.2.0]) {line}")
    program = DIGITS / "local/sequence_results.py"
    said = run_program(program, tmp_path).stdout.decode().splitlines()
    assert said[2:] == [
        "| before |  |  | 9 | 5 | 5.00 |  |  |  |",
        "| **smbr** | 0.001 | 0.6250, 0.9375 | 8 | 2 | 2.00 | 4 | 1 | 0.38 |",
        "| smbr | 0.004 |  | 8 | 4 | 4.00 | 1 | 0 | 1 |",
    ]


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
