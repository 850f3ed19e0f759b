"""A number of numbers that examples for sequence training should keep however they are cut.

Source: UpdateHash in Kaldi's nnet2/nnet-example-functions.cc.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.egs.discriminative import DISCRIMINATIVE, DiscriminativeExample
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.io.tables import sequential_table
from nnet.training.sequence_criteria import Criterion, SequenceOptions, Supervision


@dataclass
class SequenceHash:
    """Derivatives of pdf-ids times the mean of the features around their frames, summed up.

    Attributes:
        products: float64 (pdfs, dim), of the first example's dimension.
        positive, negative: sums of the derivatives of either sign.
        num_examples, num_frames: how many there were.
    """

    products: np.ndarray | None = None
    positive: float = 0.0
    negative: float = 0.0
    num_examples: int = 0
    num_frames: int = 0

    @classmethod
    def of(
        cls, rspecifier: str, criterion: Criterion, acoustic_scale: float, lm_scale: float
    ) -> SequenceHash:
        """Sum over a table of examples, whose lattices have the acoustic costs to be used.

        Raises:
            NgtrainError: something cannot be read, or an example does not fit; it is named.
        """
        result = cls()
        scales = np.array([lm_scale, acoustic_scale])
        with sequential_table(rspecifier, DISCRIMINATIVE) as examples:
            for key, example in examples:
                try:
                    result.add(example, criterion, scales)
                except NgtrainError as error:
                    raise NgtrainError(f"{rspecifier}, key {key}: {error}") from None
        return result

    def add(self, example: DiscriminativeExample, criterion: Criterion, scales: np.ndarray) -> None:
        """Add an example; scales: of graph and acoustic costs."""
        supervision = Supervision(example, criterion.transitions)
        lattice, finals = example.den_lat, supervision.trellis.final_states
        costs = np.concatenate([lattice.arcs["weight"], lattice.finals[finals]])
        _, derivative = criterion(supervision, -(costs.astype(np.float64) @ scales))
        features = example.input_frames.decompress().astype(np.float64)
        width = example.left_context + 1 + example.right_context
        sums = np.cumsum(np.vstack([np.zeros(features.shape[1]), features]), axis=0)
        means = (sums[width:] - sums[:-width]) / width
        if self.products is None:
            self.products = np.zeros((criterion.num_pdfs, features.shape[1]))
        if self.products.shape[1] != features.shape[1]:
            raise NgtrainError(
                f"features of dimension {features.shape[1]}, but {self.products.shape[1]} before"
            )
        weights = example.weight * derivative.values.astype(np.float64)
        np.add.at(self.products, derivative.columns, weights[:, None] * means[derivative.rows])
        self.positive += float(np.maximum(weights, 0).sum())
        self.negative -= float(np.minimum(weights, 0).sum())
        self.num_examples += 1
        self.num_frames += example.num_frames


def compare(
    transitions: TransitionModel,
    rspecifiers: tuple[str, str],
    options: SequenceOptions,
    lm_scale: float,
) -> tuple[list[SequenceHash], tuple[float, ...]]:
    """Sum over two tables, and multiply the sums: each by itself, and one by the other."""
    criterion = Criterion(transitions, options)
    hashes = [
        SequenceHash.of(name, criterion, options.acoustic_scale, lm_scale) for name in rspecifiers
    ]
    first, second = (found.products for found in hashes)
    if first is None or second is None:
        raise NgtrainError(f"{rspecifiers[first is not None]}: there are no examples")
    if first.shape != second.shape:
        raise NgtrainError(
            f"features of dimension {first.shape[1]} and of {second.shape[1]} cannot be compared"
        )
    products = np.vdot(first, first), np.vdot(second, second), np.vdot(first, second)
    return hashes, tuple(map(float, products))
