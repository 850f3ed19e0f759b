#!/usr/bin/env python3
"""Replace numbers by the symbols that they stand for.

Reads standard input when no file is given.
"""

from nnet.errors import NgtrainError
from nnet.symbols import SymbolTable
from utils.data_dir import open_text, print_row
from utils.driver import argument, option, tool
from utils.sym2int import parse_field_range


@tool(
    "Usage:  utils/int2sym.py [options] <symbol-table> [<input>] > <output>\n"
    " e.g.: utils/int2sym.py -f 2- data/lang/words.txt 1.tra"
)
@argument("symbol_table")
@argument("input", required=False)
@option("--field", "-f", default="1-", help="Range of fields to replace, such as 2- or 1-2")
def main(symbol_table, input, field):
    fields = parse_field_range(field)
    symbols = SymbolTable.load(symbol_table)
    with open_text(input) as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            try:
                words[fields] = [symbols[int(word)] for word in words[fields]]
            except ValueError:
                raise NgtrainError(f"{file.name}: line {number} has no number: {line}") from None
            print_row(" ".join(words) + "\n")


if __name__ == "__main__":
    main()
