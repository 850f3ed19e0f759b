#!/usr/bin/env python3
"""Train a neural network further with a discriminative objective function: MMI, MPFE or sMBR.

The examples come from steps/get_egs_discriminative2.py.  On every iteration jobs train the same
network on different archives, and the average of their results is the network of the next
iteration.  Run again, it goes on from the latest network that is there.  The network of each epoch
is epoch1.mdl, epoch2.mdl, ..., that of the last final.mdl (Kaldi's
steps/nnet2/train_discriminative2.sh).
"""

from pathlib import Path

from nnet.drivers.driver import argument, cmd_option, driver, gpu_option, option
from nnet.drivers.sequence_training import SequenceTraining


@driver(
    "Usage:  steps/train_discriminative2.py [options] <degs-dir> <exp-dir>\n"
    " e.g.:  steps/train_discriminative2.py exp/nnet_degs exp/nnet_smbr",
    writes="dir",
)
@argument("degs_dir", "dir", type=Path)
@cmd_option
@option("--num-epochs", 4, "Number of epochs of training", least=1)
@option("--learning-rate", 0.00002, "Learning rate of the jobs", above=0)
@option(
    "--effective-lrate", 0.0, "If given, the learning rate is this times the number of jobs",
    least=0,
)  # fmt: skip
@option("--acoustic-scale", 0.1, "Weighting factor of acoustic likelihoods", above=0)
@option("--criterion", "smbr", "Criterion, mmi, mpfe or smbr")
@option("--boost", 0.0, "Boosting factor for MMI, such as 0.1", least=0)
@option(
    "--drop-frames", False, "For MMI, leave out frames where the numerator is not in the lattice"
)
@option("--one-silence-class", True, "For MPFE and sMBR: reduces insertions")
@option("--num-jobs-nnet", 4, "Parallel jobs; no more than there are archives", least=1)
@option("--modify-learning-rates", True, "Let all layers change by about the same proportion")
@option(
    "--last-layer-factor", 1.0, "Of --modify-learning-rates: how much more the last one changes"
)
@option("--first-layer-factor", 1.0, "Likewise, the first one")
@option("--retroactive", False, "Have --modify-learning-rates change the new network, too")
@option("--num-samples-history", 50000.0, "Time constant of natural gradients, in frames", above=0)
@option("--max-length", 512, "Frames of joined examples, which are the minibatches", least=1)
@option("--src-model", "", "The network to start from, if not <degs-dir>/final.mdl")
@option("--parallel-opts", "", "Launcher options for training jobs")
@option("--cleanup", True, "Remove the networks within epochs in the end")
@gpu_option
def main(degs_dir, dir, **options):
    SequenceTraining(degs_dir, dir, options).run()


if __name__ == "__main__":
    main()
