"""The labelled frames of a data set, in memory: any frame can be trained on at any time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnet.cli import log
from nnet.device.device import Device, array_module
from nnet.device.gathered_frames import GatheredFrames
from nnet.drivers.driver import read_integer
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.egs.minibatches import Minibatch
from nnet.errors import NgtrainError
from nnet.io.losses import Losses
from nnet.io.random_access import random_access_table
from nnet.io.tables import FEATURES, INTEGERS, sequential_table
from nnet.launch.commands import read_from
from nnet.launch.directory_lock import only_driver_in


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
        """Map the files that make_frames() wrote; processes share the memory."""
        names = "features", "pdfs", "starts"
        return cls(*(np.load(dir / f"{name}.npy", mmap_mode="r") for name in names))

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


def make_frames(data: Path, ali: Path, features: FeaturePipeline, dir: Path) -> Frames:
    """Read features and alignment of a data directory into `dir`, if nobody has done so yet.

    Raises:
        NgtrainError: no utterance has features and an alignment of their length.
    """
    with only_driver_in(dir, wait=True):
        if not (dir / "starts.npy").exists():
            log.info("reading %s and %s into %s", data, ali, dir)
            alignments = [f"{ali}/ali.{n + 1}.gz" for n in range(read_integer(ali / "num_jobs"))]
            to_pdfs = ["ali-to-pdf", "--print-args=false", ali / "final.mdl", "ark:-", "ark:-"]
            pdfs = read_from(["gunzip", "-c", *alignments], to_pdfs)
            found = read_frames(features.rspecifier(data), pdfs)
            for name in "features", "pdfs", "starts":  # the last one says that all are there
                np.save(dir / f"{name}.npy", getattr(found, name))
    return Frames.load(dir)


def read_frames(features_rspecifier: str, pdfs_rspecifier: str) -> Frames:
    """Read utterances that have both; what has not is counted."""
    features, labels, losses = [], [], Losses()
    with (
        sequential_table(features_rspecifier, FEATURES) as utterances,
        random_access_table(pdfs_rspecifier, INTEGERS) as alignments,
    ):
        for key, matrix in utterances:
            pdfs = alignments.get(key)
            if pdfs is None or len(pdfs) != len(matrix):
                losses.add(key, "no alignment" if pdfs is None else "another length")
            else:
                features.append(np.asarray(matrix, np.float32))
                labels.append(np.asarray(pdfs, np.int32))
    losses.report("%d utterances were left out")
    if not features:
        raise NgtrainError(f"{pdfs_rspecifier}: no utterance of {features_rspecifier} is in it")
    starts = np.cumsum([0, *map(len, labels)], dtype=np.int64)
    return Frames(np.concatenate(features), np.concatenate(labels), starts)


def spread(total: int, number: int) -> np.ndarray:
    """Choose `number` of `total` frames at equal distances, so that all speakers are among them."""
    return np.arange(number, dtype=np.int64) * total // number
