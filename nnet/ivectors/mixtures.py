"""Gaussian mixtures with diagonal or full covariances, as universal background models have them.

Formats and parameters are those of Kaldi's gmm/diag-gmm.cc and gmm/full-gmm.cc: a component is held
by its weight, its inverse covariance, and the product of that with its mean.
"""

from __future__ import annotations

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.tokens import Reader, Stored, Writer

LOG_2PI = np.log(2 * np.pi)


class _Mixture(Stored):
    """A base of mixtures, with the weights and constants of their components."""

    weights: np.ndarray
    constants: np.ndarray

    def __len__(self) -> int:
        return len(self.weights)

    def _with(self, constants: np.ndarray):
        """Take constants as they were stored, if they are right: copies stay the same bytes."""
        if constants.shape == self.weights.shape and np.allclose(constants, self.constants):
            self.constants = constants
        return self


class DiagGmm(_Mixture):
    """A mixture of I Gaussians of dimension D with diagonal covariances.

    Attributes:
        weights: float32 (I,).
        means_inv_vars: float32 (I, D), means divided by variances.
        inv_vars: float32 (I, D).
        constants: float32 (I,), the log-likelihoods of a frame of zeros, with the weights.
    """

    def __init__(self, weights: np.ndarray, means_inv_vars: np.ndarray, inv_vars: np.ndarray):
        self.weights, self.means_inv_vars, self.inv_vars = weights, means_inv_vars, inv_vars
        squares = (self.means * means_inv_vars).sum(axis=1)
        log_determinants = np.log(inv_vars.astype(np.float64)).sum(axis=1)
        self.constants = _constants(weights, self.dim, log_determinants, squares)

    @classmethod
    def of(cls, weights: np.ndarray, means: np.ndarray, variances: np.ndarray) -> DiagGmm:
        """Make a mixture of weights (I,), means (I, D) and variances (I, D)."""
        inv_vars = (1.0 / variances).astype(np.float32)
        means_inv_vars = (means / variances).astype(np.float32)
        return cls(weights.astype(np.float32), means_inv_vars, inv_vars)

    @property
    def dim(self) -> int:
        return self.inv_vars.shape[1]

    @property
    def means(self) -> np.ndarray:
        """Means, float64 (I, D)."""
        return self.means_inv_vars.astype(np.float64) / self.inv_vars

    @property
    def variances(self) -> np.ndarray:
        """Variances, float64 (I, D)."""
        return 1.0 / self.inv_vars.astype(np.float64)

    def log_likelihoods(self, frames: np.ndarray) -> np.ndarray:
        """Compute those of frames (T, D) by component, with its weight; float32 (T, I).

        Raises:
            NgtrainError: the frames have another dimension.
        """
        if frames.shape[1] != self.dim:
            raise NgtrainError(
                f"features of dimension {frames.shape[1]}, the Gaussians have {self.dim}"
            )
        linear = frames @ self.means_inv_vars.T
        return self.constants + linear - np.float32(0.5) * (frames * frames @ self.inv_vars.T)

    def split(self, target: int, perturb_factor: float, rng: np.random.Generator) -> DiagGmm:
        """Split the heaviest component in two until there are `target`; DiagGmm::Split.

        The two means lie `perturb_factor` standard deviations, times a random number for each
        dimension, on either side of the old one.  NgtrainError: there are more than that already.
        """
        if target < len(self):
            raise NgtrainError(f"cannot split {len(self)} Gaussians into {target}")
        weights, means, inv_vars = (
            list(part) for part in (self.weights, self.means_inv_vars, self.inv_vars)
        )
        while len(weights) < target:
            heaviest = int(np.argmax(weights))
            shift = perturb_factor * rng.standard_normal(self.dim) * np.sqrt(inv_vars[heaviest])
            weights[heaviest] = weights[heaviest] / np.float32(2)
            weights.append(weights[heaviest])
            inv_vars.append(inv_vars[heaviest])
            means.append((means[heaviest] + shift).astype(np.float32))
            means[heaviest] = (means[heaviest] - shift).astype(np.float32)
        return DiagGmm(np.array(weights), np.array(means), np.array(inv_vars))

    @classmethod
    def read(cls, reader: Reader) -> DiagGmm:
        """Parse a mixture; NgtrainError when it is malformed or no mixture of Gaussians."""
        constants, weights = _read_begin(reader, "<DiagGMM>", "<DiagGMMBegin>")
        means_inv_vars = reader.expect("<MEANS_INVVARS>").matrix(np.float32)
        inv_vars = reader.expect("<INV_VARS>").matrix(np.float32)
        reader.one_of("</DiagGMM>", "<DiagGMMEnd>")
        if means_inv_vars.shape != inv_vars.shape or len(weights) != len(inv_vars):
            raise reader.fail("a Gaussian mixture whose parts do not fit together")
        if not (np.isfinite(means_inv_vars).all() and np.isfinite(inv_vars).all()):
            raise reader.fail("a Gaussian mixture with NaN or infinity in it")
        if not inv_vars.size or inv_vars.min() <= 0:
            raise reader.fail("a Gaussian mixture whose variances are not positive")
        return cls(weights, means_inv_vars, inv_vars)._with(constants)

    def write(self, writer: Writer) -> None:
        """Write as Kaldi does."""
        writer.token("<DiagGMM>").newline()
        writer.token("<GCONSTS>").vector(self.constants)
        writer.token("<WEIGHTS>").vector(self.weights)
        writer.token("<MEANS_INVVARS>").matrix(self.means_inv_vars)
        writer.token("<INV_VARS>").matrix(self.inv_vars)
        writer.token("</DiagGMM>").newline()


