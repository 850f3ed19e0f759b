"""The frames of a minibatch as places among features that are on the device already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.device.device import Array


@dataclass
class GatheredFrames:
    """Frames, float32 `shape`, of which only the places travel to the device.

    Attributes:
        features: float32 (T, dim), on the device.
        places: int32 (n, number of rows), the row of `features` for each row of each example.
    """

    features: Array
    places: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.places.shape, self.features.shape[1])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, part: slice) -> GatheredFrames:
        return GatheredFrames(self.features, self.places[part])
