"""Evaluation of a network on data: outputs for features, the objective and its gradient."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from nnet.components.nonlinear import PROBABILITY_FLOOR
from nnet.device.device import to_host
from nnet.errors import NgtrainError
from nnet.io import log_lines
from nnet.model.network import Network
from nnet.model.propagation import Propagation
from nnet.training.objective import LogProbability, Totals, labels_of

if TYPE_CHECKING:
    from nnet.egs.minibatches import Minibatch

log = logging.getLogger("ngtrain")

_EXAMPLES_BETWEEN_MESSAGES = 5000


def evaluate(network: Network, minibatches: Iterable[Minibatch]) -> Totals:
    """Sum the log-probability of labels, and find how many of them are the most probable.

    Logs what Kaldi's nnet2bin/nnet-compute-prob.cc does.

    Raises:
        NgtrainError: there are no examples, or they do not fit the network.
    """
    propagation = Propagation(network, goes_back=False)
    total, next_message = Totals(), _EXAMPLES_BETWEEN_MESSAGES
    for minibatch in minibatches:
        total.add(evaluate_minibatch(propagation, minibatch))
        if total.num_examples >= next_message:
            next_message += _EXAMPLES_BETWEEN_MESSAGES
            log.info(
                "Saw %d examples, average probability is %g with total weight %d",
                *(total.num_examples, total.log_prob_per_frame, total.num_examples),
            )
    if not total.weight:
        raise NgtrainError("there are no examples")
    log.info(
        log_lines.PROBABILITY.format,
        *(total.num_examples, total.log_prob_per_frame),
        *(total.correct / total.weight, total.weight),
    )
    return total


def evaluate_minibatch(propagation: Propagation, minibatch: Minibatch) -> Totals:
    """Compare the outputs for a minibatch with its labels.

    Raises:
        NgtrainError: the minibatch does not fit the network.
    """
    labels = labels_of(minibatch, propagation.network)
    output = propagation.forward(minibatch.frames)
    objective = LogProbability(propagation.device)
    objective(output, labels.on(propagation.device))
    best = to_host(output.argmax(axis=1))
    correct = labels.values[best[labels.rows] == labels.columns].sum(dtype=np.float64)
    return Totals.of(minibatch, float(objective.total), float(correct))


def objective_gradient(
    propagation: Propagation, minibatches: Iterable[Minibatch], gradient: Network
) -> Totals:
    """Set `gradient` to the derivative of the objective on examples, and return their totals.

    `propagation` holds the network; `gradient` is one like it, whose parameters are overwritten.
    """
    gradient.set_zero(as_gradient=True)
    network, device, total = propagation.network, propagation.device, Totals()
    objective = LogProbability(device)
    for minibatch in minibatches:
        output = propagation.forward(minibatch.frames)
        log_derivative = objective(output, labels_of(minibatch, network).on(device))
        for component, x, y, derivative in propagation.backward(log_derivative):
            component.add_gradient(x, y, derivative, to=gradient.components[component.index])
        total.add(Totals.of(minibatch))
    total.log_prob = float(objective.total)
    return total


def compute_outputs(
    network: Network,
    utterances: Iterable[tuple[str, np.ndarray]],
    pad_input: bool = True,
    chunk_size: int = 0,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield keys and outputs, (T', output_dim), for keys and features, (T, input_dim).

    See Propagation.compute() for the options.  Utterances that are too short to have an output are
    passed over with a warning.  Logs how much was done.

    Raises:
        NgtrainError: features do not fit the network, with their key; nothing was done.
    """
    propagation = Propagation(network, goes_back=False)
    context = 0 if pad_input else network.left_context + network.right_context
    num_done = num_frames = 0
    for key, features in utterances:
        if len(features) <= context:
            log.warning("Skipping utterance %s because output would be empty.", key)
            continue
        try:
            outputs = propagation.compute(features, pad_input, chunk_size)
        except NgtrainError as error:
            raise NgtrainError(f"{key}: {error}") from None
        yield key, outputs
        num_done += 1
        num_frames += len(features)
    log.info("Processed %d feature files, %d frames of input were processed.", num_done, num_frames)
    if num_done == 0:
        raise NgtrainError("there was nothing to compute")


def log_of(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithm of probabilities, floored so that it is finite."""
    return np.log(np.maximum(probabilities, np.float32(PROBABILITY_FLOOR)))


def divided_by_priors(posteriors: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Compute likelihoods, (T, pdfs), brought to a sum of one in each row.

    Priors, (pdfs,), that are zero stand for pdf-ids that do not occur, and get zero.
    """
    with np.errstate(divide="ignore"):
        likelihoods = posteriors * np.where(priors > 0, 1 / priors, 0)
    return likelihoods / likelihoods.sum(axis=1, keepdims=True)
