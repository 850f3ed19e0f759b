"""Linear and affine transforms of features (Kaldi featbin/transform-feats.cc)."""

import numpy as np

from nnet.features.utterances import Skip
from nnet.io.random_access import RandomAccessTable


def transform(features: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Transform features (T, D) by a matrix (E, D), or (E, D + 1) with the offset at the end.

    Raises:
        Skip: the matrix has another number of columns.
    """
    dim = features.shape[1]
    rows, cols = matrix.shape
    if cols == dim:
        return features @ matrix.T
    if cols == dim + 1:
        return features @ matrix[:, :dim].T + matrix[:, dim]
    raise Skip(f"transform of {rows} by {cols}, features of dimension {dim}")


class Transformer:
    """A transform of utterances by one matrix or a table of them, with its log determinant.

    For a transform T that keeps the dimension, the log of its determinant belongs to the likelihood
    of the features; for one that reduces it, 1/2 log det(T T^T) takes its place and is good for
    comparisons.

    Attributes:
        num_frames: frames in the average.
        is_pseudo: whether the dimension is reduced.
    """

    def __init__(self, transforms: np.ndarray | RandomAccessTable):
        self._transforms = transforms
        self._last: tuple[np.ndarray | None, float] = (None, np.nan)  # and its log determinant
        self._total = 0.0
        self.num_frames = 0
        self.is_pseudo = False

    def __call__(self, key: str, features: np.ndarray) -> np.ndarray:
        """Transform one utterance.

        Raises:
            Skip: no transform for it, or of another dimension.
        """
        transforms = self._transforms
        matrix = transforms if isinstance(transforms, np.ndarray) else transforms.get(key)
        if matrix is None:
            raise Skip("no transform")
        result = transform(features, matrix)
        linear = matrix[:, : features.shape[1]]
        rows, cols = linear.shape
        if rows <= cols:
            self.is_pseudo = rows < cols
            if matrix is not self._last[0]:
                wide = linear.astype(np.float64)
                self._last = matrix, 0.5 * np.linalg.slogdet(wide @ wide.T)[1]
            if np.isfinite(self._last[1]):
                self._total += len(features) * self._last[1]
                self.num_frames += len(features)
        return result

    @property
    def average_log_determinant(self) -> float | None:
        """Average per frame; None when the dimension grows, or no determinant was finite."""
        return self._total / self.num_frames if self.num_frames else None
