#!/usr/bin/env python3
"""Make G.fst, the grammar of a lang directory, from a language model in the ARPA format.

<arpa> may be compressed, its name then ending in .gz.  N-grams with words that words.txt does not
have, and those without their history, are left out, and counted.  This is Kaldi's arpa2fst
--disambig-symbol=#0 --read-symbol-table=words.txt.
"""

from pathlib import Path

from nnet.decoding.symbols import SymbolTable
from nnet.drivers.driver import argument, driver, log, require_files
from nnet.io.text import visible
from nnet.launch.commands import pipeline


@driver("""Usage:  utils/make_ngram_grammar.py <arpa> <lang-dir>
 e.g.: utils/make_ngram_grammar.py data/local/lm/3gram.arpa.gz data/lang_test""")
@argument("arpa", "lang_dir")
def main(arpa, lang_dir):
    from nnet.decoding.arpa import LanguageModel
    from nnet.decoding.lexicon import RESERVED_WORDS

    lang = Path(lang_dir)
    require_files(arpa, lang / "words.txt")
    words = SymbolTable.load(str(lang / "words.txt"))
    unzip = pipeline(["gunzip", "-c", arpa]) + " |"
    model = LanguageModel.load(unzip if arpa.endswith(".gz") else arpa, words)
    there = set(model.orders[0].words[:, 0].tolist())
    vocabulary = {word: n for word, n in words.number_of.items() if word not in RESERVED_WORDS}
    if lacking := [word for word, n in vocabulary.items() if n not in there]:
        log.info(
            f"{len(lacking)} of {len(vocabulary)} words of {words.name} are not in the language "
            f"model, and cannot be recognized, such as {visible(lacking[0])}"
        )
    grammar = model.grammar()
    grammar.save(str(lang / "G.fst"))
    log.info(f"{lang}/G.fst has {grammar.num_states} states and {len(grammar.arcs)} arcs")


if __name__ == "__main__":
    main()
