#!/usr/bin/env python3
"""Train a neural network with parallel stochastic gradient descent and parameter averaging.

Examples are made from features and an alignment; the network starts with one hidden layer and gets
the others one after the other.  On every iteration some jobs, more and more of them, train the same
network on different data with natural gradient, and the average of their results is the network of
the next iteration.  Finally the last networks are combined, and the priors of the classes set to
what the network says of typical data.

The directory holds the state: however the driver ended, run again it goes on where it stopped, and
what it makes is the same.  Stages have numbers: -4 the feature transform, -3 the examples, -2 the
network, N from 0 on iteration N, which starts from model N; with n iterations n is the combination
and n + 1 the priors.  --stage N does stage N again and all after it; the models that it starts from
must be there.  --exit-stage N ends before stage N, or at once where that is done already.

All that can be known is checked before anything is made: options, files, programs, whether
alignments, tree, model and examples belong together, and whether data, jobs, layers and epochs go
together.  Options can be corrected as long as nothing that they affect has been made.

A job that fails is started again.  One that fails for good, whose model cannot be averaged, or
whose objective is far below that of the others, does not count in its iteration; the file left_out
says which and why.

This is the pipeline of Kaldi's steps/nnet2/train_multisplice_accel2.sh, with its options, defaults
and files.  It differs where that script is wrong or where more is known:
 - The best job of an iteration that does not average is picked from all of them (there, from none,
   the number of jobs being unset).
 - The number of iterations is checked against that which adding the layers takes (there, before the
   latter is known), and --randprune is passed on.
 - Models appear whole, 0.mdl and final.mdl too; there these are changed in place, so that a second
   run of a stage would change them twice.  A model is deleted only when no diagnostic reads it.
 - --fix-nnet false is false; there it was overridden where the network has rectified linear units.
 - The plain average of the last models is the final one where it is better on held-out data than
   their weighted combination.
 - The threads of a job, --num-threads, divide the work of a minibatch, and the model is the same by
   any number of them; there, by default, 16 threads train and share the parameters.
"""

from __future__ import annotations

import math
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nnet.cli.progress import clock, progress_bar
from nnet.drivers.data_dir import write_lines
from nnet.drivers.divergence import check_divergence
from nnet.drivers.driver import (
    Background,
    argument,
    driver,
    log,
    output_of,
    read_integer,
    require_files,
    run,
    run_step,
    threads_per_job,
)
from nnet.drivers.egs_dir import SUBSETS, training_archive, training_table
from nnet.drivers.egs_of_training import ArchiveChecks, egs_are_whole, forget_egs, remove_egs
from nnet.drivers.feature_pipeline import given_features
from nnet.drivers.iteration import Iteration, forget_left_out
from nnet.drivers.multisplice_configs import (
    MultispliceNetwork,
    context,
    parse_splice_indexes,
    presoftmax_scales,
)
from nnet.drivers.settings import (
    EXAMPLES,
    ITERATIONS,
    NETWORK,
    NOTHING,
    REALIGNMENT,
    TRANSFORM,
    Part,
    changed_options,
    options_of,
    parts_made,
    write_options,
)
from nnet.drivers.training_checks import NEVER, Checks
from nnet.drivers.training_files import logs_after, models, models_of_jobs, relabelled_egs
from nnet.drivers.training_options import training_options
from nnet.drivers.training_schedule import Schedule
from nnet.errors import NgtrainError
from nnet.io.checksums import check_file, checksum_file, remove_with_checksum
from nnet.launch.commands import JOB, pipeline, unzipped
from nnet.launch.directory_lock import only_driver_in
from nnet.launch.late_files import eventually
from nnet.report.training_logs import last_number, objective
from steps import get_egs2


@driver(
    "Usage:  steps/train_multisplice.py [options] <data> <lang> <ali-dir> <exp-dir>\n"
    " e.g.:  steps/train_multisplice.py data/train data/lang exp/tri3_ali exp/nnet"
)
@argument("data")
@argument("lang")
@argument("alidir")
@argument("dir")
@training_options
def main(data, lang, alidir, dir, **options):
    return Training(data, lang, alidir, dir, SimpleNamespace(**options)).run()


