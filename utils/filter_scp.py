#!/usr/bin/env python3
"""Print the lines of a file whose first field is in a list of keys.

The list is any file whose lines begin with the keys.  Reads standard input when no file is given.
"""

from nnet.drivers.data_dir import print_row, read_rows
from nnet.drivers.driver import argument, option, tool
from nnet.errors import NgtrainError
from nnet.io.text import split_words, text_lines


@tool("""Usage:  utils/filter_scp.py [options] <id-list> [<in.scp>] > <out.scp>
 e.g.: utils/filter_scp.py --exclude data/dev/utt2spk data/all/feats.scp > feats.scp""")
@argument("id_list")
@argument("in_scp", required=False)
@option("--exclude", False, "Print the lines that are not in the list")
@option("--field", 1, "Which field is looked up, counted from 1", "-f")
def main(id_list, in_scp, exclude, field):
    if field < 1:
        raise NgtrainError(f"--field={field}: fields are counted from 1")
    ids = {key for key, _ in read_rows(id_list)}
    for number, line in enumerate(text_lines(in_scp or "-"), 1):
        fields = split_words(line)
        if len(fields) < field:
            where = f"{in_scp or '<stdin>'}: line {number}"
            raise NgtrainError(f"{where} has no field {field}: {line}")
        if (fields[field - 1] in ids) != exclude:
            print_row(line)


if __name__ == "__main__":
    main()