class FullGmm(_Mixture):
    """A mixture of I Gaussians of dimension D with full covariances.

    Attributes:
        weights: float32 (I,).
        means_inv_covars: float32 (I, D), inverse covariances times means.
        inv_covars: float32 (I, D, D).
        constants: float32 (I,), the log-likelihoods of a frame of zeros, with the weights.
    """

    def __init__(self, weights: np.ndarray, means_inv_covars: np.ndarray, inv_covars: np.ndarray):
        self.weights, self.means_inv_covars = weights, means_inv_covars
        self.inv_covars = inv_covars
        squares = (self.means_inv_covars * self.means).sum(axis=1)
        log_determinants = np.linalg.slogdet(inv_covars.astype(np.float64))[1]
        dim = means_inv_covars.shape[1]
        self.constants = _constants(weights, dim, log_determinants, squares)

    @classmethod
    def of_diagonal(cls, gmm: DiagGmm) -> FullGmm:
        """Make the same mixture of one with diagonal covariances."""
        inv_covars = gmm.inv_vars[:, :, None] * np.eye(gmm.dim, dtype=np.float32)
        return cls(gmm.weights, gmm.means_inv_vars, inv_covars)

    @property
    def means(self) -> np.ndarray:
        """Means, float64 (I, D)."""
        products = self.means_inv_covars[:, :, None].astype(np.float64)
        return np.linalg.solve(self.inv_covars.astype(np.float64), products)[:, :, 0]

    @classmethod
    def read(cls, reader: Reader) -> FullGmm:
        """Parse a mixture; NgtrainError when it is malformed or no mixture of Gaussians."""
        constants, weights = _read_begin(reader, "<FullGMM>", "<FullGMMBegin>")
        means_inv_covars = reader.expect("<MEANS_INVCOVARS>").matrix(np.float32)
        reader.expect("<INV_COVARS>")
        inv_covars = [reader.symmetric_matrix(np.float32) for _ in range(len(weights))]
        reader.one_of("</FullGMM>", "<FullGMMEnd>")
        count, dim = means_inv_covars.shape
        if count != len(weights) or any(matrix.shape != (dim, dim) for matrix in inv_covars):
            raise reader.fail("a Gaussian mixture whose parts do not fit together")
        covariances = checked_covariances(reader, np.array(inv_covars).reshape(count, dim, dim))
        return cls(weights, means_inv_covars, covariances)._with(constants)

    def write(self, writer: Writer) -> None:
        """Write as Kaldi does."""
        writer.token("<FullGMM>").newline()
        writer.token("<GCONSTS>").vector(self.constants)
        writer.token("<WEIGHTS>").vector(self.weights)
        writer.token("<MEANS_INVCOVARS>").matrix(self.means_inv_covars)
        writer.token("<INV_COVARS>")
        for matrix in self.inv_covars:
            writer.symmetric_matrix(matrix)
        writer.token("</FullGMM>").newline()


def checked_covariances(reader: Reader, matrices: np.ndarray) -> np.ndarray:
    """Return inverse covariances (I, D, D); NgtrainError unless they are positive definite."""
    if not matrices.size or not np.isfinite(matrices).all():
        raise reader.fail("inverse covariances that are empty, or have NaN or infinity in them")
    if np.linalg.eigvalsh(matrices.astype(np.float64)).min() <= 0:
        raise reader.fail("an inverse covariance that is not positive definite")
    return matrices


def _constants(
    weights: np.ndarray, dim: int, log_determinants: np.ndarray, squares: np.ndarray
) -> np.ndarray:
    """Compute log w - (D/2) log 2 pi + 1/2 log |V^-1| - 1/2 m^T V^-1 m, float32 (I,)."""
    with np.errstate(divide="ignore"):
        constants = np.log(weights) - 0.5 * (dim * LOG_2PI - log_determinants + squares)
    return constants.astype(np.float32)


def _read_begin(reader: Reader, *begins: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the beginning of a mixture: its constants, none if they are left out, and weights."""
    reader.one_of(*begins)
    constants = np.zeros(0, np.float32)
    if reader.one_of("<GCONSTS>", "<WEIGHTS>") == "<GCONSTS>":
        constants = reader.vector(np.float32)
        reader.expect("<WEIGHTS>")
    weights = reader.vector(np.float32)
    if not (len(weights) and np.isfinite(weights).all() and weights.min() >= 0):
        raise reader.fail("weights of a Gaussian mixture that are none")
    return constants, weights
