"""Lattices aligned with words, by a lexicon that lists how words are said.

After Kaldi's lat/word-align-lattice-lexicon.cc.  The lattice is aligned with phones first.  Then
each path is cut: the phones that come next, with the word that comes next or with none (silence),
are written if the lexicon has them.  Many cuts are possible on the way, and all are followed; so
that none is found twice, it is tried only when its last part is new (`Fresh`).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from nnet.errors import NgtrainError
from nnet.io.integer_lists import read_integer_lists
from nnet.lattices.lattice import EPSILON
from nnet.lattices.phone_ends import PhoneEnds
from nnet.lattices.unfolding import Ids, Unfolding

log = logging.getLogger("ngtrain")

Phones = tuple[int, ...]


class WordLexicon:
    """Words and their phones, of align_lexicon.int.

    Attributes:
        written: the word to write for a word that is read, EPSILON for none, and phones.
        num_phones: the least and the greatest number of phones of each word.
        longer: the words whose phones begin with these and go on.
    """

    def __init__(self, name: str = "the lexicon"):
        self.name = name
        self.written: dict[tuple[int, Phones], int] = {}
        self.num_phones: dict[int, tuple[int, int]] = {}
        self.longer: dict[Phones, set[int]] = defaultdict(set)

    @classmethod
    def load(cls, rxfilename: str) -> WordLexicon:
        """Read lines of a word, the word to write for it, and its phones, as integers.

        Raises:
            NgtrainError: a line is something else, silence has no phones, or lines contradict.
        """
        lexicon = cls(rxfilename)
        for number, entry in enumerate(read_integer_lists(rxfilename), 1):
            try:
                word, written, *phones = entry
                lexicon.add(word, written, tuple(phones))
            except ValueError as error:
                raise NgtrainError(f"{rxfilename}: line {number}: {error}") from None
        if not lexicon.written:
            raise NgtrainError(f"{rxfilename}: there are no words")
        return lexicon

    def add(self, word: int, written: int, phones: Phones) -> None:
        """Add a way to say a word; ValueError if it cannot be one."""
        if word == EPSILON and not phones:
            raise ValueError("no word (0) without phones")
        if self.written.setdefault((word, phones), written) != written:
            raise ValueError(f"word {word} with the same phones is written in two ways")
        least, most = self.num_phones.get(word, (len(phones), len(phones)))
        self.num_phones[word] = min(least, len(phones)), max(most, len(phones))
        for length in range(1, len(phones)):
            self.longer[phones[:length]].add(word)

    def range_of(self, word: int) -> tuple[int, int]:
        """Return how few and how many phones a word may have; NgtrainError if it is not there."""
        if word not in self.num_phones:
            raise NgtrainError(f"{self.name} does not have word {word} of a lattice")
        return self.num_phones[word]


class Fresh(IntEnum):
    """What is new in a sequence since its parts were tried: nothing, the last one, all."""

    NONE = 0
    LAST = 1
    ALL = 2


class _Held(NamedTuple):
    """What was read of a lattice of phones and not written yet.

    phones: as numbers of strings of transition-ids.
    fresh: of the phones; word_is_fresh: of the first word.
    """

    words: tuple[int, ...] = ()
    phones: tuple[int, ...] = ()
    word_is_fresh: bool = False
    fresh: Fresh = Fresh.NONE


class LexiconAlignment:
    """The alignment of one lattice, which is aligned with phones already.

    partial_word_label: the word of phones at the end without one.
    """

    def __init__(
        self, by_phones: Unfolding, ends: PhoneEnds, lexicon: WordLexicon, partial_word_label: int
    ):
        self.read, self.ends, self.lexicon = by_phones, ends, lexicon
        self.partial_word_label = partial_word_label
        self.unfolding = Unfolding()
        order = sorted(range(len(by_phones.rank)), key=by_phones.rank.__getitem__)
        self._position = {node: position for position, node in enumerate(order)}
        self._strings: list[Ids] = []  # those of phones, and their numbers
        self._number: dict[Ids, int] = {}

    def run(self, most_nodes: int = 0) -> Unfolding | None:
        """Write words; None if that takes more than `most_nodes` nodes, any number if 0.

        Raises:
            NgtrainError: the lattice has a word that the lexicon does not have.
        """
        self._node(0, _Held())
        ends = []
        queue = self.unfolding.queue
        while queue:
            node, (at, held) = queue.pop()
            if most_nodes and len(self.unfolding.rank) > most_nodes:
                return None
            for word, count in self._cuts(held):
                self._write(node, at, held, word, count)
            if self._may_go_on(held):
                self._read_on(node, at, held)
            if at in self.read.finals:
                ends.append((node, at, held))
        self.unfolding.finals = {node for node, _, held in ends if not held.words + held.phones}
        if not self.unfolding.finals:
            self._force_out(ends)
        return self.unfolding

    def _node(self, at: int, held: _Held) -> int:
        rank = self._position[at], -len(held.words) - len(held.phones)
        return self.unfolding.node((at, held), rank)

    def _cuts(self, held: _Held) -> Iterator[tuple[int, int]]:
        """Yield what to try: a word, EPSILON for none, and so many phones."""
        all_fresh, last_fresh = held.fresh == Fresh.ALL, held.fresh == Fresh.LAST
        available = len(held.phones)
        tries = [(EPSILON, all_fresh, last_fresh)]
        if held.words:
            tries.append((held.words[0], held.word_is_fresh or all_fresh, last_fresh))
        for word, every_length, full_length in tries:
            if word not in self.lexicon.num_phones:
                if word != EPSILON:
                    raise NgtrainError(
                        f"{self.lexicon.name} does not have word {word} of a lattice"
                    )
                continue
            least, most = self.lexicon.num_phones[word]
            if every_length:
                yield from ((word, count) for count in range(least, min(most, available) + 1))
            elif full_length and least <= available <= most:
                yield word, available

    def _write(self, node: int, at: int, held: _Held, word: int, count: int) -> None:
        """Write a word with the next phones, if the lexicon has it."""
        key = word, self._phones(held.phones[:count])
        if key not in self.lexicon.written:
            return
        words = held.words[1:] if word != EPSILON else held.words
        phones = held.phones[count:]
        fresh = Fresh.ALL if phones else Fresh.NONE
        left = _Held(words, phones, word != EPSILON and bool(words), fresh)
        ids = self._joined(held.phones[:count])
        to = self._node(at, left)
        self.unfolding.written[node].append((self.lexicon.written[key], ids, to))

    def _may_go_on(self, held: _Held) -> bool:
        """True if more phones could make something that the lexicon has."""
        if not held.words or not held.phones:
            return True
        words = self.lexicon.longer.get(self._phones(held.phones), ())
        return EPSILON in words or held.words[0] in words

    def _read_on(self, node: int, at: int, held: _Held) -> None:
        """Follow the arcs of the lattice that is read."""
        arcs = [(word, ids, 0.0, 0.0, to) for word, ids, to in self.read.written[at]]
        arcs += [(EPSILON, (), *epsilon) for epsilon in self.read.epsilons[at]]
        for word, ids, graph, acoustic, to in arcs:
            words = held.words + (word,) * (word != EPSILON)
            phones = (*held.phones, self._number_of(ids)) if ids else held.phones
            longer = _Held(
                words,
                phones,
                word != EPSILON and len(words) == 1,
                Fresh.LAST if ids else Fresh.NONE,
            )
            self.unfolding.epsilons[node].append((graph, acoustic, self._node(to, longer)))

    def _force_out(self, ends: list[tuple[int, int, _Held]]) -> None:
        """Write what is left where the search was stopped inside a word."""
        self.ends.faults.append("the last word is not whole (forced out?)")
        for node, at, held in ends:
            if not self.unfolding.written[node]:  # else words could come to an end before
                word = held.words[0] if held.words else self.partial_word_label
                to = self._node(at, _Held())
                self.unfolding.written[node].append((word, self._joined(held.phones), to))
                self.unfolding.finals.add(to)

    def _number_of(self, ids: Ids) -> int:
        if ids not in self._number:
            self._number[ids] = len(self._strings)
            self._strings.append(ids)
        return self._number[ids]

    def _phones(self, numbers: tuple[int, ...]) -> Phones:
        return tuple(self.ends.phone[self._strings[number][0]] for number in numbers)

    def _joined(self, numbers: tuple[int, ...]) -> Ids:
        return tuple(i for number in numbers for i in self._strings[number])