@dataclass
class Training:
    """One run of the driver: a method per stage, in the order of run()."""

    data: str
    lang: str
    alidir: str
    dir: Path
    options: SimpleNamespace

    def __post_init__(self):
        self.dir = Path(self.dir)
        self.seconds: Counter[str] = Counter()  # that this run took, by what it did
        self.objectives: list[float] = []  # of iterations
        self.steps_s = 0.0  # of those of iterations, seconds of gradient steps

    def run(self) -> int:
        """All stages that have yet to be done; the exit status."""
        if self.is_finished():
            return 0
        problems = Checks(self, self.parts_that_stay()).problems()
        for problem in problems:
            log.error(problem)
        if problems:
            return 1
        with only_driver_in(self.dir):
            if self.options.stage is not None:
                self.forget(self.options.stage)
            self.remember_options()
            for stage, what, make in [
                (-4, "transform", self.estimate_feature_transform),
                (-3, "examples", self.make_examples),
                (-2, "initialization", self.initialize),
            ]:
                if self.ends_before(stage):
                    return 0
                with self.timed(what):
                    make()
            self.iterate()
        return 0

    def is_finished(self) -> bool:
        """Whether there is nothing to do, which it says."""
        final = self.model("final")
        if self.options.stage is not None or not final.exists():
            return False
        log.info("%s is there: nothing to do (--stage does it again)", final)
        if changed := changed_options(self.dir, self.given, self.parts_made):
            log.warning("it was made with other options: %s", ", ".join(changed))
        return True

    def iterate(self) -> None:
        """The iterations, from the latest model on, and what comes after them."""
        o, s = self.options, self.schedule
        log.info("training for %g epochs = %d iterations", o.num_epochs, s.num_iters)
        first = self.first_iteration()
        self.remove_models_of_jobs_before(first)
        for log_file in logs_after(self.dir, first):  # of an earlier run
            log_file.unlink()
        jobs_before, jobs = map(s.num_archives_processed, (first, s.num_iters))
        with (
            Diagnostics() as diagnostics,
            ArchiveChecks() as self.archive_checks,
            progress_bar(jobs_before, jobs) as show,
        ):
            for x in range(first, s.num_iters):
                show(s.num_archives_processed(x), self.progress(x))
                if self.ends_before(x):
                    return
                if x in self.realignments:
                    with self.timed("realignment"):
                        self.realign(x)
                self.check_examples(x)
                with self.timed("iterations"):
                    self.diagnose(x, diagnostics)
                    jobs_of_x = self.train(x)
                    self.check_divergence(jobs_of_x)
                    self.merge(jobs_of_x)
                self.steps_s += self.steps_of(jobs_of_x)
                self.report(jobs_of_x, first)
                if not diagnostics.running() and o.cleanup:
                    self.remove_models_before(x)
            show(jobs, "combination")
            self.diagnose(s.num_iters, diagnostics)
            if self.ends_before(s.num_iters):
                return
            self.check_examples(s.num_iters)
            with self.timed("combination"):
                self.combine()
            if self.ends_before(s.num_iters + 1):
                return
            with self.timed("priors"):
                self.adjust_priors("combined", "final", s.num_iters, self.egs_dir(s.num_iters))
            self.diagnose("final", diagnostics)
        self.clean_up()
        self.report_seconds(s.num_iters - first)

    # Files and stages -----------------------------------------------------------------------------

    def model(self, name: int | str) -> Path:
        return self.dir / f"{name}.mdl"

    def log(self, name: str) -> Path:
        return self.dir / "log" / f"{name}.log"

    @property
    def cmd(self) -> str:
        return self.retried(self.options.cmd)

    def retried(self, cmd: str) -> str:
        """A launcher, as an option --cmd, that has failed jobs started again."""
        return f"{cmd} --max-retries {self.options.max_retries}"

    @cached_property
    def parts_made(self) -> Part:
        """The parts of the work of which something is there."""
        return parts_made(self.dir, self.egs_are_there)

    def parts_that_stay(self) -> Part:
        """The same of what --stage does not do again."""
        stage = self.options.stage
        if stage is None:
            return self.parts_made
        first = {TRANSFORM: -4, EXAMPLES: -3, NETWORK: -2, ITERATIONS: 0, REALIGNMENT: 0}
        before = (part for part, number in first.items() if number < stage)
        return self.parts_made & reduce(or_, before, NOTHING)

    def ends_before(self, stage: int) -> bool:
        """Whether --exit-stage says to end before a stage, which it then says, too."""
        wanted = self.options.exit_stage
        if wanted == NEVER or stage < wanted:
            return False
        log.info("ending before stage %d, as --exit-stage %d says", stage, wanted)
        return True

    def forget(self, stage: int) -> None:
        """Remove what `stage` and those after it have made, so that it is made again."""
        numbered, combined, final = models(self.dir), self.model("combined"), self.model("final")
        if stage <= max(numbered, default=0):
            combined.unlink(missing_ok=True)
        elif final.exists():  # the combination, but for its priors
            final.replace(combined)
        final.unlink(missing_ok=True)
        gone = [x for x in numbered if x > max(stage, 0 if stage > -2 else -1)]
        for x in gone:
            remove_with_checksum(numbered[x])
        for model_of_job in models_of_jobs(self.dir).values():
            remove_with_checksum(model_of_job)
        forget_left_out(self.dir, stage)
        for egs_dir in relabelled_egs(self.dir):  # which only a realignment done again minds
            forget_egs(egs_dir)
        if stage <= -3:
            forget_egs(self.dir / "egs")
        if stage <= -4:
            (self.dir / "lda.mat").unlink(missing_ok=True)
        if gone:
            log.info(
                "--stage %d: removed models %d to %d, to make them again", stage, gone[0], gone[-1]
            )

    @property
    def given(self) -> dict[str, Any]:
        """All options and arguments, by their names."""
        return {"data": self.data, "lang": self.lang, "alidir": self.alidir, **vars(self.options)}

    def remember_options(self) -> None:
        """Write down the options; say where what stays was made with others."""
        if changed := changed_options(self.dir, self.given, self.parts_that_stay()):
            log.warning("what is kept was made with other options: %s", ", ".join(changed))
        self.log("").parent.mkdir(parents=True, exist_ok=True)
        write_options(self.dir, self.given)

    # Preparation ----------------------------------------------------------------------------------

    @cached_property
    def splices(self) -> dict[int, list[int]]:
        """What --splice-indexes says.  Raises NgtrainError where that is not possible."""
        o = self.options
        try:
            splices = parse_splice_indexes(o.splice_indexes)
        except ValueError as error:
            raise NgtrainError(f"--splice-indexes: {error}") from None
        if max(splices) >= o.num_hidden_layers:
            raise NgtrainError(
                f"--splice-indexes: layer{max(splices)} is not one of the {o.num_hidden_layers} "
                "hidden layers, counted from 0"
            )
        return splices

    @property
    def given_features(self) -> dict[str, str]:
        return {"transform_dir": self.alidir, **given_features(vars(self.options))}

    def feature_options(self) -> list[str]:
        return [
            word
            for name, value in self.given_features.items()
            for word in (f"--{name.replace('_', '-')}", value)
        ]

    @property
    def lda_words(self) -> list:
        """The options of get_lda.py."""
        o = self.options
        left, *_, right = self.splices[0]
        return [
            *[*shlex.split(o.lda_opts), *self.feature_options(), "--cmd", self.cmd],
            *["--left-context", -left, "--right-context", right, "--rand-prune", o.randprune],
            *[*(["--lda-dim", o.lda_dim] if o.lda_dim else []), "--srand", o.srand],
        ]

    def estimate_feature_transform(self) -> None:
        """Stage -4: lda.mat, with the files that say how features are made and their dimensions."""
        if (self.dir / "lda.mat").exists():  # the last file that it makes
            return
        run_step("get_lda.py", *self.lda_words, self.data, self.lang, self.alidir, self.dir)

    @property
    def first_egs_dir(self) -> Path:
        return Path(self.options.egs_dir) if self.options.egs_dir else self.dir / "egs"

    @property
    def egs_are_there(self) -> bool:
        """Whether examples are whole; a realignment relabels the first ones, and removes them."""
        return any(map(egs_are_whole, [self.first_egs_dir, *relabelled_egs(self.dir)]))

    @property
    def egs_words(self) -> list:
        """The options of get_egs2.py."""
        o, (left, right) = self.options, context(self.splices)
        return [
            *[*self.feature_options(), "--cmd", self.cmd, "--io-opts", o.io_opts],
            *["--left-context", left, "--right-context", right, "--stage", o.get_egs_stage],
            *["--samples-per-iter", o.samples_per_iter, "--frames-per-eg", o.frames_per_eg],
            # A GPU trains faster than archives can be read.
            *["--egs-format", "ark" if o.use_gpu == "no" else "h5", "--srand", o.srand],
            *shlex.split(o.egs_opts),
        ]

    @property
    def egs_options(self) -> dict[str, Any]:
        """The same as get_egs2.py will read it.  Raises NgtrainError where it will not."""
        return options_of(get_egs2.main, self.egs_words)

    def make_examples(self) -> None:
        """Stage -3: the examples, unless --egs-dir says where they are."""
        if not self.options.egs_dir and not self.egs_are_there:
            run_step("get_egs2.py", *self.egs_words, self.data, self.alidir, self.first_egs_dir)
        self.check_context()

    def check_context(self) -> None:
        """Raises NgtrainError unless the examples have the context that the network needs."""
        left, right = context(self.splices)
        if self.egs_info("left_context") < left or self.egs_info("right_context") < right:
            raise NgtrainError(
                f"the examples in {self.first_egs_dir} have too little context for a network that "
                f"needs {left} frames on the left and {right} on the right"
            )

    def egs_info(self, name: str) -> int:
        return read_integer(self.first_egs_dir / "info" / name)

    @cached_property
    def schedule(self) -> Schedule:
        return self.schedule_of(self.egs_info("num_archives"), self.egs_info("frames_per_eg"))

    def schedule_of(self, num_archives: int, frames_per_eg: int) -> Schedule:
        """What iterations do with so many archives of examples of so many frames."""
        o = self.options
        return Schedule(
            num_epochs=o.num_epochs,
            num_archives=num_archives,
            frames_per_eg=frames_per_eg,
            num_jobs_initial=o.num_jobs_initial,
            num_jobs_final=o.num_jobs_final,
            num_jobs_step=o.num_jobs_step,
            initial_effective_lrate=o.initial_effective_lrate,
            final_effective_lrate=o.final_effective_lrate,
            num_hidden_layers=o.num_hidden_layers,
            add_layers_period=o.add_layers_period,
            max_models_combine=o.max_models_combine,
        )

    @cached_property
    def network(self) -> MultispliceNetwork:
        o = self.options
        nonlin, dims = o.nonlin, (o.hidden_dim, o.hidden_dim)
        if nonlin == "pnorm":
            dims = o.pnorm_input_dim, o.pnorm_output_dim
            if dims[0] == dims[1]:
                log.warning("--pnorm-input-dim is --pnorm-output-dim: rectified linear units")
                nonlin = "relu"
        ivector_dim = read_integer(self.dir / "ivector_dim")
        scales = str(self.dir / "presoftmax_prior_scale_vecfile")
        return MultispliceNetwork(
            splices=self.splices,
            input_dim=read_integer(self.dir / "feat_dim") + ivector_dim,
            ivector_dim=ivector_dim,
            lda_mat=str(self.dir / "lda.mat"),
            lda_dim=read_integer(self.dir / "lda_dim"),
            nonlin=nonlin,
            affine_dim=dims[0],
            hidden_dim=dims[1],
            affine=self.affine_component(),
            bias_stddev=o.bias_stddev,
            num_targets=self.num_targets,
            presoftmax_scales=scales if o.presoftmax_prior_scale_power else None,
        )

    @cached_property
    def num_targets(self) -> int:
        """Pdf-ids, the outputs of the network."""
        info = output_of("tree-info", f"{self.alidir}/tree")
        return int(re.search(r"num-pdfs (\d+)", info)[1])

    def affine_component(self) -> str:
        """Type and options of the components that are trained."""
        o = self.options
        learning_rate = f"learning-rate={o.initial_effective_lrate * o.num_jobs_initial:g}"
        return {
            "online": f"AffineComponentPreconditionedOnline {learning_rate} alpha={o.alpha:g} "
            f"num-samples-history={o.num_samples_history:g} update-period={o.update_period} "
            f"rank-in={o.precondition_rank_in} rank-out={o.precondition_rank_out} "
            f"max-change-per-sample={o.max_change_per_sample:g}",
            "simple": f"AffineComponentPreconditioned {learning_rate} alpha={o.alpha:g} "
            f"max-change={o.max_change_per_sample * o.minibatch_size:g}",
            "none": f"AffineComponent {learning_rate}",
        }[o.preconditioning]

    @property
    def alignments(self) -> list[Path]:
        """The archives of alignments."""
        ali = Path(self.alidir)
        return [ali / f"ali.{n + 1}.gz" for n in range(read_integer(ali / "num_jobs"))]

    def initialize(self) -> None:
        """Stage -2: 0.mdl, a network of one hidden layer, and the configs of the other layers.

        Transition probabilities and priors are those of the alignment.
        """
        o = self.options
        if self.model(0).exists():
            return
        if self.network.presoftmax_scales:
            self.write_presoftmax_scales()
        write_lines(self.dir / "nnet.config", self.network.nnet_config())
        for layer in range(1, o.num_hidden_layers):
            config = self.network.hidden_config(layer)
            write_lines(self.dir / f"hidden_{layer}.config", config)
        init = ["nnet-init", f"--srand={o.srand}", self.dir / "nnet.config", "-"]
        run(
            self.cmd, self.log("nnet_init"),
            "nnet-am-init", f"{self.alidir}/tree", f"{self.lang}/topo",
            f"{pipeline(init)} |", "-", "|",
            "nnet-train-transitions", "--write-checksum=true", "-",
            unzipped(*self.alignments), self.model(0),
        )  # fmt: skip

    def write_presoftmax_scales(self) -> None:
        """The scales of the softmax's inputs, from how often each class is in the alignment."""
        num_jobs = read_integer(Path(self.alidir) / "num_jobs")
        run(
            self.cmd, self.log(f"acc_pdf.{JOB}"),
            "ali-to-post", unzipped(Path(self.alidir, f"ali.{JOB}.gz")), "ark:-", "|",
            "post-to-tacc", "--per-pdf=true", "--binary=false", f"{self.alidir}/final.mdl",
            "ark:-", f"{self.dir}/{JOB}.pacc",
            jobs=num_jobs,
        )  # fmt: skip
        files = [self.dir / f"{job}.pacc" for job in range(1, num_jobs + 1)]
        counts = [[float(count) for count in file.read_text().split()[1:-1]] for file in files]
        scales = presoftmax_scales(
            [sum(of_class) for of_class in zip(*counts, strict=True)],
            self.options.presoftmax_prior_scale_power,
        )
        text = " ".join(f"{scale:f}" for scale in scales)
        write_lines(Path(self.network.presoftmax_scales), [f" [ {text} ]"])
        for file in files:
            file.unlink()

    # Iterations -----------------------------------------------------------------------------------

    def first_iteration(self) -> int:
        """The one that starts from the latest model there is."""
        first = max(x for x in models(self.dir) if x <= self.schedule.num_iters)
        if first > 0:
            log.info("going on from %s", self.model(first))
        return first

    @cached_property
    def realignments(self) -> dict[int, str]:
        """The iterations before which the data is realigned, with their --realign-times."""
        times = self.options.realign_times.split()
        return {self.schedule.iteration_at(float(time_)): time_ for time_ in times}

    def egs_dir(self, x: int) -> Path:
        """The examples that iteration x trains on: those of the last realignment."""
        last = max((y for y in self.realignments if y <= x), default=None)
        return self.first_egs_dir if last is None else self.dir / f"egs_{self.realignments[last]}"

    def realign(self, x: int) -> None:
        """Align the data with the model of iteration x, and relabel the examples."""
        o, old, new = self.options, self.egs_dir(x - 1), self.egs_dir(x)
        if not egs_are_whole(new):
            self.relabel(x, old, new)
        if o.cleanup and old.parent == self.dir:
            remove_egs(old)

    def relabel(self, x: int, old: Path, new: Path) -> None:
        """Make the examples of iteration x from those before."""
        o = self.options
        ali = self.dir / f"ali_{self.realignments[x]}"
        self.adjust_priors(x, x, x, old)
        transforms = ["--transform-dir", o.transform_dir] if o.transform_dir else []
        ivectors = ["--online-ivector-dir", o.online_ivector_dir] if o.online_ivector_dir else []
        run_step(
            "align.py", "--nj", o.num_jobs_align, "--cmd", self.retried(o.align_cmd or o.cmd),
            "--use-gpu", o.align_use_gpu, *transforms, *ivectors, "--iter", x,
            self.data, self.lang, self.dir, ali,
        )  # fmt: skip
        run_step("relabel_egs2.py", "--cmd", self.cmd, "--iter", x, ali, old, new)

    def check_examples(self, x: int) -> None:
        """Raises NgtrainError if files of examples that iteration x needs are damaged.

        Those are its archives, and what models are judged and combined on, now and at the end.
        The archives of the next iteration are read through while this one runs.
        """
        s, egs_dir, checks = self.schedule, self.egs_dir(x), self.archive_checks
        subsets = [egs_dir / name for name in SUBSETS]
        if x == s.num_iters:  # which may be days after they were read first
            checks.forget(subsets)
            archives = []
        else:
            archives = self.archives(x)
        if damaged := checks.damaged([*archives, *subsets]):
            raise NgtrainError(f"{'; '.join(damaged)}: {self.advice_on_damage(x)}")
        if x + 1 < s.num_iters and x + 1 not in self.realignments:
            checks.begin(self.archives(x + 1))

    def archives(self, x: int) -> list[Path]:
        """The archives that iteration x reads."""
        return [training_archive(self.egs_dir(x), n) for n in sorted(self.schedule.archives(x))]

    def advice_on_damage(self, x: int) -> str:
        """What helps where examples for iteration x are damaged."""
        egs_dir = self.egs_dir(x)
        if egs_dir.parent != self.dir:
            return "make the examples again"
        if egs_dir == self.first_egs_dir:
            return "remove what is damaged, and the examples are made again"
        last = max(y for y in self.realignments if y <= x)
        return f"--stage {last} does the realignment that made them again"

    def diagnose(self, x: int | str, diagnostics: Diagnostics) -> None:
        """Start to compute how good model x is, and how it differs from the one before."""
        model, egs = self.model(x), self.egs_dir(self.schedule.num_iters if x == "final" else x)
        for subset in "valid", "train":
            diagnostics.start(
                self.cmd, self.log(f"compute_prob_{subset}.{x}"),
                "nnet-compute-prob", model, f"ark:{egs}/{subset}_diagnostic.egs",
            )  # fmt: skip
        if x != "final" and x > 0 and self.schedule.averages(x - 1) and self.model(x - 1).exists():
            diagnostics.start(
                self.cmd, self.log(f"progress.{x}"),
                "nnet-show-progress", "--use-gpu=no", self.model(x - 1), model,
                f"ark:{egs}/train_diagnostic.egs", "&&", "nnet-am-info", model,
            )  # fmt: skip

    def check_model(self, x: int) -> None:
        """Raises NgtrainError if model x is not what was written."""
        try:
            check_file(self.model(x))
        except NgtrainError as error:
            stage = max((y for y in models(self.dir) if y < x), default=-2)
            raise NgtrainError(
                f"{error}; --stage {stage} makes it again, or remove "
                f"{checksum_file(self.model(x))} if it is to be used as it is"
            ) from None

    def train(self, x: int) -> Iteration:
        """Run the jobs of iteration x that have not ended well yet."""
        self.check_model(x)
        iteration = Iteration(self.dir, x, self.schedule.num_jobs(x))
        self.run_jobs(iteration)
        return iteration

    def run_jobs(self, iteration: Iteration) -> None:
        """Run those that have yet to be run, and leave out what cannot count."""
        o, s, x = self.options, self.schedule, iteration.number
        to_run = iteration.to_run()
        srand = o.srand + x
        model, layer = self.model(x), s.added_layer(x)
        if layer:
            at, seed = self.network.insertion_point(layer), f"--srand={srand}"
            init = ["nnet-init", seed, self.dir / f"hidden_{layer}.config", "-"]
            insert = ["nnet-insert", seed, f"--insert-at={at}", model, "-", "-"]
            model = f"{pipeline(init, insert)} |"
        gpus = {"gpu": 1} if o.use_gpu in ("yes", "wait") else {}
        threads = o.num_threads or threads_per_job(o.cmd, s.num_jobs(x))
        with Background(o.start_timeout) as jobs:
            for n, (archive, frame) in enumerate(s.archives_and_frames(x), start=1):
                if n in to_run:
                    jobs.start(
                        f"{self.cmd} {o.parallel_opts}", iteration.log(n),
                        "nnet-train-simple", f"--use-gpu={o.use_gpu}", f"--tf32={o.tf32}",
                        f"--num-threads={threads}", "--write-checksum=true",
                        f"--minibatch-size={self.minibatch_size(x)}",
                        f"--srand={srand}", f"--learning-rate={s.learning_rate(x):.15g}",
                        f"--frame={frame}", f"--shuffle-buffer-size={o.shuffle_buffer_size}",
                        model, training_table(self.egs_dir(x), archive), iteration.model(n),
                        **gpus,
                    )  # fmt: skip
            iteration.leave_out_failed(jobs.wait())
        iteration.leave_out_far_below()

    def minibatch_size(self, x: int) -> int:
        """Half where the model changes fast, which keeps the update stable."""
        size = self.options.minibatch_size
        return size if self.schedule.averages(x) else max(1, size // 2)

    def check_divergence(self, iteration: Iteration) -> None:
        """Raises NgtrainError, with advice, if the training diverges and is not to go on so."""
        if not self.options.stop_if_diverging:
            return
        for x in range(len(self.objectives), iteration.number):  # before this run of the driver
            before = Iteration(self.dir, x, self.schedule.num_jobs(x))
            self.objectives.append(before.middle_objective)
        self.objectives.append(iteration.middle_objective)
        check_divergence(self.objectives, self.num_targets, settled=self.schedule.last_addition)

    def merge(self, iteration: Iteration) -> None:
        """Make one model of those of an iteration's jobs, and remove these."""
        o, x = self.options, iteration.number
        averages = self.schedule.averages(x)
        merged, writing = self.model(x + 1), "--write-checksum=true"
        fixing = []
        if o.fix_nnet and x <= self.schedule.num_iters // 2:
            fixing = [
                "-", "|", "nnet-am-fix", f"--max-average-deriv={o.max_average:g}",
                f"--min-average-deriv={o.min_average:g}", writing, "-",
            ]  # fmt: skip
        while not merged.exists():
            iteration.decide(o.min_jobs)
            chosen = iteration.counted() if averages else [iteration.best]
            log_file = self.log(f"{'average' if averages else 'select'}.{x}")
            models = map(iteration.model, chosen)
            try:
                run(self.cmd, log_file, "nnet-am-average", writing, *models, *fixing, merged)
            except NgtrainError:
                if not iteration.discard_broken(o.max_retries):
                    forget_left_out(self.dir, x)  # nothing came of it
                    raise
                self.run_jobs(iteration)
            else:
                if not eventually(merged.exists, self.dir):
                    raise NgtrainError(f"{log_file}: it ended well, but there is no {merged}")
        self.remove_models_of_jobs_before(x + 1)

    def report(self, iteration: Iteration, first: int) -> None:
        """Say in a line how far training is, how good, and how long it will take."""
        x, s = iteration.number, self.schedule
        objectives = iteration.objectives().values()
        jobs = str(iteration.num_jobs)
        if iteration.left_out:
            jobs = f"{len(iteration.counted())} of {jobs}"
        done = s.num_archives_processed(x + 1) - s.num_archives_processed(first)
        to_do = s.num_archives_processed(s.num_iters) - s.num_archives_processed(x + 1)
        elapsed = self.seconds["iterations"]
        log.info(
            "iteration %d/%d, epoch %.1f/%g: lrate %.3g, %s jobs, train %.3f, valid %.3f; "
            "%s elapsed, %s left",
            *(x + 1, s.num_iters, s.epoch(x + 1), self.options.num_epochs, s.learning_rate(x)),
            *(jobs, sum(objectives) / len(objectives), self.held_out(x)),
            *(clock(elapsed), clock(elapsed * to_do / done)),
        )

    def progress(self, x: int) -> str:
        """What a watcher wants to know while iteration x is running."""
        s, held_out = self.schedule, self.held_out(x)
        return (
            f"iteration {x + 1}/{s.num_iters}, epoch {s.epoch(x):.1f}/{self.options.num_epochs:g}"
            + ("" if math.isnan(held_out) else f", held-out {held_out:.3f}")
        )

    def held_out(self, x: int) -> float:
        """Log-probability per frame on held-out data of the latest model that has one, up to x."""
        found = (objective(self.dir, "valid", y) for y in range(x, -1, -1))
        return next((log_prob for log_prob in found if log_prob is not None), math.nan)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time that a block takes to self.seconds."""
        start = time.monotonic()
        yield
        self.seconds[what] += time.monotonic() - start

    def steps_of(self, iteration: Iteration) -> float:
        """Seconds that gradient steps alone took in the slowest job of an iteration."""
        logs = map(iteration.log, iteration.counted())
        return max(last_number(r"examples in (\S+) seconds", file) or 0.0 for file in logs)

    def report_seconds(self, num_iters: int) -> None:
        """Say in a line what the time went to, and how much of it was not for gradient steps."""
        fixed = (self.seconds["iterations"] - self.steps_s) / max(num_iters, 1)
        log.info(
            "seconds: %s; %.1f of the iterations for gradient steps, and %.2f each for the rest",
            ", ".join(f"{what} {seconds:.1f}" for what, seconds in self.seconds.items()),
            *(self.steps_s, fixed),
        )

    def remove_models_of_jobs_before(self, x: int) -> None:
        """Remove what jobs made for model x and those before it."""
        for (of_model, _), file in models_of_jobs(self.dir).items():
            if of_model <= x:
                remove_with_checksum(file)

    def remove_models_before(self, x: int) -> None:
        """Remove the models before model x, but every hundredth and those to be combined."""
        first_to_combine = self.schedule.combination()[0][0]
        for y in range(min(x, first_to_combine)):
            if y % 100:
                remove_with_checksum(self.model(y))

    # The end --------------------------------------------------------------------------------------

    def combine(self) -> None:
        """Stage num_iters: combined.mdl, the best combination of the last models.

        The weights that nnet-combine-fast finds are fitted to training data.  Where there are few
        of these they are overfitted (the last layer grows until it is too sure of itself), and the
        plain average is kept if it is better on the held-out data.
        """
        o, s = self.options, self.schedule
        combined = self.model("combined")
        if combined.exists():
            return
        log.info("combining the last models")
        groups = [[self.model(x) for x in group] for group in s.combination()]
        last_models = [model for group in groups for model in group]
        require_files(*last_models)
        for group in s.combination():
            for x in group:
                self.check_model(x)
        models = [
            group[0] if len(group) == 1 else f"{pipeline(['nnet-am-average', *group, '-'])} |"
            for group in groups
        ]
        weighted, averaged = self.model("weighted"), self.model("averaged")
        with Background() as jobs:
            # Started from the average: the Fisher matrix that scales the search is singular where a
            # single model starts it, since the layers do not depend on the scale of parameters.
            jobs.start(
                f"{self.cmd} {o.combine_parallel_opts}", self.log("combine"),
                "nnet-combine-fast", "--initial-model=100000", "--num-lbfgs-iters=40",
                f"--num-threads={o.combine_num_threads or threads_per_job(o.cmd, 1)}",
                "--use-gpu=no", "--verbose=3", "--minibatch-size=512",
                *models, f"ark:{self.egs_dir(s.num_iters)}/combine.egs", weighted,
            )  # fmt: skip
            average = "nnet-am-average", *last_models, averaged
            jobs.start(self.cmd, self.log("average.last"), *average)
        held_out = self.held_out_objectives(weighted, averaged)
        best = max(held_out, key=held_out.get)
        log.info(
            "held-out log-probability of the combination %.3f, of the average %.3f: taking the %s",
            *(held_out[weighted], held_out[averaged]),
            "combination" if best == weighted else "average",
        )
        run(self.cmd, self.log("normalize"), "nnet-normalize-stddev", best, combined)
        weighted.unlink()
        averaged.unlink()

    def held_out_objectives(self, *models: Path) -> dict[Path, float]:
        """Log-probability per frame of models on the held-out utterances, computed now."""
        egs = f"ark:{self.egs_dir(self.schedule.num_iters)}/valid_diagnostic.egs"
        with Background() as jobs:
            for model in models:
                log_file = self.log(f"compute_prob_valid.{model.stem}")
                jobs.start(self.cmd, log_file, "nnet-compute-prob", model, egs)
        log_probs = {model: objective(self.dir, "valid", model.stem) for model in models}
        return {
            model: -math.inf if log_prob is None else log_prob
            for model, log_prob in log_probs.items()
        }

    def adjust_priors(self, source: int | str, target: int | str, x: int, egs_dir: Path) -> None:
        """Make model `target` of `source`, with its average posterior on the data as its priors."""
        o, num_jobs = self.options, self.options.num_jobs_compute_prior
        parts = [self.dir / f"post.{x}.{job}.vec" for job in range(1, num_jobs + 1)]
        posterior = self.dir / f"post.{x}.vec"
        seed = f"--srand={JOB}"
        # Random subsets of one archive, which is a random subset of all data itself.
        run(
            self.cmd, self.log(f"get_post.{x}.{JOB}"),
            "nnet-copy-egs", "--frame=random", seed, training_table(egs_dir, 1), "ark:-", "|",
            "nnet-subset-egs", seed, f"--n={o.prior_subset_size}", "ark:-", "ark:-", "|",
            "nnet-compute-from-egs", self.model(source), "ark:-", "ark:-", "|",
            "matrix-sum-rows", "ark:-", "ark:-", "|",
            "vector-sum", "ark:-", f"{self.dir}/post.{x}.{JOB}.vec",
            jobs=num_jobs,
        )  # fmt: skip
        run(self.cmd, self.log(f"vector_sum.{x}"), "vector-sum", *parts, posterior)
        for part in parts:
            part.unlink()
        run(
            self.cmd, self.log(f"adjust_priors.{target}"),
            "nnet-adjust-priors", "--write-checksum=true", self.model(source), posterior,
            self.model(target),
        )  # fmt: skip

    def clean_up(self) -> None:
        """Remove examples and models, but for every hundredth and the last before combination."""
        o, num_iters = self.options, self.schedule.num_iters
        log.info("done: %s", self.model("final"))
        if not o.cleanup:
            return
        egs_dir = self.egs_dir(num_iters)
        if o.remove_egs and egs_dir.parent == self.dir:
            remove_egs(egs_dir)
        for x in range(num_iters):
            if x % 100:
                remove_with_checksum(self.model(x))
        self.model("combined").unlink(missing_ok=True)


class Diagnostics(Background):
    """Jobs beside the training, which does not fail when they fail, but says so in the end."""

    def __exit__(self, exception_type, *details) -> None:
        try:
            super().__exit__(exception_type, *details)
        except NgtrainError as error:
            log.warning("a diagnostic failed: %s", error)


if __name__ == "__main__":
    main()
