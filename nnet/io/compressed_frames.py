"""The frames of a minibatch as they stand in its examples, for a device that decompresses them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class CompressedFrames:
    """Frames, float32 `shape`, in about half of the bytes that an array of them takes.

    Attributes:
        data: uint8 (n, size), of each example the part of fixed structure as it stands in an
            archive (nnet.egs.record.Layout.dtype), perhaps with zeros after it.
        places: int32 (n, 7), of each example the format of its matrix (0 CM, 1 CM2, 2 CM3), the
            rows and columns of that, the first row to take, and where in its `size` bytes there are
            the smallest value (the range is next), the codes (headers of columns are before these),
            and spk_info, which is appended to every row.
        shape: (n, number of rows, number of columns with spk_info).
    """

    data: np.ndarray
    places: np.ndarray
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> CompressedFrames:
        data = self.data[part]
        return CompressedFrames(data, self.places[part], (len(data), *self.shape[1:]))
