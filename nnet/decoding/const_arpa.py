"""Back-off language models as one array that is searched where it lies: Kaldi's ConstArpaLm.

After Kaldi's lm/const-arpa-lm.{h,cc}.  The array of 32-bit words holds, for each n-gram after which
words may come (and for each word), its logarithm, its back-off logarithm, the number of its
children, and these: the word, and where its n-gram begins (odd, in steps from the parent) or, if
that has nothing but a logarithm, this (with an even last bit).  Logarithms are natural.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from nnet.decoding.arpa import BEGIN, END, NEVER, LanguageModel, NGram
from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError
from nnet.io.numbers import natural
from nnet.io.tokens import Reader, Stored, Writer

_LONG = struct.Struct("<bq")
_FLOAT = struct.Struct("<f")
_INT = struct.Struct("<i")
_NEXT, _BACKOFF, _COUNT, _CHILDREN = 0, 1, 2, 3  # of a state: what follows, in 32-bit words
_LARGEST_STEP = (1 << 30) - 1
_NO_WORD = -1


@dataclass(eq=False)
class ConstArpa(Stored):
    """A language model of word-ids, which may be asked word by word.

    Attributes:
        begin, end, unknown: ids of <s>, </s> and the word for others (-1: there is none).
        order: longest n-gram.
        states: the array; int32.
        unigrams: for each word-id where its state begins, plus 1; 0 for none; int64.
        far: where states begin, plus 1, that are too far from their parents; int64.
    """

    begin: int
    end: int
    unknown: int
    order: int
    states: np.ndarray
    unigrams: np.ndarray
    far: np.ndarray

    def __post_init__(self):
        self._ints = memoryview(np.ascontiguousarray(self.states)).cast("B").cast("i")
        self._floats = memoryview(np.ascontiguousarray(self.states)).cast("B").cast("f")

    # --- Probabilities ----------------------------------------------------------------------------

    @property
    def start(self) -> NGram:
        """State before the first word: its history."""
        return (self.begin,)

    def step(self, history: NGram, word: int) -> tuple[NGram, float] | None:
        """Return the history behind a word, and the word's cost; None if it cannot come."""
        cost = -self.log_probability(history, word)
        if cost == math.inf:
            return None
        longer = (*history, word)[-(self.order - 1) :] if self.order > 1 else ()
        while longer and not self._has_children(longer):
            longer = longer[1:]
        return longer, cost

    def final(self, history: NGram) -> float:
        """Return what it costs to end."""
        return -self.log_probability(history, self.end)

    def log_probability(self, history: NGram, word: int) -> float:
        """Compute the logarithm of the probability of `word` after `history`; -inf for none."""
        history = history[-(self.order - 1) :] if self.order > 1 else ()
        if self.unknown != _NO_WORD:
            word, history = self._known(word), tuple(map(self._known, history))
        total = 0.0
        for begin in range(len(history)):
            state = self._state(history[begin:])
            if state is None:
                continue
            found = self._child(state, word)
            if found is not None:
                return total + found[0]
            total += self._floats[state + _BACKOFF]
        state = self._unigram(word)
        return total + self._floats[state] if state is not None else -math.inf

    def _known(self, word: int) -> int:
        return word if self._unigram(word) is not None else self.unknown

    def _unigram(self, word: int) -> int | None:
        address = int(self.unigrams[word]) if 0 <= word < len(self.unigrams) else 0
        return address - 1 if address else None

    def _state(self, words: NGram) -> int | None:
        """Find where the state of an n-gram begins; None if it has none."""
        state = self._unigram(words[0])
        for word in words[1:]:
            found = self._child(state, word) if state is not None else None
            state = found[1] if found is not None else None
        return state

    def _has_children(self, words: NGram) -> bool:
        state = self._state(words)
        return state is not None and self._ints[state + _COUNT] > 0

    def _child(self, state: int, word: int) -> tuple[float, int | None] | None:
        """Find an n-gram that is longer by a word: its logarithm, and its state if it has one."""
        try:
            first = state + _CHILDREN
            last = first + 2 * self._ints[state + _COUNT]
            words = self._ints[first:last:2]
            index = bisect_left(words, word)
            if index == len(words) or words[index] != word:
                return None
            where = first + 2 * index + 1
            info = self._ints[where]
            if info % 2 == 0:
                return self._floats[where], None
            child = state + info // 2 if info > 0 else int(self.far[-info // 2]) - 1
            return self._floats[child], child
        except IndexError:
            raise NgtrainError("the ConstArpaLm is damaged: a state lies outside of it") from None

    # --- Files ------------------------------------------------------------------------------------

    @classmethod
    def read(cls, reader: Reader) -> ConstArpa:
        """Read what Kaldi's arpa-to-const-arpa writes.

        Raises:
            NgtrainError: it is something else, or damaged.
        """
        if not reader.binary:
            raise reader.fail("expected a ConstArpaLm, which has no text form")
        reader.expect("<ConstArpaLm>", "<LmInfo>")
        begin, end, unknown, order = (reader.integer() for _ in range(4))
        reader.expect("</LmInfo>", "<LmStates>")
        states = _read_array(reader, _read_long(reader), np.dtype("<i4"))
        reader.expect("</LmStates>", "<LmUnigram>")
        unigrams = _read_array(reader, reader.integer(), np.dtype("<i8"))
        reader.expect("</LmUnigram>", "<LmOverflow>")
        far = _read_array(reader, reader.integer(), np.dtype("<i8"))
        reader.expect("</LmOverflow>", "</ConstArpaLm>")
        model = cls(begin, end, unknown, order, states, unigrams, far)
        if reason := model._reason_against():
            raise reader.fail(f"a damaged ConstArpaLm: {reason}")
        return model

    def _reason_against(self) -> str:
        """Say what is wrong with the head; steps are checked as they are made."""
        if self.order < 1:
            return f"n-grams of {self.order} words"
        words = {"begin": self.begin, "end": self.end}
        words |= {"unknown word": self.unknown} if self.unknown != _NO_WORD else {}
        for what, word in words.items():
            if not 0 < word < len(self.unigrams):
                return f"no word for the {what}"
        addresses = np.concatenate([self.unigrams, self.far])
        if ((addresses < 0) | (addresses > len(self.states))).any():
            return "a state lies outside of it"
        return ""

    def write(self, writer: Writer) -> None:
        """Write as Kaldi does; the form is always binary."""
        writer.token("<ConstArpaLm>").token("<LmInfo>")
        for number in self.begin, self.end, self.unknown, self.order:
            writer.integer(number)
        writer.token("</LmInfo>").token("<LmStates>")
        writer.raw(_LONG.pack(8, len(self.states)) + self.states.astype("<i4").tobytes())
        writer.token("</LmStates>").token("<LmUnigram>").integer(len(self.unigrams))
        writer.raw(self.unigrams.astype("<i8").tobytes())
        writer.token("</LmUnigram>").token("<LmOverflow>").integer(len(self.far))
        writer.raw(self.far.astype("<i8").tobytes())
        writer.token("</LmOverflow>").token("</ConstArpaLm>")


