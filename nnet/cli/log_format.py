"""Vectors and matrices in log lines, as Kaldi prints them to a C++ stream of six digits."""

import numpy as np


def vector(values) -> str:
    """`` [ 0.1 0.2 ]`` and a newline, for `values` of shape (n,)."""
    return f" [ {' '.join(f'{x:g}' for x in np.asarray(values))} ]\n"


def matrix(values) -> str:
    """`` [``, a line per row, `` ]`` and a newline, for `values` of shape (m, n)."""
    rows = "".join(f"\n  {' '.join(f'{x:g}' for x in row)} " for row in np.asarray(values))
    return f" [{rows}]\n"
