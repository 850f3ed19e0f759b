#!/usr/bin/env python3
"""Replace numbers by the symbols that they stand for.

Reads standard input when no file is given.
"""

from nnet.decoding.symbols import SymbolTable
from nnet.drivers.data_dir import print_row
from nnet.drivers.driver import argument, tool
from nnet.drivers.fields import field_option, parse_field_range
from nnet.errors import NgtrainError
from nnet.io.numbers import natural
from nnet.io.text import split_words, text_lines


@tool("""Usage:  utils/int2sym.py [options] <symbol-table> [<input>] > <output>
 e.g.: utils/int2sym.py -f 2- data/lang/words.txt 1.tra""")
@argument("symbol_table")
@argument("input", required=False)
@field_option
def main(symbol_table, input, field):
    fields = parse_field_range(field)
    symbols = SymbolTable.load(symbol_table)
    for number, line in enumerate(text_lines(input or "-"), 1):
        words = split_words(line)
        try:
            words[fields] = [symbols[natural(word)] for word in words[fields]]
        except ValueError:
            where = f"{input or '<stdin>'}: line {number}"
            raise NgtrainError(f"{where} has something else than numbers: {line}") from None
        print_row(" ".join(words))


if __name__ == "__main__":
    main()
