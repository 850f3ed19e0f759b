"""The end of a training: the last models are combined, priors are set, and what was needed goes."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

from nnet.drivers.driver import log, threads_per_job
from nnet.drivers.egs_dir import remove_egs, training_table
from nnet.drivers.programs import Background, of_jobs, require_files, run
from nnet.drivers.stages import Stage
from nnet.drivers.training_run import TrainingRun
from nnet.io.checksums import remove_with_checksum
from nnet.launch.commands import JOB, pipeline
from nnet.report.training_logs import objective


class Combination(Stage):
    """combined.mdl, the best combination of the last models.

    The weights that nnet-combine-fast finds are fitted to training data.  Where there are few of
    these they are overfitted (the last layer grows until it is too sure of itself), and the plain
    average is kept if it is better on the held-out data.
    """

    name, file_name = "combination", "combined.mdl"

    @property
    def number(self) -> int:
        return self.training.schedule.num_iters

    def make(self) -> None:
        training = self.training
        log.info("combining the last models")
        weighted, averaged = training.model("weighted"), training.model("averaged")
        self.weigh_and_average(weighted, averaged)
        held_out = self.held_out_objectives(weighted, averaged)
        best = max(held_out, key=held_out.get)
        log.info(
            "held-out log-probability of the combination %.3f, of the average %.3f: taking the %s",
            *held_out.values(), "combination" if best == weighted else "average",
        )  # fmt: skip
        run(training.cmd, training.log("normalize"), "nnet-normalize-stddev", best, self.file)
        weighted.unlink()
        averaged.unlink()

    def weigh_and_average(self, weighted: Path, averaged: Path) -> None:
        """Make the weighted combination of the last models, and their plain average."""
        training, o = self.training, self.training.options
        numbers = training.schedule.combination()
        groups = [[training.model(x) for x in group] for group in numbers]
        last_models = [model for group in groups for model in group]
        require_files(*last_models)
        for x in chain(*numbers):
            training.check_model(x)
        models = [
            group[0] if len(group) == 1 else f"{pipeline(['nnet-am-average', *group, '-'])} |"
            for group in groups
        ]
        with Background() as jobs:
            # Started from the average: the Fisher matrix that scales the search is singular where a
            # single model starts it, since the layers do not depend on the scale of parameters.
            jobs.start(
                f"{training.cmd} {o.combine_parallel_opts}", training.log("combine"),
                "nnet-combine-fast", "--initial-model=100000", "--num-lbfgs-iters=40",
                f"--num-threads={o.combine_num_threads or threads_per_job(o.cmd, 1)}",
                "--use-gpu=no", "--verbose=3", "--minibatch-size=512",
                *models, f"ark:{training.egs_dir(self.number)}/combine.egs", weighted,
            )  # fmt: skip
            average = "nnet-am-average", *last_models, averaged
            jobs.start(training.cmd, training.log("average.last"), *average)

    def held_out_objectives(self, *models: Path) -> dict[Path, float]:
        """Compute the log-probability per frame of models on the held-out utterances."""
        training = self.training
        egs = f"ark:{training.egs_dir(self.number)}/valid_diagnostic.egs"
        with Background() as jobs:
            for model in models:
                log_file = training.log(f"compute_prob_valid.{model.stem}")
                jobs.start(training.cmd, log_file, "nnet-compute-prob", model, egs)
        found = {model: objective(training.dir, "valid", model.stem) for model in models}
        return {model: -math.inf if value is None else value for model, value in found.items()}


class Priors(Stage):
    """final.mdl, the combination with the network's average posterior as its priors."""

    name, file_name = "priors", "final.mdl"

    @property
    def number(self) -> int:
        return self.training.schedule.num_iters + 1

    def make(self) -> None:
        last = self.training.schedule.num_iters
        adjust_priors(self.training, "combined", "final", last, self.training.egs_dir(last))

    def forget(self) -> None:
        """Take the final model for the combination, of which it differs by its priors alone."""
        if self.made():
            self.file.replace(self.training.model("combined"))


def adjust_priors(
    training: TrainingRun, source: int | str, target: int | str, x: int, egs_dir: Path
) -> None:
    """Make model `target` of `source`, with its average posterior on the data as its priors."""
    o, num_jobs = training.options, training.options.num_jobs_compute_prior
    part, posterior = training.dir / f"post.{x}.{JOB}.vec", training.dir / f"post.{x}.vec"
    seed, old = f"--srand={JOB}", training.model(source)
    # Random subsets of one archive, which is a random subset of all data itself.
    run(
        training.cmd, training.log(f"get_post.{x}.{JOB}"),
        "nnet-copy-egs", "--frame=random", seed, training_table(egs_dir, 1), "ark:-", "|",
        "nnet-subset-egs", seed, f"--n={o.prior_subset_size}", "ark:-", "ark:-", "|",
        "nnet-compute-from-egs", old, "ark:-", "ark:-", "|",
        "matrix-sum-rows", "ark:-", "ark:-", "|", "vector-sum", "ark:-", part, jobs=num_jobs,
    )  # fmt: skip
    parts = of_jobs(part, num_jobs)
    run(training.cmd, training.log(f"vector_sum.{x}"), "vector-sum", *parts, posterior)
    for file in parts:
        file.unlink()
    words = "nnet-adjust-priors", "--write-checksum=true", old, posterior, training.model(target)
    run(training.cmd, training.log(f"adjust_priors.{target}"), *words)


def clean_up(training: TrainingRun) -> None:
    """Remove examples and models, but for every hundredth and the last before combination."""
    o, num_iters = training.options, training.schedule.num_iters
    log.info("done: %s", training.model("final"))
    if not o.cleanup:
        return
    egs_dir = training.egs_dir(num_iters)
    if o.remove_egs and egs_dir.parent == training.dir:
        remove_egs(egs_dir)
    for x in range(num_iters):
        if x % 100:
            remove_with_checksum(training.model(x))
    training.model("combined").unlink(missing_ok=True)
