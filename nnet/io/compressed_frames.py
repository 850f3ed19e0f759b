"""Frames of a minibatch as they stand in its examples, for a device that decompresses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nnet.egs.contents import ExampleContents

_FORMATS = ("CM", "CM2", "CM3")  # enum Format of nnet/device/cuda/decompress.cu
_NUM_PLACES = 7


class Part(NamedTuple):
    """Examples of one layout in a minibatch: their places there, and the first rows it takes."""

    indices: np.ndarray
    contents: ExampleContents
    first_row: np.ndarray


@dataclass
class CompressedFrames:
    """The same as an array of frames, float32 `shape`, in about half of the bytes.

    Attributes:
        data: uint8 (n, size), of each example the part of fixed structure as it stands in an
            archive (nnet.egs.layout.Layout.dtype), perhaps with zeros after it.
        places: int32 (n, 7), of each example the format of its matrix (0 CM, 1 CM2, 2 CM3), the
            rows and columns of that, the first row to take, and where in its `size` bytes there are
            the smallest value (the range is next), the codes (headers of columns are before these),
            and spk_info, which is appended to every row.
        shape: (n, number of rows, number of columns with spk_info).
    """

    data: np.ndarray
    places: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, parts: Sequence[Part], shape: tuple[int, int, int]) -> CompressedFrames:
        """The frames of parts that are together a minibatch.

        Raises NgtrainError for NaN or infinity.
        """
        for part in parts:
            part.contents.check_scale()
        places = np.empty((shape[0], _NUM_PLACES), np.int32)
        for indices, contents, first_row in parts:
            layout = contents.layout
            where = [layout.dtype.fields[name][1] for name in ("min_value", "codes", "spk_info")]
            form = _FORMATS.index(layout.matrix)
            places[indices] = [form, layout.num_rows, layout.num_cols, 0, *where]
            places[indices, 3] = first_row
        data = [
            contents.fixed.view(np.uint8).reshape(len(contents), -1) for _, contents, _ in parts
        ]
        if len(parts) == 1:
            return cls(data[0], places, shape)
        together = np.zeros((shape[0], max(own.shape[1] for own in data)), np.uint8)
        for own, part in zip(data, parts, strict=True):
            together[part.indices, : own.shape[1]] = own
        return cls(together, places, shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> CompressedFrames:
        data = self.data[part]
        return CompressedFrames(data, self.places[part], (len(data), *self.shape[1:]))
