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
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor


def num_threads() -> int:
    """As many as set_num_threads() said, or OMP_NUM_THREADS, or as there are processors for us."""
    return _Count.value or _default()


def set_num_threads(count: int | None) -> None:
    """Let this process have so many threads, the calling one among them; None for the default."""
    _Count.value = count


class _Count:
    value: int | None = None


@functools.cache
def _default() -> int:
    asked_for = os.environ.get("OMP_NUM_THREADS", "")
    if asked_for.isdecimal() and int(asked_for):
        return int(asked_for)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(function: Callable[[Any], None], items: Sequence) -> None:
    """Call `function` for each of `items`, which are independent of each other."""
    num_others = min(num_threads(), len(items)) - 1
    if num_others < 1:
        for item in items:
            function(item)
        return
    left = deque(items)

    def work() -> None:
        while left:
            try:
                item = left.popleft()
            except IndexError:  # another thread was faster
                return
            function(item)

    others = [_pool(num_threads() - 1).submit(work) for _ in range(num_others)]
    try:
        work()
    finally:
        left.clear()
        # One that has not begun by now has nothing left to do.
        begun = [other for other in others if not other.cancel()]
        for other in begun:
            other.result()


@functools.cache
def _pool(size: int) -> Executor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(size, thread_name_prefix="pieces of work")


os.register_at_fork(after_in_child=_pool.cache_clear)
