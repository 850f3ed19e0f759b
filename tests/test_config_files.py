"""conf/: every file is accepted by what it is for, says what that is, and is found anywhere."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nnet.cli import read_config
from nnet.cli.config_files import find_config
from nnet.drivers.multisplice_configs import parse_splice_indexes
from nnet.drivers.settings import read_words
from nnet.drivers.training_options import TrainingOptions
from nnet.launch import cluster
from nnet.launch.gridengine import GridEngine
from nnet.launch.launcher import parse
from nnet.launch.slurm import Slurm

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
FEATURES = {
    "mfcc": ("mfcc", 13),
    "mfcc_hires": ("mfcc", 40),
    "plp": ("plp", 13),
    "fbank": ("fbank", 40),
}
"""Programs and dimensions."""
CLUSTERS = {"queue": GridEngine(), "slurm": Slurm()}
NETWORKS = ["pnorm_paper", "multisplice", "relu", "hours", "small", "minutes"]


@pytest.fixture
def noise():
    """A second of telephone speech, so to say."""
    return np.random.default_rng(0).normal(scale=0.1, size=8000)


def test_all_files_are_tested():
    assert {file.name for file in CONF.iterdir()} == {
        f"{name}.conf" for name in [*FEATURES, *CLUSTERS, *NETWORKS]
    }


@pytest.mark.parametrize("file", sorted(CONF.glob("*.conf")), ids=lambda file: file.name)
def test_files_say_what_they_are_for(file):
    head = re.match(r"(#.*\n)+", file.read_text())[0]
    assert "Tried on:" in head
    ours = re.sub(r"Kaldi's egs/\S+", "", head)
    named = re.findall(r"\b(?:docs|egs|tests|utils|steps)/[\w./-]*\w", ours)
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FEATURES)
def test_features(run_program, tmp_path, noise, name):
    """Found from another folder, and computed of telephone speech."""
    kind, dim = FEATURES[name]
    soundfile.write(tmp_path / "a.wav", noise, 8000)
    (tmp_path / "wav.scp").write_text("a a.wav\n")
    config = f"--config=conf/{name}.conf"
    run_program(f"compute-{kind}-feats", config, "scp:wav.scp", "ark:f.ark", cwd=tmp_path)
    assert run_program("feat-to-dim", "ark:f.ark", "-", cwd=tmp_path).stdout == b"%d\n" % dim


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters(tmp_path, monkeypatch, name):
    """Every option that --help names becomes something, or nothing by intention."""
    monkeypatch.chdir(tmp_path)
    for options in "", "--mem 2G --num-threads 2 --gpu 1 --max-jobs-run 3", "--mem 0 --gpu 0":
        call = parse([*options.split(), "JOB=1:9", "x.JOB", "true"])
        command = cluster.read_config(CLUSTERS[name], call)
        assert command[0] == {"queue": "qsub", "slurm": "sbatch"}[name]
        assert [word for word in command if "$0" in word] == []


def options_of_training(file: Path) -> dict:
    return read_words(TrainingOptions, [f"--config={file}", "data", "lang", "ali"]).given


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    file = CONF / f"{name}.conf"
    options = options_of_training(file)
    assert max(parse_splice_indexes(options["splice_indexes"])) < options["num_hidden_layers"]
    assert options["num_jobs_initial"] <= options["num_jobs_final"]
    ratio = options["initial_effective_lrate"] / options["final_effective_lrate"]
    assert ratio == pytest.approx(10)
    given = [line.partition("=")[0] for line in read_config(str(file))]
    assert len(given) == len(set(given)) > 0
    unused = "--pnorm" if options["nonlin"] != "pnorm" else "--hidden-dim"
    assert [option for option in given if option.startswith(unused)] == []


def test_the_paper():
    """The sizes of its recipe, whose rates are those of each of six jobs."""
    options = options_of_training(CONF / "pnorm_paper.conf")
    assert len(parse_splice_indexes(options["splice_indexes"])[0]) == 15
    assert options["num_jobs_final"] * options["initial_effective_lrate"] == pytest.approx(
        0.01, rel=0.03
    )


def test_recipes_have_only_what_differs():
    ours = {
        tuple(read_config(str(file))) for file in CONF.glob("*.conf") if file.stem not in CLUSTERS
    }
    theirs = {
        file: tuple(read_config(str(file)))
        for file in ROOT.glob("egs/*/conf/mfcc*.conf")
        if not file.is_symlink()
    }
    assert theirs
    assert ours.isdisjoint(theirs.values())


def test_the_current_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("conf/mfcc.conf") == str(CONF / "mfcc.conf")
    for name in "conf/nothing.conf", "mfcc.conf", "./conf/mfcc.conf", str(tmp_path / "conf/x"):
        assert find_config(name) == name
    Path("conf").mkdir()
    Path("conf/mfcc.conf").write_text("--num-ceps=7\n")
    assert find_config("conf/mfcc.conf") == "conf/mfcc.conf"
    assert read_config("conf/mfcc.conf") == ["--num-ceps=7"]


@pytest.mark.slow
def test_drivers_say_which_file_they_take(run_program, tmp_path, noise):
    """And --help where they look for it."""
    data = tmp_path / "data"
    data.mkdir()
    soundfile.write(data / "a.wav", noise, 8000)
    (data / "wav.scp").write_text("a data/a.wav\n")
    for name in "utt2spk", "spk2utt":
        (data / name).write_text("a a\n")
    said = run_program("make_fbank.py", "--nj", 1, "data", cwd=tmp_path).stderr.decode()
    assert f"there is no conf/fbank.conf here: using {CONF / 'fbank.conf'}" in said
    assert (data / "conf/fbank.conf").read_bytes() == (CONF / "fbank.conf").read_bytes()
    for program in "make_mfcc.py", "train_multisplice.py", "slurm.py", "queue.py":
        said = " ".join(run_program(program, "--help").stdout.decode().split())
        assert "current folder" in said and "the project's root" in said


def test_a_file_that_is_nowhere_is_named(run_program, tmp_path):
    result = run_program("compute-mfcc-feats", "--config=conf/no.conf", "scp:x", "ark:-",
                         cwd=tmp_path, check=False)  # fmt: skip
    (line,) = result.stderr.decode().splitlines()
    assert result.returncode == 1 and "conf/no.conf" in line
