"""Reading ahead in a thread (the option `bg` of Kaldi's tables)."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")

_END = object()


def read_ahead(items: Iterator[T], depth: int = 1) -> Iterator[T]:
    """Yield `items`, computed by a thread that is up to `depth` ahead.

    An exception of the thread is raised here, in its place among the items. Closing the generator
    ends the thread, and closes `items` if it is a generator.
    """
    ready: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def offer(item) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        error = None
        try:
            for item in items:
                offer((item, None))
                if stopped.is_set():
                    break
        except BaseException as raised:
            error = raised
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            offer((_END, error))

    thread = threading.Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
