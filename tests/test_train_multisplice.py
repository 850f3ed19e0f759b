"""The multisplice driver: its schedule and configs against Kaldi's logs, and a tiny training."""

from __future__ import annotations

import dataclasses
import re
from itertools import chain

import pytest

from steps.multisplice_configs import MultispliceNetwork, context, parse_splice_indexes
from steps.training_schedule import Schedule, ScheduleError


@pytest.fixture(scope="module")
def exp(shared):
    """Kaldi's own multisplice training."""
    return shared / "kaldi" / "exp" / "nnet_ms"


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


def test_schedule_is_that_of_the_logs(exp):
    """Jobs, learning rates, archives, frames, minibatch sizes, added layers, averaging."""
    assert SCHEDULE.num_iters == 16
    logs = {path.name: path.read_text() for path in (exp / "log").glob("train.*.log")}
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
        assert (exp / "log" / f"average.{x}.log").exists() == SCHEDULE.averages(x)
    assert seen == len(logs)


def test_combination_is_that_of_the_logs(exp):
    command = (exp / "log" / "combine.log").read_text().splitlines()[0]
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
        ({"num_epochs": 3}, "use more epochs"),
        ({"final_effective_lrate": 0.0}, "positive"),
    ],
)
def test_options_that_do_not_go_together(changes, message):
    with pytest.raises(ScheduleError, match=message):
        dataclasses.replace(SCHEDULE, **changes)


SPLICE_INDEXES = "layer0/-2:-1:0:1:2 layer1/-1:2"


def test_context_is_that_of_the_egs(exp):
    splices = parse_splice_indexes(SPLICE_INDEXES)
    assert splices == {0: [-2, -1, 0, 1, 2], 1: [-1, 2]}
    left, right = context(splices)
    assert left == int((exp / "info" / "left_context").read_text())
    assert right == int((exp / "info" / "right_context").read_text())


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


def test_configs_are_those_that_kaldi_writes(exp):
    def kaldi(name):
        return parsed((exp / name).read_text().splitlines())

    assert parsed(network().nnet_config()) == kaldi("nnet.config")
    assert parsed(network().hidden_config(1)) == kaldi("hidden_1.config")
    assert parsed(network().hidden_config(2)) == kaldi("hidden_2.config")


def test_layers_go_where_kaldi_puts_them(exp):
    scaled = network(presoftmax_scales="scales")
    for x in range(16):
        if layer := SCHEDULE.added_layer(x):
            command = (exp / "log" / f"train.{x}.1.log").read_text().splitlines()[0]
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
