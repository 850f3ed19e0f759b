"""Threads that divide work, whose results do not depend on how many threads there are.

Work comes in pieces, and the shapes of arrays alone decide which.  Every thread takes the next
piece as soon as it has finished one, and then sleeps: where other programs need the processors, the
others do its share.  (Threads of a matrix library, each of which has a share of its own, wait for
each other by spinning: one that another program keeps from running stops all of them, and those
keep the processors from the other program.)
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any


class _Count:
    value: int | None = None


def num_threads() -> int:
    """Return the count of set_num_threads(), or OMP_NUM_THREADS, or that of our processors."""
    if not _Count.value:
        asked_for, can_tell = (
            os.environ.get("OMP_NUM_THREADS", ""),
            hasattr(os, "sched_getaffinity"),
        )
        ours = len(os.sched_getaffinity(0)) if can_tell else os.cpu_count() or 1
        _Count.value = (asked_for.isdecimal() and int(asked_for)) or ours
    return _Count.value


def set_num_threads(count: int | None) -> None:
    """Let this process have so many threads, the calling one among them; None for the default."""
    _Count.value = count


def for_each(function: Callable[[Any], None], items: Sequence) -> None:
    """Call `function` for each of `items`, which are independent of each other."""
    num_others = min(num_threads(), len(items)) - 1
    if num_others < 1:
        for item in items:
            function(item)
        return
    left, begun, ends = deque(items), deque(), SimpleQueue()

    def work() -> None:
        while left:
            try:
                item = left.popleft()
            except IndexError:  # another thread was faster
                return
            function(item)

    def help() -> None:
        begun.append(True)
        error = None
        try:
            work()
        except BaseException as raised:
            error = raised
        ends.put(error)

    queue = _helpers(num_threads() - 1)
    for _ in range(num_others):
        queue.put(help)
    try:
        work()
    finally:
        left.clear()
        # A thread that has not begun by now will find nothing to do; if it says so first, wait on.
        errors = []
        while len(errors) < len(begun):
            errors.append(ends.get())
    for error in filter(None, errors):
        raise error


@functools.cache
def _helpers(count: int) -> SimpleQueue:
    """Start so many threads; return the queue where they get functions to call."""
    queue = SimpleQueue()

    def serve() -> None:
        while True:
            queue.get()()

    for _ in range(count):
        threading.Thread(target=serve, name="pieces of work", daemon=True).start()
    return queue


os.register_at_fork(after_in_child=_helpers.cache_clear)
