"""I-vectors of speech as it comes in, each estimated from what there was until then.

After Kaldi's online2/online-ivector-feature.cc.  There are two ways from cepstra to the Gaussians:
the posteriors are those of frames that were normalized online, while the statistics of the
i-vector are of frames as they are, so that the i-vector tells what normalization would hide; both
are spliced and transformed by the matrix of the system that the mixture was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nnet.errors import NgtrainError
from nnet.features.context import OnlineSplice
from nnet.features.online_cmvn import OnlineCmvn, OnlineCmvnOptions
from nnet.features.transforms import transform
from nnet.ivectors.extractor import IvectorExtractor
from nnet.ivectors.mixtures import DiagGmm
from nnet.ivectors.online_statistics import OnlineStatistics
from nnet.ivectors.selection import GaussianPosteriors

_HIGHEST_MIN_POST = 0.99


@dataclass(frozen=True)
class OnlineIvectorOptions:
    """Options of the estimation of i-vectors (OnlineIvectorExtractionConfig, but for files).

    Attributes:
        ivector_period: frames from one i-vector to the next.
        num_gselect, min_post: how many Gaussians a frame has at most, and their least posterior.
        posterior_scale: of the posteriors, which makes up for the likeness of frames in a row.
        max_count: see OnlineStatistics.
        max_remembered_frames: of earlier utterances of the speaker.
        use_most_recent_ivector: give the newest estimate for each frame.
        greedy_ivector_extractor: have it estimated from all frames that are there.
        online_cmvn_iextractor: have statistics of normalized frames, too.
    """

    ivector_period: int = 10
    num_gselect: int = 5
    min_post: float = 0.025
    posterior_scale: float = 0.1
    max_count: float = 0.0
    max_remembered_frames: float = 1000.0
    use_most_recent_ivector: bool = True
    greedy_ivector_extractor: bool = False
    online_cmvn_iextractor: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.min_post < 0.5 and 0 < self.posterior_scale <= 1):
            raise NgtrainError(
                f"--min-post={self.min_post:g} must be less than 0.5, "
                f"--posterior-scale={self.posterior_scale:g} more than 0, but not more than 1"
            )


@dataclass
class IvectorSystem:
    """A collection of all that i-vectors are made with.

    Attributes:
        lda_matrix: float32 (D, spliced dimension, perhaps + 1).
        global_cmvn_stats: float64 (2, base dimension + 1).
        left_context, right_context: of the frames that `lda_matrix` takes.
    """

    extractor: IvectorExtractor
    mixture: DiagGmm
    lda_matrix: np.ndarray
    global_cmvn_stats: np.ndarray
    cmvn: OnlineCmvnOptions = field(default_factory=OnlineCmvnOptions)
    left_context: int = 4
    right_context: int = 4
    options: OnlineIvectorOptions = field(default_factory=OnlineIvectorOptions)

    def __post_init__(self) -> None:
        """Raise NgtrainError unless the parts fit together."""
        spliced = self.base_dim * (self.left_context + 1 + self.right_context)
        rows, columns = self.lda_matrix.shape
        if columns not in (spliced, spliced + 1):
            raise NgtrainError(
                f"the LDA matrix has {columns} columns, but spliced features are of dimension "
                f"{spliced}: is this its --splice-config?"
            )
        if not rows == self.mixture.dim == self.extractor.feature_dim:
            raise NgtrainError(
                f"dimensions differ: {rows} of the LDA matrix, {self.mixture.dim} of the "
                f"mixture, {self.extractor.feature_dim} of the i-vector extractor"
            )

    @property
    def base_dim(self) -> int:
        return self.global_cmvn_stats.shape[1] - 1


@dataclass
class SpeakerState:
    """The knowledge of a speaker after some utterances.

    Attributes:
        cmvn_stats: float64 (2, base dimension + 1).
        statistics: of the i-vector.
    """

    cmvn_stats: np.ndarray
    statistics: OnlineStatistics

    @classmethod
    def of_nothing(cls, system: IvectorSystem) -> SpeakerState:
        """Make the state of a speaker who has not been heard yet."""
        prior = OnlineStatistics.of_prior(system.extractor, system.options.max_count)
        return cls(np.zeros_like(system.global_cmvn_stats), prior)

    def limited(self, options: OnlineIvectorOptions) -> SpeakerState:
        """Return the state with no more weight than that of the frames to be remembered."""
        most = options.max_remembered_frames
        scale = min(1.0, most / max(self.cmvn_stats[0, -1], 1.0))
        most *= options.posterior_scale
        count = self.statistics.num_frames
        remembered = self.statistics.scaled(most / count) if count > most else self.statistics
        return SpeakerState(self.cmvn_stats * scale, remembered)


class OnlineIvectors:
    """The i-vectors of one utterance, whose cepstra come in one or several parts.

    Attributes:
        ubm_log_likelihood: of the frames used until now, by their weights.
    """

    def __init__(self, system: IvectorSystem, state: SpeakerState):
        self.system = system
        self.ubm_log_likelihood = 0.0
        self._cmvn = OnlineCmvn(system.cmvn, system.global_cmvn_stats, state.cmvn_stats)
        context = system.left_context, system.right_context
        self._splice, self._splice_normalized = OnlineSplice(*context), OnlineSplice(*context)
        self._statistics = state.statistics.copy()
        self._features: list[np.ndarray] = []  # of each frame, as the two below
        self._log_likelihoods: list[np.ndarray] = []
        self._unused = np.zeros(0)  # weights that are not in the statistics yet
        self._num_used = 0
        self._current = system.extractor.default_ivector()
        self._history: list[np.ndarray] = []

    def accept(self, cepstra: np.ndarray, is_last: bool = False) -> None:
        """Take the frames (T, base dimension) that come next, which may be the last.

        Raises:
            NgtrainError: they have another dimension.
        """
        normalized = self._project(self._splice_normalized(self._cmvn(cepstra), is_last))
        features = self._project(self._splice(cepstra, is_last))
        self._features.extend(
            normalized if self.system.options.online_cmvn_iextractor else features
        )
        self._log_likelihoods.extend(self.system.mixture.log_likelihoods(normalized))
        self._unused = np.concatenate([self._unused, np.ones(len(features))])

    @property
    def num_frames_ready(self) -> int:
        """Frames for which i-vectors can be asked for."""
        return len(self._features)

    def reweight(self, begin: int, changes: np.ndarray) -> None:
        """Add to the weights of frames from `begin` on, each of which is 1 at first.

        The next estimate makes up for what frames weighed in those before.
        """
        self._unused[begin : begin + len(changes)] += changes

    def _project(self, spliced: np.ndarray) -> np.ndarray:
        return transform(spliced, self.system.lda_matrix)

    def __getitem__(self, frame: int) -> np.ndarray:
        """Estimate the i-vector for a frame, less the mean of the prior; float32 (R,)."""
        options = self.system.options
        last = self.num_frames_ready - 1 if options.greedy_ivector_extractor else frame
        self._use_frames_until(last)
        if options.use_most_recent_ivector:
            ivector = self._current
        else:
            ivector = self._history[frame // options.ivector_period]
        return (ivector - self.system.extractor.default_ivector()).astype(np.float32)

    def rows(self, frames: range) -> np.ndarray:
        """Estimate i-vectors for frames in turn; float32 (frames, R)."""
        dim = self.system.extractor.ivector_dim
        return np.array([self[frame] for frame in frames], np.float32).reshape(-1, dim)

    def _use_frames_until(self, last: int) -> None:
        """Add frames up to the `last` to the statistics, with an estimate wherever one is due."""
        period = self.system.options.ivector_period
        newest_only = self.system.options.use_most_recent_ivector
        while self._num_used <= last:
            due = last if newest_only else -(-self._num_used // period) * period
            self._num_used = min(due, last) + 1
            self._use_weights()
            if due <= last:
                self._current = self._statistics.ivector(self._current)
                if not newest_only:
                    self._history.append(self._current)

    def _use_weights(self) -> None:
        """Add frames that are in use to the statistics, by what they weigh more than before."""
        frames = np.flatnonzero(self._unused[: self._num_used])
        if not len(frames):
            return
        options, weights = self.system.options, self._unused[frames]
        self._unused[frames] = 0.0
        features, log_likelihoods = (
            np.array([rows[frame] for frame in frames])
            for rows in (self._features, self._log_likelihoods)
        )
        min_post = np.minimum(options.min_post / np.abs(weights), _HIGHEST_MIN_POST)
        posteriors = GaussianPosteriors.of(log_likelihoods, options.num_gselect, min_post)
        self.ubm_log_likelihood += float(weights @ posteriors.log_likelihoods)
        scaled = posteriors.scaled(options.posterior_scale * weights[:, None])
        self._statistics.accumulate(self.system.extractor, features, scaled)

    @property
    def improvement(self) -> float:
        """Log-likelihood per frame by the newest i-vector, less that by the prior's mean."""
        return self._statistics.improvement(self._current)

    def speaker_state(self) -> SpeakerState:
        """Return what the next utterance of the speaker is to begin with."""
        state = SpeakerState(self._cmvn.speaker_statistics(), self._statistics)
        return state.limited(self.system.options)
