"""Minibatches on their way to the device: page-locked memory, and a stream that only copies."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from nnet.device.cuda.kernels import THREADS, launch
from nnet.device.device import Array
from nnet.device.gathered_frames import GatheredFrames
from nnet.io.compressed_frames import CompressedFrames

NUM_SLOTS = 8  # one being filled, one that waits, and some that the device has yet to receive
_ALIGNMENT = 256  # bytes


class PinnedStagingBuffer:
    """Slots through which arrays travel to the device, while that is busy with those before.

    A slot is memory on both sides, which is used again and again.

    age: the number of times that the memory where arrays arrive has moved.
    """

    def __init__(self):
        import cupy

        self._device = cupy.cuda.Device()
        self._copying = cupy.cuda.Stream(non_blocking=True)
        self._slots = itertools.cycle([_Slot() for _ in range(NUM_SLOTS)])
        self._layout = _MemoryLayout(())
        self._places: dict[int, tuple[_MemoryLayout, Array]] = {}
        self._frames: dict[int, Array] = {}
        self.age = 0

    def send(self, arrays: tuple[np.ndarray | CompressedFrames | GatheredFrames, ...]) -> Any:
        """Send some arrays on their way, from any thread; return what receive() takes.

        No more than two calls may be ahead of receive().
        """
        frames = arrays[0]
        if isinstance(frames, CompressedFrames):
            arrays = frames.data, frames.places, *arrays[1:]
        elif isinstance(frames, GatheredFrames):
            arrays = frames.places, *arrays[1:]
        if not self._layout.has_room_for(arrays):
            self._layout = _MemoryLayout(arrays)
        slot = next(self._slots)
        with self._device:
            slot.fill(arrays, self._layout, self._copying)
        return slot, frames

    def receive(self, sent: Any, place: int) -> tuple[Array, ...]:
        """Return the arrays on the device, where they stay until the next call for `place`."""
        import cupy

        slot, frames = sent
        stream = cupy.cuda.get_current_stream()
        stream.wait_event(slot.has_arrived)
        layout, received = self._places.get(place, (None, None))
        if layout is not slot.layout:
            received = cupy.empty(slot.layout.size, np.uint8)
            self._places[place] = slot.layout, received
            self.age += 1
        received[...] = slot.on_device
        slot.is_free.record(stream)
        arrays = slot.layout.cut(received, slot.kinds)
        if isinstance(frames, CompressedFrames):
            data, places, *others = arrays
            out = self._room_for(frames.shape, place)
            args = data, places, data.shape[1], *frames.shape[1:], out
            launch("decompress", len(data), THREADS, *args)
            arrays = out, *others
        elif isinstance(frames, GatheredFrames):
            out = self._room_for(frames.shape, place)
            frames.features.take(arrays[0], axis=0, out=out)
            arrays = out, *arrays[1:]
        return arrays

    def _room_for(self, shape: tuple[int, int, int], place: int) -> Array:
        """Return memory for frames, where those for `place` always are."""
        import cupy

        frames, size = self._frames.get(place), math.prod(shape)
        if frames is None or frames.size < size:
            frames = self._frames[place] = cupy.empty(size, np.float32)
            self.age += 1
        return frames[:size].reshape(shape)


class _MemoryLayout:
    """The places of arrays like some, or somewhat larger ones, in one piece of memory."""

    def __init__(self, arrays: tuple[np.ndarray, ...]):
        self._rooms = [a.nbytes + a.nbytes // 4 for a in arrays]
        sizes = [-(-room // _ALIGNMENT) * _ALIGNMENT for room in self._rooms]
        *self._begins, self.size = itertools.accumulate(sizes, initial=0)

    def has_room_for(self, arrays: tuple[np.ndarray, ...]) -> bool:
        return len(arrays) == len(self._rooms) and all(
            array.nbytes <= room for array, room in zip(arrays, self._rooms, strict=True)
        )

    def cut(self, memory: Array, kinds: list[tuple]) -> tuple[Array, ...]:
        """Return arrays of these shapes and dtypes in `memory`, (size,) uint8."""
        return tuple(
            memory[begin : begin + int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)
            for begin, (shape, dtype) in zip(self._begins, kinds, strict=True)
        )


class _Slot:
    """Memory for the arrays of one minibatch.

    has_arrived: the copy to the device is done.  is_free: it has been copied on from there.
    """

    def __init__(self):
        import cupy

        self.has_arrived = cupy.cuda.Event(disable_timing=True)
        self.is_free = cupy.cuda.Event(disable_timing=True)
        self.layout = _MemoryLayout(())
        self.kinds: list[tuple] = []
        self.on_device: Array | None = None
        self._on_host: np.ndarray | None = None

    def fill(self, arrays: tuple[np.ndarray, ...], layout: _MemoryLayout, copying: Any) -> None:
        """Start copying these arrays to the device."""
        import cupy
        import cupyx

        if not self.has_arrived.done:  # copied from the memory on the host
            self.has_arrived.synchronize()
        self.kinds = [(array.shape, array.dtype) for array in arrays]
        with copying:
            copying.wait_event(self.is_free)
            if layout is not self.layout:
                self.layout = layout
                self._on_host = cupyx.empty_pinned(layout.size, np.uint8)
                self.on_device = cupy.empty(layout.size, np.uint8)
            for place, array in zip(layout.cut(self._on_host, self.kinds), arrays, strict=True):
                place[...] = array
            self.on_device.set(self._on_host, stream=copying)
            self.has_arrived.record(copying)
