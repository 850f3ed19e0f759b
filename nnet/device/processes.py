"""Processes that compute for this one: copies of it, which have whatever it has.

Threads of Python take turns; where what is computed is many small steps, processes are faster.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from nnet.errors import NgtrainError

_FORK = get_context("fork")


class Helper:
    """A process that computes `function(*args)` when it is asked to, one after another.

    It starts as a copy of this process, so that `function` may be anything; what changes here
    later, it does not see.  Arguments and results are sent.  It keeps open what is open when it
    starts: files and pipes that must end before it does are to be opened later.
    """

    def __init__(self, function: Callable):
        self._connection, there = _FORK.Pipe()
        arguments = (self._connection, there, function)
        _FORK.Process(target=_serve, args=arguments, daemon=True).start()
        there.close()

    def ask(self, *args) -> None:
        """Send it arguments.

        Raises:
            NgtrainError: it has ended.
        """
        try:
            self._connection.send(args)
        except BrokenPipeError:
            raise NgtrainError(_ENDED) from None

    def answer(self) -> Any:
        """Wait for the result of what was asked.

        Raises:
            NgtrainError: the function has raised this, or the process has ended.
        """
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise NgtrainError(_ENDED) from None
        if isinstance(answer, NgtrainError):
            raise answer
        return answer

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is an answer."""
        return self._connection.fileno()

    def close(self) -> None:
        """Let it end, once it has computed what it was asked for."""
        self._connection.close()


_ENDED = "one of the processes that share the work has ended"


def _serve(parents_end: Connection, connection: Connection, function: Callable) -> None:
    """Answer until the other end is closed, of which this process has a copy, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, and ends us
    parents_end.close()
    try:
        while True:
            args = connection.recv()
            try:
                answer = function(*args)
            except NgtrainError as error:
                answer = error
            connection.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
