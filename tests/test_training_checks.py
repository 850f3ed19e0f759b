"""What a training finds wrong before it begins, which options can change, names, and losses."""

from __future__ import annotations

import dataclasses
import gzip
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_training import make_corpus

from nnet.drivers.ali_dir import alignments_in, make_ali_dir, mismatch
from nnet.drivers.egs_dir import ARCHIVE_INFO, training_archives
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.iterations import minibatch_size
from nnet.drivers.losses import Tally, report
from nnet.drivers.settings import settings_of
from nnet.drivers.training_checks import stage_problems
from nnet.drivers.training_files import (
    logs_after,
    models,
    models_of_jobs,
    parts_made,
    relabelled_egs,
)
from nnet.drivers.training_options import NEVER, TrainingOptions, changed_options, write_options
from nnet.drivers.training_run import TrainingRun
from nnet.drivers.training_schedule import Schedule, ScheduleError
from nnet.errors import NgtrainError
from nnet.hmm.topology import HmmTopology
from nnet.hmm.tree import monophone_tree
from nnet.io.tables import INTEGERS, sequential_table
from nnet.launch.directory_lock import only_driver_in
from steps import train_multisplice
from steps.get_egs2 import PART, ExampleMaker


@pytest.fixture
def train(corpus, environment):
    """train(dir, *options, corpus=None) runs the driver; gives its status and the lines it says."""
    default = corpus

    def run(directory, *options, corpus=None) -> tuple[int, list[str]]:
        command = (corpus or default).command(directory, "--print-args", "false", *options)
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        lines = result.stderr.splitlines()
        return result.returncode, [line.partition(": ")[2] for line in lines]

    return run


def errors(said: list[str]) -> list[str]:
    return [line for line in said if line.startswith("error: ")]


# Before anything is made --------------------------------------------------------------------------


def test_all_that_is_wrong_is_said_at_once(train, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    status, said = train(
        tmp_path / "nnet",
        *["--splice-indexes", "layer0/0 layer5/-1:1", "--realign-times", "0.5 2"],
        *["--pnorm-input-dim", "25", "--egs-opts", "--num-utts-subset 5 --frames 3"],
        *["--lda-opts", "--lda-dim 0", "--align-cmd", "nowhere.pl --mem 2G", "--use-gpu", "yes"],
    )
    assert status == 1 and not (tmp_path / "nnet").exists()
    for start in [
        "--splice-indexes: layer5 is not one of the 2 hidden layers",
        "--realign-times: 2 is not strictly between 0 and 1",
        "--pnorm-input-dim 25: must be a multiple of --pnorm-output-dim 10",
        "--egs-opts: there is no option --frames",
        "--lda-opts: Invalid value for '--lda-dim'",
        "--align-cmd nowhere.pl --mem 2G: there is no program nowhere.pl",
        "--use-gpu yes: nvidia-smi shows no GPU",
    ]:
        assert any(line.startswith(f"error: {start}") for line in said), (start, said)


def test_too_little_data(train, tmp_path):
    """For the jobs and for the layers, counted before there are examples; and to hold some out."""
    options = ["--num-jobs-final", "9", "--num-epochs", "2"]
    status, said = train(tmp_path / "nnet", *options, "--egs-opts", "--num-utts-subset 5")
    said = errors(said)
    assert status == 1 and len(said) == 2
    assert said[0].startswith("error: --num-jobs-final 9 cannot exceed 2, the number of archives")
    assert "2 epochs are 0 iterations, too few to add layers" in said[1]
    status, said = train(tmp_path / "nnet", "--egs-opts", "--num-utts-subset 15")
    said = errors(said)
    assert (status, len(said)) == (1, 1)
    assert "number of utterances 60" in said[0] and "use --num-utts-subset 14 or less" in said[0]
    assert not (tmp_path / "nnet").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--lda-dim", "10000"], "--lda-dim 10000: the spliced features have only "),
        (["--online-ivector-dir", "nowhere"], "no such file: nowhere/ivector_online.scp"),
        (["--stage", "46"], "--stage 46: the last stages of this training are 5, the combination"),
        (["--exit-stage", "7"], "--exit-stage 7: the last stages of this training are 5"),
        (["--stage", "2"], "--stage 2: model 2 is not there"),
        (["--stage", "0", "--exit-stage", "0"], "--exit-stage 0 must come after --stage 0"),
    ],
)
def test_what_does_not_go(train, tmp_path, options, reason):
    status, said = train(tmp_path / "nnet", *options)
    assert status == 1 and said[-1].startswith(f"error: {reason}"), said
    assert not (tmp_path / "nnet").exists()


