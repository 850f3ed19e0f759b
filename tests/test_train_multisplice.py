"""The multisplice driver: its schedule and configs against Kaldi's logs, and a tiny training."""

from __future__ import annotations

import dataclasses
import re
import shutil
import signal
import subprocess
import time
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from nnet.drivers.multisplice_configs import (
    MultispliceNetwork,
    context,
    parse_splice_indexes,
    presoftmax_scales,
)
from nnet.drivers.training_options import TrainingOptions
from nnet.drivers.training_schedule import Schedule, ScheduleError
from nnet.egs.minibatches import read_minibatches
from nnet.hmm.transition_model import TransitionModel
from nnet.io.tables import INTEGERS, sequential_table
from nnet.io.tokens import Reader, read_object
from nnet.model.acoustic_model import AcousticModel, load_network
from nnet.model.network import Network
from nnet.model.propagation import compute
from nnet.report.training_logs import last_number, read_training

SCHEDULE = Schedule(
    num_epochs=8,
    num_archives=1,
    frames_per_eg=6,
    num_jobs_initial=2,
    num_jobs_final=4,
    initial_effective_lrate=0.01,
    final_effective_lrate=0.001,
    num_hidden_layers=3,
    add_layers_period=2,
    max_models_combine=20,
)


def test_schedule_is_that_of_the_logs(kaldi_training):
    """Jobs, learning rates, archives, frames, minibatch sizes, added layers, averaging."""
    assert SCHEDULE.num_iters == 16
    logs = {path.name: path.read_text() for path in (kaldi_training / "log").glob("train.*.log")}
    seen = 0
    for x in range(SCHEDULE.num_iters):
        jobs = SCHEDULE.archives_and_frames(x)
        assert len(jobs) == SCHEDULE.num_jobs(x)
        for n, (archive, frame) in enumerate(jobs, start=1):
            command = logs[f"train.{x}.{n}.log"].splitlines()[0]
            rate = re.search(r"--learning-rate=(\S+)", command)[1]
            assert f"{SCHEDULE.learning_rate(x):.15g}" == rate
            assert f"--frame={frame} ark:exp/ms1/egs/egs.{archive}.ark" in command
            minibatch = 128 if SCHEDULE.averages(x) else 64
            assert f"--minibatch-size={minibatch} " in command
            hidden = re.search(r"hidden_(\d)\.config", command)
            assert SCHEDULE.added_layer(x) == (int(hidden[1]) if hidden else None)
            seen += 1
        assert (kaldi_training / "log" / f"average.{x}.log").exists() == SCHEDULE.averages(x)
    assert seen == len(logs)


def test_the_number_of_jobs_goes_in_steps():
    schedule = dataclasses.replace(SCHEDULE, num_archives=4, num_jobs_final=9, num_jobs_step=3)
    jobs = [schedule.num_jobs(x) for x in range(schedule.num_iters)]
    smooth = dataclasses.replace(schedule, num_jobs_step=1)
    assert jobs[0] == 2 and sorted(jobs) == jobs and set(jobs) == {2, 3, 6, 9}
    assert schedule.num_iters == smooth.num_iters
    assert max(abs(n - smooth.num_jobs(x)) for x, n in enumerate(jobs)) <= 2
    assert sum(jobs) == pytest.approx(schedule.num_archives_to_process, rel=0.1)


def test_combination_is_that_of_the_logs(kaldi_training):
    command = (kaldi_training / "log" / "combine.log").read_text().splitlines()[0]
    models = re.findall(r"exp/ms1/(\d+)\.mdl", command)
    assert [[int(model)] for model in models] == SCHEDULE.combination()


def test_combination_averages_groups_when_an_epoch_has_many_iterations():
    schedule = dataclasses.replace(SCHEDULE, num_archives=50, max_models_combine=20)
    groups = schedule.combination()
    assert len(groups) == 20
    models = list(chain.from_iterable(groups))
    assert models == list(range(models[0], schedule.num_iters + 1))
    assert len(models) == 50 * 6 // 4  # an epoch
    assert {len(group) for group in groups} == {3, 4}


def test_frames_change_more_slowly_than_archives():
    schedule = dataclasses.replace(SCHEDULE, num_archives=3)
    jobs = list(chain.from_iterable(map(schedule.archives_and_frames, range(schedule.num_iters))))
    assert jobs[:7] == [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 1), (1, 2)]
    assert len(jobs) == pytest.approx(schedule.num_archives_to_process, abs=4)


