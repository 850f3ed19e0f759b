"""Minibatches on their way to the device: page-locked memory, and a stream that only copies."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from nnet.backend import Array, Inbox

NUM_SLOTS = 8  # one parcel being sent, one that waits, and some that the device has yet to receive
_ALIGNMENT = 256  # bytes


class DeviceInbox(Inbox):
    """An inbox whose parcels are slots: memory on both sides, which is used again and again."""

    def __init__(self):
        import cupy

        self._device = cupy.cuda.Device()
        self._copying = cupy.cuda.Stream(non_blocking=True)
        self._slots = itertools.cycle([_Slot() for _ in range(NUM_SLOTS)])
        self._layout = _Layout(())
        self._places: dict[int, Array] = {}
        self.age = 0

    def send(self, arrays: tuple[np.ndarray, ...]) -> Any:
        if not self._layout.has_room_for(arrays):
            self._layout = _Layout(arrays)
        slot = next(self._slots)
        with self._device:
            slot.fill(arrays, self._layout, self._copying)
        return slot

    def receive(self, parcel: Any, place: int) -> tuple[Array, ...]:
        import cupy

        stream = cupy.cuda.get_current_stream()
        stream.wait_event(parcel.has_arrived)
        received = self._places.get(place)
        if received is None or received.size != parcel.layout.size:
            received = self._places[place] = cupy.empty(parcel.layout.size, np.uint8)
            self.age += 1
        received[...] = parcel.on_device
        parcel.is_free.record(stream)
        return parcel.layout.cut(received, parcel.kinds)


class _Layout:
    """Where arrays like some, or somewhat larger ones, lie in one piece of memory."""

    def __init__(self, arrays: tuple[np.ndarray, ...]):
        self._rooms = [a.nbytes + a.nbytes // 4 for a in arrays]
        sizes = [-(-room // _ALIGNMENT) * _ALIGNMENT for room in self._rooms]
        *self._begins, self.size = itertools.accumulate(sizes, initial=0)

    def has_room_for(self, arrays: tuple[np.ndarray, ...]) -> bool:
        return len(arrays) == len(self._rooms) and all(
            array.nbytes <= room for array, room in zip(arrays, self._rooms, strict=True)
        )

    def cut(self, memory: Array, kinds: list[tuple]) -> tuple[Array, ...]:
        """Arrays of these shapes and dtypes in `memory`, (size,) uint8."""
        return tuple(
            memory[begin : begin + int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)
            for begin, (shape, dtype) in zip(self._begins, kinds, strict=True)
        )


class _Slot:
    """Memory for one parcel.

    has_arrived: the copy to the device is done.  is_free: it has been copied on from there.
    """

    def __init__(self):
        import cupy

        self.has_arrived = cupy.cuda.Event(disable_timing=True)
        self.is_free = cupy.cuda.Event(disable_timing=True)
        self.layout = _Layout(())
        self.kinds: list[tuple] = []
        self.on_device: Array | None = None
        self._on_host: np.ndarray | None = None

    def fill(self, arrays: tuple[np.ndarray, ...], layout: _Layout, copying: Any) -> None:
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
