"""Lattices in tables and inside of other objects, in text and binary form (Kaldi's holders).

    with sequential_table("ark:gunzip -c lat.1.gz |", COMPACT_LATTICE) as lattices: ...

A table of lattices of one type can be read as the other: they are converted as they are read.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from nnet.errors import NgtrainError
from nnet.io.openfst import MAGIC
from nnet.io.streams import InputStream, OutputStream
from nnet.io.tables import sequential_table, table_writer
from nnet.lattices.binary import read_binary, write_binary
from nnet.lattices.conversion import to_compact_lattice, to_lattice
from nnet.lattices.lattice import CompactLattice, Lattice
from nnet.lattices.text import read_text, write_text

log = logging.getLogger("ngtrain")


def read_lattice(stream: InputStream) -> Lattice:
    """Read a lattice of either type as one of transition-ids.

    Raises:
        NgtrainError: it is none, damaged, or has a cycle.
    """
    found = _read(stream, is_compact=False)
    return to_lattice(found) if isinstance(found, CompactLattice) else found


def read_compact_lattice(stream: InputStream) -> CompactLattice:
    """Read a lattice of either type as a compact one; raises as `read_lattice` does."""
    found = _read(stream, is_compact=True)
    if isinstance(found, CompactLattice):
        return found
    try:
        return to_compact_lattice(found)
    except ValueError as error:
        raise stream.fail(str(error)) from None


def _read(stream: InputStream, is_compact: bool) -> Lattice | CompactLattice:
    first = stream.peek(1)
    if first.isspace():
        return read_text(stream, is_compact)
    if first != MAGIC[:1]:
        raise stream.mismatch("a lattice", stream.peek(20))
    return read_binary(stream)


def write_lattice(stream: OutputStream, lattice: Lattice | CompactLattice, binary: bool) -> None:
    """Write a lattice of either type, without a mark of binary form, as Kaldi does."""
    (write_binary if binary else write_text)(stream, lattice)


class LatticeHolder:
    """The form of lattices in tables."""

    def read(self, stream: InputStream) -> Lattice:
        """Read the lattice that begins at the stream's position."""
        return read_lattice(stream)

    def write(self, stream: OutputStream, value: Lattice, binary: bool) -> None:
        """Write a lattice."""
        write_lattice(stream, value, binary)


class CompactLatticeHolder:
    """The form of compact lattices in tables."""

    def read(self, stream: InputStream) -> CompactLattice:
        """Read the lattice that begins at the stream's position."""
        return read_compact_lattice(stream)

    def write(self, stream: OutputStream, value: CompactLattice, binary: bool) -> None:
        """Write a lattice."""
        write_lattice(stream, value, binary)


# Any: they have what tables use of a Holder, but no mark of binary form.
LATTICE: Any = LatticeHolder()
COMPACT_LATTICE: Any = CompactLatticeHolder()


def change_lattices(
    rspecifier: str,
    wspecifier: str,
    change: Callable[[str, Any], Any],
    source: Any = COMPACT_LATTICE,
    target: Any = COMPACT_LATTICE,
) -> tuple[int, int]:
    """Copy a table of lattices with a change to each; how many were written, and how many not.

    Args:
        change: called with the key and the lattice; None means that there is nothing to write.
        source, target: the holders to read and write with.
    """
    num_done = num_failed = 0
    with (
        sequential_table(rspecifier, source) as lattices,
        table_writer(wspecifier, target) as output,
    ):
        for key, lattice in lattices:
            with naming(key):
                changed = change(key, lattice)
            if changed is None:
                log.warning("Possibly empty lattice for utterance-id %s(no output)", key)
                num_failed += 1
            else:
                output.write(key, changed)
                num_done += 1
    return num_done, num_failed


@contextlib.contextmanager
def naming(key: str) -> Iterator[None]:
    """Say whose lattice it is when an operation on it raises ValueError.

    Raises:
        NgtrainError: it has.
    """
    try:
        yield
    except ValueError as error:
        raise NgtrainError(f"lattice of {key}: {error}") from None
