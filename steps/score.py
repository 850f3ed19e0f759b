#!/usr/bin/env python3
"""Score what steps/decode.py decoded: word error rates for every acoustic scale and penalty.

Writes into <decode-dir> wer_LMWT_PENALTY with the lines of compute-wer, and best_wer with the line
of the best of them, as Kaldi's scoring does.  The best over many settings flatters: with --tune-on,
LMWT and PENALTY are those that were best in another decoding directory, scored before, of data that
was held out for this; the result is in tuned_wer.

wer_details/ has the errors of that result, or else of the best: per_utt, each utterance word by
word; ops, how often which word was recognised as which; per_spk, each speaker's; and interval, that
of 95 % of its word error rate, by bootstrap over speakers.  With --compare, wer_details/difference
says how much lower or higher it is than the result of another decoding directory of the same data,
which was scored before, with the interval of that.
"""

from pathlib import Path

from nnet.decoding.error_details import ErrorDetails, speakers_of, wer_interval, words_and_errors
from nnet.decoding.scoring import WordErrors, score
from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import check_transcripts
from nnet.drivers.data_dir import read_table
from nnet.drivers.decode_dir import (
    ScoredSetting,
    find_transcripts,
    read_transcripts,
    tuned_setting,
    wer_file,
)
from nnet.drivers.driver import argument, driver, log, option
from nnet.drivers.programs import require_files
from nnet.errors import NgtrainError
from nnet.io.text import split_words, text_lines, write_lines


@driver(
    "Usage:  steps/score.py [options] <data> <lang-dir|graph-dir> <decode-dir>\n"
    " e.g.:  steps/score.py --tune-on exp/nnet4/decode_dev data/test exp/tri2/graph "
    "exp/nnet4/decode_test",
    writes="decode_dir",
)
@argument("data", "graph_dir", "decode_dir", type=Path)
@option("--min-lmwt", 0.0, "Least value of LMWT to look at")
@option("--max-lmwt", 1000.0, "Greatest value of LMWT to look at")
@option("--tune-on", "", "Take LMWT and PENALTY that are best in this directory")
@option("--compare", "", "Compare with the result in this directory, speaker by speaker")
def main(data, graph_dir, decode_dir, min_lmwt, max_lmwt, tune_on, compare):
    directory = decode_dir
    require_files(data / "text", data / "utt2spk", graph_dir / "words.txt")
    words = SymbolTable.load(f"{graph_dir}/words.txt")
    check_transcripts(data / "text", words)
    references = {key: split_words(text) for key, text in read_table(data / "text").items()}
    transcripts, results = find_transcripts(directory), {}
    for setting, files in transcripts.items():
        if min_lmwt <= float(setting.lmwt) <= max_lmwt:
            hypotheses = read_transcripts(files, words)
            results[setting] = score(references.items(), hypotheses, "present")
            write_lines(wer_file(directory, setting), str(results[setting]).splitlines())
    if not results:
        raise NgtrainError(f"{directory}/scoring has no transcripts in the range of LMWT")
    best = min(results, key=lambda setting: results[setting].total)
    write_result(directory / "best_wer", directory, best, results[best])
    if tune_on:
        tuned = tuned_setting(directory, results, tune_on)
        write_result(directory / "tuned_wer", directory, tuned, results[tuned])
    shown = tuned if tune_on else best
    hypotheses = read_transcripts(transcripts[shown], words)
    details = ErrorDetails(references.items(), hypotheses)
    write_details(directory / "wer_details", details, read_table(data / "utt2spk"))
    if compare:
        write_difference(directory / "wer_details", Path(compare, "wer_details"))


def write_details(folder: Path, details: ErrorDetails, speaker_of: dict[str, str]) -> None:
    """Write the files of a result that show its errors, and name the most frequent ones."""
    folder.mkdir(exist_ok=True)
    write_lines(folder / "per_utt", details.per_utt)
    write_lines(folder / "ops", details.op_lines())
    write_lines(folder / "per_spk", details.speaker_lines(speaker_of))
    speakers = details.speakers(speaker_of).values()
    low, high = wer_interval(speakers)
    interval = (
        f"95 % interval {low:.2f} to {high:.2f} %WER, by bootstrap over {len(speakers)} speakers"
    )
    write_lines(folder / "interval", [interval])
    log.info(interval)
    if confused := details.most_confused():
        log.info(f"{folder}/ops: most frequent are {confused}")


def write_difference(folder: Path, other: Path) -> None:
    """Write and say how a word error rate differs from that of the same words elsewhere."""
    require_files(other / "per_spk")
    ours, theirs = (speakers_of(text_lines(each / "per_spk")) for each in (folder, other))
    counts = [{name: words_and_errors(kinds) for name, kinds in s.items()} for s in (ours, theirs)]
    words = [{name: count[0] for name, count in each.items()} for each in counts]
    if words[0] != words[1]:
        raise NgtrainError(f"{other}/per_spk: other speakers or words than in {folder}/per_spk")
    errors = [sum(count[1] for count in each.values()) for each in counts]
    low, high = wer_interval(ours.values(), theirs.values())
    line = (
        f"{100 * (errors[0] - errors[1]) / sum(words[0].values()):+.2f} %WER against "
        f"{other.parent}, 95 % interval {low:+.2f} to {high:+.2f}"
    )
    write_lines(folder / "difference", [line])
    log.info(line)


def write_result(path: Path, directory: Path, setting: ScoredSetting, errors: WordErrors) -> None:
    line = f"{str(errors).splitlines()[0]} {wer_file(directory, setting)}"
    write_lines(path, [line])
    log.info(f"{path.name}: {line}")


if __name__ == "__main__":
    main()
