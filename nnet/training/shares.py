"""One computation on several shares of data, by several processes at once.

Threads meet at every large product and do what is small one at a time; processes meet once per pass
over the data.  What is computed does not depend on their number, if that of the shares does not.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from nnet.errors import NgtrainError


class Shares:
    """Calls of `function(share, *args)` for all shares; leaving the block ends its processes.

    num_processes: how many share the shares, this one, which has the first, among them; if not
        given, each share has one.

    The others start as copies of this process, so that `function` and the shares may be anything;
    what changes here later, they do not see.  Arguments and results are small: they are sent.
    """

    def __init__(self, function: Callable, shares: Sequence, num_processes: int | None = None):
        count = min(num_processes or len(shares), len(shares))
        self._function = function
        self._num_shares = len(shares)
        self._own = shares[::count]
        self._others: list[Connection] = []
        for i in range(1, count):
            here, there = get_context("fork").Pipe()
            process = get_context("fork").Process(
                target=_serve, args=(here, there, function, shares[i::count]), daemon=True
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
        """Return the results in the order of the shares.

        Raises:
            NgtrainError: a process has ended.
        """
        try:
            for other in self._others:
                other.send(args)
            own = [self._function(share, *args) for share in self._own]
            results = [own, *(other.recv() for other in self._others)]
        except (EOFError, BrokenPipeError):
            raise NgtrainError("one of the processes that share the data has ended") from None
        return [results[i % len(results)][i // len(results)] for i in range(self._num_shares)]


def _serve(
    parents_end: Connection, connection: Connection, function: Callable, shares: Sequence
) -> None:
    """Answer calls until the other end is closed, of which this process has a copy, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, and ends us
    parents_end.close()
    while True:
        try:
            args = connection.recv()
        except EOFError:
            return
        connection.send([function(share, *args) for share in shares])
