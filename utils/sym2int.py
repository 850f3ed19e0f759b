#!/usr/bin/env python3
"""Replace symbols by their numbers.

Reads standard input when no file is given.  Symbols that are replaced as --map-oov says are
counted, and the first 20 are named.
"""

from nnet.decoding.symbols import SymbolTable
from nnet.drivers.data_dir import print_row
from nnet.drivers.driver import argument, log, option, tool
from nnet.drivers.fields import field_option, parse_field_range
from nnet.errors import NgtrainError
from nnet.io.text import split_words, text_lines, visible

MOST_WARNINGS = 20  # as of Kaldi's utils/sym2int.pl


@tool("""Usage:  utils/sym2int.py [options] <symbol-table> [<input>] > <output>
 e.g.: utils/sym2int.py --map-oov 3 -f 2- data/lang/words.txt data/train/text""")
@argument("symbol_table")
@argument("input", required=False)
@field_option
@option(
    "--map-oov",
    "",
    "What unknown symbols become: a symbol or a number; without it they are an error",
)
def main(symbol_table, input, field, map_oov):
    fields = parse_field_range(field)
    symbols = SymbolTable.load(symbol_table)
    unknown = str(symbols.number_of.get(map_oov, map_oov))
    if map_oov and not unknown.isdecimal():
        raise NgtrainError(f"--map-oov={map_oov}: not a symbol of {symbol_table}")
    num_words = num_unknown = 0
    for number, line in enumerate(text_lines(input or "-"), 1):
        words = split_words(line)
        ids = [symbols.number_of.get(word) for word in words[fields]]
        for position, id in enumerate(ids):
            if id is not None:
                continue
            word = visible(words[fields][position])
            if not map_oov:
                where = f"{input or '<stdin>'}: line {number}"
                raise NgtrainError(f"{where}: {word} is not in {symbol_table}")
            num_unknown += 1
            if num_unknown <= MOST_WARNINGS:
                log.warning(f"replacing {word} with {unknown}")
            if num_unknown == MOST_WARNINGS:
                log.warning("not warning of each unknown word any more")
        num_words += len(ids)
        words[fields] = [unknown if id is None else str(id) for id in ids]
        print_row(" ".join(words))
    if num_unknown:
        log.warning(f"replaced {num_unknown} of {num_words} words with {map_oov}")


if __name__ == "__main__":
    main()
