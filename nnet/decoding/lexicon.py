"""Pronunciation lexicons and word loops as transducers, and the usual HMM topologies.

After Kaldi's egs/wsj/s5/utils/lang/make_lexicon_fst.py, utils/add_lex_disambig.pl and
utils/gen_topo.pl.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import add
from typing import NamedTuple

from nnet.decoding.fst import EPSILON, ArrayFst
from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError
from nnet.hmm.topology import NO_PDF, Entry, HmmState, HmmTopology
from nnet.io.text import split_words, text_lines, visible

RESERVED_WORDS = frozenset({"<eps>", "<s>", "</s>", "#0"})


class Pronunciation(NamedTuple):
    """A pronunciation of a word, with its probability (the best of a word usually has 1)."""

    word: str
    probability: float
    phones: tuple[str, ...]


def read_lexicon(path: str, has_probabilities: bool) -> list[Pronunciation]:
    """Read lexicon.txt (`word phone ...`) or lexiconp.txt (`word probability phone ...`).

    Raises NgtrainError: a line is malformed, its word is reserved, or the same word has the same
    pronunciation on two lines, as Kaldi's utils/validate_dict_dir.pl refuses it.
    """
    lexicon, repeated = [], []
    line_of: dict[tuple, int] = {}
    for number, line in enumerate(text_lines(path), 1):
        word, *fields = split_words(line) or [""]
        where = f"{path}: line {number}"
        if word in RESERVED_WORDS:
            raise NgtrainError(f"{where}: {word} cannot be a word of the lexicon")
        try:
            probability = float(fields.pop(0)) if has_probabilities else 1.0
        except (ValueError, IndexError):
            raise NgtrainError(f"{where} has no pronunciation probability") from None
        if not 0 < probability <= 1:
            raise NgtrainError(f"{where}: {probability:g} is no probability from above 0 to 1")
        if not fields:
            raise NgtrainError(f"{where} is not a word and its pronunciation")
        lexicon.append(Pronunciation(word, probability, tuple(fields)))
        first = line_of.setdefault((word, *fields), number)
        if first != number:
            repeated.append((first, number, visible(" ".join((word, *fields)))))
    if not lexicon:
        raise NgtrainError(f"{path}: the lexicon is empty")
    if repeated:
        first, again, entry = repeated[0]
        raise NgtrainError(
            f"{path}: lines {first} and {again} are the same pronunciation, '{entry}' "
            f"({len(repeated)} lines come again): leave each only once"
        )
    return lexicon


def mark_word_positions(lexicon: Iterable[Pronunciation]) -> list[Pronunciation]:
    """Give phones the suffixes _B, _I, _E and _S: they begin, are inside, end, or are a word."""
    marked = []
    for word, probability, phones in lexicon:
        marks = ["_S"] if len(phones) == 1 else ["_B", *["_I"] * (len(phones) - 2), "_E"]
        marked.append(Pronunciation(word, probability, tuple(map(add, phones, marks))))
    return marked


def add_disambiguation(lexicon: Sequence[Pronunciation]) -> tuple[list[Pronunciation], int]:
    """End pronunciations that are equal to others, or begin others, with #1, #2, ...

    Returns the new lexicon, and the largest number used (0 for none).
    """
    count = Counter(entry.phones for entry in lexicon)
    beginnings = {entry.phones[:n] for entry in lexicon for n in range(len(entry.phones))}
    last_used: Counter[tuple[str, ...]] = Counter()
    marked = []
    for word, probability, phones in lexicon:
        if count[phones] > 1 or phones in beginnings:
            last_used[phones] += 1
            phones = (*phones, f"#{last_used[phones]}")
        marked.append(Pronunciation(word, probability, phones))
    return marked, max(last_used.values(), default=0)


def lexicon_fst(
    lexicon: Iterable[Pronunciation],
    phones: SymbolTable,
    words: SymbolTable,
    silence_phone: str,
    silence_probability: float,
    silence_disambig: str | None = None,
) -> ArrayFst:
    """Make L, from phones to words, with optional silence before, between and after them.

    silence_probability: of silence in each of these places; 0 for a lexicon without it.
    silence_disambig: follows silence in a lexicon with disambiguation symbols, where the grammar
    may have cycles.

    Raises NgtrainError if a phone or word is not in its symbol table.
    """
    arcs: list[tuple[int, int, int, int, float]] = []  # from, to, phone, word, cost
    start, loop, after_word_with_silence = 0, 0, None
    num_states = 1
    endings = [(loop, 0.0)]  # where a word may lead to, and at what cost
    if silence_probability > 0:
        silence_cost = -math.log(silence_probability)
        no_silence_cost = -math.log(1 - silence_probability)
        loop, after_word_with_silence, num_states = 1, 2, 3
        endings = [(loop, no_silence_cost), (after_word_with_silence, silence_cost)]
        arcs += [(start, state, EPSILON, EPSILON, cost) for state, cost in endings]
        silence = phones.number(silence_phone)
        if silence_disambig is None:
            arcs.append((after_word_with_silence, loop, silence, EPSILON, 0.0))
        else:
            disambig = phones.number(silence_disambig)
            arcs.append((after_word_with_silence, num_states, silence, EPSILON, 0.0))
            arcs.append((num_states, loop, disambig, EPSILON, 0.0))
            num_states += 1
    for word, probability, pronunciation in lexicon:
        state, label, cost = loop, words.number(word), -math.log(probability)
        *beginning, last = (phones.number(phone) for phone in pronunciation)
        for phone in beginning:
            arcs.append((state, num_states, phone, label, cost))
            state, label, cost = num_states, EPSILON, 0.0
            num_states += 1
        arcs += [(state, end, last, label, cost + more) for end, more in endings]
    return _compile([*arcs, (loop, 0.0)], sort_by="olabel")


def add_word_disambiguation_loops(
    lexicon: ArrayFst, phones: SymbolTable, words: SymbolTable
) -> ArrayFst:
    """Let #0, by which the grammar marks its back-off arcs, pass through the lexicon."""
    import kaldifst

    fst = lexicon.to_kaldifst()
    kaldifst.add_self_loops(fst, [phones.number("#0")], [words.number("#0")])
    kaldifst.arcsort(fst, "olabel")
    return ArrayFst.from_kaldifst(fst)


