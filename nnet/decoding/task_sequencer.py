"""One computation on items in a row by several processes, whose results come in the same order.

After Kaldi's util/kaldi-thread.h (TaskSequencer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any

from nnet.device.processes import Helper
from nnet.errors import NgtrainError

NUM_WAITING = 20
"""Results that wait for one before them, at most, unless another number is asked for."""


class TaskSequencer:
    """Calls of `function(item)` by so many processes; leaving the block ends these.

    Args:
        num_threads: processes that compute, called as Kaldi's option; with 1 it is this one.
        num_threads_total: with those whose results wait for earlier ones; if not positive, 20 more.

    Raises:
        NgtrainError: `num_threads_total` is less than `num_threads`.
    """

    def __init__(
        self, function: Callable[[Any], Any], num_threads: int, num_threads_total: int = 0
    ):
        if 0 < num_threads_total < num_threads:
            raise NgtrainError(
                f"--num-threads-total={num_threads_total} is less than --num-threads={num_threads}"
            )
        self._function = function
        self._most = num_threads_total if num_threads_total > 0 else num_threads + NUM_WAITING
        self._helpers = [Helper(function) for _ in range(num_threads)] if num_threads > 1 else []

    def __enter__(self) -> TaskSequencer:
        return self

    def __exit__(self, *_) -> None:
        for helper in self._helpers:
            helper.close()

    def results(self, items: Iterable) -> Iterator[Any]:
        """Yield `function(item)` of each item, in their order; items are read as they are needed.

        Raises:
            NgtrainError: the function has raised this, or a process has ended.
        """
        if not self._helpers:
            yield from map(self._function, items)
            return
        free = list(self._helpers)
        busy: dict[int, tuple[Helper, int]] = {}  # by descriptor, with the number of its item
        answers: dict[int, Any] = {}
        num_asked = num_given = 0

        def wait_for_answers() -> None:
            ready: list[Any] = wait(list(busy))
            for descriptor in ready:
                helper, number = busy.pop(descriptor)
                answers[number] = helper.answer()
                free.append(helper)

        for item in items:
            while not free or num_asked - num_given >= self._most:
                wait_for_answers()
                while num_given in answers:
                    yield answers.pop(num_given)
                    num_given += 1
            helper = free.pop()
            helper.ask(item)
            busy[helper.fileno()] = helper, num_asked
            num_asked += 1
        while num_given < num_asked:
            while num_given not in answers:
                wait_for_answers()
            yield answers.pop(num_given)
            num_given += 1
