#!/usr/bin/env python3
"""Score what steps/decode.py decoded: word error rates for every acoustic scale and penalty.

Writes into <decode-dir> wer_LMWT_PENALTY with the lines of compute-wer, and best_wer with the line
of the best of them, as Kaldi's scoring does.  The best over many settings flatters: with --tune-on,
LMWT and PENALTY are those that were best in another decoding directory, scored before, of data that
was held out for this; the result is in tuned_wer.
"""

import re
from pathlib import Path
from typing import NamedTuple

from nnet.decoding.scoring import WordErrors, score
from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import check_transcripts
from nnet.drivers.data_dir import read_table, write_lines
from nnet.drivers.driver import argument, driver, log, option, require_files
from nnet.errors import NgtrainError
from nnet.io.text import ENCODING, split_words, text_lines


class Setting(NamedTuple):
    """An inverse acoustic scale and a word insertion penalty, as they stand in file names."""

    lmwt: str
    penalty: str

    @property
    def values(self) -> tuple[float, float]:
        return float(self.penalty), float(self.lmwt)


@driver(
    "Usage:  steps/score.py [options] <data> <lang-dir|graph-dir> <decode-dir>\n"
    " e.g.:  steps/score.py --tune-on exp/nnet4/decode_dev data/test exp/tri2/graph "
    "exp/nnet4/decode_test",
    writes="decode_dir",
)
@argument("data")
@argument("graph_dir")
@argument("decode_dir")
@option("--min-lmwt", type=float, default=0.0, help="Least value of LMWT to look at")
@option("--max-lmwt", type=float, default=1000.0, help="Greatest value of LMWT to look at")
@option("--tune-on", default="", help="Take LMWT and PENALTY that are best in this directory")
def main(data, graph_dir, decode_dir, min_lmwt, max_lmwt, tune_on):
    directory = Path(decode_dir)
    require_files(f"{data}/text", f"{graph_dir}/words.txt")
    words = SymbolTable.load(f"{graph_dir}/words.txt")
    check_transcripts(Path(data, "text"), words)
    references = {key: split_words(text) for key, text in read_table(f"{data}/text").items()}
    results = {}
    for setting, files in find_transcripts(directory).items():
        if min_lmwt <= float(setting.lmwt) <= max_lmwt:
            hypotheses = read_transcripts(files, words)
            results[setting] = score(references.items(), hypotheses, "present")
            write_lines(wer_file(directory, setting), str(results[setting]).splitlines())
    if not results:
        raise NgtrainError(f"{directory}/scoring has no transcripts in the range of LMWT")
    best = min(results, key=lambda setting: results[setting].total)
    write_result(directory / "best_wer", directory, best, results[best])
    if tune_on:
        tuned = middle_of_best(read_results(Path(tune_on)))
        if tuned not in results:
            raise NgtrainError(
                f"{directory} was not decoded with LMWT {' and penalty '.join(tuned)}"
            )
        write_result(directory / "tuned_wer", directory, tuned, results[tuned])


def find_transcripts(directory: Path) -> dict[Setting, list[Path]]:
    """The files scoring/LMWT_PENALTY.JOB.tra, by setting."""
    found: dict[Setting, list[Path]] = {}
    for path in directory.glob("scoring/*.tra"):
        if match := re.fullmatch(r"([^_]+)_([^_]+)\.\d+\.tra", path.name):
            found.setdefault(Setting(*match.groups()), []).append(path)
    return dict(sorted(found.items(), key=lambda item: item[0].values))


def read_transcripts(files: list[Path], words: SymbolTable) -> dict[str, list[str]]:
    rows = [split_words(line) for file in files for line in text_lines(file)]
    return {key: [words[int(number)] for number in numbers] for key, *numbers in rows}


def wer_file(directory: Path, setting: Setting) -> Path:
    return directory / f"wer_{setting.lmwt}_{setting.penalty}"


def read_results(directory: Path) -> dict[Setting, int]:
    """The number of errors of each setting, from the files that scoring wrote."""
    results = {}
    for path in directory.glob("wer_*_*"):
        match = re.match(r"%WER \S+ \[ (\d+) / ", path.read_text(**ENCODING))
        if match:
            _, lmwt, penalty = path.name.split("_")
            results[Setting(lmwt, penalty)] = int(match[1])
    if not results:
        raise NgtrainError(f"{directory} has not been scored: it has no wer_LMWT_PENALTY")
    return results


def middle_of_best(results: dict[Setting, int]) -> Setting:
    """Of the settings with the fewest errors the one in the middle: the least accidental."""
    fewest = min(results.values())
    best = sorted((s for s in results if results[s] == fewest), key=lambda s: s.values)
    return best[len(best) // 2]


def write_result(path: Path, directory: Path, setting: Setting, errors: WordErrors) -> None:
    line = f"{str(errors).splitlines()[0]} {wer_file(directory, setting)}"
    write_lines(path, [line])
    log.info(f"{path.name}: {line}")


if __name__ == "__main__":
    main()
