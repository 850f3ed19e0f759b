"""Minibatches on their way to the device: page-locked memory, and a stream that only copies."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from nnet.backend import Array, Inbox

NUM_SLOTS = 3  # one parcel being sent, one that waits, one being received


class DeviceInbox(Inbox):
    """An inbox whose parcels are slots: memory on both sides, which is used again and again."""

    def __init__(self):
        import cupy

        self._device = cupy.cuda.Device()
        self._copying = cupy.cuda.Stream(non_blocking=True)
        self._slots = itertools.cycle([_Slot() for _ in range(NUM_SLOTS)])
        self._received: list[Array] = []
        self.age = 0

    def send(self, arrays: tuple[np.ndarray, ...]) -> Any:
        slot = next(self._slots)
        with self._device:
            slot.fill(arrays, self._copying)
        return slot

    def receive(self, parcel: Any) -> tuple[Array, ...]:
        import cupy

        stream = cupy.cuda.get_current_stream()
        stream.wait_event(parcel.has_arrived)
        if not self._received or any(map(_is_larger, parcel.arrays, self._received)):
            self._received = [_room_for(array, cupy.empty) for array in parcel.arrays]
            self.age += 1
        received = tuple(map(_cut, self._received, parcel.arrays))
        for target, array in zip(received, parcel.arrays, strict=True):
            target[...] = array
        parcel.is_free.record(stream)
        return received


class _Slot:
    """Memory for one parcel.

    has_arrived: the copy to the device is done.  is_free: it has been copied from there.
    """

    def __init__(self):
        import cupy

        self.has_arrived = cupy.cuda.Event(disable_timing=True)
        self.is_free = cupy.cuda.Event(disable_timing=True)
        self.arrays: tuple[Array, ...] = ()
        self._on_host: list[np.ndarray] = []
        self._on_device: list[Array] = []

    def fill(self, arrays: tuple[np.ndarray, ...], copying: Any) -> None:
        """Start copying these arrays to the device."""
        import cupy
        import cupyx

        if not self.has_arrived.done:  # copied from the memory on the host, three parcels ago
            self.has_arrived.synchronize()
        with copying:
            copying.wait_event(self.is_free)
            if not self._on_host or any(map(_is_larger, arrays, self._on_host)):
                self._on_host = [_room_for(array, cupyx.empty_pinned) for array in arrays]
                self._on_device = [_room_for(array, cupy.empty) for array in arrays]
            self.arrays = tuple(map(_cut, self._on_device, arrays))
            for target, room, array in zip(self.arrays, self._on_host, arrays, strict=True):
                page_locked = _cut(room, array)
                page_locked[...] = array
                target.set(page_locked)
            self.has_arrived.record(copying)


def _is_larger(array: Array, room: Array) -> bool:
    return array.size > room.size


def _room_for(array: Array, empty: Any) -> Array:
    """One-dimensional memory for an array, and for somewhat larger ones."""
    return empty(array.size + array.size // 4, array.dtype)


def _cut(room: Array, like: Array) -> Array:
    """Memory from the beginning of `room` for an array like this."""
    return room[: like.size].reshape(like.shape)
