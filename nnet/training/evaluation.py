"""What a network makes of data: outputs for features, and the objective on examples."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnet.components.softmax import PROBABILITY_FLOOR
from nnet.errors import NgtrainError
from nnet.io import log_lines
from nnet.model.network import Network
from nnet.training.propagation import Propagation

if TYPE_CHECKING:
    from nnet.egs.minibatches import Minibatch

log = logging.getLogger("ngtrain")

_EXAMPLES_BETWEEN_MESSAGES = 5000


@dataclass
class Evaluation:
    """Sums over examples; the other two are weighted like the labels, whose total is `weight`."""

    num_examples: int = 0
    log_prob: float = 0.0
    weight: float = 0.0
    correct: float = 0.0


def evaluate(network: Network, minibatches: Iterable[Minibatch]) -> Evaluation:
    """Log-probability of the labels, and how many of them are the most probable.

    Logs what Kaldi's nnet2bin/nnet-compute-prob.cc does.  Raises NgtrainError when there are no
    examples, or they do not fit the network.
    """
    propagation = Propagation(network, backward=False)
    total, next_message = Evaluation(), _EXAMPLES_BETWEEN_MESSAGES
    for minibatch in minibatches:
        log_prob, weight, correct = propagation.objective(minibatch)
        total.num_examples += len(minibatch)
        total.log_prob += log_prob
        total.weight += weight
        total.correct += correct
        if total.num_examples >= next_message:
            next_message += _EXAMPLES_BETWEEN_MESSAGES
            log.info(
                "Saw %d examples, average probability is %g with total weight %d",
                *(total.num_examples, total.log_prob / total.weight, total.num_examples),
            )
    if not total.weight:
        raise NgtrainError("there are no examples")
    log.info(
        log_lines.PROBABILITY.format,
        total.num_examples,
        total.log_prob / total.weight,
        total.correct / total.weight,
        total.weight,
    )
    return total


def compute_outputs(
    network: Network,
    utterances: Iterable[tuple[str, np.ndarray]],
    pad_input: bool = True,
    chunk_size: int = 0,
) -> Iterator[tuple[str, np.ndarray]]:
    """Keys and outputs, (T', output_dim), for keys and features, (T, input_dim).

    See Propagation.compute() for the options.  Utterances that are too short to have an output are
    passed over with a warning.  Logs how much was done.  Raises NgtrainError, naming the key, when
    the features do not fit the network, and when nothing was done.
    """
    propagation = Propagation(network, backward=False)
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
    """The logarithm, of probabilities floored so that it is finite."""
    return np.log(np.maximum(probabilities, np.float32(PROBABILITY_FLOOR)))


def divided_by_priors(posteriors: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Likelihoods, brought to a sum of one in each row.

    posteriors: (T, pdfs); priors: (pdfs,), of which those that are zero stand for pdf-ids that do
    not occur, and get zero.
    """
    with np.errstate(divide="ignore"):
        likelihoods = posteriors * np.where(priors > 0, 1 / priors, 0)
    return likelihoods / likelihoods.sum(axis=1, keepdims=True)
