"""Vectors and matrices in log lines, as Kaldi prints them to a C++ stream of six digits."""

import numpy as np


def vector(values) -> str:
    """Format `values` (n,) as `` [ 0.1 0.2 ]`` and a newline."""
    return f" [ {' '.join(f'{x:g}' for x in np.asarray(values))} ]\n"


def matrix(values) -> str:
    """Format `values` (m, n) as `` [``, a line per row, `` ]`` and a newline."""
    rows = "".join(f"\n  {' '.join(f'{x:g}' for x in row)} " for row in np.asarray(values))
    return f" [{rows}]\n"
