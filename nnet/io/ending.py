"""The end of a program that is asked to end: soon, and with its outputs whole or not there.

Control-C, SIGTERM and SIGHUP become an exception, which lets every open output remove its temporary
file; Control-C a second time ends the process at once.  Python raises an exception between two of
its own steps, and a call of a library is one step: where that does not return, a thread ends the
process instead.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a program to end, with which it ends with the status 128 and their number."""

SIGNALS = (signal.SIGINT, *ENDING)

PATIENCE_S = 3.0
"""Seconds to wait for Python to raise the exception; schedulers leave a program ten or more."""

unfinished: set[str] = set()
"""Temporary files of outputs, some of which may have gone already."""

_seen = threading.Event()
"""Set when Python has noticed a signal, or must not be hurried."""


def end_on_signals() -> None:
    """Have signals end this process as said above; call it in the main thread."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, _end)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # signals of its own
    threading.Thread(target=_hurry, args=(reading,), daemon=True).start()


def _hurry(reading: int) -> None:
    """End the process when a signal has come that Python does not notice."""
    while number := os.read(reading, 1):
        if number[0] in SIGNALS and not _seen.wait(PATIENCE_S):
            _end_at_once(number[0])


def disregard(number: int, _) -> None:
    """Do nothing; unlike SIG_IGN, a process that is started now does not inherit it."""


def _end(number: int, _) -> NoReturn:
    """End by an exception, but only once: cleaning up must not be interrupted by another."""
    _seen.set()
    for other in ENDING:
        signal.signal(other, disregard)
    signal.signal(signal.SIGINT, lambda number, _: _end_at_once(number))
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _end_at_once(number: int) -> NoReturn:
    for path in list(unfinished):
        with suppress(OSError):
            os.unlink(path)
    os._exit(128 + number)


@contextmanager
def finished_before_ending() -> Iterator[None]:
    """Guard a block that a signal must not cut short: the program ends after it.

    For writing what took long to compute, schedulers leave a program some seconds; and for starting
    threads and using their locks: an exception in the middle of that leaves a lock closed.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS if in_main_thread}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    asked: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _: asked.append(number))
    was_seen = _seen.is_set()
    _seen.set()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if asked:
        handlers[asked[0]](asked[0], None)
    if not was_seen:
        _seen.clear()
