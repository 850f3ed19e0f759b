"""Progress of long work, shown where somebody may be watching: at a terminal."""

import sys
from collections.abc import Iterable


def progress(items: Iterable, unit: str) -> Iterable:
    """`items`, with a line on standard error, if that is a terminal, that counts them."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, unit=f" {unit}", leave=False, dynamic_ncols=True)
