"""Stochastic gradient ascent on an objective of sequences, by a step per example.

Source: Kaldi's nnet2bin/nnet-train-discriminative-simple.cc, nnet2/nnet-compute-discriminative.cc.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nnet.device.device import CPU, Device
from nnet.egs.discriminative import DISCRIMINATIVE, DiscriminativeExample
from nnet.errors import NgtrainError
from nnet.hmm.posterior import parse_phone_list
from nnet.io.ending import finished_before_ending
from nnet.io.tables import read_ahead, sequential_table
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network
from nnet.training.sequence_criteria import SequenceOptions, Supervision
from nnet.training.sequence_objective import SequenceObjective, SequenceTotals
from nnet.training.train import GradientAscent

log = logging.getLogger("ngtrain")


def train_model_on_sequences(
    model_in: str,
    examples_rspecifier: str,
    model_out: str,
    options: Mapping[str, Any],
    *,
    binary: bool = True,
    write_checksum: bool = False,
    learning_rate: float = -1.0,
    device: Device = CPU,
) -> None:
    """Read a model, train it on a table of examples, and write it.

    Args:
        options: fields of SequenceOptions, silence_phones as in `1:2:3`.
        learning_rate: that of all layers, if not negative.

    Raises:
        NgtrainError: something cannot be read or written, or train_on_sequences() fails.
    """
    silence_phones = parse_phone_list(options["silence_phones"])
    criterion = SequenceOptions(**{**options, "silence_phones": silence_phones})
    model = AcousticModel.load(model_in, device)
    if learning_rate >= 0:
        model.network.set_learning_rate(learning_rate)
    totals = train_on_sequences(model, examples_rspecifier, criterion)
    with finished_before_ending():
        model.save(model_out, binary, checksum=write_checksum)
        log.info(
            "Finished training, processed %d training examples.  Wrote model to %s",
            *(totals.num_examples, model_out),
        )


def train_on_sequences(
    model: AcousticModel, rspecifier: str, options: SequenceOptions
) -> SequenceTotals:
    """Train the network of a model, in place, by one step per example of a table.

    Returns:
        The sums over all examples, each before its step.

    Raises:
        NgtrainError: there are no examples, or one does not fit the model, or the objective or the
            parameters at the end are not finite.
    """
    objective = SequenceObjective(model, options)
    ascent: GradientAscent[Supervision, SequenceObjective] = GradientAscent(
        model.network, objective
    )
    with sequential_table(rspecifier, DISCRIMINATIVE) as examples:
        for frames, supervision in read_ahead(minibatches(examples, model, rspecifier)):
            ascent.step(frames, supervision)
    totals = objective.totals
    if not totals.num_examples:
        raise NgtrainError(f"{rspecifier}: there are no examples")
    for component in model.network.updatable_components:
        component.report_updates(totals.num_examples)
    for line in totals.lines(options.criterion):
        log.info(line)
    if not (math.isfinite(totals.objective) and model.network.is_finite()):
        raise NgtrainError(
            "the objective or the parameters are not finite: is the learning rate too high?"
        )
    return totals


def minibatches(
    examples: Iterable[tuple[str, DiscriminativeExample]], model: AcousticModel, name: str
) -> Iterator[tuple[np.ndarray, Supervision]]:
    """Yield the input (1, frames, dim) of each example, and its numerator and denominator.

    Raises:
        NgtrainError: an example does not fit the model; table and key are named.
    """
    for key, example in examples:
        try:
            supervision = Supervision(example, model.transition_model)
            yield input_of(example, model.network)[np.newaxis], supervision
        except NgtrainError as error:
            raise NgtrainError(f"{name}, key {key}: {error}") from None


def input_of(example: DiscriminativeExample, network: Network) -> np.ndarray:
    """Return an example's features with the context that a network needs, float32 (rows, dim).

    Raises:
        NgtrainError: there is less.
    """
    left, right = network.left_context, network.right_context
    if example.left_context < left or example.right_context < right:
        raise NgtrainError(
            f"the context is {example.left_context} frames on the left and "
            f"{example.right_context} on the right, but the network needs {left} and {right}"
        )
    begin = example.left_context - left
    return example.features()[begin : begin + left + example.num_frames + right]
