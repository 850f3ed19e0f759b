"""Compile transducers from OpenFst's text form with symbols, as its fstcompile does.

After OpenFst's script/compile-impl.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nnet.decoding.fst import ArrayFst
from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError
from nnet.io.numbers import natural
from nnet.io.text import split_words, text_lines


def compile_fst(
    rxfilename: str,
    isymbols: str = "",
    osymbols: str = "",
    is_acceptor: bool = False,
    keep_state_numbering: bool = False,
) -> ArrayFst:
    """Make a transducer of lines `from to ilabel olabel [cost]`, and `state [cost]` for final ones.

    The first line begins with the start state.

    Args:
        isymbols, osymbols: files of symbols by which labels go; without these they are numbers.
        is_acceptor: lines have one label, for both sides; of `isymbols`.
        keep_state_numbering: states have the numbers of the text, not the order in which they come.

    Raises:
        NgtrainError: a line is neither an arc nor a final state, or a symbol is unknown.
    """
    input_label = _labels(isymbols)
    output_label = input_label if is_acceptor else _labels(osymbols)
    numbers: dict[int, int] = {}

    def state(word: str) -> int:
        number = natural(word)
        return number if keep_state_numbering else numbers.setdefault(number, len(numbers))

    def compiled(words: list[str]) -> tuple:
        if len(words) <= 2:
            return state(words[0]), *words[1:]
        if is_acceptor:
            words.insert(2, words[2])
        begin, to, ilabel, olabel, *cost = words
        return state(begin), state(to), input_label(ilabel), output_label(olabel), *cost

    def lines() -> Iterator[str]:
        for number, line in enumerate(text_lines(rxfilename), 1):
            if words := split_words(line):
                try:
                    yield " ".join(map(str, compiled(words)))
                except ValueError:
                    what = "neither an arc nor a final state"
                    raise NgtrainError(f"{rxfilename}: line {number} is {what}: {line}") from None

    try:
        return ArrayFst.parse("\n".join(lines()))
    except ValueError as error:
        raise NgtrainError(f"{rxfilename}: {error}") from None


def _labels(symbols: str) -> Callable[[str], int]:
    """Return what numbers the labels of a side."""
    return SymbolTable.load(symbols).number if symbols else natural
