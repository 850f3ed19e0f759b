#!/usr/bin/env python3
"""Make G.fst, the grammar of a lang directory: one word or more of a list, each as likely.

<word-list> has a word on each line; by default it is all words of the lang directory but silence
words (words whose pronunciations have only silence phones) and the one for unknown words.
"""

from pathlib import Path

from nnet.decoding.symbols import SymbolTable
from nnet.drivers.driver import argument, driver, log, option, require_files
from nnet.errors import NgtrainError
from nnet.io.integer_lists import read_integer_lists, read_integers
from nnet.io.text import split_words, text_lines


def words_of_lexicon(lang: Path) -> list[int]:
    """The words that have a pronunciation with another phone than silence, without the oov word."""
    silence = set(read_integers(str(lang / "phones/silence.int")))
    oov = set(read_integers(str(lang / "oov.int")))
    entries = read_integer_lists(str(lang / "phones/align_lexicon.int"))
    words = {word for word, _, *phones in entries if not set(phones) <= silence}
    return sorted(words - oov)


@driver("""Usage:  utils/make_loop_grammar.py [options] <lang-dir> [<word-list>]
 e.g.: utils/make_loop_grammar.py data/lang""")
@argument("lang_dir")
@argument("word_list", required=False)
@option("--end-prob", 0.5, "Probability of the end after each word")
def main(lang_dir, word_list, end_prob):
    from nnet.decoding.lexicon import loop_grammar

    lang = Path(lang_dir)
    if not 0 < end_prob < 1:
        raise NgtrainError(f"--end-prob={end_prob:g}: expected a probability between 0 and 1")
    if word_list:
        require_files(word_list)
        words = SymbolTable.load(str(lang / "words.txt"))
        listed = [word for line in text_lines(word_list) for word in split_words(line)]
        ids = [words.number(word) for word in listed]
    else:
        ids = words_of_lexicon(lang)
    if not ids:
        raise NgtrainError(f"{word_list or lang}: there are no words to loop over")
    loop_grammar(ids, end_prob).save(str(lang / "G.fst"))
    log.info(f"{lang}/G.fst is a loop of {len(ids)} words")


if __name__ == "__main__":
    main()
