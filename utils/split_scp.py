#!/usr/bin/env python3
"""Split a file into parts of about the same number of lines, in order.

With --utt2spk all lines of a speaker go to the same part.
"""

from nnet.drivers.data_dir import read_table, split_row
from nnet.drivers.driver import argument, option, tool
from nnet.drivers.splitting import split_evenly, split_groups
from nnet.errors import NgtrainError
from nnet.io.text import text_lines, write_lines


@tool("""Usage:  utils/split_scp.py [--utt2spk=<utt2spk>] <in.scp> <out1.scp> [<out2.scp> ...]
 e.g.: utils/split_scp.py --utt2spk=data/train/utt2spk data/train/feats.scp 1.scp 2.scp""")
@argument("in_scp")
@argument("out_scps", nargs=-1)
@option("--utt2spk", "", "Keep the lines of a speaker together, by this file")
def main(in_scp, out_scps, utt2spk):
    lines = list(text_lines(in_scp))
    if not utt2spk:
        parts = split_evenly(lines, len(out_scps))
    else:
        speakers = read_table(utt2spk)
        groups: dict[str, list[str]] = {}
        for number, line in enumerate(lines, 1):
            utterance, _ = split_row(line, f"{in_scp}: line {number}")
            if utterance not in speakers:
                raise NgtrainError(f"{in_scp}: line {number}: {utterance} is not in {utt2spk}")
            groups.setdefault(speakers[utterance], []).append(line)
        parts = split_groups(list(groups.values()), len(out_scps))
    for path, part in zip(out_scps, parts, strict=True):
        write_lines(path, part)


if __name__ == "__main__":
    main()