def test_a_tree_of_another_model(train, shared, run_program, tmp_path):
    topology = HmmTopology.load(str(shared / "kaldi/data/lang/topo"))
    corpus = make_corpus(shared, tmp_path)
    tree, model = corpus.ali / "tree", corpus.ali / "final.mdl"
    topo = corpus.lang / "topo"
    assert mismatch(tree, model) == mismatch(tree, model, topo) == ""
    (corpus.ali / "ali.7.gz").touch()  # is left over, and read by nobody
    phones, sizes = (
        [[p] for p in topology.phones],
        {p: topology.num_pdf_classes(p) for p in topology.phones},
    )
    monophone_tree(phones, sizes).save(str(tree))
    line = f"{tree} has 62 pdf-ids, {model} 128: they do not belong together"
    assert mismatch(tree, model) == line
    result = run_program("validate_ali_dir.py", corpus.ali, check=False)
    assert result.returncode == 1 and line in result.stderr.decode()
    status, said = train(tmp_path / "nnet", corpus=corpus)
    assert status == 1 and said[-1].startswith(f"error: {line}")
    assert not (tmp_path / "nnet").exists()


def test_a_topology_of_another_model(shared, tmp_path):
    """As many pdf-ids, and other transition-states."""
    ali, lang = shared / "kaldi/exp/tri2_ali", shared / "kaldi/data/lang"
    text = (lang / "topo").read_text()
    assert " 20\n</ForPhones>" in text  # a phone becomes one of silence's states more
    text = text.replace(" 20\n</ForPhones>", "\n</ForPhones>").replace("\n1\n", "\n1 20\n")
    (tmp_path / "topo").write_text(text)
    reason = mismatch(ali / "tree", ali / "final.mdl", tmp_path / "topo")
    assert reason.startswith(f"{ali}/tree and {tmp_path}/topo")
    assert "transition-states" in reason or "the tree has no pdf for pdf-class 3" in reason


def test_examples_of_other_alignments(train, tmp_path):
    """A directory of examples that is not whole, or has labels that the tree has not."""
    egs = tmp_path / "egs"
    (egs / "info/archives").mkdir(parents=True)
    info = {"num_archives": 3, "frames_per_eg": 2, "left_context": 2, "right_context": 2}
    for name, number in info.items():
        (egs / "info" / name).write_text(f"{number}\n")
    for name in "egs.1.ark", "egs.3.ark", "combine.egs":
        (egs / name).touch()
    (egs / "info/archives/egs.3.ark").write_text("largest-pdf 128\ninput-dim 40\n")
    status, said = train(tmp_path / "nnet", "--egs-dir", egs)
    said = errors(said)
    assert status == 1 and len(said) == 2, said
    names = [egs / name for name in ("egs.2.ark", "valid_diagnostic.egs", "train_diagnostic.egs")]
    assert said[0].startswith(f"error: no such file: {', '.join(map(str, names))}; make the")
    assert f"{egs}/egs.3.ark: it has a label of 128, but" in said[1]


# Options of a directory that was begun ------------------------------------------------------------


def test_every_option_says_what_it_affects():
    parameters = {parameter.name for parameter in train_multisplice.main.params}
    parameters -= {"dir", "config", "help", "print_args", "verbose"}
    assert parameters == settings_of(TrainingOptions).keys()


