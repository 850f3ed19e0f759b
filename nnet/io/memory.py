"""Memory that is freed and soon needed again."""

import numpy as np


def keep_freed_memory() -> None:
    """Keep freed blocks of up to 32 MB in the process, instead of giving them back to the system.

    To get a block of a megabyte from the system takes as long as to fill it several times over.
    The GNU C library learns from the largest block that was freed, which need not have been used;
    with another library nothing is gained or lost.
    """
    np.empty(31 << 20, np.uint8)
