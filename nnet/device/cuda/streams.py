"""Streams beside the main stream, and work that is captured once and then replayed.

The main stream is the current one.  What is launched in a side stream may run at the same time as
what the main stream does after that, until ``join()``; in a graph these are branches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnet.device.cuda.gpu import Gpu


class CudaSideStream:
    """A stream that starts where the main stream is, and that the main stream later waits for.

    not_joined: the device's side streams for which the main stream has yet to wait.
    """

    def __init__(self, not_joined: list[CudaSideStream]):
        import cupy

        self._not_joined = not_joined
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
        if self not in self._not_joined:
            self._not_joined.append(self)

    def __deepcopy__(self, memo: dict) -> CudaSideStream:
        self.join()
        return CudaSideStream(self._not_joined)

    def join(self) -> None:
        """Let the current stream wait for what was done in this one, if it has not yet."""
        import cupy

        if self in self._not_joined:
            self._not_joined.remove(self)
            cupy.cuda.get_current_stream().wait_event(self._done)


class CudaGraph:
    """A function whose work on the device is the same whenever it is called with the same key.

    It must not wait for the device, and what it does on the host, it does by Device.on_host().  It
    is captured, with everything done in side streams, when it is called with a key for the second
    time: the first time may allocate memory.  What it allocates while it is captured belongs to the
    graph.
    """

    def __init__(self, function: Callable[[], None], gpu: Gpu):
        self._function, self._gpu = function, gpu
        self._graphs: dict[Hashable, tuple[Any, list[Callable[[], None]]]] = {}
        self._seen: set[Hashable] = set()
        self._pool = gpu.xp.cuda.MemoryPool()

    def __call__(self, key: Hashable) -> None:
        if key in self._graphs:
            graph, host_calls = self._graphs[key]
            graph.launch()
            for function in host_calls:
                function()
        elif key in self._seen:
            self._graphs[key] = self._capture()
            self._graphs[key][0].launch()
        else:
            self._seen.add(key)
            self._function()
            self._gpu.join_side_streams()

    def _capture(self) -> tuple[Any, list[Callable[[], None]]]:
        """Return a graph of what the function does, and the functions that on_host() is given."""
        gpu, stream = self._gpu, self._gpu.xp.cuda.get_current_stream()
        gpu.join_side_streams()
        host_calls: list[Callable[[], None]] = []
        gpu.host_calls = host_calls
        with gpu.xp.cuda.using_allocator(self._pool.malloc):
            stream.begin_capture()
            try:
                self._function()
                gpu.join_side_streams()
            finally:
                gpu.host_calls = None
                graph = stream.end_capture()
        return graph, host_calls
