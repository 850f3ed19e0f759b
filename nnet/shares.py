"""The same computation on several shares of data at once, each in a process of its own.

Threads of the matrix library wait for each other at every product: where another program has one of
the processors, they lose more than they gain.  Processes meet once per pass over the data.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from nnet.errors import NgtrainError


class Shares:
    """Calls `function(share, *args)` for all shares at once; leaving the block ends its processes.

    The first share is computed here, and with one share alone there is no other process.  The
    others start as copies of this process, so that `function` and the shares may be anything; what
    changes here later, they do not see.  Arguments and results are small: they are sent.
    """

    def __init__(self, function: Callable, shares: Sequence):
        self._function = function
        self._share = shares[0]
        self._others: list[Connection] = []
        for share in shares[1:]:
            here, there = get_context("fork").Pipe()
            process = get_context("fork").Process(
                target=_serve, args=(here, there, function, share), daemon=True
            )
            process.start()
            there.close()
            self._others.append(here)

    def __enter__(self) -> Shares:
        return self

    def __exit__(self, *_) -> None:
        for other in self._others:
            other.close()

    def __call__(self, *args) -> list[Any]:
        """The results in the order of the shares.  Raises NgtrainError when a process ended."""
        try:
            for other in self._others:
                other.send(args)
            own = self._function(self._share, *args)
            return [own, *(other.recv() for other in self._others)]
        except (EOFError, BrokenPipeError):
            raise NgtrainError("one of the processes that share the data has ended") from None


def _serve(parents_end: Connection, connection: Connection, function: Callable, share: Any) -> None:
    """Answer calls until the other end is closed, of which this process has a copy, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, and ends us
    parents_end.close()
    while True:
        try:
            args = connection.recv()
        except EOFError:
            return
        connection.send(function(share, *args))