@pytest.fixture
def begun(tmp_path):
    """begun(made, **options) is a directory with options and empty files; gives what changed."""

    def changed(made: list[str], **options) -> list[str]:
        for name in made:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return changed_options(tmp_path, options, parts_made(tmp_path, "egs" in made))

    write_options(
        tmp_path,
        {
            "egs_opts": "--num-utts-subset 5\n   --num-frames-diagnostic 500",
            "splice_indexes": "layer0/-1:0:1\nlayer1/-1:1",
            "alpha": 4.0,
            "final_effective_lrate": 0.001,
            "max_models_combine": 20,
            "lda_dim": None,
            "cmd": "run.py",
            "data": "tests/../tests",
        },
    )
    assert len((tmp_path / "train_options").read_text().splitlines()) == 8
    return changed


@pytest.mark.parametrize(
    "same",
    [
        {"egs_opts": "--num-utts-subset=5 --num_frames_diagnostic=500"},
        {"egs_opts": "--num-frames-diagnostic 500 --num-utts-subset 5 --samples-per-iter 400000"},
        {"egs_opts": "--num-utts-subset 5 --num-frames-diagnostic 500 --io-opts '--mem 4G'"},
        {"splice_indexes": "layer1/-1:1   layer0/-1:0:1"},
        {"final_effective_lrate": 1e-3, "alpha": 4, "lda_dim": None},
        {"cmd": "slurm.py", "data": os.path.abspath("tests")},
    ],
)
def test_options_are_compared_as_values(begun, same):
    assert begun(["lda.mat", "egs", "0.mdl", "1.mdl", "final.mdl"], **same) == []


def test_other_values_are_seen(begun):
    changed = begun(["final.mdl"], egs_opts="--num-utts-subset 6", alpha=4.5, lda_dim=10)
    assert changed[0] == "alpha was '4.0' and is '4.5'"
    assert changed[1].startswith("egs-opts was '--num-utts-subset 5 --num-frames-diagnostic 500'")
    assert changed[2] == "lda-dim was '' and is '10'"


def test_a_gpu_decides_how_examples_are_stored(tmp_path):
    """Archives or HDF5 files, and so their order: no other choice once there are examples."""
    write_options(tmp_path, {"use_gpu": "yes"})
    for use_gpu, egs_are_there, changed in [
        ("wait", True, []),
        ("optional", True, []),
        ("no", False, []),
        ("no", True, ["use-gpu was 'yes' and is 'no'"]),
    ]:
        made = parts_made(tmp_path, egs_are_there)
        assert changed_options(tmp_path, {"use_gpu": use_gpu}, made) == changed


def test_options_can_be_corrected_until_they_have_had_an_effect(begun):
    other = {"alpha": 3.0, "final_effective_lrate": 0.1, "max_models_combine": 3}
    for made, names in [
        ("lda.mat", []),
        ("0.mdl", ["alpha"]),
        ("best.1.mdl", ["alpha"]),
        ("1.2.mdl", ["alpha", "final-effective-lrate"]),
        ("combined.mdl", ["alpha", "final-effective-lrate", "max-models-combine"]),
    ]:
        assert [line.split()[0] for line in begun([made], **other)] == names


def test_going_on_with_a_corrected_option(train, tmp_path):
    """The network is there, no iteration has begun: its rates can be other ones, its size not."""
    nnet = tmp_path / "nnet"
    assert train(nnet, "--exit-stage", "0")[0] == 0
    assert models(nnet).keys() == {0}
    status, said = train(nnet, "--exit-stage", "0", "--pnorm-input-dim", "30")
    assert status == 1 and "pnorm-input-dim was '20' and is '30'" in said[-1]
    options = ["--final-effective-lrate", "0.002", "--egs-opts", "\n--num-utts-subset=5 "]
    status, said = train(nnet, "--exit-stage", "1", "--minibatch-size", "64", *options)
    assert status == 0 and said[-1] == "ending before stage 1, as --exit-stage 1 says"
    assert models(nnet).keys() == {0, 1}
    status, said = train(nnet, "--exit-stage", "0", *options)  # which is past
    assert status == 0 and said[-1] == "ending before stage 1, as --exit-stage 0 says"
    assert models(nnet).keys() == {0, 1}
    (nnet / "final.mdl").touch()
    status, said = train(nnet, "--alpha", "2", *options)
    assert status == 0 and "nothing to do" in said[0]
    assert said[1] == "warning: it was made with other options: alpha was '4.0' and is '2.0'"


