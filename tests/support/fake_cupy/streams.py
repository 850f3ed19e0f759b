"""Streams, events and graphs, whose operations are done in an order that a device might choose.

An operation comes after the one before it on its stream, and after those that the stream was told
to wait for: nothing else is certain.  In the order FORWARD everything is done at once.  BACKWARD it
is done when the host waits for it, or for what comes after it, and of what may be done next that
which was asked for last: what another stream should have waited for is late.

Which stream is current, what may be captured, and what is refused meanwhile, is as in CuPy's
cupy/cuda/stream.pyx, and as in the CUDA C++ Programming Guide on creating graphs by capture.  All
streams are as if they were made with non_blocking=True: the legacy one waits for none.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np

counts: collections.Counter = collections.Counter()
"""See the package."""

FORWARD, BACKWARD, RANDOM = range(3)


class Emulation:
    """How the threads of a block run: how many at most, and in which order they take turns.

    BACKWARD is also the order of what is done on streams.
    """

    max_threads = 1
    order = FORWARD


class CUDARuntimeError(RuntimeError):
    pass


# Operations ---------------------------------------------------------------------------------------


class Operation:
    """Something done on a stream, after some others."""

    numbers = itertools.count()

    def __init__(self, function: Callable[[], None], before: Iterable[Operation]):
        self.number = next(self.numbers)
        self.function = function
        self.before = frozenset(before)
        self.is_done = False


_lock = threading.RLock()  # of all that streams have been told


def in_order(operations: set[Operation]) -> Iterator[Operation]:
    """All of them, each after those before it."""
    sign = -1 if Emulation.order == BACKWARD else 1
    after = collections.defaultdict(list)
    for operation in operations:
        for earlier in operation.before & operations:
            after[earlier].append(operation)
    num_before = {operation: len(operation.before & operations) for operation in operations}
    ready = [(sign * o.number, o) for o, number in num_before.items() if number == 0]
    heapq.heapify(ready)
    while ready:
        _, operation = heapq.heappop(ready)
        yield operation
        for later in after[operation]:
            num_before[later] -= 1
            if num_before[later] == 0:
                heapq.heappush(ready, (sign * later.number, later))


def finish(last: Iterable[Operation]) -> None:
    """Do these, and all that comes before them, if they have not been done."""
    with _lock:
        left, found = set(), [operation for operation in last if not operation.is_done]
        while found:
            operation = found.pop()
            left.add(operation)
            found.extend(o for o in operation.before if not o.is_done and o not in left)
        for operation in in_order(left):
            _do(operation)
            operation.is_done, operation.before = True, frozenset()


def _do(operation: Operation) -> None:
    with np.errstate(all="ignore"):
        operation.function()


def submit(function: Callable[[], None], stream: Stream | None = None) -> None:
    """Do it on a stream, by default the current one; or put it into the graph being captured."""
    stream = stream or get_current_stream()
    with _lock:
        operation = Operation(function, stream.last)
        stream.last = {operation}
        if stream.graph is not None:
            stream.graph.operations.add(operation)
            return
        counts["launches"] += 1
        if Emulation.order != BACKWARD:
            finish([operation])


# Graphs -------------------------------------------------------------------------------------------


class Graph:
    """Operations, which a launch does in an order that is allowed."""

    def __init__(self):
        self.operations: set[Operation] = set()
        self.streams: dict[Stream, set[Operation]] = {}  # and what was last on them before
        self.is_captured = False

    def launch(self, stream: Stream | None = None) -> None:
        def function():
            for operation in in_order(self.operations):
                _do(operation)

        submit(function, stream)


def not_in_capture(what: str, stream: Stream | None = None) -> None:
    """Count something that may not be done while the stream is captured."""
    counts[what] += 1
    if (stream or get_current_stream()).graph is not None:
        raise RuntimeError(f"the current stream is capturing, so {what} are disallowed")


def refuse_in_capture(library: str) -> None:
    """What CuPy does before it calls a library of NVIDIA's."""
    if get_current_stream().graph is not None:
        raise NotImplementedError(
            f"calling {library} API during stream capture is currently unsupported"
        )


# Streams and events -------------------------------------------------------------------------------


