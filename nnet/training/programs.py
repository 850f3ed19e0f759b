"""The body of the programs that train a model on examples by stochastic gradient ascent."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np

from nnet.device.device import CPU, Device
from nnet.egs.minibatches import read_minibatches
from nnet.errors import NgtrainError
from nnet.io.ending import finished_before_ending
from nnet.io.log_lines import STEPS_SECONDS
from nnet.model.acoustic_model import AcousticModel
from nnet.training.ensemble import train_ensemble
from nnet.training.train import train

log = logging.getLogger("ngtrain")


def train_model(
    model_in: str,
    examples_rspecifier: str,
    model_out: str,
    *,
    binary: bool = True,
    write_checksum: bool = False,
    zero_stats: bool = True,
    srand: int = 0,
    minibatch_size: int,
    minibatches_per_phase: int = 50,
    learning_rate: float = -1.0,
    final_learning_rate_factor: float = 1.0,
    frame: int | str | None = None,
    shuffle_buffer_size: int = -1,
    device: Device = CPU,
) -> None:
    """Read a model, train it on a table of examples, and write it.

    Args:
        zero_stats: forget the statistics of nonlinearities first.
        minibatches_per_phase: after so many the objective is logged.
        learning_rate: that of all layers, if not negative.
        final_learning_rate_factor: of the last two layers, over what it is otherwise.
        frame: of examples with several labelled frames, train on this one, or "random".
        shuffle_buffer_size: of the examples, if not negative; 0 shuffles in memory.

    Raises:
        NgtrainError: something cannot be read or written; there are no examples, or they do not fit
            the network; the training diverges.
    """
    model = AcousticModel.load(model_in, device)
    network, rng = model.network, np.random.default_rng(srand)
    if zero_stats:
        network.zero_statistics()
    if learning_rate >= 0:
        network.set_learning_rate(learning_rate)
    rates = network.learning_rates
    network.learning_rates = rates[:-2] + [final_learning_rate_factor * r for r in rates[-2:]]
    network.set_random_generator(rng.spawn(1)[0])  # examples are read in another thread
    minibatches = read_minibatches(
        examples_rspecifier,
        minibatch_size,
        network.left_context,
        network.right_context,
        frame=frame,
        buffer_size=None if shuffle_buffer_size < 0 else shuffle_buffer_size,
        rng=rng,
        compressed=device.takes_compressed_frames,
    )
    start = time.monotonic()
    seen = train(network, minibatches, minibatches_per_phase)
    seconds = time.monotonic() - start
    if seen.num_examples == 0:
        raise NgtrainError(f"{examples_rspecifier}: there are no examples")
    with finished_before_ending():
        model.save(model_out, binary, checksum=write_checksum)
        log.info(STEPS_SECONDS.format, seen.num_examples, seconds, model_out)


def train_models_together(
    models_in: Sequence[str],
    examples_rspecifier: str,
    models_out: Sequence[str],
    *,
    binary: bool = True,
    zero_stats: bool = True,
    srand: int = 0,
    minibatch_size: int,
    minibatches_per_phase: int = 50,
    beta: float = 0.5,
    device: Device = CPU,
) -> int:
    """Read models, train them as an ensemble, and write them; see train_ensemble().

    Returns:
        The number of examples.

    Raises:
        NgtrainError: as train_model() does, and for models of unlike outputs.
    """
    models = [AcousticModel.load(file, device) for file in models_in]
    networks, rng = [model.network for model in models], np.random.default_rng(srand)
    for file, network in zip(models_in, networks, strict=True):
        if network.output_dim != networks[0].output_dim:
            dims = f"{network.output_dim} outputs, but {models_in[0]} {networks[0].output_dim}"
            raise NgtrainError(f"{file} has {dims}")
        if (network.left_context, network.right_context) != (
            networks[0].left_context,
            networks[0].right_context,
        ):
            raise NgtrainError(f"{file} needs other frames of context than {models_in[0]}")
        if zero_stats:
            network.zero_statistics()
        network.set_random_generator(rng.spawn(1)[0])
    context = networks[0].left_context, networks[0].right_context
    minibatches = read_minibatches(examples_rspecifier, minibatch_size, *context)
    seen = train_ensemble(networks, minibatches, beta, minibatches_per_phase)
    if seen.num_examples == 0:
        raise NgtrainError(f"{examples_rspecifier}: there are no examples")
    for model, file in zip(models, models_out, strict=True):
        model.save(file, binary)
    return seen.num_examples
