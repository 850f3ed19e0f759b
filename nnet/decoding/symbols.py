"""Symbol tables: words.txt and phones.txt, a symbol and its number on each line."""

from __future__ import annotations

from collections.abc import Iterable

from nnet.errors import NgtrainError
from nnet.io.numbers import natural
from nnet.io.text import split_words, text_lines


class SymbolTable:
    """Symbols and their numbers; `table[5]` is the symbol with the number 5.

    Lookups raise NgtrainError if there is no such symbol or number.
    """

    def __init__(self, symbols: Iterable[tuple[str, int]], name: str = "the symbol table"):
        self.name = name
        self.number_of = dict(symbols)
        self.symbol_of = {number: symbol for symbol, number in self.number_of.items()}

    @classmethod
    def load(cls, rxfilename: str) -> SymbolTable:
        """Read a symbol table; NgtrainError when it is malformed."""
        symbols = {}
        for line_number, line in enumerate(text_lines(rxfilename), 1):
            if not (words := split_words(line)):
                continue
            try:
                symbol, number = words
                if symbol in symbols:
                    raise ValueError
                symbols[symbol] = natural(number)
            except ValueError:
                raise NgtrainError(
                    f"{rxfilename}: line {line_number} is not a new symbol and its number"
                ) from None
        return cls(symbols.items(), rxfilename)

    def __getitem__(self, number: int) -> str:
        try:
            return self.symbol_of[number]
        except KeyError:
            raise NgtrainError(f"{self.name} has no symbol with the number {number}") from None

    def number(self, symbol: str) -> int:
        try:
            return self.number_of[symbol]
        except KeyError:
            raise NgtrainError(f"{self.name} has no symbol {symbol}") from None

    def __contains__(self, symbol: str) -> bool:
        return symbol in self.number_of

    def __len__(self) -> int:
        return len(self.number_of)
