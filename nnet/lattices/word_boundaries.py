"""Lattices aligned with words, by phones that say where in a word they stand.

After Kaldi's lat/word-align-lattice.cc.
"""

from __future__ import annotations

from nnet.errors import NgtrainError
from nnet.io.numbers import natural
from nnet.io.text import split_words, text_lines
from nnet.lattices.lattice import EPSILON
from nnet.lattices.phone_ends import PhoneEnds
from nnet.lattices.unfolding import Ids, Output, Pending

BEGIN, END, INTERNAL, SINGLETON, NONWORD = "begin", "end", "internal", "singleton", "nonword"


def read_word_boundaries(rxfilename: str) -> dict[int, str]:
    """Read word_boundary.int: a phone and its place in a word on each line; phone to place.

    Raises:
        NgtrainError: a line is something else, or there is none.
    """
    places = {}
    for number, line in enumerate(text_lines(rxfilename), 1):
        try:
            phone, place = split_words(line)
            places[natural(phone)] = place
            if place not in (BEGIN, END, INTERNAL, SINGLETON, NONWORD):
                raise ValueError
        except ValueError:
            raise NgtrainError(
                f"{rxfilename}: line {number} is not a phone and begin, end, internal, singleton "
                "or nonword"
            ) from None
    if not places:
        raise NgtrainError(f"{rxfilename}: there are no phones")
    return places


class WordBoundaryAligner:
    """An aligner that writes each word, or silence, as soon as its phones have ended.

    place_of: what `read_word_boundaries` returns.
    silence_label, partial_word_label: words of silences, and of phones at the end without a word.
    """

    def __init__(
        self,
        ends: PhoneEnds,
        place_of: dict[int, str],
        silence_label: int = 0,
        partial_word_label: int = 0,
    ):
        self.ends, self._place_of = ends, place_of
        self.silence_label, self.partial_word_label = silence_label, partial_word_label

    def _place(self, transition_id: int) -> str:
        phone = self.ends.phone[transition_id]
        if phone not in self._place_of:
            raise NgtrainError(f"phone {phone} of a lattice is not in the word-boundary file")
        return self._place_of[phone]

    def take(self, pending: Pending) -> Output | None:
        """Write a whole word or silence."""
        words, ids = pending
        if not ids:
            return None
        place = self._place(ids[0])
        if place == NONWORD:
            end = self.ends.end_of(ids)
            return (self.silence_label, ids[:end], Pending(words, ids[end:])) if end else None
        if not words or place not in (SINGLETON, BEGIN):
            return None
        end = self.ends.end_of(ids) if place == SINGLETON else self._end_of_word(ids)
        return (words[0], ids[:end], Pending(words[1:], ids[end:])) if end else None

    def _end_of_word(self, ids: Ids) -> int:
        """Find where a word of several phones ends; 0 while it may go on."""
        start = self.ends.end_of(ids)
        while start and (place := self._place(ids[start])) != END:
            if place != INTERNAL:
                self.ends.faults.append(f"phone {self.ends.phone[ids[start]]} stands inside a word")
            start = self.ends.end_of(ids, start)
        return self.ends.end_of(ids, start) if start else 0

    def flush(self, pending: Pending) -> Output:
        """Write what is left: the last word or silence, and what was forced out."""
        words, ids = pending
        if not ids:
            self.ends.faults.append("words at the end have no phones, and are left out")
            return EPSILON, (), Pending()
        is_silence = self._place(ids[0]) == NONWORD
        if words:
            if not self._is_plausible_word(ids):
                self.ends.faults.append("the last word is not whole (forced out?)")
            return words[0], ids, Pending(words[1:], ())
        if not is_silence:
            self.ends.faults.append("phones at the end have no word (forced out?)")
            return self.partial_word_label, ids, Pending()
        if not self.ends.ends_with_phone(ids):
            self.ends.faults.append("the silence at the end is not whole (forced out?)")
        return self.silence_label, ids, Pending()

    def _is_plausible_word(self, ids: Ids) -> bool:
        first, last = self.ends.phone[ids[0]], self.ends.phone[ids[-1]]
        places = self._place(ids[0]), self._place(ids[-1])
        is_word = places == (BEGIN, END) or (places[0] == SINGLETON and first == last)
        return is_word and self.ends.ends_with_phone(ids)