# Stages and names ---------------------------------------------------------------------------------

SCHEDULE = Schedule(
    num_epochs=8, num_archives=1, frames_per_eg=6, num_jobs_initial=2, num_jobs_final=4,
    initial_effective_lrate=0.01, final_effective_lrate=0.001, num_hidden_layers=3,
    add_layers_period=2, max_models_combine=4,
)  # fmt: skip


def found(directory: Path, there: list, **options) -> list[str]:
    """What is wrong with stages where models are there; 16 iterations, 13 to 16 are combined."""
    assert SCHEDULE.num_iters == 16 and SCHEDULE.combination() == [[13], [14], [15], [16]]
    for name in there:
        (directory / f"{name}.mdl").touch()
    options = {"stage": None, "exit_stage": NEVER, "max_models_combine": 4, **options}
    training = SimpleNamespace(
        dir=directory,
        options=SimpleNamespace(**options),
        model=lambda name: directory / f"{name}.mdl",
    )
    return list(stage_problems(training, SCHEDULE))


@pytest.mark.parametrize(
    ("there", "stage", "possible"),
    [
        ([0, 16, "final"], 16, "0, 17"),
        ([0, 16, "final"], 9, "0, 17"),
        ([0, 12, 13, 14], 15, "0, 12, 13, 14"),
        ([0, 13, 14, 15, 16], 17, "0, 13, 14, 15, 16"),
    ],
)
def test_a_stage_whose_models_are_gone(tmp_path, there, stage, possible):
    """The finished training stays as it is, and what can be done is said."""
    (problem,) = found(tmp_path, there, stage=stage)
    assert problem.startswith(f"--stage {stage}: ") and problem.endswith(f"possible are {possible}")


def test_stages_that_can_be_done_again(tmp_path):
    there = [0, 13, 14, 15, 16, "final", "best.1"]
    for stage in -4, -2, 0, 13, 16, 17:
        assert found(tmp_path, there, stage=stage) == []
    (tmp_path / "14.mdl").unlink()
    (tmp_path / "final.mdl").unlink()
    (problem,) = found(tmp_path, [])
    assert problem.startswith("--max-models-combine 4: 14 of the models to combine were removed")


def test_only_names_of_the_driver(tmp_path, caplog):
    ours = ["0.mdl", "7.mdl", "7.2.mdl", "8.1.mdl", "8.1.mdl.crc32"]
    others = ["best.1.mdl", "07.mdl", "1.2.3.mdl", "my7.mdl", "7.2.mdl.bak", "-1.mdl"]
    for name in (*ours, *others):
        (tmp_path / name).touch()
    for name in "egs_0.5", "egs_old", "egs_0.5.bak":
        (tmp_path / name / "info").mkdir(parents=True)
        (tmp_path / name / "info/num_archives").write_text("1\n")
    (tmp_path / "log").mkdir()
    for name in "train.7.1", "train.8.1", "train.8.1.failed1", "average.8", "train.8.mine", "my.9":
        (tmp_path / f"log/{name}.log").touch()
    assert models(tmp_path).keys() == {0, 7} and models_of_jobs(tmp_path).keys() == {(7, 2), (8, 1)}
    assert relabelled_egs(tmp_path) == [tmp_path / "egs_0.5"]
    later = {path.name for path in logs_after(tmp_path, 7)}
    assert {"train.8.1.log", "train.8.1.failed1.log", "average.8.log"} <= later
    assert not later & {"train.7.1.log", "my.9.log"}
    train_multisplice.forget(TrainingRun(tmp_path, SimpleNamespace(stage=1, egs_dir="")), 1)
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {"0.mdl", *others}
    numbers = {path.parent.parent.name for path in tmp_path.glob("*/info/num_archives")}
    assert numbers == {"egs_old", "egs_0.5.bak"}


