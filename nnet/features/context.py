"""Frames with their neighbours: deltas and splicing (Kaldi feat/feature-functions.cc).

Beyond the ends of an utterance its first and last frame are repeated.
"""

import numpy as np

MOST_CONTEXT = 1000
"""Most frames to each side: 10 seconds, and Kaldi's largest window of deltas."""


def splice(features: np.ndarray, left_context: int, right_context: int) -> np.ndarray:
    """Join each frame of features (T, D) with its neighbours, from the earliest to the latest.

    The result is (T, D (left_context + 1 + right_context)).
    """
    num_frames, dim = features.shape
    offsets = np.arange(-left_context, right_context + 1)
    frames = np.clip(np.arange(num_frames)[:, None] + offsets, 0, num_frames - 1)
    return features[frames].reshape(num_frames, dim * len(offsets))


class OnlineSplice:
    """Splicing of one utterance whose frames come in parts; what comes of them is that of splice().

    A frame is ready as soon as those of its right context are there, or the utterance has ended.
    """

    def __init__(self, left_context: int, right_context: int):
        self._left, self._right = left_context, right_context
        self._held: np.ndarray | None = None

    def __call__(self, frames: np.ndarray, is_last: bool = False) -> np.ndarray:
        """Take the next frames (T, D); return those that are ready, spliced."""
        held = frames if self._held is None else np.concatenate([self._held, frames])
        if self._held is None and len(frames):
            held = np.concatenate([np.repeat(frames[:1], self._left, axis=0), frames])
        if is_last and len(held):
            held = np.concatenate([held, np.repeat(held[-1:], self._right, axis=0)])
        width = self._left + 1 + self._right
        num_ready = max(0, len(held) + 1 - width)
        windows = np.arange(num_ready)[:, None] + np.arange(width)
        if len(held):
            self._held = held[num_ready:]
        return held[windows].reshape(num_ready, width * frames.shape[1])


def add_deltas(features: np.ndarray, order: int = 2, window: int = 2) -> np.ndarray:
    """Append time derivatives of order 1, 2, ... to features (T, D) float32: (T, D (order + 1)).

    Each derivative of the frames themselves is one filter; that of order n is the filter
    j / sum(j^2), -window <= j <= window, convolved with itself n times.
    """
    reach = order * window
    padded = np.pad(features, ((reach, reach), (0, 0)), mode="edge")
    steps = np.arange(-window, window + 1, dtype=np.float64)
    slope = steps / (steps @ steps)
    weights = np.ones(1)
    blocks = [features]
    for n in range(1, order + 1):
        weights = np.convolve(weights, slope)
        derivative = np.zeros_like(features)
        for shift, weight in enumerate(weights.astype(np.float32), reach - n * window):
            derivative += weight * padded[shift : shift + len(features)]
        blocks.append(derivative)
    return np.hstack(blocks)
