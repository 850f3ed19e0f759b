"""Many byte strings at a time, put into a buffer or taken out of one."""

from typing import NamedTuple

import numpy as np


class Strings(NamedTuple):
    """Byte strings, one after the other in one array.

    Attributes:
        data: uint8, their bytes.
        size: int64 (n,), the size of each.
    """

    data: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, strings: list[bytes]) -> "Strings":
        size = np.fromiter(map(len, strings), np.int64, len(strings))
        return cls(np.frombuffer(b"".join(strings), np.uint8), size)


def gather(buffer, begin: np.ndarray, size: int) -> np.ndarray:
    """Take `size` bytes of a buffer from each begin[i] on, as elements of the type V<size>."""
    return _windows(buffer, size)[begin]


def scatter(buffer: np.ndarray, begin: np.ndarray, values: np.ndarray) -> None:
    """Put the bytes of values[i] into a buffer (uint8) from begin[i] on."""
    size = values.dtype.itemsize
    if size:
        _windows(buffer, size)[begin] = values.view(f"V{size}")


def scatter_strings(buffer: np.ndarray, begin: np.ndarray, strings: Strings) -> None:
    """Put string i into a buffer (uint8) from begin[i] on."""
    end = np.cumsum(strings.size)
    shift = np.repeat(begin - (end - strings.size), strings.size)
    buffer[shift + np.arange(len(shift))] = strings.data


def _windows(buffer, size: int) -> np.ndarray:
    """View a buffer as all of its parts of `size` bytes, which overlap."""
    return np.ndarray(max(memoryview(buffer).nbytes - size + 1, 0), f"V{size}", buffer, strides=1)