@pytest.mark.parametrize(("jobs_initial", "jobs_final"), [(1, 1), (2, 4), (1, 16)])
@pytest.mark.parametrize("proportion", [0.1, 0.5, 0.9])
def test_iteration_at_a_proportion_of_the_data(jobs_initial, jobs_final, proportion):
    schedule = dataclasses.replace(
        SCHEDULE, num_archives=100, num_jobs_initial=jobs_initial, num_jobs_final=jobs_final
    )
    seen = schedule.num_archives_processed(schedule.iteration_at(proportion))
    assert seen / schedule.num_archives_to_process == pytest.approx(proportion, abs=0.015)


def test_effective_learning_rate_decays_exponentially():
    rates = [SCHEDULE.learning_rate(x) / SCHEDULE.num_jobs(x) for x in range(16)]
    assert rates[0] == pytest.approx(0.01) and rates[-1] == pytest.approx(0.001)
    assert sorted(rates, reverse=True) == rates


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 0}, "num-hidden-layers"),
        ({"num_jobs_initial": 5}, "cannot exceed"),
        ({"num_jobs_final": 7}, "cannot exceed 6"),
        ({"num_jobs_step": 0}, "num-jobs-step 0: must be positive"),
        ({"num_epochs": 3}, "use more epochs"),
        ({"final_effective_lrate": 0.0}, "positive"),
    ],
)
def test_options_that_do_not_go_together(changes, message):
    with pytest.raises(ScheduleError, match=message):
        dataclasses.replace(SCHEDULE, **changes)


SPLICE_INDEXES = "layer0/-2:-1:0:1:2 layer1/-1:2"


def test_context_is_that_of_the_egs(kaldi_training):
    splices = parse_splice_indexes(SPLICE_INDEXES)
    assert splices == {0: [-2, -1, 0, 1, 2], 1: [-1, 2]}
    left, right = context(splices)
    assert left == int((kaldi_training / "info" / "left_context").read_text())
    assert right == int((kaldi_training / "info" / "right_context").read_text())


@pytest.mark.parametrize(
    ("splice_indexes", "message"),
    [
        ("layer1/-1:2", "layer0 is missing"),
        ("layer0/-2:0:2", "consecutive"),
        ("layer0/1:2", "include 0"),
        ("layer0/-1:0:1 layer0/0", "twice"),
        ("layer0/-1:0:1 layer1/2:-1", "not increasing"),
        ("layer0/-1:0:x", "not of the form"),
    ],
)
def test_bad_splice_indexes(splice_indexes, message):
    with pytest.raises(ValueError, match=message):
        parse_splice_indexes(splice_indexes)


def network(**changes) -> MultispliceNetwork:
    return MultispliceNetwork(
        **{
            "splices": parse_splice_indexes(SPLICE_INDEXES),
            "input_dim": 40,
            "ivector_dim": 0,
            "lda_mat": "exp/ms1/lda.mat",
            "lda_dim": 200,
            "nonlin": "pnorm",
            "affine_dim": 1000,
            "hidden_dim": 200,
            "affine": "AffineComponentPreconditionedOnline alpha=4.0 num-samples-history=2000 "
            "update-period=4 rank-in=20 rank-out=80 max-change-per-sample=0.075 learning-rate=0.02",
            "last_affine": "AffineComponentPreconditionedOnline alpha=4.0 "
            "num-samples-history=2000 update-period=4 rank-in=20 rank-out=80 "
            "max-change-per-sample=0.075 learning-rate=0.02",
            "bias_stddev": 0.5,
            "num_targets": 128,
            "presoftmax_scales": None,
            **changes,
        }
    )


def parsed(lines):
    """Type and options of each component, numbers as numbers."""

    def value(text):
        try:
            return round(float(text), 6)
        except ValueError:
            return text

    components = []
    for line in lines:
        name, *options = line.split()
        pairs = (option.split("=") for option in options)
        components.append((name, {key: value(text) for key, text in pairs}))
    return components


def test_configs_are_those_that_kaldi_writes(kaldi_training):
    def kaldi(name):
        return parsed((kaldi_training / name).read_text().splitlines())

    assert parsed(network().nnet_config()) == kaldi("nnet.config")
    assert parsed(network().hidden_config(1)) == kaldi("hidden_1.config")
    assert parsed(network().hidden_config(2)) == kaldi("hidden_2.config")


