"""Splitting for parallel jobs: lists, and data directories in no more parts than are possible."""

from itertools import pairwise
from pathlib import Path

from nnet.drivers.data_dir import read_rows
from nnet.drivers.driver import log
from nnet.drivers.programs import output_of
from nnet.errors import NgtrainError


def split_by_speaker(data: Path, nj: int) -> tuple[Path, int]:
    """Split into `nj` parts, or as many as speakers; gives directory and number of the parts.

    Alignment directories need this: what reads them later splits the data by speakers again.
    """
    num_speakers = len({speaker for _, speaker in read_rows(data / "utt2spk")})
    if num_speakers < nj:
        log.info(f"{data} has only {num_speakers} speakers: using {num_speakers} jobs, not {nj}")
        nj = num_speakers
    output_of("split_data.py", data, nj)
    return data / f"split{nj}", nj


def split_anywhere(data: Path, nj: int) -> tuple[Path, int]:
    """Split into `nj` parts, across speakers if these are fewer than that."""
    utterances = read_rows(data / "utt2spk")
    nj = min(nj, len(utterances))
    if len({speaker for _, speaker in utterances}) >= nj:
        output_of("split_data.py", data, nj)
        return data / f"split{nj}", nj
    output_of("split_data.py", "--per-utt", data, nj)
    return data / f"split{nj}utt", nj


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
