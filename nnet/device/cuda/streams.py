"""Work that goes on beside the main stream, and work that is captured once and then replayed.

The main stream is the current one.  What is launched inside ``with aside`` may run at the same
time as what the main stream does after that, until ``join()``; in a graph these are branches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from nnet.device.backend import Aside, Step, repeated_on_host

_asides: list[Stream] = []


class Stream(Aside):
    """A stream that starts where the main stream is, and that the main stream later waits for."""

    overlaps = True

    def __init__(self):
        import cupy

        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._fork = cupy.cuda.Event(disable_timing=True)
        self._done = cupy.cuda.Event(disable_timing=True)

    def __enter__(self) -> None:
        import cupy

        self._fork.record(cupy.cuda.get_current_stream())
        self._stream.wait_event(self._fork)
        self._stream.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(*error)
        self._done.record(self._stream)
        if self not in _asides:
            _asides.append(self)

    def __deepcopy__(self, memo: dict) -> Stream:
        self.join()
        return Stream()

    def join(self) -> None:
        """Let the current stream wait for what was done aside, if it has not yet."""
        import cupy

        if self in _asides:
            _asides.remove(self)
            cupy.cuda.get_current_stream().wait_event(self._done)


def join_all() -> None:
    """Let the current stream wait for all that was done aside."""
    for aside in tuple(_asides):
        aside.join()


class Replayed(Step):
    """A function whose work on the device is the same whenever it is called with the same key.

    It is captured as a CUDA graph, with everything done aside, when it is called with a key for the
    second time: the first time may allocate memory.  What it allocates while it is captured belongs
    to the graph.
    """

    is_replayed = True

    def __init__(self, function: Callable[[], None]):
        super().__init__(function)
        self._graphs: dict[Hashable, tuple[Any, list[Callable[[], None]]]] = {}
        self._seen: set[Hashable] = set()
        self._pool: Any = None

    def __call__(self, key: Hashable) -> None:
        if key in self._graphs:
            graph, to_repeat = self._graphs[key]
            graph.launch()
            for function in to_repeat:
                function()
        elif key in self._seen:
            self._graphs[key] = self._captured()
            self._graphs[key][0].launch()
        else:
            self._seen.add(key)
            self.function()
            join_all()

    def _captured(self) -> tuple[Any, list[Callable[[], None]]]:
        """The graph, and what is to be repeated on the host whenever it is launched."""
        import cupy

        self._pool = self._pool or cupy.cuda.MemoryPool()
        stream = cupy.cuda.get_current_stream()
        join_all()
        with cupy.cuda.using_allocator(self._pool.malloc), repeated_on_host() as to_repeat:
            stream.begin_capture()
            try:
                self.function()
                join_all()
            finally:
                graph = stream.end_capture()
        return graph, to_repeat