def test_only_names_of_other_drivers(tmp_path):
    """Of alignments, examples and temporary files."""
    archives = ["ali.2.gz", "ali.10.gz", "egs.1.ark", "egs.2.h5"]
    others = ["ali.old.gz", "ali.2.gz.bak", "egs.old.ark", "mine.egs", ".notes.tmp"]
    for name in [*archives, *others, "combine.egs", "valid_all.egs", f".x.{'0f' * 8}.tmp"]:
        (tmp_path / name).touch()
    assert [path.name for path in alignments_in(tmp_path)] == archives[:2]
    assert sorted(path.name for path in training_archives(tmp_path)) == archives[2:]
    (tmp_path / ARCHIVE_INFO).mkdir(parents=True)
    maker = object.__new__(ExampleMaker)
    maker.egs = tmp_path
    maker.remove_outputs(stage=0)
    with only_driver_in(tmp_path):
        pass
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {*archives[:2], *others}


def test_parts_for_more_archives_are_not_left_out(tmp_path):
    maker = object.__new__(ExampleMaker)
    maker.egs = tmp_path
    for name in "egs_orig.2.10.ark", "egs_orig.12.1.ark", "egs_orig.old.ark":
        (tmp_path / name).touch()
    maker.check_parts(num_archives=12)
    with pytest.raises(NgtrainError, match=r"examples for 12 archives or more, and .* make 2: "):
        maker.check_parts(num_archives=2)
    (tmp_path / ARCHIVE_INFO).mkdir(parents=True)
    maker.remove_outputs(stage=4)
    assert len(maker.made(PART)) == 2
    maker.remove_outputs(stage=3)  # which makes them again
    maker.check_parts(num_archives=2)
    assert [path.name for path in tmp_path.glob("*.ark")] == ["egs_orig.old.ark"]


def test_the_schedule_says_all_at_once():
    with pytest.raises(ScheduleError) as error:
        dataclasses.replace(SCHEDULE, num_jobs_final=7, num_epochs=2)
    assert len(error.value.problems) == 2
    with pytest.raises(ScheduleError, match=r"positive numbers.*num-epochs inf"):
        dataclasses.replace(SCHEDULE, final_effective_lrate=float("nan"), num_epochs=float("inf"))


def test_half_a_minibatch_of_one_frame(tmp_path):
    training = TrainingRun(tmp_path, SimpleNamespace(minibatch_size=1))
    training.schedule = SCHEDULE
    assert minibatch_size(training, 0) == minibatch_size(training, 1) == 1


# What is lost -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_examples_of_alignments_that_are_too_short(run_program, shared, tmp_path):
    """Of 60 utterances 20 have an alignment that is two frames short; then none; then 40."""
    corpus = make_corpus(shared, tmp_path)
    with sequential_table(f"ark:gunzip -c {corpus.ali}/ali.1.gz |", INTEGERS) as table:
        alignments = {key: value.tolist() for key, value in table}
    for num_short, stage, status in (20, 0, 0), (0, 3, 0), (40, 3, 1):
        with gzip.open(corpus.ali / "ali.1.gz", "wt") as file:
            for n, (key, ids) in enumerate(sorted(alignments.items())):
                print(key, *(ids[:-2] if n < num_short else ids), file=file)
        options = ["--num-utts-subset", 5, "--stage", stage]
        directories = corpus.data, corpus.ali, tmp_path / "egs"
        result = run_program("get_egs2.py", *options, *directories, check=False)
        said = result.stderr.decode()
        assert result.returncode == status, said
        if num_short == 0:
            assert "get_egs2.py: made examples of 60 of 60 utterances (" in said
        elif status == 0:
            assert "get_egs2.py: warning: made examples of 40 of 60 utterances (" in said
            assert "20 were not, such as: Posterior has wrong size " in said
    result = run_program(
        "get_lda.py", corpus.data, corpus.lang, corpus.ali, tmp_path / "lda", check=False
    )
    assert result.returncode == 1
    lost = "20 of 60 utterances; 40 were not, such as: Posterior vs. feats size"
    assert f"took statistics of {lost}" in result.stderr.decode()


