"""Training of mixtures with diagonal covariances by expectation maximization.

Worked from Kaldi's gmm/mle-diag-gmm.cc and gmmbin/gmm-global-init-from-feats.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import sparray

from nnet.errors import NgtrainError
from nnet.io.tokens import Reader, Stored, Writer
from nnet.ivectors.mixtures import DiagGmm

log = logging.getLogger("ngtrain")

MEANS, VARIANCES, WEIGHTS = 1, 2, 4
_FLAGS = {"m": MEANS, "v": VARIANCES, "w": WEIGHTS, "a": MEANS | VARIANCES | WEIGHTS}

_BLOCK = 10_000
"""Frames whose likelihoods by component are in memory at once."""


def parse_flags(text: str) -> int:
    """Read letters of what is updated: `m`eans, `v`ariances, `w`eights.  Raises NgtrainError."""
    flags = 0
    for letter in text:
        if letter not in _FLAGS:
            raise NgtrainError(f"--update-flags={text}: expected some of the letters m, v, w")
        flags |= _FLAGS[letter]
    return flags


class GmmStatistics(Stored):
    """Sums over frames by component (Kaldi's AccumDiagGmm); variances need means, these weights.

    Attributes:
        flags: which there are, of `MEANS`, `VARIANCES`, `WEIGHTS`.
        occupancy: float64 (I,), sums of posteriors.
        first: float64 (I, D), sums of frames; (0, 0) without means.
        second: float64 (I, D), sums of their squares; (0, 0) without variances.
    """

    def __init__(self, num_gauss: int, dim: int, flags: int = _FLAGS["a"]):
        self.dim = dim
        self.flags = WEIGHTS | flags | (MEANS if flags & VARIANCES else 0)
        self.occupancy = np.zeros(num_gauss)
        empty = np.zeros((0, 0))
        self.first = np.zeros((num_gauss, dim)) if self.flags & MEANS else empty
        self.second = np.zeros((num_gauss, dim)) if self.flags & VARIANCES else empty

    def add_frames(self, frames: np.ndarray, posteriors: np.ndarray | sparray) -> None:
        """Add frames (T, D) with posteriors (I, T), an array or a sparse one."""
        frames = frames.astype(np.float64)
        self.occupancy += posteriors.sum(axis=1)
        if self.flags & MEANS:
            self.first += posteriors @ frames
        if self.flags & VARIANCES:
            self.second += posteriors @ (frames * frames)

    def accumulate(self, gmm: DiagGmm, frames: np.ndarray) -> float:
        """Add frames (T, D) with their posteriors by all components; the sum of log-likelihoods."""
        total = 0.0
        for begin in range(0, len(frames), _BLOCK):
            block = frames[begin : begin + _BLOCK]
            log_likelihoods = gmm.log_likelihoods(block)
            best = log_likelihoods.max(axis=1, keepdims=True)
            posteriors = np.exp(log_likelihoods - best)
            sums = posteriors.sum(axis=1, keepdims=True)
            posteriors /= sums
            self.add_frames(block, posteriors.T)
            total += float((best + np.log(sums)).sum(dtype=np.float64))
        return total

    def add(self, other: GmmStatistics) -> None:
        """Add statistics of other frames; NgtrainError if they are of another mixture."""
        if self._kind != other._kind:
            raise NgtrainError("statistics of different mixtures, or with other --update-flags")
        self.occupancy += other.occupancy
        self.first += other.first
        self.second += other.second

    @property
    def _kind(self) -> tuple[int, int, int]:
        return len(self.occupancy), self.dim, self.flags

    @classmethod
    def read(cls, reader: Reader) -> GmmStatistics:
        """Parse the output of gmm-global-acc-stats; NgtrainError when it is malformed."""
        dim = reader.expect("<GMMACCS>", "<VECSIZE>").integer()
        num_gauss = reader.expect("<NUMCOMPONENTS>").integer()
        reader.expect("<FLAGS>")
        flags = reader.unsigned16()
        statistics = cls(0, 0, flags)
        statistics.dim = dim
        statistics.occupancy = reader.expect("<OCCUPANCY>").vector(np.float64)
        statistics.first = reader.expect("<MEANACCS>").matrix(np.float64)
        statistics.second = reader.expect("<DIAGVARACCS>").matrix(np.float64)
        reader.expect("</GMMACCS>")
        parts = statistics.occupancy, statistics.first, statistics.second
        if not all(np.isfinite(part).all() for part in parts):
            raise reader.fail("NaN or infinity in statistics of a Gaussian mixture")
        shapes = statistics.occupancy.shape, statistics.first.shape, statistics.second.shape
        moments = [(num_gauss, dim) if flags & part else (0, 0) for part in (MEANS, VARIANCES)]
        if num_gauss < 1 or shapes != ((num_gauss,), *moments):
            raise reader.fail("statistics of a Gaussian mixture whose parts do not fit together")
        return statistics

    def write(self, writer: Writer) -> None:
        """Write as Kaldi does, in single precision."""
        writer.token("<GMMACCS>")
        writer.token("<VECSIZE>").integer(self.dim)
        writer.token("<NUMCOMPONENTS>").integer(len(self.occupancy))
        writer.token("<FLAGS>").unsigned16(self.flags)
        writer.token("<OCCUPANCY>").vector(self.occupancy.astype(np.float32))
        writer.token("<MEANACCS>").matrix(self.first.astype(np.float32))
        writer.token("<DIAGVARACCS>").matrix(self.second.astype(np.float32))
        writer.token("</GMMACCS>")


@dataclass(frozen=True)
class UpdateOptions:
    """Floors of the update (Kaldi's MleDiagGmmOptions)."""

    min_gaussian_weight: float = 1e-5
    min_gaussian_occupancy: float = 10.0
    min_variance: float = 0.001
    remove_low_count_gaussians: bool = True


def auxiliary(gmm: DiagGmm, statistics: GmmStatistics) -> float:
    """Compute the log-likelihood of the frames in statistics, given their posteriors."""
    total = statistics.occupancy @ gmm.constants.astype(np.float64)
    if statistics.flags & MEANS:
        total += (statistics.first * gmm.means_inv_vars).sum()
    if statistics.flags & VARIANCES:
        total -= 0.5 * (statistics.second * gmm.inv_vars).sum()
    return float(total)


def update(
    gmm: DiagGmm, statistics: GmmStatistics, options: UpdateOptions, flags: int = _FLAGS["a"]
) -> tuple[DiagGmm, float]:
    """Estimate a mixture from statistics (MleDiagGmmUpdate).

    Components of little weight or occupancy stay as they are, or are removed.

    Returns:
        The new mixture, and by how much the auxiliary function rose before any was removed.
    Raises:
        NgtrainError: the statistics are of another mixture, or lack what is to be updated.
    """
    if statistics.occupancy.shape != gmm.weights.shape or statistics.dim != gmm.dim:
        raise NgtrainError("the statistics are not of this mixture: they differ in size")
    if flags & ~statistics.flags:
        raise NgtrainError("the statistics have not all that --update-flags asks for")
    occupancy, total = statistics.occupancy, statistics.occupancy.sum()
    share = occupancy / total if total > 0 else np.full(len(gmm), 1 / len(gmm))
    enough = (occupancy > options.min_gaussian_occupancy) & (share > options.min_gaussian_weight)

    weights, means, variances = gmm.weights.astype(np.float64), gmm.means, gmm.variances
    count = occupancy[enough, None]
    if flags & (MEANS | VARIANCES):
        new_means = statistics.first[enough] / count
    if flags & VARIANCES:
        around = new_means if flags & MEANS else means[enough]
        spread = statistics.second[enough] / count - new_means**2 + (new_means - around) ** 2
        variances[enough] = np.maximum(spread, options.min_variance)
    if flags & MEANS:
        means[enough] = new_means
    removed = np.zeros(len(gmm), bool)
    if options.remove_low_count_gaussians:
        removed[np.flatnonzero(~enough)[: len(gmm) - 1]] = True
    if flags & WEIGHTS:
        weights = np.where(enough, share, np.maximum(share, options.min_gaussian_weight))
        weights[removed] = gmm.weights[removed]
    _report_low_counts(occupancy, share, ~enough, removed)

    updated = DiagGmm.of(weights, means, variances)
    improvement = auxiliary(updated, statistics) - auxiliary(gmm, statistics)
    if removed.any():
        kept = weights[~removed]
        updated = DiagGmm.of(kept / kept.sum(), means[~removed], variances[~removed])
    return updated, improvement


def _report_low_counts(
    occupancy: np.ndarray, share: np.ndarray, low: np.ndarray, removed: np.ndarray
) -> None:
    for index in np.flatnonzero(low):
        what = "Too little data - removing" if removed[index] else "Too little data to update"
        log.warning(
            "%s Gaussian (weight %f, occupation count %f)", what, share[index], occupancy[index]
        )


def sample_frames(
    utterances: Iterable[tuple[str, np.ndarray]], most: int, rng: np.random.Generator
) -> np.ndarray:
    """Keep at most so many frames of utterances (T, D), each with the same probability.

    Raises:
        NgtrainError: there are none, or utterances differ in dimension.
    """
    pool, num_read = np.zeros((0, 0), np.float32), 0
    for key, frames in utterances:
        dim = frames.shape[1]
        if not num_read:
            pool = np.zeros((most, dim), np.float32)
        if dim != pool.shape[1]:
            raise NgtrainError(
                f"utterance {key} has features of dimension {dim}, before it was {pool.shape[1]}"
            )
        room = frames[: max(0, most - num_read)]
        pool[num_read : num_read + len(room)] = room
        numbers = num_read + 1 + np.arange(len(room), len(frames))
        for frame in frames[len(room) :][rng.random(len(numbers)) * numbers < most]:
            pool[rng.integers(most)] = frame
        num_read += len(frames)
    if not num_read:
        raise NgtrainError("there are no features to train on")
    if num_read < most:
        log.warning(
            "Number of frames read %d was less than target number %d, using all we read.",
            *(num_read, most),
        )
        return pool[:num_read]
    log.info("Kept %d out of %d input frames = %g%%.", *(most, num_read, 100.0 * most / num_read))
    return pool


def from_random_frames(frames: np.ndarray, num_gauss: int, rng: np.random.Generator) -> DiagGmm:
    """Make a mixture with random frames as means, and the variance of all frames (T, D).

    Raises:
        NgtrainError: there are less than ten frames for a Gaussian, or a dimension is constant.
    """
    if len(frames) < 10 * num_gauss:
        raise NgtrainError(f"{len(frames)} frames are too few to train {num_gauss} Gaussians on")
    variance = frames.var(axis=0, dtype=np.float64)
    if not variance.min() > 0:
        raise NgtrainError(
            f"dimension {int(variance.argmin())} of the features has no positive variance"
        )
    means = frames[rng.choice(len(frames), num_gauss, replace=False)]
    weights = np.full(num_gauss, 1 / num_gauss)
    return DiagGmm.of(weights, means.astype(np.float64), np.tile(variance, (num_gauss, 1)))


def train(
    frames: np.ndarray,
    num_gauss: int,
    num_gauss_init: int,
    num_iters: int,
    options: UpdateOptions,
    rng: np.random.Generator,
) -> DiagGmm:
    """Train a mixture on frames (T, D) in memory, with components split until halfway through."""
    log.info("Initializing GMM means from random frames to %d Gaussians.", num_gauss_init)
    gmm = from_random_frames(frames, num_gauss_init, rng)
    step = -(-(num_gauss - num_gauss_init) // max(num_iters // 2, 1))
    target = num_gauss_init
    for iteration in range(num_iters):
        statistics = GmmStatistics(len(gmm), gmm.dim)
        total = statistics.accumulate(gmm, frames)
        log.info(
            "Likelihood per frame on iteration %d was %g over %d frames.",
            *(iteration, total / len(frames), len(frames)),
        )
        gmm, improvement = update(gmm, statistics, options)
        log.info(
            "Objective-function change on iteration %d was %g over %d frames.",
            *(iteration, improvement / len(frames), len(frames)),
        )
        grown = min(num_gauss, target + step)
        if grown > len(gmm):
            log.info("Splitting to %d Gaussians.", grown)
            gmm = gmm.split(grown, 0.1, rng)
            target = grown
    return gmm


def sum_statistics(files: Iterable[str]) -> GmmStatistics:
    """Sum statistics in files.  NgtrainError: they are of different mixtures."""
    first, *others = (GmmStatistics.load(file) for file in files)
    for other in others:
        first.add(other)
    return first
