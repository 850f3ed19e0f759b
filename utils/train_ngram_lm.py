#!/usr/bin/env python3
"""Estimate an n-gram language model from transcripts, with modified Kneser-Ney smoothing.

<text> has an utterance on each line, its name first (the file text of a data directory).  The
vocabulary is the words of <lang-dir>/words.txt, other words being the one for unknown words
(oov.txt); what is in silence phones only, such as laughter, stays as the transcripts have it.
The result is in the ARPA format; it is compressed when its name ends in .gz.
"""

from collections.abc import Iterator
from pathlib import Path

from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import check_transcripts
from nnet.drivers.data_dir import read_rows
from nnet.drivers.driver import argument, driver, log, option, require_files
from nnet.errors import NgtrainError
from nnet.io.integer_lists import read_integers
from nnet.io.text import split_words
from nnet.launch.commands import quote


@driver("""Usage:  utils/train_ngram_lm.py [options] <text> <lang-dir> <arpa>
 e.g.: utils/train_ngram_lm.py --order 3 --min-counts 1,1,2 data/train/text data/lang \
data/local/lm/3gram.arpa.gz""")
@argument("text", "lang_dir", "arpa")
@option("--order", 3, "Order of the model, 3 for trigrams", least=1)
@option("--min-counts", "", "For each order, how often an n-gram must come to be kept")
@option("--heldout", "", "Other transcripts, to tell the perplexity of")
def main(text, lang_dir, arpa, order, min_counts, heldout):
    from nnet.decoding.lexicon import RESERVED_WORDS
    from nnet.decoding.ngram import estimate

    lang = Path(lang_dir)
    require_files(text, lang / "words.txt", lang / "oov.int", *([heldout] if heldout else []))
    words = SymbolTable.load(str(lang / "words.txt"))
    [oov] = read_integers(str(lang / "oov.int"))
    for file in filter(None, (text, heldout)):
        check_transcripts(Path(file), words)
    vocabulary = [n for word, n in words.number_of.items() if word not in RESERVED_WORDS]
    model = estimate(
        read_sentences(text, words, oov), words, vocabulary, order, parse_counts(min_counts, order)
    )
    Path(arpa).parent.mkdir(parents=True, exist_ok=True)
    model.save(f"| gzip -c > {quote(arpa)}" if arpa.endswith(".gz") else arpa)
    sizes = ", ".join(f"{len(o.words)} {n}-grams" for n, o in enumerate(model.orders, start=1))
    log.info(f"{arpa} has {sizes}")
    if heldout:
        perplexity = model.perplexity(read_sentences(heldout, words, oov))
        log.info(f"perplexity of {heldout}: {perplexity:.1f}")


def parse_counts(text: str, order: int) -> list[int]:
    try:
        return [int(count) for count in text.split(",")] if text else [1] * order
    except ValueError:
        raise NgtrainError(f"--min-counts={text}: expected numbers separated by commas") from None


def read_sentences(path: str, words: SymbolTable, oov: int) -> Iterator[list[int]]:
    """The word-ids of each line, without its first field."""
    for _, sentence in read_rows(path):
        yield [words.number_of.get(word, oov) for word in split_words(sentence)]


if __name__ == "__main__":
    main()
