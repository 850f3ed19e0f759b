"""Cepstral mean and variance normalization of speech as it comes in (Kaldi feat/online-feature.cc).

A frame is normalized by the statistics of the last frames of its utterance, itself among them.  As
long as these are few, statistics of earlier utterances of the speaker are added and, if there are
not enough of these either, global ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnet.errors import NgtrainError
from nnet.features.cmvn import VARIANCE_FLOOR
from nnet.features.speakers import by_speaker
from nnet.features.utterances import Skip, leave_out
from nnet.io.losses import Losses
from nnet.io.tables import FEATURES, table_writer
from nnet.io.tokens import read_object


@dataclass(frozen=True)
class OnlineCmvnOptions:
    """Numbers of frames, and what is normalized (Kaldi's OnlineCmvnOptions).

    Attributes:
        cmn_window: frames of the utterance that count at most.
        speaker_frames: of earlier utterances of the speaker, at most.
        global_frames: of the global statistics, at most.
        skip_dims: dimensions that stay as they are.
    """

    cmn_window: int = 600
    speaker_frames: int = 600
    global_frames: int = 200
    norm_means: bool = True
    norm_vars: bool = False
    skip_dims: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.global_frames <= self.speaker_frames <= self.cmn_window:
            raise NgtrainError(
                "--global-frames must not be more than --speaker-frames, nor these more than "
                "--cmn-window"
            )
        if self.norm_vars and not self.norm_means:
            raise NgtrainError("You cannot normalize the variance but not the mean.")


def read_global_statistics(rxfilename: str) -> np.ndarray:
    """Read CMVN statistics (2, D + 1); NgtrainError if they are none, or of no data."""
    stats = read_object(rxfilename, lambda reader: reader.matrix(np.float64))
    if len(stats) != 2 or stats.shape[1] < 2 or not np.isfinite(stats).all():
        raise NgtrainError(f"{rxfilename}: no CMVN statistics, which are finite and of two rows")
    if not stats[0, -1] > 0:
        raise NgtrainError(f"{rxfilename}: CMVN statistics of no data")
    return stats


class OnlineCmvn:
    """Normalization of one utterance, whose frames come in one or several parts.

    What comes of a frame does not depend on where the parts end.

    Args:
        global_stats: float64 (2, D + 1), as of compute-cmvn-stats.
        speaker_stats: float64 (2, D + 1), of earlier utterances of the speaker.

    Raises:
        NgtrainError: there is no such dimension as one to skip.
    """

    def __init__(
        self,
        options: OnlineCmvnOptions,
        global_stats: np.ndarray,
        speaker_stats: np.ndarray | None = None,
    ):
        dim = global_stats.shape[1] - 1
        for skipped in options.skip_dims:
            if not 0 <= skipped < dim:
                raise NgtrainError(f"--skip-dims has {skipped}, but features have {dim} dimensions")
        self.options = options
        self._global_stats = global_stats
        self._speaker_stats = (
            np.zeros_like(global_stats) if speaker_stats is None else speaker_stats
        )
        # Sums up to each of the last frames, of which there is one more than the window has.
        self._sums = np.zeros((1, *global_stats.shape))

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Normalize the frames (T, D) that come next; float32 (T, D).

        Raises:
            NgtrainError: they have another dimension than the statistics.
        """
        if frames.shape[1] != self._global_stats.shape[1] - 1:
            raise NgtrainError(
                f"CMVN statistics of dimension {self._global_stats.shape[1] - 1}, features of "
                f"{frames.shape[1]}"
            )
        moments = np.zeros((len(frames), *self._global_stats.shape))
        moments[:, 0, :-1], moments[:, 0, -1] = frames, 1.0
        moments[:, 1, :-1] = np.square(frames, dtype=np.float64)
        sums = np.cumsum(np.concatenate([self._sums[-1:], moments]), axis=0)[1:]
        history = np.concatenate([self._sums, sums])
        ends = np.arange(len(self._sums), len(history))
        stats = sums - history[np.maximum(ends - self.options.cmn_window, 0)]
        self._sums = history[-(self.options.cmn_window + 1) :]
        if not self.options.norm_means:
            return frames
        return self._normalized(frames, self._smoothed(stats))

    def _smoothed(self, stats: np.ndarray) -> np.ndarray:
        """Add statistics of the speaker and global ones to those of windows, (T, 2, D + 1)."""
        options, speaker_count = self.options, self._speaker_stats[0, -1]
        for prior, most in (
            (self._speaker_stats, min(options.speaker_frames, speaker_count)),
            (self._global_stats, options.global_frames),
        ):
            if most > 0:
                count = np.minimum(options.cmn_window - stats[:, 0, -1], most)
                stats = stats + (count / prior[0, -1])[:, None, None] * prior
        return stats

    def _normalized(self, frames: np.ndarray, stats: np.ndarray) -> np.ndarray:
        """Subtract means and divide by deviations, as statistics (T, 2, D + 1) have them."""
        count = stats[:, 0, -1:]
        mean = stats[:, 0, :-1] / count
        normalized = frames - mean
        if self.options.norm_vars:
            variance = stats[:, 1, :-1] / count - mean**2
            normalized /= np.sqrt(np.maximum(variance, VARIANCE_FLOOR))
        skipped = list(self.options.skip_dims)
        normalized[:, skipped] = frames[:, skipped]
        return normalized.astype(np.float32)

    def speaker_statistics(self) -> np.ndarray:
        """Sum the statistics of the speaker, with those of this utterance until now."""
        return self._speaker_stats + self._sums[-1]


def normalize_online(
    feats_rspecifier: str,
    feats_wspecifier: str,
    options: OnlineCmvnOptions,
    global_stats: np.ndarray,
    spk2utt_rspecifier: str = "",
) -> tuple[int, int]:
    """Write normalized features of every utterance, those of a speaker in turn if there is a list.

    Returns:
        The numbers of utterances written, and of their frames.
    """
    num_done = num_frames = 0
    lost = Losses()
    with table_writer(feats_wspecifier, FEATURES) as output:
        for _, utterances in by_speaker(spk2utt_rspecifier, feats_rspecifier, FEATURES, lost):
            speaker_stats = None
            for key, frames in utterances:
                if not len(frames):
                    leave_out(lost, key, Skip("empty feature matrix"))
                    continue
                cmvn = OnlineCmvn(options, global_stats, speaker_stats)
                output.write(key, cmvn(frames))
                speaker_stats = cmvn.speaker_statistics()
                num_done += 1
                num_frames += len(frames)
    lost.report(f"no output for %d of {num_done + lost.count} utterances")
    return num_done, num_frames
