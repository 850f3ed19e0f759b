#!/usr/bin/env python3
"""Check an alignment directory, and say all that is wrong with it, a line for each problem.

It has num_jobs, tree, final.mdl and ali.1.gz to ali.<num_jobs>.gz, tree and final.mdl are of one
system, the transition-ids in the alignments are those of final.mdl, and no utterance is in two
archives.  With a data directory, the aligned utterances are in it, and the alignments are as long
as its utt2num_frames says.
"""

from pathlib import Path

from nnet.drivers.ali_dir import MOST_JOBS, alignments_in, mismatch
from nnet.drivers.data_dir import DataDir
from nnet.drivers.driver import argument, log, output_of, read_integer, tool
from nnet.errors import NgtrainError
from nnet.io.text import split_words
from nnet.launch.commands import unzipped


def aligned_lengths(model: Path | None, archive: Path) -> list[tuple[str, int]]:
    """The number of frames of each utterance in an archive of alignments.

    Raises NgtrainError if the archive cannot be read, or does not match the model, if there is one.
    """
    read = ["ali-to-pdf", model] if model is not None else ["copy-int-vector"]
    ids = output_of(*read, unzipped(archive), "ark,t:-")
    rows = (split_words(line) for line in ids.split("\n") if line)
    return [(key, len(ids)) for key, *ids in rows]


def problems_of(*command) -> list[str]:
    """What a program that reads a file says of it: a line, or nothing."""
    try:
        output_of(*command)
    except NgtrainError as error:
        return [str(error)]
    return []


def archives_of(ali_dir: Path) -> tuple[list[Path], list[str]]:
    """The archives that are there, and what is wrong with their numbers."""
    there = alignments_in(ali_dir)
    try:
        num_jobs = read_integer(ali_dir / "num_jobs")
    except NgtrainError as error:
        return there, [str(error)]
    if num_jobs > MOST_JOBS:
        return there, [f"{ali_dir / 'num_jobs'}: {num_jobs} is no number of jobs"]
    wanted = {ali_dir / f"ali.{job}.gz" for job in range(1, num_jobs + 1)}
    problems = [f"{path}: there is no such file" for path in sorted(wanted - set(there))]
    for path in sorted(set(there) - wanted):
        problems.append(f"{path}: it is left over, as num_jobs is {num_jobs}")
    return there, problems


def compare(lengths: dict[str, int], data_dir: Path) -> list[str]:
    """What of the alignments does not fit the data."""
    data = DataDir.read(data_dir)
    foreign = sorted(lengths.keys() - data["utt2spk"].keys())
    num_missing = len(data["utt2spk"].keys() - lengths.keys())
    if num_missing:
        log.warning(f"{num_missing} of {len(data['utt2spk'])} utterances have no alignment")
    problems = []
    if foreign:
        problems.append(f"{len(foreign)} aligned utterances are not in it, such as {foreign[0]}")
    num_frames = data.tables.get("utt2num_frames", {})
    wrong = [utt for utt, n in lengths.items() if num_frames.get(utt, str(n)) != str(n)]
    if wrong:
        example = f"{wrong[0]}: {num_frames[wrong[0]]} frames and {lengths[wrong[0]]} in alignment"
        problems.append(f"{len(wrong)} lengths differ from utt2num_frames, such as {example}")
    return [f"{data_dir}: {problem}" for problem in problems]


@tool("""Usage:  utils/validate_ali_dir.py <ali-dir> [<data-dir>]
 e.g.: utils/validate_ali_dir.py exp/tri2_ali data/train""")
@argument("ali_dir")
@argument("data_dir", required=False)
def main(ali_dir, data_dir):
    path = Path(ali_dir)
    if not path.is_dir():
        raise NgtrainError(f"no such directory: {path}")
    archives, problems = archives_of(path)
    lengths: dict[str, int] = {}
    of_tree = problems_of("tree-info", path / "tree")
    problems += of_tree
    of_model = problems_of("copy-transition-model", path / "final.mdl", "/dev/null")
    problems += of_model
    model = None if of_model else path / "final.mdl"
    if not of_tree and not of_model and (reason := mismatch(path / "tree", model)):
        problems.append(reason)
    for archive in archives:
        try:
            aligned = aligned_lengths(model, archive)
        except NgtrainError as error:
            problems.append(f"{archive}: {error}")
            continue
        again = [utterance for utterance, _ in aligned if utterance in lengths]
        if again:
            reason = f"{len(again)} utterances are aligned in another archive, too, such as"
            problems.append(f"{archive}: {reason} {again[0]}")
        lengths.update(aligned)
    if data_dir and lengths:
        try:
            problems += compare(lengths, Path(data_dir))
        except NgtrainError as error:
            problems.append(str(error))
    for problem in problems:
        log.error(problem)
    if problems:
        return 1
    log.info(f"Successfully validated alignment directory {path}: {len(lengths)} utterances")


if __name__ == "__main__":
    main()
