"""Lists of integers in text files, such as the phones and words in a lang directory."""

from __future__ import annotations

from collections.abc import Iterable

from nnet.errors import NgtrainError
from nnet.io.numbers import natural
from nnet.io.streams import open_output
from nnet.io.text import split_words, text_lines


def read_integer_lists(rxfilename: str) -> list[list[int]]:
    """Read the integers on each line of a text file, such as phones/sets.int."""
    lists = []
    for number, line in enumerate(text_lines(rxfilename), 1):
        try:
            lists.append([natural(word) for word in split_words(line)])
        except ValueError:
            raise NgtrainError(f"{rxfilename}: expected integers on line {number}") from None
    return lists


def read_integers(rxfilename: str) -> list[int]:
    """Read all integers of a text file, such as phones/disambig.int, whatever its lines."""
    return [number for line in read_integer_lists(rxfilename) for number in line]


def write_integers(wxfilename: str, numbers: Iterable[int]) -> None:
    """Write a text file with an integer on each line."""
    with open_output(wxfilename) as stream:
        stream.write("".join(f"{number}\n" for number in numbers).encode())
