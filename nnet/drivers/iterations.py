"""The iterations of a training: jobs train the same network on different data, and are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from nnet.cli.progress import progress_bar
from nnet.drivers.divergence import check_divergence
from nnet.drivers.driver import log, threads_per_job
from nnet.drivers.egs_dir import (
    SUBSETS,
    ArchiveChecks,
    forget_egs,
    missing_egs,
    remove_egs,
    training_archive,
    training_table,
)
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.iteration_jobs import IterationJobs, forget_left_out
from nnet.drivers.programs import Background, run, run_step
from nnet.drivers.training_end import adjust_priors
from nnet.drivers.training_files import logs_after, models, models_of_jobs, relabelled_egs
from nnet.drivers.training_progress import Progress
from nnet.drivers.training_run import TrainingRun
from nnet.errors import NgtrainError
from nnet.io.checksums import remove_with_checksum
from nnet.launch.commands import pipeline, read_from
from nnet.launch.late_files import eventually


class Iterations(ExitStack):
    """The iterations that are still to be done, as a context; iteration x makes model x + 1.

    Beside them diagnostics are computed, and the next archives are compared with their checksums.
    """

    def __init__(self, training: TrainingRun):
        super().__init__()
        self.training = training
        self.schedule = s = training.schedule
        self.objectives: list[float] = []  # of iterations
        epochs = training.options.num_epochs
        log.info("training for %g epochs = %d iterations", epochs, s.num_iters)
        self.first = max(x for x in models(training.dir) if x <= s.num_iters)
        if self.first > 0:
            log.info("going on from %s", training.model(self.first))
        self.progress = Progress(training, self.first)
        remove_models_of_jobs(training.dir, self.first)
        for log_file in logs_after(training.dir, self.first):  # of an earlier run
            log_file.unlink()

    def __enter__(self) -> Iterations:
        jobs = map(self.schedule.num_archives_processed, (self.first, self.schedule.num_iters))
        self.diagnostics = self.enter_context(Diagnostics())
        self.archive_checks = self.enter_context(ArchiveChecks())
        self.show = self.enter_context(progress_bar(*jobs))
        return self

    def __iter__(self) -> Iterator[int]:
        """Count them, and show how far training is, to the end of the last."""
        s = self.schedule
        for x in range(self.first, s.num_iters):
            self.show(s.num_archives_processed(x), self.progress.status(x))
            yield x
        self.show(s.num_archives_processed(s.num_iters), "combination")

    def realign(self, x: int) -> None:
        """Where --realign-times says so, align the data with model x, and relabel the examples."""
        training, o = self.training, self.training.options
        if x not in training.realignments:
            return
        with training.timed("realignment"):
            old, new = training.egs_dir(x - 1), training.egs_dir(x)
            if missing_egs(new):
                self.relabel(x, old, new)
            if o.cleanup and old.parent == training.dir:
                remove_egs(old)

    def relabel(self, x: int, old: Path, new: Path) -> None:
        """Make the examples of iteration x from those before."""
        training, o = self.training, self.training.options
        ali = training.dir / f"ali_{training.realignments[x]}"
        adjust_priors(training, x, x, x, old)
        features = FeaturePipeline.of(o.alidir, **training.given_features)
        cmd = training.retried(o.align_cmd or o.cmd)
        run_step(
            "align.py", "--nj", o.num_jobs_align, "--cmd", cmd, "--use-gpu", o.align_use_gpu,
            *features.unsaved_words(), "--iter", x, o.data, o.lang, training.dir, ali,
        )  # fmt: skip
        run_step("relabel_egs2.py", "--cmd", training.cmd, "--iter", x, ali, old, new)

    def check_examples(self, x: int) -> None:
        """Raise NgtrainError if files of examples that iteration x needs are damaged.

        Those are its archives, and what models are judged and combined on, now and at the end.
        The archives of the next iteration are read through while this one runs.
        """
        num_iters, checks = self.schedule.num_iters, self.archive_checks
        subsets = [self.training.egs_dir(x) / name for name in SUBSETS]
        if x == num_iters:  # which may be days after they were read first
            checks.forget(subsets)
        archives = self.archives(x) if x < num_iters else []
        if damaged := checks.damaged([*archives, *subsets]):
            raise NgtrainError(f"{'; '.join(damaged)}: {self.advice_on_damage(x)}")
        if x + 1 < num_iters and x + 1 not in self.training.realignments:
            checks.begin(self.archives(x + 1))

    def archives(self, x: int) -> list[Path]:
        """List the archives that iteration x reads."""
        egs_dir = self.training.egs_dir(x)
        return [training_archive(egs_dir, n) for n in sorted(self.schedule.archives(x))]

    def advice_on_damage(self, x: int) -> str:
        """Say what helps where examples for iteration x are damaged."""
        training, egs_dir = self.training, self.training.egs_dir(x)
        if egs_dir.parent != training.dir:
            return "make the examples again"
        if egs_dir == training.first_egs_dir:
            return "remove what is damaged, and the examples are made again"
        last = max(y for y in training.realignments if y <= x)
        return f"--stage {last} does the realignment that made them again"

    def train(self, x: int) -> IterationJobs:
        """Run the jobs of iteration x that have not ended well yet."""
        self.training.check_model(x)
        jobs = IterationJobs(self.training.dir, x, self.schedule.num_jobs(x))
        self.run_jobs(jobs)
        return jobs

    def run_jobs(self, jobs: IterationJobs) -> None:
        """Run those that have yet to be run, and leave out what cannot count."""
        training, o, s, x = self.training, self.training.options, self.schedule, jobs.number
        to_run, egs_dir = jobs.to_run(), training.egs_dir(x)
        threads = o.num_threads or threads_per_job(o.cmd, s.num_jobs(x))
        with Background(o.start_timeout) as background:
            for n, (archive, frame) in enumerate(s.archives_and_frames(x), start=1):
                if n in to_run:
                    background.start(
                        f"{training.cmd} {o.parallel_opts}", jobs.log(n),
                        "nnet-train-simple", f"--use-gpu={o.use_gpu}", f"--tf32={o.tf32}",
                        f"--num-threads={threads}", "--write-checksum=true",
                        f"--minibatch-size={minibatch_size(training, x)}",
                        f"--srand={o.srand + x}", f"--learning-rate={s.learning_rate(x):.15g}",
                        f"--final-learning-rate-factor={o.final_learning_rate_factor:g}",
                        f"--frame={frame}", f"--shuffle-buffer-size={o.shuffle_buffer_size}",
                        self.start_model(x), training_table(egs_dir, archive), jobs.model(n),
                        **({"gpu": 1} if o.use_gpu in ("yes", "wait") else {}),
                    )  # fmt: skip
            jobs.leave_out_failed(background.wait())
        jobs.leave_out_far_below()

    def start_model(self, x: int) -> str | Path:
        """Name the network that the jobs of iteration x start from: model x, or a layer more."""
        training, layer = self.training, self.schedule.added_layer(x)
        model, seed = training.model(x), f"--srand={training.options.srand + x}"
        if not layer:
            return model
        at = training.network.insertion_point(layer)
        init = ["nnet-init", seed, training.dir / f"hidden_{layer}.config", "-"]
        return f"{pipeline(init, ['nnet-insert', seed, f'--insert-at={at}', model, '-', '-'])} |"

    def check_divergence(self, jobs: IterationJobs) -> None:
        """Raise NgtrainError, with advice, if the training diverges and is not to go on so."""
        training, s = self.training, self.schedule
        if not training.options.stop_if_diverging:
            return
        for x in range(len(self.objectives), jobs.number):  # before this run of the driver
            before = IterationJobs(training.dir, x, s.num_jobs(x))
            self.objectives.append(before.middle_objective)
        self.objectives.append(jobs.middle_objective)
        check_divergence(self.objectives, training.num_targets, settled=s.last_addition)

    def merge(self, jobs: IterationJobs) -> None:
        """Average the models of an iteration's jobs, or take the best one; then remove them."""
        training, o, x = self.training, self.training.options, jobs.number
        averages = self.schedule.averages(x)
        merged, writing, changes = training.model(x + 1), "--write-checksum=true", []
        if self.schedule.has_block_momentum and averages:
            changes += ["-", "|", *self.block_momentum(x), "-"]
        if o.shrink_interval and averages and x % o.shrink_interval == 0:
            frames = read_from([
                "nnet-subset-egs", f"--n={o.num_frames_shrink}", f"--srand={o.srand + x}",
                f"ark:{training.egs_dir(x)}/train_diagnostic.egs", "ark:-",
            ])  # fmt: skip
            changes += ["-", "|", "nnet-combine-fast", "-", frames]
            changes += ["-", "|", "nnet-am-average", writing, "-"]
        if o.fix_nnet and x <= self.schedule.num_iters // 2:
            changes += [
                "-", "|", "nnet-am-fix", f"--max-average-deriv={o.max_average:g}",
                f"--min-average-deriv={o.min_average:g}", writing, "-",
            ]  # fmt: skip
        if self.mixes_up(x):
            changes += [
                "-", "|", "nnet-am-mixup", "--min-count=10", f"--num-mixtures={o.mix_up}",
                f"--srand={o.srand + x}", writing, "-",
            ]  # fmt: skip
        while not merged.exists():
            jobs.decide(o.min_jobs)
            chosen = map(jobs.model, jobs.counted() if averages else [jobs.best])
            log_file = training.log(f"{'average' if averages else 'select'}.{x}")
            try:
                run(training.cmd, log_file, "nnet-am-average", writing, *chosen, *changes, merged)
            except NgtrainError:
                if not jobs.discard_broken(o.max_retries):
                    forget_left_out(training.dir, x)  # nothing came of it
                    raise
                self.run_jobs(jobs)
            else:
                if not eventually(merged.exists, training.dir):
                    raise NgtrainError(f"{log_file}: it ended well, but there is no {merged}")
        remove_models_of_jobs(training.dir, x + 1)

    def block_momentum(self, x: int) -> list[str | Path]:
        """Make the command that steps from model x towards the average, but for its last files.

        The steps before count where the network is still what they were steps of.
        """
        training, o = self.training, self.training.options
        command = [
            "nnet-am-block-momentum", "--write-checksum=true",
            f"--block-momentum={o.block_momentum:g}",
            f"--block-learning-rate={o.block_learning_rate:g}",
        ]  # fmt: skip
        if x > 0 and self.schedule.averages(x - 1) and not self.mixes_up(x - 1):
            command.append(f"--delta-in={delta_file(training.model(x))}")
        return [*command, f"--delta-out={delta_file(training.model(x + 1))}", training.model(x)]

    def mixes_up(self, x: int) -> bool:
        """Tell whether iteration x ends with a split of outputs of the softmax."""
        return self.training.options.mix_up > 0 and x == self.schedule.halfway

    def diagnose(self, x: int | str) -> None:
        """Start to compute how good model x is, and how it differs from the one before."""
        training, s = self.training, self.schedule
        model, egs = training.model(x), training.egs_dir(s.num_iters if x == "final" else x)
        for subset in "valid", "train":
            self.diagnostics.start(
                training.cmd, training.log(f"compute_prob_{subset}.{x}"),
                "nnet-compute-prob", model, f"ark:{egs}/{subset}_diagnostic.egs",
            )  # fmt: skip
        if x == "final" or x == 0 or not s.averages(x - 1) or self.mixes_up(x - 1):
            return  # there is no model before it that is like it
        if (before := training.model(x - 1)).exists():
            self.diagnostics.start(
                training.cmd, training.log(f"progress.{x}"),
                "nnet-show-progress", "--use-gpu=no", before, model,
                f"ark:{egs}/train_diagnostic.egs", "&&", "nnet-am-info", model,
            )  # fmt: skip

    def remove_models_before(self, x: int) -> None:
        """Remove models that no diagnostic reads, but every hundredth and those to be combined."""
        if self.diagnostics.running() or not self.training.options.cleanup:
            return
        first_to_combine = self.schedule.combination()[0][0]
        for y in range(min(x, first_to_combine)):
            if y % 100:
                remove_model(self.training.model(y))


