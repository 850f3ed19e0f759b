#!/usr/bin/env python3
"""Score what steps/decode.py decoded by the rules of NIST's evaluations of conversational speech.

<data> has, besides segments, the references `stm` and the mapping rules `glm` of the evaluation.
Each of --subsets is scored for itself, too.  Results are in <decode-dir>/nist_wer, for the setting
that has the fewest errors or, with --tune-on, for the one that was best on other data; the words
with times, as NIST's programs read them, are in <decode-dir>/nist/LMWT_PENALTY/.

hubscr.pl of NIST's scoring toolkit scores if it is found (on the PATH, in
$KALDI_ROOT/tools/sctk/bin or /usr/lib/sctk/bin); otherwise nnet.decoding.nist does, which
follows the same rules: see there.  The words of an utterance share its time equally: only in which
segment of the references a word is matters, and utterances are not longer than these.  Before
that, as in Kaldi's recipes, noises, unknown words, fragments and hesitations are removed from what
was decoded, none of which can be right, and a._b._c. becomes a. b. c.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from nnet.decoding.scoring import WordErrors
from nnet.decoding.symbols import SymbolTable
from nnet.drivers.data_dir import read_table
from nnet.drivers.decode_dir import find_transcripts, read_transcripts, tuned_setting
from nnet.drivers.driver import Choice, argument, driver, log, option
from nnet.drivers.programs import require_files
from nnet.errors import NgtrainError
from nnet.io.text import text_lines, write_lines

ALL = "all"


@driver(
    "Usage:  steps/score_nist.py [options] <data> <lang-dir|graph-dir> <decode-dir>\n"
    " e.g.:  steps/score_nist.py --tune-on exp/nnet/decode_dev --subsets 'swbd=sw_ callhome=en_' "
    "data/eval2000 exp/graph exp/nnet/decode_eval2000",
    writes="decode_dir",
)
@argument("data", "graph_dir", "decode_dir", type=Path)
@option("--tune-on", "", "Take LMWT and PENALTY that are best in this directory")
@option("--subsets", "", "NAME=PREFIX of recordings to score for themselves, ...")
@option(
    "--scorer", "auto", type=Choice(["auto", "sclite", "own"]),
    help="sclite: NIST's hubscr.pl and sclite; own: nnet.decoding.nist; auto: sclite if found",
)  # fmt: skip
def main(data, graph_dir, decode_dir, tune_on, subsets, scorer):
    directory = decode_dir
    require_files(data / "stm", data / "glm", data / "segments", graph_dir / "words.txt")
    hubscr = None if scorer == "own" else find_hubscr()
    if scorer == "sclite" and not hubscr:
        raise NgtrainError("there is no hubscr.pl: is $KALDI_ROOT/tools/sctk compiled?")
    words = SymbolTable.load(f"{graph_dir}/words.txt")
    found = find_transcripts(directory)
    if tune_on:
        setting = tuned_setting(directory, found, tune_on)
        found = {setting: found[setting]}
    if not found:
        raise NgtrainError(f"{directory}/scoring has no transcripts")

    score = Scorer(data, parse_subsets(subsets), hubscr)
    results = {
        setting: score(read_transcripts(files, words), directory / "nist" / "_".join(setting))
        for setting, files in found.items()
    }
    best = min(results, key=lambda setting: results[setting][ALL].total)
    name = "sclite" if hubscr else "nnet.decoding.nist"
    lines = [
        f"{str(errors).splitlines()[0]} {subset} {'_'.join(best)} ({name})"
        for subset, errors in results[best].items()
    ]
    write_lines(directory / "nist_wer", lines)
    for line in lines:
        log.info(line)


def find_hubscr() -> str | None:
    places = [os.environ.get("PATH", ""), "/usr/lib/sctk/bin"]
    if "KALDI_ROOT" in os.environ:
        places.insert(1, f"{os.environ['KALDI_ROOT']}/tools/sctk/bin")
    return shutil.which("hubscr.pl", path=os.pathsep.join(places))


def parse_subsets(text: str) -> dict[str, str]:
    """Read the prefix of recordings of each subset; all of them first."""
    prefixes = {ALL: ""}
    for word in text.split():
        name, equals, prefix = word.partition("=")
        if not equals or not re.fullmatch(r"\w+", name) or name == ALL:
            raise NgtrainError(f"--subsets: expected NAME=PREFIX, got '{word}'")
        prefixes[name] = prefix
    return prefixes


class Scorer:
    """Scores the words of one setting after the other.

    prefixes: of the recordings of each subset.
    hubscr: NIST's program, or None to do without.
    """

    def __init__(self, data: Path, prefixes: dict[str, str], hubscr: str | None):
        from nnet.decoding.nist import HESITATION, MappingRules, read_stm

        self.data, self.prefixes, self.hubscr = data, prefixes, hubscr
        self.place = {
            utterance: place_of(value, f"{data}/segments: {utterance}")
            for utterance, value in read_table(data / "segments").items()
        }
        self.segments = read_stm(str(data / "stm"))
        self.reference_rules = MappingRules.load(str(data / "glm"), ("stm", "ref"))
        self.rules = MappingRules.load(str(data / "glm"), ("ctm", "hyp"))
        self.hesitations = {HESITATION, f"({HESITATION})"}

    def __call__(self, transcripts: dict[str, list[str]], directory: Path) -> dict[str, WordErrors]:
        """Count the errors of each subset; files are kept in `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        words = sorted(self.timed_words(transcripts))
        results = {}
        for subset, prefix in self.prefixes.items():
            part = [word for word in words if word.recording.startswith(prefix)]
            ctm = directory / f"{subset}.ctm"
            write_lines(ctm, map(ctm_line, part))
            results[subset] = (self.run_hubscr if self.hubscr else self.score)(ctm, part, prefix)
        return results

    def timed_words(self, transcripts: dict[str, list[str]]) -> Iterator:
        from nnet.decoding.nist import TimedWord

        for utterance, transcript in transcripts.items():
            if utterance not in self.place:
                raise NgtrainError(f"{self.data}/segments has no utterance {utterance}")
            recording, start, end, channel = self.place[utterance]
            said = [part for word in transcript for part in word.replace("_", " ").split()]
            said = [word for word in said if self.counts(word)]
            duration = (end - start) / max(len(said), 1)
            for n, word in enumerate(said):
                yield TimedWord(recording, channel, start + n * duration, duration, word)

    def counts(self, word: str) -> bool:
        """Tell whether a word could be right."""
        is_fragment_or_noise = word[0] in "[<" or word.endswith("-")
        return not is_fragment_or_noise and self.rules.apply(word) not in self.hesitations

    def score(self, ctm: Path, words: list, prefix: str) -> WordErrors:
        from nnet.decoding.nist import score

        segments = [s for s in self.segments if s.recording.startswith(prefix)]
        return score(segments, words, self.reference_rules, self.rules)

    def run_hubscr(self, ctm: Path, words: list, prefix: str) -> WordErrors:
        stm, log_file = ctm.with_suffix(".stm"), ctm.with_suffix(".log")
        lines = text_lines(self.data / "stm")
        write_lines(stm, (line for line in lines if line.startswith((";;", prefix))))
        command = [
            self.hubscr, "-p", str(Path(self.hubscr).parent), "-V", "-l", "english", "-h", "hub5",
            "-g", str(self.data / "glm"), "-r", str(stm), str(ctm),
        ]  # fmt: skip
        with log_file.open("w") as file:
            status = subprocess.run(command, stdout=file, stderr=file, check=False).returncode
        raw = Path(f"{ctm}.filt.raw")
        said = raw.read_text(errors="replace") if raw.exists() else ""
        match = re.search(r"\| *Sum +\|([ \d|]+)\|", said)
        if status or not match:
            raise NgtrainError(f"hubscr.pl failed with status {status}; see {log_file}")
        numbers = map(int, match[1].replace("|", " ").split())
        sentences, num_words, _, sub, dele, ins, _, wrong = numbers
        return WordErrors(num_words, ins, dele, sub, sentences, wrong)


def ctm_line(word) -> str:
    return f"{word.recording} {word.channel} {word.start:.3f} {word.duration:.3f} {word.word}"


def place_of(segment: str, where: str) -> tuple[str, float, float, str]:
    """Read recording, start, end and channel (A, B, ...) in a line of segments."""
    try:
        recording, start, end, *channel = segment.split()
        return recording, float(start), float(end), chr(ord("A") + int("".join(channel) or 0))
    except ValueError:
        raise NgtrainError(f"{where}: expected recording, start, end and perhaps channel") from None


if __name__ == "__main__":
    main()
