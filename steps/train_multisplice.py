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

from pathlib import Path

from nnet.drivers.driver import argument, driver, log
from nnet.drivers.iterations import Iterations, forget_iterations
from nnet.drivers.settings import options_from
from nnet.drivers.stages import Examples, FeatureTransform, FirstNetwork
from nnet.drivers.training_checks import TrainingChecks
from nnet.drivers.training_end import Combination, Priors, clean_up
from nnet.drivers.training_files import models
from nnet.drivers.training_options import TrainingOptions
from nnet.drivers.training_run import TrainingRun
from nnet.launch.directory_lock import only_driver_in


@driver(
    "Usage:  steps/train_multisplice.py [options] <data> <lang> <ali-dir> <exp-dir>\n"
    " e.g.:  steps/train_multisplice.py data/train data/lang exp/tri3_ali exp/nnet"
)
@options_from(TrainingOptions)
@argument("dir")
def main(dir, **options):
    training = TrainingRun(Path(dir), TrainingOptions(**options))
    if training.is_finished():
        return 0
    problems = TrainingChecks(training).problems()
    for problem in problems:
        log.error(problem)
    if problems:
        return 1
    with only_driver_in(training.dir):
        if training.options.stage is not None:
            forget(training, training.options.stage)
        training.remember_options()
        train(training)
    return 0


def train(training: TrainingRun) -> None:
    """Do the stages and the iterations that have yet to be done, in order."""
    for prepare in FeatureTransform, Examples, FirstNetwork:
        if training.ends_before(prepare.number):
            return
        prepare(training).do()

    num_iters = training.schedule.num_iters
    with Iterations(training) as iterations:
        for x in iterations:  # from the latest model on
            if training.ends_before(x):
                return
            iterations.realign(x)
            iterations.check_examples(x)
            with training.timed("iterations"):
                iterations.diagnose(x)
                jobs = iterations.train(x)
                iterations.check_divergence(jobs)
                iterations.merge(jobs)
            iterations.progress.report(jobs)
            iterations.remove_models_before(x)

        iterations.diagnose(num_iters)
        if training.ends_before(num_iters):
            return
        iterations.check_examples(num_iters)
        Combination(training).do()
        if training.ends_before(num_iters + 1):
            return
        Priors(training).do()
        iterations.diagnose("final")
    clean_up(training)
    iterations.progress.report_seconds()


def forget(training: TrainingRun, number: int) -> None:
    """Remove what stage `number` and those after it have made, the last first."""
    there = models(training.dir)
    Priors(training).forget()
    if number <= max(there, default=0):
        Combination(training).forget()
    forget_iterations(training, number)
    for stage in FirstNetwork, Examples, FeatureTransform:
        if number <= stage.number:
            stage(training).forget()
    if gone := sorted(there.keys() - models(training.dir).keys()):
        first, last = gone[0], gone[-1]
        log.info("--stage %d: removed models %d to %d, to make them again", number, first, last)


if __name__ == "__main__":
    main()