def test_layers_go_where_kaldi_puts_them(kaldi_training):
    scaled = network(presoftmax_scales="scales")
    for x in range(16):
        if layer := SCHEDULE.added_layer(x):
            command = (kaldi_training / "log" / f"train.{x}.1.log").read_text().splitlines()[0]
            assert scaled.insertion_point(layer) == int(re.search(r"--insert-at=(\d+)", command)[1])
    assert network().insertion_point(1) == 5  # before the affine component before the softmax


@pytest.mark.parametrize("nonlin", ["relu", "tanh"])
def test_other_nonlinearities(nonlin):
    lines = network(nonlin=nonlin, affine_dim=300, hidden_dim=300).hidden_config(2)
    types = [line.split()[0] for line in lines]
    assert (
        types[1:]
        == {
            "relu": ["RectifiedLinearComponent", "NormalizeComponent"],
            "tanh": ["TanhComponent"],
        }[nonlin]
    )
    assert "output-dim=300" in lines[0]


# The driver itself --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def train(corpus, environment):
    """train(dir, *options) starts the driver on the corpus with a tiny network."""

    def start(directory, *options) -> subprocess.Popen:
        return subprocess.Popen(
            corpus.command(directory, "--cleanup", "false", *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def finish(process) -> str:
    """The output of a driver that succeeds."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def interrupted(train, tmp_path_factory):
    """A training that was ended in the middle of an iteration, then run again."""
    directory = tmp_path_factory.mktemp("exp") / "nnet"
    process = train(directory)
    while not (directory / "log" / "train.2.1.log").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode != 0
    partial = sorted(path.name for path in directory.glob("*.mdl"))
    output = finish(train(directory))
    return SimpleNamespace(dir=directory, partial=partial, output=output, finished=time.time())


def test_going_on_after_an_interruption(interrupted):
    directory = interrupted.dir
    assert interrupted.partial[:3] == ["0.mdl", "1.mdl", "2.mdl"]
    assert "3.mdl" not in interrupted.partial and "final.mdl" not in interrupted.partial
    assert f"going on from {directory}/2.mdl" in interrupted.output
    assert "iteration 3/5" in interrupted.output and "iteration 2/5" not in interrupted.output
    assert "get_lda" not in interrupted.output and "get_egs2" not in interrupted.output
    assert re.search(r"seconds: .*iterations \d+\.\d, .* for gradient steps", interrupted.output)
    objectives = [last_number(OBJECTIVE, directory / f"log/train.{x}.1.log") for x in range(5)]
    assert objectives[-1] > objectives[0] + 0.5
    final = last_number(
        r"average probability is (\S+)", directory / "log/compute_prob_train.final.log"
    )
    assert final >= objectives[-1] - 0.3


OBJECTIVE = r"log-prob-per-frame=(\S+)"


def test_the_logs_tell_of_every_iteration(interrupted):
    training = read_training(interrupted.dir)
    assert training.finished and training.options["num_epochs"] == "4.0"
    assert [i.averages for i in training.iterations] == [False, False, True, True, True]
    assert [i.merged for i in training.iterations[2:]] == [[1], [1, 2], [1, 2]]
    assert [len(i.merged) for i in training.iterations[:2]] == [1, 1]  # the best
    assert training.positions[-1].epochs == pytest.approx(7 / 2)  # jobs, of which 2 are an epoch
    jobs = [job for iteration in training.iterations for job in iteration.jobs]
    assert all(job.samples > 1000 and 0 < job.steps_s < 60 for job in jobs)
    assert set(training.scores["valid"]) == set(range(6)) and training.final_scores
    assert training.iterations[-1].times and training.model.sizes["num-components"] == "12"


def test_the_final_model_is_whole(interrupted):
    model = AcousticModel.load(str(interrupted.dir / "final.mdl"))
    types = [type(component).__name__ for component in model.network.components]
    assert types.count("AffineComponentPreconditionedOnline") == 3
    assert types.count("SpliceComponent") == 2 and types[-2] == "FixedScaleComponent"
    assert model.priors.shape == (128,) and model.priors.sum() == pytest.approx(1.0, abs=1e-4)
    assert not list(interrupted.dir.glob("*.[0-9]*.mdl"))  # models of jobs are gone


def test_a_stage_done_again_gives_the_same(interrupted, train, tmp_path):
    directory = tmp_path / "nnet"
    shutil.copytree(interrupted.dir, directory)
    (directory / "log" / "train.1.1.log").unlink()
    finish(train(directory, "--stage", "1", "--exit-stage", "2"))
    assert (directory / "log" / "train.1.1.log").exists()
    assert (directory / "2.mdl").read_bytes() == (interrupted.dir / "2.mdl").read_bytes()
    assert not (directory / "3.mdl").exists() and not (directory / "final.mdl").exists()


def test_only_the_priors_done_again(interrupted, train, tmp_path):
    directory = tmp_path / "nnet"
    shutil.copytree(interrupted.dir, directory)
    (directory / "combined.mdl").unlink()  # as --cleanup does
    finish(train(directory, "--stage", "6"))
    before, after = (AcousticModel.load(str(d / "final.mdl")) for d in (interrupted.dir, directory))
    np.testing.assert_allclose(after.priors, before.priors, rtol=1e-6)
    assert (directory / "log" / "combine.log").stat().st_mtime < interrupted.finished
    assert (directory / "log" / "vector_sum.5.log").stat().st_mtime > interrupted.finished


def test_realignment(interrupted):
    """Half the data is seen before iteration 3, which trains on other labels than iteration 2."""
    commands = [
        (interrupted.dir / "log" / f"train.{x}.1.log").read_text().splitlines()[0] for x in (2, 3)
    ]
    assert "/egs/egs.1.ark" in commands[0] and "/egs_0.5/egs.1.ark" in commands[1]
    archives = [f"ark:{interrupted.dir}/{egs}/egs.1.ark" for egs in ("egs", "egs_0.5")]
    before, after = (
        np.concatenate([m.pdfs for m in read_minibatches(a, 500, 1, 1, frame=0)]) for a in archives
    )
    assert len(before) == len(after) and 0 < (before != after).mean() < 0.6


def test_mixing_up_halfway(train, tmp_path):
    process = train(tmp_path / "nnet", "--mix-up", "128", "--realign-times", "")
    output, _ = process.communicate(timeout=600)
    assert process.returncode != 0 and "--mix-up 128: must be more than 128" in output
    assert not (tmp_path / "nnet").exists()
    directory = tmp_path / "mixed"
    finish(train(directory, "--mix-up", "150", "--realign-times", ""))
    sizes = [load_network(str(directory / f"{x}.mdl")).components[-1] for x in (3, 4, 5, "final")]
    assert [c.type for c in sizes] == ["SoftmaxComponent", *["SumGroupComponent"] * 3]
    assert all(128 < c.input_dim <= 150 and c.output_dim == 128 for c in sizes[1:])
    assert not (directory / "log" / "progress.4.log").exists()
    assert (directory / "log" / "progress.5.log").exists()
    rates = [last_number(OBJECTIVE, directory / f"log/train.{x}.1.log") for x in range(5)]
    assert rates[-1] > rates[0] + 0.5


def test_shrinking_and_rates_of_the_last_layers(train, tmp_path):
    """Scaled layers are better on the frames that say how; rates are those that jobs have."""
    directory = tmp_path / "nnet"
    options = "--shrink-interval", "2", "--final-learning-rate-factor", "0.5", "--realign-times", ""
    finish(train(directory, *options))
    logs = {x: (directory / f"log/average.{x}.log").read_text() for x in (3, 4)}
    assert "nnet-combine-fast" not in logs[3]
    before, after = map(float, re.search(r"changed from (\S+) to (\S+)", logs[4]).groups())
    assert after > before
    command = (directory / "log/train.4.1.log").read_text().splitlines()[0]
    rate = float(re.search(r"--learning-rate=(\S+)", command).group(1))
    rates = load_network(str(directory / "5.mdl")).learning_rates
    assert rates == pytest.approx([rate, rate / 2, rate / 2])


def test_nothing_is_done_twice(interrupted, train):
    output = finish(train(interrupted.dir))
    assert "nothing to do" in output


def test_other_options_are_refused(interrupted, train, tmp_path):
    directory = tmp_path / "nnet"
    shutil.copytree(interrupted.dir, directory)
    (directory / "final.mdl").unlink()
    process = train(directory, "--alpha", "2.0")
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "was begun with other options: alpha was '4.0' and is '2.0'" in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--splice-indexes", "layer0/0 layer2/-1:1"], "layer2 is not one of the 2 hidden layers"),
        (["--splice-indexes", "layer0/-9:9"], "layer0 must splice consecutive frames"),
        (["--egs-dir", "nowhere"], "no such file: nowhere/info/left_context"),
        (
            ["--preconditioning", "natural"],
            "'natural' is not one of 'online', 'simple', 'none', 'limited'",
        ),
    ],
)
def test_bad_options_leave_nothing_behind(train, options, message, tmp_path):
    process = train(tmp_path / "nnet", *options)
    output, _ = process.communicate()
    assert process.returncode != 0 and message in output.splitlines()[-1]
    assert not (tmp_path / "nnet").exists()


def test_presoftmax_scales_are_those_of_kaldi(reference):
    exp = reference("kaldi/exp/nnet_ms/0.mdl").parents[1]
    transitions = TransitionModel.load(str(exp / "tri2_ali" / "final.mdl"))
    counts = np.zeros(transitions.num_pdfs)
    rspecifier = f"ark:gunzip -c {exp}/tri2_ali/ali.1.gz {exp}/tri2_ali/ali.2.gz |"
    with sequential_table(rspecifier, INTEGERS) as alignments:
        for _, alignment in alignments:
            counts += np.bincount(transitions.pdf_of[alignment], minlength=len(counts))
    network = load_network(str(exp / "nnet_ms" / "0.mdl"))
    expected = network.components[-2].scales
    ratio = presoftmax_scales(counts, -0.25) / expected
    # Of the 564 frames of pdf 62, which the priors in 0.mdl know of, 364 went into its scale there;
    # that changes the average, too, to which all scales are normalized.
    ratio = np.delete(ratio, 62)
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)
    np.testing.assert_allclose(ratio, 1.0, atol=1e-3)


@pytest.mark.parametrize("preconditioning", ["online", "simple", "none", "limited"])
@pytest.mark.parametrize("nonlin", ["pnorm", "relu", "tanh"])
def test_networks_can_be_made(preconditioning, nonlin, golden, tmp_path):
    """Every method and nonlinearity gives configs that nnet-init and nnet-insert accept."""
    options = {
        "splice_indexes": SPLICE_INDEXES,
        "num_hidden_layers": 3,
        "egs_dir": "",
        "preconditioning": preconditioning,
        "initial_effective_lrate": 0.01,
        "num_jobs_initial": 3,
        "alpha": 4.0,
        "num_samples_history": 2000.0,
        "update_period": 4,
        "precondition_rank_in": 5,
        "precondition_rank_out": 6,
        "max_change_per_sample": 0.075,
        "minibatch_size": 128,
    }
    affine = TrainingOptions(data="", lang="", alidir="", **options).affine_component(0.075)
    matrix = read_object(str(golden / "fixed_affine.mat"), Reader.matrix)
    layers = network(
        affine=affine,
        last_affine=affine,
        nonlin=nonlin,
        affine_dim=30,
        hidden_dim=10 if nonlin == "pnorm" else 30,
        splices={0: [0], 1: [-1, 2]},
        input_dim=matrix.shape[1] - 1,
        lda_dim=len(matrix),
        lda_mat=str(golden / "fixed_affine.mat"),
    )
    rng = np.random.default_rng(0)
    made = Network.from_config(layers.nnet_config(), rng)
    components = list(made.components)
    point = layers.insertion_point(1)
    components[point:point] = Network.from_config(layers.hidden_config(1), rng).components
    made.set_components(components)
    trained = made.updatable_components
    assert {type(component).__name__ for component in trained} == {affine.split()[0]}
    assert [component.learning_rate for component in trained] == pytest.approx([0.03] * 3)
    assert not trained[-1].linear_params.any() and made.output_dim == 128
    features = rng.standard_normal((10, made.input_dim)).astype(np.float32)
    assert compute(made, features).shape == (10, 128)


def test_training_for_a_gpu_reads_hdf5(train, tmp_path):
    """Whether or not there is a GPU; with labels of a realignment, too."""
    directory = tmp_path / "nnet"
    finish(train(directory, "--use-gpu", "optional"))
    for x, egs in (2, "egs"), (3, "egs_0.5"):
        command = (directory / "log" / f"train.{x}.1.log").read_text().splitlines()[0]
        assert f"h5:{directory}/{egs}/egs.1.h5" in command
    assert not list(directory.glob("egs*/egs.*.ark"))
    assert (directory / "final.mdl").exists()
