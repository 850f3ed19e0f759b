"""OpenFst's text form of transducers with symbols, as its fstcompile and fstprint have it.

After OpenFst's script/compile-impl.h and print-impl.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

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


def text_lines_of(
    fst: ArrayFst,
    isymbols: str = "",
    osymbols: str = "",
    is_acceptor: bool = False,
    show_weight_one: bool = False,
) -> Iterator[str]:
    """Return the lines that `compile_fst` makes the transducer of, those of the start state first.

    Args:
        isymbols, osymbols: files of symbols to print for labels, which are numbers without these.
        is_acceptor: print the input label alone.
        show_weight_one: print costs of 0, too.

    Raises:
        NgtrainError: a label has no symbol.
    """
    columns = [_printed(fst.arcs["ilabel"], isymbols)]
    if not is_acceptor:
        columns.append(_printed(fst.arcs["olabel"], osymbols))

    def cost(value: float) -> list[str]:
        number = f"{value:.9g}" if value < np.inf else "Infinity"
        return [number] if value or show_weight_one else []

    costs, into = fst.arcs["weight"].tolist(), fst.arcs["nextstate"].tolist()
    for state in sorted(range(fst.num_states), key=lambda state: state != fst.start):
        arcs = range(*fst.first_arc[state : state + 2])
        for arc in arcs:
            labels = [column[arc] for column in columns]
            yield "\t".join([str(state), str(into[arc]), *labels, *cost(costs[arc])])
        final = float(fst.finals[state])
        if final < np.inf or not arcs:
            yield "\t".join([str(state), *cost(final)])


def _printed(labels: np.ndarray, symbols: str) -> list[str]:
    """Return the labels of a side as text."""
    if not symbols:
        return list(map(str, labels.tolist()))
    table = SymbolTable.load(symbols)
    return [table[label] for label in labels.tolist()]