def minibatch_size(training: TrainingRun, x: int) -> int:
    """Halve the minibatches where the model changes fast, which keeps the update stable."""
    size = training.options.minibatch_size
    return size if training.schedule.averages(x) else max(1, size // 2)


def delta_file(model: Path) -> Path:
    """Name the file of the step with block momentum that led to the model of an iteration."""
    return model.with_suffix(".delta")


def remove_model(model: Path) -> None:
    """Remove the model of an iteration, and the step that led to it."""
    for file in delta_file(model), model:
        remove_with_checksum(file)


def remove_models_of_jobs(directory: Path, x: int) -> None:
    """Remove what jobs made for model x and those before it."""
    for (of_model, _), file in models_of_jobs(directory).items():
        if of_model <= x:
            remove_with_checksum(file)


def forget_iterations(training: TrainingRun, first: int) -> None:
    """Remove the models that iteration `first` and those after it have made, so that they run."""
    directory = training.dir
    for x, model in models(directory).items():
        if x > max(first, 0):
            remove_model(model)
    for model in models_of_jobs(directory).values():
        remove_with_checksum(model)
    forget_left_out(directory, first)
    in_use = training.egs_dir(first - 1) if first > 0 and training.egs_are_there else None
    for egs_dir in relabelled_egs(directory):  # which only a realignment done again minds
        if egs_dir != in_use:
            forget_egs(egs_dir)


class Diagnostics(Background):
    """Jobs beside the training, which does not fail when they fail, but says so in the end."""

    def __exit__(self, exception_type, *details) -> None:
        try:
            super().__exit__(exception_type, *details)
        except NgtrainError as error:
            log.warning("a diagnostic failed: %s", error)
