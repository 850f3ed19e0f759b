#!/usr/bin/env python3
"""Split a file into parts of about the same number of lines, in order.

With --utt2spk all lines of a speaker go to the same part.
"""

from itertools import pairwise

from nnet.drivers.data_dir import read_table, split_row, write_lines
from nnet.drivers.driver import argument, option, tool
from nnet.errors import NgtrainError
from nnet.io.text import text_lines


def split_evenly(items: list, num_parts: int) -> list[list]:
    """Cut `items` into `num_parts` runs whose lengths differ by at most one, longer ones first."""
    if len(items) < num_parts:
        raise NgtrainError(f"cannot split {len(items)} lines into {num_parts} parts")
    length, longer = divmod(len(items), num_parts)
    cuts = [n * length + min(n, longer) for n in range(num_parts + 1)]
    return [items[begin:end] for begin, end in pairwise(cuts)]


def split_groups(groups: list[list], num_parts: int) -> list[list]:
    """Cut a list of groups into `num_parts` runs with about the same number of items.

    Starts from about as many groups in each part, and moves a group across a cut as long as that
    makes the two parts beside the cut more equal: the sum of the squared sizes falls with each
    move, so it ends (Kaldi's split_scp.pl).  Raises NgtrainError if there are too few groups.
    """
    if len(groups) < num_parts:
        raise NgtrainError(f"cannot split {len(groups)} speakers into {num_parts} parts")
    parts: list[list[list]] = [[] for _ in range(num_parts)]
    for index, group in enumerate(groups):
        parts[index * num_parts // len(groups)].append(group)
    sizes = [sum(map(len, part)) for part in parts]
    moved = True
    while moved:
        moved = False
        for here in range(num_parts):
            for there, end in (here + 1, -1), (here - 1, 0):
                if len(parts[here]) == 1 or not 0 <= there < num_parts:
                    continue
                size = len(parts[here][end])
                difference = sizes[there] - sizes[here]
                if abs(difference + 2 * size) < abs(difference):
                    parts[there].insert(0 if end else len(parts[there]), parts[here].pop(end))
                    sizes[here] -= size
                    sizes[there] += size
                    moved = True
    return [[item for group in part for item in group] for part in parts]


@tool(
    "Usage:  utils/split_scp.py [--utt2spk=<utt2spk>] <in.scp> <out1.scp> [<out2.scp> ...]\n"
    " e.g.: utils/split_scp.py --utt2spk=data/train/utt2spk data/train/feats.scp 1.scp 2.scp"
)
@argument("in_scp")
@argument("out_scps", nargs=-1)
@option("--utt2spk", default="", help="Keep the lines of a speaker together, by this file")
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
