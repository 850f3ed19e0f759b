"""Directories of what steps/decode.py decoded, with files for each LMWT and PENALTY."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError
from nnet.io.log_lines import WER
from nnet.io.text import ENCODING, split_words, text_lines, write_lines


class ScoredSetting(NamedTuple):
    """An inverse acoustic scale and a word insertion penalty, as they stand in file names."""

    lmwt: str
    penalty: str

    @property
    def values(self) -> tuple[float, float]:
        return float(self.penalty), float(self.lmwt)


def make_room(directory: Path, num_jobs: int) -> None:
    """Make the folders for results of so many jobs, without those of a run before."""
    for name in "log", "scoring":
        (directory / name).mkdir(parents=True, exist_ok=True)
    for pattern in "scoring/*.tra", "lat.*.gz":
        for old in directory.glob(pattern):
            old.unlink()
    write_lines(directory / "num_jobs", [str(num_jobs)])


def find_transcripts(directory: Path) -> dict[ScoredSetting, list[Path]]:
    """Find the files scoring/LMWT_PENALTY.JOB.tra, by setting."""
    found: dict[ScoredSetting, list[Path]] = {}
    for path in directory.glob("scoring/*.tra"):
        if match := re.fullmatch(r"([^_]+)_([^_]+)\.\d+\.tra", path.name):
            found.setdefault(ScoredSetting(*match.groups()), []).append(path)
    return dict(sorted(found.items(), key=lambda item: item[0].values))


def read_transcripts(files: list[Path], words: SymbolTable) -> dict[str, list[str]]:
    rows = [split_words(line) for file in files for line in text_lines(file)]
    return {key: [words[int(number)] for number in numbers] for key, *numbers in rows}


def wer_file(directory: Path, setting: ScoredSetting) -> Path:
    return directory / f"wer_{setting.lmwt}_{setting.penalty}"


def read_results(directory: Path) -> dict[ScoredSetting, int]:
    """Read the number of errors of each setting, from the files that scoring wrote."""
    results = {}
    for path in directory.glob("wer_*_*"):
        if match := re.match(WER.pattern, path.read_text(**ENCODING)):
            _, lmwt, penalty = path.name.split("_")
            results[ScoredSetting(lmwt, penalty)] = int(match[2])
    if not results:
        raise NgtrainError(f"{directory} has not been scored: it has no wer_LMWT_PENALTY")
    return results


def chosen_setting(directory: Path) -> ScoredSetting:
    """Read the setting of tuned_wer or, if it is not there, of best_wer.  Raises NgtrainError."""
    files = [directory / name for name in ("tuned_wer", "best_wer")]
    line = next((" ".join(text_lines(file)) for file in files if file.is_file()), "")
    if match := re.search(r"wer_([^_/ ]+)_([^_/ ]+)$", line.strip()):
        return ScoredSetting(*match.groups())
    raise NgtrainError(f"{directory} has no best_wer: steps/score.py makes it")


def middle_of_best(results: dict[ScoredSetting, int]) -> ScoredSetting:
    """Pick the middle one of the settings with the fewest errors: the least accidental."""
    fewest = min(results.values())
    best = sorted((s for s in results if results[s] == fewest), key=lambda s: s.values)
    return best[len(best) // 2]


def tuned_setting(directory: Path, there: Container[ScoredSetting], tune_on: str) -> ScoredSetting:
    """Find the setting that was best in another directory; NgtrainError if it is not `there`."""
    tuned = middle_of_best(read_results(Path(tune_on)))
    if tuned not in there:
        raise NgtrainError(f"{directory} was not decoded with LMWT {' and penalty '.join(tuned)}")
    return tuned
