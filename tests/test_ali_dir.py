"""utils/validate_ali_dir.py, on an alignment directory that Kaldi wrote."""

import re
import shutil

import pytest

NAMES = ["ali.1.gz", "ali.2.gz", "final.mdl", "num_jobs", "tree"]


@pytest.fixture
def ali_dir(shared, tmp_path):
    path = tmp_path / "ali"
    path.mkdir()
    for name in NAMES:
        shutil.copyfile(shared / "kaldi" / "exp" / "tri2_ali" / name, path / name)
    return path


@pytest.fixture
def validate(run_program, ali_dir):
    """Returns the exit status and the lines that it says."""

    def run(*args):
        result = run_program("validate_ali_dir.py", ali_dir, *args, check=False)
        said = result.stderr.decode().replace(f"{ali_dir}/", "").splitlines()
        return result.returncode, [line.partition(": ")[2] for line in said]

    return run


def test_good(validate, ali_dir, shared):
    status, said = validate(shared / "kaldi" / "data" / "train")
    assert status == 0
    assert said == [f"Successfully validated alignment directory {ali_dir}: 2000 utterances"]


def test_says_all_at_once(validate, ali_dir):
    (ali_dir / "ali.1.gz").rename(ali_dir / "ali.3.gz")
    (ali_dir / "tree").unlink()
    with open(ali_dir / "final.mdl", "r+b") as file:
        file.truncate(3000)
    status, said = validate()
    assert status == 1
    assert said[:2] == [
        "error: ali.1.gz: there is no such file",
        "error: ali.3.gz: it is left over, as num_jobs is 2",
    ]
    assert "tree-info" in said[2] and "tree" in said[2]
    assert "copy-transition-model" in said[3] and "final.mdl" in said[3]
    assert len(said) == 4


def test_archives_are_read_whatever_else_is_wrong(validate, ali_dir, tmp_path):
    """Without a model the lengths are still known, and utterances in two archives."""
    (ali_dir / "final.mdl").unlink()
    shutil.copy(ali_dir / "ali.1.gz", ali_dir / "ali.3.gz")
    (ali_dir / "num_jobs").write_text("3\n")
    with open(ali_dir / "ali.2.gz", "r+b") as file:
        file.truncate(5000)
    status, said = validate(tmp_path / "no-data")
    assert status == 1
    assert "final.mdl" in said[0]
    assert said[1].startswith("error: ali.2.gz: ") and "gunzip" in said[1]
    assert re.match(r"error: ali.3.gz: \d+ utterances are aligned in another archive, too", said[2])
    assert said[3].endswith("no-data/utt2spk")
    assert len(said) == 4


def test_truncated_archive(validate, ali_dir):
    with open(ali_dir / "ali.2.gz", "r+b") as file:
        file.truncate(5000)
    status, said = validate()
    assert (status, len(said)) == (1, 1)
    assert said[0].startswith("error: ali.2.gz: ")
    assert "gunzip" in said[0]


def test_without_a_number_of_jobs(validate, ali_dir):
    (ali_dir / "num_jobs").write_text("none\n")
    assert validate() == (1, ["error: num_jobs: expected a number, found 'none'"])
    (ali_dir / "num_jobs").write_text("999999999999\n")
    assert validate() == (1, ["error: num_jobs: 999999999999 is no number of jobs"])


def test_other_data(validate, ali_dir, tmp_path, shared):
    train = shared / "kaldi" / "data" / "train"
    data = tmp_path / "data"
    data.mkdir()
    lines = (train / "utt2spk").read_text().splitlines(keepends=True)
    (data / "utt2spk").write_text("".join([*lines[1:], "zoe-1 zoe\n"]))
    (data / "utt2num_frames").write_text("theo-9-49 1\n")
    status, said = validate(data)
    assert status == 1
    assert said[0] == "warning: 1 of 2000 utterances have no alignment"
    assert said[1] == f"error: {data}: 1 aligned utterances are not in it, such as george-0-00"
    assert said[2].startswith(f"error: {data}: 1 lengths differ from utt2num_frames, such as theo")
