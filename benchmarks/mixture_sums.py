"""Sums over frames from which Gaussian mixtures and their MLLT are estimated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np

from nnet.hmm.transition_model import TransitionModel

log = logging.getLogger("ngtrain")

CHUNK = 16384  # frames whose sums single precision holds


class Sample:
    """Frames by the states of an alignment, each beside its squares.

    ids: the transition-ids of the frames; dim: of a frame.
    """

    def __init__(self, model: TransitionModel, frames: np.ndarray, ids: np.ndarray):
        aligned = np.flatnonzero(ids)
        order = aligned[np.argsort(model.pdf_of[ids[aligned]], kind="stable")]
        self.ids, self.dim = ids[order], frames.shape[1]
        self._z = np.empty((len(order), 2 * self.dim), np.float32)
        self._z[:, : self.dim] = frames[order]
        np.square(self._z[:, : self.dim], out=self._z[:, self.dim :])
        self._pdfs, firsts = np.unique(model.pdf_of[self.ids], return_index=True)
        self._bounds = np.append(firsts, len(order))

    def states(self) -> Iterator[tuple[int, np.ndarray]]:
        """Give each state that there is, and its frames with their squares (frames, 2 dim)."""
        for n, pdf in enumerate(self._pdfs.tolist()):
            yield pdf, self._z[self._bounds[n] : self._bounds[n + 1]]


def posteriors_of(mixture, z: np.ndarray) -> tuple[np.ndarray, float]:
    """Compute each component's share of frames, (frames, components), and log p(frames).

    z: (frames, 2 dim), the frames and, beside them, their squares.
    """
    weights = np.hstack([mixture.means_invvars, -0.5 * mixture.inv_vars]).T
    likelihoods = z @ weights + mixture.gconsts
    most = likelihoods.max(axis=1, keepdims=True)
    shares = np.exp(likelihoods - most)
    total = shares.sum(axis=1, keepdims=True)
    return shares / total, float((most + np.log(total)).sum(dtype=np.float64))


def parts_of(z: np.ndarray) -> list[np.ndarray]:
    """Divide frames into parts that are summed in single precision."""
    return np.split(z, range(CHUNK, len(z), CHUNK))


def estimate_mllt(mixture_of: Callable, sample: Sample) -> np.ndarray:
    """Estimate the square transform in which diagonal covariances fit best; float64 (dim, dim).

    M. Gales, "Semi-tied covariance matrices for hidden Markov models" (1999), equation 22 and what
    leads to it, as in Kaldi's transform/mllt.cc: with G_d = sum over Gaussians m and frames t of
    p(m|t) / sigma_md^2 (x_t - mu_m)(x_t - mu_m)^T, row by row, M_d = G_d^-1 c_d sqrt(beta / (c_d^T
    G_d^-1 c_d)), where c_d is the row of cofactors.

    mixture_of: gives the mixture of a state, with means, inv_vars, means_invvars and gconsts.
    """
    dim = sample.dim
    g, beta = np.zeros((dim, dim * dim)), 0.0
    for pdf, z in sample.states():
        mixture = mixture_of(pdf)
        scatter = np.zeros((mixture.num_gauss, dim * dim))
        for part in parts_of(z):
            posteriors, _ = posteriors_of(mixture, part)
            for m, mean in enumerate(mixture.means):
                offset = part[:, :dim] - mean
                scatter[m] += ((offset * posteriors[:, m, None]).T @ offset).ravel()
        g += mixture.inv_vars.T @ scatter
        beta += len(z)
    g = g.reshape(dim, dim, dim)
    inverses, m = np.linalg.inv(g), np.eye(dim)
    for _ in range(200):
        for d in range(dim):
            cofactors = np.linalg.inv(m)[:, d]
            direction = inverses[d] @ cofactors
            m[d] = direction * np.sqrt(beta / (cofactors @ direction))
    before = -0.5 * np.einsum("ddd->", g)
    after = beta * np.linalg.slogdet(m)[1] - 0.5 * np.einsum("di,dij,dj->", m, g, m)
    log.info("MLLT gains %.4f per frame over %g frames", (after - before) / beta, beta)
    return m
