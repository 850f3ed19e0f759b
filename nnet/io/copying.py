"""Copying objects: a table to a table, or one file to another (Kaldi's copy-* programs)."""

from collections.abc import Callable
from typing import Any

from nnet.errors import NgtrainError
from nnet.io.streams import open_input
from nnet.io.tables import Holder, is_rspecifier, is_wspecifier, sequential_table, table_writer
from nnet.io.tokens import read_object, write_object


def copy_objects(
    source: str,
    target: str,
    holder: Holder,
    binary: bool,
    change: Callable[[str, Any], Any] = lambda key, value: value,
    alone: Holder | None = None,
    written: Holder | None = None,
) -> int | None:
    """Copy a table or a file, with a change to each object; the number of entries, None for a file.

    Args:
        source, target: both specifiers of tables, or both names of files.
        binary: whether a file is written in binary form; tables say so themselves.
        change: called with the key, "" for a file, and the object.
        alone: how the object is stored outside of tables, if that differs.
        written: how it is stored in the target, if that differs.
    """
    if is_rspecifier(source) != is_wspecifier(target):
        raise NgtrainError(f"one of these is a table, the other is a file: {source} {target}")
    if not is_rspecifier(source):
        holder = alone or holder
        value = change("", read_alone(source, holder))
        write_object(target, lambda writer: (written or holder).format(writer, value), binary)
        return None
    count = 0
    with (
        sequential_table(source, holder) as entries,
        table_writer(target, written or holder) as output,
    ):
        for key, value in entries:
            output.write(key, change(key, value))
            count += 1
        entries.losses.report(f"%d of {count + entries.losses.count} entries were passed over")
    return count


def read_alone(rxfilename: str, holder: Holder) -> Any:
    """Read the object that a file holds."""
    if holder.has_binary_form:
        return read_object(rxfilename, holder.parse)
    with open_input(rxfilename) as stream:
        return holder.read(stream)
