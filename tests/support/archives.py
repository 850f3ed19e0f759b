"""Tables, read and written as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from nnet.egs.block import ExampleBlock
from nnet.egs.record import EXAMPLE
from nnet.io.tables import sequential_table, table_writer


def read_table(rspecifier: str, holder) -> dict:
    with sequential_table(rspecifier, holder) as table:
        return dict(table)


def write_table(wspecifier: str, holder, entries: dict) -> None:
    with table_writer(wspecifier, holder) as table:
        for key, value in entries.items():
            table.write(key, value)


def read_examples(rspecifier: str) -> list[tuple]:
    """Keys and examples."""
    with sequential_table(rspecifier, EXAMPLE) as table:
        return list(table)


def keys_of(blocks: Iterable[ExampleBlock]) -> list[str]:
    return list(itertools.chain.from_iterable(map(ExampleBlock.keys, blocks)))
