#!/usr/bin/env python3
"""Replace symbols by their numbers.

Reads standard input when no file is given.
"""

from nnet.errors import NgtrainError
from nnet.symbols import SymbolTable
from utils.data_dir import open_text, print_row
from utils.driver import argument, option, tool


def parse_field_range(text: str) -> slice:
    """`2`, `2-`, `2-5` or `-5`, counted from 1, as a slice."""
    first, dash, last = text.partition("-")
    try:
        begin = int(first or 1)
        end = int(last) if last else None if dash else begin
    except ValueError:
        begin, end = 0, None
    if begin < 1 or (end is not None and end < begin):
        raise NgtrainError(f"--field={text}: expected a range of fields such as 2- or 1-2")
    return slice(begin - 1, end)


@tool(
    "Usage:  utils/sym2int.py [options] <symbol-table> [<input>] > <output>\n"
    " e.g.: utils/sym2int.py --map-oov 3 -f 2- data/lang/words.txt data/train/text"
)
@argument("symbol_table")
@argument("input", required=False)
@option("--field", "-f", default="1-", help="Range of fields to replace, such as 2- or 1-2")
@option(
    "--map-oov",
    default="",
    help="What unknown symbols become: a symbol or a number; without it they are an error",
)
def main(symbol_table, input, field, map_oov):
    fields = parse_field_range(field)
    symbols = SymbolTable.load(symbol_table)
    unknown = str(symbols.number_of.get(map_oov, map_oov))
    if map_oov and not unknown.isdecimal():
        raise NgtrainError(f"--map-oov={map_oov}: not a symbol of {symbol_table}")
    with open_text(input) as file:
        for line in file:
            words = line.split()
            words[fields] = [
                unknown if map_oov and word not in symbols else str(symbols.number(word))
                for word in words[fields]
            ]
            print_row(" ".join(words) + "\n")


if __name__ == "__main__":
    main()
