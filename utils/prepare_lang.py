#!/usr/bin/env python3
"""Prepare a lang directory: symbol tables, sets of phones, HMM topology and lexicon transducers.

<dict-dir> holds lexicon.txt (word, phones) or lexiconp.txt (word, probability, phones),
silence_phones.txt, nonsilence_phones.txt, optional_silence.txt and perhaps extra_questions.txt.
Phones on one line of the lists of phones are variants of one phone, and share their states.
<oov-word> stands for words that are not in the lexicon.  In <tmp-dir> the lexicons with
probabilities and disambiguation symbols are kept.

The directory has the layout of Kaldi's utils/prepare_lang.sh.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnet.decoding.dictionary import POSITIONS, Dictionary, PhoneSets, flat
from nnet.decoding.symbols import SymbolTable
from nnet.drivers.driver import argument, driver, log, option
from nnet.errors import NgtrainError
from nnet.io.text import encode, text_lines, write_lines

if TYPE_CHECKING:
    from nnet.decoding.lexicon import Pronunciation


@driver(
    "Usage:  utils/prepare_lang.py [options] <dict-dir> <oov-word> <tmp-dir> <lang-dir>\n"
    " e.g.: utils/prepare_lang.py --position-dependent-phones false data/local/dict '!SIL' "
    "data/local/lang data/lang",
    writes="lang_dir",
)
@argument("dict_dir", "oov_word", "tmp_dir", "lang_dir")
@option("--num-sil-states", 5, "States of silence models", least=1)
@option("--num-nonsil-states", 3, "States of other models", least=1)
@option(
    "--position-dependent-phones", True, "Mark phones by their position in the word: _B, _E, _I, _S"
)
@option("--share-silence-phones", False, "All silence phones share their pdfs")
@option("--sil-prob", 0.5, "Probability of silence between words; 0: none")
def main(
    dict_dir,
    oov_word,
    tmp_dir,
    lang_dir,
    num_sil_states,
    num_nonsil_states,
    position_dependent_phones,
    share_silence_phones,
    sil_prob,
):
    from nnet.decoding.lexicon import (
        add_disambiguation,
        add_word_disambiguation_loops,
        lexicon_fst,
        usual_topology,
    )

    if not 0 <= sil_prob < 1:
        raise NgtrainError(f"--sil-prob={sil_prob:g}: expected a probability less than 1")
    tmp, lang = Path(tmp_dir), Path(lang_dir)
    dictionary = Dictionary.read(Path(dict_dir))
    problems = dictionary.problems(oov_word, position_dependent_phones)
    for problem in problems:
        log.error(problem)
    if problems:
        return 1
    if position_dependent_phones:
        dictionary = with_word_positions(dictionary)
    silence, nonsilence = flat(dictionary.silence), flat(dictionary.nonsilence)
    [optional_silence] = dictionary.optional_silence

    lexicon = dictionary.lexicon
    with_disambig, num_disambig = add_disambiguation(lexicon)
    silence_disambig = f"#{num_disambig + 1}"
    disambig = [f"#{n}" for n in range(num_disambig + 2)]
    tmp.mkdir(parents=True, exist_ok=True)
    write_lexicon(tmp / "lexiconp.txt", lexicon)
    write_lexicon(tmp / "lexiconp_disambig.txt", with_disambig)
    shutil.rmtree(lang / "phones", ignore_errors=True)
    (lang / "phones").mkdir(parents=True)
    phones = number(lang / "phones.txt", ["<eps>", *silence, *nonsilence, *disambig])
    words = number_words(lang, lexicon, oov_word)
    write_phone_lists(lang, phones, phone_lists(dictionary, disambig, share_silence_phones))
    if position_dependent_phones:
        write_word_boundaries(lang, phones, silence + nonsilence)
    write_word_disambiguation(lang, phones, words)
    write_align_lexicon(lang, phones, words, lexicon, optional_silence)

    numbers = [[phones.number(phone) for phone in kind] for kind in (nonsilence, silence)]
    usual_topology(*numbers, num_nonsil_states, num_sil_states).save(f"{lang}/topo", binary=False)
    silence_model = optional_silence, sil_prob
    lexicon_fst(lexicon, phones, words, *silence_model).save(f"{lang}/L.fst")
    add_word_disambiguation_loops(
        lexicon_fst(with_disambig, phones, words, *silence_model, silence_disambig), phones, words
    ).save(f"{lang}/L_disambig.fst")
    num_words, num_phones = len({entry.word for entry in lexicon}), len(silence + nonsilence)
    log.info(f"{num_words} words and {num_phones} phones in {lang}")


# Phones by position in the word -------------------------------------------------------------------


def with_word_positions(dictionary: Dictionary) -> Dictionary:
    """Mark the phones of a dictionary by where in words they are."""
    from nnet.decoding.lexicon import mark_word_positions

    silence, nonsilence = dictionary.silence, dictionary.nonsilence
    questions = expand(dictionary.questions, silence, nonsilence)
    return replace(
        dictionary,
        lexicon=mark_word_positions(dictionary.lexicon),
        silence=expand(silence, silence, []),
        nonsilence=expand(nonsilence, [], nonsilence),
        questions=questions + position_questions(silence, nonsilence),
    )


def expand(sets: PhoneSets, silence: PhoneSets, nonsilence: PhoneSets) -> PhoneSets:
    """Replace phones by their variants; silence phones also stand alone, outside of words."""
    variants = {p: [p, *(p + suffix for suffix in POSITIONS)] for p in flat(silence)}
    variants |= {p: [p + suffix for suffix in POSITIONS] for p in flat(nonsilence)}
    return [flat([variants[phone] for phone in phone_set]) for phone_set in sets]


def position_questions(silence: PhoneSets, nonsilence: PhoneSets) -> PhoneSets:
    """One question for each position, and for silence and other phones apart."""
    questions = [[p + suffix for p in flat(nonsilence)] for suffix in POSITIONS]
    return questions + [[p + suffix for p in flat(silence)] for suffix in ("", *POSITIONS)]


def write_word_boundaries(lang: Path, phones: SymbolTable, names: list[str]) -> None:
    kinds = [(name, POSITIONS.get(name[-2:], "nonword")) for name in names]
    numbered = [(phones.number(name), kind) for name, kind in kinds]
    write_rows(lang / "phones/word_boundary", kinds, numbered)


# The files ----------------------------------------------------------------------------------------


def write_rows(path: Path, rows: Iterable[Iterable[str]], numbers: Iterable[Iterable]) -> None:
    """Write rows of words into <path>.txt, and the same rows as numbers into <path>.int."""
    write_lines(f"{path}.txt", map(" ".join, rows))
    write_lines(f"{path}.int", (" ".join(map(str, row)) for row in numbers))


def number(path: Path, symbols: list[str]) -> SymbolTable:
    """Write a symbol table that numbers `symbols` from 0."""
    write_lines(path, (f"{symbol} {n}" for n, symbol in enumerate(symbols)))
    return SymbolTable(((symbol, n) for n, symbol in enumerate(symbols)), str(path))


def number_words(lang: Path, lexicon: list[Pronunciation], oov_word: str) -> SymbolTable:
    """Write words.txt and which of them stands for unknown words.

    A grammar made for other words goes, since its numbers mean others now.
    """
    path, grammar = lang / "words.txt", lang / "G.fst"
    before = list(text_lines(path)) if path.exists() else []
    vocabulary = sorted({entry.word for entry in lexicon}, key=encode)
    table = number(path, ["<eps>", *vocabulary, "#0", "<s>", "</s>"])
    write_rows(lang / "oov", [[oov_word]], [[table.number(oov_word)]])
    if grammar.exists() and before != list(text_lines(path)):
        grammar.unlink()
        log.warning(f"{grammar} was made for other words, and is removed: make it again")
    return table


def write_lexicon(path: Path, lexicon: list[Pronunciation]) -> None:
    write_lines(path, (f"{word}\t{p}\t{' '.join(phones)}" for word, p, phones in lexicon))


def phone_lists(
    dictionary: Dictionary, disambig: list[str], share_silence_phones: bool
) -> dict[str, PhoneSets]:
    """The lists of phones of a lang directory, by the names of their files."""
    silence = [[phone] for phone in flat(dictionary.silence)]
    first = [flat(silence)] if share_silence_phones else dictionary.silence
    sets = first + dictionary.nonsilence
    roots = [["shared", "split", *phone_set] for phone_set in sets]
    if share_silence_phones:
        roots[0][:2] = ["not-shared", "not-split"]
    return {
        "silence": silence,
        "nonsilence": [[phone] for phone in flat(dictionary.nonsilence)],
        "context_indep": silence,
        "optional_silence": [dictionary.optional_silence],
        "disambig": [[symbol] for symbol in disambig],
        "sets": sets,
        "extra_questions": dictionary.questions,
        "roots": roots,
    }


def write_phone_lists(lang: Path, phones: SymbolTable, lists: dict[str, PhoneSets]) -> None:
    """Write each list as text and as numbers, those of single phones with colons (csl) too."""
    for name, rows in lists.items():
        numbers = [[str(phones.number_of.get(word, word)) for word in row] for row in rows]
        write_rows(lang / "phones" / name, rows, numbers)
        if name not in ("sets", "extra_questions", "roots"):
            write_lines(lang / f"phones/{name}.csl", [":".join(flat(numbers))])


def write_word_disambiguation(lang: Path, phones: SymbolTable, words: SymbolTable) -> None:
    """Write what #0, by which the grammar marks its back-off arcs, is as a phone and as a word."""
    write_lines(lang / "phones/wdisambig.txt", ["#0"])
    write_lines(lang / "phones/wdisambig_phones.int", [str(phones.number("#0"))])
    write_lines(lang / "phones/wdisambig_words.int", [str(words.number("#0"))])


def write_align_lexicon(
    lang: Path,
    phones: SymbolTable,
    words: SymbolTable,
    lexicon: list[Pronunciation],
    optional_silence: str,
) -> None:
    """Write the lexicon for aligning words within lattices: each word twice, then its phones."""
    entries = {(entry.word, entry.phones) for entry in lexicon}
    entries = sorted(entries | {("<eps>", (optional_silence,))})
    rows = [(word, word, *pronunciation) for word, pronunciation in entries]
    numbers = [
        (words.number(word), words.number(word), *map(phones.number, pronunciation))
        for word, pronunciation in entries
    ]
    write_rows(lang / "phones/align_lexicon", rows, numbers)


if __name__ == "__main__":
    main()
