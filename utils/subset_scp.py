#!/usr/bin/env python3
"""Print <n> lines of a file, spread evenly over it, in order.

Spreading avoids taking many utterances of few speakers. With --first or --last, they come from the
beginning or the end of the file.
"""

from nnet.drivers.data_dir import print_row
from nnet.drivers.driver import argument, option, tool
from nnet.errors import NgtrainError
from nnet.io.text import text_lines


@tool("""Usage:  utils/subset_scp.py [options] <n> <in.scp> > <out.scp>
 e.g.: utils/subset_scp.py 500 data/train/feats.scp > feats.scp""")
@argument("n", type=int)
@argument("in_scp")
@option("--quiet", False, "Print all lines if there are fewer than <n>")
@option("--first", False, "Print the first lines")
@option("--last", False, "Print the last lines")
def main(n, in_scp, quiet, first, last):
    rows = list(text_lines(in_scp))
    if n < 1:
        raise NgtrainError(f"<n> is a positive number, not {n}")
    if n > len(rows) and not quiet:
        raise NgtrainError(f"{in_scp} has {len(rows)} lines, fewer than {n}")
    n = min(n, len(rows))
    if first:
        chosen = range(n)
    elif last:
        chosen = range(len(rows) - n, len(rows))
    else:
        chosen = [i * len(rows) // n for i in range(n)]
    for i in chosen:
        print_row(rows[i])


if __name__ == "__main__":
    main()
