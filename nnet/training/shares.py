"""One computation on several shares of data, by several processes at once.

Threads meet at every large product and do what is small one at a time; processes meet once per pass
over the data.  What is computed does not depend on their number, if that of the shares does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nnet.device.processes import Helper


class Shares:
    """Calls of `function(share, *args)` for all shares; leaving the block ends its processes.

    num_processes: how many share the shares, this one, which has the first, among them; if not
        given, each share has one.

    Arguments and results are small: they are sent to processes and back.
    """

    def __init__(self, function: Callable, shares: Sequence, num_processes: int | None = None):
        count = min(num_processes or len(shares), len(shares))
        self._num_shares = len(shares)

        def of(some: Sequence) -> Callable:
            return lambda *args: [function(share, *args) for share in some]

        self._own = of(shares[::count])
        self._others = [Helper(of(shares[i::count])) for i in range(1, count)]

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
        for other in self._others:
            other.ask(*args)
        results = [self._own(*args), *(other.answer() for other in self._others)]
        return [results[i % len(results)][i // len(results)] for i in range(self._num_shares)]
