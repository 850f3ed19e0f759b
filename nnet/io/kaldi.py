"""The package kaldi_io, fenced: its import leaves no trace on the process.

At import kaldi_io prints a banner when KALDI_ROOT is unset or wrong, starts a shell, and prepends
to PATH. Its own pipes lose the exit status of their commands, so it is given streams that we opened
and never a file name.

It reads the full matrices and vectors. The rest is ours, because kaldi_io is slower or laxer there:
its reader of integer vectors checks one size marker of all, its writers make two calls per integer
or need a file object with a mode, its text readers take what is no number for an assertion, and of
the three compressed layouts it knows one, inexactly.
"""

import functools
import io
import os
import warnings

import numpy as np


class _Record:
    """A stream as kaldi_io reads one: with a header, and never shorter than asked."""

    def __init__(self, stream):
        self._header = b"\0B"
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Read the header first, then the stream."""
        if self._header:
            header, self._header = self._header, b""
            return header
        return self._stream.read_exact(size)


def read_matrix(stream) -> np.ndarray:
    """Read a binary matrix whose header has been checked; float32 or float64, (rows, cols)."""
    return _kaldi_io().read_mat(_Record(stream))


def read_vector(stream) -> np.ndarray:
    """Read a binary vector whose header has been checked; float32 or float64, (dim,)."""
    return _kaldi_io().read_vec_flt(_Record(stream))


@functools.cache
def _kaldi_io():
    path, root, popen = os.environ.get("PATH"), os.environ.get("KALDI_ROOT"), os.popen
    # It prints unless this root exists, and starts a shell unless os.popen() is replaced.
    os.environ["KALDI_ROOT"] = os.sep
    os.popen = lambda command: io.StringIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its regular expressions have invalid escapes
            import kaldi_io
    finally:
        os.popen = popen
        for name, value in (("PATH", path), ("KALDI_ROOT", root)):
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return kaldi_io