def loop_grammar(words: Sequence[int], end_probability: float = 0.5) -> ArrayFst:
    """Make G of one word or more, all as likely, after each an end with `end_probability`."""
    start, spoken = 0, 1
    word_cost = math.log(len(words))
    arcs = [(start, spoken, word, word, word_cost) for word in words]
    go_on_cost = word_cost - math.log(1 - end_probability)
    arcs += [(spoken, spoken, word, word, go_on_cost) for word in words]
    return _compile([*arcs, (spoken, -math.log(end_probability))], sort_by="ilabel")


def unigram_grammar(counts: Mapping[int, int], num_sentences: int) -> ArrayFst:
    """Make G of any words, each as probable as it is often, and so is the end of a sentence.

    Source: Kaldi's utils/make_unigram_grammar.pl.
    """
    total = math.log(sum(counts.values()) + num_sentences)
    arcs = [(0, 0, word, word, total - math.log(count)) for word, count in sorted(counts.items())]
    return _compile([*arcs, (0, total - math.log(num_sentences))], sort_by="ilabel")


def _compile(lines: Iterable[tuple], sort_by: str) -> ArrayFst:
    """Compile arcs (from, to, input, output, cost) and final states (state, cost)."""
    import kaldifst

    fst = kaldifst.compile("".join(" ".join(map(str, line)) + "\n" for line in lines))
    kaldifst.arcsort(fst, sort_by)
    return ArrayFst.from_kaldifst(fst)


def usual_topology(
    nonsilence_phones: Iterable[int],
    silence_phones: Iterable[int],
    num_nonsilence_states: int = 3,
    num_silence_states: int = 5,
) -> HmmTopology:
    """Make left-to-right HMMs for phones and, for silence, HMMs with fully connected inner states.

    Raises NgtrainError for a silence HMM of two states, which has no inner one.
    """
    if num_nonsilence_states < 1 or num_silence_states < 1 or num_silence_states == 2:
        raise NgtrainError(
            f"cannot make HMMs of {num_nonsilence_states} states for phones and "
            f"{num_silence_states} for silence (at least 1, and not 2 for silence)"
        )
    entries = [_left_to_right(num_nonsilence_states), _silence(num_silence_states)]
    entry_of_phone = dict.fromkeys(nonsilence_phones, 0) | dict.fromkeys(silence_phones, 1)
    return HmmTopology(entries, entry_of_phone)


_END = HmmState(NO_PDF, NO_PDF, ())


def _left_to_right(num_states: int) -> Entry:
    states = [HmmState(n, n, ((n, 0.75), (n + 1, 0.25))) for n in range(num_states)]
    return (*states, _END)


def _silence(num_states: int) -> Entry:
    if num_states == 1:
        return _left_to_right(1)
    last = num_states - 1
    even = 1 / last
    first = HmmState(0, 0, tuple((n, even) for n in range(last)))
    inner = [HmmState(i, i, tuple((n, even) for n in range(1, last + 1))) for i in range(1, last)]
    return (first, *inner, HmmState(last, last, ((last, 0.75), (num_states, 0.25))), _END)
