#!/usr/bin/env python3
"""Make a dictionary directory of the words of transcripts and the CMU Pronouncing Dictionary.

<cmudict> is a release such as cmudict.0.7a or cmudict-0.7b (http://www.speech.cs.cmu.edu/cgi-bin/cmudict).
Stress is left out.  A word of parts (a._b._c., with the letters a., b. and c.) is pronounced as its
parts are.  Words that are not in it are listed in <dict-dir>/oov_counts.txt, the frequent ones
first; they become <unk>.  After Kaldi's egs/fisher_english/s5/local/fisher_prepare_dict.sh.
"""

import itertools
import re
from collections import Counter
from pathlib import Path

from nnet.cli import argument, log, program
from nnet.drivers.data_dir import read_table
from nnet.errors import NgtrainError
from nnet.io.text import write_lines

SILENCE_PHONES = ["sil", "laughter", "noise", "oov"]
EXTRA = {"[laughter]": [("laughter",)], "[noise]": [("noise",)], "<unk>": [("oov",)]}
EXTRA |= {"mm": [("m",)]}

Dictionary = dict[str, list[tuple[str, ...]]]


def read_cmudict(path: str) -> Dictionary:
    """The pronunciations of each word, in small letters, without stress."""
    dictionary: Dictionary = {}
    with open(path, encoding="latin-1") as file:
        for number, line in enumerate(file, start=1):
            word, *phones = re.sub(r";;;.*|\s#.*", "", line).lower().split() or [""]
            if not word:
                continue
            phones = tuple(re.sub(r"\d", "", phone) for phone in phones)
            if not phones or not all(re.fullmatch("[a-z]+", phone) for phone in phones):
                raise NgtrainError(f"{path}: line {number} is not a word and its pronunciation")
            pronunciations = dictionary.setdefault(re.sub(r"\(\d+\)$", "", word), [])
            if phones not in pronunciations:
                pronunciations.append(phones)
    if not dictionary:
        raise NgtrainError(f"{path}: there are no words in it")
    return dictionary


def pronunciations(word: str, dictionary: Dictionary) -> list[tuple[str, ...]]:
    """Those of a word, or of its parts one after the other; none if it is not known."""
    if word in dictionary or "_" not in word:
        return dictionary.get(word, [])
    parts = [dictionary.get(part, []) for part in word.split("_")]
    whole = (tuple(itertools.chain(*choice)) for choice in itertools.product(*parts))
    return list(dict.fromkeys(whole))  # other parts may sound the same together


@program(
    "Usage:  local/prepare_dict.py <text> <cmudict> <dict-dir>\n"
    " e.g.: local/prepare_dict.py data/train/text cmudict-0.7b data/local/dict"
)
@argument("text")
@argument("cmudict")
@argument("dict_dir")
def main(text, cmudict, dict_dir):
    dictionary = read_cmudict(cmudict)
    phones = sorted({phone for entries in dictionary.values() for p in entries for phone in p})
    dictionary |= EXTRA
    counts = Counter(word for words in read_table(text).values() for word in words.split())
    lexicon = {word: pronunciations(word, dictionary) for word in [*EXTRA, *sorted(counts)]}
    unknown = [(n, word) for word, n in counts.most_common() if not lexicon[word]]

    directory = Path(dict_dir)
    directory.mkdir(parents=True, exist_ok=True)
    write_lines(
        directory / "lexicon.txt",
        (f"{word} {' '.join(p)}" for word, entries in lexicon.items() for p in entries),
    )
    write_lines(directory / "silence_phones.txt", SILENCE_PHONES)
    write_lines(directory / "optional_silence.txt", SILENCE_PHONES[:1])
    write_lines(directory / "nonsilence_phones.txt", phones)
    write_lines(directory / "extra_questions.txt", [" ".join(SILENCE_PHONES)])
    write_lines(directory / "oov_counts.txt", (f"{n} {word}" for n, word in unknown))
    share = sum(n for n, _ in unknown) / max(counts.total(), 1)
    log.info(
        f"{len(lexicon) - len(unknown)} words; {100 * share:.2f} % of what is said is not in "
        f"{cmudict}: {', '.join(word for _, word in unknown[:10])}"
    )


if __name__ == "__main__":
    main()
