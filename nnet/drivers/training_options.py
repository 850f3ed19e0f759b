"""The options of steps/train_multisplice.py, and of steps/get_lda.py which it calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnet.drivers.driver import cmd_option, tf32_option
from nnet.drivers.egs_options import EgsOptions
from nnet.drivers.feature_pipeline import feature_options
from nnet.drivers.multisplice_configs import parse_splice_indexes
from nnet.drivers.settings import (
    Part,
    effects_of,
    path,
    positional,
    reals,
    setting,
    settings_of,
    shared,
)
from nnet.io.text import write_lines
from nnet.report.training_logs import read_options

TRANSFORM, EXAMPLES, NETWORK, ITERATIONS, REALIGNMENT, COMBINATION, PRIORS = Part
NOTHING, ANYTHING = Part(0), ~Part(0)

NEVER = -100
"""The --exit-stage of a training that goes on to its end."""


def egs_format_for(use_gpu: str) -> str:
    """Choose how examples are stored: a GPU trains faster than archives can be read."""
    return "ark" if use_gpu == "no" else "h5"


@dataclass(frozen=True, kw_only=True)
class LdaOptions:
    """The options of steps/get_lda.py; what affects nothing does not change the transform."""

    # fmt: off
    cmd: str = shared(cmd_option, NOTHING)
    feat_type: str = shared(feature_options("feat_type"), TRANSFORM)
    cmvn_opts: str = shared(feature_options("cmvn_opts"), TRANSFORM)
    transform_dir: str = shared(feature_options("transform_dir"), TRANSFORM)
    online_ivector_dir: str = shared(feature_options("online_ivector_dir"), TRANSFORM)
    splice_width: int = setting(4, TRANSFORM,
        "Frames spliced on each side of the middle one", least=0)
    left_context: int | None = setting(None, TRANSFORM,
        "Frames spliced on the left, instead of --splice-width", least=0)
    right_context: int | None = setting(None, TRANSFORM,
        "Frames spliced on the right, instead of --splice-width", least=0)
    rand_prune: float = setting(4.0, TRANSFORM, "Prunes small posteriors, for speed", least=0)
    within_class_factor: float = setting(0.0001, TRANSFORM,
        "Of nnet-get-feature-transform", above=0)
    lda_dim: int | None = setting(None, TRANSFORM,
        "Dimension of the output (default: that of the input)", least=1)
    num_feats: int = setting(10000, TRANSFORM, "Use about so many utterances at most", least=1)
    ivector_randomize_prob: float = setting(0.0, TRANSFORM,
        "How probably an i-vector is replaced by another one of the utterance", least=0, most=1)
    srand: int = setting(0, TRANSFORM, "Seed of the pruning", least=0)
    stage: int = setting(0, NOTHING, "1: the statistics are there; 2: their sum, too")
    # fmt: on

    @property
    def context(self) -> tuple[int, int]:
        """Frames that are spliced on the left and on the right."""
        left, right = self.left_context, self.right_context
        return (
            self.splice_width if left is None else left,
            self.splice_width if right is None else right,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options and arguments of a training; what affects nothing changes no result."""

    # fmt: off
    data: str = positional(TRANSFORM | EXAMPLES | REALIGNMENT, means=path)
    lang: str = positional(TRANSFORM | NETWORK | REALIGNMENT, means=path)
    alidir: str = positional(TRANSFORM | EXAMPLES | NETWORK, means=path)
    cmd: str = shared(cmd_option, NOTHING)
    num_epochs: float = setting(15.0, ITERATIONS,
        "Passes over the data, each frame counted", above=0)
    initial_effective_lrate: float = setting(0.01, NETWORK | ITERATIONS,
        "Learning rate at the start; a job's is this times the number of jobs", above=0)
    final_effective_lrate: float = setting(0.001, ITERATIONS, "The same at the end", above=0)
    nonlin: str = setting("pnorm", NETWORK,
        "Nonlinearity of the hidden layers", choices=["pnorm", "relu", "tanh"])
    pnorm_input_dim: int = setting(3000, NETWORK, "Dimension before the p-norm", least=1)
    pnorm_output_dim: int = setting(300, NETWORK, "Dimension after the p-norm", least=1)
    hidden_dim: int = setting(1024, NETWORK, "Dimension of relu and tanh layers", least=1)
    num_hidden_layers: int = setting(3, NETWORK | ITERATIONS, "Hidden layers in the end", least=1)
    add_layers_period: int = setting(2, ITERATIONS,
        "Iterations between additions of layers", least=1)
    splice_indexes: str = setting("layer0/-4:-3:-2:-1:0:1:2:3:4 layer2/-5:-1:3",
        TRANSFORM | EXAMPLES | NETWORK, means=parse_splice_indexes,
        help="Frames that are spliced together at the input of each layer that splices")
    bias_stddev: float = setting(0.5, NETWORK, "Standard deviation of initial biases", least=0)
    presoftmax_prior_scale_power: float = setting(-0.25, NETWORK,
        "The softmax's inputs are scaled by this power of the prior of each class; 0: not")
    preconditioning: str = setting(
        "online", NETWORK, choices=["online", "simple", "none", "limited"],
        help="Natural gradient: online, simple (from the same minibatch); or the plain gradient: "
        "none, or limited as --max-change-per-sample says")
    alpha: float = setting(4.0, NETWORK, "Smoothing of the Fisher matrix", above=0)
    precondition_rank_in: int = setting(20, NETWORK, "Rank for inputs (online)", least=1)
    precondition_rank_out: int = setting(80, NETWORK, "Rank for derivatives (online)", least=1)
    update_period: int = setting(4, NETWORK, "Minibatches per update of them (online)", least=1)
    num_samples_history: float = setting(2000.0, NETWORK,
        "Time constant of the estimates, in frames (online)", above=0)
    max_change_per_sample: float = setting(0.075, NETWORK,
        "Limit on the change of a layer by a minibatch, over the minibatch size", least=0)
    minibatch_size: int = setting(128, NETWORK | ITERATIONS, "Frames per minibatch", least=1)
    samples_per_iter: int = setting(400000, EXAMPLES,
        "Frames per job and iteration, about", least=1)
    frames_per_eg: int = setting(8, EXAMPLES, "Labelled frames per example on disk", least=1)
    num_jobs_initial: int = setting(1, NETWORK | ITERATIONS, "Parallel jobs at the start", least=1)
    num_jobs_final: int = setting(8, ITERATIONS, "Parallel jobs at the end", least=1)
    num_jobs_step: int = setting(1, ITERATIONS,
        "From this number of jobs on there are multiples of it: the number of GPUs, say", least=1)
    max_retries: int = setting(2, NOTHING, "How often a job that failed is started again", least=0)
    min_jobs: int | None = setting(None, NOTHING, least=1,
        help="Jobs of an iteration that must succeed (or all, if it has fewer); if not given, half")
    start_timeout: float = setting(0.0, NOTHING, least=0,
        help="Seconds after which a training job that has not started counts as failed; 0: never")
    shuffle_buffer_size: int = setting(5000, ITERATIONS,
        "Examples that a job shuffles at once", least=-1)
    max_models_combine: int = setting(20, COMBINATION,
        "Models, or averages of successive ones, that the final combination weighs", least=1)
    stop_if_diverging: bool = setting(True, NOTHING,
        "Stop where the objective is worse than a guess, or falls far below what it was")
    fix_nnet: bool = setting(False, ITERATIONS, "Run nnet-am-fix during the first half")
    min_average: float = setting(0.05, ITERATIONS, "Passed to nnet-am-fix", least=0)
    max_average: float = setting(0.95, ITERATIONS, "Passed to nnet-am-fix", least=0)
    shrink_interval: int = setting(0, ITERATIONS, least=0,
        help="After every so manyth iteration each layer is scaled as is best on some of the "
        "training data; 0: never")
    num_frames_shrink: int = setting(2000, ITERATIONS, "Frames for that", least=1)
    block_momentum: float = setting(0.0, ITERATIONS, least=0, most=0.999,
        help="How much of the step to an average remains in the next one, for many jobs: 0.9, say")
    block_learning_rate: float = setting(1.0, ITERATIONS, above=0,
        help="What the way to an average is multiplied by, with block momentum: 0.7, say")
    final_learning_rate_factor: float = setting(1.0, ITERATIONS, above=0,
        help="Learning rate of the last two layers, over that of the others")
    mix_up: int = setting(0, ITERATIONS, least=0,
        help="Outputs of the softmax, more than pdf-ids, that these get halfway; 0: one each")
    num_jobs_compute_prior: int = setting(10, REALIGNMENT | PRIORS,
        "Jobs that compute posteriors", least=1)
    prior_subset_size: int = setting(10000, REALIGNMENT | PRIORS,
        "Frames for each of them", least=1)
    realign_times: str = setting("", ITERATIONS,
        "When to realign with the network, as proportions of the training: '0.5 0.75'", means=reals)
    num_jobs_align: int = setting(30, NOTHING, "Jobs of a realignment", least=1)
    align_cmd: str = setting("", NOTHING, "How to launch them, if not like --cmd")
    align_use_gpu: str = setting("no", NOTHING, "Passed to steps/align.py as --use-gpu")
    srand: int = setting(0, ANYTHING, "Seed of everything random", least=0)
    use_gpu: str = setting("no", EXAMPLES | ITERATIONS,
        choices=["yes", "no", "optional", "wait"], means=egs_format_for,
        help="Whether training jobs compute on a GPU; yes and wait reserve one for each")
    tf32: bool = shared(tf32_option, ITERATIONS)
    num_threads: int | None = setting(None, NOTHING, least=1,
        help="Threads of a training job; if not given, all jobs share the cores of this machine")
    parallel_opts: str = setting("", NOTHING, "Launcher options for training jobs")
    combine_num_threads: int | None = setting(None, NOTHING,
        "Threads of the combination; if not given, as many as this machine has cores", least=1)
    combine_parallel_opts: str = setting("", NOTHING, "Launcher options for it")
    io_opts: str = setting("--max-jobs-run 5", NOTHING, "Launcher options for jobs of much I/O")
    egs_dir: str = setting("", EXAMPLES, "Examples that are there already", means=path)
    egs_opts: str = setting("", EXAMPLES,
        "Options for steps/get_egs2.py", means=effects_of(EgsOptions))
    get_egs_stage: int = setting(0, NOTHING, "Stage of steps/get_egs2.py", least=0)
    lda_opts: str = setting("", TRANSFORM,
        "Options for steps/get_lda.py", means=effects_of(LdaOptions))
    lda_dim: int | None = setting(None, TRANSFORM,
        "Dimension of the feature transform; all if not given", least=1)
    randprune: float = setting(4.0, TRANSFORM, "Speeds up the transform's statistics", least=0)
    feat_type: str = shared(feature_options("feat_type"), TRANSFORM | EXAMPLES)
    cmvn_opts: str = shared(feature_options("cmvn_opts"), TRANSFORM | EXAMPLES)
    transform_dir: str = shared(feature_options("transform_dir"), TRANSFORM | EXAMPLES)
    online_ivector_dir: str = shared(feature_options("online_ivector_dir"), TRANSFORM | EXAMPLES)
    cleanup: bool = setting(True, NOTHING, "Remove what is no longer needed")
    remove_egs: bool = setting(True, NOTHING, "Remove the examples, too, at the end")
    stage: int | None = setting(None, NOTHING,
        "Do it and those after it again (default: what is missing)")
    exit_stage: int = setting(NEVER, NOTHING, "End before this stage; -100: do all")
    # fmt: on

    @property
    def given(self) -> dict[str, Any]:
        """All options and arguments, by their names."""
        return {name: getattr(self, name) for name in settings_of(TrainingOptions)}

    def affine_component(self, max_change_per_sample: float) -> str:
        """Give type and options of a component that is trained, as lines for nnet-init have them.

        max_change_per_sample: the limit on its change by a minibatch, over the minibatch size.
        """
        from nnet.natural_gradient.simple import UNIT_ALPHA

        learning_rate = f"learning-rate={self.initial_effective_lrate * self.num_jobs_initial:g}"
        return {
            "online": f"AffineComponentPreconditionedOnline {learning_rate} alpha={self.alpha:g} "
            f"num-samples-history={self.num_samples_history:g} update-period={self.update_period} "
            f"rank-in={self.precondition_rank_in} rank-out={self.precondition_rank_out} "
            f"max-change-per-sample={max_change_per_sample:g}",
            "simple": f"AffineComponentPreconditioned {learning_rate} alpha={self.alpha:g} "
            f"max-change={max_change_per_sample * self.minibatch_size:g}",
            "limited": f"AffineComponentPreconditioned {learning_rate} alpha={UNIT_ALPHA:g} "
            f"max-change={max_change_per_sample * self.minibatch_size:g}",
            "none": f"AffineComponent {learning_rate}",
        }[self.preconditioning]


def changed_options(directory: Path, options: Mapping[str, Any], made: Part) -> list[str]:
    """List options that affect parts made and are others than before: the value then, and now."""
    before, settings = read_options(directory / "train_options"), settings_of(TrainingOptions)
    return [
        f"{name.replace('_', '-')} was '{before[name]}' and is '{as_text(value)}'"
        for name, value in sorted(options.items())
        if settings[name].affects & made
        and name in before
        and not settings[name].same(before[name], as_text(value))
    ]


def write_options(directory: Path, options: Mapping[str, Any]) -> None:
    """Write down what a training is done with: lines "name value"."""
    lines = [f"{name} {as_text(value)}" for name, value in sorted(options.items())]
    write_lines(directory / "train_options", lines)


def as_text(value: Any) -> str:
    """Write a value in one line; nothing for an option that is not given."""
    return "" if value is None else " ".join(str(value).split())
