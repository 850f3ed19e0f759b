"""Split a data directory for parallel jobs, into no more parts than it can have."""

from pathlib import Path

from nnet.drivers.data_dir import read_rows
from nnet.drivers.driver import log, output_of


def split_by_speaker(data: Path, nj: int) -> tuple[Path, int]:
    """Split into `nj` parts, or as many as there are speakers if these are fewer.

    Alignment directories need this: what reads them later splits the data by speakers again.

    Returns:
        the directory of the parts, and their number.
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
