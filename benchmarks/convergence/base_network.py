#!/usr/bin/env python3
"""Make the network that all trainings of the experiment branch from, of <dir>/frames/base.

Its layers are those that steps/train_multisplice.py makes of the same options: LDA of the spliced
frames, then hidden layers that are added one after the other in the first half of the training.
One job trains it in this process, by online natural gradient, with a learning rate that decays
exponentially; the frames are seen in random order, all of them before any is seen again.
<dir>/tree/final.mdl is the transition model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from frames import Frames
from trial import logging_to

from nnet.cli import Choice, argument, gpu_option, log, option, program, tf32_option
from nnet.drivers.multisplice_configs import (
    MultispliceNetwork,
    last_max_change,
    parse_splice_indexes,
    presoftmax_scales,
)
from nnet.drivers.training_options import TrainingOptions
from nnet.errors import NgtrainError
from nnet.features.lda import LdaStatistics, estimate_lda
from nnet.hmm.transition_model import TransitionModel
from nnet.io.tokens import write_object
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network
from nnet.training.priors import set_priors_from_counts
from nnet.training.train import train

ITERATIONS = 24  # in which the learning rate is the same
LDA_FRAMES, LDA_BLOCK = 400_000, 4096
WITHIN_CLASS_FACTOR, MAX_SINGULAR_VALUE, PRIOR_FLOOR = 0.0001, 5.0, 5e-6  # those of the drivers


@program(
    "Usage:  benchmarks/convergence/base_network.py [options] <dir> <model-out>\n"
    " e.g.: benchmarks/convergence/base_network.py --use-gpu=yes exp/synthesised exp/base.mdl"
)
@argument("dir", type=Path)
@argument("model_out", type=Path)
@option("--nonlin", "pnorm", "Nonlinearity", type=Choice(["pnorm", "relu"]))
@option("--hidden-dim", 300, "Dimension of relu layers", least=1)
@option("--pnorm-input-dim", 600, "Dimension before the p-norm", least=1)
@option("--pnorm-output-dim", 120, "Dimension after the p-norm", least=1)
@option("--num-hidden-layers", 3, "Hidden layers in the end", least=1)
@option("--splice-indexes", "layer0/-4:-3:-2:-1:0:1:2:3:4 layer1/-3:3", "Frames spliced, by layer")
@option("--samples", 4_000_000, "Frames to train on, counted with repetitions", least=ITERATIONS)
@option("--minibatch-size", 128, "Frames per minibatch", least=1)
@option("--initial-effective-lrate", 0.01, "Learning rate at the start", above=0)
@option("--final-effective-lrate", 0.001, "The same at the end", above=0)
@option("--srand", 0, "Seed of parameters and of the order of frames", least=0)
@gpu_option
@tf32_option
def main(dir, model_out, samples, minibatch_size, srand, device, **options):
    frames = Frames.load(dir / "frames/base")
    transitions = TransitionModel.load(str(dir / "tree/final.mdl"))
    counts = np.bincount(frames.pdfs, minlength=transitions.num_pdfs)
    if len(counts) > transitions.num_pdfs:
        raise NgtrainError(f"{dir}/frames/base is not labelled with the pdf-ids of {dir}/tree")
    rng = np.random.default_rng(srand)
    model_out.parent.mkdir(parents=True, exist_ok=True)
    o = TrainingOptions(
        data="", lang="", alidir="", num_jobs_initial=1, minibatch_size=minibatch_size, **options
    )
    with tempfile.TemporaryDirectory() as temporary:
        layers = describe(o, frames, counts, Path(temporary), rng)
        network = Network.from_config(layers.nnet_config(), rng)
    num_layers, frames = 1, frames.on(device)
    for x, part in enumerate(np.array_split(order_of(len(frames), samples, rng), ITERATIONS)):
        while num_layers < min(o.num_hidden_layers, 1 + 2 * x * o.num_hidden_layers // ITERATIONS):
            hidden = Network.from_config(layers.hidden_config(num_layers), rng)
            network.insert(layers.insertion_point(num_layers), hidden)
            num_layers += 1
        network.move_to(device)
        decay = o.final_effective_lrate / o.initial_effective_lrate
        network.set_learning_rate(o.initial_effective_lrate * decay ** ((x + 0.5) / ITERATIONS))
        widths = network.left_context, network.right_context
        minibatches = frames.minibatches(part, minibatch_size, widths, travel=True)
        with logging_to(model_out.with_suffix(".log")):
            total = train(network, minibatches, minibatches_per_phase=1000)
        log.info("%d layers, log-probability per frame %g", num_layers, total.log_prob_per_frame)
    model = AcousticModel(transitions, network)
    set_priors_from_counts(model, counts, PRIOR_FLOOR)
    model.save(str(model_out))
    log.info("%d parameters, %d pdf-ids: %s", network.num_parameters, len(counts), model_out)


def order_of(num_frames: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the order of `samples` frames: permutations of all, one after the other."""
    passes = -(-samples // num_frames)
    return np.concatenate([rng.permutation(num_frames) for _ in range(passes)])[:samples]


def describe(
    o: TrainingOptions, frames: Frames, counts: np.ndarray, dir: Path, rng: np.random.Generator
) -> MultispliceNetwork:
    """Describe the network, whose transform and scales of outputs are written into a directory."""
    splices = parse_splice_indexes(o.splice_indexes)
    dims = (o.hidden_dim, o.hidden_dim)
    if o.nonlin == "pnorm":
        dims = o.pnorm_input_dim, o.pnorm_output_dim
    lda = transform(frames, len(counts), splices[0], rng)
    scales = presoftmax_scales(counts.tolist(), o.presoftmax_prior_scale_power)
    write_object(str(dir / "lda.mat"), lambda writer: writer.matrix(lda))
    write_object(str(dir / "scales"), lambda writer: writer.vector(np.array(scales, np.float32)))
    last_change = last_max_change(o.max_change_per_sample, len(counts), o.minibatch_size, dims[1])
    return MultispliceNetwork(
        splices=splices,
        input_dim=frames.features.shape[1],
        ivector_dim=0,
        lda_mat=str(dir / "lda.mat"),
        lda_dim=len(lda),
        nonlin=o.nonlin,
        affine_dim=dims[0],
        hidden_dim=dims[1],
        affine=o.affine_component(o.max_change_per_sample),
        last_affine=o.affine_component(last_change),
        bias_stddev=o.bias_stddev,
        num_targets=len(counts),
        presoftmax_scales=str(dir / "scales"),
    )


def transform(
    frames: Frames, num_pdfs: int, offsets: list[int], rng: np.random.Generator
) -> np.ndarray:
    """Estimate the transform of the first spliced features, (D, D + 1), of some frames.

    Source: steps/get_lda.py, whose options these are.
    """
    dim = len(offsets) * frames.features.shape[1]
    statistics = LdaStatistics(num_pdfs, dim)
    chosen = np.sort(rng.permutation(len(frames))[:LDA_FRAMES])
    for block in frames.minibatches(chosen, LDA_BLOCK, (-offsets[0], offsets[-1])):
        statistics.accumulate(block.frames.reshape(-1, dim), block.pdfs, block.weights)
    lda = estimate_lda(statistics, dim, WITHIN_CLASS_FACTOR, MAX_SINGULAR_VALUE, remove_offset=True)
    return lda.matrix


if __name__ == "__main__":
    main()