def _read_long(reader: Reader) -> int:
    size, value = _LONG.unpack(reader.stream.read_exact(_LONG.size))
    if size != 8:
        raise reader.fail("expected an integer of 8 bytes")
    return value


def _read_array(reader: Reader, count: int, dtype: np.dtype) -> np.ndarray:
    if count < 0:
        raise reader.fail(f"an array of {count} numbers")
    return np.frombuffer(reader.stream.read_exact(count * dtype.itemsize), dtype)


# Building -----------------------------------------------------------------------------------------


class _Numbers(dict[str, int]):
    """The ids of words that are written as their ids."""

    def __missing__(self, word: str) -> int:
        try:
            return natural(word)
        except ValueError:
            raise KeyError(word) from None

    def get(self, word, default=None):
        try:
            return self[word]
        except KeyError:
            return default

    def __contains__(self, word) -> bool:
        return self.get(word) is not None


def integer_words(begin: int, end: int) -> SymbolTable:
    """Make the symbol table of an ARPA file whose words are ids (Kaldi's utils/map_arpa_lm.pl)."""
    table = SymbolTable((), "the natural numbers")
    table.number_of = _Numbers({BEGIN: begin, END: end})
    return table


def build(model: LanguageModel, begin: int, end: int, unknown: int) -> ConstArpa:
    """Put a model into one array; states are in the order of their words.

    Raises:
        ValueError: the model has an n-gram, but not its history, below which it would stand.
    """
    log = _logarithms(model)
    children: dict[NGram, list[int]] = defaultdict(list)
    for ngram in log:
        if len(ngram) > 1:
            children[ngram[:-1]].append(ngram[-1])
    for history in children.keys() - log.keys():
        text = " ".join(map(str, history))
        raise ValueError(f"there are n-grams that go on from '{text}', but not '{text}' itself")
    with_state = sorted(n for n, (_, back) in log.items() if len(n) == 1 or back or n in children)
    sizes = [_CHILDREN + 2 * len(children.get(ngram, ())) for ngram in with_state]
    begins = dict(zip(with_state, (np.cumsum([0, *sizes[:-1]])).tolist(), strict=True))
    unigrams = np.zeros(1 + max(n[0] for n in with_state), np.int64)
    states = bytearray()
    far: list[int] = []
    for ngram, where in begins.items():
        logarithm, backoff = log[ngram]
        words = sorted(children.get(ngram, ()))
        states += _FLOAT.pack(logarithm) + _FLOAT.pack(backoff) + _INT.pack(len(words))
        for word in words:
            child = begins.get((*ngram, word))
            if child is None:
                [bits] = _INT.unpack(_FLOAT.pack(log[(*ngram, word)][0]))
                info = bits & ~1
            elif child - where <= _LARGEST_STEP:
                info = 2 * (child - where) + 1
            else:
                info = -(2 * len(far) + 1)
                far.append(child + 1)
            states += _INT.pack(word) + _INT.pack(info)
        if len(ngram) == 1:
            unigrams[ngram[0]] = where + 1
    array = np.frombuffer(states, "<i4")
    order = len(model.orders)
    return ConstArpa(begin, end, unknown, order, array, unigrams, np.array(far, np.int64))


def _logarithms(model: LanguageModel) -> dict[NGram, tuple[float, float]]:
    """Return natural logarithms of each n-gram's probability and back-off factor.

    They are rounded as Kaldi's lm/arpa-file-parser.cc rounds them, which keeps those to base 10 in
    single precision.
    """
    entries: dict[NGram, tuple[float, float]] = {}
    for order in model.orders:
        with np.errstate(divide="ignore"):
            logs = np.log10([order.probability, order.backoff])
        rounded = np.maximum(logs, NEVER).astype(np.float32).astype(np.float64)
        pairs = map(tuple, (rounded * math.log(10)).T.tolist())
        entries.update(zip(map(tuple, order.words.tolist()), pairs, strict=True))
    return entries
