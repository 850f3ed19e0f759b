#!/usr/bin/env python3
"""Check an alignment directory, and say all that is wrong with it, a line for each problem.

It has num_jobs, tree, final.mdl and ali.1.gz to ali.<num_jobs>.gz, and the transition-ids in the
alignments are those of final.mdl.  With a data directory, the aligned utterances are in it, and the
alignments are as long as its utt2num_frames says.
"""

from pathlib import Path

from nnet.errors import NgtrainError
from utils.data_dir import DataDir
from utils.driver import argument, log, output_of, tool


def aligned_lengths(ali_dir: Path, archive: Path) -> dict[str, int]:
    """The number of frames of each utterance in an archive of alignments.

    Raises NgtrainError if the archive or the model cannot be read, or if they do not match.
    """
    pdfs = output_of("ali-to-pdf", ali_dir / "final.mdl", f"ark:gunzip -c {archive} |", "ark,t:-")
    return {key: len(ids) for key, *ids in map(str.split, pdfs.splitlines())}


def archives_of(ali_dir: Path) -> tuple[list[Path], list[str]]:
    """The archives that are there, and what is wrong with their numbers."""
    there = sorted(ali_dir.glob("ali.*.gz"))
    try:
        num_jobs = int((ali_dir / "num_jobs").read_text())
    except (OSError, ValueError):
        return there, [f"{ali_dir / 'num_jobs'}: there is no number of jobs in it"]
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
    wrong = [utt for utt in lengths if int(num_frames.get(utt, lengths[utt])) != lengths[utt]]
    if wrong:
        example = f"{wrong[0]}: {num_frames[wrong[0]]} frames and {lengths[wrong[0]]} in alignment"
        problems.append(f"{len(wrong)} lengths differ from utt2num_frames, such as {example}")
    return [f"{data_dir}: {problem}" for problem in problems]


@tool(
    "Usage:  utils/validate_ali_dir.py <ali-dir> [<data-dir>]\n"
    " e.g.: utils/validate_ali_dir.py exp/tri2_ali data/train"
)
@argument("ali_dir")
@argument("data_dir", required=False)
def main(ali_dir, data_dir):
    path = Path(ali_dir)
    if not path.is_dir():
        raise NgtrainError(f"no such directory: {path}")
    archives, problems = archives_of(path)
    lengths: dict[str, int] = {}
    for command in [
        ["tree-info", path / "tree"],
        ["copy-transition-model", path / "final.mdl", "/dev/null"],
    ]:
        try:
            output_of(*command)
        except NgtrainError as error:
            problems.append(str(error))
    if not problems:
        for archive in archives:
            try:
                lengths.update(aligned_lengths(path, archive))
            except NgtrainError as error:
                problems.append(f"{archive}: {error}")
    if data_dir and lengths:
        problems += compare(lengths, Path(data_dir))
    for problem in problems:
        log.error(problem)
    if problems:
        return 1
    log.info(f"Successfully validated alignment directory {path}: {len(lengths)} utterances")


if __name__ == "__main__":
    main()
