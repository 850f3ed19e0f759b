"""The labelled frames of a data set, in memory: any frame can be trained on at any time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnet.device.device import Device, array_module
from nnet.device.gathered_frames import GatheredFrames
from nnet.egs.minibatches import Minibatch
from nnet.errors import NgtrainError

FILES = "features", "pdfs", "starts"


@dataclass(frozen=True)
class Frames:
    """Utterances one after the other.

    Attributes:
        features: float32 (T, dim), on the host or on a device.
        pdfs: int32 (T,), the label of each frame.
        starts: int64 (utterances + 1,), where each utterance begins, and T.
    """

    features: np.ndarray
    pdfs: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.pdfs)

    @classmethod
    def load(cls, dir: Path) -> Frames:
        """Map the files that save() wrote; processes share the memory.

        Raises:
            NgtrainError: there are none.
        """
        if not cls.are_in(dir):
            raise NgtrainError(f"{dir} has no frames: make_frames.py or synthesise.py makes them")
        return cls(*(np.load(dir / f"{name}.npy", mmap_mode="r") for name in FILES))

    @staticmethod
    def are_in(dir: Path) -> bool:
        """Tell whether frames have been written into a directory."""
        return (dir / f"{FILES[-1]}.npy").exists()

    def save(self, dir: Path) -> None:
        """Write a file for each attribute; the last one says that all are there."""
        for name in FILES:
            np.save(dir / f"{name}.npy", getattr(self, name))

    def on(self, device: Device) -> Frames:
        """Put the features on a device."""
        return replace(self, features=device.asarray(self.features))

    def minibatch(
        self, frames: np.ndarray, left: int, right: int, travels: bool = False
    ) -> Minibatch:
        """Take frames, (n,), with their context, in which the ends of utterances are repeated.

        travels: leave it to a device that has the features to gather them.
        """
        utterance = np.searchsorted(self.starts, frames, side="right") - 1
        first, last = self.starts[utterance], self.starts[utterance + 1] - 1
        around = frames[:, np.newaxis] + np.arange(-left, right + 1)
        around = np.clip(around, first[:, np.newaxis], last[:, np.newaxis])
        rows, weights = np.arange(len(frames), dtype=np.int32), np.ones(len(frames), np.float32)
        if travels and not isinstance(self.features, np.ndarray):
            inputs = GatheredFrames(self.features, around.astype(np.int32))
        else:
            inputs = self.features[array_module(self.features).asarray(around)]
        return Minibatch(inputs, rows, self.pdfs[frames], weights)

    def minibatches(
        self, frames: np.ndarray, size: int, context: tuple[int, int], travel: bool = False
    ) -> Iterator[Minibatch]:
        """Take frames in their order, in minibatches of `size`; the last may be smaller."""
        for begin in range(0, len(frames), size):
            yield self.minibatch(frames[begin : begin + size], *context, travel)


def spread(total: int, number: int, shift: float = 0.0) -> np.ndarray:
    """Choose `number` of `total` frames at equal distances, so that all speakers are among them.

    `shift`, of a distance, gives others.
    """
    return ((np.arange(number) + shift) * total // number).astype(np.int64)