class Stream:
    """What is told to it is done in that order.

    last: what its next operation comes after.  graph: the one into which that goes, if any.
    """

    null: Stream
    _pointers = itertools.count(0x1000, 0x100)

    def __init__(self, null=False, non_blocking=False, **_):
        self.ptr = 0 if null else next(self._pointers)
        self.last: set[Operation] = set()
        self.graph: Graph | None = None

    def __eq__(self, other):
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self):
        return self.ptr

    def __enter__(self):
        _thread.stack.append(self)
        _thread.current = self
        return self

    def __exit__(self, *_):
        """The stream before is current again; what use() made current is forgotten."""
        _thread.stack.pop()
        _thread.current = _thread.stack[-1]

    def use(self):
        _thread.current = self
        return self

    @property
    def done(self):
        return all(operation.is_done for operation in self.last)

    def synchronize(self):
        not_in_capture("waits", self)
        finish(self.last)

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        with _lock:
            if event.graph is not None and event.graph.is_captured:
                raise CUDARuntimeError("cudaErrorCapturedEvent: recorded in a capture that is over")
            if self.graph is None and event.graph is not None:
                self._join(event.graph)
            if event.was_recorded and event.graph is not self.graph:
                raise CUDARuntimeError(
                    "cudaErrorStreamCaptureIsolation: not recorded in this capture"
                )
            self.last = self.last | event.before

    def _join(self, graph):
        graph.streams[self] = self.last
        self.graph, self.last = graph, set()

    def begin_capture(self, mode=None):
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.graph is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: this stream is captured already")
        self._join(Graph())

    def end_capture(self):
        graph, last = self.graph, self.last
        if graph is None or self is not next(iter(graph.streams)):
            raise CUDARuntimeError("cudaErrorIllegalState: no capture began on this stream")
        for stream, before in graph.streams.items():
            stream.graph, stream.last = None, before
        graph.is_captured = True
        not_last = {o for operation in graph.operations for o in operation.before}
        if not graph.operations - not_last <= last:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined: a stream was not joined")
        return graph

    def is_capturing(self):
        return self.graph is not None


Stream.null = Stream(null=True)


class Event:
    """A mark on a stream: what comes before it, and the graph in which it was recorded, if any."""

    def __init__(self, block=False, disable_timing=False):
        self.was_recorded = False
        self.before: frozenset[Operation] = frozenset()
        self.graph: Graph | None = None

    @property
    def done(self):
        self._not_captured()
        return all(operation.is_done for operation in self.before)

    def record(self, stream=None):
        stream = stream or get_current_stream()
        with _lock:
            self.was_recorded = True
            self.before, self.graph = frozenset(stream.last), stream.graph

    def synchronize(self):
        self._not_captured()
        not_in_capture("waits")
        finish(self.before)

    def _not_captured(self):
        if self.graph is not None:
            raise CUDARuntimeError("cudaErrorCapturedEvent: last recorded in a capture")


class _Thread(threading.local):
    """A thread's streams, as in CuPy: `with` has a stack, of which use() knows nothing."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.stack: list[Stream] = [Stream.null]
        self.current = Stream.null
        self.allocator: Callable | None = None


_thread = _Thread()


def get_current_stream() -> Stream:
    return _thread.current


def reset() -> None:
    """Forget what this thread's streams were."""
    _thread.reset()
    Stream.null.last = set()


# Memory -------------------------------------------------------------------------------------------


class MemoryPool:
    """Memory apart from what all others have; NumPy provides it."""

    def malloc(self, size):
        raise AssertionError("the fake allocates by itself")


@contextlib.contextmanager
def using_allocator(allocator=None):
    before, _thread.allocator = _thread.allocator, allocator
    try:
        yield
    finally:
        _thread.allocator = before


def allocate() -> None:
    """Count an allocation; what is allocated while captured must belong to the graph.

    From the pool that all share, CuPy would give it to others as soon as Python's object is gone.
    """
    counts["allocations"] += 1
    if get_current_stream().graph is not None:
        counts["allocations while captured"] += 1
        if _thread.allocator is None:
            raise AssertionError("memory of a graph is allocated from the pool that all share")