def test_alignments_of_a_job_that_failed_are_not_taken_for_whole(tmp_path, environment):
    """What a killed program had written is an archive, too, but there is no num_jobs beside it."""
    data, ali = tmp_path / "data", tmp_path / "ali"
    data.mkdir()
    (data / "utt2spk").write_text("u s\n")

    def make(program: str) -> None:
        make_ali_dir(
            ali, data, 1, "run.py", copies={}, features=FeaturePipeline("raw"), log_name="x",
            command=lambda *_: [program],
        )  # fmt: skip

    make("true")
    assert (ali / "num_jobs").read_text() == "1\n"
    with pytest.raises(NgtrainError):
        make("false")
    assert not (ali / "num_jobs").exists()


def test_what_is_a_warning(tmp_path, caplog):
    (tmp_path / "1.log").write_text(
        "WARNING (x[1]) Retrying a\nWARNING (x[1]) bad b\nDone 3 of 4\n"
    )
    (tmp_path / "2.log").write_text("Done 1 of 2\nDone 5 of 9\n")
    tally = Tally.of(
        [tmp_path / "1.log", tmp_path / "2.log"], r"Done (?P<done>\d+) of (?P<all>\d+)"
    )
    assert tally.counts == {"done": 8, "all": 13} and tally.example == "bad b"
    with caplog.at_level("INFO", logger="ngtrain"):
        for done in 100, 98, 90:
            report("did", done, 100, "things", "bad b", "the log")
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
    assert caplog.messages[0] == "did 100 of 100 things"
    assert caplog.messages[2] == "did 90 of 100 things; 10 were not, such as: bad b; see the log"
    with pytest.raises(NgtrainError, match="did 49 of 100 things"):
        report("did", 49, 100, "things", "", "the log")


def test_a_split_of_files_that_were_put_back(run_program, corpus, tmp_path):
    """Older files in place of newer ones: what counts is what is in them."""
    data = shutil.copytree(corpus.data, tmp_path / "data")
    older = shutil.copytree(data, tmp_path / "older")
    for name in "utt2spk", "feats.scp", "text":
        lines = (older / name).read_text().splitlines(keepends=True)
        (older / name).write_text("".join(lines[:38]))
        os.utime(older / name, (1e9, 1e9))
    keys = " ".join(line.split()[0] for line in (older / "utt2spk").read_text().splitlines())
    (older / "spk2utt").write_text(f"{(older / 'spk2utt').read_text().split()[0]} {keys}\n")
    run_program("split_data.py", data, 1)
    shutil.copytree(older, data, dirs_exist_ok=True, copy_function=shutil.copy2)
    run_program("split_data.py", data, 1)
    assert len((data / "split1/1/utt2spk").read_text().splitlines()) == 38
    before = (data / "split1/1/utt2spk").stat().st_mtime_ns
    run_program("split_data.py", data, 1)
    assert (data / "split1/1/utt2spk").stat().st_mtime_ns == before


def test_parts_that_are_there_need_no_lock(run_program, corpus, tmp_path):
    """The data may be another's, who lets us read it only: a lock cannot be made."""
    data = shutil.copytree(corpus.data, tmp_path / "data")
    run_program("split_data.py", data, 1)
    (data / ".lock").mkdir()
    run_program("split_data.py", data, 1)
    result = run_program("split_data.py", "--per-utt", data, 2, check=False)
    assert result.returncode == 1 and b"/data/.lock: " in result.stderr
