"""Progress of long work, shown on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

log = logging.getLogger("ngtrain")


def progress(items: Iterable, unit: str) -> Iterable:
    """Count `items` in a line on standard error while they are taken, if that is a terminal."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, unit=f" {unit}", leave=False, dynamic_ncols=True)


@contextmanager
def progress_bar(done: float, total: float) -> Iterator[Callable[[float, str], None]]:
    """Show at the bottom of the terminal how much of `total` is done, and the time that is left.

    `done` was done before.  Yields show(done, text): how much it is now, and what to say beside it.
    Messages of the log scroll above the line.  Nothing is shown where there is no terminal.
    """
    if not sys.stderr.isatty():
        yield lambda done, text: None
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    bar = tqdm(
        initial=done,
        total=total,
        bar_format="{desc} {percentage:.0f} % |{bar:10}| {elapsed} elapsed, {remaining} left",
        smoothing=0,  # the time left is by the average speed
        leave=False,
        dynamic_ncols=True,
    )

    def show(done: float, text: str) -> None:
        bar.set_description_str(text, refresh=False)
        bar.update(done - bar.n)
        bar.refresh()

    with bar, logging_redirect_tqdm([log]):
        yield show


def clock(seconds: float) -> str:
    """Format seconds as 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
